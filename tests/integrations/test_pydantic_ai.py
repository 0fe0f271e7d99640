"""pydantic-ai's own agents with tamis as their history processor; the model is a script."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import pytest
from pydantic_ai import Agent
from pydantic_ai.capabilities import ProcessHistory
from pydantic_ai.messages import (
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelResponse,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)
from pydantic_ai.models.function import AgentInfo, FunctionModel

from tamis.probes.errors import BadInput
from tamis.pydantic_ai import TamisHistoryProcessor
from tamis.service.agents.store import OutputStore
from tests.service.agents.recorded import ERROR, LOG, QUESTION

FILE = "".join(f"def step_{i}(order):\n    return order.part_{i}\n" for i in range(60))
CALLS: list[tuple[str, dict[str, Any]]] = [
    ("read_file", {"path": "a.py"}),
    ("run_tests", {"which": "all"}),
    ("read_file", {"path": "b.py"}),
    ("read_file", {"path": "a.py"}),
    ("read_file", {"path": "c.py"}),
    ("read_file", {"path": "d.py"}),
]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path))


def run(processor: TamisHistoryProcessor) -> list[list[ModelMessage]]:
    """What the model was sent, request by request."""
    sent: list[list[ModelMessage]] = []

    def answer(messages: list[ModelMessage], _: AgentInfo) -> ModelResponse:
        sent.append(list(messages))
        if len(sent) <= len(CALLS):
            name, arguments = CALLS[len(sent) - 1]
            return ModelResponse([ToolCallPart(name, arguments, f"c{len(sent)}")])
        return ModelResponse([TextPart("done")])

    agent = Agent(FunctionModel(answer), capabilities=[ProcessHistory(processor)])

    @agent.tool_plain
    def read_file(path: str) -> str:
        return f"# {path}\n{FILE}"

    @agent.tool_plain
    def run_tests(which: str) -> str:
        return LOG

    assert agent.run_sync(QUESTION).output == "done"
    return sent


def returns(messages: list[ModelMessage]) -> list[ToolReturnPart]:
    return [p for m in messages for p in m.parts if isinstance(p, ToolReturnPart)]


def test_below_its_start_the_history_is_as_it_was():
    last = run(TamisHistoryProcessor(compact_at=10**6))[-1]
    assert [p.content for p in returns(last)][:2] == [f"# a.py\n{FILE}", LOG]


def test_needless_results_go_first_and_can_be_had_again():
    sent = run(TamisHistoryProcessor(compact_at=8_000, compact_to=7_500))
    last = returns(sent[-1])
    first = str(last[0].content)
    assert "the same call was made again below" in first
    (key,) = re.findall(r"--retrieve ([0-9a-f]{24})", first)
    assert OutputStore().get(key).decode() == f"# a.py\n{FILE}"
    assert [part.tool_call_id for part in last] == [f"c{i + 1}" for i in range(6)]
    assert [part.content for part in last[3:]] == [f"# {x}.py\n{FILE}" for x in "acd"]
    assert ModelMessagesTypeAdapter.validate_json(ModelMessagesTypeAdapter.dump_json(sent[-1]))


def test_then_older_results_are_shortened_and_the_last_steps_stay():
    sent = run(TamisHistoryProcessor(compact_at=6_000, compact_to=3_000, min_keep_steps=2))
    *older, last_but_one, last = returns(sent[-1])
    whole = 3 * len(FILE) + len(LOG)
    assert sum(len(str(part.content)) for part in older) < 0.5 * whole
    assert (last_but_one.content, last.content) == (f"# c.py\n{FILE}", f"# d.py\n{FILE}")
    log = next(part for part in older if part.tool_name == "run_tests")
    assert ERROR in str(log.content) or "an older result" in str(log.content)


def test_between_two_compactions_the_beginning_stays_to_the_byte():
    sent = run(TamisHistoryProcessor(compact_at=5_000, compact_to=2_000))
    dumped = [ModelMessagesTypeAdapter.dump_json(m)[:-1] for m in sent]
    changes = [not b.startswith(a) for a, b in pairwise(dumped)]
    assert any(changes)
    assert sum(changes) <= 3  # of six requests with six results


def test_on_an_error_the_history_stays_unless_told_to_fail(caplog):
    away = {"compact_at": 1_500, "compact_to": 0, "base_url": "http://127.0.0.1:9"}
    last = returns(run(TamisHistoryProcessor(**away))[-1])
    assert last[0].content == f"# a.py\n{FILE}"
    assert "passed on as it is" in caplog.text
    with pytest.raises(OSError, match="refused"):
        run(TamisHistoryProcessor(**away, on_error="fail"))


@pytest.mark.parametrize(
    "fields",
    [
        {"compact_at": 5, "compact_to": 5},
        {"compact_at": "50000"},
        {"compact_at": None},
        {"compact_to": 2.5},
        {"min_keep_steps": 0},
        {"on_error": "x"},
    ],
)
def test_wrong_fields_are_refused_when_it_is_made(fields):
    with pytest.raises(BadInput):
        TamisHistoryProcessor(**fields)
