"""The default: attention of every question row, weighed by a linear probe, with word features.

Idea: Sentinel (arXiv 2505.23277, §3) reads how the last prompt token attends to each sentence and
weighs the heads by a logistic regression. Departures, each measured:
lab/log/reading-and-probe.md#2026-11-24-prompt-wording-features-and-loss, and for 2
lab/log/reading-and-probe.md#2026-11-25-second-readings-packs-and-whole-contexts.

1. rows: all rows from the question's first token to the prompt's end, averaged, not the last alone;
   of a question of several sentences the rows of each that asks, of which each head's largest
   mean counts (lab/log/reading-and-probe.md#2026-12-01-the-sentences-of-a-message-that-ask);
2. passages are read alone, in windows of whole units, so none changes the features of another;
3. features: log of a unit's attention mass per token, and of its best token, of each head, not
   renormalised inside the context;
4. the words of question and unit (BM25, rare words covered, titles) beside the heads;
5. a second step: a unit is scored again with what surrounds it (neighbours, paragraph, section,
   lead-in, heading, passage) and with the best units, which may name it by title or rare words; the
   shape of the request decides how far either is trusted (features/second_step.py);
6. where a sentence encoder is installed, its cosines beside the heads, weighed by that same gate;
7. weights: a listwise softmax over the units of a question, not a classifier of single sentences;
8. of records that are alike (orders, releases) those that the question does not name by number
   lose (features/words.py).

With `isolated=True` steps 4 to 6 and 8 are left out: a unit's score then depends on the question
and its own window alone, and no passage can move the score of another.

Of ten windows or more not every one is read to the end: with a `gate` those whose first layers show
that they cannot matter stop there, and with `cascade` those that have too little to do with the
question's words are not read at all (gate/estimates.py). Their units have the score that is
expected of them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from torch import Tensor

from tamis.compressors.features.bm25 import visible_texts, visible_texts_of_each, whole_texts
from tamis.compressors.features.likeness import LikenessJudges
from tamis.compressors.features.rank_probe import (
    choose_rank_probe,
    rank_with_encoders,
    rank_with_probe,
)
from tamis.compressors.features.second_step import (
    ENCODER,
    RequestTexts,
    SecondStep,
    answerability,
    check_isolation,
    encoder_candidates,
    first_features,
    is_short,
    isolated_features,
    isolated_probabilities,
    judge,
    language_warning,
    languages_apart,
    order_by_cosines,
    unit_probabilities,
)
from tamis.compressors.features.shipped_probes import choose_probe, load_probe, shipped_probe
from tamis.compressors.features.words import OTHERS, Lexicon, NamedTexts, record_texts
from tamis.compressors.method import MethodInfo, ModelSource, TwoStepMethod
from tamis.compressors.options import option
from tamis.compressors.reading.windows import WINDOW_TOKENS, Reading, asking_text, read_windows
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.probes.model.encoder import CachedEncoder
from tamis.probes.probing.heads import Head, HeadProfile, choose_profile
from tamis.probes.probing.linear import LinearProbe, conformal_threshold
from tamis.probes.signal import SharedRows, Signal, Spans, Want, pool_shared
from tamis.text.types import Passage, Unit

if TYPE_CHECKING:
    from tamis.compressors.features.gate import Gate, Stage


HEADS = 16
_BY = "induction"
_INDUCTION_DEPTH = 2 / 3
"""Induction heads below this share of depth look at what comes next, less at what was asked."""
_MIDDLE_OF_DEPTH = (0.45, 0.75)
"""The shares of depth between which heads attend to evidence in every model measured so far."""


@dataclass(frozen=True, slots=True)
class UnfittedHeads:
    """The heads that are averaged without a probe, found without labels.

    On random tokens that are repeated, induction heads look at what followed a token's earlier copy
    (RazorAttention, Tang et al. 2024, arXiv 2407.15891, §3.2); no label, language or text is needed
    to find them, and on real questions the same heads look at evidence.

        with a profile   mean over the 16 best of the first two thirds of depth of log a[h, best]
        without one      mean over all heads at 45 to 75 % of depth of a[h, mean]

    a[h, best] and a[h, mean] are what the question's rows pay to a unit's best token, and per
    token. Departures: heads per query head and not per key group, and no cache is thinned by them.
    Measured in lab/log/heads.md#2026-11-26-a-proxy-without-a-probe.

    Attributes:
        first, stop: the half-open range of layers they are in.
        induction: layer and head each; empty where all heads of these layers are averaged.
    """

    first: int
    stop: int
    induction: tuple[Head, ...] = ()

    @classmethod
    def choose(cls, reader: Any, profile: HeadProfile | Path | str) -> Self:
        """The best induction heads of a proxy, or the middle of it where there is no profile.

        Args:
            profile: of induction heads, or its path; `auto` is the one that ships, if one does for
                this revision and template.

        Raises:
            ProbeMismatch: the profile is of another model, revision or template.
            BadModelFile: it cannot be read.
        """
        card, template = reader.card, reader.layout.template.name
        if found := _find_profile(card.name, profile):
            if profile != "auto":
                found.check(card, template)
            heads = induction_heads(found)
            layers = [layer for layer, _ in heads]
            fits = (found.revision, found.template, found.layers, found.heads)
            if fits == (card.revision, template, card.layers, card.heads):
                return cls(min(layers), max(layers) + 1, heads)
        return cls(*_middle_layers(card.layers))

    def scores(self, features: Tensor, heads: int) -> Tensor:
        """The score of each unit, `[U]`.

        Args:
            features: log mean and log maximum of the question rows' attention, `[U, 2·L·H]`.
            heads: H, of one layer.
        """
        mean, best = features.view(len(features), 2, -1, heads).unbind(1)
        if self.induction:
            layers, columns = zip(*self.induction, strict=True)
            return best[:, layers, columns].mean(1)
        return mean[:, self.first : self.stop].exp().mean((1, 2))


def unfitted_layers(model: str, profile: HeadProfile | Path | str) -> int | None:
    """How many layers are enough, whether the profile fits the model or not; None without one.

    Args:
        profile: as for `UnfittedHeads.choose`.

    Raises:
        BadModelFile: it cannot be read.
    """
    found = _find_profile(model, profile)
    if found is None:
        return None
    deepest = max(layer for layer, _ in induction_heads(found))
    return max(deepest + 1, _middle_layers(found.layers)[1])


def induction_heads(profile: HeadProfile, count: int = HEADS) -> tuple[Head, ...]:
    """The best heads of a profile that are not too deep, best first; fewer if there are fewer."""
    most = max(1, round(_INDUCTION_DEPTH * profile.layers))
    ranked = profile.best(profile.layers * profile.heads)
    return tuple(head for head in ranked if head[0] < most)[:count]


def _find_profile(model: str, profile: HeadProfile | Path | str) -> HeadProfile | None:
    if profile == "auto" and not HeadProfile.is_shipped(_BY, model):
        return None
    return choose_profile(profile, _BY, model)


def _middle_layers(depth: int) -> tuple[int, int]:
    first = int(_MIDDLE_OF_DEPTH[0] * depth)
    return first, max(first + 1, ceil(_MIDDLE_OF_DEPTH[1] * depth))


_TINY = 1e-9


def pool_question_rows(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Log mean and log maximum of the question rows' attention to each unit: `[U, 2·L·H]`.

    Where a signal has rows of several sentences, the largest of theirs, head by head.
    """
    mean, best = (signal.pool(spans, how).amax(-1) for how in ("mean", "max"))
    return torch.cat([mean.flatten(1), best.flatten(1)], 1).clamp_min(_TINY).log()


def pool_question_batch(rows: Sequence[SharedRows], spans: Sequence[Spans]) -> Tensor:
    """What `pool_question_rows` gives for each of many sequences of one batch, in few calls."""
    sums, best, widths = pool_shared(rows, spans)
    pooled = [(sums / widths).amax(-1).flatten(1), best.amax(-1).flatten(1)]
    return torch.cat(pooled, 1).clamp_min(_TINY).log()


class QuestionRows(TwoStepMethod):
    """Scores units by all question rows, each passage read alone, with words and a second step."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "attention of every question row, passages alone, linear probe, second step (default)",
        "after Sentinel, arXiv 2505.23277; departures in the file",
        "proxy+encoder",
    )
    promises_coverage: ClassVar[bool] = True
    first_stage_weight: ClassVar[float] = 0.9

    probe: LinearProbe | None = option(
        "auto",
        "A probe fitted for this proxy, or its file; auto is the one that ships. None for none: "
        "then a few heads are averaged, and scores are not probabilities.",
        takes=LinearProbe | Path | str | None,
    )
    isolated: bool = option(False, "Score each window on its own, without words and second step.")
    window_tokens: int = option(WINDOW_TOKENS, "Tokens of the longest window.", ge=1)
    rank_probe: LinearProbe | Literal["auto"] | None = option(
        "auto",
        "What ranks whole documents: a probe of tamis lab probe rank, or its file; auto is the one "
        "that ships. None ranks each document by its best unit.",
        takes=LinearProbe | Path | str | None,
    )
    use_encoder: bool | Literal["auto"] = option(
        "auto",
        "Whether cosines of a sentence encoder are weighed beside the heads; auto is wherever one "
        "is installed and the probe was fitted with one.",
    )
    profile: HeadProfile | Path | str = option(
        "auto",
        "Without a probe: a profile of this proxy's induction heads, or its file (tamis lab heads "
        "find --by induction, which needs no labels); auto is the one that ships, if any.",
    )
    encoder: Any = None
    """A sentence encoder; None for none."""
    rank_encoders: Sequence[Any] = ()
    """A sentence encoder of many languages, for rankings; None for none."""
    gate: Any = option(
        "auto",
        "Whether, of many windows, those that cannot matter stop after the first layers: auto "
        "where a gate ships for the proxy and this depth; True likewise, and is refused where "
        "none does; False never; or the file of one that tamis lab probe gate wrote.",
        takes=LinearProbe | Path | str | bool,
    )
    cascade: bool = option(
        True,
        "Whether a gate may also leave some of many windows unread, for their words; it says from "
        "how many on.",
    )

    def setup(self) -> None:
        """Finds probe, heads and gate.

        Raises:
            ProbeMismatch: a probe or profile is for another model, revision or template.
            BadModelFile: it cannot be read, or its calibration would break the isolation.
            BadInput: the rank probe or the gate cannot be used with the other options.
        """
        self.probe = choose_probe("question_rows", self.reader, self.probe)
        if self.probe and self.profile != "auto":
            raise BadInput("profile is of heads that are averaged without a probe; give probe=None")
        self._unfitted: UnfittedHeads | None = None
        if self.probe:
            self.layers = self.probe.card.layers
        else:
            self._unfitted = UnfittedHeads.choose(self.reader, self.profile)
            self.layers = self._unfitted.stop
        if self.isolated and self.probe:
            check_isolation(self.probe)
        if self.use_encoder is False or self.isolated:
            self.encoder, self.rank_encoders = None, ()
        self._has_encoder = self.encoder is not None and _weighs_encoder(self.probe)
        if self.use_encoder is True and not self._has_encoder:
            raise BadInput(
                "use_encoder is true, and there is none to use: windows are isolated, the probe "
                "was fitted without one, or none is installed (tamis models pull minilm-l6)"
            )
        if self.rank_probe != "auto":
            self.rank_probe = load_probe(self.rank_probe)
        if self.rank_probe not in ("auto", None):
            choose_rank_probe(self)
        self.gate = self._choose_gate(self.gate)

    @classmethod
    def for_fit(cls, reader: Any, layers: int) -> Self:
        """A method that only reads: features of all heads of the first layers, to fit a probe."""
        method = cls(reader, probe=None)
        method.layers = layers
        return method

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """As many as the probe reads, or the induction heads; all where there is neither."""
        probe = _probe_of(model, options)
        if probe:
            return probe.card.layers
        return unfitted_layers(model, options.get("profile", cls.profile))

    @classmethod
    def uses_encoder(cls, model: str, options: Mapping[str, Any]) -> bool:
        """Whether the sentence encoder reads a part of the units, where it is installed."""
        if options.get("use_encoder", cls.use_encoder) is False or options.get("isolated"):
            return False
        return _weighs_encoder(_probe_of(model, options))

    @classmethod
    def build(cls, models: ModelSource, options: Mapping[str, Any]) -> Self:
        """The method with its proxy, and with the sentence encoder where it is installed.

        Vectors of units are kept, as passages are.

        Raises:
            ProxyMissing: the proxy is not on this machine, or the encoder, and `use_encoder` asks
                for it. BadInput: an option is out of range.
        """
        encoder = None
        layers = cls.layers_needed(models.proxy_name, options)
        if cls.uses_encoder(models.proxy_name, options):
            try:
                encoder = CachedEncoder(models.encoder(), source=models.vector_source)
            except ProxyMissing:
                if options.get("use_encoder") is True:
                    raise
        rank_encoders = tuple(map(CachedEncoder, models.rank_encoders()))
        reader = models.reader(layers)
        return cls(reader, encoder=encoder, rank_encoders=rank_encoders, **options)

    @property
    def reading_key(self) -> str:
        """The window length and the depth; with an encoder also the probe, by which it reads."""
        key = f"{self.window_tokens} {self.layers}"
        if self.probe is None:
            return key
        if self._has_encoder:
            key += f" encoder {self.probe.digest()}"
        if self.gate is not None:
            key += f" gate {self.gate.probe.digest()} {self.cascade} {self.probe.digest()}"
        return key

    def reading_everything(self) -> QuestionRows:
        """The same method without gate and cascade."""
        whole = copy.copy(self)
        whole.gate = None
        return whole

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Reads every window as far as it may matter, then the best units with the encoder."""
        if stages := self._stages(units):
            reading = self._read_in_stages(question, passages, units, stages)
        else:
            want = Want(tuple(range(self.layers)), ("sentence_means",))
            reading = read_windows(
                self.reader,
                question,
                passages,
                units,
                want,
                pool_question_rows,
                self.window_tokens,
                pool_batch=pool_question_batch,
            )
        if self._has_encoder and units:
            clock = time.perf_counter()
            step = self._second_step(reading, question, passages, units)
            cosines = self._cosines(reading, step, question, passages, units)
            timings = reading.timings_ms | {"encode": (time.perf_counter() - clock) * 1e3}
            judged = (reading.features, step)
            reading = replace(reading, cosines=cosines, timings_ms=timings, judged=judged)
        return reading

    @property
    def _purpose(self) -> str:
        """What the gate is asked for: one of `features.gate.PURPOSES`."""
        return "isolated" if self.isolated else "units"

    def _stages(self, units: Sequence[Unit]) -> list[Stage]:
        """The stages that windows are read in; none where each is read to the end at once."""
        if self.gate is None or not units or not getattr(self.reader, "can_pause", False):
            return []
        return [s for s in self.gate.stages(self._purpose) if self.cascade or s.depth]

    def _read_in_stages(
        self,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        stages: list[Stage],
    ) -> Reading:
        from tamis.compressors.features.gate import StagePlan, WindowJudge, read_in_stages

        assert self.probe is not None
        assert self.gate is not None
        judge = WindowJudge(self.probe, self._purpose, question, passages, units)
        pools = (pool_question_rows, pool_question_batch)
        plan = StagePlan(self.gate, stages, self.isolated, judge, *pools)
        return read_in_stages(self.reader, question, passages, units, plan, self.window_tokens)

    def _choose_gate(self, gate: LinearProbe | Path | str | bool) -> Gate | None:
        """The gate of an option.

        Raises:
            BadInput: one was asked for, and there is none to use.
        """
        if gate is False or (gate == "auto" and not self._has_shipped_probe()):
            return None
        from tamis.compressors.features.gate import choose_gate

        found = None
        if self.probe is not None:
            found = choose_gate(self.reader, "auto" if gate is True else gate, self.layers)
        if found is None and gate != "auto":
            raise BadInput(
                f"gate is {gate!r:.80}, and there is none for {self.reader.card.name} at "
                f"{self.layers} layers and this probe; leave it out, or fit one: tamis "
                "lab probe gate"
            )
        return found

    def _has_shipped_probe(self) -> bool:
        """Whether margins of the gate that ships mean what they were chosen for."""
        ships = shipped_probe("question_rows", self.reader.card.name)
        if self.probe is None or ships is None:
            return False
        return self.probe is ships or self.probe.digest() == ships.digest()

    def _second_step(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> SecondStep:
        """The second step of a reading: that by which the encoder's candidates were chosen, if any.

        One of other features, or of another probe, was computed for another request.
        """
        assert self.probe is not None
        if reading.judged is not None:
            features, step = reading.judged
            same = step.texts.question == question and step.texts.lexicon.units is units
            if features is reading.features and step.probe is self.probe and same:
                found: SecondStep = step
                return found
        texts = RequestTexts.of(question, passages, units, reading.tokens)
        return SecondStep(self.probe, texts, first_features(reading, question, texts.lexicon))

    def _cosines(
        self,
        reading: Reading,
        step: SecondStep,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
    ) -> Tensor:
        """The cosines of the encoder's candidates, of all units of a short document, `[U]`; not a
        number for other units."""
        z, _ = step.scores()
        if is_short(step.texts.structure):
            candidates = torch.arange(len(units))
        else:
            candidates = encoder_candidates(z, reading.tokens, reading.is_whole)
        chosen = [units[u] for u in candidates.tolist()]
        if isinstance(self.encoder, CachedEncoder):
            texts_of = visible_texts_of_each(passages, units)
            for passage in sorted({unit.passage for unit in chosen}):
                self.encoder.recall(texts_of[passage])
        vectors = self.encoder.encode([asking_text(question), *visible_texts(passages, chosen)])
        cosines = torch.full((len(units),), torch.nan)
        cosines[candidates] = vectors[1:] @ vectors[0]
        return cosines

    def score_reading(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """Scores a reading; no model runs."""
        clock = time.perf_counter()
        model, known = self.reader.card.name, dict[str, Any]()
        languages = languages_apart(model, question, [passage.text for passage in passages])
        if not units:
            values = torch.zeros(0)
        elif self.probe is None:
            assert self._unfitted is not None
            values = self._unfitted.scores(reading.features, self.reader.card.heads)
        elif self.isolated:
            values = isolated_probabilities(self.probe, isolated_features(reading))
        else:
            step = self._second_step(reading, question, passages, units)
            values, known = self._score_together(reading, step)
            headings = step.texts.structure.heading
            named = NamedTexts.find(question, partial(record_texts, passages, units, headings))
            if named:
                values = torch.tensor(named.raise_probabilities(values.tolist(), OTHERS))
                known["warnings"] = tuple(named.warnings)
            answerable, is_unlike = known["answerability"], known["is_unlike"]
            known |= judge(self.probe, answerable, step.texts, languages, is_unlike)
        if languages:
            warned = language_warning(model, *languages)
            known["warnings"] = (warned, *known.get("warnings", ()))
        score_ms = (time.perf_counter() - clock) * 1e3
        known["calibrated"] = self.probe is not None
        return reading.scores(values, units, len(passages), score_ms=score_ms, **known)

    def _score_together(self, reading: Reading, step: SecondStep) -> tuple[Tensor, dict[str, Any]]:
        """The probability of each unit among all, the answerability, and whether it is unlike."""
        assert self.probe is not None
        z, is_unlike = step.scores()
        isolated = isolated_features(reading)
        answerable, prefix = answerability(self.probe, step.first, z, isolated), ""
        if self._has_encoder and reading.cosines is not None:
            z, is_unlike = step.scores(reading.cosines)
            prefix = ENCODER
        known = {"answerability": answerable, "is_unlike": is_unlike}
        values = unit_probabilities(self.probe, z, prefix)
        if reading.cosines is not None and prefix and is_short(step.texts.structure):
            values = order_by_cosines(values, reading.cosines)
        return values, known

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """The threshold at which all the evidence is kept this often.

        None without a probe that was calibrated for it.

        Args:
            cautious: the lower one, at which that holds on the hardest domain of the calibration.
        """
        name = "alone_lowest" if self.isolated else f"{ENCODER * self._has_encoder}lowest"
        if self.probe is None or name not in self.probe.weights:
            return None
        threshold = conformal_threshold(self.probe.weights[name], coverage)
        if cautious and (hardest := self.probe.weights.get(f"{name}_hardest")) is not None:
            return min(threshold, conformal_threshold(hardest, coverage))
        return threshold

    def first_step(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Tensor:
        """The scores of the first step, `[U]`; only for a method with a probe."""
        assert self.probe is not None
        first = first_features(reading, question, Lexicon(question, passages, units))
        return first @ self.probe.weight("first", (first.shape[1],))

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The probability that each passage answers, from all of it and its units.

        Sentence encoders have their part beside a rank probe: that of English where question and
        passages are in English, that of many languages everywhere.
        """
        alone = copy.copy(self)
        alone.encoder, alone._has_encoder = None, False
        judges = LikenessJudges.choose(self.encoder, self.rank_encoders, question, passages)
        if units and judges is not None and choose_rank_probe(alone) is not None:
            ranks = rank_with_encoders(alone, judges, question, passages, units)
        else:
            ranks = rank_with_probe(alone, question, passages, units)
        named = NamedTexts.find(question, partial(whole_texts, passages))
        if named is None or not ranks.calibrated:
            return ranks
        return replace(ranks, values=named.raise_probabilities(ranks.values))


def _probe_of(model: str, options: Mapping[str, Any]) -> LinearProbe | None:
    """The probe that a method of these options has for a model."""
    if (given := options.get("probe", QuestionRows.probe)) == "auto":
        return shipped_probe("question_rows", model)
    return load_probe(given)


def _weighs_encoder(probe: LinearProbe | None) -> bool:
    return probe is not None and f"{ENCODER}levels" in probe.weights


Method = QuestionRows
