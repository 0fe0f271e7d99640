"""`/v1/compress` with `messages`: what tools returned, for agents."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.service.http.app_kit import served
from tests.service.http.conversation_kit import ASKS, LOG, ROWS, anthropic, at, call, result

TESTS = [ASKS, call("bash", {"command": "pytest"}), result(LOG)]
MARKER = re.compile(
    r"\[… (?:[^\]]*, )?(lines?|elements?) (\d+)(?:-(\d+))? omitted, (\d+) tokens?\]"
)


@pytest.fixture(scope="module")
def service():
    with served(method="lexical") as running:
        yield running


def compressed(service, messages: list[Any], **fields: Any) -> dict[str, Any]:
    answer = service.post("/v1/compress", messages=messages, **fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def refusal(service, messages: list[Any], **fields: Any) -> str:
    answer = service.post("/v1/compress", messages=messages, **fields)
    assert answer.status_code == 422, answer.text
    return answer.json()["error"]["message"]


def test_what_failed_stays_and_omissions_are_counted(service):
    found = compressed(service, TESTS)
    (one,) = found["compressions"]
    shown = found["messages"][2]["content"]
    assert "E       assert 30 == 90\n" in shown
    assert "FAILED tests/test_keys.py::test_rotation" in shown
    assert set(shown.splitlines()) - set(LOG.splitlines()) == set(
        line for line in shown.splitlines() if line.startswith("[…")
    )
    omitted = sum(o["last"] - o["first"] + 1 for o in one["omissions"])
    kept = sum(not line.startswith("[…") for line in shown.splitlines())
    assert omitted + kept == len(LOG.splitlines())
    assert found["tokens_after"] < found["tokens_before"] / 2
    assert one["tokens_before"] - one["tokens_after"] == found["tokens_saved"]


def test_spans_and_omissions_divide_the_source_and_markers_stand_between(service):
    found = compressed(service, TESTS)
    (one,) = found["compressions"]
    assert one["path"] == "/messages/2/content"
    assert (one["message"], one["part"], one["tool"]) == (2, None, "bash")
    spans = sorted([*one["kept"], *([o["start"], o["end"]] for o in one["omissions"])])
    assert "".join(LOG[a:b] for a, b in spans) == LOG
    shown = found["messages"][2]["content"]
    for start, stop in one["kept"]:
        assert LOG[start:stop] in shown


@pytest.mark.parametrize("unit", ["codepoint", "utf8", "utf16"])
def test_spans_are_in_the_unit_that_was_asked_for(service, unit):
    log = LOG.replace("PASSED", "\U0001f600 é")
    found = compressed(service, [*TESTS[:2], result(log)], offset_unit=unit)
    (one,) = found["compressions"]
    name, width = {"codepoint": ("utf-32-le", 4), "utf8": ("utf-8", 1), "utf16": ("utf-16-le", 2)}[
        unit
    ]
    data = log.encode(name)
    for a, b in one["kept"]:
        assert data[a * width : b * width].decode(name) in found["messages"][2]["content"]


def test_an_array_stays_json(service):
    text = json.dumps(ROWS, indent=1)
    question = {"role": "user", "content": "Which user is suspended?"}
    found = compressed(service, [question, call("users", {}), result(text)])
    (one,) = found["compressions"]
    shown = json.loads(found["messages"][2]["content"])
    assert ROWS[77] in shown
    assert all(row in ROWS or "omitted" in str(row) for row in shown)
    assert one["tokens_after"] < one["tokens_before"]


@pytest.mark.parametrize("part", [False, True])
def test_both_formats_are_compressed_in_place_by_the_same_rule(service, part):
    content = [{"type": "text", "text": LOG}] if part else LOG
    talk = [ASKS, *anthropic(content, "bash", {"command": "pytest"}, is_error=True)]
    found = compressed(service, talk)
    (one,) = found["compressions"]
    assert one["part"] == 0
    assert at(found, one["path"]) == compressed(service, TESTS)["messages"][2]["content"]
    place = found["messages"][2]["content"][0]
    assert place["is_error"] is True
    assert place["tool_use_id"] == "u1"


STONES = ("amber", "beryl", "coral", "flint", "garnet", "jade", "marble", "onyx", "opal", "violet")
FACTS = "".join(
    f"{STONES[i]} rooms are {STONES[-i - 1][::-1]} inside, and {i * 7919 % 1000} is their number\n"
    for i in range(len(STONES))
)


@pytest.mark.parametrize("shape", ["openai", "anthropic", "function"])
def test_the_call_is_part_of_the_question(service, shape):
    """The same result, asked for by two calls: each keeps the line that its call is about."""

    def shown(word: str) -> str:
        arguments = {"pattern": word}
        if shape == "anthropic":
            talk = anthropic(FACTS, "look", arguments)
        elif shape == "openai":
            talk = [call("look", arguments), result(FACTS)]
        else:
            function = {"name": "look", "arguments": json.dumps(arguments)}
            talk = [
                {"role": "assistant", "content": None, "function_call": function},
                {"role": "function", "name": "look", "content": FACTS},
            ]
        return str(compressed(service, talk, ratio=0.2)["messages"][1]["content"])

    assert "amber rooms" in shown("amber")
    assert "amber rooms" not in shown("violet")
    assert "violet rooms" in shown("violet")


def test_the_user_s_last_turn_is_part_of_the_question(service):
    asks = {"role": "user", "content": "Where is amber?"}
    talk = [{"role": "user", "content": "violet"}, call("look", {}), result(FACTS), asks]
    shown = compressed(service, talk, ratio=0.2)["messages"][2]["content"]
    assert "amber rooms" in shown
    assert "violet rooms" not in shown
    by_query = compressed(service, talk, ratio=0.2, question="violet")["messages"][2]["content"]
    assert "violet rooms" in by_query


def test_an_id_that_comes_again_belongs_to_the_call_before(service):
    talk = [
        *(call("look", {"pattern": "amber"}), result(FACTS)),
        *(call("look", {"pattern": "violet"}), result(FACTS)),
    ]
    found = compressed(service, talk, ratio=0.2)["messages"]
    assert "amber rooms" in found[1]["content"]
    assert "violet rooms" in found[3]["content"]


def test_results_without_calls_and_users_are_served(service):
    """As LiteLLM's guardrail sends them: it holds back the user's turn and all calls."""
    found = compressed(service, [result(LOG)], model="gpt-4o", config={"mode": "ccr"})
    assert "E       assert 30 == 90\n" in found["messages"][0]["content"]
    assert found["tokens_saved"] > 0
    assert found["ccr_hashes"] == []
    assert any("config.mode has no effect" in warning for warning in found["warnings"])


def test_without_a_budget_a_share_is_kept_of_what_tools_returned(service):
    talk = [
        ASKS,
        *(turn for i in range(6) for turn in (call("t", {"part": i}, f"{i}"), result(LOG, f"{i}"))),
    ]
    found = compressed(service, talk)
    tokens = [one["tokens_after"] for one in found["compressions"]]
    assert len(tokens) == 6
    assert min(tokens) > 0.3 * found["compressions"][0]["tokens_before"]
    share = sum(tokens) / sum(one["tokens_before"] for one in found["compressions"])
    assert 0.3 < share <= 0.4


def test_small_results_stay_and_no_text_is_emptied(service):
    small = "ok: 3 files\n"
    talk = [ASKS, call("t", {}), result(small), call("t", {}, "b"), result(LOG, "b")]
    found = compressed(service, talk, ratio=0.05)
    assert found["messages"][2]["content"] == small
    assert "omitted" in found["messages"][4]["content"]


def test_a_text_of_which_nothing_fits_stays_whole(service):
    one_line = "x" * 5000
    found = compressed(service, [ASKS, call("t", {}), result(one_line)])
    assert found["messages"][2]["content"] == one_line
    assert found["tokens_after"] == found["tokens_before"]
    assert any("/messages/2/content stays whole" in warning for warning in found["warnings"])
    message = refusal(service, [ASKS, call("t", {}), result(one_line)], max_tokens=100)
    assert "no text is emptied" in message
    talk = [ASKS, call("t", {}), result(one_line)]
    found = compressed(service, talk, token_budget=6000, ratio=0.1)
    assert found["messages"][2]["content"] == one_line


@pytest.mark.parametrize(
    ("name", "patterns", "stays"),
    [
        ("read_file", ["read_file"], True),
        ("Read_File", ["read_file"], True),
        ("mcp__files__get", ["mcp__files__*"], True),
        ("mcp__web__get", ["mcp__files__*"], False),
        ("headroom_retrieve", [], True),
        ("mcp__tamis__tamis_retrieve", [], True),
        ("retrieve_page", [], False),
    ],
)
def test_tools_are_left_alone_by_name_or_pattern(service, name, patterns, stays):
    talk = [ASKS, call(name, {}), result(LOG)]
    found = compressed(service, talk, config={"exclude_tools": patterns})
    assert (found["messages"] == talk) == stays


@pytest.mark.parametrize(
    ("name", "hint", "stays"),
    [
        ("write_file", None, True),
        ("mcp__git__createBranch", None, True),
        ("read_file", None, False),
        ("get_update_status", None, False),
        ("write_file", True, False),
        ("read_file", False, True),
    ],
)
def test_a_short_acknowledgement_of_a_write_stays(service, name, hint, stays):
    """A registered tool says itself whether it only reads."""
    ack = "".join(f"wrote {i}\n" for i in range(20))
    function = {"name": name, "annotations": {"readOnlyHint": hint} if hint is not None else {}}
    found = compressed(
        service,
        [ASKS, call(name, {}), result(ack)],
        tools=[{"type": "function", "function": function}],
        config={"min_tokens_to_compress": 0},
        ratio=0.6,
    )
    assert (found["messages"][2]["content"] == ack) == stays


def test_a_long_result_of_a_write_is_shortened(service):
    found = compressed(service, [ASKS, call("apply_patch", {}), result(LOG)])
    assert found["tokens_saved"] > 0


def test_frozen_messages_stay(service):
    found = compressed(service, [*TESTS, *TESTS[1:]], config={"frozen_message_count": 3})
    assert found["messages"][:3] == TESTS
    assert [one["message"] for one in found["compressions"]] == [4]


def test_a_long_last_turn_is_a_question_by_its_ends(service):
    pasted = {"role": "user", "content": "Why? " + "pasted text " * 20_000 + "Where is amber?"}
    found = compressed(service, [call("look", {}), result(FACTS), pasted], ratio=0.2)
    assert "amber rooms" in found["messages"][1]["content"]
    assert any("were read as the question" in warning for warning in found["warnings"])
    assert found["messages"][2] == pasted


def test_a_long_turn_without_anything_to_compress_passes(service):
    talk = [{"role": "user", "content": "Please look. " * 1_000}]
    found = compressed(service, talk)
    assert found["messages"] == talk
    assert any("long enough to compress" in warning for warning in found["warnings"])


def test_system_texts_are_marked_in_sentences(service):
    page = " ".join(f"Room {i} is painted in spring." for i in range(80))
    talk = [{"role": "system", "content": f"{page} Keys are amber."}, {**ASKS, "content": "amber?"}]
    found = compressed(service, talk, config={"compress_system_messages": True}, ratio=0.2)
    (one,) = found["compressions"]
    shown = found["messages"][0]["content"]
    assert one["format"] == "prose"
    assert shown.startswith("Room 0 is painted in spring.") or shown.startswith("[… sentences 1-")
    assert shown.endswith("Keys are amber.")
    assert sum(o["last"] - o["first"] + 1 for o in one["omissions"]) == 81 - len(
        re.findall(r"\.", re.sub(r"\[…[^\]]*\]", "", shown))
    )


def test_two_answers_to_the_same_request_are_the_same(service):
    """A prompt that is sent again stays in its provider's cache."""
    assert compressed(service, TESTS) == compressed(service, TESTS)
