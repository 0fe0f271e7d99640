"""BM25 over the chunks of an index, however many segments they are spread over.

Source: Robertson, Zaragoza 2009, §3, in the form Lucene and bm25s (Lù 2024, arXiv 2407.03618) use:
idf = log(1 + (N - n + .5) / (n + .5)), and no factor k1 + 1. bm25s computes the scores when it
indexes, with the statistics of that one build, so a second segment or a deletion would make its
scores incomparable. Here term counts are stored, and idf and mean length are those of the chunks
that are live at the time of the search: scores do not depend on whether the corpus was built at
once, added to, or deleted from. On one segment the scores are those of bm25s.
"""

from __future__ import annotations

import json
import math
import re
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.interruption import check_interruption
from tamis.retrieval.storage.chunks import visible_text
from tamis.retrieval.storage.files import CheckedFile, save_array, write_durably
from tamis.text.terms import stem, words

K1, B = 1.2, 0.75
ScoreArray = NDArray[np.float32]
"""A score per chunk: `[C]`."""
Mask = NDArray[np.bool_]
"""Whether each chunk counts: `[C]`."""


_CAMEL = re.compile(r"\b[a-z]{2,}(?:[A-Z][a-z0-9]+)+\b")
_HUMP = re.compile(r"[A-Z]?[a-z0-9]+")


def index_terms(text: str, language: str, html: bool = False) -> list[str]:
    """The index terms of a text: stems where it is English; of HTML only the visible words.

    A name such as `uploadMb` has its parts beside it, as `upload_mb` has; `JavaScript` has none.
    """
    shown = visible_text(text) if html else text
    parts = (part for name in _CAMEL.findall(shown) for part in _HUMP.findall(name))
    terms = [*words(shown), *words(" ".join(parts))]
    return [stem(word) for word in terms] if language.startswith("en") else terms


class PostingsWriter:
    """Collects the terms of chunks, in order, and writes them term by term."""

    def __init__(self) -> None:
        # term: the chunks that it occurs in, ascending, and how often it occurs in each
        self._postings: dict[str, tuple[array[int], array[int]]] = {}
        self._lengths = array("i")

    def add(self, terms: Sequence[str]) -> None:
        """Adds the terms of the next chunk."""
        for term, count in Counter(terms).items():
            chunks, counts = self._postings.setdefault(term, (array("i"), array("i")))
            chunks.append(len(self._lengths))
            counts.append(count)
        self._lengths.append(len(terms))

    def copy_live(self, postings: Postings, live: Mask) -> None:
        """Adds the live chunks of another segment as the next chunks."""
        new_number = (len(self._lengths) + np.cumsum(live) - 1).astype(np.int32)
        for term in postings.terms:
            old_chunks, old_counts = postings.chunks_with(term)
            kept = live[old_chunks]
            if kept.any():
                chunks, counts = self._postings.setdefault(term, (array("i"), array("i")))
                chunks.frombytes(new_number[old_chunks[kept]].tobytes())
                counts.frombytes(old_counts[kept].tobytes())
        self._lengths.frombytes(postings.lengths[live].tobytes())

    def write(self, folder: Path) -> None:
        """Writes terms.json, and arrays: where postings start, their chunks and counts, lengths."""
        terms = sorted(self._postings)
        sizes = [len(self._postings[term][0]) for term in terms]
        write_durably(folder / "terms.json", json.dumps(terms, separators=(",", ":")).encode())
        save_array(folder / "term_starts.npy", np.cumsum([0, *sizes], dtype=np.int64))
        for name, side in (("term_chunks", 0), ("term_counts", 1)):
            flat = b"".join(self._postings[term][side].tobytes() for term in terms)
            save_array(folder / f"{name}.npy", np.frombuffer(flat, dtype=np.int32))
        save_array(folder / "lengths.npy", np.frombuffer(self._lengths, dtype=np.int32))


class Postings:
    """The terms of one segment on disk; files are opened when first needed."""

    def __init__(self, files: Mapping[str, CheckedFile]) -> None:
        self._files = files
        self._terms: dict[str, int] | None = None

    @property
    def lengths(self) -> NDArray[Any]:
        """How many terms each chunk has: `[C]`."""
        return self._array("lengths")

    @property
    def terms(self) -> Mapping[str, int]:
        """Every term, with its number."""
        if self._terms is None:
            self._files["terms.json"].check()
            terms = json.loads(self._files["terms.json"].read())
            self._terms = {term: number for number, term in enumerate(terms)}
        return self._terms

    def chunks_with(self, term: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The chunks that a term occurs in, ascending, and how often it occurs in each."""
        number = self.terms.get(term)
        if number is None:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        start, stop = self._array("term_starts")[number : number + 2]
        return self._array("term_chunks")[start:stop], self._array("term_counts")[start:stop]

    def _array(self, name: str) -> NDArray[Any]:
        return self._files[f"{name}.npy"].array()


def bm25(
    segments: Sequence[Postings], live: Sequence[Mask], terms: Sequence[str]
) -> list[ScoreArray]:
    """BM25 of every chunk, segment by segment; a term that the question repeats counts repeatedly.

    Args:
        segments: term counts. live: per segment which chunks count, `[C]` bool.
        terms: of the question.
    """
    lengths = [postings.lengths for postings in segments]
    total = sum(int(mask.sum()) for mask in live)
    mean = max(
        1.0, sum(int(n[m].sum()) for n, m in zip(lengths, live, strict=True)) / max(1, total)
    )
    scores = [np.zeros(len(mask), np.float32) for mask in live]
    # sorted: fp32 sums depend on their order, and the order of a set differs between processes
    for term, times in sorted(Counter(terms).items()):
        check_interruption()
        found = [postings.chunks_with(term) for postings in segments]
        having = sum(int(m[chunks].sum()) for (chunks, _), m in zip(found, live, strict=True))
        idf = math.log(1 + (total - having + 0.5) / (having + 0.5))
        for s, (chunks, counts) in enumerate(found):
            norm = K1 * (1 - B + B * lengths[s][chunks] / mean)
            scores[s][chunks] += np.float32(times * idf) * counts / (counts + norm)
    return scores
