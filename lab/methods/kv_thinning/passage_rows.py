"""What eviction policies look at beside keys and values: rows of passages, queries of questions."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.lru import LruCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis_lab.methods.kv_thinning.contract import KeptPassage, Needs
from tamis_lab.methods.kv_thinning.sequence_rows import sequence_rows

REPEAT = "\nRepeat the previous context exactly.\n"
_KEPT_PASSAGES = 64
_ROOM_STEP = 64
"""Passage lengths are rounded to this many tokens for query states, which are then shared."""


@dataclass(slots=True)
class PassageRows:
    """Reads what policies need of passages, with one proxy and one bank of questions.

    Attributes:
        layers: how many are kept.
        bank: question pieces whose attention stands for that of later questions.
        sizes, span_losses: of the model, see `KeptPassage`.
        kept_ms: CPU time that it took to read the rows of the last passage, if they were read for
            an earlier call and were still there; else 0.
    """

    proxy: Proxy
    layers: int
    bank: Sequence[QuestionTokens]
    sizes: Tensor | None = None
    span_losses: Tensor | None = None
    kept_ms: float = 0.0
    _queries: LruCache[Tensor] = field(default_factory=lambda: LruCache(_KEPT_PASSAGES))
    _read: LruCache[tuple[Tensor | None, float]] = field(
        default_factory=lambda: LruCache(_KEPT_PASSAGES)
    )

    def passage(self, ids: Sequence[int], kept: Sequence[KVLayer], needs: Needs) -> KeptPassage:
        """What a policy is given: keys and values in fp32, and what it needs.

        Args:
            ids: tokens of the passage, its title line included. kept: its exact layers.
        """
        keys = torch.stack([layer.keys.float() for layer in kept])
        # the last layer may come without values, since no reading uses them
        values = [layer.values.float() for layer in kept if layer.values.shape[1]]
        values += [torch.zeros_like(keys[0])] * (len(kept) - len(values))
        return KeptPassage(
            keys,
            torch.stack(values),
            self._kept_rows(ids, kept, needs),
            self.queries(self.bank, len(ids)) if needs == "queries" else None,
            self.sizes,
            self.span_losses,
            seed=hash(tuple(ids)) & 0x7FFFFFFF,
        )

    def asked_rows(
        self, ids: Sequence[int], kept: KVLayers, questions: Sequence[QuestionTokens]
    ) -> Tensor:
        """The mean of each question's rows over the passage: `[L, H, B, N]`."""
        piece = PassageTokens(tuple(ids), 0, ())
        prompts = [Prompt(piece, question) for question in questions]
        signals = self.proxy.read_cached(prompts, [kept] * len(prompts), self._want())
        return torch.cat([signal.weights for signal in signals], 2)

    def queries(self, questions: Sequence[QuestionTokens], tokens: int) -> Tensor:
        """Query states of all their rows behind a passage of about that length: `[L, H, B, d]`."""
        room = -(-tokens // _ROOM_STEP) * _ROOM_STEP
        key = (room, tuple(question.ids for question in questions))

        def compute() -> Tensor:
            states = question_states(self.proxy, questions, range(self.layers), room)
            return torch.cat(list(states), 2)

        return self._queries.get(key, compute, lambda _: 1)

    def _kept_rows(self, ids: Sequence[int], kept: KVLayers, needs: Needs) -> Tensor | None:
        """Rows of a passage, read once for all shares of a policy."""
        key = (needs, tuple(ids))
        self.kept_ms = 0.0
        if (found := self._read.peek(key)) is not None:
            rows, self.kept_ms = found
            return rows
        clock = time.process_time()
        rows = self._rows(ids, kept, needs)
        self._read.put(key, 1, (rows, (time.process_time() - clock) * 1e3))
        return rows

    def _rows(self, ids: Sequence[int], kept: KVLayers, needs: Needs) -> Tensor | None:
        if needs == "rows":
            return self.asked_rows(ids, kept, self.bank)
        if needs == "own_rows":
            rows = (0, len(ids))
            return sequence_rows(self.proxy, ids, rows, "question_mean", self.layers)
        if needs == "repeated_rows":
            again = self.proxy.layout.tokenizer.encode(REPEAT).ids
            sequence = (*ids, *again, *ids)
            rows = (len(sequence) - len(ids), len(sequence))
            drawn = sequence_rows(self.proxy, sequence, rows, "question", self.layers)
            return drawn[..., : len(ids)].amax(2, keepdim=True)
        return None

    def _want(self) -> Want:
        return Want(tuple(range(self.layers)))
