"""Orders of what is shown: each method by hand, and the budget held in every order."""

from __future__ import annotations

import pytest

from tamis.compressors.methods.edges import Edges
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.original import Original
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import build_method, method_names
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.order import at_both_ends, best_first
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage
from tamis.probes.tokens import TextTokenizer
from tamis_lab.methods.attention_sorting import AttentionSorting
from tamis_lab.methods.attnrank import AttnRank
from tamis_lab.methods.position_bias import PositionProfile
from tests.probes import tiny
from tests.scripted import ScriptedReader

QUESTION = "Where do the geese fly?"
TEXTS = ["The geese fly south. Nobody sees geese.", "A goose. Geese fly.", "Where geese sleep?"]
PASSAGES = [Passage(text) for text in TEXTS]


def profile_of(*shares: float) -> PositionProfile:
    return PositionProfile("m", "r", "chatml", (shares,), 0, True, 1)


def test_every_ordering_method_is_built_by_its_name():
    assert set(method_names("ordering")) >= {
        "attention_sorting",
        "attnrank",
        "edges",
        "found_in_the_middle",
        "original",
    }
    assert isinstance(build_method("edges"), Edges)


def test_original_changes_nothing_and_edges_puts_the_best_outside():
    scores = [0.1, 0.9, 0.3, 0.5, 0.7]
    assert Original().order(QUESTION, PASSAGES, scores[:3]) == (0, 1, 2)
    given = [Passage(str(i)) for i in range(5)]
    assert Edges().order(QUESTION, given, scores) == (1, 3, 0, 2, 4)
    assert at_both_ends(range(6)) == [0, 2, 4, 5, 3, 1]
    assert best_first([0.5, 0.7, 0.5]) == [1, 0, 2]


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


def counter() -> TextTokenizer:
    return TextTokenizer(tiny.tokenizer(), "tiny")


def shown(order: str, orderers=None, budget: int = 60):
    made = Compressor(Lexical(), "lexical", counter(), orderers)
    return made.compress(QUESTION, PASSAGES, Budget(max_tokens=budget), Rules(order=order))


@pytest.mark.parametrize("budget", range(12, 80, 4))
def test_the_budget_holds_in_the_order_of_a_method(budget):
    method = AttnRank(profile_of(0.1, 0.5, 0.4))
    out = shown("attnrank", lambda name: method, budget)
    assert counter().count(out.text) == out.tokens_out <= budget


def test_a_method_orders_the_kept_text_and_not_what_was_left_out():
    shown_texts = []

    class Backwards:
        def order(self, question, passages, scores):
            shown_texts.extend(passage.text for passage in passages)
            return tuple(reversed(range(len(passages))))

    out = shown("attention_sorting", lambda name: Backwards())
    plain = shown("original")
    assert out.text == "\n\n".join(reversed(plain.text.split("\n\n")))
    assert shown_texts == plain.text.split("\n\n")
    assert [k.unit for k in out.kept] == [k.unit for k in plain.kept]
    assert "order" in out.timings_ms


def test_a_method_of_ordering_without_its_model_is_refused_before_anything_is_scored():
    with pytest.raises(BadInput, match="attention_sorting"):
        shown("attention_sorting")
    with pytest.raises(BadInput, match="sideways"):
        shown("sideways")


def test_a_context_that_fits_is_left_as_it_is():
    def never_orders(name):
        class NeverOrders:
            def order(self, question, passages, scores):
                raise AssertionError("nothing is to be ordered")

        return NeverOrders()

    assert shown("attnrank", never_orders, 500).text == "\n\n".join(TEXTS)
