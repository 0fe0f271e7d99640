"""Reads windows in stages: those that cannot matter end early, the others are read to the end.

    all windows ─ by words ─► some ─ layers [0, l) ─► fewer ─ layers [l, L) ─► read ─┐
                      └──────────────────┴─► estimated ◄─ judged again, beside these ◄┘
                                                 └─ some ─ layers up to L ─► read

What a window that goes on is found to hold does not depend on those that end: each is read in a
prompt of its own, and goes on from the states at which it paused.

What deeper layers would say of a unit is estimated from those that were read, or from words alone.

    features of a unit    [layers read | layers not read]
                             known  ──►  a linear estimate, from them and from the unit's words

The estimate is a ridge regression of the deeper layers' features on all that is known. A probe is
linear, too, so a unit that was not read to the end has the score that units with such shallow
features have on average; no gold label has a part in it. Windows whose best unit is far below the
best of the request are not read on: the gate of Round Attention (arXiv 2502.15294, §3) between
two layers, with these departures: passages are judged by the default's own score, not by their
mass; those near the best go on, and of the others the best few; before the first layer passages
are judged by their words; and behind the last one those that stopped are judged again, since a
sentence that was read may name what another passage is about.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.features.second_step import RequestTexts, isolated_features, unit_scores
from tamis.compressors.features.shipped_probes import choose_probe
from tamis.compressors.features.words import WORD_FEATURES, Lexicon, word_features
from tamis.compressors.reading.windows import (
    Pool,
    PoolBatch,
    Reader,
    Reading,
    Window,
    pool_signals,
    split_windows,
    tokenize_question,
)
from tamis.probes.errors import BadModelFile
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.prompt import Prompt, QuestionTokens, token_batches
from tamis.probes.signal import Want
from tamis.text.types import Passage, Unit

GATE = "gate"
"""What cards call it, in place of a method."""
PURPOSES = ("units", "isolated")
"""What is scored: units of a request, or units by their own windows alone."""

FLOOR_POWER = 0.625
"""It is a power of the number of windows: the more there are, the smaller a share goes on."""


@dataclass(frozen=True, slots=True)
class Stage:
    """After how many layers windows are judged, and which go on.

    A stage behind the last layer judges those that stopped before, beside what was read: which of
    them are read to the end after all.

    Attributes:
        depth: layers that were read; 0 for none, so that words decide.
        margin: how far below the request's best a window's best may be, in the unit of the score.
            Of isolated windows it is the score itself that a window needs.
        least: windows of a request from which on the stage pays.
        floor: of N windows, ceil(floor · N^.625) go on whatever the margin says, the best first.

    N and the best are those of the windows that are judged together: all of a request of up to
    65,536 tokens, and each such group of a longer one.
    """

    depth: int
    margin: float
    least: int
    floor: float = 0.0

    def choose(
        self, best: Tensor, settled: Tensor, judged: Tensor, is_isolated: bool = False
    ) -> Tensor:
        """Which windows go on, `[N]` bool: those that are settled, and the best of those judged.

        Args:
            best: the score of each window's best unit, `[N]`.
            settled: windows that go on anyway and count, `[N]` bool. judged: those to choose from.
            is_isolated: each by its own score, whatever the others have.
        """
        if is_isolated:
            return settled | (judged & (best >= self.margin))
        chosen = settled | (judged & (best >= best.max() - self.margin))
        rest = judged & ~chosen
        most = ceil(self.floor * len(best) ** FLOOR_POWER)
        lacking = min(most - int(chosen.sum()), int(rest.sum()))
        if lacking > 0:
            ranked = best.masked_fill(~rest, -torch.inf).argsort(descending=True, stable=True)
            chosen[ranked[:lacking]] = True
        return chosen


@dataclass(frozen=True, slots=True)
class Gate:
    """The estimates of one proxy's deeper layers, and the stages that were calibrated for it."""

    probe: LinearProbe

    def stages(self, purpose: str) -> list[Stage]:
        """The stages by depth, from weights of rows (depth, margin, least, floor).

        Raises:
            BadModelFile: the rows are others.
        """
        rows = self.probe.weights.get(f"stages_{purpose}")
        if rows is None or rows.ndim != 2 or rows.shape[1] != 4:
            raise BadModelFile(
                f"the gate's weight 'stages_{purpose}' is no list of stages; fit it anew: tamis "
                "lab probe gate"
            )
        return [
            Stage(int(depth), margin, int(least), floor)
            for depth, margin, least, floor in rows.tolist()
        ]

    def complete(self, known: Tensor, words: Tensor) -> Tensor:
        """The features of all layers, those that were not read estimated: `[U, 2·L·H]`.

        Args:
            known: of the layers that were read, `[U, 2, l, H]`. words: `[U, len(WORD_FEATURES)]`.
        """
        units, _, depth, _ = known.shape
        card = self.probe.card
        missing = 2 * (card.layers - depth) * card.heads
        if not missing:
            return known.flatten(1)
        given = 2 * depth * card.heads + len(WORD_FEATURES)
        estimate = self.probe.weight(f"layers_from_{depth}", (given + 1, missing))
        deeper = torch.cat([known.flatten(1), words, torch.ones(units, 1)], 1) @ estimate
        return torch.cat([known, deeper.view(units, 2, -1, card.heads)], 2).flatten(1)


def choose_gate(reader: Reader, gate: LinearProbe | Path | str | None, layers: int) -> Gate | None:
    """The gate to use, checked against the reader's model; None where there is none of this depth.

    Args:
        gate: one, the path of one, `auto` for the one that ships, or None for none.
        layers: that the method reads.

    Raises:
        ProbeMismatch, BadModelFile, BadInput: as for `choose_probe`.
    """
    found = choose_probe(GATE, reader, gate)
    return Gate(found) if found is not None and found.card.layers == layers else None


@dataclass(slots=True)
class WindowJudge:
    """Scores the units of a request while it is read, by what is known and what is estimated.

    Attributes:
        probe: of units. purpose: one of `PURPOSES`.
    """

    probe: LinearProbe
    purpose: str
    question: str
    passages: Sequence[Passage]
    units: Sequence[Unit]
    tokens: Sequence[int] = ()

    def words(self, tokens: Sequence[int]) -> Tensor:
        """The word features of all units, `[U, W]`; of isolated ones, each passage by itself."""
        self.tokens = tokens
        if self.purpose == "isolated":
            return torch.cat([self._words_of(p) for p in sorted({u.passage for u in self.units})])
        lexicon = Lexicon(self.question, self.passages, self.units)
        return torch.from_numpy(word_features(self.question, lexicon, tokens))

    def _words_of(self, passage: int) -> Tensor:
        """The word features of one passage's units, as if there were no other: `[U', W]`."""
        mine = [u for u, unit in enumerate(self.units) if unit.passage == passage]
        units = [replace(self.units[u], passage=0) for u in mine]
        lexicon = Lexicon(self.question, [self.passages[passage]], units)
        tokens = [self.tokens[u] for u in mine]
        return torch.from_numpy(word_features(self.question, lexicon, tokens))

    def scores(self, features: Tensor, words: Tensor, which: slice) -> Tensor:
        """The score of each of some consecutive units, `[U']`."""
        probe, units, tokens = self.probe, self.units[which], self.tokens[which]
        if self.purpose == "isolated":
            isolated = isolated_features(Reading(features, tuple(tokens), 0, 0, {}))
            return isolated @ probe.weight("alone", (isolated.shape[1],))
        first = torch.cat([features, words], 1)
        texts = RequestTexts.of(self.question, self.passages, units, tokens)
        z, _ = unit_scores(probe, texts, first)
        return z


GROUP_TOKENS = 65536
"""Tokens of the windows that are judged together; their paused states are in memory at a time."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """How a request is read in stages.

    Attributes:
        gate: estimates what was not read. stages: by depth, ascending.
        is_isolated: a window needs the stage's margin, whatever the others have.
        judge: whose scores windows go on by.
        pool: a signal's features of its units: `[U, 2·l·H]` of l layers.
        pool_batch: the same of many windows at once, as for `read_windows`.
    """

    gate: Gate
    stages: Sequence[Stage]
    is_isolated: bool
    judge: WindowJudge
    pool: Pool
    pool_batch: PoolBatch | None = None


def read_in_stages(
    reader: Reader,
    question: str,
    passages: Sequence[Passage],
    units: Sequence[Unit],
    plan: StagePlan,
    limit: int,
) -> Reading:
    """Reads windows as far as they may matter; otherwise as `read_windows`.

    The reader must be one that `can_pause`.
    """
    clock = time.perf_counter()
    windows = split_windows(reader.layout, passages, units, limit)
    ask = tokenize_question(reader.layout, question)
    if (check_size := getattr(reader, "check_size", None)) is not None:
        check_size(sum(len(window.tokens.ids) + len(ask.ids) for window in windows))
    tokens = tuple(b - a for window in windows for a, b in window.tokens.unit_spans)
    tokenised = time.perf_counter()
    words = plan.judge.words(tokens)
    stages = [stage for stage in plan.stages if len(windows) >= stage.least]
    groups = []
    for group in token_batches(windows, GROUP_TOKENS, lambda window: len(window.tokens.ids)):
        groups.append(_Group.of(reader, ask, plan, words, group))
        groups[-1].read(stages)
    depths = tuple(one.shape[2] for group in groups for one in group.known for _ in range(len(one)))
    layers = plan.gate.probe.card.layers
    return Reading(
        torch.cat([group.features for group in groups]),
        tokens,
        sum(group.windows_read for group in groups),
        sum(group.tokens_read for group in groups),
        {"tokenize": (tokenised - clock) * 1e3, "read": (time.perf_counter() - tokenised) * 1e3},
        sum(group.tokens_cached for group in groups),
        depths=depths if min(depths) < layers else None,
        layers=layers,
    )


@dataclass(slots=True)
class _Group:
    """Consecutive windows that are judged together.

    Attributes:
        known: of each window the features of the layers that were read, `[U, 2, l, H]`.
        prompts: of each window, paused where its reading did; none once it has been read.
        features: of all layers, those that were not read estimated: `[U, 2·L·H]`.
        tokens_read, tokens_cached: as in `Reading`.
    """

    reader: Reader
    plan: StagePlan
    units: slice
    words: Tensor
    prompts: list[Prompt]
    known: list[Tensor]
    features: Tensor
    tokens_read: int = 0
    tokens_cached: int = 0

    @classmethod
    def of(
        cls,
        reader: Reader,
        ask: QuestionTokens,
        plan: StagePlan,
        words: Tensor,
        group: list[Window],
    ) -> _Group:
        units = slice(group[0].first, group[-1].stop)
        heads = plan.gate.probe.card.heads
        known = [torch.zeros(w.stop - w.first, 2, 0, heads) for w in group]
        prompts = [Prompt(window.tokens, ask) for window in group]
        return cls(reader, plan, units, words[units], prompts, known, torch.zeros(0))

    @property
    def windows_read(self) -> int:
        """How many windows were read, if only in part."""
        return sum(one.shape[2] > 0 for one in self.known)

    def read(self, stages: Sequence[Stage]) -> None:
        """Reads all windows to the first stage, those that go on to the next, and so to the end."""
        layers = self.plan.gate.probe.card.layers
        within = [stage for stage in stages if stage.depth < layers]
        behind = [stage for stage in stages if stage.depth >= layers]
        live = torch.ones(len(self.prompts), dtype=torch.bool)
        for stage in within:
            self._read_to(live, stage.depth)
            live = self._choose(stage, torch.zeros_like(live), live)
            if not behind:
                for w in _places(~live):
                    self.prompts[w] = replace(self.prompts[w], paused=None)
        self._read_to(live, layers)
        for stage in behind:
            live = self._choose(stage, live, ~live)
            self._read_to(live, layers)
        self.prompts.clear()

    def _read_to(self, live: Tensor, depth: int) -> None:
        """Reads some windows on, each from where it paused, and estimates what is still deeper."""
        for known in sorted({self.known[w].shape[2] for w in _places(live)}):
            mine = [w for w in _places(live) if self.known[w].shape[2] == known]
            self._read_layers(mine, known, depth)
        self._complete()

    def _read_layers(self, live: Sequence[int], first: int, stop: int) -> None:
        """Reads the layers `[first, stop)` of some windows."""
        if stop == first:
            return
        pause = stop < self.plan.gate.probe.card.layers
        want = Want(tuple(range(first, stop)), ("sentence_means",), pause=pause)
        prompts = [self.prompts[w] for w in live]
        signals = self.reader.read(prompts, want)
        pooled = pool_signals(prompts, signals, self.plan.pool, self.plan.pool_batch)
        for w, signal in zip(live, pooled, strict=True):
            prompt, known = self.prompts[w], self.known[w]
            deeper = signal.features.view(len(known), 2, stop - first, -1)
            self.known[w] = torch.cat([known, deeper], 2)
            self.prompts[w] = replace(prompt, paused=signal.paused)
            if not first:
                self.tokens_read += len(prompt) - signal.cached_tokens
                self.tokens_cached += signal.cached_tokens
            elif prompt.paused and prompt.paused.passage_kv and not signal.cached_tokens:
                # the deeper layers were not cached: the passage ran after all
                self.tokens_read += len(prompt.passage.ids)
                self.tokens_cached -= len(prompt.passage.ids)

    def _complete(self) -> None:
        """Estimates the features that were not read, of all windows of a depth at once."""
        rows = [len(one) for one in self.known]
        parts: list[Tensor] = [torch.zeros(0)] * len(rows)
        words = torch.split(self.words, rows)
        for depth in {one.shape[2] for one in self.known}:
            same = [w for w, one in enumerate(self.known) if one.shape[2] == depth]
            done = self.plan.gate.complete(
                torch.cat([self.known[w] for w in same]), torch.cat([words[w] for w in same])
            )
            for w, part in zip(same, torch.split(done, [rows[w] for w in same]), strict=True):
                parts[w] = part
        self.features = torch.cat(parts)

    def _choose(self, stage: Stage, settled: Tensor, judged: Tensor) -> Tensor:
        """The windows that go on, as `Stage.choose` has them."""
        scores = self.plan.judge.scores(self.features, self.words, self.units)
        parts = torch.split(scores, [len(one) for one in self.known])
        best = torch.stack([part.max() for part in parts])
        return stage.choose(best, settled, judged, self.plan.is_isolated)


def _places(which: Tensor) -> list[int]:
    """The places that are true."""
    places: list[int] = which.nonzero().flatten().tolist()
    return places
