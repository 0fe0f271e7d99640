"""`bench retrieval`: how well the corpus index finds documents, by each search and fused.

Retrieval quality of a corpus index: each leg alone and fused, with judged documents.

corpus ─ tamis index (kept in the cache folder) ─► scores of every leg ─ fuse ─► ranked documents
queries, qrels ──────────────────────────────────────────────► recall@10, recall@100, nDCG@10

A document is ranked by its best chunk. Differences are paired over the queries (bootstrap).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.retrieval.index.legs import complete_scores, fuse_standard_scores, top_indexes
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index
from tamis.retrieval.storage.manifest import FORMAT, Manifest
from tamis.retrieval.storage.postings import Mask, ScoreArray
from tamis.service.api.index import index_settings, load_readers, open_index
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis.text.types import CorpusDocument
from tamis_lab.bench.study import Study, estimate, table
from tamis_lab.datasets.ranking_metrics import ndcg, recall
from tamis_lab.datasets.records import load_records
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared

SHARED_DATA = Path("../shared/data")
POOL = ("xquad_en", "hotpotqa", "2wikimultihopqa")
EPILOG = """
**Examples**

`tamis lab bench retrieval --corpus corpus.jsonl --queries queries.jsonl`, rows of
`{"id", "title", "text"}` and of `{"query", "qrels": {"id": 1}}`

`tamis lab bench retrieval --records dev.jsonl.gz --json` pools the passages of labelled records

`tamis lab bench retrieval --no-model --corpus corpus.jsonl --queries queries.jsonl` is BM25 alone
"""


@report_errors()
def retrieval(
    corpus: Annotated[Path | None, typer.Option(help="Rows of documents.")] = None,
    queries: Annotated[Path | None, typer.Option(help="Rows of queries with `qrels`.")] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Labelled records, whose passages make one corpus; repeatable."),
    ] = None,
    limit: shared.Limit = None,
    no_model: Annotated[bool, typer.Option("--no-model", help="Without keys.")] = False,
    vectors: Annotated[str, typer.Option(help="minilm, or none.")] = "minilm",
    proxy: shared.ProxyName = DEFAULT_PROXY,
    cache: Annotated[
        Path | None, typer.Option(help="Where indexes are kept. Default: the user's cache.")
    ] = None,
    seed: shared.Seed = 0,
    as_json: shared.Json = False,
) -> None:
    """Compare BM25, attention keys, sentence vectors and their fusion at finding documents.

    Without a corpus: SciFact and the pooled passages of dev/ in ../shared/data, where they are.
    With --limit fewer queries are asked; all documents stay.
    """
    study, home = Study(as_json), cache or cache_home() / "retrieval"
    settings = index_settings(
        model=not no_model,
        vectors=None if vectors == "none" else vectors,
        proxy=proxy,
        chunk_chars=6000,
    )
    found: dict[str, Any] = {}
    with study.bars():
        for task in _retrieval_tasks(corpus, queries, records or (), limit):
            folder = home / f"{task.name}-{_index_key(task, settings)}"
            _build_index(folder, task, settings, study)
            asking = partial(study.advance, f"{task.name}: asking", 1, len(task.queries))
            found[task.name] = measure_index(open_index(folder), task, asking, seed)
    study.publish(
        {"chunk_chars": settings.chunk_chars, "tasks": found},
        lambda: [each for name, of in found.items() for each in _tables(name, of)],
    )


def _tables(name: str, of: Mapping[str, Any]) -> Iterator[Any]:
    """A row a system, then the lead of fused systems in nDCG@10."""
    metrics = list(next(iter(of["systems"].values())))
    yield table(
        f"{name}: {of['queries']} queries, {of['documents']:,} documents",
        ("system", *metrics),
        (
            [system, *(f"{row[m]:.1f}" if m == "ms" else f"{row[m]:.3f}" for m in metrics)]
            for system, row in of["systems"].items()
        ),
    )
    yield "nDCG@10 ahead [95 % interval]"
    for pair, row in of["ahead"].items():
        yield Text(f"{pair}: ").append(estimate(row["ndcg@10"], form="+.3f", scale=1))


def _leads(
    by_system: Mapping[str, Any], systems: Mapping[str, tuple[str, ...]], seed: int
) -> dict[str, Any]:
    alone = {legs[0]: name for name, legs in systems.items() if len(legs) == 1}
    ahead: dict[str, Any] = {}
    for name, of in by_system.items():
        legs = systems[name.split(" ")[0]]
        for other in (alone[leg] for leg in legs if len(legs) > 1 and leg in alone):
            base, ones = by_system[other], np.ones(len(of))
            ahead[f"{name} over {other}"] = {
                metric: paired_interval(of[:, m], base[:, m], ones, seed=seed)
                for m, metric in enumerate(METRICS)
            }
    return ahead


def _retrieval_tasks(
    corpus: Path | None, queries: Path | None, records: Any, limit: int | None
) -> list[RetrievalTask]:

    if (corpus is None) != (queries is None):
        raise BadInput("--corpus and --queries go together; give both, or --records")
    tasks = []
    if corpus is not None and queries is not None:
        tasks.append(load_judged_task(corpus.name.split(".")[0], corpus, queries))
    if records:
        tasks.append(pool_records("records", records, limit))
    if not tasks:
        if not SHARED_DATA.is_dir():
            raise BadInput("name a corpus: --corpus with --queries, or --records")
        rerank = SHARED_DATA / "rerank"
        names = ("scifact_corpus.jsonl.gz", "scifact_queries.jsonl.gz")
        tasks = [
            load_judged_task("scifact", *(rerank / name for name in names)),
            pool_records("dev", [SHARED_DATA / "dev" / f"{name}.jsonl.gz" for name in POOL], limit),
        ]
    return [replace(task, queries=task.queries[:limit]) if limit else task for task in tasks]


def _index_key(task: RetrievalTask, settings: Any) -> str:
    """Identifies the index of a corpus with some settings."""

    found = hashlib.blake2b(repr((FORMAT, settings)).encode(), digest_size=8)
    for document in task.documents:
        found.update(repr((document.id, document.title, document.text)).encode())
    return found.hexdigest()


def _build_index(folder: Path, task: RetrievalTask, settings: Any, study: Study) -> None:
    """Builds the index of a task unless it is complete; an interrupted build resumes."""
    if (folder / "manifest.json").is_file() and Manifest.read(folder).complete:
        return
    with create_index(folder, settings, load_readers(settings)) as writer:
        reading = f"{task.name}: reading"
        writer.put(task.documents, lambda *_: study.advance(reading, 1, len(task.documents)))
        writer.finish()


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
    owners = np.array([_DELETED if d is None else d for d in chunk_documents(index)], dtype=object)
    live = np.concatenate([segment.live for segment in index.segments])
    rows: dict[str, list[list[float]]] = {}
    leg_ms: dict[str, list[float]] = {leg: [] for leg in index.legs}
    for query in task.queries:
        scored: dict[str, ScoreArray] = {}
        for leg in index.legs:
            clock = time.perf_counter()
            scored[leg] = index.leg_scores(query.text, [leg], "exact")[leg].values
            leg_ms[leg].append((time.perf_counter() - clock) * 1e3)
        for name, fused in _system_scores(live, systems, scored):
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
    live: Mask, systems: Mapping[str, tuple[str, ...]], scored: Mapping[str, ScoreArray]
) -> Iterator[tuple[str, ScoreArray]]:
    for name, legs in systems.items():
        part = {leg: scored[leg] for leg in legs}
        yield name, fuse_standard_scores({n: complete_scores(s, live) for n, s in part.items()})
        if len(legs) > 1:
            yield f"{name} (rrf)", fuse_reciprocal_ranks(part, live)


def chunk_documents(index: CorpusIndex) -> list[str | None]:
    """The id of each chunk's document; None for chunks that were deleted."""
    ids: list[str | None] = []
    for segment in index.segments:
        names = [record["id"] for record in segment.documents()]
        owners = zip(segment.chunk_docs, segment.live, strict=True)
        ids += [names[doc] if is_live else None for doc, is_live in owners]
    return ids


_RANK_OFFSET = 60
"""k of reciprocal rank fusion, as its authors set it."""


def fuse_reciprocal_ranks(
    legs: Mapping[str, ScoreArray], allowed: Mask, depth: int = 1000
) -> ScoreArray:
    """Reciprocal rank fusion (Cormack, Clarke, Büttcher 2009): `[C]`, 0 for what no leg found.

    Args:
        allowed: the chunks that ranks are counted among.
        depth: how many of each leg's best chunks count; a score of 0 means that the leg did not
            find the chunk.
    """
    fused = np.zeros(len(allowed), np.float32)
    for scores in legs.values():
        ranked = top_indexes(scores, allowed & (scores != 0), depth)
        fused[ranked] += 1 / (_RANK_OFFSET + 1 + np.arange(len(ranked)))
    return fused


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
    relevant = {doc: grade for doc, grade in grades.items() if grade > 0}
    return [recall(ranked, relevant), recall(ranked, relevant, 100), ndcg(ranked, relevant)]


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
