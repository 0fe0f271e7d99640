"""Keeps an index small: merges its segments, and deletes files that no manifest names.

A merge copies live documents, no model reads them again, and deleted ones are dropped.

Segments come in tiers, each eight times the size of the one below; as soon as a tier has eight
segments they become one of the next tier, or as many of them as fit into one (as in log-structured
merge trees, O'Neil et al. 1996). So an index has few files however often it is added to, and each
chunk is copied a few times at most.

Garbage is what neither of the manifests in the folder names: files that a crash left unfinished,
and files of older generations. While an index is rebuilt, readers still use the old one, so the
files of both are kept. If the old manifest cannot be read, it is not known which files it names:
all of them are kept until the rebuild replaces it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tamis.probes.atomic_file import TEMPORARY_GLOB, sync_path
from tamis.probes.errors import TamisError
from tamis.retrieval.storage.files import PARTIAL_SUFFIX
from tamis.retrieval.storage.kept_windows import copy_kept_windows
from tamis.retrieval.storage.manifest import BUILDING, MANIFEST, SEGMENTS, Manifest, SegmentEntry
from tamis.retrieval.storage.segment import Segment, SegmentWriter

FANOUT = 8
MAX_CHUNKS = 1 << 16
"""No merge makes a segment with more chunks than this."""


def next_merge(
    segments: Sequence[SegmentEntry],
    deleted_docs: Mapping[int, set[int]],
    everything: bool = False,
) -> list[SegmentEntry]:
    """The next segments to merge; none where nothing would be gained.

    Args:
        deleted_docs: document numbers by segment number.
        everything: merge whatever fits into one segment, and whatever has deletions.
    """
    if everything:
        for one in segments:
            if deleted_docs.get(int(one.name)):
                others = [segment for segment in segments if segment is not one]
                return [one, *_fit_into_one(others, one.chunks)]
        run = _fit_into_one(sorted(segments, key=lambda segment: segment.chunks), 0)
        return run if len(run) > 1 else []
    tiers: dict[int, list[SegmentEntry]] = {}
    for segment in segments:
        tiers.setdefault(_tier(segment), []).append(segment)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= FANOUT:
            run = _fit_into_one(sorted(tiers[tier], key=lambda segment: segment.chunks), 0)
            if len(run) > 1:
                return run
    return []


def _tier(segment: SegmentEntry) -> int:
    return max(0, (max(1, segment.chunks).bit_length() - 1) // 3)


def _fit_into_one(segments: Sequence[SegmentEntry], chunks: int) -> list[SegmentEntry]:
    """Those of the segments, in order, that fit into one beside this many chunks."""
    fitting = []
    for segment in segments:
        if chunks + segment.chunks <= MAX_CHUNKS:
            fitting.append(segment)
            chunks += segment.chunks
    return fitting


def merge_segments(
    home: Path,
    segments: Sequence[SegmentEntry],
    deleted_docs: Mapping[int, set[int]],
    manifest: Manifest,
    finish: Callable[[Path, Sequence[Segment]], None],
) -> SegmentEntry:
    """Writes the live documents of some segments as a new one; the manifest is not touched.

    Args:
        finish: called with the folder of the new segment, once its keys and vectors are in it, and
            with the old segments; what it writes there belongs to the new one.
    """
    old = [
        Segment(home, entry, sorted(deleted_docs.get(int(entry.name), ())))
        for entry in sorted(segments, key=lambda entry: entry.name)
    ]
    writer = SegmentWriter(home, manifest.next_segment, manifest.settings.language)
    for segment in old:
        writer.copy_live(segment)
    if manifest.settings.keys:
        _copy_keys(writer, old)
    if manifest.settings.vectors:
        parts = [segment.vectors() for segment in old]
        live = [part[s.live] for part, s in zip(parts, old, strict=True) if part is not None]
        writer.save("vectors", np.concatenate(live))
    if manifest.settings.kv:
        copy_kept_windows(writer.folder, old)
    finish(writer.folder, old)
    for segment in old:
        segment.close()
    return writer.close()


def _copy_keys(writer: SegmentWriter, old: Sequence[Segment]) -> None:
    """Copies keys, the bulk of an index, chunk by chunk, so that they are never all in memory."""
    parts = [segment.keys() for segment in old]
    sizes = [
        np.diff(part[1])[segment.live]
        for part, segment in zip(parts, old, strict=True)
        if part is not None
    ]
    starts = np.cumsum([0, *np.concatenate(sizes)], dtype=np.int64)
    width = next(part[0].shape[1] for part in parts if part is not None)
    out = np.lib.format.open_memmap(
        writer.folder / "keys.npy", mode="w+", dtype=np.int8, shape=(int(starts[-1]), width)
    )
    filled = 0
    for part, segment in zip(parts, old, strict=True):
        if part is None:
            continue
        keys, begins = part
        for chunk in np.flatnonzero(segment.live).tolist():
            rows = keys[begins[chunk] : begins[chunk + 1]]
            out[filled : filled + len(rows)] = rows
            filled += len(rows)
    out.flush()
    sync_path(writer.folder / "keys.npy")
    writer.save("key_starts", starts)


def remove_unreferenced(home: Path, name: str, state: Manifest) -> None:
    """Removes the segments, deletion lists and temporary files that no manifest names.

    Only the holder of the write lock may call it.

    Args:
        name: of the manifest that the writer commits to. state: its content.
    """
    other, is_known = _read_manifest(home, BUILDING if name == MANIFEST else MANIFEST)
    segments = {entry.name for of in (state, other) if of for entry in of.segments}
    (home / SEGMENTS).mkdir(exist_ok=True)
    for folder in (home / SEGMENTS).iterdir():
        if folder.name not in segments and (is_known or _is_from_this_writer(folder, state)):
            shutil.rmtree(folder, ignore_errors=True)
    if is_known:
        states = [of for of in (state, other) if of]
        named = {file.path for of in states for file in (of.deleted, of.queries) if file}
        for file in (*home.glob("deleted-*.npy"), *home.glob("queries-*.npy")):
            if file.name not in named:
                file.unlink(missing_ok=True)
    for file in home.glob(TEMPORARY_GLOB):
        file.unlink(missing_ok=True)


def next_segment_number(home: Path) -> int:
    """The lowest segment number above all that a folder has or a manifest has used."""
    free = [1]
    for name in (MANIFEST, BUILDING):
        manifest, _ = _read_manifest(home, name)
        free += [manifest.next_segment] if manifest else []
    if (home / SEGMENTS).is_dir():
        names = (folder.name.removesuffix(PARTIAL_SUFFIX) for folder in (home / SEGMENTS).iterdir())
        free += [int(name) + 1 for name in names if name.isdecimal()]
    return max(free)


def _read_manifest(home: Path, name: str) -> tuple[Manifest | None, bool]:
    """The manifest of that name, and whether all files that it names are known."""
    if not (home / name).exists():
        return None, True
    try:
        return Manifest.read(home, name), True
    except TamisError:
        return None, name == BUILDING  # an unreadable rebuild starts again from nothing


def _is_from_this_writer(folder: Path, state: Manifest) -> bool:
    """Whether only this writer can have made it: it is unfinished, or has an unused number."""
    return folder.name.endswith(PARTIAL_SUFFIX) or (
        folder.name.isdecimal() and int(folder.name) >= state.next_segment
    )
