"""The search for slow patterns finds those that are, and no others; `make chaos` looks at all."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from functools import cache

import pytest

from tamis.text.units.segment import segment
from tests.chaos.mended import MENDED
from tests.chaos.patterns import (
    BOUNDED,
    LOCAL,
    OF_CALLERS,
    ONLY_MATCH,
    ROOT,
    UsedPattern,
    find_patterns,
    slowness_of,
    source_files,
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
    (r"\s*x?", "sub once"),
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
    for file in source_files():
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


@pytest.mark.parametrize("mended", MENDED, ids=lambda one: str(one.before)[:40])
def test_a_mended_pattern_finds_what_it_found(mended):
    mended.compare(150)


@pytest.mark.parametrize("mended", MENDED[::4], ids=lambda one: str(one.before)[:40])
def test_a_mended_pattern_was_slow_and_is_not(mended):
    """Of some; `make chaos` tries all."""
    (known,) = [one for one in all_patterns() if one.source == mended.now.pattern]
    assert slowness_of(known) is None
    assert slowness_of(replace(known, source=mended.before)) is not None


def test_images_in_a_link_are_segmented_in_time():
    """Each of them could be read in four ways, and 20 in a million million."""
    began = time.thread_time()
    assert segment("[" + "![x](y)" * 60 + " is a link. And more.")
    assert time.thread_time() - began < 1
