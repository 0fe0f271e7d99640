"""Sentences, tokenizers and hand cases that the tests of selection share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.select import select
from tamis.compressors.types import SelectedUnits
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage, Unit
from tests.compressors.selection.test_rendering import split

SENTENCES = [
    "The cat sat on the mat.",
    "A tame tiger ate the hat.",
    "你好,世界。",
    "[1] And then …",
]
PLAIN = Rules()


@cache
def words() -> TextTokenizer:
    """One token a word: the tokens of a joined text are the sum of its parts'."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TextTokenizer(tokenizer, "words")


@cache
def pairs(regex: bool = True) -> TextTokenizer:
    """Byte-level BPE; without the regex, tokens merge across words, sentences and line breaks."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator([" ".join(SENTENCES), "\n\n".join(SENTENCES)], trainer)
    return TextTokenizer(tokenizer, "pairs")


def select_words(
    text: str | Sequence[Passage],
    values: Sequence[float],
    tokens: int | Budget,
    rules: Rules = PLAIN,
    passage_scores: Sequence[float] | None = None,
    units: Sequence[Unit] | None = None,
) -> SelectedUnits:
    """A hand case: one passage or several, counted in words."""
    passages = [Passage(text)] if isinstance(text, str) else text
    budget = tokens if isinstance(tokens, Budget) else Budget(max_tokens=tokens)
    scores = [0.0] * len(passages) if passage_scores is None else passage_scores
    units = split(passages) if units is None else units
    return select(passages, units, values, scores, budget, rules, words())
