"""Results of steps brought under a number of tokens: what goes first, and what never does."""

from __future__ import annotations

import json
import re

import pytest

from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.service.agents.compaction import StepCompaction
from tamis.service.agents.shortening import Shortening
from tamis.service.agents.store import OutputStore


def step(path: str, words: str, name: str | None = "read_file") -> ToolOutput:
    text = "\n".join(f"{words} is in line {i} of {path}" for i in range(100))
    return ToolOutput(text, name, json.dumps({"path": path}))


STEPS = [
    step("a", "straw"),
    step("b", "the pump"),
    step("c", "paint"),
    step("a", "straw"),
    step("plan", "first", "update_plan"),
    step("d", "straw"),
    step("e", "straw"),
]
WHOLE = sum(len(one.text) for one in STEPS)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    store = OutputStore(tmp_path)
    monkeypatch.setattr("tamis.service.agents.compaction.OutputStore", lambda: store)
    monkeypatch.setattr("tamis.service.agents.shortening.OutputStore", lambda: store)
    return store


def compact(excess: int, steps=STEPS, **fields) -> dict[int, str]:
    how = StepCompaction(Shortening(ratio=0.3), **fields)
    return how.compact(steps, 2, "Why does the pump leak?", excess, lambda _, text: len(text))


def test_the_free_ones_go_first_then_those_that_have_least_to_do_with_the_question():
    assert set(compact(1)) == {0}
    assert "the same call was made again below" in compact(1)[0]
    saved, gone = 0, set()
    for excess in range(1, WHOLE, 500):
        found = compact(excess)
        now = sum(len(STEPS[i].text) - len(text) for i, text in found.items())
        assert now >= min(excess, saved)
        assert set(found) >= gone
        assert set(found) <= {0, 1, 2, 3}  # the plan and the last steps stay
        saved, gone = now, set(found)
    shortened = [next(n for n in range(1, WHOLE, 100) if i in compact(n)) for i in (2, 1)]
    assert shortened[0] < shortened[1]  # paint before the pump
    assert all("an older result" in text for i, text in compact(WHOLE).items() if i)


def test_every_result_can_be_had_again(folder):
    for excess in (1, 9_000, WHOLE):
        for i, text in compact(excess).items():
            (key,) = re.findall(r"--retrieve ([0-9a-f]{24})", text)
            assert folder.get(key).decode() == STEPS[i].text


def test_what_is_excluded_or_of_no_known_call_stays():
    assert compact(WHOLE, exclude_tools=("read_*",)) == {}
    with pytest.raises(BadInput, match="exclude_tools is 'read_file'; give a list"):
        compact(WHOLE, exclude_tools="read_file")
    assert compact(WHOLE, [step(one, "straw", None) for one in "abcdef"]) == {}


def test_a_method_that_cannot_shorten_is_refused_before_a_long_history_is():
    with pytest.raises(UnknownMethod, match="did you mean 'lexical'"):
        StepCompaction(Shortening(method="lexicl"))
    with pytest.raises(BadInput, match="scores no sentences to keep"):
        StepCompaction(Shortening(method="edges"))
    StepCompaction(Shortening(method="their-own", url="http://localhost:8080"))


def test_the_last_results_may_never_go():
    with pytest.raises(BadInput, match="min_keep_steps is 0"):
        StepCompaction(Shortening(), min_keep_steps=0)


def test_what_cannot_be_kept_stays(folder, monkeypatch):
    (folder.folder / "file").touch()
    store = OutputStore(folder.folder / "file")
    monkeypatch.setattr("tamis.service.agents.compaction.OutputStore", lambda: store)
    for excess in (1, WHOLE):
        found = compact(excess)
        assert found  # shortened, with an id that another folder keeps
        assert not any("tokens omitted: " in text for text in found.values())
