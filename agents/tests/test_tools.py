"""What `tamis mcp` offers, as functions: lines are those of the markers, errors are tamis's own."""

from __future__ import annotations

import re

import pytest

from tamis.compressors.tools.lossless import restore
from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis_agents.tools import AgentTools
from tests.retrieval.index.corpora import BREAD, HARBOUR, build_index, put

MARKER = re.compile(r"lines (\d+)-(\d+) omitted, .*; id ([0-9a-f]{24})")


@pytest.mark.parametrize("sign", ["\f", "\v", "\x1c", "\x85", "\u2028", " \r "], ids=ascii)
def test_lines_are_retrieved_by_the_numbers_in_their_marker(sign):
    """A line ends with a line feed alone, whatever else Python splits lines at."""
    text = "".join(f"step {i}{sign}of {i * 7919 % 1000} PASSED\n" for i in range(300))
    tools = AgentTools(method="lexical")
    found = MARKER.findall(tools.shorten(text, ratio=0.2))
    assert found
    lines = re.findall(r"[^\n]*\n", text)
    for first, last, key in found:
        source = "".join(lines[int(first) - 1 : int(last)])
        assert tools.retrieve(key, f"{first}-{last}") == source
    with pytest.raises(BadInput, match="the text has 300 lines"):
        tools.retrieve(found[0][2], "301")
    for lines in ("1" * 5000, f"1-{'2' * 5000}", "0", "7-3"):
        with pytest.raises(BadInput, match="give numbers from 1, such as 12-47") as refused:
            tools.retrieve(found[0][2], lines)
        assert len(str(refused.value)) < 200


def test_a_limit_that_is_exceeded_is_said_below_the_text():
    shown = AgentTools().shorten("INFO request ok\n" * 40 + "ERROR " + "broken " * 90, max_tokens=4)
    assert "ERROR" in shown
    assert shown.splitlines()[-1].startswith("[4 tokens are too few")


def test_lossless_leaves_nothing_out_and_takes_no_limit():
    log = "".join(f"2026-11-29 08:00:00 worker-{i} started\n" + "retrying\n" * 40 for i in range(9))
    shown = AgentTools(method="lexical").shorten(log, lossless=True)
    assert len(shown) < len(log) / 3
    assert restore(shown) == log
    with pytest.raises(BadInput, match="lossless leaves nothing out"):
        AgentTools().shorten(log, lossless=True, max_tokens=100)


def test_a_path_that_no_file_can_have_is_an_error_with_a_message(tmp_path):
    with pytest.raises(BadInput, match="is not a path"):
        AgentTools(folder=tmp_path).shorten(path="a\0b")


def test_files_of_html_are_read_as_what_they_show(tmp_path):
    rows = "".join(f"<li>Lamp {i} is white.</li>" for i in range(40))
    page = f"<html><body><nav>Home</nav><p>The green lamp hums.</p><ul>{rows}</ul></body></html>"
    (tmp_path / "lamps.html").write_text(page)
    tools = AgentTools(method="lexical", folder=tmp_path)
    shown = tools.compress("Which lamp hums?", paths=["lamps.html"], max_tokens=20)
    assert "The green lamp hums." in shown
    assert "<" not in shown.replace("[lamps.html", "")
    key = re.search(r"id ([0-9a-f]{24})", shown)[1]
    assert "Lamp 39 is white." in tools.retrieve(key)
    assert "Home" not in tools.retrieve(key)


def test_a_search_sees_what_was_committed_and_closes_the_state_before(tmp_path, monkeypatch):
    closed, close = [], CorpusIndex.close
    monkeypatch.setattr(CorpusIndex, "close", lambda index: (closed.append(index), close(index)))
    build_index(tmp_path / "i", [HARBOUR])
    tools = AgentTools(index=tmp_path / "i")
    assert [hit["document"] for hit in tools.search("harbour")] == ["harbour"]
    assert closed == []
    put(tmp_path / "i", BREAD)
    assert [hit["document"] for hit in tools.search("bread")] == ["bread"]
    assert len(closed) == 1
