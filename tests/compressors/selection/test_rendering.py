"""Chosen units as text: verbatim, with headings, elisions and separators in their places."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.compressors.rules import Rules
from tamis.compressors.selection.rendering import Renderer, render_whole
from tamis.probes.errors import BadInput
from tamis.text.types import Passage, Unit

# lone surrogates and NUL are text; a full stop or a line break ends a unit
NASTY = st.text(alphabet=st.sampled_from("ab .\n。你é|😀\u2028\ud800\x00<{"), max_size=40)
PLAIN = Rules()


def split(passages: Sequence[Passage]) -> list[Unit]:
    """Units that partition each text, ending at a full stop or a line break."""
    units = []
    for p, passage in enumerate(passages):
        start = 0
        for match in re.finditer(r"\S[^.。\n]*[.。]?\s*", passage.text):
            shown = match.end() - len(match.group()) + len(match.group().rstrip())
            units.append(Unit(p, start, match.end(), (match.start(), shown)))
            start = match.end()
    return units


def render(passages, units, chosen, rules, order=None):
    """The text of the chosen units, with passages in an order, or in that of the input."""
    return Renderer(passages, units, rules, arrangement=order).text(chosen)


def shown(*texts: str, chosen: Sequence[int] | None = None, rules: Rules = PLAIN) -> str:
    passages = [Passage(text) for text in texts]
    units = split(passages)
    return render(passages, units, range(len(units)) if chosen is None else chosen, rules)


def rules_for_rendering() -> st.SearchStrategy[Rules]:
    return st.builds(
        Rules,
        separator=st.sampled_from(["\n\n", "", " | "]),
        elision=st.sampled_from([None, "…", "[...]"]),
        citations=st.sampled_from([None, "[{doc}]", "({id}, {unit})", "{{{doc}}}"]),
        titles=st.booleans(),
    )


@settings(deadline=None)
@given(st.lists(NASTY, max_size=5), rules_for_rendering(), st.data())
def test_every_chosen_unit_is_in_the_output_verbatim_and_in_order(
    texts: list[str], rules: Rules, data: st.DataObject
) -> None:
    passages = [Passage(text, title="T") for text in texts]
    units = split(passages)
    chosen = data.draw(st.sets(st.sampled_from(range(len(units))))) if units else set()
    text, at = render(passages, units, chosen, rules), 0
    for u in sorted(chosen):
        visible = passages[units[u].passage].text[slice(*units[u].visible)]
        at = text.index(visible, at) + len(visible)


@settings(deadline=None)
@given(NASTY)
def test_a_whole_passage_is_its_text_to_the_last_blank(text: str) -> None:
    assert render_whole([Passage(text)], split([Passage(text)]), PLAIN) == text


def test_units_are_joined_by_their_own_white_space() -> None:
    assert shown(" A one.  B two.\n\nC three. ", chosen=[1, 0]) == "A one.  B two."
    assert shown("A one.  B two.\n\nC three.", chosen=[1, 2]) == "B two.\n\nC three."
    assert shown("A one.  B two.  C three.", chosen=[0, 2]) == "A one.  C three."


def test_the_strongest_break_of_what_was_left_out_stays() -> None:
    assert shown("A one.  B two.\n\nC three.", chosen=[0, 2]) == "A one.\n\nC three."
    assert shown("A. B.\n\nC.\nD. E.", chosen=[0, 4]) == "A.\n\nE."
    assert shown("A.\n\n\n\nB.\n\nC.", chosen=[0, 2]) == "A.\n\n\n\nC."
    assert shown("# Up\n\nA.\n\n# Down\n\nB.", chosen=[1, 3]) == "A.\n\nB."
    # also where a weaker one comes first
    assert shown("- A.\n- B.\n\nC.", chosen=[0, 2]) == "- A.\n\nC."
    assert shown("A. B.\nC. D.", chosen=[0, 3]) == "A.\nD."


def test_a_unit_keeps_its_own_indentation_and_no_other() -> None:
    nested = "- a\n  - b\n  - c\n- d\n"
    assert shown(nested, chosen=[1, 3]) == "- b\n- d"  # as prose
    items = [replace(unit, kind="list_item") for unit in split([Passage(nested)])]
    assert render([Passage(nested)], items, [1, 3], PLAIN) == "  - b\n- d"
    assert shown(nested, chosen=[0, 2]) == "- a\n  - c"
    assert shown(nested, chosen=[0, 3]) == "- a\n- d"
    assert shown("A. B.\n    C. D.", chosen=[0, 3]) == "A.\nD."


def test_nothing_is_put_between_units_without_white_space() -> None:
    assert shown("你好。再见。谢谢。", chosen=[0, 2]) == "你好。谢谢。"


def test_passages_without_visible_text_leave_no_separator() -> None:
    blank = Unit(1, 0, 3, (3, 3))
    passages = [Passage("A.", title="x"), Passage("   ", title="y"), Passage("B.")]
    units = [Unit(0, 0, 2, (0, 2)), blank, Unit(2, 0, 2, (0, 2))]
    rules = Rules(titles=True, citations="[{doc}]", separator=" / ")
    assert render(passages, units, {0, 1, 2}, rules) == "x\n[1] A. / [3] B."
    assert render(passages, units, set(), rules) == ""


def test_an_elision_marks_text_left_out_between_two_units() -> None:
    rules = Rules(elision="…")
    assert shown("A. B. C. D.", chosen=[0, 2], rules=rules) == "A. … C."
    assert shown("A. B. C. D.", chosen=[1, 2], rules=rules) == "B. C."
    assert shown("你。我。他。", chosen=[0, 2], rules=rules) == "你。 … 他。"
    assert shown("A. B.", "C. D.", chosen=[0, 3], rules=rules) == "A.\n\nD."


def test_an_elision_keeps_the_line_breaks_around_what_was_left_out() -> None:
    rules = Rules(elision="…")
    assert shown("- a\n- b\n- c\n", chosen=[0, 2], rules=rules) == "- a\n…\n- c"
    assert shown("A. B.\n\nC.", chosen=[0, 2], rules=rules) == "A. …\n\nC."
    assert shown("A.\nB. C.", chosen=[0, 2], rules=rules) == "A.\n… C."


def test_a_citation_names_document_id_and_first_kept_unit() -> None:
    passages = [Passage("A. B."), Passage("C. D. E.", id="wiki"), Passage("F.", id="{doc}")]
    rules = Rules(citations="{{{doc}|{id}|{unit}}}", separator=" ")
    text = render(passages, split(passages), [1, 3, 4, 5], rules)
    assert text == "{1|1|2} B. {2|wiki|2} D. E. {3|{doc}|1} F."


@pytest.mark.parametrize(
    "citations",
    ["{id.__class__}", "{doc[0]}", "{}", "{0}", "{title}", "{doc!r}", "{doc:>9}", "{doc", "doc}"],
)
def test_a_citation_takes_nothing_but_three_plain_names(citations: str) -> None:
    with pytest.raises(BadInput, match=r"\{doc\}, \{id\} and \{unit\}"):
        shown("A.", rules=Rules(citations=citations))


def test_a_title_is_on_a_line_before_citation_and_text() -> None:
    passages = [Passage("A.", title="One"), Passage("B.", title=""), Passage("C.")]
    rules = Rules(titles=True, citations="[{doc}]")
    assert render_whole(passages, split(passages), rules) == "One\n[1] A.\n\n[2] B.\n\n[3] C."
    assert render_whole(passages, split(passages), PLAIN) == "A.\n\nB.\n\nC."


def test_passages_follow_the_order_given_and_units_stay_in_text_order() -> None:
    passages = [Passage("A. B."), Passage("C."), Passage("D. E.")]
    units = split(passages)
    assert render(passages, units, [4, 3, 1, 0], PLAIN, order=[2, 1, 0]) == "D. E.\n\nA. B."


@pytest.mark.parametrize(
    ("order", "text"), [("original", "A B C D E"), ("score", "E C A D B"), ("edges", "E A B D C")]
)
def test_a_ranking_puts_the_best_first_or_at_both_ends(order: str, text: str) -> None:
    passages = [Passage(letter) for letter in "ABCDE"]
    rules = Rules(order=order, separator=" ")  # type: ignore[arg-type]
    renderer = Renderer(passages, split(passages), rules, ranking=[4, 2, 0, 3, 1])
    assert renderer.text(range(5)) == text


def test_both_ends_are_those_of_the_passages_that_are_kept() -> None:
    passages = [Passage(letter) for letter in "ABCDE"]
    renderer = Renderer(passages, split(passages), Rules(order="edges", separator=""), range(5))
    assert renderer.text([0, 2, 4]) == "AEC"
