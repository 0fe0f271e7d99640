"""`bench readings`: published readings of attention beside raw attention, in one table.

Probes on readings, by cross-validation: no question is judged by a fit that saw its article.

outer fold judged ─ the four others fit ─ their L2 chosen by one of them held out

The table of readings as JSON: three columns, intervals against raw attention in the same column.

    plain    nothing fitted: mean of all heads            heads    mean of the profile's best heads
    probe    a probe on this reading's features           added    a probe on raw's and this one's

Gold kept is at shares of the tokens; AUC is the mean over questions of a gold unit above another;
MRR is of the best-ranked gold passage, a passage ranking by its best unit; answerability is the
AUROC of a question's best score, over questions with and without an answer.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.method import best_unit_scores
from tamis.compressors.options import check_options_of
from tamis.compressors.reading.windows import WINDOW_TOKENS, Window, split_windows
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head, HeadProfile
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Unit
from tamis_lab.bench.evidence import count_kept_gold
from tamis_lab.bench.panel import parse_method_spec
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.reading_store import Entry, ReadingStore, StoreKey, case_identity
from tamis_lab.datasets.record_files import (
    FOLDS,
    RecordFile,
    ReportProgress,
    answerable_records,
    describe_file,
    fold_of,
    name_distinctly,
    unanswerable_records,
)
from tamis_lab.datasets.records import Record, gold_labels, gold_spans, passages_of, request_units
from tamis_lab.datasets.statistics import paired_bootstrap
from tamis_lab.methods.registry import READINGS
from tamis_lab.methods.window_attention.contract import Reading
from tamis_lab.methods.window_attention.passes import read_window
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart, marks_by_row
from tamis_lab.train.fit import LabelledFeatures, auc, fit_listwise, mean_listwise_loss
from tamis_lab.train.probe.figures import fill_token_share

DEFAULT_READINGS = (
    "raw,raw:less_empty=true,value_mass,value_mass:less_empty=true,traced,traced:less_empty=true,"
    "rollout,flow,act,act:less_empty=true,zero,sink_share,row_coverage,anchors,buckets,local_long,"
    "roles"
)
EPILOG = """
**Examples**

`tamis lab bench readings --data xquad_en.jsonl.gz:40 --data hotpotqa.jsonl.gz:40 --json`

`tamis lab bench readings --data mine.jsonl --readings value_mass,zero:gamma=0.2 --plot mine.png`

Columns: plain and heads, nothing fitted, the mean of all heads or of the contrast profile's
best eight; probe, fitted on this reading; added, fitted on raw attention and this reading.
Probes are judged on articles that they were not fitted on. Windows are read once for all readings
that leave the pass as it is; what is read is kept, so another run takes minutes. `tamis lab
kinds --kind reading` lists the readings with their papers; a new one is a file in
`lab/methods/readings/`.
"""


@report_errors()
def readings(
    data: shared.Data,
    answerable: Annotated[
        str | None,
        typer.Option(help="FILE:LIMIT with questions without an answer, judged by AUROC."),
    ] = None,
    names: Annotated[
        str,
        typer.Option("--readings", help="Names, with commas; options as zero:gamma=0.2."),
    ] = DEFAULT_READINGS,
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            help="Profiles of `tamis lab heads find`, judged by their best 8. Repeatable."
        ),
    ] = None,
    budgets: shared.Budgets = "0.1,0.2",
    layers: shared.Layers = None,
    timed: Annotated[
        int, typer.Option(min=0, help="Questions on which each reading is timed alone.")
    ] = 1,
    as_json: shared.Json = False,
    plot: shared.Plot = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
) -> None:
    """Compare readings of attention: gold kept, AUC, MRR, answerability and time."""
    study, shares = Study(as_json, plot), shared.parse_budgets(budgets)
    files = [shared.parse_record_file(name) for name in data]
    judged = shared.parse_record_file(answerable) if answerable else None
    reader = registry.load_proxy(proxy, layers)
    depth = layers or max(1, reader.card.layers * 2 // 3)
    with study.bars():
        figures = compare_readings(
            reader,
            shared.parse_list(names, "readings"),
            files,
            judged,
            shares,
            layers=depth,
            folder=shared.readings_folder(cache),
            timed=timed,
            seed=seed,
            report=study.report,
            profiles=heads or (),
        )
    study.publish(
        {"proxy": proxy, "layers": depth} | figures,
        lambda: _tables(figures, [f"{share:g}" for share in shares]),
        lambda: reading_charts(figures["sets"], f"{shares[-1]:g}"),
    )


def _tables(figures: Mapping[str, Any], shares: Sequence[str]) -> Iterator[Any]:
    """A table a set and share, one of answerability and costs, and the verdict."""
    for name, of in figures["sets"].items():
        for share in shares:
            title = (
                f"{name}: {of['questions']} questions; per cent of gold sentences kept at "
                f"{float(share):.0%} of the tokens, in brackets the 95 % interval of the lead over "
                "raw"
            )
            yield table(title, ("reading", *COLUMNS, "auc", "mrr"), _cells(of["rows"], share))
    judged, costs = figures["answerability"], figures["cost_ms"]
    title = "AUROC of answerability; processor ms per 1,000 tokens, the pass included"
    rows = []
    for name in judged or costs:
        columns = judged.get(name, {})
        cells = [f"{columns[c]:.3f}" if c in columns else "" for c in COLUMNS]
        rows.append([name, *cells, f"{costs[name]:.0f}" if name in costs else ""])
    yield table(title, ("reading", *COLUMNS, "ms"), rows)
    yield _verdict(figures["entering"])


def _cells(rows: Mapping[str, Any], share: str) -> Iterator[list[str]]:
    for name, columns in rows.items():
        last = columns.get("added") or columns["heads"]
        shown = [_cell(columns.get(column), share) for column in COLUMNS]
        yield [name, *shown, f"{last['auc']:.3f}", f"{last['mrr']:.3f}"]


def _cell(figures: Mapping[str, Any] | None, share: str) -> str:
    if figures is None:
        return ""
    _, low, high = figures["ahead_of_raw"][share]
    lead = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if low or high else ""
    return f"{100 * figures['kept'][share]:.1f}{lead}"


def reading_charts(sets: Mapping[str, Any], share: str) -> list[Chart]:
    """A chart a set, a row a reading, a mark a column; options without the folders of files."""
    found = []
    for name, of in sets.items():
        rows = [re.sub(r"=[^=,]*/", "=", reading) for reading in of["rows"]]
        kept = {
            column: [
                columns[column]["kept"][share] if column in columns else None
                for columns in of["rows"].values()
            ]
            for column in COLUMNS
        }
        title, label = f"{name} ({of['questions']} questions)", f"gold kept at {float(share):.0%}"
        found.append(Chart(title, marks_by_row(rows, kept), label, rows=rows, shares="x"))
    return found


def _round_figures(figures: Sequence[float]) -> list[float]:
    return [round(figure, 4) for figure in figures]


def _verdict(entering: dict[str, list[str]]) -> str:
    if not entering:
        return (
            "no reading beats raw when added to it: none has an interval above 0 on one set and "
            "above -0.5 points on all others"
        )
    rows = (f"{name} ({'; '.join(where)})" for name, where in entering.items())
    return f"added to raw, ahead on one set and not behind on any: {', '.join(rows)}"


PROFILES = ("contrast", "qr", "copy", "needle", "probe")


def compare_readings(
    reader: Any,
    names: Sequence[str],
    files: Sequence[RecordFile],
    judged: RecordFile | None,
    shares: Sequence[float],
    *,
    layers: int,
    folder: Path,
    timed: int,
    seed: int,
    report: ReportProgress,
    profiles: Sequence[Path] = (),
) -> dict[str, Any]:
    """The table of readings as JSON: `sets`, `answerability`, `cost_ms`, `entering`, `data`.

    Args:
        names: readings with their options; raw attention is added where it is missing.
        judged: a file with questions that have no answer; as many with one are read beside them.
        timed: on how many questions of the first file each reading is timed alone.
        profiles: files of `tamis lab heads find`, judged beside those that ship.

    Raises:
        UnknownMethod: no such reading. BadInput: too few articles to fit and judge on.
    """
    rows = list(dict.fromkeys((RAW, CALIBRATED, *names)))
    cases = CaseReader(reader, rows, layers, folder)
    named = name_distinctly([*files, *([judged] if judged else [])])
    sets = {
        file.name: list(cases.read(file, answerable_records(file), report))
        for file in named[: len(files)]
    }
    probed = []
    if judged:
        records = [*answerable_records(named[-1]), *unanswerable_records(named[-1])]
        probed = list(cases.read(named[-1], records, report))
    every = list(chain.from_iterable(sets.values()))
    scores = all_scores(every, [*every, *probed], rows, report)
    if CALIBRATED in rows and cases.heads is not None:
        best = best_heads(reader, layers, profiles)
        scores |= head_scores([*every, *probed], best, reader.card.heads)
    figures, start = {}, 0
    for name, of in sets.items():
        figures[name] = set_figures(of, _part(scores, start, start + len(of)), shares, seed)
        start += len(of)
    return {
        "sets": figures,
        "answerability": answerability(probed, _part(scores, start, None)) if probed else {},
        "cost_ms": mean_costs(cases, every[:timed]),
        "entering": entering_rows(figures),
        "data": [describe_file(file, file.limit) for file in named],
    }


def best_heads(reader: Any, layers: int, profiles: Sequence[Path]) -> dict[str, Sequence[Head]]:
    """The best heads of every profile that ships for a proxy, and of those in files.

    Raises:
        BadModelFile: a file is no profile. ProbeMismatch: it is of another model.
    """
    found: dict[str, Sequence[Head] | None] = {
        by: profile_heads(reader.card.name, layers, by) for by in PROFILES
    }
    for path in profiles:
        profile = HeadProfile.load(path)
        profile.check(reader.card, reader.layout.template.name)
        found[profile.by] = heads_within(profile, layers)
    return {by: heads for by, heads in found.items() if heads is not None and len(heads) == HEADS}


def mean_costs(cases: CaseReader, timed: Sequence[ReadingCase]) -> dict[str, float]:
    """Processor milliseconds per 1,000 tokens of each reading alone, the mean over cases."""
    costs = [cases.cost_ms(case) for case in timed]
    names = costs[0] if costs else ()
    return {name: round(sum(one[name] for one in costs) / len(costs), 1) for name in names}


def _part(
    scores: Mapping[str, Mapping[str, Scores]], start: int, stop: int | None
) -> dict[str, dict[str, Scores]]:
    return {
        name: {column: found[start:stop] for column, found in columns.items()}
        for name, columns in scores.items()
    }


VERSION = 1
"""Raised whenever what a reading returns changes; what was kept before is then read again."""
HEADS = 8
"""The heads of the contrast profile that unfitted scores are also averaged over."""


@dataclass(frozen=True, slots=True)
class ReadingCase:
    """One question, read in every way.

    Attributes:
        source: the name of its file. gold: which units answer it, `[U]`.
        tokens: proxy tokens of each unit.
        features: by reading `[U, F]` in logarithms. scores: by reading `[U, 2]` without any fit,
            by the mean of all heads and of the profile's best.
    """

    record: Record
    source: str
    units: tuple[Unit, ...]
    gold: Tensor
    tokens: tuple[int, ...]
    features: Mapping[str, Tensor]
    scores: Mapping[str, Tensor]


class CaseReader:
    """Reads questions in several ways with one proxy; what is kept is not read again."""

    def __init__(self, reader: Any, names: Sequence[str], layers: int, folder: Path) -> None:
        """Readings by their names and options, such as `zero:gamma=0.2`.

        Args:
            reader: a `Proxy`. layers: how many are read, from the first.

        Raises:
            UnknownMethod: no such reading. BadInput: an option that it does not have.
        """
        self.reader, self.layers = reader, tuple(range(layers))
        self.readings: dict[str, Reading] = {}
        for name in names:
            kind, options = parse_method_spec(name)
            reading = READINGS.load(kind)
            check_options_of(reading, kind, options)
            self.readings[name] = reading(reader, **options)
        self.heads = profile_heads(reader.card.name, layers)
        self._stores = {
            name: ReadingStore(folder, StoreKey.of_reader("windows", reader, options, VERSION))
            for name in names
            for options in [f"{name}, {layers} layers, heads {self.heads}"]
        }

    def read(
        self, file: RecordFile, records: Sequence[Record], report: ReportProgress
    ) -> Iterator[ReadingCase]:
        """The cases of some records of a file, in order."""
        for done, record in enumerate(records, 1):
            yield self._read_case(record, file.name)
            report(file.name, done, len(records))

    def _read_case(self, record: Record, source: str) -> ReadingCase:
        passages, units = passages_of(record), request_units(record)
        identity = case_identity(record["question"], passages, units)
        kept = {name: store.get(identity) for name, store in self._stores.items()}
        windows = split_windows(self.reader.layout, passages, units, WINDOW_TOKENS)
        if missing := [name for name, entry in kept.items() if entry is None]:
            for name, entry in self._read_windows(record["question"], windows, missing).items():
                kept[name] = self._stores[name].put(identity, entry.tensors, entry.facts)
        found = {name: entry.tensors for name, entry in kept.items() if entry is not None}
        return ReadingCase(
            record,
            source,
            tuple(units),
            torch.tensor(gold_labels(record, units)),
            tuple(b - a for window in windows for a, b in window.tokens.unit_spans),
            {name: tensors["features"].float() for name, tensors in found.items()},
            {name: tensors["scores"] for name, tensors in found.items()},
        )

    def _read_windows(
        self, question: str, windows: Sequence[Window], names: Sequence[str]
    ) -> dict[str, Entry]:
        """Features and scores of all windows, end to end, of the readings that are not kept."""
        wanted = {name: self.readings[name] for name in names}
        features: dict[str, list[Tensor]] = {name: [] for name in names}
        scores: dict[str, list[Tensor]] = {name: [] for name in names}
        for window in windows:
            seen = read_window(self.reader, window.tokens, question, self.layers, wanted)
            spans = window.tokens.unit_spans
            for name, reading in wanted.items():
                one = seen[name]
                features[name].append(reading.pool(one, spans).half())
                both = [reading.score(one, spans, heads) for heads in (None, self.heads)]
                scores[name].append(torch.stack(both, 1).float())
        return {
            name: Entry(
                {
                    "features": torch.cat(features[name]).contiguous(),
                    "scores": torch.cat(scores[name]),
                },
                {},
            )
            for name in names
        }

    def cost_ms(self, case: ReadingCase) -> dict[str, float]:
        """Processor time of each reading alone, per 1,000 tokens of the case, in milliseconds.

        Process time, so that other programs on the machine do not count.
        """
        passages = passages_of(case.record)
        windows = split_windows(self.reader.layout, passages, case.units, WINDOW_TOKENS)
        tokens = sum(len(window.tokens.ids) for window in windows)
        costs = {}
        for name in self.readings:
            clock = time.process_time()
            self._read_windows(case.record["question"], windows, [name])
            costs[name] = round((time.process_time() - clock) * 1e6 / tokens, 1)
        return costs


def profile_heads(model: str, layers: int, by: str = "contrast") -> tuple[Head, ...] | None:
    """The best heads of a shipped profile within the layers that are read; None without one."""
    if not HeadProfile.is_shipped(by, model):
        return None
    return heads_within(HeadProfile.load_shipped(by, model), layers)


def heads_within(profile: HeadProfile, layers: int) -> tuple[Head, ...]:
    """The best heads of a profile among the first layers."""
    every = profile.best(profile.layers * profile.heads)
    return tuple(head for head in every if head[0] < layers)[:HEADS]


L2_GRID = (0.003, 0.03, 0.3)
_TRIAL_STEPS = 30


def out_of_fold_scores(
    cases: Sequence[ReadingCase], judged: Sequence[ReadingCase], names: Sequence[str]
) -> list[Tensor]:
    """Scores of each judged case by weights fitted on cases of other articles: `[U]` each.

    Args:
        cases: to fit on, by a listwise loss; those without gold or with nothing else do not count.
        names: readings whose features are joined.

    Raises:
        BadInput: a fold has no question to fit on.
    """
    folds = [fold_of(case.record) for case in cases]
    questions = [LabelledFeatures(join_features(case, names), case.gold) for case in cases]
    weights: dict[int, Tensor] = {}
    for fold in sorted({fold_of(case.record) for case in judged}):
        inner = (fold + 1) % FOLDS
        fits, held = (
            [
                q
                for q, own in zip(questions, folds, strict=True)
                if (own == inner) is is_held and own != fold and q.gold.any() and not q.gold.all()
            ]
            for is_held in (False, True)
        )
        weights[fold] = fit_with_chosen_l2(fits, held)
    return [join_features(case, names) @ weights[fold_of(case.record)] for case in judged]


def join_features(case: ReadingCase, names: Sequence[str]) -> Tensor:
    """The features of some readings side by side: `[U, F]`."""
    return torch.cat([case.features[name] for name in names], 1)


def fit_with_chosen_l2(
    fits: Sequence[LabelledFeatures], held: Sequence[LabelledFeatures]
) -> Tensor:
    """Weights fitted on both, with the L2 whose fit on the first has the least loss on the other.

    Raises:
        BadInput: there is nothing to fit on.
    """
    if not fits and not held:
        raise BadInput(
            "all questions are on the articles that are judged; give more files, or more of each"
        )
    if not fits or not held:
        return fit_listwise([*fits, *held], L2_GRID[1])[0]
    losses = {
        l2: mean_listwise_loss(fit_listwise(fits, l2, _TRIAL_STEPS)[0], held) for l2 in L2_GRID
    }
    best = min(losses, key=lambda l2: losses[l2])
    return fit_listwise([*fits, *held], best)[0]


RAW = "raw"
CALIBRATED = "raw:less_empty=true"
COLUMNS = ("plain", "heads", "probe", "added")
LEAST_ELSEWHERE = -0.005
"""What a row that enters the product may lose on a set at the lower end of its interval."""

Scores = list[Tensor]


def all_scores(
    cases: Sequence[ReadingCase],
    judged: Sequence[ReadingCase],
    names: Sequence[str],
    report: ReportProgress,
) -> dict[str, dict[str, Scores]]:
    """By reading and column, the scores of every judged case."""
    found: dict[str, dict[str, Scores]] = {}
    for done, name in enumerate(names, 1):
        pair = [RAW] if name == RAW else [RAW, name]
        probe = out_of_fold_scores(cases, judged, [name])
        found[name] = {
            "plain": [case.scores[name][:, 0] for case in judged],
            "heads": [case.scores[name][:, 1] for case in judged],
            "probe": probe,
            "added": probe if name == RAW else out_of_fold_scores(cases, judged, pair),
        }
        report("probes", done, len(names))
    return found


def head_scores(
    judged: Sequence[ReadingCase], profiles: Mapping[str, Sequence[Head]], heads: int
) -> dict[str, dict[str, Scores]]:
    """Unfitted scores of calibrated attention by the best heads of each profile.

    From the features of raw attention and of the same less "N/A", which are logarithms of means.

    Args:
        heads: in a layer of the model.
    """
    found: dict[str, dict[str, Scores]] = {}
    for by, best in profiles.items():
        at = torch.tensor([layer * heads + head for layer, head in best])
        scores = []
        for case in judged:
            logs, less = case.features[RAW][:, at], case.features[CALIBRATED][:, at]
            scores.append((logs.exp() - (logs - less).exp()).mean(1))
        found[f"heads by {by}"] = {"heads": scores}
    return found


def kept_gold(case: ReadingCase, scores: Tensor, share: float) -> int:
    """How many gold sentences are kept at a share of the tokens."""
    chosen = fill_token_share(scores, case.tokens, share)
    return count_kept_gold(case.record, case.units, chosen)


def reciprocal_rank(case: ReadingCase, scores: Tensor) -> float:
    """1 over the rank of the first passage with gold."""
    passages = best_unit_scores(scores.tolist(), case.units, len(case.record["docs"]))
    gold = {d for d, _, _ in gold_spans(case.record)}
    order = sorted(range(len(passages)), key=lambda d: (-passages[d], d))
    return 1 / (1 + next(i for i, d in enumerate(order) if d in gold))


def set_figures(
    cases: Sequence[ReadingCase],
    scores: Mapping[str, Mapping[str, Scores]],
    shares: Sequence[float],
    seed: int,
) -> dict[str, Any]:
    """The figures of one set: by reading and column, each against raw in the same column."""
    of = [len(gold_spans(case.record)) for case in cases]
    kept = {
        (name, column, share): [kept_gold(c, s, share) for c, s in zip(cases, found, strict=True)]
        for name, columns in scores.items()
        for column, found in columns.items()
        for share in shares
    }
    rows: dict[str, Any] = {}
    for name, columns in scores.items():
        rows[name] = {
            column: {
                "kept": {f"{x:g}": round(sum(kept[name, column, x]) / sum(of), 4) for x in shares},
                "ahead_of_raw": {
                    f"{x:g}": _round_figures(
                        paired_bootstrap(kept[name, column, x], kept[RAW, column, x], of, seed=seed)
                    )
                    for x in shares
                },
                "auc": round(_mean_auc(cases, found), 4),
                "mrr": round(float(np.mean(list(map(reciprocal_rank, cases, found)))), 4),
            }
            for column, found in columns.items()
        }
    return {"questions": len(cases), "gold_sentences": sum(of), "rows": rows}


def _mean_auc(cases: Sequence[ReadingCase], scores: Scores) -> float:
    each = [
        auc(s.double().numpy(), case.gold.double().numpy())
        for case, s in zip(cases, scores, strict=True)
        if case.gold.any() and not case.gold.all()
    ]
    return float(np.mean(each))


def answerability(
    cases: Sequence[ReadingCase], scores: Mapping[str, Mapping[str, Scores]]
) -> dict[str, dict[str, float]]:
    """AUROC of the best score of a question, with an answer against without."""
    answered = np.array([float(case.record.get("answerable", True)) for case in cases])
    return {
        name: {
            column: round(auc(np.array([float(s.max()) for s in found]), answered), 4)
            for column, found in columns.items()
        }
        for name, columns in scores.items()
    }


def entering_rows(sets: Mapping[str, Any]) -> dict[str, list[str]]:
    """Which readings beat raw once added to it, and on which sets and shares.

    On one set the interval is above 0, on all others above -.5 points, at the same share.
    """
    names = next(iter(sets.values()))["rows"]
    found: dict[str, list[str]] = {}
    for name in names:
        for share in next(iter(names[RAW].values()))["kept"]:
            lows = {
                source: of["rows"][name]["added"]["ahead_of_raw"][share][1]
                for source, of in sets.items()
                if "added" in of["rows"][name]
            }
            best = [source for source, low in lows.items() if low > 0]
            if best and all(low > LEAST_ELSEWHERE for low in lows.values()):
                found.setdefault(name, []).append(f"{share}: {', '.join(best)}")
    return found
