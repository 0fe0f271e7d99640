"""One reranking method over a file of queries, against its first stage and a sentence encoder.

queries, candidates ─► method ─► RANKINGS.jsonl        one line per query, flushed; runs are resumed
                    ─► whole-document cosine ─► peer   each document is encoded once
both ─► alone and fused with the first stage ─► nDCG@10, recall@10, paired intervals
"""

from __future__ import annotations

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
from tamis.compressors.features.rank_fusion import FusionMode, fuse_ranks
from tamis.compressors.method import ReadingScorer
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.options import option_kinds
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadInput
from tamis.probes.model.encoder import CachedEncoder
from tamis.probes.text import Passage, Unit
from tamis.service.files.row_values import replace_non_finite
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.qrels import JudgedQuery
from tamis_lab.datasets.ranking_metrics import ndcg, recall
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import file_sha256
from tamis_lab.datasets.result_file import ResultFile, ResultRow
from tamis_lab.datasets.statistics import paired_bootstrap

CONFIDENCE = 0.9
RANK_CUTOFF = 10
COSTS = ("ms", "tokens_read", "windows")
"""The fields of a line with the costs of the method."""


@dataclass(frozen=True, slots=True)
class RerankSettings:
    """Everything that a file of rankings depends on, beside queries and corpus.

    Attributes:
        depth: how many of the first stage's documents are reranked; the others stay below them.
        fuse: how the method is fused with the first stage; None for not at all.
        first: the name of the first stage. options: of the method.
    """

    method: str
    depth: int
    fuse: FusionMode | None
    first: str
    proxy: str
    options: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(settings: RerankSettings, queries: Path, corpus: Path) -> dict[str, Any]:
    """What must be equal for a run to be resumed: settings, files, version of tamis."""
    files = {
        f"{name}_sha256": file_sha256(path)
        for name, path in (("queries", queries), ("corpus", corpus))
    }
    return asdict(settings) | files | {"tamis": version("tamis")}


def storing_reranker(name: str, proxy: str, options: Mapping[str, Any], folder: Path) -> Reranker:
    """A reranker that keeps its readings on disk: a run with another probe then takes seconds.

    Raises:
        BadInput: the method does not read and score in two steps, so there are no readings.
    """
    registry.check_options(name, options)
    if "use_encoder" in option_kinds(registry.method_class(name)):
        options = {"use_encoder": False, **options}  # it has no part in a ranking
    method: Any = registry.build_method(name, proxy=proxy, **options)
    scorer: Any = method.parts["attention"] if isinstance(method, Fusion) else method
    if not isinstance(scorer, ReadingScorer):
        raise BadInput(f"{name} keeps no readings; leave --cache out")
    stored: Any = scorer
    stored.read = partial(_stored_reading, CaseReadings(folder, store_key(scorer)), scorer.read)
    return Reranker(method, name)


def _stored_reading(
    readings: CaseReadings,
    read: Any,
    question: str,
    passages: Sequence[Passage],
    units: Sequence[Unit],
) -> Reading:
    return readings.get_or_read(question, passages, units, read)


def rerank_queries(
    queries: Sequence[JudgedQuery],
    corpus: Mapping[str, Passage],
    reranker: Reranker,
    settings: RerankSettings,
    results: ResultFile | None,
) -> Iterator[ResultRow]:
    """Reranks the queries that have no line yet; each line is written before it is yielded."""
    for query in queries:
        if results is None or query.qid not in results.done_keys:
            row = result_row(query, corpus, reranker, settings)
            if results is not None:
                results.append(row)
            yield row


def result_row(
    query: JudgedQuery, corpus: Mapping[str, Passage], reranker: Reranker, settings: RerankSettings
) -> ResultRow:
    """One line: the whole ranking, and the method's own score of each document it read."""
    reranked = query.candidates[: settings.depth]
    clock = time.perf_counter()
    result = reranker.rerank(query.text, [corpus[docid] for docid, _ in reranked])
    stages_ms = sum(ms for name, ms in result.timings_ms.items() if name not in ("load", "total"))
    # the timings of a kept reading are those of the run that read
    ms = max(stages_ms, (time.perf_counter() - clock) * 1e3)
    own = [0.0] * len(reranked)
    for ranked in result.results:
        own[ranked.index] = ranked.own
    return {
        "qid": query.qid,
        "ranking": rank_candidates(query, own, settings, result.calibrated),
        "own": replace_non_finite(own),
        "calibrated": result.calibrated,
        "tokens_read": result.tokens_read,
        "windows": result.windows,
        "ms": round(ms, 3),
    }


def rank_candidates(
    query: JudgedQuery, own: Sequence[float], settings: RerankSettings, calibrated: bool
) -> list[str]:
    """All candidates: the reranked ones, then the others in the order of the first stage.

    Args:
        own: the method's own scores of the first candidates. calibrated: whether they are.
    """
    ids = [docid for docid, _ in query.candidates]
    scores: Sequence[float] = own
    if settings.fuse is not None and own:
        first = [score for _, score in query.candidates[: len(own)]]
        scores = fuse_ranks(own, first, settings.fuse, settings.method, calibrated)
    order = sorted(range(len(own)), key=lambda i: (-scores[i], i))
    return [ids[i] for i in order] + ids[len(own) :]


def load_rankings(path: Path, queries: Sequence[JudgedQuery], depth: int) -> dict[str, ResultRow]:
    """The lines of a file of rankings, by query.

    Raises:
        BadInput: a line is not a ranking, or has another number of scores than reranked candidates.
    """
    counts = {query.qid: min(depth, len(query.candidates)) for query in queries}
    rows = {}
    for number, row in read_json_lines(path):
        missing = sorted({"qid", "own", "calibrated", *COSTS} - set(row))
        own = row.get("own")
        if missing or not isinstance(own, list) or len(own) != counts.get(row["qid"], len(own)):
            raise BadInput(
                f"{path}, line {number} is no line of this run"
                f"{f' (it has no {missing})' if missing else ''}; name another --out, or delete it"
            )
        rows[row["qid"]] = row
    return rows


class DocumentCosine:
    """The peer: an encoder's cosine of the query and the whole document, title and text."""

    def __init__(self, encoder: Any, corpus: Mapping[str, Passage], depth: int) -> None:
        self.encoder, self.corpus, self.depth = CachedEncoder(encoder), corpus, depth

    def __call__(self, query: JudgedQuery) -> list[float]:
        """One cosine for each candidate that is reranked."""
        passages = [self.corpus[docid] for docid, _ in query.candidates[: self.depth]]
        texts = [f"{p.title}\n{p.text}" if p.title else p.text for p in passages]
        vectors = self.encoder.encode([query.text, *texts])
        return [float(x) for x in vectors[1:] @ vectors[0]]


def system_rankings(
    queries: Sequence[JudgedQuery],
    rows: Mapping[str, ResultRow],
    settings: RerankSettings,
    peer: Callable[[JudgedQuery], list[float]] | None,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, list[list[str]]]:
    """Every system's ranking of each query: first stage, peer, method, and both fused."""
    alone, fused = _with_fuse(settings, None), _with_fuse(settings, settings.fuse)
    by_system: dict[str, list[list[str]]] = {}
    for done, query in enumerate(queries, 1):
        row = rows[query.qid]
        own, calibrated = _own_scores(row), row["calibrated"]
        rankings = {settings.first: [docid for docid, _ in query.candidates]}
        if peer is not None:
            cosines = peer(query)
            rankings["minilm"] = rank_candidates(query, cosines, alone, False)
            rankings |= _fused_ranking("minilm", query, cosines, fused, False)
        rankings[settings.method] = rank_candidates(query, own, alone, calibrated)
        rankings |= _fused_ranking(settings.method, query, own, fused, calibrated)
        for name, ranking in rankings.items():
            by_system.setdefault(name, []).append(ranking)
        report(done)
    return by_system


def _own_scores(row: ResultRow) -> list[float]:
    """The scores in a line; a document that the method did not rank has none and comes last."""
    return [-math.inf if score is None else score for score in row["own"]]


def _with_fuse(settings: RerankSettings, fuse: FusionMode | None) -> RerankSettings:
    return RerankSettings(settings.method, settings.depth, fuse, settings.first, settings.proxy)


def _fused_ranking(
    name: str, query: JudgedQuery, own: Sequence[float], settings: RerankSettings, calibrated: bool
) -> dict[str, list[str]]:
    if settings.fuse is None:
        return {}
    named = RerankSettings(name, settings.depth, settings.fuse, settings.first, settings.proxy)
    return {f"{name}+{settings.first}": rank_candidates(query, own, named, calibrated)}


def ranking_figures(
    queries: Sequence[JudgedQuery],
    by_system: Mapping[str, Sequence[Sequence[str]]],
    settings: RerankSettings,
    seed: int = 0,
) -> dict[str, Any]:
    """nDCG and recall of every system, and the lead of the method, alone and fused, over others.

    Differences are paired over queries; intervals hold 90 % of the bootstrap's draws.
    """

    def measure(metric: Callable[..., float], rankings: Sequence[Sequence[str]]) -> Any:
        pairs = zip(rankings, queries, strict=True)
        return np.array([metric(ranking, query.qrels, RANK_CUTOFF) for ranking, query in pairs])

    ndcgs = {name: measure(ndcg, rankings) for name, rankings in by_system.items()}
    recalls = {name: measure(recall, rankings) for name, rankings in by_system.items()}
    mine = [n for n in (settings.method, f"{settings.method}+{settings.first}") if n in ndcgs]
    return {
        name: {
            f"ndcg@{RANK_CUTOFF}": float(values.mean()),
            f"recall@{RANK_CUTOFF}": float(recalls[name].mean()),
            "ahead": {own: _lead(ndcgs[own], values, seed) for own in mine if name not in mine},
        }
        for name, values in ndcgs.items()
    }


def _lead(own: Any, other: Any, seed: int) -> dict[str, float]:
    ones = np.ones(len(own))
    difference, low, high = paired_bootstrap(own, other, ones, seed=seed, confidence=CONFIDENCE)
    return {"difference": difference, "low": low, "high": high}


def median_costs(rows: Sequence[ResultRow]) -> dict[str, float]:
    """The median of each cost of the method over queries."""
    return {name: float(np.median([row[name] for row in rows])) for name in COSTS}
