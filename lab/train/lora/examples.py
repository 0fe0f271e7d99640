"""Labelled questions as training examples: which records, in which order, with which passages."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.compressors.features.words import Lexicon, word_features
from tamis.compressors.reading.windows import Window, split_windows, tokenize_question
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout, Prompt
from tamis_lab.datasets.record_files import RecordFile, answerable_records, fold_of
from tamis_lab.datasets.records import Record, annotated_units, gold_labels, passages_of
from tamis_lab.train.lora.recipe import LoraRecipe


@dataclass(frozen=True, slots=True)
class Example:
    """One question with its gold passages and some hard ones.

    Attributes:
        source: the file it is from.
        prompts: one for each window.
        words: features of the words of each unit, `[U, len(WORD_FEATURES)]` fp32.
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
    """A record that is due as a training example.

    Attributes:
        epoch: how often the record came before in this run.
    """

    source: str
    record: Record
    epoch: int = 0


def draw_records(files: Sequence[RecordFile], seed: int) -> tuple[list[Draw], list[Draw]]:
    """Draws to learn from, in order, and draws to validate on: a fifth of the articles.

    As many questions are drawn from a file as its limit says; where it has fewer, they are drawn
    again with other passages beside them.

    Raises:
        BadInput: one of the two would be empty.
    """
    learnt: list[Draw] = []
    held_out: list[Draw] = []
    for file in files:
        records = answerable_records(RecordFile(file.path))
        mine = [r for r in records if fold_of(r)]
        random.Random(seed).shuffle(mine)
        count = file.limit or len(mine)
        learnt += [
            Draw(file.name, mine[i % len(mine)], i // len(mine))
            for i in range(count if mine else 0)
        ]
        held_out += [Draw(file.name, r) for r in records if not fold_of(r)]
    if not learnt or not held_out:
        raise BadInput(
            f"{len(learnt)} questions to learn from and {len(held_out)} to judge by: a fifth of "
            "the articles is held out, and both are needed; give more data"
        )
    random.Random(seed).shuffle(learnt)
    random.Random(seed).shuffle(held_out)
    return learnt, held_out


def take_from_each_file(draws: Sequence[Draw], most: int) -> list[Draw]:
    """At most so many, by turns from each file."""
    queues: dict[str, list[Draw]] = {}
    for draw in draws:
        queues.setdefault(draw.source, []).append(draw)
    turns = [(i, name) for name, queue in queues.items() for i in range(len(queue))]
    return [queues[name][i] for i, name in sorted(turns)[:most]]


def build_example(draw: Draw, layout: Layout, recipe: LoraRecipe) -> Example | None:
    """A question as prompts; None where all of the units in them are gold, or none is."""
    record = draw.record
    passages, units = passages_of(record), annotated_units(record)
    cut = split_windows(layout, passages, units, recipe.window_tokens)
    tokens = [b - a for window in cut for a, b in window.tokens.unit_spans]
    words = torch.from_numpy(
        word_features(record["question"], Lexicon(record["question"], passages, units), tokens)
    )
    gold = torch.tensor(gold_labels(record, units))
    chance = random.Random(f"{recipe.seed}:{record.get('id')}:{draw.epoch}")
    kept = _choose_windows(cut, gold, words[:, 0], recipe.question_tokens, chance)
    if not kept:
        return None
    of = torch.tensor([u for window in kept for u in range(window.first, window.stop)])
    if not gold[of].any() or gold[of].all():
        return None
    ask = tokenize_question(layout, record["question"])
    prompts = tuple(Prompt(window.tokens, ask) for window in kept)
    return Example(draw.source, prompts, words[of], tuple(tokens[u] for u in of.tolist()), gold[of])


def _choose_windows(
    cut: Sequence[Window], gold: Tensor, bm25: Tensor, most: int, chance: random.Random
) -> list[Window]:
    """All windows with gold, then by turns the one most like the question and a random one.

    Args:
        most: tokens of all windows; the first window is taken even if it is longer.

    Returns:
        the windows in their order in the context.
    """
    order = [w for w in cut if gold[w.first : w.stop].any()]
    remaining = [w for w in cut if w not in order]
    remaining.sort(key=lambda w: float(bm25[w.first : w.stop].max()))
    while remaining:
        order.append(remaining.pop())
        if remaining:
            order.append(remaining.pop(chance.randrange(len(remaining))))
    kept: list[Window] = []
    room = most
    for window in order:
        if not kept or len(window.tokens.ids) <= room:
            kept.append(window)
            room -= len(window.tokens.ids)
    return sorted(kept, key=lambda window: window.first)
