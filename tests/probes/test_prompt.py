"""Where passage, title and question went among the tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.probes.prompt import TEMPLATES, Layout, Prompt, token_spans
from tamis.probes.tokens import TokenizedText
from tests.probes import tiny

TOKENIZER = tiny.tokenizer()
CHATML = Layout(TOKENIZER, TEMPLATES["chatml"])
SPECIAL_IDS = {TOKENIZER.token_to_id(text) for text in tiny.SPECIAL}

templates = pytest.mark.parametrize("name", sorted(TEMPLATES))
texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=10),
        st.sampled_from([*tiny.SPECIAL, "\x00", "\ud83d", "é", "👩‍🔬", ". the he. in a", "\n"]),
    ),
    max_size=6,
).map("".join)


def decode(ids: tuple[int, ...]) -> str:
    return TOKENIZER.decode(list(ids), skip_special_tokens=False)


def tokens_sharing(encoded: TokenizedText, start: int, stop: int) -> list[int]:
    """The tokens with a character in `[start, stop)`, one by one: the slow way."""
    chars = set(range(start, stop))
    return [i for i, span in enumerate(encoded.offsets) if chars & set(range(*span))]


@st.composite
def draw_units(draw: st.DrawFn, length: int) -> list[tuple[int, int]]:
    """Ordered half-open spans of a text, with gaps, overlaps and empty ones."""
    ends = st.integers(0, length)
    return sorted(tuple(sorted(pair)) for pair in draw(st.lists(st.tuples(ends, ends), max_size=8)))


@given(texts, st.data())
def test_a_units_tokens_are_those_that_share_a_character_with_it(
    text: str, data: st.DataObject
) -> None:
    units = data.draw(draw_units(len(text)))
    encoded = CHATML.tokenizer.encode(text)
    spans = token_spans(encoded, units)
    assert [list(range(*span)) for span in spans] == [
        tokens_sharing(encoded, *unit) for unit in units
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=12), st.data())
def test_gaps_and_overlaps_between_tokens_are_walked_right(
    steps: list[tuple[int, int]], data: st.DataObject
) -> None:
    offsets, at = [], 0
    for step, width in steps:
        at += step
        last = offsets[-1][1] if offsets else 0
        offsets.append((at, max(at + width, last)))
    encoded = TokenizedText([0] * len(offsets), offsets)
    units = data.draw(draw_units(offsets[-1][1] if offsets else 0))
    for span, unit in zip(token_spans(encoded, units), units, strict=True):
        assert list(range(*span)) == tokens_sharing(encoded, *unit)


def test_a_token_that_straddles_two_units_belongs_to_both() -> None:
    text = "One. Two."  # ". " is one token of the tiny vocabulary
    read = CHATML.passage_tokens(text, [(0, 4), (4, 9)])
    assert read.unit_spans == ((0, 4), (3, 8))
    assert decode(read.ids[3:4]) == ". "


@given(texts, texts, texts)
def test_prompt_pieces_contain_the_callers_text_without_control_tokens(
    title: str, text: str, question: str
) -> None:
    read, ask = CHATML.passage_tokens(text, [], title), CHATML.question_tokens(question)
    assert SPECIAL_IDS.isdisjoint(read.ids)
    ours = CHATML.question_tokens("")
    tail = len(ours.ids) - ours.first_row - 1  # the blank is the question's own
    assert SPECIAL_IDS.isdisjoint(ask.ids[ask.first_row : len(ask.ids) - tail])
    line = f"{title}\n" if title else ""
    assert list(read.ids) == [
        *CHATML.tokenizer.encode(line).ids,
        *CHATML.tokenizer.encode(text).ids,
    ]


@templates
@pytest.mark.parametrize("question", ["Who?", "<|im_end|>", " spaced ", "", "été"])
def test_rows_start_at_the_questions_first_token_and_the_template_goes_round_it(
    name: str, question: str
) -> None:
    template = TEMPLATES[name]
    ask = Layout(TOKENIZER, template).question_tokens(question)
    assert decode(ask.ids[: ask.first_row]) == template.question_prefix
    assert decode(ask.ids[ask.first_row :]) == f" {question}{template.end}"


@templates
def test_the_opening_is_never_empty_and_is_the_templates_alone(name: str) -> None:
    head = Layout(TOKENIZER, TEMPLATES[name]).opening
    assert head
    assert decode(head) == TEMPLATES[name].opening


def test_only_the_template_brings_control_tokens() -> None:
    start, end = (TOKENIZER.token_to_id(text) for text in tiny.SPECIAL[:2])
    assert CHATML.opening[0] == start
    ids = CHATML.question_tokens("<|im_start|><|im_end|>").ids
    assert [ids.count(start), ids.count(end)] == [1, 1]


@given(texts.filter(bool), texts)
def test_a_title_is_read_first_and_is_in_no_unit(title: str, text: str) -> None:
    units = [(0, len(text))]
    bare, titled = CHATML.passage_tokens(text, units), CHATML.passage_tokens(text, units, title)
    assert (bare.title_tokens, titled.title_tokens) == (0, CHATML.tokenizer.count(f"{title}\n"))
    assert titled.unit_spans == bare.unit_spans == ((0, len(bare.ids)),)
    assert titled.ids[titled.title_tokens :] == bare.ids


def test_a_prompts_length_is_what_runs_after_the_opening() -> None:
    prompt = Prompt(CHATML.passage_tokens("abc", [(0, 3)], "t"), CHATML.question_tokens("q"))
    assert len(prompt) == len("t\n") + len("abc") + len(prompt.question.ids)
