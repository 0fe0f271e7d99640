"""The causal check of heads: masking those that were found must break what they are for.

Source: retrieval heads (Wu et al. 2024, arXiv 2404.15574, §3): a needle is found no more where its
heads are masked, and is where as many random ones are.

    needle prompts ─┬─ as they are ─────────► log p of the needle's value, token by token
                    ├─ found heads silent ──► must fall
                    └─ random heads silent ─► must fall less

Departures: the value is given and its log p taken, as everywhere in tamis, where the paper lets the
model generate; random heads are drawn from the layers of the found ones, as many in each, so that
depth explains nothing.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head
from tamis_lab.datasets.records import Record
from tamis_lab.datasets.statistics import paired_bootstrap
from tamis_lab.methods.window_attention.edited_pass import (
    MaskedHeads,
    final_states,
    token_losses,
    unembedding,
)
from tamis_lab.train.heads.finder import Progress
from tamis_lab.train.heads.needle import build_needle_case


@dataclass(frozen=True, slots=True)
class CausalCheck:
    """The mean log p of needles' values, and how often each token of one was the likeliest.

    Attributes:
        plain, found, random: log p as it is, and with heads masked; a number a needle.
        right: in the same order, the share of values of which every token was the likeliest.
        lead: how much more the found heads cost than the random ones: difference, low, high.
    """

    plain: tuple[float, ...]
    found: tuple[float, ...]
    random: tuple[float, ...]
    right: tuple[float, float, float]
    lead: tuple[float, float, float]


def check_heads(
    reader: Any,
    heads: Sequence[Head],
    records: Sequence[Record],
    report: Progress,
    prompt_tokens: int = 300,
    seed: int = 0,
) -> CausalCheck:
    """Masks heads, and as many random ones of the same layers, while needles are looked for.

    Args:
        reader: the proxy, loaded whole. records: whose texts are the haystacks.

    Raises:
        BadInput: no record, or a layer with too few other heads to draw from.
    """
    if not records:
        raise BadInput("the causal check hides needles in records; give --data FILE")
    others = random_heads(heads, reader.card.heads, seed)
    rows = unembedding(reader)
    edits = (None, MaskedHeads(heads), MaskedHeads(others))
    logs: list[list[float]] = [[], [], []]
    right: list[list[float]] = [[], [], []]
    for done, record in enumerate(records, 1):
        case = build_needle_case(record, reader, prompt_tokens)
        if case.answer is None:
            continue
        ask = reader.layout.question_tokens(case.question)
        answer = case.answer_tokens
        ids = [*reader.layout.opening, *case.ids, *ask.ids, *answer]
        for i, edit in enumerate(edits):
            with torch.inference_mode():
                states = final_states(reader, ids, edit)[-len(answer) - 1 :]
                logs[i].append(-float(token_losses(states, rows, ids[-len(answer) - 1 :]).mean()))
                guess = (states[:-1].to(rows.dtype) @ rows.T).argmax(-1).tolist()
            right[i].append(float(guess == list(answer)))
        report(done, len(records))
    shares = [sum(one) / len(one) for one in right]
    return CausalCheck(
        tuple(logs[0]),
        tuple(logs[1]),
        tuple(logs[2]),
        (shares[0], shares[1], shares[2]),
        paired_bootstrap(logs[2], logs[1], [1.0] * len(logs[0]), seed=seed),
    )


def random_heads(heads: Sequence[Head], per_layer: int, seed: int) -> tuple[Head, ...]:
    """As many heads of each layer as are given, none of them given.

    Raises:
        BadInput: a layer has too few others.
    """
    chance, drawn = random.Random(seed), []
    for layer in sorted({layer for layer, _ in heads}):
        own = {head for at, head in heads if at == layer}
        rest = sorted(set(range(per_layer)) - own)
        if len(rest) < len(own):
            raise BadInput(
                f"layer {layer} has {len(own)} of the heads and {len(rest)} others to compare "
                "with; check fewer heads (--k)"
            )
        drawn += [(layer, head) for head in chance.sample(rest, len(own))]
    return tuple(drawn)
