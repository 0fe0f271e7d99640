"""Gives new segments the structures that searches find keys by, and keeps the training queries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tamis.retrieval.approximate.segment_search import build_structures, kind_for
from tamis.retrieval.approximate.types import Floats, Progress
from tamis.retrieval.storage.files import CheckedFile, FileEntry, save_state_array
from tamis.retrieval.storage.manifest import Manifest
from tamis.retrieval.storage.segment import Segment

if TYPE_CHECKING:
    from tamis.retrieval.index.models import ChunkModels


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
        from tamis.retrieval.index import training_queries

        questions = self._models.questions or training_queries.load_questions()
        texts = [*questions, *training_queries.corpus_sentences(old)]
        assert self._models.keys is not None
        queries = training_queries.encode_queries(self._models.keys, texts)
        return save_state_array(self._home, "queries", self._manifest.generation + 1, queries)
