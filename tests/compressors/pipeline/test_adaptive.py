"""The adaptive budget: what probably answers, within two bounds that hold."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tamis.compressors.method import MethodInfo
from tamis.compressors.pipeline.compression import AdaptiveLimits, Compressor
from tamis.compressors.types import Scores
from tests.compressors.selection.select_kit import words

TEXTS = [" ".join(f"Here stands sentence number {i}{j}." for j in range(12)) for i in range(4)]


@dataclass
class Sure:
    """Thinks the first so many units answer, and the others hardly."""

    answering: int
    info = MethodInfo("a test", "")

    def scores(self, question, passages, units):
        values = tuple(0.9 if u < self.answering else 0.4 - u / 1000 for u in range(len(units)))
        return Scores(values, (0.5,) * len(passages), calibrated=True)


def compress_adaptively(answering, least, most, texts=TEXTS):
    compressor = Compressor(Sure(answering), "sure", words())
    return compressor.compress("Where?", texts, AdaptiveLimits(least, most), language="en")


@pytest.mark.parametrize("answering", [0, 1, 3, 10, 30, 48])
@pytest.mark.parametrize(("least", "most"), [(1.5, 10), (2, 5), (3, 3.5), (1, 40)])
def test_both_bounds_hold(answering, least, most):
    found = compress_adaptively(answering, least, most)
    assert least <= found.tokens_in / found.tokens_out <= most


def test_between_the_bounds_probability_decides():
    found = compress_adaptively(10, 1.5, 40)
    assert len(found.kept) == 10


def test_a_short_text_is_served_though_one_sentence_is_more_than_the_least():
    texts = ["one two three four five six seven. eight nine.", "ten eleven twelve thirteen."]
    found = compress_adaptively(0, 1, 10, texts)
    assert found.kept
    assert found.tokens_out < found.tokens_in
