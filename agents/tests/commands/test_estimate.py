"""`tamis estimate`: its figures are those of the service, billed by an oracle of a few lines."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tamis
from agents.tests.gateway.chat_server import chat_server
from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.http.conversation.billing import Prices
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.runtime.telemetry import Metrics
from tamis_agents import estimate as dry_run
from tamis_agents.commands import estimate as command
from tamis_agents.estimate import Choices, LoggedRequest, RequestLog, read_log
from tests import fences
from tests.service.cli.cli_kit import tamis as run_cli
from tests.service.http.app_kit import SlowReader, pointing, served

ROOT = Path(__file__).parents[3]
PRINTED = ROOT / "tests/compressors/tools/outputs"
OUTPUTS = {path.stem: path.read_text("utf-8") for path in PRINTED.iterdir()}
PAGES = {path.name: path.read_text("utf-8") for path in (ROOT / "examples/fastapi-docs").iterdir()}
ASKED = "Why does the build fail?"
CORS = "How long do browsers cache CORS responses by default?"
TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]
PRICES = Prices(3.0, 0.3, 3.75, least=0)
COUNT = estimating_tokenizer().count


def openai_run(*names: str) -> list[dict[str, Any]]:
    """The requests of an agent's run in OpenAI's format: each repeats the one before."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": ASKED},
    ]
    bodies = []
    for place, name in enumerate((*names, "")):
        bodies.append({"model": "m", "messages": list(messages), "tools": TOOLS})
        function = {"name": "bash", "arguments": json.dumps({"command": f"run {name}"})}
        call = {"id": f"call_{place}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        content = OUTPUTS.get(name, "")
        messages.append({"role": "tool", "tool_call_id": f"call_{place}", "content": content})
    return bodies


def anthropic_run(*names: str) -> list[dict[str, Any]]:
    """The same in Anthropic's, with the marker of the cache on the last result, as agents send."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]
    bodies = []
    for place, name in enumerate(names):
        use = {"type": "tool_use", "id": f"t{place}", "name": "bash", "input": {"command": name}}
        result = {"type": "tool_result", "tool_use_id": f"t{place}", "content": OUTPUTS[name]}
        messages += [
            {"role": "assistant", "content": [use]},
            {"role": "user", "content": [result]},
        ]
        marked = json.loads(json.dumps(messages))
        if place:  # behind the result before the last one
            marked[-3]["content"][0]["cache_control"] = {"type": "ephemeral"}
        bodies.append({"model": "m", "system": "Be brief.", "messages": marked, "max_tokens": 9})
    return bodies


@pytest.fixture(scope="module")
def state() -> Iterator[ServiceState]:
    knobs = {"method": "lexical", "threads": 1, "cache_bytes": 0, "upstream_compress_s": 60}
    with_words = ServiceState.start(Settings(**knobs), Metrics(), pointing())
    yield with_words
    with_words.close()


def log_of(folder: Path, *rows: Any) -> RequestLog:
    path = folder / "log.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), "utf-8")
    return read_log([str(path)])


def no_bar(what: str, total: int) -> Any:
    return nullcontext(lambda done=1: None)


def estimated(
    state: ServiceState, requests: list[LoggedRequest], prices: Prices = PRICES, **given: Any
) -> SimpleNamespace:
    """The estimate, with its rows as objects, too."""
    plain = {
        "budget": Budget(ratio=0.3),
        "method": "lexical",
        "tokenizer": "estimate",
        "compresses_cached": False,
        "tags": RetrievalTags(()),
        "time_limit_s": 600,
    }
    choices = Choices(**{**plain, **given})
    found = asdict(dry_run.estimate(requests, state, choices, prices, no_bar))
    return SimpleNamespace(**found | {"rows": [SimpleNamespace(**row) for row in found["rows"]]})


def tokens_of(part: Any) -> int:
    """The oracle's count: contents, names and arguments of one message."""
    found = [part["content"]] if isinstance(part.get("content"), str) else []
    for call in part.get("tool_calls", ()):
        found += [call["function"]["name"], call["function"]["arguments"]]
    for block in part["content"] if isinstance(part.get("content"), list) else ():
        found += [block["content"]] if "content" in block else []
        found += [block["name"], json.dumps(block["input"])] if "name" in block else []
    return sum(map(COUNT, found)) + 4


def oracle(bodies: list[dict[str, Any]]) -> tuple[int, float]:
    """Tokens and cost of one conversation, by comparing lists of messages."""
    total, cost, former = 0, 0.0, []
    for body in bodies:
        system = [{"role": "system", "content": body["system"]}] if "system" in body else []
        parts = json.loads(json.dumps([*system, *body["messages"]]))
        for part in parts:
            for block in part["content"] if isinstance(part["content"], list) else ():
                block.pop("cache_control", None)
        same = 0
        for one in former:
            pairs = [a == b for a, b in zip(one, parts, strict=False)]
            same = max(same, (*pairs, False).index(False))
        offered = COUNT(json.dumps({"tools": body["tools"]})) if "tools" in body else 0
        sizes = [tokens_of(part) for part in parts]
        read = offered * bool(former) + sum(sizes[:same])
        total += offered + sum(sizes)
        cost += (read * 0.3 + (offered + sum(sizes) - read) * 3.75) / 1e6
        former.append(parts)
    return total, cost


@pytest.fixture(scope="module")
def proxy() -> Iterator[Callable[..., list[dict[str, Any]]]]:
    """Sends bodies through a real service, and gives what the provider got."""
    with chat_server() as upstream:

        def sent(bodies: list[dict[str, Any]], path: str, **knobs: Any) -> list[dict[str, Any]]:
            with served(
                upstream=upstream.url, method="lexical", upstream_compress_s=60, **knobs
            ) as service:
                before = len(upstream.exchanges)
                for body in bodies:
                    service.raw(path, json.dumps(body).encode(), x_tamis_ratio="0.3")
                return [asked.json for asked in upstream.exchanges[before:]]

        yield sent


def test_an_agents_log_costs_what_the_provider_gets_from_the_service(state, proxy, tmp_path):
    """Between the requests of the run is one of a branch, which goes on from the second."""
    bodies = openai_run("pytest", "gcc", "grep", "npm_error")
    bodies.insert(3, openai_run("pytest", "rustc", "")[2])
    batch = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions"}
    log = log_of(tmp_path, *({**batch, "body": body} for body in bodies))
    row, total = estimated(state, log.requests).rows
    before, after = oracle(bodies), oracle(proxy(bodies, "/v1/chat/completions"))
    assert after[0] < 0.6 * before[0]
    assert (row.kind, row.requests, total.kind) == ("agent", 6, "all")
    assert (row.tokens, row.tokens_after) == (before[0], after[0])
    assert (row.cost, row.cost_after) == pytest.approx((before[1], after[1]), rel=1e-12)
    assert (row.shortened, row.passed_on, row.dearer) == (5, 1, 0)
    assert (total.cost, total.cost_after, total.interval) == (row.cost, row.cost_after, None)


@pytest.mark.parametrize("is_lifted", [False, True])
def test_what_was_sent_short_costs_no_more_when_the_marker_moves_behind_it(
    state, proxy, tmp_path, is_lifted
):
    """The provider's cache has it as it was sent, and it is sent so again."""
    bodies = anthropic_run("pytest", "gcc", "npm_error")
    found = estimated(state, log_of(tmp_path, *bodies).requests, compresses_cached=is_lifted)
    sent = proxy(bodies, "/v1/messages", upstream_cached=is_lifted)
    (tokens, cost), row = oracle(sent), found.rows[0]
    assert (row.tokens_after, row.cost_after) == (tokens, pytest.approx(cost, rel=1e-12))
    assert (row.misses, row.dearer) == (0, 0)
    assert row.cost_after < 0.9 * row.cost


def test_a_beginning_that_is_too_short_for_the_cache_costs_the_full_price(state, tmp_path):
    requests = log_of(tmp_path, *openai_run("pytest")).requests
    full = estimated(state, requests, Prices(3.0, 3.0, 3.0, least=0)).rows[-1]
    for least, is_same in ((10**6, True), (10, False)):
        found = estimated(state, requests, Prices(3.0, 0.3, 3.0, least=least)).rows[-1]
        assert (found.cost == full.cost) is is_same


def test_rag_requests_cost_what_compress_keeps(state, tmp_path):
    documents = [PAGES["cors.md"], PAGES["query-params.md"]]
    fewest = {"max_tokens": 100, "tokenizer": "estimate"}
    small = ["Browsers cache them for 600 seconds."]
    log = log_of(
        tmp_path,
        {"question": CORS, "documents": documents, "answer": 600},
        {"query": CORS, "contexts": documents},
        {"question": CORS, "documents": [{"text": d, "score": 0.5} for d in documents]},
        {"request": {"question": CORS, "documents": documents, **fewest}},
        {"question": CORS, "documents": small, "max_tokens": 100},
    )
    (row, _), asked = estimated(state, log.requests).rows, COUNT(CORS)
    plain = {"method": "lexical", "tokenizer": "estimate"}
    kept, fewer = (
        COUNT(tamis.compress(CORS, documents, **plain, **budget).text)
        for budget in ({"ratio": 0.3}, {"max_tokens": 100})
    )
    before = 5 * asked + 4 * sum(map(COUNT, documents)) + COUNT(small[0])
    after = 5 * asked + 3 * kept + fewer + COUNT(small[0])
    assert fewer <= 100 < kept
    assert (row.kind, row.requests, row.tokens, row.tokens_after) == ("RAG", 5, before, after)
    assert (row.cost, row.cost_after) == pytest.approx((before * 3e-6, after * 3e-6))
    assert (row.shortened, row.passed_on, row.dearer) == (4, 1, 0)


def test_each_kind_has_a_row_and_the_last_is_their_sum(state, tmp_path):
    log = log_of(
        tmp_path,
        *openai_run("gcc"),
        {"messages": [{"role": "user", "content": "What is CORS?"}]},
        {"question": CORS, "documents": [PAGES["cors.md"]]},
    )
    *rows, total = estimated(state, log.requests).rows
    assert [(row.kind, row.requests) for row in rows] == [("chat", 1), ("agent", 2), ("RAG", 1)]
    assert total.requests == 4
    assert total.cost_after == pytest.approx(sum(row.cost_after for row in rows))


def test_what_a_service_sends_on_as_it_came_is_counted_whole_with_the_reason(state, tmp_path):
    output = {"type": "function_call_output", "call_id": "c", "output": OUTPUTS["pytest"]}
    log = log_of(
        tmp_path,
        {"model": "m", "input": [{"role": "user", "content": ASKED}, output]},
        {"contents": [{"role": "user", "parts": [{"text": ASKED}]}]},
        {"messages": [{"role": "user", "content": 5}, {"role": 7, "content": [None, {"type": 1}]}]},
        {"question": " ", "documents": [{"nothing": 1}]},
        {"question": CORS, "documents": [*PAGES.values()], "max_tokens": "50"},
    )
    found = estimated(state, log.requests)
    total = found.rows[-1]
    assert total.tokens - total.tokens_after < COUNT(OUTPUTS["pytest"]) < total.tokens
    assert total.passed_on == 4  # all but the one with a result


@pytest.mark.parametrize(
    ("row", "kind", "usage"),
    [
        ({"messages": [{"role": "user", "content": "a"}]}, "chat", None),
        (
            {
                "request": {"messages": [{"role": "tool", "tool_call_id": "1", "content": "a"}]},
                "response": {
                    "usage": {"prompt_tokens": 9, "prompt_tokens_details": {"cached_tokens": 4}}
                },
            },
            "agent",
            (9, 4),
        ),
        (
            {
                "body": {"messages": [{"role": "user", "content": "a"}]},
                "response": {"body": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 3}}},
            },
            "chat",
            (8, 3),
        ),
        (
            {
                "request": {"body": {"input": "Hello", "instructions": "Be brief."}},
                "usage": {"input_tokens": 9, "input_tokens_details": {"cached_tokens": 2}},
            },
            "chat",
            (9, 2),
        ),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
            "agent",
            None,
        ),
        ({"query": "Why?", "context": "Because."}, "RAG", None),
        ({"messages": [{"role": "user"}], "usage": {"prompt_tokens": True}}, "chat", None),
    ],
)  # fmt: skip
def test_a_line_is_recognised_by_its_shape(row, kind, usage, tmp_path):
    (found,) = log_of(tmp_path, row).requests
    assert (found.kind, found.usage) == (kind, usage)


def test_other_lines_are_named_and_passed_over(tmp_path):
    path = tmp_path / "log.jsonl"
    good = json.dumps(openai_run("gcc")[0])
    rank = json.dumps({"query": "a", "documents": ["b"], "top_n": 1})
    other = '{"input": "a", "model": "m"}\n' + rank
    blank = '{"question": " ", "documents": []}'
    path.write_text(f"{good}\n\nno json\n{rank}\n[1]\n{other}\n{blank}\n")
    log = read_log([str(path)])
    assert len(log.requests) == 1
    assert log.unknown == {
        "no JSON that a service reads": [f"{path}, line 3"],
        "an object with query, documents, top_n": [f"{path}, line 4", f"{path}, line 7"],
        "JSON of type list": [f"{path}, line 5"],
        "an object with input, model": [f"{path}, line 6"],
        "an object with question, documents, of which documents is empty": [f"{path}, line 8"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"\n \n", "it is empty"),
        (b'{"a": 1}\n', "line 1 is an object with a"),
        (b"[\n{}]\n", "A line is a request"),
    ],
)
def test_a_log_without_requests_is_refused(content, message, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        read_log([str(path)])


def test_a_log_that_is_named_twice_is_refused(tmp_path):
    log_of(tmp_path, openai_run("gcc")[0])
    (path,) = map(str, tmp_path.iterdir())
    with pytest.raises(BadInput, match="is named twice and its requests would be doubled"):
        read_log([path, path])


def test_no_address_is_opened():
    with pytest.raises(BadInput, match="is an address"):
        read_log(["https://example.org/log.jsonl"])


def test_a_packed_file_and_standard_input_read_the_same(tmp_path, monkeypatch):
    plain = log_of(tmp_path, *openai_run("gcc"))
    data = (tmp_path / "log.jsonl").read_bytes()
    packed = tmp_path / "log.jsonl.gz"
    packed.write_bytes(gzip.compress(data))
    assert read_log([str(packed)]) == plain
    for sent in (data, gzip.compress(data)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(sent)))
        assert read_log(["-"]) == plain
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(gzip.compress(data)[:-9])))
    with pytest.raises(BadInput, match="damaged"):
        read_log(["-"])


def test_usage_of_the_provider_scales_all_figures(state, tmp_path):
    bodies = openai_run("pytest", "gcc")
    plain = estimated(state, log_of(tmp_path, *bodies).requests)
    sizes = [oracle([body])[0] for body in bodies]
    usages = [{"prompt_tokens": 2 * size} for size in sizes]
    usages[1]["prompt_tokens_details"] = {"cached_tokens": 60}
    rows = [{"request": b, "response": {"usage": u}} for b, u in zip(bodies, usages, strict=True)]
    found = estimated(state, log_of(tmp_path, *rows).requests)
    usage = found.usage
    assert (usage["scale"], usage["requests"], usage["off"]) == (2, 3, (-0.5, -0.5, -0.5))
    assert usage["cached"] == (60, 2 * (sizes[0] + sizes[1]))
    for name in ("tokens", "tokens_after", "cost", "cost_after"):
        scaled, ours = (getattr(one.rows[0], name) for one in (found, plain))
        assert scaled == pytest.approx(2 * ours)


def rag_log(count: int) -> list[LoggedRequest]:
    lines = (ROOT / "examples/everyday/documents.jsonl").read_text("utf-8").splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    return [
        LoggedRequest("RAG", {"question": f"{CORS} {i}", "documents": [texts[i % len(texts)]]})
        for i in range(count)
    ]


@pytest.fixture(scope="module")
def slow_state() -> Iterator[ServiceState]:
    knobs = {"threads": 1, "cache_bytes": 0, "warmup": False}
    made = ServiceState.start(Settings(**knobs), Metrics(), SlowReader(pointing(), 100_000))
    yield made
    made.close()


def test_what_takes_too_long_is_sampled_and_then_shortened_by_words(slow_state):
    """The limit is that of some sixty requests, then of five, on a machine as busy as this one."""
    given = {"method": "question_rows"}
    one_s = estimated(slow_state, rag_log(40), **given).reading_s / 40
    requests = rag_log(200)
    found = estimated(slow_state, requests, time_limit_s=60 * one_s, **given)
    assert found.method == "question_rows"
    assert dry_run.LEAST_UNITS <= found.sampled < found.units == 200
    assert found.reading_s > 60 * one_s
    (row, total), words = found.rows, estimated(slow_state, requests).rows[0]
    low, high = row.interval
    assert low <= row.cost_after <= high < row.cost
    assert total.interval == row.interval
    assert (row.requests, row.tokens, row.cost) == (200, words.tokens, words.cost)
    assert row.tokens_after == pytest.approx(words.tokens_after, rel=0.2)
    found = estimated(slow_state, requests, time_limit_s=5 * one_s, **given)
    assert (found.method, found.reading_s > 5 * one_s) == ("lexical", True)
    assert found.rows[0].tokens_after == pytest.approx(words.tokens_after, rel=0.2)


def test_a_sample_is_spread_evenly_and_has_enough_of_each_kind():
    requests = [LoggedRequest("RAG", {"n": i}) for i in range(1000)]
    units = [dry_run.Unit("RAG", [one], [], [100]) for one in requests]
    units += [dry_run.Unit("agent", [], [], [500]) for _ in range(7)]
    chosen = dry_run.sample(units, 20_000)
    places = [unit.requests[0].body["n"] for unit in chosen if unit.kind == "RAG"]
    assert sum(unit.kind == "agent" for unit in chosen) == 7
    assert len(places) == 160
    assert {b - a for a, b in pairwise(places)} <= {6, 7}
    assert dry_run.sample(units, 5_000) is None
    assert len(dry_run.sample(units, 103_500)) == 1007


def test_intervals_hold_what_all_units_give_about_as_often_as_they_say():
    drawn, held = random.Random(3), 0
    sizes = [drawn.lognormvariate(6, 1) for _ in range(2000)]
    kept = [size * drawn.betavariate(2, 4) for size in sizes]
    wholes = [(1, size, 3 * size) for size in sizes]
    for _ in range(200):
        picks = drawn.sample(range(2000), 60)
        sample = [(1, sizes[i], 3 * sizes[i], kept[i], 3 * kept[i], 1, 0, 0, 0) for i in picks]
        none = {"chat": [], "agent": []}
        rows = dry_run.rows_of({**none, "RAG": wholes}, {**none, "RAG": sample}, 1.0)
        low, high = rows[-1]["interval"]
        held += low <= 3 * sum(kept) <= high
    assert 0.87 * 200 <= held <= 0.99 * 200


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((-1, 0, 1), "--price is -1"),
        ((0, 0, 0), "--price is 0"),
        ((3, 4, 4), "--cached is 4, --price 3"),
        ((3, 0.3, 0.1), "--cache-write 0.1"),
        ((3, float("nan"), 3), "--cached is nan"),
        ((3, 0.3, float("inf")), "--cache-write is inf"),
        ((3, 0.3, 3, -2), "--machine-hour is -2"),
    ],
)
def test_prices_that_cannot_be_are_refused(given, message):
    with pytest.raises(BadInput, match=message):
        Prices(*given)


def test_an_unknown_method_is_refused_before_anything_is_read(state):
    with pytest.raises(UnknownMethod):
        estimated(state, rag_log(1), method="lexica")


@pytest.mark.parametrize(
    ("machine", "interval", "end"),
    [
        (0.0, None, "with tamis $2.00 and 90 s of reading on a machine like this."),
        (0.021, [1, 3], "with tamis about $2.02, net of $0.021 of machine time."),
        (1.5, None, "with tamis $3.50, net of $1.50 of machine time: it does not pay."),
    ],
)
def test_the_last_sentence_sums_it_up(machine, interval, end):
    total = {"requests": 1412, "cost": 3.0, "cost_after": 2.0, "interval": interval}
    found = dry_run.Estimate([total], "lexical", 89.9, 1, 1, {}, None)
    start = "At $2.5 a million tokens this log of 1,412 requests costs $3.00; "
    assert command._sentence(found, 2.5, machine) == start + end


def test_tags_that_would_save_are_suggested_and_no_others(state, tmp_path):
    pages = "\n".join(f"<page>{text}</page>" for text in PAGES.values())
    asked = {"role": "user", "content": f"<found>{pages}</found>\n<b>{CORS}</b>"}
    log = log_of(tmp_path, {"model": "m", "messages": [asked]}, {"messages": [asked, asked]})
    unnamed = estimated(state, log.requests)
    assert [*unnamed.tags] == ["found"]
    assert 0.9 < unnamed.tags["found"] / unnamed.rows[-1].tokens <= 1
    (note,) = command._notes(dry_run.Estimate(**asdict_rows(unnamed)), "lexical")
    assert note.endswith("add --upstream-retrieval-tags found")
    named = estimated(state, log.requests, tags=RetrievalTags(["found"]))
    assert named.rows[-1].tokens_after < 0.5 * unnamed.rows[-1].tokens_after
    plain = log_of(tmp_path, {"messages": [{"role": "user", "content": f"<b>{CORS}</b> a < b"}]})
    assert not estimated(state, plain.requests).tags
    found = dry_run.Estimate(**asdict_rows(estimated(state, plain.requests)))
    assert not [*command._notes(found, "lexical")]


def asdict_rows(found: SimpleNamespace) -> dict[str, Any]:
    return vars(found) | {"rows": [vars(row) for row in found.rows]}


def test_a_request_that_is_refused_does_not_count_as_read(state, tmp_path):
    """It is sent as it came at once, however long it is: no measure of how fast others are."""
    good = {"question": CORS, "documents": [*PAGES.values()]}
    refused = {"question": CORS, "documents": [*PAGES.values()] * 90, "max_tokens": 0}
    log = log_of(tmp_path, good, refused)
    choices = Choices(Budget(ratio=0.3), "lexical", "estimate", False, RetrievalTags(()), 60)
    run = dry_run.DryRun(state, choices, PRICES)
    one, other = run.units(log.requests, lambda: None)
    with asyncio.Runner() as runner:
        run.shorten(runner, one, 0, "lexical")
        before = run.speed("lexical")
        assert "max_tokens" in (run.shorten(runner, other, 0, "lexical").fault or "")
    assert run.speed("lexical") <= before
    assert other.work == [0]


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "example_folder")
def test_the_page_shows_what_the_command_prints_and_json_has_the_same():
    page = (ROOT / "docs/how-to/savings.md").read_text("utf-8")
    ((line,), (table,)) = fences.blocks(page, "bash"), fences.blocks(page, "text")
    words = line.split()[1:]
    log = Path(words[1]).read_bytes()
    shown = run_cli(*words)
    words[1] = "-"
    asked = run_cli(*words, "--machine-hour", 36, "--json", stdin=gzip.compress(log))
    assert (shown.exit_code, asked.exit_code) == (0, 0), (shown.output, asked.output)
    printed = re.sub(r"\d+ s of", "0 s of", re.sub(r" +$", "", shown.stdout, flags=re.MULTILINE))
    assert printed == table
    found = json.loads(asked.stdout)
    assert [row["kind"] for row in found["rows"]] == ["chat", "agent", "RAG", "all"]
    for row in found["rows"]:
        assert re.search(rf"{row['kind']} +{row['requests']:.0f} +{row['tokens']:,.0f} ", table)
    assert found["machine_cost"] == pytest.approx(found["reading_s"] / 100)
    assert (found["unknown"], found["faults"], found["usage"]) == ({}, {}, None)


def test_impossible_prices_end_with_2_before_the_log_is_read():
    wrong = run_cli("estimate", "none.jsonl", "--price", 3, "--cached", 5)
    assert (wrong.exit_code, "exchange them" in wrong.stderr) == (2, True)
