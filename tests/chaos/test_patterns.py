"""The search for slow patterns finds those that are, and no others; `make chaos` looks at all."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.segmentation import lines
from tamis.probes.segmentation.segment import segment
from tamis.probes.segmentation.tool_output import builds, git, line_table, logs, runners
from tamis.service.documents import document_text
from tamis.service.http.schemas import patterns
from tests.chaos.patterns import (
    BOUNDED,
    FOLDERS,
    LOCAL,
    OF_CALLERS,
    ONLY_MATCH,
    ROOT,
    UsedPattern,
    find_patterns,
    slowness_of,
)

OLD_CONDITION = r"(?s)\s*([^=!<>]+?)\s*(!=|>=|<=|=|>|<)\s*(.*?)\s*"
"""Cubic on spaces; conditions of searches were once parsed by it."""
SLOW = [
    (OLD_CONDITION, "fullmatch"),
    (r"\s+$", "search"),
    (r"(a+)+b", "match"),
    (r"(?:x|xx)*y", "fullmatch"),
    (r"<!--.*?-->", "finditer"),
    (r"\[[^\]]*\]", "findall"),
    (r'"(?:[^"\\]|\\.|\w)*"', "match"),
    (r"\d+\.?\d*px", "sub"),
    (r"(\w+)\s*,\s*\1\s*;", "search"),
    (rb"\s*\n\s*\n", "search"),
    (r"item (?:a|b|ab)*!", "match"),
]
LINEAR = [
    (r"\s+", "sub"),
    (r"\s*\S", "match"),
    (r"<[^<>]*>", "finditer"),
    (r"[^\W_]+", "findall"),
    (r"a{1,100}b", "search"),
    (r"(?:[^\"\\]|\\.)*", "fullmatch"),
    (r"(?<!\S)\S+$", "search"),
    (rb"[\x21-\x7e]{1,128}", "fullmatch"),
]


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr("tests.chaos.patterns.CPU_S", 2)


all_patterns = cache(find_patterns)


def used(source: str | bytes, method: str, module: str = "re") -> UsedPattern:
    return UsedPattern("here:1", module, source, re.compile(source).flags, (method,))


@pytest.mark.parametrize(("source", "method"), SLOW)
def test_a_slow_pattern_is_found_with_its_text(source, method):
    found = slowness_of(used(source, method))
    assert found is not None
    assert found.pattern.source == source
    assert "here:1" in str(found)


@pytest.mark.parametrize(("source", "method"), LINEAR)
def test_a_linear_pattern_is_none(source, method):
    assert slowness_of(used(source, method)) is None


def test_every_pattern_of_the_source_is_found():
    """By the letters of the source, which the syntax tree agrees with."""
    found = {one.place.partition(" ")[0] for one in all_patterns()}
    written = re.compile(r"^[^#\n\"']*\b(?:re|regex)\.compile\(", re.M)
    for top in FOLDERS:
        for file in (ROOT / top).rglob("*.py"):
            text = file.read_text()
            path = file.relative_to(ROOT)
            lines = {text.count("\n", 0, at.end()) + 1 for at in written.finditer(text)}
            names = {f"{path}:{line}" for line in lines}
            is_known = any(place.startswith(f"{path} ") for place in OF_CALLERS)
            assert len(names - found) <= is_known, names - found


@pytest.mark.parametrize("place", sorted([*BOUNDED, *ONLY_MATCH, *OF_CALLERS, *LOCAL]))
def test_every_exception_is_of_a_pattern_that_is_there(place):
    file, name = place.split(" ")
    assert re.search(rf"\b{name}\b", (ROOT / file).read_text())


def test_a_pattern_that_cannot_be_told_stops_the_search(tmp_path):
    folder = tmp_path / "probes"
    folder.mkdir()
    source = "import re\ndef f(name):\n    return re.compile(name)\n"
    (folder / "errors.py").write_text(source)
    with pytest.raises(LookupError, match=r"probes/errors.py:3 f"):
        find_patterns(tmp_path, ("probes",))


MENDED = [
    (
        builds._COMPILER_SOURCE,
        r"\s+\d* \||\s+\^|\s+[~^]+|\s*\d+\s{2,}\S|\s*[~^]+$|\s{2,}.*\^",
        [*" \t1|^~x"],
    ),
    (
        runners._PYTEST_STATUS,
        r"\S+(?:::| ).*\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS|RERUN)\b(?:\s|$)"
        r"|\S+\.py [.FEsxX]+(?:\s|$)",
        ["PASSED", "ERROR", "::", ":", " ", "a", ".py", ".", "F", "\n"],
    ),
    (
        runners._PYTEST_COUNTS,
        r"\d+ (?:passed|failed|error|skipped|xfailed|deselected|warning)|no tests ran",
        [*"12 ", "passed", "error", "no tests ran", "a", "\u0663"],
    ),
    (
        builds._RUST_TEST,
        r"test \S+.* \.\.\. (ok|FAILED|ignored)",
        ["test ", "a", " ", " ... ", "ok", "."],
    ),
    (
        logs._FEW_ERRORS,
        r"\d+ (?:errors?|failures?)\b|(?:errors?|failures?|failed)[:=] *\d+",
        [*"12 :=s", "error", "failed", "failure"],
    ),
    (
        git._HUNK,
        r"@@+ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))?.* @@+",
        ["@@", "@", " ", "-", "+", ",", "1", "2", " -1,2 +3", "x"],
    ),
    (
        builds._DOCKER_FILE,
        r"\S*Dockerfile\S*:\d+",
        ["Dockerfile", ":", "1", "x", " ", ":2"],
    ),
    (
        builds._MAVEN_GRADLE,
        r"\* What went wrong|> Task \S+ FAILED|.* > .* FAILED$|FAILURE: ",
        ["> Task ", " > ", " FAILED", "x", " ", "\n", "FAILURE: "],
    ),
    (
        document_text._START,
        r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b",
        ["<!--x-->", "<!-- <html> -->", " ", "<html>", "<!doctype html>", "\n"],
    ),
    (patterns._COUNT, r"\{(\d*)(,?)(\d*)\}", [*"{},12"]),
    (
        line_table._STATUS,
        r"\s*(?:\[ *\d+%\]|\[\w+\])?\s*(PASS(?:ED)?|ok|OK|CC|CXX|AR|LD|gcc|g\+\+|cc|clang|c\+\+"
        r"|[A-Z][a-z]+(?:ing|ed|ched)|Get|Hit|test|adding|extracting|inflating|copying|creating"
        r"|writing|running|Selecting)\b",
        [*" [1%]\n", "[ 12%]", "[ok]", "ok", "PASS", "ED", "Cop", "ying"],
    ),
    (
        lines._LINK,
        r"!?\[(?:[^\[\]]|!?\[[^\[\]]{0,80}\](?:\([^()]{0,200}\))?){0,200}\]\s?"
        r"\((?:[^()\s]|\([^()\s]{0,80}\)|\n){0,400}"
        r"(?:\s+\"(?:[^\"]|\"(?!\s{0,4}\))){0,200}\")?\s?\)",
        [*"![]x \n", "(u)", '(u "t")', "[x]", "![y](v)"],
    ),
    (
        document_text._DECLARED,
        rb"""charset\s*=\s*["']?\s*([\w.:-]+)|encoding\s*=\s*["']([\w.:-]+)""",
        ["charset", "encoding", "=", " ", '"', "'", "a", "CHARSET"],
    ),
]
"""Patterns that were slow, as they were, and what texts for them are made of."""


@pytest.mark.parametrize(("now", "before", "parts"), MENDED, ids=lambda one: str(one)[:40])
def test_a_mended_pattern_finds_what_it_found(now, before, parts):
    """But for a bracket that opens in an address inside a link, and a second end of a comment."""
    old = re.compile(before, now.flags & (re.I | re.S | re.M))

    @settings(max_examples=1500, deadline=None)
    @given(st.lists(st.sampled_from(parts), max_size=14).map("".join))
    def compare(text):
        text = text.encode() if isinstance(before, bytes) else text
        for method in ("match", "search"):
            found, wanted = getattr(now, method)(text), getattr(old, method)(text)
            assert (found is None) == (wanted is None), text
            if found is not None:
                assert (found.span(), found.groups()) == (wanted.span(), wanted.groups()), text

    compare()


@pytest.mark.parametrize(("now", "before", "parts"), MENDED, ids=lambda one: str(one)[:40])
def test_a_mended_pattern_was_slow_and_is_not(now, before, parts):
    (known,) = [one for one in all_patterns() if one.source == now.pattern]
    assert slowness_of(known) is None
    assert slowness_of(replace(known, source=before)) is not None


def test_images_in_a_link_are_segmented_in_time():
    """Each of them could be read in four ways, and 20 in a million million."""
    began = time.thread_time()
    assert segment("[" + "![x](y)" * 60 + " is a link. And more.")
    assert time.thread_time() - began < 1
