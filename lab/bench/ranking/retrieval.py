"""Retrieval quality of a corpus index: each leg alone and fused, with judged documents.

corpus ─ tamis index (kept in the cache folder) ─► scores of every leg ─ fuse ─► ranked documents
queries, qrels ──────────────────────────────────────────────► recall@10, recall@100, nDCG@10

A document is ranked by its best chunk. Differences are paired over the queries (bootstrap).
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
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.storage.chunks import CorpusDocument
from tamis.retrieval.storage.postings import ScoreArray
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.records import load_records
from tamis_lab.datasets.statistics import paired_bootstrap

METRICS = ("recall@10", "recall@100", "ndcg@10")
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "keys": ("keys",),
    "bm25": ("bm25",),
    "minilm": ("vectors",),
    "bm25+keys": ("bm25", "keys"),
    "bm25+minilm": ("bm25", "vectors"),
    "fused": ("bm25", "keys", "vectors"),
}
"""Legs of each system, fused by standard scores; with several legs also by RRF, as `… (rrf)`."""
RetrievalFigures = dict[str, Any]
_DELETED = ""


@dataclass(frozen=True, slots=True)
class GradedQuery:
    """A question or claim, and a grade for each judged document; above 0 is relevant."""

    text: str
    grades: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class RetrievalTask:
    """A corpus and the queries over it."""

    name: str
    documents: tuple[CorpusDocument, ...]
    queries: tuple[GradedQuery, ...]


def load_judged_task(name: str, corpus: Path, queries: Path) -> RetrievalTask:
    """Loads a corpus and queries from rows `docid|id, title, text` and `query|question, qrels`.

    Raises:
        BadInput: a row lacks one of them, or a graded document is not in the corpus.
    """
    documents = tuple(_parse_document(row, corpus) for _, row in read_json_lines(corpus))
    ids = {document.id for document in documents}
    if len(ids) < len(documents):
        twice = next(d for d, n in Counter(of.id for of in documents).items() if n > 1)
        raise BadInput(
            f"{corpus} has {len(documents):,} documents under {len(ids):,} ids, {twice!r} more "
            "than once; number them"
        )
    graded = []
    for number, row in read_json_lines(queries):
        text, grades = row.get("query", row.get("question")), row.get("qrels")
        if not isinstance(text, str) or not text.strip() or not isinstance(grades, dict):
            raise BadInput(
                f"{queries}, row {number}: 'query' and 'qrels' (grades by id) are needed"
            )
        grades = _parse_grades(grades, f"{queries}, row {number}")
        if missing := set(grades) - ids:
            raise BadInput(f"{queries}, row {number}: {corpus} holds no document {min(missing)!r}")
        if any(grade > 0 for grade in grades.values()):
            graded.append(GradedQuery(text, grades))
    return _check_task(RetrievalTask(name, documents, tuple(graded)), queries)


def pool_records(name: str, files: Sequence[Path], queries: int | None = None) -> RetrievalTask:
    """A task of labelled records: all their passages as one corpus, those with gold relevant.

    Args:
        queries: use only so many, at even distances; the corpus has the passages of all records.
    """
    ids: dict[tuple[str, str], str] = {}
    graded: list[GradedQuery] = []
    for record in (record for file in files for record in load_records(file)):
        grades = {}
        for doc in record["docs"]:
            key = (doc.get("title") or "", doc["text"])
            ids.setdefault(key, str(len(ids)))
            if doc["gold"]:
                grades[ids[key]] = 1.0
        if grades:
            graded.append(GradedQuery(record["question"], grades))
    documents = tuple(CorpusDocument(i, text, title or None) for (title, text), i in ids.items())
    if queries is not None and queries < len(graded):
        graded = [graded[i * len(graded) // queries] for i in range(queries)]
    return _check_task(RetrievalTask(name, documents, tuple(graded)), *files)


def measure_index(
    index: CorpusIndex, task: RetrievalTask, report: Callable[[], None], seed: int = 0
) -> RetrievalFigures:
    """Figures of every system over a task's queries, except systems with a leg the index lacks.

    Args:
        report: called after each query.

    Returns:
        `{"queries", "documents", "chunks", "systems": {name: {metric: mean, "ms"}}, "ahead": …}`;
        `ahead` has the paired differences of each fused system to each of its legs, with 95 %
        intervals.
    """
    systems = {name: legs for name, legs in SYSTEMS.items() if set(legs) <= set(index.legs)}
    owners = np.array([_DELETED if d is None else d for d in index.chunk_documents()], dtype=object)
    rows: dict[str, list[list[float]]] = {}
    leg_ms: dict[str, list[float]] = {leg: [] for leg in index.legs}
    for query in task.queries:
        scored: dict[str, ScoreArray] = {}
        for leg in index.legs:
            clock = time.perf_counter()
            scored |= index.scores(query.text, [leg])
            leg_ms[leg].append((time.perf_counter() - clock) * 1e3)
        for name, fused in _system_scores(index, systems, scored):
            metrics = query_metrics(_rank_documents(fused, owners), query.grades)
            rows.setdefault(name, []).append(metrics)
        report()
    by_system = {name: np.array(metrics) for name, metrics in rows.items()}
    return {
        "queries": len(task.queries),
        "documents": len(task.documents),
        "chunks": len(index),
        "systems": {
            name: {
                **dict(zip(METRICS, map(float, of.mean(0)), strict=True)),
                "ms": sum(float(np.median(leg_ms[leg])) for leg in systems[name.split(" ")[0]]),
            }
            for name, of in by_system.items()
        },
        "ahead": _leads(by_system, systems, seed),
    }


def _system_scores(
    index: CorpusIndex, systems: Mapping[str, tuple[str, ...]], scored: Mapping[str, ScoreArray]
) -> Iterator[tuple[str, ScoreArray]]:
    for name, legs in systems.items():
        part = {leg: scored[leg] for leg in legs}
        yield name, index.fuse_scores(part)
        if len(legs) > 1:
            yield f"{name} (rrf)", index.fuse_scores(part, "ranks", depth=1000)


def _rank_documents(scores: ScoreArray, owners: Any, depth: int = 100) -> list[str]:
    """Documents by their best chunk, best first; `owners` has the document of each chunk."""
    documents: dict[str, None] = {}
    for chunk in np.argsort(-scores, kind="stable"):
        if owners[chunk] != _DELETED:
            documents.setdefault(owners[chunk])
            if len(documents) == depth:
                break
    return list(documents)


def query_metrics(ranked: Sequence[str], grades: Mapping[str, float]) -> list[float]:
    """recall@10, recall@100 and nDCG@10 (the gain is the grade, the discount log2 of rank + 1)."""
    relevant = {doc for doc, grade in grades.items() if grade > 0}
    gains = sorted((grades[doc] for doc in relevant), reverse=True)
    ideal = sum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains[:10]))
    achieved = sum(
        max(0.0, grades.get(doc, 0.0)) / math.log2(rank + 2) for rank, doc in enumerate(ranked[:10])
    )
    return [
        len(relevant & set(ranked[:10])) / len(relevant),
        len(relevant & set(ranked[:100])) / len(relevant),
        achieved / ideal,
    ]


def _leads(
    by_system: Mapping[str, Any], systems: Mapping[str, tuple[str, ...]], seed: int
) -> dict[str, Any]:
    alone = {legs[0]: name for name, legs in systems.items() if len(legs) == 1}
    ahead: dict[str, Any] = {}
    for name, of in by_system.items():
        legs = systems[name.split(" ")[0]]
        for other in (alone[leg] for leg in legs if len(legs) > 1 and leg in alone):
            ahead[f"{name} over {other}"] = {
                metric: dict(
                    zip(
                        ("difference", "low", "high"),
                        paired_bootstrap(
                            of[:, m], by_system[other][:, m], np.ones(len(of)), seed=seed
                        ),
                        strict=True,
                    )
                )
                for m, metric in enumerate(METRICS)
            }
    return ahead


def _parse_document(row: Mapping[str, Any], corpus: Path) -> CorpusDocument:
    name = next((row[key] for key in ("docid", "id", "_id", "doc_id") if key in row), None)
    if name is None or not isinstance(row.get("text"), str):
        raise BadInput(f"{corpus}: a document has 'docid' or 'id', and 'text'; got {sorted(row)}")
    title = row.get("title")
    has_title = isinstance(title, str | int | float) and not isinstance(title, bool)
    try:
        return CorpusDocument(str(name), row["text"], str(title) or None if has_title else None)
    except BadInput as error:
        raise BadInput(f"{corpus}: {error}") from error


def _parse_grades(qrels: Mapping[str, Any], where: str) -> dict[str, float]:
    """The grades of a row; `where` names the row in messages."""
    try:
        grades = {doc: float(grade) for doc, grade in qrels.items()}
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"{where}: the grades in 'qrels' are numbers ({error})") from error
    if odd := [doc for doc, grade in grades.items() if not math.isfinite(grade)]:
        raise BadInput(f"{where}: the grade of {odd[0]!r} is not finite")
    return grades


def _check_task(task: RetrievalTask, *files: Path) -> RetrievalTask:
    if not task.queries:
        raise BadInput(f"{', '.join(map(str, files))}: no query has a relevant document")
    return task
