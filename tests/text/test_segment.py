"""Segmentation: the partition that everything rests on, sentences, and what is too long."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.text.readers.code import LINE_CHARS
from tamis.text.types import KINDS, Passage, UnitKind
from tamis.text.units.segment import PIECE_CHARS, segment, units_of
from tests.text.segment_kit import visible_texts

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
    "@a\n# b\nclass A:\n    def f(\n        self,\n    ):\n        pass\n",
    '"""\n',
    "server:\n  port: 80\n  - a\n",
    "[client]\nname = a\n; b\n",
    "[09:06] Anna: hi. Yes.\n",
    "USER: a. B.\n\nBOT: c\n",
    "2024-01-05 09:06:00 INFO a. B.\n",
    'a,b,c\n1,"x\ny",2\n',
    "a\tb\n",
    ".. code-block:: c\n\n  a\n",
    "\n\n",
    " \t\u2028\x85\u3000",
    "Dr. No said “go.” ",
    "x" * 1_300,
    "เกิดเมื่อ พ.ศ. 2560 (สเปน) และ ดร. สมชาย " * 4,
    "鑰匙\ufe00每九十日更換一次" * 40,
]
texts = st.lists(st.sampled_from(NASTY) | st.text(st.characters(exclude_categories=()))).map(
    "".join
)


# ---- every text ----


@settings(max_examples=300, deadline=None)
@given(texts, st.sampled_from(["en", "de", "zh-hant", "", "🦊"]))
def test_pieces_partition_every_text(text: str, language: str) -> None:
    """Nothing lost or doubled; white space only around a piece; no piece empty or too long."""
    pieces = segment(text, language)
    if not text.strip():
        assert pieces == []
        return
    assert [p.start for p in pieces] == [0, *(p.stop for p in pieces[:-1])]
    assert pieces[-1].stop == len(text)
    for place, piece in enumerate(pieces):
        start, stop = piece.visible
        assert text[start:stop] == text[start:stop].strip() != ""
        around = text[piece.start : start] + text[stop : piece.stop]
        assert not around.replace(">", "").strip()  # an empty line of a quotation is white space
        assert place == 0 or start == piece.start
        assert stop - start <= (LINE_CHARS if piece.kind in ("code", "json") else PIECE_CHARS)


@settings(max_examples=50, deadline=None)
@given(texts)
def test_the_same_text_gives_the_same_pieces(text: str) -> None:
    assert segment(text) == segment(text)


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
    ("en", ["A cat of 12 lbs. is permitted from Mon. to Fri. only.", "It takes 2 hrs. to cool."]),
    ("en", ["i went home.", "then i slept."]),
    ("de", ["Am 3. Oktober 1990, d. h. vor 30 Jahren, kam z. B. Dr. Müller.", "Der 1. FC gewann."]),
    ("de", ["Es ging in diese Richtung.", "1950 ernannte er „Herrn Kintner.“", "Gut."]),
    ("es", ["¿Qué dijo el Sr. López?", "¡Nada!", "EE. UU. es grande.", "Fin."]),
    ("zh", ["你去哪里？", "2011年是好年；很好！", "3个人来了。", "他说：“走吧。”", "好。"]),
]


@pytest.mark.parametrize(("language", "sentences"), GOLDEN)
def test_sentences_end_where_a_reader_ends_them(language: str, sentences: list[str]) -> None:
    assert visible_texts(("" if language == "zh" else " ").join(sentences), language) == sentences


@pytest.mark.parametrize("text", [">", "> ", "\n>\n>>\n", ">>"])
def test_marks_of_a_quotation_alone_are_a_piece(text: str) -> None:
    assert "".join(text[piece.start : piece.stop] for piece in segment(text)) == text
    assert visible_texts(text) == [text.strip()]


@pytest.mark.parametrize("language", ["de", "de-AT", "de_AT", "DE_at"])
def test_a_region_does_not_change_the_abbreviations(language: str) -> None:
    text = "Er kam am 3. Mai 2020 nach Wien. Dann ging er am 4. Juni wieder."
    assert visible_texts(text, language) == visible_texts(text, "de")
    assert len(visible_texts(text, language)) == 2


def test_sentences_of_a_long_quotation_are_separate() -> None:
    said = "It is about the long and winding road that leads to the door of the house on the hill."
    text = f"He wrote that “{said} {said} {said}” Then he stopped."
    assert visible_texts(text) == [f"He wrote that “{said}", said, f"{said}”", "Then he stopped."]


def test_prose_wrapped_at_the_margin_is_not_cut_at_the_margin() -> None:
    text = (
        "With this object he intended to meet the regiment; so the worse the condition\n"
        "it was in, the better pleased the commander in chief would be. Though Dr.\n"
        "Smith did not know these circumstances, he nevertheless delivered the New\n"
        "York order.\n"
    )
    assert [s.count("\n") for s in visible_texts(text)] == [1, 2]


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
        assert visible_texts("\n".join(lines)) == lines


def test_a_blank_line_is_always_a_boundary() -> None:
    assert visible_texts("and so it\n\nwent on") == ["and so it", "went on"]


# ---- what is too long ----


def test_a_long_sentence_is_cut_at_a_clause_before_white_space_before_anything() -> None:
    clause = "one and two and three and four, "
    assert all(piece.endswith(",") for piece in visible_texts(clause * 100))
    assert {word for piece in visible_texts("word " * 600) for word in piece.split()} == {"word"}
    assert [len(piece) for piece in visible_texts("x" * 2_500)] == [1_000, 1_000, 500]


@pytest.mark.parametrize(
    "grapheme", ["e\u0301\u0323", "👩\u200d👩\u200d👧", "🇩🇪", "👍🏽", "é", "ก\u0e35\u0e49"]
)
def test_a_cut_never_parts_an_accent_or_a_joined_emoji_from_its_base(grapheme: str) -> None:
    for piece in visible_texts("x" + grapheme * 1_500):
        assert piece.removeprefix("x").replace(grapheme, "") == ""


def test_a_run_of_accents_without_end_is_cut_all_the_same() -> None:
    assert max(map(len, visible_texts("\u0301" * 5_000))) <= PIECE_CHARS


def test_every_kind_of_unit_says_how_it_is_treated():
    assert list(KINDS) == list(get_args(UnitKind))


def test_the_qualified_name_of_a_class_is_not_cut_and_calls_are_lines() -> None:
    text = (
        "It failed with org.postgresql.util.PSQLException: the key is there. See example.com.\n"
        "    at org.acme.orders.OrderService.place(OrderService.java:112)\n"
        "    at org.acme.orders.OrderController.checkout(OrderController.java:58)\n"
        "    ... 41 more\n"
    )
    shown = [text[slice(*piece.visible)] for piece in segment(text)]
    assert shown == [
        "It failed with org.postgresql.util.PSQLException: the key is there.",
        "See example.com.",
        *map(str.strip, text.splitlines()[1:]),
    ]


def test_a_title_before_a_name_ends_no_sentence() -> None:
    text = "M. Garnier demande un acompte. Le prix est celui de M. Petit. Oui."
    assert visible_texts(text, "fr") == [
        "M. Garnier demande un acompte.",
        "Le prix est celui de M. Petit.",
        "Oui.",
    ]
    mixed = "He met Mr. Lopez, Sra. Ruiz and Dr. Weber. They left."
    for language in ("en", "fr", "es"):
        assert visible_texts(mixed, language) == [mixed[:-11], "They left."]
    assert visible_texts("He wears size M. They wear L.", "en")[1:] == ["They wear L."]


def test_numbers_of_tables_and_sections_dots_of_names_and_short_words_end_no_sentence() -> None:
    for text in (
        "Table 2. Outcomes at 24 weeks were the same.",
        "§ 11. Entitlement to leave.",
        "Clause 4. Payment.",
        "Cláusula 6. Baja.",
        "The file .Xauthority.old is read.",
        "Жил там, т. е. на улице.",
        "Se prorroga salvo que Vd. lo comunique.",
    ):
        assert len(segment(text)) == 1, text
    assert len(segment("It is in Table 2 .The next one is in Table 3.")) == 2
    assert len(segment("It is as Bohannon said [17]\n.")) == 1


def test_elements_of_xml_are_blocks_with_what_opens_and_closes_them() -> None:
    text = (
        '<?xml version="1.0"?>\n<project>\n  <version>1</version>\n  <parent>\n    <id>boot</id>\n'
        "  </parent>\n  <!-- pinned -->\n  <dependency>\n    <id>pg</id>\n  </dependency>\n"
        "</project>\n"
    )
    pieces = segment(text)
    assert "".join(text[piece.start : piece.stop] for piece in pieces) == text
    shown = [text[slice(*piece.visible)] for piece in pieces]
    assert {piece.kind for piece in pieces} == {"code"}
    assert shown[-2] == "<parent>\n    <id>boot</id>\n  </parent>"
    assert (shown[-1][:15], shown[-1][-10:]) == ("<!-- pinned -->", "</project>")
    page = "<html>\n<body>\n<p>One.</p>\n<p>Two.</p>\n</body>\n</html>\n"
    assert {piece.kind for piece in segment(page)} == {"html"}


@pytest.mark.parametrize(
    "sentence",
    [
        "Liquids of max. 35 °C; for three minutes max. 60 °C.",
        "Max. head is 6.5 m, approx. 20 feet.",
        "syncbox [OPTION]... SOURCE... TARGET",
        "syncbox -e '*.swp' ./public web1:/var/www",
    ],
)
def test_measures_and_usages_of_commands_are_not_cut(sentence: str) -> None:
    assert visible_texts(sentence) == [sentence]


def test_a_sentence_may_still_end_with_such_a_word() -> None:
    assert visible_texts("See art. 5 and no. 7 of it.") == ["See art. 5 and no. 7 of it."]
    assert visible_texts("It takes 5 max. The rest waits...  Then it goes on.") == [
        "It takes 5 max.",
        "The rest waits...",
        "Then it goes on.",
    ]


def test_a_line_that_begins_in_capitals_begins_a_sentence_below_a_stop() -> None:
    lines = ["KV confirmed a delay there.", "RESOLVED: to appoint Ridley.", "NC was not there."]
    assert visible_texts("\n".join(lines)) == lines
    assert visible_texts("Read Makefile.PL and asyncio.Future.result first.")[1:] == []


@pytest.mark.parametrize("unit", ["km/h", "m/s", "l/min", "m", "g", "t"])
def test_a_sentence_may_end_in_a_unit(unit: str) -> None:
    assert visible_texts(f"The limit is 50 {unit}. The committee met.") == [
        f"The limit is 50 {unit}.",
        "The committee met.",
    ]
