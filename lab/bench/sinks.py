"""`tamis lab bench sinks`: compares treatments of attention sinks by the evidence kept.

Treatments of attention sinks, compared on the same readings by the evidence kept.

Most attention goes to tokens without content: the first token, and separators (Xiao et al. 2023,
arXiv 2309.17453). The treatments, each with a mean over heads and with weights fitted to the heads:

    raw                 mean attention of the question's rows to each token of a sentence
    renormalised        divided by the sum over its window, head by head (Sentinel)
    less N/A            minus the same for the question "N/A" (ICR)
    without separators  tokens without a letter or digit are left out of the mean
    both                without separators, less N/A

Heads are averaged, or weighted by a listwise fit: with weights of either sign, which can subtract
sinks, or with weights of at least 0, which cannot. Fits use logarithms (for a quotient and for
"less N/A", differences of logarithms) and score only articles that they were not fitted on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.method import best_unit_scores
from tamis.compressors.reading.windows import EMPTY_QUERY, WINDOW_TOKENS, Reading, split_windows
from tamis.compressors.registry import DEFAULT_PROXY
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want, pool_tokens
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage, Unit
from tamis_lab.bench.evidence import evidence_figures, load_gold_records, tally_evidence
from tamis_lab.bench.panel import Panel
from tamis_lab.bench.study import Study, ends, heading, table
from tamis_lab.datasets.reading_store import CaseReadings, cached_reader, store_key
from tamis_lab.datasets.record_files import fold_of
from tamis_lab.datasets.records import Record, gold_labels, passages_of, request_units
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart, marks_by_row
from tamis_lab.train.fit import LabelledFeatures, fit_listwise

EPILOG = """
**Examples**

`tamis lab bench sinks --sets hotpotqa,xquad_en --limit 60 --plot sinks.png`

`tamis lab bench sinks --data mine/ --sets contracts --budgets 0.05,0.1`

Every question is read twice, for itself and for "N/A"; readings are kept, so that a second run
takes seconds. Fits judge only articles that they did not see.
"""


@report_errors()
def sinks(
    data: shared.SetsFolder = None,
    sets: shared.Sets = "xquad_en,hotpotqa",
    budgets: shared.Budgets = "0.1,0.2",
    limit: shared.Limit = 60,
    plot: shared.Plot = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = DEFAULT_PROXY,
    cache: shared.ReadingsFolder = None,
    as_json: shared.Json = False,
) -> None:
    """Renormalise, subtract "N/A", leave separators out, weigh heads: evidence kept by each."""
    study, shares = Study(as_json, plot), shared.parse_budgets(budgets)
    files = shared.find_sets(data, shared.parse_list(sets, "sets"))
    reader = cached_reader(registry.load_proxy(proxy, MAX_LAYERS))
    folder = shared.readings_folder(cache)
    cases: dict[str, list[Any]] = {}
    with study.bars():
        for name, path in files.items():
            rows, _ = load_gold_records(path, limit, seed)
            report = partial(study.report, name, total=len(rows))
            cases[name] = list(read_sink_cases(reader, rows, folder, report))
    found = compare_treatments(cases, shares, counter_of("proxy", proxy), seed)
    study.publish(
        {"sets": found},
        lambda: [_table(name, of) for name, of in found.items()],
        lambda: [_chart(name, of, f"{shares[-1]:g}") for name, of in found.items()],
    )


def _table(name: str, found: Mapping[str, Any]) -> Table:
    """A row per treatment and mix of heads, with the lead of raw attention's plain mean."""
    methods = found["methods"]
    return table(
        f"{name}: {found['records']} questions; per cent of gold sentences kept; in brackets the "
        "95 % interval of what raw attention's mean of heads keeps more",
        ("way", *next(iter(methods.values()))["budgets"]),
        ([way, *map(_cell, of["budgets"].values())] for way, of in methods.items()),
    )


def _cell(cell: Mapping[str, Any]) -> str:
    ahead, shown = cell.get("reference_gold_ahead"), f"{100 * cell['gold_kept']:.1f}"
    return f"{shown} {ends(ahead)}" if ahead else shown


def _chart(name: str, found: Mapping[str, Any], budget: str) -> Chart:
    """A row a treatment, a mark a mix of heads."""
    cells = {way: of["budgets"][budget]["gold_kept"] for way, of in found["methods"].items()}
    marks = {mix: [cells[f"{row}, {mix}"] for row in TREATMENTS] for mix in MIXES}
    title = f"{name} ({found['records']} questions), {heading(budget)} of the tokens"
    label = "share of gold sentences kept"
    return Chart(title, marks_by_row(TREATMENTS, marks), label, rows=TREATMENTS, shares="x")


TREATMENTS = ("raw", "renormalised", "less N/A", "without separators", "both")
MIXES = ("mean of heads", "fitted, from 0", "fitted")
MAX_LAYERS = 20
_KINDS = 5
_TINY = 1e-9
_L2 = 0.01


class SinkFeatures:
    """Reads every window for the question and for "N/A": the features of all treatments."""

    def __init__(self, reader: Any, layers: int = MAX_LAYERS) -> None:
        self.reader, self.layers = reader, min(layers, reader.card.layers)

    @property
    def reading_key(self) -> str:
        """The version of the features, and the number of layers."""
        return f"1 {self.layers}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Logs of raw, N/A, the same two without separators, the window's sums: `[U, 5·L·H]`."""
        clock = time.perf_counter()
        cut = split_windows(self.reader.layout, passages, units, WINDOW_TOKENS)
        asks = [self.reader.layout.question_tokens(text) for text in (question, EMPTY_QUERY)]
        want = Want(tuple(range(self.layers)), ("question_mean",))
        prompts = [Prompt(window.tokens, ask) for window in cut for ask in asks]
        signals = iter(self.reader.read(prompts, want))
        separators = separator_ids(self.reader.layout.tokenizer, passages)
        rows = []
        for window in cut:
            ids = window.tokens.ids[window.tokens.title_tokens :]
            content = torch.tensor([number not in separators for number in ids])
            pair = (next(signals).weights[:, :, 0], next(signals).weights[:, :, 0])
            rows.append(window_features(*pair, content, window.tokens.unit_spans))
        sizes = tuple(b - a for window in cut for a, b in window.tokens.unit_spans)
        tokens_read = sum(map(len, prompts))
        timings_ms = {"read": (time.perf_counter() - clock) * 1e3}
        features = torch.cat(rows).clamp_min(_TINY).log()
        return Reading(features, sizes, len(cut), tokens_read, timings_ms)


def separator_ids(tokens: TextTokenizer, passages: Sequence[Passage]) -> set[int]:
    """Ids of the tokens whose text in these passages has no letter or digit."""
    return {
        number
        for passage, encoded in zip(
            passages, tokens.encode_many([passage.text for passage in passages]), strict=True
        )
        for number, (a, b) in zip(encoded.ids, encoded.offsets, strict=True)
        if not any(char.isalnum() for char in passage.text[a:b])
    }


def window_features(
    question: Tensor, empty: Tensor, content: Tensor, spans: Sequence[tuple[int, int]]
) -> Tensor:
    """Means and sums of attention in one window, by unit: `[U, 5·L·H]`.

    Args:
        question, empty: attention of the question's rows, and of those of "N/A": `[L, H, N]`.
        content: which tokens are not separators: `[N]`. spans: of the units.
    """
    counts = pool_tokens(content.double(), spans, "sum").clamp_min(1)[:, None, None]
    plain = [pool_tokens(weights, spans, "mean") for weights in (question, empty)]
    without = [
        pool_tokens(weights * content, spans, "sum") / counts for weights in (question, empty)
    ]
    total = question.sum(-1).expand(len(spans), *question.shape[:2])
    return torch.cat([kind.float().flatten(1) for kind in (*plain, *without, total)], 1)


@dataclass(frozen=True, slots=True)
class SinkCase:
    """One question: `log_features [5, U, L·H]`, and which units are gold `[U]`."""

    record: Record
    units: tuple[Unit, ...]
    log_features: Tensor
    gold: Tensor

    def mean_scores(self, treatment: str) -> Tensor:
        """Scores by the mean of all heads: `[U]`."""
        raw, empty, content, empty_content, total = self.log_features.exp()
        by_treatment = {
            "raw": raw,
            "renormalised": raw / total,
            "less N/A": raw - empty,
            "without separators": content,
            "both": content - empty_content,
        }
        scores: Tensor = by_treatment[treatment].mean(1)
        return scores

    def fit_features(self, treatment: str) -> Tensor:
        """The features of a fit: `[U, L·H]`."""
        raw, empty, content, empty_content, total = self.log_features
        by_treatment = {
            "raw": raw,
            "renormalised": raw - total,
            "less N/A": raw - empty,
            "without separators": content,
            "both": content - empty_content,
        }
        features: Tensor = by_treatment[treatment]
        return features


def read_sink_cases(
    reader: Any, records: Sequence[Record], folder: Path, report: Callable[[int], None]
) -> Iterator[SinkCase]:
    """Reads every record; readings are kept in the folder."""
    method = SinkFeatures(reader)
    readings = CaseReadings(folder, store_key(method))
    for done, record in enumerate(records, 1):
        passages = passages_of(record)
        units = request_units(record)
        reading = readings.get_or_read(record["question"], passages, units, method.read)
        log_features = reading.features.view(len(units), _KINDS, -1).movedim(1, 0)
        yield SinkCase(record, tuple(units), log_features, torch.tensor(gold_labels(record, units)))
        report(done)


def out_of_fold_scores(cases: Sequence[SinkCase], treatment: str, signed: bool) -> list[Tensor]:
    """Scores of each case by weights fitted without the questions on its article.

    Raises:
        BadInput: there is no question to fit on.
    """
    folds = [fold_of(case.record) for case in cases]
    weights = {}
    for fold in sorted(set(folds)):
        others = [
            LabelledFeatures(case.fit_features(treatment), case.gold)
            for case, own in zip(cases, folds, strict=True)
            if own != fold and case.gold.any() and not case.gold.all()
        ]
        if not others:
            raise BadInput(
                f"all {len(cases)} questions to fit on are on the articles that are judged; give "
                "more sets, or a higher --limit"
            )
        weights[fold] = fit_listwise(others, _L2)[0] if signed else fit_nonnegative(others, _L2)
    return [
        case.fit_features(treatment) @ weights[fold]
        for case, fold in zip(cases, folds, strict=True)
    ]


def fit_nonnegative(questions: Sequence[LabelledFeatures], l2: float, steps: int = 80) -> Tensor:
    """Weights `[F]` of at least 0 under the loss of `fit_listwise`; their roots are fitted."""
    x = torch.cat([q.features for q in questions])
    centre, spread = x.mean(0), x.std(0).clamp_min(1e-6)
    standardised = [((q.features - centre) / spread, q.gold) for q in questions]
    root = torch.full((x.shape[1],), 0.1, requires_grad=True)
    solver = torch.optim.LBFGS([root], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        w = root.square()
        losses = [-torch.log_softmax(f @ w, 0)[gold].mean() for f, gold in standardised]
        value = torch.stack(losses).mean() + l2 * w.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(closure)  # type: ignore[no-untyped-call]
    return root.detach().square() / spread


class KnownScores:
    """A score source of scores computed beforehand, found by question and documents."""

    def __init__(self, cases: Sequence[SinkCase], scores: Sequence[Tensor]) -> None:
        self._scores = {
            _case_key(case.record["question"], passages_of(case.record)): tuple(values.tolist())
            for case, values in zip(cases, scores, strict=True)
        }

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """The scores of this case, which take no time."""
        values = self._scores[_case_key(question, passages)]
        scores = Scores(values, best_unit_scores(values, units, len(passages)))
        return TimedScores(scores, 0.0, True)


def _case_key(question: str, passages: Sequence[Passage]) -> tuple[str, ...]:
    return (question, *(passage.text for passage in passages))


def compare_treatments(
    sets: Mapping[str, Sequence[SinkCase]],
    budgets: Sequence[float],
    counter: TextTokenizer,
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of every treatment and mix in every set, as `evidence_figures` returns them.

    Fits are over the questions of all sets together.
    """
    everything = [case for cases in sets.values() for case in cases]
    scores: dict[str, list[Tensor]] = {}
    mean, from_zero, signed = MIXES
    for treatment in TREATMENTS:
        scores[f"{treatment}, {mean}"] = [case.mean_scores(treatment) for case in everything]
        scores[f"{treatment}, {from_zero}"] = out_of_fold_scores(everything, treatment, False)
        scores[f"{treatment}, {signed}"] = out_of_fold_scores(everything, treatment, True)
    sources = {name: KnownScores(everything, values) for name, values in scores.items()}
    panel = Panel(list(sources), sources)
    return {
        name: evidence_figures(
            tally_evidence([case.record for case in cases], panel, budgets, counter), seed
        )
        for name, cases in sets.items()
    }
