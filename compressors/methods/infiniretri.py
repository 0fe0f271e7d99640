"""InfiniRetri: sentences carried forward through a sliding window of the last layer's attention.

Source: "Infinite Retrieval: Attention Enhanced LLMs in Long-Context Processing" (arXiv 2502.12962,
§3). The document is cut into chunks of whole sentences. At each step the model reads the sentences
carried so far, the next chunk and the question; the last layer's attention from every row of the
question to the prompt's end, summed over heads and rows, is smoothed by a box as wide as a phrase;
the sentences that hold one of the `top_k` best tokens are carried on, as token ids, not as keys and
values. What is carried after the last chunk answers. Heads, rows and box are sums, so their order
does not matter.

`form="sequential"` is that. `form="independent"`, tamis's own, reads every window alone, so windows
can be batched and cached, and then the carried units once more, in one prompt.

Units that are carried to the end score 1 + s, the others s, where s is the best smoothed token of
the unit (mean over heads and rows) when it was last read.

Departures: the last layer of a small proxy finds nothing (of three RULER records at a tenth of the
tokens it lost all, 16 contrast heads lost none:
lab/log/long-inputs.md#2026-11-24-ruler-multi-key-at-a-tenth-of-the-tokens-3-records),
so the 16 best heads of any layer are read, those of the contrast profile that ships, or of the
induction profile where none does, and it is an error where neither ships: `heads=0` is the last
layer, as published. At most `carry_tokens` are carried, the best first, where 300 tokens may carry
300 sentences; no row weights (the authors' package weighs a row by its attention to the question;
the paper does not); tamis's template; documents are joined by a blank line, under their titles; the
independent form's last pass reads the carried units without them. Chosen heads are read in whatever
layer they are: of a model with sliding windows (Gemma: 8 of the 16) some attend no further back
than that layer's window.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.methods.question_rows import induction_heads
from tamis.compressors.options import option
from tamis.compressors.reading.joining import (
    UnitTokens,
    join_passages,
    join_units,
    units_as_tokens,
    units_that_fit,
)
from tamis.compressors.reading.windows import Reader, Window, document_tokens_left, split_windows
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head, HeadProfile, choose_profile
from tamis.probes.prompt import Prompt, QuestionTokens
from tamis.probes.signal import Signal, Want, box_filter, pool_tokens
from tamis.text.types import Passage, Unit

WINDOW_TOKENS, TOP_K, PHRASE_TOKENS = 1024, 300, 8
HEADS = 16
_BY = ("contrast", "induction")
"""How the heads of a profile that ships were found, the better way first."""
InfiniRetriForm = Literal["sequential", "independent"]


class InfiniRetri(ScoringMethod):
    """Reads windows one after the other and carries the best sentences from each into the next."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "a sliding window that carries sentences forward, 16 heads",
        "InfiniRetri, arXiv 2502.12962",
        "proxy",
        research=True,
    )

    reader: Reader
    form: InfiniRetriForm = option(
        "sequential", "Windows one after the other, or independent ones and a last pass."
    )
    window_tokens: int = option(WINDOW_TOKENS, "Tokens of new text a step.", ge=1)
    top_k: int = option(
        TOP_K, "How many best tokens of a step choose the sentences that are carried.", ge=1
    )
    phrase_tokens: int = option(PHRASE_TOKENS, "Width of the box filter.", ge=1)
    carry_tokens: int = option(
        WINDOW_TOKENS,
        "The most that is carried. Both are less where the proxy's context is shorter.",
        ge=1,
        paper="no limit",
    )
    heads: int = option(
        HEADS, "How many heads of any layer; 0 is all of the last layer.", ge=0, paper="0"
    )
    profile: HeadProfile | Path | str = option(
        "auto",
        "A profile of this proxy's heads, or its file; auto is the one that ships: by contrast, "
        "else by induction (tamis lab heads find --by induction needs no labels).",
    )

    def setup(self) -> None:
        """Finds the heads.

        Raises:
            ProbeMismatch: the profile is of another model, revision or template.
            BadInput: no profile ships for this proxy, or it has fewer heads.
        """
        card, self.layers = self.reader.card, self.reader.card.layers
        self.chosen: tuple[Head, ...] | None = None
        if self.heads:
            found = _find_profile(card.name, self.profile)
            found.check(card, self.reader.layout.template.name)
            self.chosen = _best_heads(found, self.heads)
            self.layers = 1 + max(self.chosen)[0]

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """All layers, or as many as the chosen heads need; all where no profile names any."""
        heads, profile = options.get("heads", cls.heads), options.get("profile", cls.profile)
        if not heads or (profile == "auto" and not cls.ships_for(model)):
            return None
        return 1 + max(_best_heads(_find_profile(model, profile), heads))[0]

    @classmethod
    def ships_for(cls, model: str) -> bool:
        """Whether a profile of the model ships."""
        return any(HeadProfile.is_shipped(by, model) for by in _BY)

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """One value per unit; a passage ranks by its best unit."""
        clock = time.perf_counter()
        query = self.reader.layout.question_tokens(question)
        # half of a short context is for carried text and half for new text
        room = document_tokens_left(self.reader, query, self.window_tokens + self.carry_tokens)
        carry = min(self.carry_tokens, max(room // 2, room - self.window_tokens))
        window_tokens = min(self.window_tokens, max(1, room - carry))
        state = _CarryState(self, query, len(units), carry)
        if self.form == "sequential":
            whole, moved = join_passages(passages, units)
            for window in split_windows(
                self.reader.layout, [whole], moved, window_tokens, include_gaps=True
            ):
                state.read_chunk(units_as_tokens(window))
        else:
            state.read_independently(
                split_windows(self.reader.layout, passages, units, window_tokens)
            )
        each = state.values()
        timings = {"read": (time.perf_counter() - clock) * 1e3}
        ranks = best_unit_scores(each, units, len(passages))
        read = state.tokens - state.cached
        return Scores(each, ranks, False, state.prompts, read, timings, state.cached)

    def want(self) -> Want:
        """The last layer, or those of the chosen heads."""
        layers = {layer for layer, _ in self.chosen} if self.chosen else {self.layers - 1}
        return Want(tuple(sorted(layers)), ("question_mean",))

    def token_scores(self, signal: Signal) -> Tensor:
        """The mean over heads and rows, smoothed by the box filter: `[N]`."""
        if self.chosen:
            at = {layer: i for i, layer in enumerate(signal.layers)}
            rows = torch.stack([signal.weights[at[x], head, 0] for x, head in self.chosen])
        else:
            rows = signal.weights[-1, :, 0]
        return box_filter(rows.mean(0), self.phrase_tokens, padded=True)


class _CarryState:
    """The state of one request: each unit's score so far, and the units that are carried on."""

    def __init__(
        self, method: InfiniRetri, query: QuestionTokens, units: int, carry_tokens: int
    ) -> None:
        self.method, self.query, self.carry_tokens = method, query, carry_tokens
        self.unit_scores = [0.0] * units
        self.carried: list[UnitTokens] = []
        self.prompts = self.tokens = self.cached = 0

    def values(self) -> tuple[float, ...]:
        """Units that were carried to the end score above all others."""
        carried = {part.unit for part in self.carried}
        return tuple(s + (u in carried) for u, s in enumerate(self.unit_scores))

    def read_chunk(self, new: Sequence[UnitTokens]) -> None:
        """Reads the carried units with new ones, and carries the units of the best tokens on."""
        self.carried = self._units_to_carry(*self._read_joined([*self.carried, *new]))

    def read_independently(self, chunks: Sequence[Window]) -> None:
        """Reads every window alone, then the units of the best tokens in one prompt."""
        parts, tokens = [], []
        prompts = [Prompt(window.tokens, self.query) for window in chunks]
        for window, signal in zip(chunks, self._read(prompts), strict=True):
            parts += (own := units_as_tokens(window))
            tokens.append(self._record_scores(own, signal, window.tokens.unit_spans))
        if parts:
            self.carried = self._units_to_carry(parts, torch.cat(tokens))
        if len(prompts) > 1:
            self._read_joined(self.carried)

    def _read_joined(self, parts: list[UnitTokens]) -> tuple[list[UnitTokens], Tensor]:
        """Reads some units in one prompt; returns them and the scores of the prompt's tokens."""
        joined = join_units(parts)
        (signal,) = self._read([Prompt(joined, self.query)])
        return parts, self._record_scores(parts, signal, joined.unit_spans)

    def _read(self, prompts: Sequence[Prompt]) -> Iterator[Signal]:
        self.prompts += len(prompts)
        self.tokens += sum(map(len, prompts))
        for signal in self.method.reader.read(prompts, self.method.want()):
            self.cached += signal.cached_tokens
            yield signal

    def _record_scores(
        self, parts: Sequence[UnitTokens], signal: Signal, spans: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Stores the score of each unit's best token; returns the scores of all tokens: `[N]`."""
        tokens = self.method.token_scores(signal)
        best = pool_tokens(tokens, spans, "max").tolist()
        for part, value in zip(parts, best, strict=True):
            self.unit_scores[part.unit] = value
        return tokens

    def _units_to_carry(self, parts: Sequence[UnitTokens], tokens: Tensor) -> list[UnitTokens]:
        """The units that hold one of the best tokens, the best first, as far as they fit."""
        if not len(tokens):
            return []
        worst = float(tokens.topk(min(self.method.top_k, len(tokens))).values[-1])
        hits = [part for part in parts if self.unit_scores[part.unit] >= worst]
        order = sorted(hits, key=lambda part: (-self.unit_scores[part.unit], part.unit))
        return units_that_fit(order, self.carry_tokens)


def _find_profile(model: str, given: HeadProfile | Path | str) -> HeadProfile:
    """The profile that is given, or the one that ships for a model.

    Raises:
        BadInput: none ships; the last layer is read only where `heads=0` asks for it.
    """
    shipped = [by for by in _BY if HeadProfile.is_shipped(by, model)]
    if given == "auto" and not shipped:
        raise BadInput(
            f"no heads of {model} are known that look back: make a profile, tamis lab heads find "
            f"--by induction --proxy {model} --out FILE, and give it as profile; or read the last "
            "layer as published, heads=0, which finds little in a small model"
        )
    return choose_profile(given, shipped[0] if shipped else _BY[0], model)


def _best_heads(found: HeadProfile, heads: int) -> tuple[Head, ...]:
    """The best heads; of those found by induction the deep ones are left out."""
    return induction_heads(found, heads) if found.by == "induction" else found.best(heads)


Method = InfiniRetri
