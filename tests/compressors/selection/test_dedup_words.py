"""Near-duplicates are found by index terms, in scripts without blanks between words, too."""

from __future__ import annotations

import pytest

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.select import select
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.probes import tiny

COUNTER = TextTokenizer(tiny.tokenizer(), "tiny")


def kept(texts, language, dedup):
    passages = [Passage(text) for text in texts]
    units = units_of(passages, language)
    scores = [1.0 - i / 10 for i in range(len(units))]
    chosen = select(
        passages, units, scores, scores, Budget(max_tokens=10_000), Rules(dedup=dedup), COUNTER
    )
    return [units[u].passage for u in chosen.units]


@pytest.mark.parametrize(
    ("language", "text", "near_duplicate", "other"),
    [
        (
            "zh",
            "密钥每九十天更换一次，旧密钥保留一周。",
            "密钥每九十天更换一次，旧密钥会保留一周。",
            "机房的墙壁在春天重新粉刷成白色。",
        ),
        (
            "ja",
            "鍵は九十日ごとに交換される。",
            "鍵は、九十日ごとに交換される。",
            "壁は春に白く塗り直される。",
        ),
        (
            "de",
            "Die Schlüssel werden alle neunzig Tage gewechselt.",
            "Die Schlüssel werden alle neunzig Tage neu gewechselt.",
            "Die Wände werden im Frühling frisch und weiß gestrichen.",
        ),
    ],
)
def test_a_unit_of_nearly_the_same_words_is_left_out(language, text, near_duplicate, other):
    assert kept([text, near_duplicate, other], language, 0.8) == [0, 2]
    assert kept([text, near_duplicate, other], language, None) == [0, 1, 2]
