"""To the character: what is returned is the kept slices, with white space between them."""

from __future__ import annotations

import pytest

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.rules import Budget
from tamis.probes.tokens import TextTokenizer
from tests.laws.methods import build_variant
from tests.laws.texts import HOSTILE, QUESTION
from tests.probes import tiny

SHARES = (0.2, 0.5, 0.8)


@pytest.mark.parametrize("variant", ["lead", "lexical"])
@pytest.mark.parametrize("name", HOSTILE)
def test_the_text_is_the_kept_slices_and_white_space_between_them_to_the_character(name, variant):
    """It starts with the first slice, ends with the last, and holds them one after the other."""
    counter = TextTokenizer(tiny.tokenizer(), "tiny")
    compressor = Compressor(build_variant(variant).scorer, variant, counter)
    passages = [f"First of all. {HOSTILE[name]}", f"{HOSTILE[name]} Last of all."]
    for share in SHARES:
        most = max(20, int(share * sum(map(counter.count, passages))))
        out = compressor.compress(QUESTION, passages, Budget(max_tokens=most))
        at = 0
        for kept in out.kept:
            piece = passages[kept.passage][kept.start : kept.stop]
            place = out.text.find(piece, at)
            assert place >= 0
            assert not out.text[at:place].strip()
            assert place == 0 or at > 0, "there is text before the first slice"
            at = place + len(piece)
        assert at == len(out.text), "there is text after the last slice"
