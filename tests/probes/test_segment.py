"""Segmentation: the partition that everything rests on, each structure, languages, and time."""

from __future__ import annotations

import itertools
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.blocks import BLOCK_CHARS
from tamis.probes.segment import PIECE_CHARS, segment, units_of
from tamis.probes.text import Passage

NASTY = [
    "a\ud800b. C\udfff",
    "\x00. A\x00",
    "One.\r\nTwo.\r\n\r\n",
    "👩\u200d👩\u200d👧 🇩🇪🇫🇷 e\u0301. ",
    "مرحبا. كيف حالك؟ ",
    "你好。再见？2011年！",
    "```py\nx = 1\n```\n",
    "~~~\n",
    "| a | b |\n|---|---|\n| 1 | 2 |\n",
    "# T\n",
    "Title\n=====\n",
    "- item\n  more\n",
    "1. one\n",
    '{"a": [1, {"b": "}"}]}',
    "<table><tr><td>x</td></tr>",
    "<p>broken <div",
    "</td></tr>",
    "<pre>a\n\nb</pre>",
    "def f(x):\n    return g(x)\n\n",
    "\n\n",
    " \t\u2028\x85\u3000",
    "Dr. No said “go.” ",
    "x" * 1_300,
]
texts = st.lists(st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()))).map(
    "".join
)


def shown(text: str, language: str = "en", structure: bool = True) -> list[str]:
    return [text[slice(*piece.visible)] for piece in segment(text, language, structure)]


def kinds(text: str) -> list[tuple[str, str]]:
    return [(piece.kind, text[slice(*piece.visible)]) for piece in segment(text)]


# ---- every text ----


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(["en", "de", "zh-hant", "", "🦊"]), st.booleans())
def test_pieces_partition_every_text(text: str, language: str, structure: bool) -> None:
    """Nothing lost or doubled; white space only at a piece's end; no piece empty or too long."""
    pieces = segment(text, language, structure)
    if not text.strip():
        assert pieces == []
        return
    assert [p.start for p in pieces] == [0, *(p.stop for p in pieces[:-1])]
    assert pieces[-1].stop == len(text)
    for place, piece in enumerate(pieces):
        start, stop = piece.visible
        assert text[piece.start : piece.stop].strip() == text[start:stop] != ""
        assert place == 0 or start == piece.start
        assert stop - start <= (BLOCK_CHARS if piece.kind in ("code", "json") else PIECE_CHARS)


@settings(max_examples=50, deadline=None)
@given(texts)
def test_the_same_text_gives_the_same_pieces(text: str) -> None:
    assert segment(text) == segment(text)


@settings(max_examples=50, deadline=None)
@given(texts)
def test_without_structure_every_piece_is_a_sentence(text: str) -> None:
    assert {piece.kind for piece in segment(text, structure=False)} <= {"sentence"}


def test_units_carry_the_index_of_their_passage_in_order() -> None:
    passages = [Passage("One is. Two is."), Passage(" \n"), Passage("- E")]
    units = units_of(passages)
    assert [(u.passage, passages[u.passage].text[slice(*u.visible)], u.kind) for u in units] == [
        (0, "One is.", "sentence"),
        (0, "Two is.", "sentence"),
        (2, "- E", "list_item"),
    ]


# ---- sentences ----

GOLDEN = [
    ("en", ["Dr. Smith met J. R. R. Tolkien at 3 p.m. in St. Louis.", "They talked."]),
    ("en", ["It cost $3.50, i.e. 2.5 times more.", "See https://example.org/a.b?c=d for more."]),
    ("en", ["He said “Stop.”", "Then he left (for good.)", "“Go! Now!” she cried."]),
    ("en", ["It ended in 1629.", "2,000 people left in May.", "Nobody came."]),
    ("en", ["The club is based at Cheshunt F.C..", "The stress is high.[citation needed]", "Yes."]),
    ("en", ["It’s the boys’ `own’ fault.", "The dog’s too.", "And the cat’s."]),
    ("en", ["It was released by Warner Bros. Records in Vol. 3 of the series.", "It sold."]),
    ("de", ["Am 3. Oktober 1990, d. h. vor 30 Jahren, kam z. B. Dr. Müller.", "Der 1. FC gewann."]),
    ("de", ["Es ging in diese Richtung.", "1950 ernannte er „Herrn Kintner.“", "Gut."]),
    ("es", ["¿Qué dijo el Sr. López?", "¡Nada!", "EE. UU. es grande.", "Fin."]),
    ("zh", ["你去哪里？", "2011年是好年；很好！", "3个人来了。", "他说：“走吧。”", "好。"]),
]


@pytest.mark.parametrize(("language", "sentences"), GOLDEN)
def test_sentences_end_where_a_reader_ends_them(language: str, sentences: list[str]) -> None:
    assert shown(("" if language == "zh" else " ").join(sentences), language) == sentences


def test_sentences_of_a_long_quotation_are_separate() -> None:
    said = "It is about the long and winding road that leads to the door of the house on the hill."
    text = f"He wrote that “{said} {said} {said}” Then he stopped."
    assert shown(text) == [f"He wrote that “{said}", said, f"{said}”", "Then he stopped."]


def test_prose_wrapped_at_the_margin_is_not_cut_at_the_margin() -> None:
    text = (
        "With this object he intended to meet the regiment; so the worse the condition\n"
        "it was in, the better pleased the commander in chief would be. Though Dr.\n"
        "Smith did not know these circumstances, he nevertheless delivered the New\n"
        "York order.\n"
    )
    assert [s.count("\n") for s in shown(text)] == [1, 2]


def test_lines_that_are_statements_are_cut_at_their_ends() -> None:
    verse = [
        "Tyger Tyger, burning bright",
        "In the forests of the night",
        "What immortal hand or eye",
    ]
    log = [
        f"2024-05-0{day} 10:00:00 INFO worker {day} has started to do its work"
        for day in range(1, 6)
    ]
    pairs = ["name: tamis", "version: 1", "licence: Apache-2.0"]
    fruit = ["apples", "pears", "plums"]
    needles = [f"One of the special magic numbers for x{n} is: {n}." for n in range(5)]
    for lines in (verse, log, pairs, fruit, needles):
        assert shown("\n".join(lines)) == lines


def test_a_blank_line_is_always_a_boundary() -> None:
    assert shown("and so it\n\nwent on", structure=False) == ["and so it", "went on"]


# ---- blocks ----


def test_a_short_fence_is_one_piece_of_code() -> None:
    fence = "```python\nx = 1\n\n# not a heading\n- no item\n```"
    assert kinds(f"Look.\n{fence}\nDone.") == [
        ("sentence", "Look."),
        ("code", fence),
        ("sentence", "Done."),
    ]


def test_a_long_fence_is_cut_at_blank_lines_and_then_at_lines() -> None:
    small, big = "a = 1\n" * 50, "b = 22\n" * 300
    pieces = kinds(f"~~~\n{small}\n{big}~~~\n")
    assert [kind for kind, _ in pieces] == ["code"] * len(pieces)
    assert pieces[0][1] == f"~~~\n{small}".strip()
    assert {line for _, code in pieces[1:] for line in code.split("\n")} == {"b = 22", "~~~"}


def test_a_fence_cut_off_above_does_not_swallow_what_follows() -> None:
    assert kinds("x = 1\n```\n\n# Next\n") == [
        ("sentence", "x = 1"),
        ("code", "```"),
        ("heading", "# Next"),
    ]


def test_a_table_has_one_header_and_a_piece_for_each_row() -> None:
    assert kinds("Before:\n| a | b |\n|---|:-:|\n| 1 | 2. X |\n| 3 | 4 |\nAfter.") == [
        ("sentence", "Before:"),
        ("table_header", "| a | b |\n|---|:-:|"),
        ("table_row", "| 1 | 2. X |"),
        ("table_row", "| 3 | 4 |"),
        ("sentence", "After."),
    ]


def test_headings_are_pieces_of_their_own() -> None:
    text = "# One\nText.\n\nTwo\n===\n\n=====\nThree\n=====\n\nFour\n~~~~\n\nText."
    assert [piece for kind, piece in kinds(text) if kind == "heading"] == [
        "# One",
        "Two\n===",
        "=====\nThree\n=====",
        "Four\n~~~~",
    ]


def test_a_list_item_keeps_its_wrapped_lines_and_a_long_one_is_read_by_sentence() -> None:
    assert kinds("- One. Two\n  three.\n* Four\n2) Five") == [
        ("list_item", "- One. Two\n  three."),
        ("list_item", "* Four"),
        ("list_item", "2) Five"),
    ]
    sentence = "The quick brown fox jumps over the lazy dog and runs away."
    assert kinds("- " + " ".join([sentence] * 8)) == [
        ("list_item", f"- {sentence}"),
        *[("list_item", sentence)] * 7,
    ]


def test_a_number_at_the_start_of_a_wrapped_line_is_no_list_item() -> None:
    text = "All that is told in this book happened in the year of our Lord\n1789. Then it ended."
    assert {kind for kind, _ in kinds(text)} == {"sentence"}
    assert [s.count("\n") for s in shown(text)] == [1, 0]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_cut_at_its_top_members_and_deeper_where_one_is_long(indent: int | None) -> None:
    data = {
        "a": {"x": [1, 2, 3], "y": "},{"},
        "b": {f"k{n}": "v" * 300 for n in range(6)},
        "c": None,
    }
    pieces = kinds(json.dumps(data, indent=indent))
    assert {kind for kind, _ in pieces} == {"json"}
    keys = [piece.lstrip("{ \n").split('"')[1] for _, piece in pieces]
    assert keys == ["a", "b", *(f"k{n}" for n in range(1, 6)), "c"]


def test_json_lines_are_one_piece_each() -> None:
    lines = ['{"a": 1}', '{"b": "x. Y"}']
    assert kinds("\n".join(lines)) == [("json", line) for line in lines]


def test_what_only_starts_like_json_is_read_as_text() -> None:
    assert kinds("[1] Smith said so. He lied.")[0] == ("sentence", "[1] Smith said so.")


def test_html_is_cut_at_block_tags_and_knows_rows_headers_headings_and_code() -> None:
    page = (
        "<html><body><h1>Title</h1><p>One <b>two</b>.</p><pre>a &lt; b\n\n<p>c</pre>"
        "<table><thead><tr><th>n</th></tr></thead><tbody><tr><td><p>1</p></td></tr>"
        "<tr><td>2</td></tr></tbody></table><ul><li>x<li>y</ul></body></html>"
    )
    assert kinds(page) == [
        ("heading", "<html><body><h1>Title</h1>"),
        ("html", "<p>One <b>two</b>.</p>"),
        ("code", "<pre>a &lt; b\n\n<p>c</pre>"),
        ("table_header", "<table><thead><tr><th>n</th></tr></thead>"),
        ("table_row", "<tbody><tr><td><p>1</p></td></tr>"),
        ("table_row", "<tr><td>2</td></tr></tbody></table>"),
        ("html", "<ul><li>x"),
        ("html", "<li>y</ul></body></html>"),
    ]


def test_prose_around_an_html_table_is_still_read_by_sentence() -> None:
    assert kinds("<table><tr><td>1</td></tr></table>\n\nOne is. Two is.")[1:] == [
        ("sentence", "One is."),
        ("sentence", "Two is."),
    ]


def test_source_code_without_fences_is_cut_between_definitions() -> None:
    parts = ["import os", "def f(x):\n    y = os.stat(x)\n\n    return y", "class A(B):\n    pass"]
    assert kinds("\n\n\n".join(parts)) == [("code", part) for part in parts]


def test_verse_that_ends_in_commas_is_not_code() -> None:
    verse = "Shall I compare thee to a day?\nThou art more lovely:\nRough winds do shake,\nAnd so;"
    assert {kind for kind, _ in kinds(verse)} == {"sentence"}


# ---- what is too long ----


def test_a_long_sentence_is_cut_at_a_clause_before_white_space_before_anything() -> None:
    clause = "one and two and three and four, "
    assert all(piece.endswith(",") for piece in shown(clause * 100))
    assert {word for piece in shown("word " * 600) for word in piece.split()} == {"word"}
    assert [len(piece) for piece in shown("x" * 2_500)] == [1_000, 1_000, 500]


@pytest.mark.parametrize(
    "grapheme", ["e\u0301\u0323", "👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "é", "ก\u0e35\u0e49"]
)
def test_a_cut_never_parts_an_accent_or_a_joined_emoji_from_its_base(grapheme: str) -> None:
    for piece in shown("x" + grapheme * 1_500):
        assert piece.removeprefix("x").replace(grapheme, "") == ""


def test_a_run_of_accents_without_end_is_cut_all_the_same() -> None:
    assert max(map(len, shown("\u0301" * 5_000))) <= PIECE_CHARS


# ---- time ----

SLOW = {
    "prose": "The cat sat on the mat, and looked around. ",
    "short lines": "Abc 1\n",
    "blank lines": "ab c\n\n",
    "cjk": "你好。",
    "backticks": "`",
    "fences": "```\n",
    "brackets": "[{(",
    "open tags": "<p",
    "rows": "<tr>",
    "notes": ".[a]",
    "closing": ".”",
    "apostrophes": "' ",
    "json": '{"a": [',
    "accents": "\u0301",
    "blanks": "x" + " " * 50,
}


def seconds(text: str) -> float:
    """The best of three, in processor time: what else runs on the machine does not count."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        segment(text)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("unit", SLOW.values(), ids=SLOW.keys())
def test_four_times_the_text_takes_about_four_times_the_time(unit: str) -> None:
    """9 rather than 4, and a hundredth of a second, leave room for noise; quadratic is 16."""
    once = unit * (30_000 // len(unit))
    assert seconds(once * 4) <= 9 * seconds(once) + 0.01


def test_fences_that_are_never_closed_do_not_search_the_rest_again_and_again() -> None:
    """A little slower than the short ones alone; five times if each long one passed all."""
    long = "".join("`" * size + "\n" for size in range(1_200, 3, -1))
    short = "```\n" * 30_000
    assert seconds(long + short) < 2 * seconds(short) + 0.05


def test_prose_is_read_faster_than_a_million_characters_in_three_seconds() -> None:
    """It is about half a second on one core; six times that is a defect, not a slow machine."""
    sentences = itertools.cycle(
        ["The cat sat on the mat.", "It cost $3.50, said Dr. No.", "“Go!” he said."]
    )
    assert seconds(" ".join(itertools.islice(sentences, 10_000))) < 0.7
