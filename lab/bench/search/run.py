"""One run of the bench: every structure, at every size of the corpus."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.graph import GraphSearch
from tamis.retrieval.approximate.segment_search import IvfSearch
from tamis.retrieval.approximate.types import Floats, KeySearch
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import (
    corpus_sentences,
    encode_queries,
    load_questions,
)
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.search.hnsw import HnswSearch
from tamis_lab.bench.search.kept_builds import KeptBuilds, build_searches
from tamis_lab.bench.search.key_corpus import KeyCorpus
from tamis_lab.bench.search.measurement import (
    EFFORTS,
    KeyQuestion,
    SearchedCorpus,
    measure_bm25,
    measure_exact,
    measure_searches,
    search_exactly,
    time_growth,
)

STRUCTURES: Mapping[str, type[KeySearch]] = {
    "graph": GraphSearch,
    "ivf": IvfSearch,
    "hnsw": HnswSearch,
}
StepListener = Callable[[str, int, int], None]
"""Called with an activity, how much more of it is done, and how much there is in all."""


@dataclass(frozen=True, slots=True)
class SearchRun:
    """What is measured.

    Attributes:
        sizes: numbers of tokens; none for that of the index.
        structures: names in `STRUCTURES`. queries: at most so many questions.
        efforts: whether recall is measured at several efforts, at the largest size.
        keep: the folder that keeps what is built; none for this run alone.
        drawn_beyond: chunks are drawn beyond so many tokens of text; by default beyond the index.
    """

    index: CorpusIndex
    questions: Sequence[tuple[str, Mapping[str, float]]]
    sizes: Sequence[int]
    structures: Sequence[str]
    efforts: bool = False
    keep: Path | None = None
    drawn_beyond: int | None = None

    def report(self, step: StepListener) -> dict[str, Any]:
        """The figures by size and system.

        Returns:
            `{"sizes": [{"tokens", "real_tokens", "systems": {name: figures}, "curves"}], "growth"}`
        """
        recipe = KeyRecipe.from_json(self.index.manifest.settings.keys or {})
        encoder = self.index.models.key_encoder(recipe)
        asked = self._encode_questions(encoder, step)
        heads = len(recipe.heads)
        rows = []
        with tempfile.TemporaryDirectory() as own:
            kept = KeptBuilds(self.keep or Path(own), self.index, heads, self.drawn_beyond)
            training = kept.training(lambda: self._training_queries(encoder))
            for size in self.sizes or [self.index.stats()["tokens"]]:
                corpus, folder = kept.corpus(size)
                rows.append(self._measure(corpus, folder, heads, asked, training, step))
        return {"sizes": rows, "growth": _growth(rows)}

    def _training_queries(self, encoder: KeyEncoder) -> Floats:
        texts = [*load_questions(), *corpus_sentences(self.index.segments)]
        return encode_queries(encoder, texts)

    def _encode_questions(self, encoder: KeyEncoder, step: StepListener) -> list[KeyQuestion]:
        found = []
        for text, grades in self.questions:
            words = self.index.scores(text, ["bm25"])["bm25"]
            found.append(KeyQuestion(encoder.encode_question(text), words, grades))
            step("questions", 1, len(self.questions))
        return found

    def _measure(
        self,
        corpus: KeyCorpus,
        folder: Path,
        heads: int,
        asked: Sequence[KeyQuestion],
        training: Floats,
        step: StepListener,
    ) -> dict[str, Any]:
        N, chunks = len(corpus.keys), len(corpus.starts) - 1
        owners = np.full(chunks, "", dtype=object)
        owners[: corpus.real_chunks] = [
            of or "" for of in self.index.chunk_documents()[: corpus.real_chunks]
        ]
        own = [
            KeyQuestion(q.queries, q.bm25[: corpus.real_chunks], _present(q.grades, owners))
            for q in asked
        ]
        name = f"{N:,} keys"
        searched = search_exactly(
            corpus, heads, owners, own, lambda: step(f"{name}, exact", 1, len(own))
        )
        systems = {"exact": measure_exact(searched), "bm25": measure_bm25(searched)}
        curves = {}
        for kind in self.structures:
            searches, cost = build_searches(
                kind,
                STRUCTURES[kind],
                corpus,
                training,
                heads,
                folder,
                lambda keys, kind=kind: step(f"{name}, {kind}", keys, heads * N),  # type: ignore[misc]
            )
            systems[kind] = measure_searches(searched, searches) | cost
            if self.efforts:
                curves[kind] = _curve(searched, searches)
        return {
            "tokens": N,
            "real_tokens": corpus.real_keys,
            "chunks": chunks,
            "systems": systems,
            "curves": curves,
        }


def load_asked(path: Path, limit: int) -> list[tuple[str, dict[str, float]]]:
    """Questions with grades: rows `{"query" or "question", "qrels"}`, or the lines of a text file.

    Raises:
        BadInput: it cannot be read, or there is no question.
    """
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        found: list[tuple[str, dict[str, float]]] = [(q, {}) for q in load_questions(path)]
    else:
        found = []
        for number, row in read_json_lines(path):
            text = row.get("query", row.get("question"))
            if not isinstance(text, str) or not text.strip():
                raise BadInput(f"{path}, row {number}: a row has a 'query' or a 'question'")
            found.append((text, {str(d): float(g) for d, g in dict(row.get("qrels", {})).items()}))
    if not found:
        raise BadInput(f"{path} holds no question")
    step = max(1, len(found) // limit)
    return found[::step][:limit]


def _present(grades: Mapping[str, float], owners: Any) -> dict[str, float]:
    """The grades of documents that are in the corpus."""
    there = set(owners.tolist())
    return {doc: grade for doc, grade in grades.items() if doc in there}


def _curve(searched: SearchedCorpus, searches: Sequence[KeySearch]) -> list[dict[str, float]]:
    return [{"effort": e, **measure_searches(searched, searches, e)} for e in EFFORTS]


def _growth(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The log-log slope of CPU milliseconds over tokens, by system."""
    sizes = [row["tokens"] for row in rows]
    names = [name for name in rows[0]["systems"] if name != "bm25"]
    return {
        name: time_growth(sizes, [row["systems"][name]["cpu_ms_p50"] for row in rows])
        for name in names
    }
