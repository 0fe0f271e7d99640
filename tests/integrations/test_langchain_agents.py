"""LangChain's own agents with tamis among their middleware; the chat model is a script."""

from __future__ import annotations

import asyncio
import json
import random
import re
from itertools import takewhile
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ClearToolUsesEdit, ContextEditingMiddleware
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import StructuredTool, tool
from pydantic import Field

from tamis.client import ServiceError
from tamis.langchain import TamisToolChoice, TamisToolEdit, TamisToolMiddleware
from tamis.probes.errors import BadInput
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.store import OutputStore
from tests.service.agents.recorded import ERROR, LOG, SUMMARY
from tests.service.api.tool_definitions import DESCRIPTIONS
from tests.service.http.app_kit import served

ROWS = json.dumps([{"id": i, "state": "suspended" if i == 77 else "active"} for i in range(200)])


class Scripted(BaseChatModel):
    """Calls tools in turn, then ends; records what it was sent."""

    calls: list[str]
    requests: list[list[Any]] = Field(default_factory=list)
    offered: list[list[Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Any, **_: Any) -> Scripted:
        self.offered.append([getattr(tool, "name", tool) for tool in tools])
        return self

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        self.requests.append(list(messages))
        done = sum(isinstance(message, ToolMessage) for message in messages)
        answer = AIMessage("done")
        if done < len(self.calls):
            call = {"name": self.calls[done], "args": {"what": "x"}, "id": f"call_{done}"}
            answer = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])


@tool
def run_tests(what: str) -> str:
    """Runs the tests."""
    return LOG


@tool
def list_users(what: str) -> list[dict[str, str]]:
    """Lists users as a block of text."""
    return [{"type": "text", "text": ROWS}]


@tool
def greet(what: str) -> str:
    """Greets."""
    return "hello you"


def run(middleware: Any, *calls: str, is_async: bool = False) -> tuple[Scripted, list[Any]]:
    model = Scripted(calls=list(calls))
    agent = create_agent(model, [run_tests, list_users, greet], middleware=[middleware])
    state = {"messages": [HumanMessage("Why does the order fail, and who is suspended?")]}
    found = asyncio.run(agent.ainvoke(state)) if is_async else agent.invoke(state)
    return model, [m for m in found["messages"] if isinstance(m, ToolMessage)]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_middleware_shortens_a_result_when_it_returns(is_async):
    model, (log, users, small) = run(
        TamisToolMiddleware(ratio=0.2), "run_tests", "list_users", "greet", is_async=is_async
    )
    assert {ERROR, SUMMARY} <= set(log.content.splitlines())
    assert len(log.content) < len(LOG) / 2
    (block,) = users.content
    assert any(row == {"id": 77, "state": "suspended"} for row in json.loads(block["text"]))
    assert len(block["text"]) < len(ROWS) / 2
    assert small.content == "hello you"
    assert model.requests[-1][2].content == log.content
    assert log.tool_call_id == "call_0"


def test_the_whole_result_may_be_kept_where_no_model_reads_it():
    _, (log,) = run(TamisToolMiddleware(ratio=0.2, keep_original=True), "run_tests")
    assert log.artifact == LOG


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_edit_shortens_what_the_model_reads_and_not_the_state(is_async):
    middleware = ContextEditingMiddleware(edits=[TamisToolEdit(ratio=0.2), ClearToolUsesEdit()])
    model, (log, _) = run(middleware, "run_tests", "greet", is_async=is_async)
    assert log.content == LOG
    read = [m for m in model.requests[-1] if isinstance(m, ToolMessage)]
    assert len(read[0].content) < len(LOG) / 2
    assert ERROR in read[0].content


def test_a_result_reads_the_same_in_every_later_request():
    """So that the beginning of the prompt stays in the provider's cache."""
    middleware = ContextEditingMiddleware(edits=[TamisToolEdit(ratio=0.2)])
    model, _ = run(middleware, "run_tests", "list_users", "greet")
    first = [r[2].content for r in model.requests if len(r) > 2]
    assert len(first) == 3
    assert len(set(first)) == 1


def test_the_edit_waits_for_its_trigger_and_leaves_the_last_results():
    edit = TamisToolEdit(ratio=0.2, trigger=10**6)
    model, _ = run(ContextEditingMiddleware(edits=[edit]), "run_tests")
    assert model.requests[-1][2].content == LOG
    edit = TamisToolEdit(ratio=0.2, protect_recent=1)
    model, _ = run(ContextEditingMiddleware(edits=[edit]), "run_tests", "run_tests")
    first, last = (m.content for m in model.requests[-1] if isinstance(m, ToolMessage))
    assert len(first) < len(LOG) / 2
    assert last == LOG


def test_tools_may_be_left_alone_by_pattern():
    _, (log,) = run(TamisToolMiddleware(exclude_tools=["run_*"]), "run_tests")
    assert log.content == LOG


def test_an_unreachable_server_leaves_results_as_they_are_unless_told_to_fail(caplog):
    away = {"base_url": "http://127.0.0.1:9"}
    _, (log,) = run(TamisToolMiddleware(**away), "run_tests")
    assert log.content == LOG
    assert "run_tests" in caplog.text
    with pytest.raises(OSError, match="refused"):
        run(TamisToolMiddleware(**away, on_error="fail"), "run_tests")


def test_wrong_fields_are_refused_when_it_is_made():
    for fields in ({"ratio": 2}, {"max_tokens": 5, "ratio": 0.1}, {"ratoi": 0.2}):
        with pytest.raises((BadInput, ValueError)):
            TamisToolMiddleware(**fields)


FRAMES = "".join(f"  File 'part_{i}.py', line {7 * i}, in part_{i}\n" for i in range(150))
TRACE = f"Traceback (most recent call last):\n{FRAMES}KeyError: 7"
FILE = "".join(f"def step_{i}(order):\n    return order.part_{i}\n" for i in range(40))
EDITED = FILE + "".join(f"def more_{i}():\n    return {i}\n" for i in range(9))
DONE = ("greet", "x", "hello you")


class Walk(BaseChatModel):
    """Takes steps in turn, each a tool, what it is called with and what it returns."""

    steps: list[tuple[str, str, str]]
    said: str = ""
    requests: list[list[Any]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "walk"

    def bind_tools(self, *_: Any, **__: Any) -> Walk:
        return self

    def _generate(self, messages: list[Any], *_: Any, **__: Any) -> ChatResult:
        self.requests.append(list(messages))
        done = sum(isinstance(message, ToolMessage) for message in messages)
        answer = AIMessage("done")
        if done < len(self.steps):
            name, what, _ = self.steps[done]
            call = {"name": name, "args": {"path": what}, "id": f"call_{done}"}
            answer = AIMessage(self.said, tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=answer)])

    def returned(self, **_: Any) -> str:
        done = sum(isinstance(message, ToolMessage) for message in self.requests[-1])
        return self.steps[done][2]


def walk(middleware: Any, steps: list[tuple[str, str, str]], said: str = "", **how: Any):
    """The texts of each request's results, and the results in the state at the end."""
    model = Walk(steps=steps, said=said)
    tools = [
        StructuredTool.from_function(lambda path: model.returned(), name=name, description=name)
        for name in {name for name, *_ in steps}
    ]
    agent = create_agent(model, tools, middleware=[middleware])
    state = {"messages": [HumanMessage("Repair it.")]}
    found = asyncio.run(agent.ainvoke(state)) if how.get("is_async") else agent.invoke(state)
    sent = [[m for m in r if isinstance(m, ToolMessage)] for r in model.requests]
    last = [m for m in found["messages"] if isinstance(m, ToolMessage)]
    return [[m.content for m in one] for one in sent], last, model.requests


def in_edit(**fields: Any) -> Any:
    return ContextEditingMiddleware(edits=[TamisToolEdit(**fields)])


MENDED = [("check", "a.py", TRACE), ("check", "a.py", "42 orders"), DONE, DONE]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    store = OutputStore(tmp_path)
    for module in (
        "tamis.service.agents.shortening",
        "tamis.service.integrations.langchain_agents",
    ):
        monkeypatch.setattr(f"{module}.OutputStore", lambda: store)
    return store


@pytest.mark.parametrize("made", [TamisToolMiddleware, in_edit])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_needless_result_becomes_a_marker_that_gives_it_back(folder, made, is_async):
    sent, last, _ = walk(made(ratio=1.0, min_tokens=100), MENDED, is_async=is_async)
    assert [one[0] for one in sent[1:3]] == [TRACE, TRACE]  # the last two steps stay
    (marker,) = {one[0] for one in sent[3:]}
    assert marker.startswith("KeyError: 7\n[… ")
    assert "a later call succeeded" in marker
    (key,) = re.findall(r"--retrieve ([0-9a-f]{24})", marker)
    assert folder.get(key).decode() == TRACE
    assert last[0].content == (TRACE if made is in_edit else marker)
    assert [m.content for m in last[1:]] == ["42 orders", "hello you", "hello you"]
    assert last[0].tool_call_id == "call_0"


def test_what_the_middleware_replaces_may_be_kept_where_no_model_reads_it(folder):
    fields = {"ratio": 1.0, "min_tokens": 100, "no_store": True, "keep_original": True}
    _, (first, *_), _ = walk(TamisToolMiddleware(**fields), MENDED)
    assert first.artifact == TRACE
    assert re.fullmatch(
        r"KeyError: 7\n\[… \d+ tokens omitted: a later call succeeded\]", first.content
    )


@pytest.mark.parametrize("made", [TamisToolMiddleware, in_edit])
def test_the_floor_what_is_excluded_and_what_does_not_pay_stay(folder, made):
    plans = [("update_plan", "a", FILE)] * 2 + [DONE, DONE]
    for fields, steps, said in (
        ({"steps": False}, MENDED, ""),
        ({"exclude_tools": ["ch*"]}, MENDED, ""),
        ({"min_tokens": 5000}, MENDED, ""),
        ({}, plans, ""),
        ({}, MENDED, "I look at what this printed and go on. " * 100),
    ):
        fields = {"ratio": 1.0, "min_tokens": 100, **fields}
        sent, _, _ = walk(made(**fields), steps, said)
        assert {one[0] for one in sent[1:]} == {steps[0][2]}, fields
    sent, _, _ = walk(made(lossless=True), MENDED)
    assert not any("a later call" in text for one in sent for text in one)


def test_what_cannot_be_kept_stays(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    store = OutputStore(tmp_path / "file")
    module = "tamis.service.integrations.langchain_agents"
    monkeypatch.setattr(f"{module}.OutputStore", lambda: store)
    sent, _, _ = walk(TamisToolMiddleware(ratio=1.0, min_tokens=100), MENDED)
    assert sent[-1][0] == TRACE


def twenty_steps(rng: random.Random) -> list[tuple[str, str, str]]:
    pool = [
        lambda i: [("read_file", "a.py", rng.choice([FILE, EDITED]))],
        lambda i: [("check", f"{i}.py", TRACE), ("check", f"{i}.py", f"{i} orders")],
        lambda i: [("edit_file", "a.py", "ok")],
        lambda i: [("greet", str(i), "hello you")],
    ]
    steps = list[tuple[str, str, str]]()
    while len(steps) < 20:
        steps += rng.choice(pool)(len(steps))
    return steps


def cost(requests: list[list[Any]]) -> float:
    """Of all requests: what stands there as it did in the one before is read from the cache."""
    tokens, total, before = estimating_tokenizer(), 0.0, list[str]()
    for request in requests:
        texts = [f"{m.text}{getattr(m, 'tool_calls', '')}" for m in request]
        same = sum(1 for _ in takewhile(lambda p: p[0] == p[1], zip(before, texts, strict=False)))
        counts = tokens.count_many(texts)
        total += 0.1 * sum(counts[:same]) + 1.25 * sum(counts[same:])
        before = texts
    return total


@pytest.mark.parametrize("made", [TamisToolMiddleware, in_edit])
@pytest.mark.parametrize("seed", range(3))
def test_over_twenty_steps_no_result_changes_twice_and_no_request_costs_more(folder, made, seed):
    steps, went = twenty_steps(random.Random(seed)), 0
    fields = {"ratio": 0.6, "min_tokens": 100}
    sent, _, requests = walk(made(**fields), steps)
    for place in range(len(steps)):
        texts = [one[place] for one in sent if len(one) > place]
        forms = list(dict.fromkeys(texts))
        assert texts == sorted(texts, key=forms.index)  # never back
        assert len(forms) <= 2
        went += len(forms) - 1
    _, _, others = walk(made(**fields, steps=False), steps)
    assert went > 0
    for count in range(1, len(requests) + 1):
        assert cost(requests[:count]) <= cost(others[:count])


def test_an_edit_decides_the_same_without_its_memory(folder):
    fields = {"ratio": 0.6, "min_tokens": 100, "trigger": 900, "protect_recent": 1}
    steps = twenty_steps(random.Random(0))
    _, _, requests = walk(in_edit(ratio=1.0, steps=False), steps)
    edit, changed = TamisToolEdit(**fields), 0
    for request in requests:
        one, other = list(request), list(request)
        edit.apply(one, count_tokens=count_tokens_approximately)
        TamisToolEdit(**fields).apply(other, count_tokens=count_tokens_approximately)
        assert [m.content for m in one] == [m.content for m in other]
        changed += sum("tokens omitted: " in str(m.content) for m in one)
    assert changed


OWN = {"type": "web_search_preview"}


def many_tools() -> list[Any]:
    """Tools with descriptions, and one of the provider's own."""

    def made(name: str, text: str) -> Any:
        return StructuredTool.from_function(lambda what: "done", name=name, description=text)

    return [*(made(name, text) for name, text in DESCRIPTIONS.items()), OWN]


def offered(middleware: Any, *calls: str, is_async: bool = False, asked: str = "") -> list[Any]:
    """The names of the tools that the model was offered at each call of it."""
    model = Scripted(calls=list(calls))
    agent = create_agent(model, many_tools(), middleware=[middleware])
    state = {"messages": [HumanMessage(asked or "Will it rain in Oslo tomorrow?")]}
    asyncio.run(agent.ainvoke(state)) if is_async else agent.invoke(state)
    return model.offered


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_the_model_is_offered_the_tools_that_fit_in_the_callers_order(is_async):
    first, second = offered(
        TamisToolChoice(top_n=2, always_include=["play_music"]),
        "getWeatherForecast",
        is_async=is_async,
    )
    assert first == second
    assert {"getWeatherForecast", "play_music"} <= set(first[:-1])
    assert len(first) == 4
    assert first[-1] == OWN
    assert first[:-1] == [name for name in DESCRIPTIONS if name in first[:-1]]


def test_a_tool_that_was_called_stays_and_a_server_may_choose():
    with served(method="lexical") as service:
        first, second = offered(TamisToolChoice(top_n=1, base_url=service.url), "run_sql")
    assert first == ["getWeatherForecast", OWN]
    assert second == ["getWeatherForecast", "run_sql", OWN]


def test_all_tools_are_offered_on_an_error_unless_told_to_fail(caplog):
    away = {"top_n": 1, "base_url": "http://127.0.0.1:9"}
    [found] = offered(TamisToolChoice(**away))
    assert len(found) == len(DESCRIPTIONS) + 1
    assert "all tools are sent" in caplog.text
    with pytest.raises(ServiceError):
        offered(TamisToolChoice(**away, on_error="fail"))
    with pytest.raises(BadInput, match="top_n is 0"):
        TamisToolChoice(top_n=0)
