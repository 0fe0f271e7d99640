"""Heat maps: no text of a document controls the terminal or the browser."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from rich.console import Console
from tokenizers import Tokenizer, models, pre_tokenizers

from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.pipeline.compression import Compressor, PassageResult, per_passage
from tamis.compressors.rules import Budget, Rules
from tamis.probes.tokens import TextTokenizer
from tamis.service.cli.display.heatmap import (
    explanation,
    heats,
    html_page,
    shade,
    skipped_text,
    unit_runs,
)
from tamis.service.cli.display.output import printable
from tamis.text.types import Passage

HOSTILE = (
    "<script>alert(1)</script> harbour. </script></div></body> \"double\" 'single' & &amp; done. "
    "Line\u2028sep \ud800 lone \x00 nul \x1b[31mred\x1b]0;title\x07 \x9b2J \x85 end.\n\n\tTab."
)
QUESTION = "harbour </title><script>alert(2)</script>?"
RULES = Rules()


class ParsedPage(HTMLParser):
    """Tags, attributes and text of a page, as a browser would find them."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.marked, self.texts, self._open = [], [], []
        self.feed(markup)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        self._open.append(tag)

    def handle_endtag(self, tag):
        self._open.pop()

    def handle_data(self, data):
        if "div" in self._open:
            self.texts.append(data)
        if "mark" in self._open:
            self.marked.append(data)


@pytest.fixture(scope="module")
def counter():
    made = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return TextTokenizer(made, "words")


@pytest.fixture(scope="module")
def made(counter):
    passages = [Passage(HOSTILE, '<b id="x">\x1b[5m'), Passage("Other words.", None, "A 'title'")]
    compressor = Compressor(Lexical(), "lexical", counter)
    result = compressor.compress(QUESTION, passages, Budget(2), RULES)
    return result, per_passage(result, RULES, counter)


def test_a_page_runs_nothing_and_shows_everything(made):
    result, found = made
    markup = html_page(QUESTION, result, found)
    parsed = ParsedPage(markup)
    assert "script" not in parsed.tags
    assert not any(name.startswith("on") for name, _ in parsed.attributes)
    assert "".join(parsed.texts) == printable(HOSTILE) + "Other words."
    kept = [result.passages[k.passage].text[k.start : k.stop] for k in result.kept]
    assert kept
    assert parsed.marked == list(map(printable, kept))
    assert "default-src 'none'" in markup


def test_a_page_needs_nothing_from_outside_and_is_utf_8(made):
    markup = html_page(QUESTION, *made)
    assert not re.search(r"https?:|url\(|@import|\bsrc=|<link", markup)
    assert markup.encode("utf-8").decode("utf-8") == markup
    assert "prefers-color-scheme: dark" in markup


def test_a_page_shows_each_score_on_hover(made):
    result, found = made
    titles = [
        value
        for name, value in ParsedPage(html_page(QUESTION, result, found)).attributes
        if name == "title"
    ]
    kept = {kept.unit for kept in result.kept}
    assert titles == [
        f"{score:.3f}, {'kept' if u in kept else 'left out'}"
        for u, score in enumerate(result.scores)
    ]


def test_a_terminal_gets_no_control_characters_of_a_document(made):
    screen = io.StringIO()
    console = Console(file=screen, width=100, color_system=None)
    for part in explanation(QUESTION, *made, everything=True):
        console.print(part)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", screen.getvalue())
    assert "␛[31mred" in screen.getvalue()
    assert "<b id=" in screen.getvalue()


def passage_result(kept: tuple[int, ...], units: range = range(10, 20)) -> PassageResult:
    return PassageResult(0, Passage(""), None, tuple(units), kept, "", 0, 0)


def test_kept_units_and_their_neighbours_are_shown_and_runs_between_are_skipped():
    found = list(unit_runs(passage_result((12, 18))))
    assert found == [
        ((10,), False),
        ((11, 12, 13), True),
        ((14, 15, 16), False),
        ((17, 18, 19), True),
    ]
    assert list(unit_runs(passage_result((10, 12)))) == [
        ((10, 11, 12, 13), True),
        ((14, 15, 16, 17, 18, 19), False),
    ]


def test_a_passage_with_nothing_kept_is_one_run_unless_everything_is_shown():
    assert list(unit_runs(passage_result(()))) == [(tuple(range(10, 20)), False)]
    assert list(unit_runs(passage_result((), range(0)))) == []
    assert list(unit_runs(passage_result((), range(3)), everything=True)) == [((0, 1, 2), True)]


def test_a_skipped_run_shows_its_size_and_the_best_score(made):
    result, _ = made
    best = max(result.scores[:3])
    assert skipped_text((0, 1, 2), result) == f"3 more, best {best:.2f}"


def test_what_is_shown_has_as_many_code_points_and_keeps_ordinary_text():
    everything = "".join(map(chr, range(0x2100))) + "\ud800\udfff\U0001f600"
    assert len(printable(everything)) == len(everything)
    assert printable("tab\t line\n é 漢 😀") == "tab\t line\n é 漢 😀"


def test_heat_grows_with_the_score_from_nought_to_one():
    found = heats([-3.0, 0.5, -1.0, 7.0])
    assert (found[0], found[3]) == (0.0, 1.0)
    assert found[0] < found[2] < found[1] < found[3]
    assert heats([2.0, 2.0]) == [0.0, 0.0]
    assert heats([]) == []


def test_kept_sentences_are_solid_and_others_faint_at_every_heat():
    for heat in (0.0, 0.5, 1.0):
        assert shade(heat, kept=True).bold
        assert shade(heat, kept=True).bgcolor is not None
        assert shade(heat, kept=False).bgcolor is None
        assert not shade(heat, kept=False).bold
    assert len({shade(heat, kept=True).bgcolor for heat in (0.0, 0.5, 1.0)}) == 3
