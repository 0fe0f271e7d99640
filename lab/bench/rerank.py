"""`bench rerank`: compares a reranking method with its first stage and a sentence encoder.

One reranking method over a file of queries, against its first stage and a sentence encoder.

queries, candidates ─► method ─► RANKINGS.jsonl        one line per query, flushed; runs are resumed
                    ─► whole-document cosine ─► peer   each document is encoded once
both ─► alone and fused with the first stage ─► nDCG@10, recall@10, paired intervals
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from tamis.compressors import registry
from tamis.compressors.features.rank_fusion import FusionMode, fuse_ranks
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.options import option_names
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.reading.windows import Reading
from tamis.compressors.registry import DEFAULT, DEFAULT_ENCODER
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.probes.hub.zoo import locate
from tamis.probes.model.encoder import CachedEncoder, Encoder
from tamis.service.api.rerank import reranker
from tamis.service.cli.display.output import report_errors
from tamis.service.cli.options.typer_options import parse_fuse, parse_options
from tamis.service.files.row_values import replace_non_finite
from tamis.text.types import Passage, Unit
from tamis_lab.bench.study import Study, ends, table
from tamis_lab.datasets.qrels import JudgedQuery, load_corpus, load_queries
from tamis_lab.datasets.ranking_metrics import ndcg, recall
from tamis_lab.datasets.reading_store import CaseReadings, ReadingScorer, store_key
from tamis_lab.datasets.record_files import file_sha256
from tamis_lab.datasets.result_file import ResultRow
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared

EPILOG = """
**Examples**

`tamis lab bench rerank queries.jsonl --corpus corpus.jsonl --depth 30 --results rankings.jsonl`

`tamis lab bench rerank queries.jsonl --corpus corpus.jsonl --method icr --fuse rrf --limit 50`

`tamis lab bench rerank queries.jsonl --corpus corpus.jsonl --method icr --option calibrate=false`

A query is a line `{"qid", "query", "qrels": {docid: grade}, "candidates": {"bm25": [[docid, score],
...]}}`, a document is a line `{"docid", "title", "text"}`. A line of the rankings is
`{"qid", "ranking": [docid, ...]}` and what it cost; a run that was cut short goes on.
"""


@report_errors()
def rerank(
    queries: Annotated[
        Path, typer.Argument(help="Queries with candidates, JSON Lines, optionally gzipped.")
    ],
    corpus: Annotated[
        Path, typer.Option("--corpus", help="The documents, JSON Lines, optionally gzipped.")
    ],
    method: Annotated[str, typer.Option(help="See `tamis methods`.")] = DEFAULT,
    depth: Annotated[int, typer.Option(min=1, help="Rerank the first N candidates.")] = 30,
    limit: shared.Limit = None,
    fuse: Annotated[
        str, typer.Option(help="fitted, rrf, the method's weight from 0 to 1, or none.")
    ] = "fitted",
    first: Annotated[
        str | None, typer.Option(help="Which candidates, where there are several lists.")
    ] = None,
    results: shared.Results = None,
    minilm: Annotated[
        bool, typer.Option(help="Also rank by whole-document cosine of minilm-l6.")
    ] = True,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Of the method; repeatable."),
    ] = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder to keep readings in: with another probe a run takes seconds."),
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """Rerank candidates: nDCG@10 and recall@10 beside the first stage and MiniLM."""
    study = Study(as_json, results=results)
    loaded, system = load_queries(queries, first)
    options = parse_options(option, "window_tokens=2048")
    joined = None if fuse == "none" else parse_fuse(fuse)
    settings = RerankSettings(method, depth, joined, system, proxy, options)
    loaded = loaded[:limit]
    documents = load_corpus(corpus, [d for query in loaded for d, _ in query.candidates[:depth]])
    if cache:
        built = storing_reranker(method, proxy, options, cache)
    else:
        built = reranker(method, proxy, **options)
    peer = DocumentCosine(_load_encoder(), documents, depth) if minilm else None
    study.keep_rows(fingerprint(settings, queries, corpus), "qid")
    with study.bars():
        rows = rerank_queries(loaded, documents, built, settings, study)
        found = system_rankings(
            loaded, rows, settings, peer, lambda done: study.report("judging", done, len(loaded))
        )
    report = {
        "queries": len(loaded),
        "first": system,
        "method": method,
        "depth": depth,
        "fuse": fuse,
        "systems": ranking_figures(loaded, found, settings, seed),
        "median": median_costs(list(rows.values())),
    }
    study.publish(report, lambda: _tables(report))


def _tables(report: Mapping[str, Any]) -> Iterator[Any]:
    """A row per system, with the lead of the method, alone and fused, over each other one."""
    systems, method, first = report["systems"], report["method"], report["first"]
    mine = [name for name in (method, f"{method}+{first}") if name in systems]
    yield table(
        f"{report['queries']} queries, the first {report['depth']} of {first} reranked; ahead: "
        "nDCG@10, 90 % interval over queries",
        ("system", "nDCG@10", "recall@10", *(f"{name} ahead" for name in mine)),
        (
            [
                Text(name, "bold" if name in mine else ""),
                f"{of['ndcg@10']:.4f}",
                f"{of['recall@10']:.4f}",
                *(
                    f"{lead['difference']:+.3f} {ends(lead, '.3f', 1)}" if lead else ""
                    for lead in map(of["ahead"].get, mine)
                ),
            ]
            for name, of in systems.items()
        ),
    )
    median = report["median"]
    yield (
        f"{method}, median a query: {median['ms']:,.0f} ms, {median['tokens_read']:,.0f} tokens "
        f"read in {median['windows']:.0f} windows."
    )


def fingerprint(settings: RerankSettings, queries: Path, corpus: Path) -> dict[str, Any]:
    """What must be equal for a run to be resumed: settings and files."""
    files = {"queries_sha256": file_sha256(queries), "corpus_sha256": file_sha256(corpus)}
    return asdict(settings) | files


def rerank_queries(
    queries: Sequence[JudgedQuery],
    corpus: Mapping[str, Passage],
    reranker: Reranker,
    settings: RerankSettings,
    study: Study,
) -> dict[str, ResultRow]:
    """The row of every query by its id; queries that have one are not ranked again.

    Raises:
        BadInput: a kept row is no ranking, or has another number of scores than candidates.
    """
    cases = {query.qid: query for query in queries}
    rows = study.rows(
        f"{settings.method} on {settings.first}",
        cases,
        lambda query: result_row(query, corpus, reranker, settings),
    )
    for query, row in zip(queries, rows, strict=True):
        missing = sorted({"own", "calibrated", *COSTS} - set(row))
        own, count = row.get("own"), min(settings.depth, len(query.candidates))
        if missing or not isinstance(own, list) or len(own) != count:
            lacks = f" (it has no {missing})" if missing else ""
            raise BadInput(
                f"{study.results}: the line of {query.qid} is none of this run{lacks}; name "
                "another --results, or delete it"
            )
    return dict(zip(cases, rows, strict=True))


def _lead(own: Any, other: Any, seed: int) -> dict[str, float]:
    return paired_interval(own, other, np.ones(len(own)), seed=seed, confidence=CONFIDENCE)


def _load_encoder() -> Any:
    """The sentence encoder to compare with.

    Raises:
        ProxyMissing: it is not installed; the message names both remedies.
    """

    try:
        return Encoder.from_folder(locate(DEFAULT_ENCODER))
    except ProxyMissing as error:
        raise ProxyMissing(f"{error}; or leave the peer out with --no-minilm") from error


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


def storing_reranker(name: str, proxy: str, options: Mapping[str, Any], folder: Path) -> Reranker:
    """A reranker that keeps its readings on disk: a run with another probe then takes seconds.

    Raises:
        BadInput: the method does not read and score in two steps, so there are no readings.
    """
    registry.check_options(name, options)
    if "use_encoder" in option_names(registry.method_class(name)):
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
        has_text = result.passages[ranked.index].text.strip()
        own[ranked.index] = ranked.own if has_text else -math.inf
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
    alone, fused = replace(settings, fuse=None), settings
    by_system: dict[str, list[list[str]]] = {}
    for done, query in enumerate(queries, 1):
        row = rows[query.qid]
        own, calibrated = own_scores(row), row["calibrated"]
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


def own_scores(row: ResultRow) -> list[float]:
    """The scores in a line; a document that the method did not rank has none and comes last."""
    return [-math.inf if score is None else score for score in row["own"]]


def _fused_ranking(
    name: str, query: JudgedQuery, own: Sequence[float], settings: RerankSettings, calibrated: bool
) -> dict[str, list[str]]:
    if settings.fuse is None:
        return {}
    named = replace(settings, method=name)
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


def median_costs(rows: Sequence[ResultRow]) -> dict[str, float]:
    """The median of each cost of the method over queries."""
    return {name: float(np.median([row[name] for row in rows])) for name in COSTS}
