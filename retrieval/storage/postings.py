"""BM25 over the chunks of an index, however many segments they lie in.

Source: Robertson, Zaragoza 2009, §3, in the form Lucene and bm25s (Lù 2024, arXiv 2407.03618) use:
idf = log(1 + (N - n + .5) / (n + .5)), and no factor k1 + 1. bm25s works the scores out when it
indexes, with the statistics of that one build, so a second segment or a deletion would make its
scores incomparable. Here term counts are stored, and idf and mean length are those of the chunks
that live when the question is asked: a corpus that was built at once, added to, or deleted from
scores alike. On one segment the scores are those of bm25s.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.segmentation.terms import stem, words
from tamis.retrieval.storage.files import CheckedFile, save_array, write_durably
from tamis.retrieval.storage.html_text import visible_text

K1, B = 1.2, 0.75
ScoreArray = NDArray[np.float32]
Mask = NDArray[np.bool_]


def index_terms(text: str, language: str, html: bool = False) -> list[str]:
    """The index terms of a text: stems where it is English; of HTML what a reader sees."""
    found = words(visible_text(text) if html else text)
    return [stem(word) for word in found] if language.startswith("en") else found


class PostingsWriter:
    """Collects the terms of chunks, in order, and writes them term by term."""

    def __init__(self) -> None:
        self._found: dict[str, tuple[array[int], array[int]]] = {}
        self._lengths = array("i")

    def add(self, terms: Sequence[str]) -> None:
        """The terms of the next chunk."""
        for term, count in Counter(terms).items():
            chunks, counts = self._found.setdefault(term, (array("i"), array("i")))
            chunks.append(len(self._lengths))
            counts.append(count)
        self._lengths.append(len(terms))

    def copy_live(self, postings: Postings, live: Mask) -> None:
        """The chunks of another segment that live, as the next chunks."""
        number = (len(self._lengths) + np.cumsum(live) - 1).astype(np.int32)
        for term in postings.terms:
            theirs, times = postings.of(term)
            kept = live[theirs]
            if kept.any():
                chunks, counts = self._found.setdefault(term, (array("i"), array("i")))
                chunks.frombytes(number[theirs[kept]].tobytes())
                counts.frombytes(times[kept].tobytes())
        self._lengths.frombytes(postings.lengths[live].tobytes())

    def write(self, folder: Path) -> None:
        """terms.json, and arrays: where each term's postings start, chunks, counts, lengths."""
        terms = sorted(self._found)
        sizes = [len(self._found[term][0]) for term in terms]
        write_durably(folder / "terms.json", json.dumps(terms, separators=(",", ":")).encode())
        save_array(folder / "term_starts.npy", np.cumsum([0, *sizes], dtype=np.int64))
        for name, side in (("term_chunks", 0), ("term_counts", 1)):
            flat = b"".join(self._found[term][side].tobytes() for term in terms)
            save_array(folder / f"{name}.npy", np.frombuffer(flat, dtype=np.int32))
        save_array(folder / "lengths.npy", np.frombuffer(self._lengths, dtype=np.int32))


class Postings:
    """The terms of one segment as they lie on disk; opened when first asked."""

    def __init__(self, files: Mapping[str, CheckedFile]) -> None:
        self._files = files
        self._terms: dict[str, int] | None = None
        self._arrays: dict[str, NDArray[Any]] = {}

    @property
    def lengths(self) -> NDArray[Any]:
        """Terms of each chunk: `[C]`."""
        return self._array("lengths")

    @property
    def terms(self) -> Mapping[str, int]:
        """Every term, with its number."""
        if self._terms is None:
            self._files["terms.json"].check()
            listed = json.loads(self._files["terms.json"].read())
            self._terms = {word: number for number, word in enumerate(listed)}
        return self._terms

    def of(self, term: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """The chunks a term occurs in, ascending, and how often."""
        number = self.terms.get(term)
        if number is None:
            return np.zeros(0, np.int32), np.zeros(0, np.int32)
        start, stop = self._array("term_starts")[number : number + 2]
        return self._array("term_chunks")[start:stop], self._array("term_counts")[start:stop]

    def _array(self, name: str) -> NDArray[Any]:
        if name not in self._arrays:
            self._arrays[name] = self._files[f"{name}.npy"].array()
        return self._arrays[name]


def bm25(segments: Sequence[Postings], live: Sequence[Mask], terms: Sequence[str]) -> list[ScoreArray]:
    """BM25 of every chunk, segment by segment; a repeated term counts once for each time.

    Args:
        segments: term counts. live: per segment which chunks count, `[C]` bool.
        terms: of the question.
    """
    lengths = [of.lengths for of in segments]
    total = sum(int(mask.sum()) for mask in live)
    mean = max(
        1.0, sum(int(n[m].sum()) for n, m in zip(lengths, live, strict=True)) / max(1, total)
    )
    scores = [np.zeros(len(mask), np.float32) for mask in live]
    # sums of fp32 depend on their order: a set's differs between processes
    for term, times in sorted(Counter(terms).items()):
        found = [of.of(term) for of in segments]
        having = sum(int(m[chunks].sum()) for (chunks, _), m in zip(found, live, strict=True))
        idf = math.log(1 + (total - having + 0.5) / (having + 0.5))
        for s, (chunks, counts) in enumerate(found):
            norm = K1 * (1 - B + B * lengths[s][chunks] / mean)
            scores[s][chunks] += np.float32(times * idf) * counts / (counts + norm)
    return scores
