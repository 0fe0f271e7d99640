"""Orders of published methods, by hand."""

from __future__ import annotations

import pytest

from tamis.compressors.registry import method_names
from tamis.probes.errors import BadInput
from tamis.text.types import Passage
from tamis_lab.methods.attention_sorting import AttentionSorting
from tamis_lab.methods.attnrank import AttnRank
from tamis_lab.methods.position_bias import PositionProfile
from tests.compressors.selection.test_ordering import PASSAGES, QUESTION, TEXTS, counter, shown
from tests.scripted import ScriptedReader


def profile_of(*shares: float) -> PositionProfile:
    return PositionProfile("m", "r", "chatml", (shares,), 0, True, 1)


def test_attnrank_puts_rank_i_at_the_place_of_the_ith_most_attention():
    """Places by attention: 3, 0, 2, 1; ranks: passages 2, 0, 3, 1."""
    method = AttnRank(profile_of(0.3, 0.1, 0.2, 0.4))
    given = [Passage(str(i)) for i in range(4)]
    assert method.order(QUESTION, given, [0.7, 0.1, 0.9, 0.5]) == (0, 1, 3, 2)
    assert method.order(QUESTION, given[:1], [0.7]) == (0,)
    assert method.order(QUESTION, [], []) == ()


def test_attention_sorting_puts_the_most_attended_passage_last():
    reader = ScriptedReader.from_needles("south", "Geese fly.")
    order = AttentionSorting(reader).order(QUESTION, PASSAGES, [0.0] * 3)
    # "Geese fly." is half of its passage, "south" an eighth, nothing in the third
    assert order == (2, 0, 1)
    assert AttentionSorting(reader).order(QUESTION, PASSAGES[:1], [0.0]) == (0,)


def test_attention_sorting_reads_the_last_row_of_all_layers_and_heads():
    wants = []

    class WantRecorder(ScriptedReader):
        def read(self, prompts, want):
            wants.append((want.layers, want.rows))
            return super().read(prompts, want)

    AttentionSorting(WantRecorder.from_needles("south")).order(QUESTION, PASSAGES, [0.0] * 3)
    assert wants == [((0, 1, 2, 3), ("last",))]


def test_attention_sorting_reads_again_in_the_new_order_until_nothing_moves():
    reader = ScriptedReader.from_needles("south")
    AttentionSorting(reader, rounds=5).order(QUESTION, PASSAGES, [0.0] * 3)
    (_, first), (_, second) = reader.read_log
    assert first == "".join(f"{text}\n\n" for text in TEXTS)
    assert second.endswith(f"{TEXTS[0]}\n\n")
    with pytest.raises(BadInput, match="rounds"):
        AttentionSorting(reader, rounds=0)


def test_attention_sorting_of_more_than_a_window_reads_whole_documents():
    reader = ScriptedReader.from_needles("south")
    order = AttentionSorting(reader, window_tokens=45).order(QUESTION, PASSAGES, [0.0] * 3)
    assert order[-1] == 0
    assert [text for _, text in reader.read_log] == [
        f"{TEXTS[0]}\n\n",
        f"{TEXTS[1]}\n\n{TEXTS[2]}\n\n",
    ]


def test_every_ordering_method_is_found():
    assert {"attention_sorting", "attnrank", "found_in_the_middle"} <= set(method_names("ordering"))


@pytest.mark.parametrize("budget", range(12, 80, 4))
def test_the_budget_holds_in_the_order_of_a_method(budget):
    method = AttnRank(profile_of(0.1, 0.5, 0.4))
    out = shown("attnrank", lambda name: method, budget)
    assert counter().count(out.text) == out.tokens_out <= budget
