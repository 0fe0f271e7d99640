"""Long prompts of labelled questions: their own passages, then others' up to the length."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.compressors.reading.windows import split_windows
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout, PassageTokens
from tamis_lab.datasets.records import (
    Record,
    gold_labels,
    passages_of,
    request_units,
)
from tamis_lab.methods.prefill.contract import PromptShape

MISSES = 20
"""Passages in a row that are too long for what is left before a prompt counts as full."""


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """One question behind many passages.

    Attributes:
        ids: of opening, passages and question. gold: which units answer it, `[U]` bool.
    """

    ids: tuple[int, ...]
    shape: PromptShape
    gold: Tensor

    @property
    def unit_tokens(self) -> list[int]:
        """The number of tokens of each unit."""
        return [stop - start for start, stop in self.shape.units.tolist()]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A passage as tokens, and which of its units are gold."""

    tokens: PassageTokens
    gold: tuple[bool, ...]


class PromptBuilder:
    """Builds long prompts of the questions of some records."""

    def __init__(self, layout: Layout, records: Sequence[Record], layers: int, seed: int) -> None:
        """Passages of all records may stand beside those of one.

        Args:
            layers: that a pass runs.
        """
        self._layout, self._layers, self._seed = layout, layers, seed
        self._line = layout.tokenizer.encode("\n").ids
        self.records = list(records)
        self._pieces: dict[int, list[_Piece]] = {}

    def build(self, number: int, tokens: int) -> LongPrompt | None:
        """The prompt of one record with at most so many tokens; None where its gold needs more.

        Its passages with gold come first, then its others, then those of other records, and all
        are shuffled.
        """
        record, draw = self.records[number], random.Random(f"{self._seed}:{number}:{tokens}")
        asked = self._layout.question_tokens(record["question"])
        left = tokens - len(self._layout.opening) - len(asked.ids)
        own = self._pieces_of(number)
        chosen = [piece for piece in own if any(piece.gold)]
        left -= sum(self._cost(piece) for piece in chosen)
        if not chosen or left < 0:
            return None
        misses = 0
        for piece in self._fillers(number, own, draw):
            if self._cost(piece) <= left:
                chosen.append(piece)
                left -= self._cost(piece)
                misses = 0
            elif (misses := misses + 1) == MISSES:
                break
        draw.shuffle(chosen)
        return self._join(chosen, asked.ids, asked.first_row)

    def build_many(self, tokens: int, count: int) -> list[LongPrompt]:
        """The prompts of the first `count` records whose gold fits.

        Raises:
            BadInput: there are fewer.
        """
        found: list[LongPrompt] = []
        for number in range(len(self.records)):
            if len(found) == count:
                break
            prompt = self.build(number, tokens)
            found += [] if prompt is None else [prompt]
        if len(found) < count:
            raise BadInput(
                f"{len(found)} questions have gold that fits into {tokens:,} tokens and {count} "
                "are wanted; give more records, or ask for fewer"
            )
        return found

    def _fillers(self, number: int, own: Sequence[_Piece], draw: random.Random) -> Iterator[_Piece]:
        """Passages without gold: the record's, then those of others in a drawn order."""
        yield from (piece for piece in own if not any(piece.gold))
        others = [n for n in range(len(self.records)) if n != number]
        draw.shuffle(others)
        seen = {piece.tokens.ids for piece in own}
        for other in others:
            for piece in self._pieces_of(other):
                if piece.tokens.ids not in seen:
                    seen.add(piece.tokens.ids)
                    yield _Piece(piece.tokens, (False,) * len(piece.gold))

    def _pieces_of(self, number: int) -> list[_Piece]:
        if number not in self._pieces:
            record = self.records[number]
            units = request_units(record)
            labels = gold_labels(record, units)
            windows = split_windows(self._layout, passages_of(record), units, 1 << 30, True)
            self._pieces[number] = [
                _Piece(window.tokens, tuple(labels[window.first : window.stop]))
                for window in windows
            ]
        return self._pieces[number]

    def _cost(self, piece: _Piece) -> int:
        """The tokens of a passage with the line break after it."""
        return len(piece.tokens.ids) + len(self._line)

    def _join(self, pieces: Sequence[_Piece], asked: Sequence[int], first_row: int) -> LongPrompt:
        ids = list(self._layout.opening)
        passages: list[tuple[int, int]] = []
        units: list[tuple[int, int]] = []
        gold: list[bool] = []
        for piece in pieces:
            start = len(ids)
            ids += piece.tokens.ids
            first = start + piece.tokens.title_tokens
            units += [(first + a, first + b) for a, b in piece.tokens.unit_spans]
            gold += piece.gold
            if piece is not pieces[-1]:
                ids += self._line
            passages.append((start, len(ids)))
        ids += asked
        shape = PromptShape(
            len(ids),
            len(asked) - first_row,
            self._layers,
            torch.tensor(passages),
            torch.tensor(units),
        )
        return LongPrompt(tuple(ids), shape, torch.tensor(gold))
