"""The default: every question row looks back, a linear probe weighs the heads, words help.

Idea: Sentinel (arXiv 2505.23277, §3) reads how the last prompt token attends to each sentence and
weighs the heads by a logistic regression. Departures, each measured in LOG.md:

1. rows: all rows from the question's first token to the prompt's end, averaged, not the last alone;
2. passages are read alone, in windows of whole units, so none changes what is seen of another;
3. features: log of a unit's attention mass per token, and of its best token, of each head, not
   renormalised inside the context;
4. the words of question and unit (BM25, rare words covered, titles) beside the heads;
5. a second step: what the first step's best units name, by title or rare words, is looked at again;
6. weights: a listwise softmax over the units of a question, not a classifier of single sentences.

With `isolated=True` steps 4 and 5 are left out: a unit's score then depends on the question and its
own window alone, and no passage can move the score of another.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.answerability import ANSWER_FEATURES, answer_features
from tamis.compressors.features.coverage import conformal_threshold
from tamis.compressors.features.rank_probe import probe_for, rank_with_probe
from tamis.compressors.features.shipped_probes import choose_probe, load_probe, shipped_probe
from tamis.compressors.features.words import (
    HOP_FEATURES,
    WORD_FEATURES,
    Lexicon,
    hop_features,
    word_features,
)
from tamis.compressors.method import Info, TwoStepMethod
from tamis.compressors.reading.windows import WINDOW_TOKENS, Reader, Reading, read_windows
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.probing.fit import Calibration
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage, Unit

_TINY = 1e-9
_MIDDLE = (0.45, 0.75)
"""Where, as a share of depth, the heads that look back are in every model measured so far."""


def pool_question_rows(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Log mean and log maximum of the question rows' attention to each unit: `[U, 2·L·H]`."""
    mean, best = signal.pool(spans, "mean"), signal.pool(spans, "max")
    return torch.cat([mean.flatten(1), best.flatten(1)], 1).clamp_min(_TINY).log()


class QuestionRows(TwoStepMethod):
    """Attention of all question rows, passages alone, with words and a second step."""

    info: ClassVar[Info] = Info(
        "attention of every question row, passages alone, linear probe, second step (default)",
        "after Sentinel, arXiv 2505.23277; departures in the file",
        "proxy",
    )
    promises_coverage: ClassVar[bool] = True

    def __init__(
        self,
        reader: Reader,
        probe: LinearProbe | Path | str | None = "auto",
        isolated: bool = False,
        window_tokens: int = WINDOW_TOKENS,
        exit_layer: int | None = None,
        rank_probe: LinearProbe | Path | str | None = "auto",
    ) -> None:
        """A method over one proxy.

        Args:
            reader: the proxy.
            probe: fitted for this proxy, or its path. `auto` is the one that ships with tamis, None
                is none: then heads at 45 to 75 % of depth are averaged, and scores are not
                probabilities.
            isolated: score each window on its own, without words and second step.
            exit_layer: stop reading after so many layers, for a little time and some of the
                evidence (`tamis bench depth`); None is as deep as the probe was fitted.
            rank_probe: what ranks whole documents: a probe of `tamis probe rank`, or its path;
                `auto` is the one that ships, None ranks each document by its best unit.

        Raises:
            ProbeMismatch: a probe is for another model, revision or template.
            BadModelFile: it cannot be read, or its calibration would break the isolation.
            BadInput: no probe ships that stops there, a rank probe that cannot act beside the other
                choices, or windows below 1 token.
        """
        if window_tokens < 1:
            raise BadInput(f"window_tokens is {window_tokens}; give 1 or more")
        self.reader, self.isolated, self.window_tokens = reader, isolated, window_tokens
        self.probe = choose_probe("question_rows", reader, probe, exit_layer)
        self.exit_layer = exit_layer
        self.layers = self.probe.card.layers if self.probe else _middle(reader.card.layers)[1]
        if isolated and self.probe:
            _check_isolation(self.probe)
        self.rank_probe = rank_probe if rank_probe == "auto" else load_probe(rank_probe)
        if self.rank_probe not in ("auto", None):
            probe_for(self)

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """As many as the probe reads; all where there is none."""
        if (given := options.get("probe", "auto")) == "auto":
            probe = shipped_probe("question_rows", model, options.get("exit_layer"))
        else:
            probe = load_probe(given)
        return probe.card.layers if probe else None

    @property
    def reading_key(self) -> str:
        """Windows and depth are all that a reading depends on."""
        return f"{self.window_tokens} {self.layers}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Reads every window once; the costly half."""
        want = Want(tuple(range(self.layers)), ("question_mean",))
        return read_windows(
            self.reader, question, passages, units, want, pool_question_rows, self.window_tokens
        )

    def score_reading(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """Scores what was seen; no model runs."""
        clock = time.perf_counter()
        answerable = None
        if not units:
            values = torch.zeros(0)
        elif self.probe is None:
            values = untrained_scores(
                reading.features, self.reader.card.layers, self.layers, self.reader.card.heads
            )
        elif self.isolated:
            values = isolated_probabilities(self.probe, isolated_features(reading))
        else:
            lexicon = Lexicon(question, passages, units)
            first = first_features(reading, question, lexicon)
            values = probabilities(self.probe, z := second_step_scores(self.probe, first, lexicon))
            answerable = answerability(self.probe, first, z, isolated_features(reading))
        return reading.scores(
            values,
            units,
            len(passages),
            calibrated=self.probe is not None,
            answerability=answerable,
            score_ms=(time.perf_counter() - clock) * 1e3,
        )

    def coverage_threshold(self, coverage: float) -> float | None:
        """The probability down to which units must be kept to keep all the evidence this often.

        None without a probe that was calibrated for it.
        """
        name = "alone_lowest" if self.isolated else "lowest"
        if self.probe is None or name not in self.probe.weights:
            return None
        return conformal_threshold(self.probe.weights[name], coverage)

    def first_step(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Tensor:
        """Scores of the first step, `[U]`; there is a probe."""
        assert self.probe is not None
        first = first_features(reading, question, Lexicon(question, passages, units))
        return first @ _flat(self.probe, "first", first.shape[1])

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The probability that each passage answers, by all of it and its units."""
        return rank_with_probe(self, question, passages, units)


def second_step_scores(probe: LinearProbe, first: Tensor, lexicon: Lexicon) -> Tensor:
    """Scores of the second step `[U]`, from the first step's features `[U, F]`."""
    z = first @ _flat(probe, "first", first.shape[1])
    second = torch.from_numpy(hop_features(lexicon, z.double().numpy()))
    return second @ _flat(probe, "hop", len(HOP_FEATURES))


def probabilities(probe: LinearProbe, z: Tensor) -> Tensor:
    """That each unit answers, from its score of the second step."""
    return Calibration(*_flat(probe, "calibration", 4).tolist())(z)


def isolated_probabilities(probe: LinearProbe, lone: Tensor) -> Tensor:
    """That each unit answers, from what is known of it from its own window `[U, 2·L·H + 1]`."""
    z = lone @ _flat(probe, "alone", 2 * probe.card.layers * probe.card.heads + 1)
    return Calibration(*_flat(probe, "alone_calibration", 4).tolist())(z)


def answerability(probe: LinearProbe, first: Tensor, z: Tensor, lone: Tensor) -> float | None:
    """That the context holds an answer at all; None if the probe was not fitted for it."""
    if not len(probe.weights.get("answerable", ())):
        return None
    weights = _flat(probe, "answerable", len(ANSWER_FEATURES) + 1)
    alone = lone @ _flat(probe, "alone", lone.shape[1])
    seen = answer_features(z, alone, first[:, -len(WORD_FEATURES) :])
    return float(torch.sigmoid(seen @ weights[:-1] + weights[-1]))


def isolated_features(reading: Reading) -> Tensor:
    """What is known of each unit from its own window: heads, and its length: `[U, 2·L·H + 1]`."""
    return torch.cat([reading.features, torch.tensor(reading.tokens).float().log1p()[:, None]], 1)


def first_features(reading: Reading, question: str, lexicon: Lexicon) -> Tensor:
    """The first step's features: heads, then words: `[U, 2·L·H + len(WORD_FEATURES)]`."""
    said = word_features(question, lexicon, reading.tokens)
    return torch.cat([reading.features, torch.from_numpy(said)], 1)


def untrained_scores(features: Tensor, depth: int, layers: int, heads: int) -> Tensor:
    """Without a probe: the log maximum, averaged over the heads in the middle of the model."""
    start, stop = _middle(depth)
    best = features[:, features.shape[1] // 2 :].view(len(features), layers, heads)
    return best[:, start : min(stop, layers)].mean((1, 2))


def _check_isolation(probe: LinearProbe) -> None:
    """The request's best and sum would let one passage move the score of another."""
    _, b, c, _ = _flat(probe, "alone_calibration", 4).tolist()
    if b or c:
        raise BadModelFile(
            f"the probe's alone_calibration weighs the request's best ({b:g}) and sum ({c:g}), so "
            "scores would not be isolated; both must be 0: fit it again with tamis probe calibrate"
        )


def _middle(depth: int) -> tuple[int, int]:
    start = int(_MIDDLE[0] * depth)
    return start, max(start + 1, int(np.ceil(_MIDDLE[1] * depth)))


def _flat(probe: LinearProbe, name: str, size: int) -> Tensor:
    return probe.get(name, (size,))


Method = QuestionRows
