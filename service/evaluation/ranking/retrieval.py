"""How well an index finds: each leg alone and fused, on corpora with judged documents.

corpus ─ tamis index (kept in the cache folder) ─► scores of every leg ─ fuse ─► documents ranked
queries, qrels ───────────────────────────────────────────────► recall@10, recall@100, nDCG@10

A document ranks by its best chunk. Differences are paired over the queries (bootstrap).
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput
from tamis.retrieval.index.rank_fusion import ScoreArray
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.storage.chunks import CorpusDocument
from tamis.service.datasets.records import load, read_jsonl
from tamis.service.datasets.statistics import paired_bootstrap

METRICS = ("recall@10", "recall@100", "ndcg@10")
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "keys": ("keys",),
    "bm25": ("bm25",),
    "minilm": ("vectors",),
    "bm25+keys": ("bm25", "keys"),
    "bm25+minilm": ("bm25", "vectors"),
    "fused": ("bm25", "keys", "vectors"),
}
"""Legs of each system, fused by standard scores; `… (rrf)` beside those of several legs."""
Figures = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Query:
    """A question or claim, and how relevant documents are to it: above 0 is relevant."""

    text: str
    grades: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Task:
    """A corpus with its queries."""

    name: str
    documents: tuple[CorpusDocument, ...]
    queries: tuple[Query, ...]


def judged(name: str, corpus: Path, queries: Path) -> Task:
    """A corpus and queries in rows: `docid|id, title, text` and `query|question, qrels`.

    Raises:
        BadInput: a row without them, or grades of documents that the corpus does not hold.
    """
    documents = tuple(_document(row, corpus) for row in read_jsonl(corpus))
    known = {document.id for document in documents}
    if len(known) < len(documents):
        twice = next(d for d, n in Counter(of.id for of in documents).items() if n > 1)
        raise BadInput(
            f"{corpus} has {len(documents):,} documents under {len(known):,} ids, {twice!r} more "
            "than once; number them"
        )
    found = []
    for number, row in enumerate(read_jsonl(queries), 1):
        text, grades = row.get("query", row.get("question")), row.get("qrels")
        if not isinstance(text, str) or not text.strip() or not isinstance(grades, dict):
            raise BadInput(
                f"{queries}, row {number}: 'query' and 'qrels' (grades by id) are needed"
            )
        grades = _grades(grades, f"{queries}, row {number}")
        if missing := set(grades) - known:
            raise BadInput(f"{queries}, row {number}: {corpus} holds no document {min(missing)!r}")
        if any(grade > 0 for grade in grades.values()):
            found.append(Query(text, grades))
    return _checked(Task(name, documents, tuple(found)), queries)


def pooled(name: str, files: Sequence[Path], queries: int | None = None) -> Task:
    """Labelled records: all their passages one corpus, those with gold sentences relevant.

    Args:
        queries: ask so many of them only, from all over the files; the corpus stays whole.
    """
    ids: dict[tuple[str, str], str] = {}
    found: list[Query] = []
    for record in (record for file in files for record in load(file)):
        grades = {}
        for doc in record["docs"]:
            key = (doc.get("title") or "", doc["text"])
            ids.setdefault(key, str(len(ids)))
            if doc["gold"]:
                grades[ids[key]] = 1.0
        if grades:
            found.append(Query(record["question"], grades))
    documents = tuple(CorpusDocument(i, text, title or None) for (title, text), i in ids.items())
    if queries is not None and queries < len(found):
        found = [found[i * len(found) // queries] for i in range(queries)]
    return _checked(Task(name, documents, tuple(found)), *files)


def measure(index: CorpusIndex, task: Task, report: Callable[[], None], seed: int = 0) -> Figures:
    """Every system's figures over a task's queries; systems the index lacks a leg for are left out.

    Returns:
        `{"queries", "documents", "systems": {name: {metric: mean, "ms"}}, "ahead": …}`; ahead: of
        each fused system over each of its legs the paired differences, with 95 % intervals.
    """
    systems = {name: legs for name, legs in SYSTEMS.items() if set(legs) <= set(index.legs)}
    owners = np.array([_NOBODY if d is None else d for d in index.chunk_documents()], dtype=object)
    rows: dict[str, list[list[float]]] = {}
    took: dict[str, list[float]] = {leg: [] for leg in index.legs}
    for query in task.queries:
        scored: dict[str, ScoreArray] = {}
        for leg in index.legs:
            clock = time.perf_counter()
            scored |= index.scores(query.text, [leg])
            took[leg].append((time.perf_counter() - clock) * 1e3)
        for name, fused in _rankings(index, systems, scored):
            rows.setdefault(name, []).append(_metrics(_ranked(fused, owners), query.grades))
        report()
    found = {name: np.array(of) for name, of in rows.items()}
    return {
        "queries": len(task.queries),
        "documents": len(task.documents),
        "chunks": len(index),
        "systems": {
            name: {
                **dict(zip(METRICS, map(float, of.mean(0)), strict=True)),
                "ms": sum(float(np.median(took[leg])) for leg in systems[name.split(" ")[0]]),
            }
            for name, of in found.items()
        },
        "ahead": _ahead(found, systems, seed),
    }


_NOBODY = ""


def _rankings(
    index: CorpusIndex, systems: Mapping[str, tuple[str, ...]], scored: Mapping[str, ScoreArray]
) -> Iterator[tuple[str, ScoreArray]]:
    for name, legs in systems.items():
        part = {leg: scored[leg] for leg in legs}
        yield name, index.fused(part)
        if len(legs) > 1:
            yield f"{name} (rrf)", index.fused(part, "ranks", depth=1000)


def _ranked(scores: ScoreArray, owners: Any, depth: int = 100) -> list[str]:
    """Documents by their best chunk, best first."""
    found: dict[str, None] = {}
    for chunk in np.argsort(-scores, kind="stable"):
        if owners[chunk] != _NOBODY:
            found.setdefault(owners[chunk])
            if len(found) == depth:
                break
    return list(found)


def _metrics(ranked: Sequence[str], grades: Mapping[str, float]) -> list[float]:
    """recall@10, recall@100 and nDCG@10 (gain as graded, discount log2 of rank + 1)."""
    relevant = {doc for doc, grade in grades.items() if grade > 0}
    gains = sorted((grades[doc] for doc in relevant), reverse=True)
    ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:10]))
    gained = sum(
        max(0.0, grades.get(doc, 0.0)) / math.log2(rank + 2) for rank, doc in enumerate(ranked[:10])
    )
    return [
        len(relevant & set(ranked[:10])) / len(relevant),
        len(relevant & set(ranked[:100])) / len(relevant),
        gained / ideal,
    ]


def _ahead(
    found: Mapping[str, Any], systems: Mapping[str, tuple[str, ...]], seed: int
) -> dict[str, Any]:
    alone = {legs[0]: name for name, legs in systems.items() if len(legs) == 1}
    ahead: dict[str, Any] = {}
    for name, of in found.items():
        legs = systems[name.split(" ")[0]]
        for other in (alone[leg] for leg in legs if len(legs) > 1 and leg in alone):
            ahead[f"{name} over {other}"] = {
                metric: dict(
                    zip(
                        ("difference", "low", "high"),
                        paired_bootstrap(of[:, m], found[other][:, m], np.ones(len(of)), seed=seed),
                        strict=True,
                    )
                )
                for m, metric in enumerate(METRICS)
            }
    return ahead


def _document(row: Mapping[str, Any], corpus: Path) -> CorpusDocument:
    name = next((row[key] for key in ("docid", "id", "_id", "doc_id") if key in row), None)
    if name is None or not isinstance(row.get("text"), str):
        raise BadInput(f"{corpus}: a document has 'docid' or 'id', and 'text'; got {sorted(row)}")
    title = row.get("title")
    titled = isinstance(title, str | int | float) and not isinstance(title, bool)
    try:
        return CorpusDocument(str(name), row["text"], str(title) or None if titled else None)
    except BadInput as error:
        raise BadInput(f"{corpus}: {error}") from error


def _grades(given: Mapping[str, Any], place: str) -> dict[str, float]:
    try:
        found = {doc: float(grade) for doc, grade in given.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{place}: the grades in 'qrels' are numbers ({error})") from error
    if odd := [doc for doc, grade in found.items() if not math.isfinite(grade)]:
        raise BadInput(f"{place}: the grade of {odd[0]!r} is not finite")
    return found


def _checked(task: Task, *files: Path) -> Task:
    if not task.queries:
        raise BadInput(f"{', '.join(map(str, files))}: no query has a relevant document")
    return task
