"""HTML in an index: found by what a reader sees of it."""

from __future__ import annotations

import time

import pytest

from tamis.retrieval.storage.chunks import (
    CorpusDocument,
    blank_markup,
    chunk_document,
    visible_text,
)
from tests.retrieval.index.corpora import build_index

TABLE = "<table><tr><td class='cell'>Alpha</td></tr><tr><td>Beta</td></tr></table>"
PAGE = (
    "<html><head><style>.x{color:red}</style><script>var secret = 1 < 2; go()</script></head>"
    "<body><!-- hidden > note --><h2 id='sec'>Section <b>One</b></h2>"
    "<p>The caf&eacute; serves R&amp;D &#233;t&eacute;.</p></body></html>"
)


def test_entities_are_their_characters_and_what_is_hidden_is_no_word(tmp_path):
    index = build_index(
        tmp_path / "i",
        [CorpusDocument("page", PAGE), CorpusDocument("table", TABLE)],
        chunk_chars=9,
    )
    for question in ("café", "été", "R&D", "Section"):
        assert {hit.doc for hit in index.search(question)} == {"page"}, question
    assert [hit.doc for hit in index.search("Alpha")] == ["table"]
    for question in ("eacute", "color", "secret", "td", "class", "html", "hidden", "sec"):
        assert index.search(question) == [], question


def test_blanks_keep_every_offset():
    assert len(blank_markup(PAGE)) == len(PAGE)
    assert blank_markup(PAGE).index("Section") == PAGE.index("Section")


def test_what_is_never_closed_hides_nothing():
    assert visible_text("<p>a <!-- b <script> c").split() == ["a", "<!--", "b", "c"]


@pytest.mark.parametrize("piece", ["<!-- ", "<script>", "<style>x", "<", "<script></script"])
def test_pages_that_close_nothing_take_no_longer(piece):
    clock = time.process_time()
    blank_markup(piece * 40_000)
    assert time.process_time() - clock < 5


def test_angle_brackets_of_other_texts_are_words(tmp_path):
    index = build_index(
        tmp_path / "i", [CorpusDocument("code", "# Types\n\nUse `Vec<String>` for names.\n")]
    )
    assert index.search("string")


@pytest.mark.parametrize(
    ("text", "heading"),
    [
        (PAGE + "<p>More words.</p>" * 3, "Section One"),
        ("Title\n=====\n\nA paragraph of some length.\n\nAnother one here.\n", "Title"),
        ("Sub\n---\n\nA paragraph of some length.\n\nAnother one here.\n", "Sub"),
    ],
)
def test_a_heading_is_its_words_alone(text, heading):
    assert list(chunk_document(CorpusDocument("a", text), 20))[-1].heading == heading
