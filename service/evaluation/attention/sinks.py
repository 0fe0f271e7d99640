"""What is to be done about sinks? The same readings, treated in each way, by the evidence kept.

Most attention goes where nothing is said: to the first token, to separators (Xiao et al. 2023,
arXiv 2309.17453). Ways against it, alone and with weights fitted to the heads:

    raw                 mean attention of the question's rows to each token of a sentence
    renormalised        divided by the sum over its window, head by head (Sentinel)
    less N/A            minus the same for the question "N/A" (ICR)
    without separators  tokens without a letter or digit are left out of the mean
    both                without separators, less N/A

Heads are averaged, or weighed by a listwise fit: with weights of either sign, which can take sinks
away, or with weights of at least 0, which cannot. Fits see logarithms (of a quotient and of "less
N/A" their differences) and judge only articles that they were not fitted on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.method import best_unit_scores
from tamis.compressors.reading.windows import WINDOW_TOKENS, Reading, windows
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.probing.fit import Question, listwise
from tamis.probes.prompt import Prompt
from tamis.probes.segmentation.segment import units_of
from tamis.probes.signal import Want, pool_tokens
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service.datasets.case_readings import Looks
from tamis.service.datasets.records import Record, labels, passages_of
from tamis.service.datasets.score_sources import Seen
from tamis.service.evaluation.evidence.evidence import figures, tally
from tamis.service.evaluation.evidence.methods import Panel
from tamis.service.evaluation.evidence.run import language_of
from tamis.service.training.probe import fold_of, look_key

EMPTY_QUERY = "N/A"
WAYS = ("raw", "renormalised", "less N/A", "without separators", "both")
MIXES = ("mean of heads", "fitted, from 0", "fitted")
LAYERS = 20
_KINDS = 5
_TINY = 1e-9
_L2 = 0.01


class Sinks:
    """Reads every window for the question and for "N/A"; all treatments are made of what it saw."""

    def __init__(self, reader: Any, layers: int = LAYERS) -> None:
        self.reader, self.layers = reader, min(layers, reader.card.layers)

    @property
    def reading_key(self) -> str:
        """The version of the reading, and its depth."""
        return f"1 {self.layers}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Logs of raw, N/A, both without separators, and the window's sums: `[U, 5·L·H]`."""
        clock = time.perf_counter()
        cut = windows(self.reader.layout, passages, units, WINDOW_TOKENS)
        asks = [self.reader.layout.ask(text) for text in (question, EMPTY_QUERY)]
        want = Want(tuple(range(self.layers)), ("question_mean",))
        prompts = [Prompt(window.read, ask) for window in cut for ask in asks]
        signals = iter(self.reader.read(prompts, want))
        silent = separators(self.reader.layout.tokens, passages)
        rows = []
        for window in cut:
            spoken = torch.tensor([i not in silent for i in window.read.ids[window.read.start :]])
            pair = (next(signals).weights[:, :, 0], next(signals).weights[:, :, 0])
            rows.append(seen_of(*pair, spoken, window.read.spans))
        sizes = tuple(b - a for window in cut for a, b in window.read.spans)
        read = sum(map(len, prompts))
        took = {"read": (time.perf_counter() - clock) * 1e3}
        return Reading(torch.cat(rows).clamp_min(_TINY).log(), sizes, len(cut), read, took)


def separators(tokens: Tokens, passages: Sequence[Passage]) -> set[int]:
    """Ids of tokens that stand for nothing with a letter or digit in it, in these passages."""
    return {
        number
        for passage, encoded in zip(
            passages, tokens.encode_many([passage.text for passage in passages]), strict=True
        )
        for number, (a, b) in zip(encoded.ids, encoded.offsets, strict=True)
        if not any(char.isalnum() for char in passage.text[a:b])
    }


def seen_of(
    asked: Tensor, empty: Tensor, spoken: Tensor, spans: Sequence[tuple[int, int]]
) -> Tensor:
    """Means and sums of one window, unit by unit: `[U, 5·L·H]`.

    Args:
        asked, empty: attention of the question's rows, and of those of "N/A": `[L, H, N]`.
        spoken: which tokens are no separators: `[N]`. spans: of the units.
    """
    words = pool_tokens(spoken.double(), spans, "sum").clamp_min(1)[:, None, None]
    plain = [pool_tokens(weights, spans, "mean") for weights in (asked, empty)]
    apart = [pool_tokens(weights * spoken, spans, "sum") / words for weights in (asked, empty)]
    total = asked.sum(-1).expand(len(spans), *asked.shape[:2])
    return torch.cat([kind.float().flatten(1) for kind in (*plain, *apart, total)], 1)


@dataclass(frozen=True, slots=True)
class Case:
    """One question: what was seen `[5, U, L·H]` in logs, and which units are gold `[U]`."""

    record: Record
    units: tuple[Unit, ...]
    seen: Tensor
    gold: Tensor

    def mean(self, way: str) -> Tensor:
        """Scores by the mean of all heads: `[U]`."""
        raw, empty, spoken, empty_spoken, total = self.seen.exp()
        treated = {
            "raw": raw,
            "renormalised": raw / total,
            "less N/A": raw - empty,
            "without separators": spoken,
            "both": spoken - empty_spoken,
        }
        scores: Tensor = treated[way].mean(1)
        return scores

    def logs(self, way: str) -> Tensor:
        """What a fit sees: `[U, L·H]`."""
        raw, empty, spoken, empty_spoken, total = self.seen
        treated = {
            "raw": raw,
            "renormalised": raw - total,
            "less N/A": raw - empty,
            "without separators": spoken,
            "both": spoken - empty_spoken,
        }
        found: Tensor = treated[way]
        return found


def cases_of(
    reader: Any, records: Sequence[Record], folder: Path, report: Callable[[int], None]
) -> Iterator[Case]:
    """Reads every record, or finds what was read before."""
    method = Sinks(reader)
    looks = Looks(folder, look_key(method))
    for done, record in enumerate(records, 1):
        passages = passages_of(record)
        units = units_of(passages, language_of(record))
        look = looks.get(record["question"], passages, units, method.read)
        seen = look.features.view(len(units), _KINDS, -1).movedim(1, 0)
        yield Case(record, tuple(units), seen, torch.tensor(labels(record, units)))
        report(done)


def fitted(cases: Sequence[Case], way: str, signed: bool) -> list[Tensor]:
    """Scores of each case by weights that saw no question on its article."""
    folds = [fold_of(case.record) for case in cases]
    weights = {}
    for fold in sorted(set(folds)):
        others = [
            Question(case.logs(way), case.gold)
            for case, own in zip(cases, folds, strict=True)
            if own != fold and case.gold.any() and not case.gold.all()
        ]
        if not others:
            raise BadInput(
                f"all {len(cases)} questions to fit on are on the articles that are judged; give "
                "more sets, or a higher --limit"
            )
        weights[fold] = listwise(others, _L2)[0] if signed else from_zero(others, _L2)
    return [case.logs(way) @ weights[fold] for case, fold in zip(cases, folds, strict=True)]


def from_zero(questions: Sequence[Question], l2: float, steps: int = 80) -> Tensor:
    """Weights `[F]` of the same loss as `listwise`, none below 0: squares of what is fitted."""
    x = torch.cat([q.features for q in questions])
    centre, spread = x.mean(0), x.std(0).clamp_min(1e-6)
    given = [((q.features - centre) / spread, q.gold) for q in questions]
    root = torch.full((x.shape[1],), 0.1, requires_grad=True)
    solver = torch.optim.LBFGS([root], max_iter=steps, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        w = root.square()
        losses = [-torch.log_softmax(f @ w, 0)[gold].mean() for f, gold in given]
        value = torch.stack(losses).mean() + l2 * w.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(closure)  # type: ignore[no-untyped-call]
    return root.detach().square() / spread


class Given:
    """Scores that are known already, by question and documents."""

    def __init__(self, cases: Sequence[Case], scores: Sequence[Tensor]) -> None:
        self.known = {
            _key(case.record["question"], passages_of(case.record)): tuple(values.tolist())
            for case, values in zip(cases, scores, strict=True)
        }

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """What is known of this case."""
        values = self.known[_key(question, passages)]
        return Seen(Scores(values, best_unit_scores(values, units, len(passages))), 0.0, True)


def _key(question: str, passages: Sequence[Passage]) -> tuple[str, ...]:
    return (question, *(passage.text for passage in passages))


def compare(
    sets: Mapping[str, Sequence[Case]], budgets: Sequence[float], counter: Tokens, seed: int = 0
) -> dict[str, Any]:
    """Figures of every way and mix in every set, as `evidence.figures` gives them.

    Fits are over the questions of all sets together.
    """
    everything = [case for cases in sets.values() for case in cases]
    scores: dict[str, list[Tensor]] = {}
    for way in WAYS:
        scores[f"{way}, {MIXES[0]}"] = [case.mean(way) for case in everything]
        scores[f"{way}, {MIXES[1]}"] = fitted(everything, way, signed=False)
        scores[f"{way}, {MIXES[2]}"] = fitted(everything, way, signed=True)
    sources = {name: Given(everything, values) for name, values in scores.items()}
    panel = Panel(list(sources), sources)
    return {
        name: figures(tally([case.record for case in cases], panel, budgets, counter), seed)
        for name, cases in sets.items()
    }
