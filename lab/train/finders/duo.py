"""DuoAttention: which heads lose when they see the sink and the last tokens alone.

Source: Xiao et al. 2024 (arXiv 2410.10819, §2.3): with the model frozen and a gate α in [0, 1] for
each layer and key head, from 1,

    out = α·full attention + (1 - α)·(first 128 + last 256 tokens)
    loss = mean squared error of the last states at the answer + .05·mean |α|

on long texts with ten passkeys of 32 words; lr .02, 2,000 steps. Score = α.

Departures: scaled down to a small model: 3 passkeys of 4 tokens in random tokens, prompts of 512
tokens, first 4 and last 64 tokens, 60 steps, Adam of lr .05; a head has its key head's α. A mixture
of outputs is that of the weights, so one softmax serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis_lab.datasets.records import Record
from tamis_lab.methods.attention_math import normalise_rows
from tamis_lab.methods.window_attention.edited_pass import final_states
from tamis_lab.methods.window_attention.visitor import PassEdit
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress
from tamis_lab.train.heads.repeats import random_words

SINKS, RECENT, KEYS, KEY_TOKENS = 4, 64, 3, 4
SPARSITY, RATE = 0.05, 0.05


class Duo(HeadFinder):
    """Heads whose far tokens the last states need."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "gates between full and local attention, learnt on passkeys", "arXiv 2410.10819"
    )

    tokens: int = option(512, "Tokens of a prompt: passkeys are out of local reach.", ge=2 * RECENT)
    steps: int = option(60, "Steps of the fit, a prompt each.", ge=1)

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """A single case, α: `[1, L, H]`."""
        config, chance = self.reader.config, torch.Generator().manual_seed(self.seed)
        heads, groups = int(config.num_attention_heads), int(config.num_key_value_heads)
        gates = torch.ones(self.reader.card.layers, groups, requires_grad=True)
        solver = torch.optim.Adam([gates], lr=RATE)
        for step in range(self.steps):
            ids, answer = passkey_prompt(self.reader, self.tokens, chance)
            due = final_states(self.reader, ids)[answer]
            solver.zero_grad()
            edit = GatedHeads(gates, heads // groups)
            found = final_states(self.reader, ids, edit, gradient=True)[answer]
            loss = (found - due).square().mean() + SPARSITY * gates.abs().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            solver.step()
            with torch.no_grad():
                gates.clamp_(0, 1)
            report(step + 1, self.steps)
        return gates.detach().repeat_interleave(heads // groups, 1)[None]


class GatedHeads(PassEdit):
    """Mixes full and local attention by the gate of each key head."""

    def __init__(
        self, gates: Tensor, shared: int, sinks: int = SINKS, recent: int = RECENT
    ) -> None:
        """`gates [L, Hkv]`; `shared` query heads have one key head."""
        self._gates, self._shared, self._sinks, self._recent = gates, shared, sinks, recent

    def weights(self, layer: int, weights: Tensor, first: int) -> Tensor:
        """α·a + (1 - α)·a over the first and the last tokens, normalised."""
        gate = self._gates[layer].to(weights.device).repeat_interleave(self._shared)[:, None, None]
        row = torch.arange(first, first + weights.shape[1], device=weights.device)[:, None]
        column = torch.arange(weights.shape[-1], device=weights.device)
        near = weights * ((column < self._sinks) | (column > row - self._recent))
        return gate * weights + (1 - gate) * normalise_rows(near)


def passkey_prompt(reader: Any, tokens: int, chance: torch.Generator) -> tuple[list[int], slice]:
    """Random words with passkeys among them, and one asked for again: ids, and its rows.

    A passkey is a name of 2 tokens and a value of 4; at the end the name stands again, and the
    value after it, which a model can only know from far away.
    """
    each = 2 + KEY_TOKENS
    words = random_words(reader, tokens - len(reader.layout.opening), chance)
    keys = [words[i * each : (i + 1) * each] for i in range(KEYS)]
    filler = words[KEYS * each : len(words) - each]
    places = torch.randint(len(filler) - RECENT, (KEYS,), generator=chance).sort().values.tolist()
    for at, key in zip(reversed(places), keys, strict=True):
        filler[at:at] = key
    asked = keys[int(torch.randint(KEYS, (1,), generator=chance))]
    ids = [*reader.layout.opening, *filler, *asked]
    return ids, slice(len(ids) - KEY_TOKENS - 1, len(ids) - 1)


Finder = Duo
