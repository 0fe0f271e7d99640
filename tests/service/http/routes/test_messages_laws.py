"""What holds for every conversation: nothing emptied or moved, counts true, originals to the byte.

`CASES=10000 pytest tests/service/http/routes/test_messages_laws.py` tries more of them.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.compressors.tools.lossless import restore
from tests.service.http.app_kit import Running, served
from tests.service.http.conversation_kit import LOG, ROWS, at

CASES = int(os.environ.get("CASES", "200"))
pytestmark = pytest.mark.timeout(300 + CASES)
anything = st.text(st.characters(codec=None, exclude_categories=()), max_size=40)
words = st.sampled_from(["amber", "error: no such file", "at Keys.java:7", "PASSED", "", "  x = 1"])
line_ends = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r", "\x0b", "\u2028", ""])
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | anything,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(anything, inner, max_size=4),
    max_leaves=20,
)


@st.composite
def lines(draw: Any) -> str:
    drawn = draw(st.lists(st.tuples(anything | words, line_ends), min_size=1, max_size=12))
    return "".join(text + end for text, end in drawn) * draw(st.integers(1, 8))


@st.composite
def array(draw: Any) -> str:
    rows = draw(st.lists(json_values, min_size=1, max_size=5)) * draw(st.integers(1, 6))
    return json.dumps(
        rows, indent=draw(st.sampled_from([None, 1, 4])), ensure_ascii=draw(st.booleans())
    )


@st.composite
def prose(draw: Any) -> str:
    count = draw(st.integers(5, 30))
    word = draw(words | anything)
    return " ".join(f"Room {i} is {word} and is painted in spring." for i in range(count))


outputs = st.one_of(
    lines(), array(), prose(), json_values.map(json.dumps),
    st.sampled_from([LOG, json.dumps(ROWS), json.dumps(ROWS, indent=2), "", " \n", "ok\n"]),
)  # fmt: skip
names = st.sampled_from(["bash", "read_file", "write_file", "mcp__web__fetch", "headroom_retrieve"])


@st.composite
def exchange(draw: Any) -> list[dict[str, Any]]:
    """A call and its result in one of the formats, sometimes without the other."""
    name, text, more = draw(names), draw(outputs), {"x": draw(json_values)}
    shape = draw(st.sampled_from(["openai", "parts", "anthropic", "nested", "function", "alone"]))
    arguments = json.dumps({"command": draw(anything)})
    part = {"type": "text", "text": text, **more}
    if shape in ("anthropic", "nested"):
        back = {"type": "tool_result", "tool_use_id": "u", "content": [part, {"type": "image"}]}
        back = back if shape == "nested" else {**back, "content": text, **more}
        use = {"type": "tool_use", "id": "u", "name": name, "input": json.loads(arguments)}
        return [{"role": "assistant", "content": [use]}, {"content": [back], "role": "user"}]
    content = [part] if shape == "parts" else text
    back = {"content": content, "role": "tool", "tool_call_id": "c", **more}
    function = {"name": name, "arguments": arguments}
    if shape == "function":
        back = {"role": "function", "name": name, "content": text}
        return [{"role": "assistant", "content": None, "function_call": function}, back]
    if shape == "alone":
        return [back]
    calls = [{"id": "c", "type": "function", "function": function}]
    return [{"role": "assistant", "content": draw(st.none() | anything), "tool_calls": calls}, back]


turns = st.one_of(
    exchange(),
    st.builds(lambda text: [{"role": "user", "content": text}], anything | prose()),
    st.builds(lambda text: [{"role": "system", "content": text}], prose()),
    st.builds(
        lambda text: [
            {"role": "user", "content": [{"type": "text", "text": text, "cache_control": {"a": 1}}]}
        ],
        anything,
    ),
)
configs = st.fixed_dictionaries(
    {"min_tokens_to_compress": st.integers(0, 300)},
    optional={
        "compress_user_messages": st.booleans(),
        "compress_system_messages": st.booleans(),
        "compress_cached": st.booleans(),
        "protect_recent": st.integers(0, 3),
        "exclude_tools": st.lists(st.sampled_from(["bash", "mcp__*", "["]), max_size=2),
        "mode": st.sampled_from(["ccr", None]),
    },
)
budgets = st.one_of(
    st.just({}), st.just({}),
    st.builds(lambda share: {"ratio": share}, st.floats(0.01, 1)),
    st.builds(lambda most: {"max_tokens": most}, st.integers(1, 3000)),
    st.builds(lambda most: {"token_budget": most}, st.integers(1, 6000)),
)  # fmt: skip


@pytest.fixture(scope="module")
def service():
    with served(method="lexical", retrieve_bytes=10_000_000) as running:
        yield running


def post(service: Running, body: Any) -> Any:
    data = json.dumps(body).encode()
    return service.raw("/v1/compress", data)


@settings(
    max_examples=CASES,
    deadline=None,
    database=None,
    derandomize=CASES < 1000,
    suppress_health_check=list(HealthCheck),
)
@given(talk=st.lists(turns, min_size=1, max_size=5), config=configs, budget=budgets)
def test_the_laws_of_conversations(service, talk, config, budget):
    messages = [message for turn in talk for message in turn]
    answer = post(service, {"messages": messages, "config": config, **budget})
    if answer.status_code == 422:
        assert {"max_tokens", "token_budget"} & set(budget), answer.text
        return
    assert answer.status_code == 200, answer.text
    found = answer.json()
    check_places(messages, found)
    check_tokens(service, found, budget, messages)
    for one in found["compressions"]:
        source, shown = at({"messages": messages}, one["path"]), at(found, one["path"])
        check_spans(service, one, source, shown)
        if is_json(source) and one["superseded"] is None:
            assert is_json(shown)
    for digest in found["ccr_hashes"][:1]:
        (source, *_) = (
            at({"messages": messages}, one["path"])
            for one in found["compressions"]
            if one["hash"] == digest
        )
        original = service.http.get(f"/v1/retrieve/{digest}").json()
        assert original["original_content"] == source


def check_places(messages: Any, found: Any) -> None:
    """Only texts that are named changed, and none of them is empty."""
    restored = deepcopy(found["messages"])
    for one in found["compressions"]:
        source = at({"messages": messages}, one["path"])
        assert at(found, one["path"]).strip()
        assert at(found, one["path"]) != source
        parent, _, key = one["path"].rpartition("/")
        at({"messages": restored}, parent)[key] = source
    assert json.dumps(restored) == json.dumps(messages)


def check_tokens(service: Running, found: Any, budget: Any, messages: Any) -> None:
    count = service.service_state.methods.counter("proxy").count
    saved = 0
    for one in found["compressions"]:
        assert one["tokens_after"] == count(at(found, one["path"]))
        assert one["tokens_before"] == count(at({"messages": messages}, one["path"]))
        assert one["tokens_after"] < one["tokens_before"]
        saved += one["tokens_before"] - one["tokens_after"]
    assert found["tokens_saved"] == found["tokens_before"] - found["tokens_after"] == saved
    untouched = any("they stay as they are" in warning for warning in found["warnings"])
    if "token_budget" in budget and not untouched:
        assert found["tokens_after"] <= budget["token_budget"]


def check_spans(service: Running, one: Any, source: str, shown: str) -> None:
    """Kept spans are in what is shown, in order; omissions count what they name.

    Where nothing is left out, repeats are counted, and what is shown gives the text again.
    """
    if not one["omissions"]:
        assert one["kept"] == [[0, len(source)]]
        assert restore(shown) == source
        return
    position = 0
    for start, stop in one["kept"]:
        position = shown.index(source[start:stop], position) + stop - start
    spans = sorted([*one["kept"], *([o["start"], o["end"]] for o in one["omissions"])])
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))
    starts = [0]
    for line in re.findall(r"[^\n]*\n|[^\n]+", source):
        starts.append(starts[-1] + len(line))
    count = service.service_state.methods.counter("proxy").count
    for omission in one["omissions"]:
        first, last = omission["first"], omission["last"]
        assert 1 <= first <= last
        assert omission["tokens"] == count(source[omission["start"] : omission["end"]])
        if omission["unit"] == "lines" and not is_json(source):
            assert starts[first - 1] <= omission["start"] < starts[first]
            assert starts[last - 1] < omission["end"] <= starts[last]
            if "\r" not in source:  # redraws of a progress bar are parts of one line
                assert (omission["start"], omission["end"]) == (starts[first - 1], starts[last])
    check_markers(one, shown)


def check_markers(one: Any, shown: str) -> None:
    """Each omission has a marker with its counts, in order, or none has one for want of room.

    In small JSON one marker stands for the values that objects have lost.
    """
    counts = [
        (f"{o['first']} " if o["first"] == o["last"] else f"{o['first']}-{o['last']} ", o["tokens"])
        for o in one["omissions"]
    ]
    if "omitted, " not in shown:
        return
    if (values := re.search(r"\[… \d+ values omitted, (\d+) token", shown)) is not None:
        apart = [one for one in counts if f"{one[0]}omitted, {one[1]} token" not in shown]
        assert sum(tokens for _, tokens in apart) == int(values[1])
        counts = [one for one in counts if one not in apart]
    position = 0
    for span, tokens in counts:
        position = shown.index(f"{span}omitted, {tokens} token", position) + 1


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
