"""Several segments made one: copied, not read again, and without what was deleted.

Segments come in tiers, each eight times the size of the one below; as soon as eight of a tier have
gathered they become one of the next, or as many of them as fit into one (as in log-structured merge
trees, O'Neil et al. 1996). So an index has few files however often it is added to, and each chunk
is copied a few times at most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tamis.retrieval.storage.files import sync_file
from tamis.retrieval.storage.manifest import Manifest, SegmentEntry
from tamis.retrieval.storage.segment import Segment, SegmentWriter

FANOUT = 8
MAX_CHUNKS = 1 << 16
"""A segment is not merged into one with more chunks than this."""


def next_merge(
    segments: Sequence[SegmentEntry], dead: Mapping[int, set[int]], everything: bool = False
) -> list[SegmentEntry]:
    """The next segments to merge; none where nothing is to be gained.

    Args:
        everything: merge whatever fits into one segment, and whatever has deletions.
    """
    if everything:
        for card in segments:
            if dead.get(int(card.name)):
                return [card, *_fit_into_one([c for c in segments if c is not card], card.chunks)]
        run = _fit_into_one(sorted(segments, key=lambda card: card.chunks), 0)
        return run if len(run) > 1 else []
    tiers: dict[int, list[SegmentEntry]] = {}
    for card in segments:
        tiers.setdefault(_tier(card), []).append(card)
    for tier in sorted(tiers):
        if len(tiers[tier]) >= FANOUT:
            run = _fit_into_one(sorted(tiers[tier], key=lambda card: card.chunks), 0)
            if len(run) > 1:
                return run
    return []


def _tier(card: SegmentEntry) -> int:
    return max(0, (max(1, card.chunks).bit_length() - 1) // 3)


def _fit_into_one(segments: Sequence[SegmentEntry], chunks: int) -> list[SegmentEntry]:
    found = []
    for card in segments:
        if chunks + card.chunks <= MAX_CHUNKS:
            found.append(card)
            chunks += card.chunks
    return found


def merge_segments(
    home: Path, cards: Sequence[SegmentEntry], dead: Mapping[int, set[int]], manifest: Manifest
) -> SegmentEntry:
    """Writes the living part of some segments as a new one; the manifest is not touched."""
    old = [
        Segment(home, card, sorted(dead.get(int(card.name), ())))
        for card in sorted(cards, key=lambda card: card.name)
    ]
    writer = SegmentWriter(home, manifest.next_segment, manifest.settings.language)
    for segment in old:
        writer.copy_live(segment)
    if manifest.settings.keys:
        _copy_keys(writer, old)
    if manifest.settings.vectors:
        parts = [segment.vectors() for segment in old]
        kept = [part[s.live] for part, s in zip(parts, old, strict=True) if part is not None]
        writer.save("vectors", np.concatenate(kept))
    for segment in old:
        segment.close()
    return writer.close()


def _copy_keys(writer: SegmentWriter, old: Sequence[Segment]) -> None:
    """Keys are the bulk of an index: copied chunk by chunk, never all in memory."""
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
    at = 0
    for part, segment in zip(parts, old, strict=True):
        if part is None:
            continue
        keys, begins = part
        for chunk in np.flatnonzero(segment.live).tolist():
            rows = keys[begins[chunk] : begins[chunk + 1]]
            out[at : at + len(rows)] = rows
            at += len(rows)
    out.flush()
    sync_file(writer.folder / "keys.npy")
    writer.save("key_starts", starts)
