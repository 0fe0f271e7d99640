"""`bench ranking`: which reranker ships, by all ranking sets in one table.

    set ─ first stage ─► candidates ─ method ─► its own scores     a line a list; runs are resumed
    own scores ─► alone, and fused with the first stage as `tamis.rerank` fuses them
               ─► nDCG@10, MRR ─► ahead of the best free ranking, regret, means over sets

nDCG has the gains 2^grade - 1; documents without a grade gain nothing, and the ideal order is of
all judged documents, found or not. A ranking is free if it needs no proxy: the first stage as it
came, BM25 and MiniLM over whole documents, the sum of both, EmbeddingGemma, and a published
cross-encoder.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors.features.rank_fusion import fuse_ranks
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.registry import CROSS_ENCODERS, DEFAULT, DEFAULT_ENCODER
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.probes.hub.zoo import locate
from tamis.service.api.rerank import reranker
from tamis.service.cli.display.output import print_note, report_errors
from tamis.service.files.streams import read_json_lines
from tamis.text.types import Passage
from tamis_lab.bench.panel import parse_method_spec
from tamis_lab.bench.rerank import (
    RANK_CUTOFF,
    RerankSettings,
    own_scores,
    rank_candidates,
    result_row,
)
from tamis_lab.bench.study import Study, estimate, table, timed
from tamis_lab.datasets.domains import domain_of_name
from tamis_lab.datasets.qrels import JudgedQuery, load_corpus, load_queries
from tamis_lab.datasets.ranking_metrics import exponential_gains, ndcg, reciprocal_rank
from tamis_lab.datasets.record_files import (
    RecordFile,
    answerable_records,
    file_sha256,
    sample_questions,
)
from tamis_lab.datasets.records import record_id
from tamis_lab.datasets.result_file import ResultRow
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart, marks_by_row

DEFAULT_FOLDERS = tuple(
    Path("../shared/data") / name for name in ("rerank_dev", "rerank_train", "rerank")
)
FIRST_STAGE, LEXICAL, EMBEDDING = "first stage", "lexical", "embedding"
FUSED = " + first"
"""What the name of a ranker ends with where it is fused with the first stage."""
BOTH = f"{LEXICAL}+{EMBEDDING}"
LARGE_ENCODER = "embeddinggemma-300m"
LARGE = f"late_interaction:encoders={LARGE_ENCODER}"
PUBLISHED = f"cross:model={CROSS_ENCODERS[1]}"
FREE = (FIRST_STAGE, LEXICAL, EMBEDDING, BOTH, LARGE, PUBLISHED)
"""Rankings without a proxy; those with an encoder are there where it is installed."""
_FREE_ENCODERS = {
    DEFAULT_ENCODER: EMBEDDING,
    LARGE_ENCODER: LARGE,
    CROSS_ENCODERS[1]: PUBLISHED,
}
NDCG = f"ndcg@{RANK_CUTOFF}"
ENDINGS = (".jsonl", ".jsonl.gz")
EPILOG = """
**Examples**

`tamis lab bench ranking --data rankings/ --results rows.jsonl`

`tamis lab bench ranking --data rankings/ --sets dbpedia,mediqa:100 --method icr --depth 30`

`tamis lab bench ranking --data rankings/ --records dev/hotpotqa.jsonl.gz --questions 40`

A set is two files of a folder: `NAME_queries.jsonl`, lines of `{"qid", "query", "qrels": {docid:
grade}, "candidates": {"bm25": [[docid, score], ...]}}`, and `NAME_corpus.jsonl` or
`NAME_passages.jsonl`, lines of `{"docid", "title", "text"}`; both may be gzipped. Every ranker
stands there alone and fused with the first stage ("+ first") as `tamis.rerank` does it. *Regret* is
how far its nDCG@10 is below that of the best free ranking of a set: the first stage, BM25
(`lexical`), MiniLM (`embedding`), the sum of the two, or, where it is installed, EmbeddingGemma. A
ranker that ships should have none anywhere, rather than the best mean.
"""


@report_errors()
def ranking(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            help="Folder with ranking sets; repeatable. Default: rerank_dev, rerank_train and "
            "rerank of ../shared/data.",
            show_default=False,
        ),
    ] = None,
    sets: Annotated[
        str | None,
        typer.Option(help="Names with commas, maybe as NAME:QUESTIONS; by default all there are."),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            help="File of labelled records, whose documents are ranked too; repeatable.",
            show_default=False,
        ),
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option(
            "--method",
            help=f"As NAME or NAME:option=value; repeatable. Default: {DEFAULT} and fusion.",
            show_default=False,
        ),
    ] = None,
    questions: Annotated[
        int, typer.Option(min=1, help="The most of a set, drawn by hash: always the same.")
    ] = 60,
    depth: Annotated[int, typer.Option(min=1, help="Rerank the first N candidates.")] = 100,
    first: Annotated[
        str, typer.Option(help="Which candidates, where a set has several lists.")
    ] = "bm25",
    results: shared.Results = None,
    proxy: shared.ProxyName = shared.SHARP,
    seed: shared.Seed = 0,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Compare rerankers over many sets: nDCG@10, MRR, time, and regret beside the best free one.

    Without a sentence encoder the table has no rows for it; get them with `tamis models pull
    minilm-l6` and `tamis models pull embeddinggemma-300m`. With --results, sets, methods and
    questions may be added to a run later.
    """
    study = Study(as_json, plot, results)
    files = choose_sets(find_ranking_sets(data), sets, questions) if data or not records else []
    loaders = [partial(load_ranking_set, chosen, first, depth) for chosen in files]
    loaders += [partial(load_record_set, path, questions) for path in records or ()]
    specs = dict.fromkeys([*_free_methods(), *(method or (DEFAULT, "fusion"))])
    rankers = {
        spec: (reranker(name, proxy, **options), RerankSettings(name, depth, None, "", proxy))
        for spec in specs
        for name, options in [parse_method_spec(spec)]
    }
    study.keep_rows({"depth": depth, "first": first, "proxy": proxy})
    found: dict[str, Any] = {}
    with study.bars():
        for load in loaders:
            of = load()
            rows = {spec: score_lists(of, spec, *rankers[spec], study) for spec in rankers}
            found[of.name] = set_figures(of, rows, depth, seed)
    facts = {"depth": depth, "proxy": proxy, "sets": found, "overall": overall_figures(found)}
    study.publish(facts, lambda: _tables(facts), lambda: _charts(found))
    if results:
        print_note(study.summary())


def _free_methods() -> list[str]:
    """The methods that need no proxy, as far as their models are here."""
    found = [LEXICAL]
    for name, spec in _FREE_ENCODERS.items():
        try:
            locate(name)
            found.append(spec)
        except ProxyMissing as error:
            print_note(f"{error}; {spec} is left out")
    return found


def _tables(facts: Mapping[str, Any]) -> Iterator[Table]:
    """A table a set, then the one that decides: rankers by sets, means and regrets."""
    sets, overall = facts["sets"], facts["overall"]
    for name, of in sets.items():
        yield table(
            f"{name} ({of['domain']}): {of['questions']} questions, the first {facts['depth']} of "
            f"{of['first_stage']} reranked; MRR: grade {of['relevant_from']:g} and above",
            ("ranker", f"nDCG@{RANK_CUTOFF}", "MRR", f"ahead of {of['best_free']}", "ms a list"),
            (
                [
                    Text(ranker),
                    f"{row[NDCG]:.3f}",
                    f"{row['mrr']:.3f}",
                    estimate(row["ahead"], form="+.3f", scale=1) if row["ahead"] else "",
                    _ms(row),
                ]
                for ranker, row in of["rankers"].items()
            ),
        )
    best = {name: max(row[NDCG] for row in of["rankers"].values()) for name, of in sets.items()}
    yield table(
        f"nDCG@{RANK_CUTOFF} over all sets; regret: below the best free ranking of a set",
        ("ranker", *sets, "mean", "MRR", "mean regret", "largest", "ms a list"),
        (
            [
                Text(ranker),
                *(
                    Text(f"{value:.3f}", "green" if value == best[name] else "")
                    for name, of in sets.items()
                    for value in [of["rankers"][ranker][NDCG]]
                ),
                f"{row[NDCG]:.3f}",
                f"{row['mrr']:.3f}",
                f"{row['mean_regret']:.3f}",
                f"{row['largest_regret']:.3f} {row['largest_regret_in'] or ''}",
                _ms(row),
            ]
            for ranker, row in overall.items()
        ),
    )


def _ms(row: Mapping[str, Any]) -> str:
    return "" if row["cpu_ms"] is None else f"{row['cpu_ms']:,.0f}"


def _charts(sets: Mapping[str, Any]) -> list[Chart]:
    """A row a set, a mark a ranker; one panel alone, one fused with the first stage."""
    rows, rankers = list(sets), next(iter(sets.values()))["rankers"]

    def chart(title: str, end: str) -> Chart:
        names = {ranker.removesuffix(FUSED): None for ranker in rankers}
        shown = {
            name: [
                (of["rankers"].get(name + end) or of["rankers"][name])[NDCG] for of in sets.values()
            ]
            for name in names
        }
        return Chart(title, marks_by_row(rows, shown), f"nDCG@{RANK_CUTOFF}", rows=rows, shares="x")

    return [chart("alone", ""), chart("fused with the first stage", FUSED)]


@dataclass(frozen=True, slots=True)
class SetFiles:
    """The two files of a set, and how many of its questions are asked."""

    name: str
    queries: Path
    corpus: Path
    questions: int


@dataclass(frozen=True, slots=True)
class RankingSet:
    """The questions that are asked of a set, with the documents of their candidates.

    Attributes:
        first: the name of the first stage. relevant_from: the grade that a document needs to count
            for MRR: 2 where grades go up to 3 and more, else 1, as TREC counts them.
        key: the name with a digest of both files, which identifies rows.
    """

    name: str
    key: str
    first: str
    queries: Sequence[JudgedQuery]
    documents: Mapping[str, Passage]
    relevant_from: float


def find_ranking_sets(folders: Sequence[Path] | None) -> dict[str, tuple[Path, Path]]:
    """Queries and documents of every set in some folders, by the set's name.

    Args:
        folders: None for those of the default that exist.

    Raises:
        BadInput: there is no set, a set has no documents, or two have the same name.
    """
    found: dict[str, tuple[Path, Path]] = {}
    for folder in folders or DEFAULT_FOLDERS:
        for queries in sorted(folder.glob("*_queries.jsonl*")):
            name, _, ending = queries.name.partition("_queries")
            if ending not in ENDINGS:
                continue
            names = [f"{name}_{kind}{end}" for kind in ("corpus", "passages") for end in ENDINGS]
            corpora = [path for path in map(folder.joinpath, names) if path.is_file()]
            if len(corpora) != 1:
                raise BadInput(
                    f"{queries} has {len(corpora)} files of documents beside it; give one of "
                    f"{', '.join(names)}"
                )
            if name in found:
                raise BadInput(f"{queries} and {found[name][0]} are both {name}; rename one")
            found[name] = queries, corpora[0]
    if not found:
        places = ", ".join(map(str, folders or DEFAULT_FOLDERS))
        raise BadInput(
            f"there is no NAME_queries.jsonl in {places}; give --data with a folder of ranking sets"
        )
    return found


def choose_sets(
    found: Mapping[str, tuple[Path, Path]], wanted: str | None, questions: int
) -> list[SetFiles]:
    """The sets that are asked for, each with its number of questions.

    Args:
        wanted: `NAME` or `NAME:QUESTIONS`, with commas; None for all.

    Raises:
        BadInput: there is no such set, or a number that is none.
    """
    chosen = []
    for word in list(found) if wanted is None else shared.parse_list(wanted, "sets"):
        name, sign, limit = word.partition(":")
        if name not in found:
            raise BadInput(f"there is no ranking set {name!r}; there are: {', '.join(found)}")
        asked = shared.parse_sizes(limit, f"the number of questions of {name}") if sign else []
        chosen.append(SetFiles(name, *found[name], asked[0] if asked else questions))
    return chosen


def load_ranking_set(files: SetFiles, first: str, depth: int) -> RankingSet:
    """Reads a set; of its questions those that `sample_questions` draws.

    Args:
        first: the first stage to rerank, where the set has it; else it has to be the only one.

    Raises:
        BadInput: a file cannot be used; the message names the row.
    """
    _, row = next(iter(read_json_lines(files.queries)), (0, {}))
    stages = row.get("candidates") or {}
    queries, stage = load_queries(files.queries, first if first in stages else None)
    top = max(grade for query in queries for grade in query.qrels.values())
    drawn = sample_questions([query.text for query in queries], files.questions)
    asked = [queries[i] for i in drawn]
    wanted = [docid for query in asked for docid, _ in query.candidates[:depth]]
    digest = file_sha256(files.queries)[:8] + file_sha256(files.corpus)[:8]
    return RankingSet(
        files.name,
        f"{files.name}-{digest}",
        stage,
        asked,
        load_corpus(files.corpus, wanted),
        2 if top >= 3 else 1,
    )


def load_record_set(path: Path, questions: int) -> RankingSet:
    """Labelled records as a set: each question's own documents, those with gold relevant.

    The first stage is the order of the record. A record of one document gets others beside it, as
    `answerable_records` draws them.

    Raises:
        BadInput: the file cannot be used.
    """
    queries, documents = list[JudgedQuery](), dict[str, Passage]()
    for record in answerable_records(RecordFile(path, questions)):
        ids = [f"{record_id(record)}:{place}" for place in range(len(record["docs"]))]
        pairs = list(zip(ids, record["docs"], strict=True))
        documents |= {i: Passage(doc["text"], i, doc.get("title") or None) for i, doc in pairs}
        relevant = {i: 1.0 for i, doc in pairs if doc["gold"]}
        order = tuple((i, -float(place)) for place, i in enumerate(ids))
        queries.append(JudgedQuery(record_id(record), record["question"], relevant, order))
    name = RecordFile(path).name
    key = f"{name}-{file_sha256(path)[:8]}"
    return RankingSet(name, key, "order", queries, documents, 1)


def score_lists(
    of: RankingSet, spec: str, method: Reranker, settings: RerankSettings, study: Study
) -> list[ResultRow]:
    """A method's own scores of every question's candidates, and what they cost, kept line by line.

    Raises:
        BadInput: a kept line has another number of scores than candidates.
    """

    def measure(query: JudgedQuery) -> ResultRow:
        row, _, cpu_ms = timed(partial(result_row, query, of.documents, method, settings))
        kept = {name: row[name] for name in ("own", "calibrated", "tokens_read", "ms")}
        return kept | {"cpu_ms": round(cpu_ms, 3)}

    cases = {f"{of.key}/{spec}/{query.qid}": query for query in of.queries}
    rows = study.rows(f"{spec} on {of.name}", cases, measure)
    for query, row in zip(of.queries, rows, strict=True):
        own, count = row.get("own"), min(settings.depth, len(query.candidates))
        if not isinstance(own, list) or len(own) != count or {"calibrated", "cpu_ms"} - set(row):
            raise BadInput(
                f"{study.results}: the line of {row['key']} is none of this run; name another "
                "--results, or delete it"
            )
    return rows


def set_rankings(
    of: RankingSet, rows: Mapping[str, Sequence[ResultRow]], depth: int
) -> dict[str, list[list[str]]]:
    """Every ranker's order of each question's candidates, alone and fused with the first stage.

    Args:
        rows: of each method, a row a question.
    """
    scored = {
        spec: [(own_scores(row), bool(row["calibrated"])) for row in listed]
        for spec, listed in rows.items()
    }
    if {LEXICAL, EMBEDDING} <= set(scored):
        pairs = zip(scored[LEXICAL], scored[EMBEDDING], strict=True)
        sums = [(fuse_ranks(own, other, 0.5, BOTH), False) for (own, _), (other, _) in pairs]
        scored = {LEXICAL: scored[LEXICAL], EMBEDDING: scored[EMBEDDING], BOTH: sums} | scored
    found = {FIRST_STAGE: [[docid for docid, _ in query.candidates] for query in of.queries]}
    for spec, lists in scored.items():
        alone = RerankSettings(spec.split(":")[0], depth, None, of.first, "")
        for name, settings in ((spec, alone), (f"{spec}{FUSED}", replace(alone, fuse="fitted"))):
            found[name] = [
                rank_candidates(query, own, settings, calibrated)
                for query, (own, calibrated) in zip(of.queries, lists, strict=True)
            ]
    return found


def set_figures(
    of: RankingSet, rows: Mapping[str, Sequence[ResultRow]], depth: int, seed: int = 0
) -> dict[str, Any]:
    """The figures of every ranker on one set; intervals are paired over its questions, 95 %.

    The best free ranking is the one with the best mean on these questions, so the distance to it
    is, if anything, too unfavourable.
    """
    rankings = set_rankings(of, rows, depth)
    gains = [exponential_gains(query.qrels) for query in of.queries]
    relevant = [
        {docid for docid, grade in query.qrels.items() if grade >= of.relevant_from}
        for query in of.queries
    ]
    ndcgs = {
        name: [ndcg(r, g, RANK_CUTOFF) for r, g in zip(listed, gains, strict=True)]
        for name, listed in rankings.items()
    }
    means = {name: statistics.fmean(values) for name, values in ndcgs.items()}
    best = max((name for name in FREE if name in means), key=means.__getitem__)
    ms = {spec: _median_ms(listed) for spec, listed in rows.items()}
    ms[BOTH] = {cost: sum(ms[m][cost] for m in (LEXICAL, EMBEDDING) if m in ms) for cost in COSTS}
    no_cost = dict.fromkeys(COSTS)
    return {
        "domain": domain_of_name(of.name) or of.name,
        "questions": len(of.queries),
        "first_stage": of.first,
        "relevant_from": of.relevant_from,
        "best_free": best,
        "rankers": {
            name: {
                NDCG: means[name],
                "mrr": statistics.fmean(map(reciprocal_rank, listed, relevant)),
                "regret": max(0.0, means[best] - means[name]),
                "ahead": None
                if name == best
                else paired_interval(ndcgs[name], ndcgs[best], np.ones(len(gains)), seed=seed),
                **ms.get(name.removesuffix(FUSED), no_cost),
            }
            for name, listed in rankings.items()
        },
    }


COSTS = ("ms", "cpu_ms")
"""The milliseconds a list: of the clock, and of the processor over all threads."""


def _median_ms(rows: Sequence[ResultRow]) -> dict[str, float]:
    return {cost: statistics.median(row[cost] for row in rows) for cost in COSTS}


def overall_figures(sets: Mapping[str, Any]) -> dict[str, Any]:
    """By ranker the means over sets, and its mean and largest regret with the set that has it."""
    found = {}
    for name in next(iter(sets.values()))["rankers"]:
        rows = {at: of["rankers"][name] for at, of in sets.items()}
        worst = max(rows, key=lambda at: rows[at]["regret"])
        found[name] = {
            **{key: _mean([row[key] for row in rows.values()]) for key in (NDCG, "mrr", *COSTS)},
            "mean_regret": _mean([row["regret"] for row in rows.values()]),
            "largest_regret": rows[worst]["regret"],
            "largest_regret_in": worst if rows[worst]["regret"] else None,
        }
    return found


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
