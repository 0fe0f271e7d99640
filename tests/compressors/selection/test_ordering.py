"""Orders of what is shown: each method by hand, and the budget held in every order."""

from __future__ import annotations

import pytest

from tamis.compressors.method import at_both_ends, best_first
from tamis.compressors.methods.edges import Edges
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.original import Original
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import build_method, method_names
from tamis.compressors.rules import Budget, Rules
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage
from tests.plugin_kit import backwards  # noqa: F401 - a fixture
from tests.probes import tiny

QUESTION = "Where do the geese fly?"
TEXTS = ["The geese fly south. Nobody sees geese.", "A goose. Geese fly.", "Where geese sleep?"]
PASSAGES = [Passage(text) for text in TEXTS]


def test_every_ordering_method_is_built_by_its_name():
    assert set(method_names("ordering")) >= {"edges", "original"}
    assert isinstance(build_method("edges"), Edges)


def test_original_changes_nothing_and_edges_puts_the_best_outside():
    scores = [0.1, 0.9, 0.3, 0.5, 0.7]
    assert Original().order(QUESTION, PASSAGES, scores[:3]) == (0, 1, 2)
    given = [Passage(str(i)) for i in range(5)]
    assert Edges().order(QUESTION, given, scores) == (1, 3, 0, 2, 4)
    assert at_both_ends(range(6)) == [0, 2, 4, 5, 3, 1]
    assert best_first([0.5, 0.7, 0.5]) == [1, 0, 2]


def counter() -> TextTokenizer:
    return TextTokenizer(tiny.tokenizer(), "tiny")


def shown(order: str, orderers=None, budget: int = 60):
    made = Compressor(Lexical(), "lexical", counter(), orderers)
    return made.compress(QUESTION, PASSAGES, Budget(max_tokens=budget), Rules(order=order))


@pytest.mark.parametrize("budget", range(12, 80, 4))
@pytest.mark.usefixtures("backwards")
def test_the_budget_holds_in_the_order_of_a_method(budget):
    out = shown("backwards", build_method, budget)
    assert counter().count(out.text) == out.tokens_out <= budget


@pytest.mark.usefixtures("backwards")
def test_a_method_orders_the_kept_text_and_not_what_was_left_out():
    shown_texts = []

    class Backwards:
        def order(self, question, passages, scores):
            shown_texts.extend(passage.text for passage in passages)
            return tuple(reversed(range(len(passages))))

    out = shown("backwards", lambda name: Backwards())
    plain = shown("original")
    assert out.text == "\n\n".join(reversed(plain.text.split("\n\n")))
    assert shown_texts == plain.text.split("\n\n")
    assert [k.unit for k in out.kept] == [k.unit for k in plain.kept]
    assert "order" in out.timings_ms


@pytest.mark.usefixtures("backwards")
def test_a_method_of_ordering_without_its_model_is_refused_before_anything_is_scored():
    with pytest.raises(BadInput, match="backwards"):
        shown("backwards")
    with pytest.raises(BadInput, match="sideways"):
        shown("sideways")


@pytest.mark.usefixtures("backwards")
def test_a_context_that_fits_is_left_as_it_is():
    def never_orders(name):
        class NeverOrders:
            def order(self, question, passages, scores):
                raise AssertionError("nothing is to be ordered")

        return NeverOrders()

    assert shown("backwards", never_orders, 500).text == "\n\n".join(TEXTS)
