"""One reranking method over a file of queries, beside its first stage and a sentence encoder.

queries, candidates ─► method ─► RANKINGS.jsonl        one line a query, flushed; a run goes on
                    ─► whole-document cosine ─► peer   each document is encoded once
both ─► alone and fused with the first stage ─► nDCG@10, recall@10, paired intervals
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tamis.compressors import registry
from tamis.compressors.features.rank_fusion import Fuse, fuse_ranks
from tamis.compressors.method import ReadingScorer
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit
from tamis.service.datasets.qrels import Query
from tamis.service.datasets.ranking_metrics import ndcg, recall
from tamis.service.datasets.case_readings import Looks
from tamis.service.datasets.records import read_jsonl
from tamis.service.datasets.score_sources import Vectors
from tamis.service.datasets.statistics import paired_bootstrap
from tamis.service.evaluation.evidence.run import Results, Row
from tamis.service.files.json_values import finite
from tamis.service.training.probe import look_key

SURE = 0.9
CUT = 10
COSTS = ("ms", "tokens_read", "windows")
"""What a line says that the method took."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a file of rankings depends on, beside queries and corpus.

    Attributes:
        depth: so many of the first stage's documents are reranked; those below stay below.
        fuse: how the method is joined with the first stage; None for not at all.
        options: of the method.
    """

    method: str
    depth: int
    fuse: Fuse | None
    first: str
    proxy: str
    options: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(settings: Settings, queries: Path, corpus: Path) -> dict[str, Any]:
    """What must be the same for a run to go on: settings, files, version."""
    files = {
        f"{name}_sha256": hashlib.sha256(path.read_bytes()).hexdigest()
        for name, path in (("queries", queries), ("corpus", corpus))
    }
    return asdict(settings) | files | {"tamis": version("tamis")}


def keeping(name: str, proxy: str, options: Mapping[str, Any], folder: Path) -> Reranker:
    """A reranker whose readings are kept on disk: with another probe, a run takes seconds.

    Raises:
        BadInput: the method does not read and judge in two steps, so there is nothing to keep.
    """
    registry.check_options(name, options)
    method: Any = registry.build_method(name, proxy=proxy, **options)
    reads: Any = method.parts["attention"] if isinstance(method, Fusion) else method
    if not isinstance(reads, ReadingScorer):
        raise BadInput(f"{name} keeps no readings; leave --cache out")
    looks, read = Looks(folder, look_key(reads)), reads.read
    setattr(reads, "read", partial(_looked, looks, read))  # noqa: B010 - in place of the method
    return Reranker(method, name)


def _looked(
    looks: Looks, look: Any, question: str, passages: Sequence[Passage], units: Sequence[Unit]
) -> Reading:
    return looks.get(question, passages, units, look)


def run(
    queries: Sequence[Query],
    corpus: Mapping[str, Passage],
    reranker: Reranker,
    settings: Settings,
    results: Results | None,
) -> Iterator[Row]:
    """Reranks the queries that have no line yet; each line is written before it is yielded."""
    for query in queries:
        if results is None or query.qid not in results.done:
            row = result_of(query, corpus, reranker, settings)
            if results is not None:
                results.append(row)
            yield row


def result_of(
    query: Query, corpus: Mapping[str, Passage], reranker: Reranker, settings: Settings
) -> Row:
    """One line: the whole ranking, and what the method alone thought of each document it read."""
    head = query.candidates[: settings.depth]
    clock = time.perf_counter()
    found = reranker.rerank(query.text, [corpus[docid] for docid, _ in head])
    told = sum(ms for name, ms in found.timings_ms.items() if name not in ("load", "total"))
    # a reading kept from before says how long it took then
    ms = max(told, (time.perf_counter() - clock) * 1e3)
    own = [0.0] * len(head)
    for ranked in found.results:
        own[ranked.index] = ranked.own
    return {
        "qid": query.qid,
        "ranking": mixed(query, own, settings, found.calibrated),
        "own": finite(own),
        "calibrated": found.calibrated,
        "tokens_read": found.tokens_read,
        "windows": found.windows,
        "ms": round(ms, 3),
    }


def mixed(query: Query, own: Sequence[float], settings: Settings, calibrated: bool) -> list[str]:
    """All candidates: the reranked ones, then the others as the first stage had them."""
    ids = [docid for docid, _ in query.candidates]
    score: Sequence[float] = own
    if settings.fuse is not None and own:
        first = [score for _, score in query.candidates[: len(own)]]
        score = fuse_ranks(own, first, settings.fuse, settings.method, calibrated)
    order = sorted(range(len(own)), key=lambda i: (-score[i], i))
    return [ids[i] for i in order] + ids[len(own) :]


def stored(path: Path, queries: Sequence[Query], depth: int) -> dict[str, Row]:
    """The lines of a file of rankings, by query.

    Raises:
        BadInput: a line that is none, or has not one score for each candidate that is reranked.
    """
    ranked = {query.qid: min(depth, len(query.candidates)) for query in queries}
    rows = {}
    for number, row in enumerate(read_jsonl(path), 1):
        missing = sorted({"qid", "own", "calibrated", *COSTS} - set(row))
        own = row.get("own")
        if missing or not isinstance(own, list) or len(own) != ranked.get(row["qid"], len(own)):
            raise BadInput(
                f"{path}, line {number} is no line of this run"
                f"{f' (it has no {missing})' if missing else ''}; name another --out, or delete it"
            )
        rows[row["qid"]] = row
    return rows


class Cosine:
    """The peer: cosine of the query and the whole document, title and text, by an encoder."""

    def __init__(self, encoder: Any, corpus: Mapping[str, Passage], depth: int) -> None:
        self.vectors, self.corpus, self.depth = Vectors(encoder), corpus, depth

    def __call__(self, query: Query) -> list[float]:
        """One cosine a candidate, as many as are reranked."""
        found = [self.corpus[docid] for docid, _ in query.candidates[: self.depth]]
        texts = [f"{p.title}\n{p.text}" if p.title else p.text for p in found]
        vectors = self.vectors.encode([query.text, *texts])
        return [float(x) for x in vectors[1:] @ vectors[0]]


def systems(
    queries: Sequence[Query],
    rows: Mapping[str, Row],
    settings: Settings,
    peer: Callable[[Query], list[float]] | None,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, list[list[str]]]:
    """Every system's ranking of each query: first stage, peer, method, and both fused."""
    alone, join = _with(settings, None), _with(settings, settings.fuse)
    found: dict[str, list[list[str]]] = {}
    for done, query in enumerate(queries, 1):
        row = rows[query.qid]
        shown = {settings.first: [docid for docid, _ in query.candidates]}
        if peer is not None:
            cosine = peer(query)
            shown["minilm"] = mixed(query, cosine, alone, False)
            shown |= _fused("minilm", query, cosine, join, False)
        shown[settings.method] = mixed(query, own := _own(row), alone, row["calibrated"])
        shown |= _fused(settings.method, query, own, join, row["calibrated"])
        for name, ranking in shown.items():
            found.setdefault(name, []).append(ranking)
        report(done)
    return found


def _own(row: Row) -> list[float]:
    """A line's scores; what was not ranked at all has none, and comes last."""
    return [-math.inf if score is None else score for score in row["own"]]


def _with(settings: Settings, fuse: Fuse | None) -> Settings:
    return Settings(settings.method, settings.depth, fuse, settings.first, settings.proxy)


def _fused(
    name: str, query: Query, own: Sequence[float], settings: Settings, calibrated: bool
) -> dict[str, list[str]]:
    if settings.fuse is None:
        return {}
    named = Settings(name, settings.depth, settings.fuse, settings.first, settings.proxy)
    return {f"{name}+{settings.first}": mixed(query, own, named, calibrated)}


def figures(
    queries: Sequence[Query],
    found: Mapping[str, Sequence[Sequence[str]]],
    settings: Settings,
    seed: int = 0,
) -> dict[str, Any]:
    """nDCG and recall of every system, and how far the method, alone and fused, is ahead of others.

    Differences are paired over queries; intervals hold 90 % of the bootstrap's draws.
    """
    gains = {
        name: np.array([ndcg(r, q.qrels, CUT) for r, q in zip(rankings, queries, strict=True)])
        for name, rankings in found.items()
    }
    shares = {
        name: np.mean([recall(r, q.qrels, CUT) for r, q in zip(rankings, queries, strict=True)])
        for name, rankings in found.items()
    }
    mine = [n for n in (settings.method, f"{settings.method}+{settings.first}") if n in gains]
    return {
        name: {
            f"ndcg@{CUT}": float(gain.mean()),
            f"recall@{CUT}": float(shares[name]),
            "ahead": {own: _ahead(gains[own], gain, seed) for own in mine if name not in mine},
        }
        for name, gain in gains.items()
    }


def _ahead(own: Any, other: Any, seed: int) -> dict[str, float]:
    difference, low, high = paired_bootstrap(own, other, np.ones(len(own)), seed=seed, sure=SURE)
    return {"difference": difference, "low": low, "high": high}


def costs(rows: Sequence[Row]) -> dict[str, float]:
    """Medians a query of what the method took."""
    return {name: float(np.median([row[name] for row in rows])) for name in COSTS}
