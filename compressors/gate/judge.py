"""Judging windows while they are read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tamis.compressors.features.second_step import RequestTexts, isolated_features, unit_scores
from tamis.compressors.features.words import Lexicon, word_features
from tamis.compressors.reading.windows import Reading
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.text import Passage, Unit


@dataclass(slots=True)
class WindowJudge:
    """Scores the units of a request while it is read, by what is known and what is estimated.

    Attributes:
        probe: of units. purpose: one of `gate.estimates.PURPOSES`.
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
