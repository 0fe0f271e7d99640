"""Gives new segments the structures that searches find keys by, and keeps the training queries.

Training queries show what questions about the corpus look like to its heads. A graph follows
queries (RetrievalAttention, arXiv 2409.10516, §3.2). An index is made before its questions are
known, so these stand in: the questions that the caller has, else general ones that ship with tamis;
and sentences of the corpus, read as if they were asked. Sentences of the corpus made the better
graph: lab/log/retrieval-and-selectors.md#2026-11-26-approximate-search-of-an-index
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.segment_search import build_structures, kind_for
from tamis.retrieval.approximate.types import Floats, Progress
from tamis.retrieval.storage.files import CheckedFile, FileEntry, save_state_array
from tamis.retrieval.storage.manifest import Manifest
from tamis.retrieval.storage.segment import Segment

if TYPE_CHECKING:
    from tamis.retrieval.index.models import ChunkModels
    from tamis.retrieval.keys.encoder import KeyEncoder

BANK = Path(__file__).parent / "questions.txt"
SENTENCES = 256
SENTENCE_CHARS = 240


def load_questions(path: Path = BANK) -> list[str]:
    """The questions of a text file, one a line.

    Raises:
        BadInput: it cannot be read, or holds none.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    questions = list(dict.fromkeys(line for line in lines if line.strip()))
    if not questions:
        raise BadInput(f"{path} holds no question; give a text file with one a line")
    return questions


def corpus_sentences(segments: Sequence[Segment], count: int = SENTENCES) -> list[str]:
    """Sentences from chunks at even distances, the one in the middle of each; fewer if few."""
    places = [(segment, int(c)) for segment in segments for c in np.flatnonzero(segment.live)]
    step = max(1, len(places) // count)
    found = []
    for segment, chunk in places[step // 2 :: step][:count]:
        record = segment.chunks[chunk]
        if units := record["units"]:
            start, stop = units[len(units) // 2]
            found.append(record["text"][start : min(stop, start + SENTENCE_CHARS)])
    return [sentence for sentence in dict.fromkeys(found) if sentence.strip()]


def encode_queries(encoder: KeyEncoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """The query vectors of all texts: `[T, H·d]`."""
    return np.concatenate([encoder.encode_question(text) for text in texts])


class SegmentStructures:
    """Builds the structures of one new segment.

    Args:
        manifest: the state that the segment is added to.
        models: with a key encoder, training queries can be made where the index has none yet.

    Attributes:
        queries_entry: the file of training queries, for the manifest of the next commit.
    """

    def __init__(
        self, home: Path, manifest: Manifest, models: ChunkModels, report: Progress
    ) -> None:
        self._home, self._manifest, self._models = home, manifest, models
        self._report = report
        self.queries_entry = manifest.queries

    def add_to(self, folder: Path, old: Sequence[Segment]) -> None:
        """Writes structures into the folder of a segment that was merged from old ones."""
        recipe = self._manifest.settings.keys
        if not recipe:
            return
        keys = len(np.load(folder / "keys.npy", mmap_mode="r"))
        kind = kind_for(self._manifest.search, keys)
        if kind != "exact":
            queries = self._training_queries(old) if kind == "graph" else None
            build_structures(folder, kind, len(recipe["heads"]), queries, self._report)

    def _training_queries(self, old: Sequence[Segment]) -> Floats | None:
        """Those of the index; else new ones; None where no model can make them."""
        if self.queries_entry is None and self._models.keys is not None:
            self.queries_entry = self._make_queries(old)
        if self.queries_entry is None:
            return None
        file = CheckedFile(self._home, self.queries_entry)
        queries: Floats = np.array(file.array())
        file.close()
        return queries

    def _make_queries(self, old: Sequence[Segment]) -> FileEntry:

        questions = self._models.questions or load_questions()
        texts = [*questions, *corpus_sentences(old)]
        assert self._models.keys is not None
        queries = encode_queries(self._models.keys, texts)
        return save_state_array(self._home, "queries", self._manifest.generation + 1, queries)
