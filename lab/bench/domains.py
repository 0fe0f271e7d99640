"""`tamis lab bench domains`: every domain judged by a probe that was fitted on all the others.

Fits without a domain, and the scores that they give to its questions.

    cases ─┬─ first step without {d}, and without {d, e} for every other e: each fitted once
           └─ second step without {d}: a question of e has the scores of the fit without {d, e}

So the second step learns how far a first step can be trusted that never saw the like, and is judged
on a domain that neither step has seen. Adapters of a LoRA-trained proxy have seen some of the sets.

What each way of scoring keeps of every domain's evidence, and how far it is from the best free.

Units are taken by score into a share of the tokens, as the proxy counts them; a gold sentence is
kept when 90 % of its visible characters are. A domain's figure is the mean over its sets.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.features.scales import z_scores
from tamis.compressors.features.second_step import ENCODER
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.linear import LinearProbe
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.evidence import count_kept_gold
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.domains import find_domain_files
from tamis_lab.datasets.reading_store import cached_reader
from tamis_lab.datasets.record_files import NoGold, RecordFile, ReportProgress, name_distinctly
from tamis_lab.datasets.records import gold_spans, request_units
from tamis_lab.datasets.score_sources import installed_encoder_source
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart, marks_by_row
from tamis_lab.train.fit import fit_listwise, fit_logistic
from tamis_lab.train.probe.answerability import UNFINISHED_CARD
from tamis_lab.train.probe.figures import fill_token_share, scores_of
from tamis_lab.train.probe.fitting import (
    L2,
    MIN_DOMAINS,
    SINGLE_L2,
    first_questions,
    fit_on_hard_units,
    fit_second_step,
    isolated_questions,
)
from tamis_lab.train.probe.labelled_readings import LabelledReading, RecordReader

EPILOG = """
**Example**

`tamis lab bench domains --data ../shared/data/train --data manuals/ --judge ../shared/data/dev`

The domain of a set is known by its name; a set that no domain names is a domain of its own. Regret
is how far a method is below the best free one (BM25, MiniLM, their sum) on a domain; misses are the
gold sentences lost, in parts of the best free method's.
"""


@report_errors()
def domains(
    data: Annotated[
        list[Path],
        typer.Option("--data", help="Folder with labelled sets to fit on and judge; repeatable."),
    ],
    judge: Annotated[
        list[Path] | None,
        typer.Option("--judge", help="Folder with sets that are only judged; repeatable."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions a set to fit on and judge.")] = 40,
    judge_limit: Annotated[int, typer.Option(min=1, help="Questions a set to judge.")] = 120,
    budgets: shared.Budgets = "0.1,0.2",
    layers: shared.Layers = None,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Leave one domain out: fit a probe on all others, and judge it on the one left out.

    Readings are kept, so that another fit takes minutes. Without the sentence encoder the table has
    no columns for it; get it with `tamis models pull minilm-l6`.
    """
    study, shares = Study(as_json, plot), shared.parse_budgets(budgets)
    reader = registry.load_proxy(proxy, layers)
    depth = layers or max(1, reader.card.layers * 2 // 3)
    sides = Sides(data, limit, judge or (), judge_limit)
    with study.bars():
        cases, judged = read_domains(
            reader, depth, sides, shared.readings_folder(cache), study.report
        )
        figures = domain_figures(cases, [*cases, *judged], shares, study.report)
    facts = {"limit": limit, "judge_limit": judge_limit, "proxy": proxy, "layers": depth}
    study.publish(
        facts | {"shares": figures},
        lambda: [domain_table(share, of) for share, of in figures.items()],
        lambda: [domain_chart(share, of) for share, of in figures.items()],
    )


def domain_chart(share: str, of: Mapping[str, Any]) -> Chart:
    """A row a domain, a mark a method."""
    rows = list(of["domains"])
    kept = {name: [of["domains"][row]["kept"][name] for row in rows] for name in of["mean_kept"]}
    label = f"gold sentences kept at {float(share):.0%} of the tokens"
    return Chart("", marks_by_row(rows, kept), label, rows=rows, shares="x")


def domain_table(share: str, figures: Mapping[str, Any]) -> Table:
    """Domains and their sets, one row each; methods are columns, the best of each row is green."""
    methods = list(figures["mean_kept"])

    def shown(values: Mapping[str, float | None], form: str = ".3f") -> list[str]:
        return ["" if values.get(m) is None else format(values[m], form) for m in methods]

    def kept(values: Mapping[str, float]) -> list[str]:
        best = max(values.values())
        return [
            f"[green]{values[m]:.3f}[/]" if values[m] == best else f"{values[m]:.3f}"
            for m in methods
        ]

    rows: list[list[str]] = []
    for domain, of in figures["domains"].items():
        questions = sum(row["questions"] for row in of["sets"].values())
        rows.append([f"[bold]{domain}[/]", str(questions), *kept(of["kept"])])
        if len(of["sets"]) > 1:
            rows += [
                [f"  {name}", str(row["questions"]), *kept(row["kept"])]
                for name, row in of["sets"].items()
            ]
        rows.append(["  [dim]regret[/]", "", *shown(of["regret"])])
    rows.append(["[bold]mean over sets[/]", "", *kept(figures["mean_kept"])])
    rows.append(["largest regret", "", *shown(figures["largest_regret"])])
    rows.append(["misses / best free's", "", *shown(figures["misses_of_best_free"], ".2f")])
    title = f"Gold sentences kept at {float(share):.0%} of the tokens, domain left out"
    return table(title, ("domain, set", "questions", *methods), rows)


@dataclass(frozen=True, slots=True)
class Sides:
    """Folders of sets to fit on and judge, folders of sets to judge alone, and how much of each.

    Attributes:
        limit, judge_limit: the most questions of a set.
    """

    fitted: Sequence[Path]
    limit: int
    judged: Sequence[Path] = ()
    judge_limit: int = 120


def read_domains(
    proxy: Proxy,
    layers: int,
    sides: Sides,
    cache: Path,
    report: ReportProgress,
) -> tuple[list[LabelledReading], list[LabelledReading]]:
    """The readings of the sets in folders to fit on, and of those in folders to judge alone.

    Files without a labelled question, and files to judge of a domain that nothing is fitted on, are
    passed over. Cosines are read where the encoder is installed.

    Args:
        cache: where readings are kept.

    Raises:
        BadInput: a folder has no labelled file.
    """
    method = QuestionRows.for_fit(cached_reader(proxy), layers)
    reader = RecordReader(method, cache, cosines=installed_encoder_source(cache))
    fitted = find_domain_files(list(sides.fitted))
    judged = find_domain_files(list(sides.judged)) if sides.judged else {}
    files = [RecordFile(path, sides.limit) for paths in fitted.values() for path in paths]
    others = [
        RecordFile(path, sides.judge_limit) for domain in fitted for path in judged.get(domain, ())
    ]
    named = name_distinctly([*files, *others])
    found = [_read(reader, file, report) for file in named]
    return (
        [case for cases in found[: len(files)] for case in cases],
        [case for cases in found[len(files) :] for case in cases],
    )


def _read(reader: RecordReader, file: RecordFile, report: ReportProgress) -> list[LabelledReading]:
    try:
        return list(reader.read_answerable([file], report))
    except NoGold:
        return []


Weights = tuple[Tensor, float]


@dataclass(slots=True)
class LeftOutFits:
    """All fits of one set of cases; those of the first step are shared by several judges."""

    cases: Sequence[LabelledReading]
    _first: dict[frozenset[str], tuple[Weights, Weights, Weights]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.domains) < MIN_DOMAINS:
            raise BadInput(
                f"there are {len(self.domains)} domains ({', '.join(self.domains)}); leaving one "
                f"out means something from {MIN_DOMAINS} on: give more sets"
            )

    @property
    def domains(self) -> list[str]:
        """The domains, sorted."""
        return sorted({case.domain for case in self.cases})

    def probe_without(self, domain: str) -> LinearProbe:
        """A probe fitted on all other domains, by all steps."""
        others = [case for case in self.cases if case.domain != domain]
        first, single = [], []
        for case in others:
            steps = self._first_steps(frozenset({domain, case.domain}))
            first.append(case.first @ steps[0][0] + steps[0][1])
            single.append(case.first @ steps[1][0] + steps[1][1])
        steps = self._first_steps(frozenset({domain}))
        weights = {"first": steps[0][0], "single": steps[1][0], "alone": steps[2][0]}
        weights |= fit_second_step(others, first, single)
        return LinearProbe(weights, UNFINISHED_CARD)

    def _first_steps(self, without: frozenset[str]) -> tuple[Weights, Weights, Weights]:
        """Both fits of the first step and attention alone, without some domains."""
        if without not in self._first:
            used = [case for case in self.cases if case.domain not in without]
            first, alone = first_questions(used), isolated_questions(used)
            self._first[without] = (
                fit_on_hard_units(used, first, fit_listwise, L2, True),
                fit_on_hard_units(used, first, fit_logistic, SINGLE_L2, True),
                fit_on_hard_units(used, alone, fit_logistic, SINGLE_L2, True),
            )
        return self._first[without]


def method_scores(probe: LinearProbe, case: LabelledReading) -> dict[str, Tensor]:
    """What each way of scoring gives to the units of a case, by its name in the table."""
    found = {
        "without encoder": scores_of(probe, case),
        "attention alone": case.isolated @ probe.weight("alone", (case.isolated.shape[1],)),
    }
    if case.cosines is None or f"{ENCODER}levels" not in probe.weights:
        return {"default": found["without encoder"], **found}
    return {"default": scores_of(probe, case, with_cosines=True), **found}


FREE = ("bm25", "minilm", "bm25+minilm")
"""Methods that need no proxy and no fit; those with an encoder are there where it is installed."""
_BM25 = WORD_FEATURES.index("bm25") - len(WORD_FEATURES)


def free_scores(case: LabelledReading) -> dict[str, Tensor]:
    """The scores of the free methods, by name."""
    bm25 = case.first[:, _BM25]
    if case.cosines is None:
        return {"bm25": bm25}
    both = z_scores(bm25.expm1().tolist(), 1e-9) + z_scores(case.cosines.tolist(), 1e-9)
    return {"bm25": bm25, "minilm": case.cosines, "bm25+minilm": torch.from_numpy(both)}


def kept_gold(case: LabelledReading, scores: Tensor, share: float) -> tuple[int, int]:
    """How many gold sentences of a case are kept at a share of its tokens, and how many it has."""
    chosen = fill_token_share(scores, case.tokens, share)
    kept = count_kept_gold(case.record, request_units(case.record), chosen)
    return kept, len(gold_spans(case.record))


def domain_figures(
    cases: Sequence[LabelledReading],
    judged: Sequence[LabelledReading],
    shares: Sequence[float],
    report: ReportProgress,
) -> dict[str, Any]:
    """The table as JSON: by share of the tokens, by domain, by set, the gold kept by each method.

    Args:
        cases: to fit on, each domain's judge leaving that domain out.
        judged: to judge; usually the same and the development sets.
    """
    fits = LeftOutFits(cases)
    domains = [name for name in fits.domains if any(case.domain == name for case in judged)]
    counts: dict[str, dict[str, dict[str, dict[float, list[int]]]]] = {}
    for done, domain in enumerate(domains, 1):
        probe = fits.probe_without(domain)
        sets = counts.setdefault(domain, {})
        for case in judged:
            if case.domain == domain:
                _add_case(sets.setdefault(case.source, {}), probe, case, shares)
        report("domains", done, len(domains))
    return {f"{share:g}": _share_figures(counts, share) for share in shares}


def _add_case(
    methods: dict[str, dict[float, list[int]]],
    probe: Any,
    case: LabelledReading,
    shares: Sequence[float],
) -> None:
    for name, scores in (method_scores(probe, case) | free_scores(case)).items():
        for share in shares:
            total = methods.setdefault(name, {}).setdefault(share, [0, 0, 0])
            kept, gold = kept_gold(case, scores, share)
            total[0], total[1], total[2] = total[0] + kept, total[1] + gold, total[2] + 1


def _share_figures(counts: Mapping[str, Any], share: float) -> dict[str, Any]:
    """The figures at one share: `domains`, and over all sets the means, regrets and misses."""
    domains: dict[str, Any] = {}
    for domain, sets in counts.items():
        rows = {
            name: {"questions": next(iter(methods.values()))[share][2]}
            | {"kept": {m: round(c[share][0] / c[share][1], 4) for m, c in methods.items()}}
            for name, methods in sets.items()
        }
        kept = _mean_kept([row["kept"] for row in rows.values()])
        domains[domain] = {"sets": rows, "kept": kept, "regret": _regrets(kept)}
    kept = _mean_kept([row["kept"] for d in domains.values() for row in d["sets"].values()])
    free = max(kept[name] for name in FREE if name in kept)
    return {
        "domains": domains,
        "mean_kept": kept,
        "largest_regret": {
            name: max(domain["regret"][name] for domain in domains.values())
            for name in kept
            if name not in FREE
        },
        "misses_of_best_free": {
            name: round((1 - value) / (1 - free), 4) if free < 1 else None
            for name, value in kept.items()
        },
    }


def _mean_kept(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: round(statistics.fmean(row[name] for row in rows), 4) for name in rows[0]}


def _regrets(kept: Mapping[str, float]) -> dict[str, float]:
    """How far each method is below the best free one; 0 where it is not."""
    best = max(kept[name] for name in FREE if name in kept)
    return {name: round(max(0.0, best - v), 4) for name, v in kept.items() if name not in FREE}
