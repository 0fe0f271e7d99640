"""docs/new_method.md: the file it shows is a method as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import tamis
from tamis import compressors
from tamis.compressors import registry
from tamis.probes.scripted import Scripted

PAGE = Path(__file__).parents[1] / "docs" / "new_method.md"
DOCS = ["Bread was cheap. A loaf cost two pennies.", "Ships came. The port closed in 1907. Why?"]
QUESTION = "When did the port close?"


@pytest.fixture
def shown(tmp_path, monkeypatch):
    """The page's code in a folder of its own, where the registry looks for methods."""
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf8"), re.S)
    (tmp_path / "brightest.py").write_text(code, "utf8")
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr(compressors, "__path__", [*compressors.__path__, str(tmp_path)])
    return code


def test_it_is_found_by_its_file_and_compresses_and_ranks(shown):
    assert registry.method_names(None) == ["brightest"]
    assert registry.method_info("brightest").needs == "proxy"
    for layer in (1, 3):
        reader = Scripted.pointing_at("1907")
        short = tamis.compress(
            QUESTION, DOCS, method="brightest", max_tokens=24, proxy=reader, layer=layer
        )
        assert short.text == "The port closed in 1907."
        found = tamis.rerank(QUESTION, DOCS, method="brightest", proxy=reader, layer=layer)
        assert [one.index for one in found.results] == [1, 0]


def test_its_body_is_about_ten_lines(shown):
    body = shown[shown.index("class Brightest") : shown.index("def pooled")]
    assert len([line for line in body.splitlines() if line.strip()]) <= 10
