"""Labelled questions as they are shown to a proxy that learns."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.compressors.features.words import Lexicon, word_features
from tamis.compressors.reading.windows import Window, windows
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout, Prompt
from tamis.service.datasets.records import Record, annotated_units, labels, passages_of
from tamis.service.training.lora.recipe import Recipe
from tamis.service.training.probe.labelled_readings import Source, fold_of, records_of


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its gold passages and hard ones beside them.

    Attributes:
        source: the file it is from.
        prompts: a window each.
        words: what the words say of each unit, `[U, len(WORD_FEATURES)]` fp32.
        tokens: proxy tokens of each unit.
        gold: `[U]` bool; some are, and some are not.
    """

    source: str
    prompts: tuple[Prompt, ...]
    words: Tensor
    tokens: tuple[int, ...]
    gold: Tensor


@dataclass(frozen=True, slots=True)
class Draw:
    """A record that will be shown, and for the how-manieth time."""

    source: str
    record: Record
    turn: int = 0


def drawn(sources: Sequence[Source], seed: int) -> tuple[list[Draw], list[Draw]]:
    """What to learn from, in order, and what to judge by: a fifth of the articles.

    Of a source with a limit, so many questions are drawn; where it has fewer, they come again with
    other passages beside them.

    Raises:
        BadInput: one of the two would be empty.
    """
    learnt: list[Draw] = []
    held: list[Draw] = []
    for source in sources:
        records = records_of(Source(source.path))
        mine = [r for r in records if fold_of(r)]
        random.Random(seed).shuffle(mine)
        count = source.limit or len(mine)
        learnt += [
            Draw(source.name, mine[i % len(mine)], i // len(mine))
            for i in range(count if mine else 0)
        ]
        held += [Draw(source.name, r) for r in records if not fold_of(r)]
    if not learnt or not held:
        raise BadInput(
            f"{len(learnt)} questions to learn from and {len(held)} to judge by: a fifth of the "
            "articles is held out, and both are needed; give more data"
        )
    random.Random(seed).shuffle(learnt)
    random.Random(seed).shuffle(held)
    return learnt, held


def some_of_each(draws: Sequence[Draw], most: int) -> list[Draw]:
    """At most so many, from all sources alike."""
    queues: dict[str, list[Draw]] = {}
    for draw in draws:
        queues.setdefault(draw.source, []).append(draw)
    turns = [(i, name) for name, queue in queues.items() for i in range(len(queue))]
    return [queues[name][i] for i, name in sorted(turns)[:most]]


def shown(draw: Draw, layout: Layout, recipe: Recipe) -> Example | None:
    """A question as prompts; None where all units of what is shown are gold, or none."""
    record = draw.record
    passages, units = passages_of(record), annotated_units(record)
    cut = windows(layout, passages, units, recipe.window_tokens)
    tokens = [b - a for window in cut for a, b in window.read.spans]
    said = torch.from_numpy(
        word_features(record["question"], Lexicon(record["question"], passages, units), tokens)
    )
    gold = torch.tensor(labels(record, units))
    chance = random.Random(f"{recipe.seed}:{record.get('id')}:{draw.turn}")
    kept = _beside(cut, gold, said[:, 0], recipe.question_tokens, chance)
    if not kept:
        return None
    of = torch.tensor([u for window in kept for u in range(window.first, window.stop)])
    if not gold[of].any() or gold[of].all():
        return None
    ask = layout.ask(record["question"])
    prompts = tuple(Prompt(window.read, ask) for window in kept)
    return Example(draw.source, prompts, said[of], tuple(tokens[u] for u in of.tolist()), gold[of])


def _beside(
    cut: Sequence[Window], gold: Tensor, bm25: Tensor, most: int, chance: random.Random
) -> list[Window]:
    """Windows with gold units, then by turns the one most like the question and any, in order."""
    order = [w for w in cut if gold[w.first : w.stop].any()]
    left = [w for w in cut if w not in order]
    left.sort(key=lambda w: float(bm25[w.first : w.stop].max()))
    while left:
        order.append(left.pop())
        if left:
            order.append(left.pop(chance.randrange(len(left))))
    kept: list[Window] = []
    room = most
    for window in order:
        if not kept or len(window.read.ids) <= room:
            kept.append(window)
            room -= len(window.read.ids)
    return sorted(kept, key=lambda window: window.first)
