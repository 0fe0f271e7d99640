"""A hook answers with the result in the shape that it had, or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.shortening import MIN_TOKENS, Shortening
from tamis_agents.after import hook_answer, last_user_text, parse_event
from tests.service.agents.recorded import ERROR, LOG, QUESTION, SUMMARY, claude_code, codex

TIGHT = Shortening(ratio=0.2)


def answered(agent, event, shortening=TIGHT, **options):
    found = hook_answer(agent, json.loads(json.dumps(event)), shortening, **options)
    return found and json.loads(found)


def test_claude_code_gets_all_fields_of_the_result_back_with_a_shorter_output(tmp_path):
    event = claude_code(tmp_path)
    answer = answered("claude-code", event)["hookSpecificOutput"]
    assert answer["hookEventName"] == "PostToolUse"
    updated = answer["updatedToolOutput"]
    assert {**updated, "stdout": LOG} == event["tool_response"]
    assert len(updated["stdout"]) < len(LOG) / 2
    assert ERROR in updated["stdout"].splitlines()
    assert "omitted" in updated["stdout"]


def test_codex_gets_a_text_as_the_reason_of_a_block(tmp_path):
    answer = answered("codex", codex(tmp_path))
    assert answer["decision"] == "block"
    assert ERROR in answer["reason"].splitlines()
    assert len(answer["reason"]) < len(LOG) / 2


def test_a_text_stays_a_text_and_a_list_of_blocks_a_list(tmp_path):
    text = answered("claude-code", claude_code(tmp_path, tool_response=LOG))
    assert isinstance(text["hookSpecificOutput"]["updatedToolOutput"], str)
    picture = {"type": "image", "data": "QUJD", "mimeType": "image/png"}
    blocks = [{"type": "text", "text": LOG}, picture]
    found = answered("claude-code", claude_code(tmp_path, tool_response=blocks))
    first, second = found["hookSpecificOutput"]["updatedToolOutput"]
    assert second == picture
    assert first["type"] == "text"
    assert ERROR in first["text"]


def test_codex_is_not_given_the_texts_of_a_result_that_has_more_than_texts(tmp_path):
    blocks = {"content": [{"type": "text", "text": LOG}]}
    assert ERROR in answered("codex", codex(tmp_path, tool_response=blocks))["reason"]
    blocks["content"].append({"type": "image", "data": "QUJD"})
    assert answered("codex", codex(tmp_path, tool_response=blocks)) is None


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_response": {"stdout": "two words", "stderr": ""}},
        {"tool_response": None},
        {"tool_response": 7},
        {"tool_response": ""},
        {"tool_name": "Read"},
        {"tool_name": "TaskCreate"},
    ],
    ids=str,
)
def test_small_results_and_tools_to_leave_alone_get_no_answer(tmp_path, fields):
    assert answered("claude-code", claude_code(tmp_path, **fields)) is None


@pytest.mark.parametrize(("agent", "made"), [("claude-code", claude_code), ("codex", codex)])
@pytest.mark.parametrize("is_small", [True, False])
def test_a_result_below_the_limit_gets_no_answer_in_any_shape(tmp_path, agent, made, is_small):
    text = "".join(f"{i}: \x1b[31mtwo\x1b[0m\r\n" for i in range(20)) + LOG * (not is_small)
    assert (estimating_tokenizer().count(text) < MIN_TOKENS) == is_small
    block = {"type": "text", "text": text}
    shapes = [text, [block], {"content": [block]}, {"stdout": text, "stderr": "", "isImage": False}]
    answers = [answered(agent, made(tmp_path, tool_response=shape)) for shape in shapes[:3]]
    assert [answer is None for answer in answers] == [is_small] * 3
    if agent == "claude-code":
        assert (answered(agent, made(tmp_path, tool_response=shapes[3])) is None) == is_small


def test_a_pattern_names_tools_to_leave_alone(tmp_path):
    event = claude_code(tmp_path, tool_name="mcp__db__query")
    assert answered("claude-code", event) is not None
    assert answered("claude-code", event, skipped=["mcp__*"]) is None


def test_a_long_output_comes_whole_from_the_file_that_the_event_names(tmp_path):
    """The event has 30,000 characters of it; the model would be shown 2 KB."""
    whole = LOG + "\n" + "\n".join(f"step {i} done" for i in range(20_000)) + "\nERROR: disk full"
    file = tmp_path / "whole.txt"
    file.write_text(whole)
    response = claude_code(tmp_path)["tool_response"] | {
        "stdout": whole[:30_000],
        "persistedOutputPath": str(file),
        "persistedOutputSize": len(whole),
    }
    event = claude_code(tmp_path, tool_response=response)
    updated = answered("claude-code", event)["hookSpecificOutput"]["updatedToolOutput"]
    assert updated.keys() == claude_code(tmp_path)["tool_response"].keys()
    assert ERROR in updated["stdout"]
    assert "ERROR: disk full" in updated["stdout"]
    assert len(updated["stdout"]) < 20_000
    assert updated["stdout"].endswith(f"[the whole output: {file}]")


def test_a_file_that_is_another_output_is_not_shown(tmp_path):
    (tmp_path / "other.txt").write_text("A secret of someone else. " * 500)
    response = {"stdout": LOG, "persistedOutputPath": str(tmp_path / "other.txt")}
    event = claude_code(tmp_path, tool_response=response)
    updated = answered("claude-code", event)["hookSpecificOutput"]["updatedToolOutput"]
    assert "secret" not in updated["stdout"]
    assert updated["persistedOutputPath"] == response["persistedOutputPath"]


@pytest.mark.parametrize(("name", "shown"), [("Bash", 0), ("Bash", 999), ("mcp__x__y", 1000)])
def test_no_file_is_shown_that_the_output_does_not_begin_with(tmp_path, name, shown):
    """What a server of MCP returns may name any file, and an empty beginning fits all."""
    file = tmp_path / "id_rsa"
    file.write_text(f"{LOG[:shown]}\nERROR: a secret of someone else\n{LOG}")
    response = {"stdout": LOG[:shown], "stderr": LOG, "persistedOutputPath": str(file)}
    event = claude_code(tmp_path, tool_name=name, tool_response=response)
    assert "a secret" not in json.dumps(answered("claude-code", event))


@pytest.mark.parametrize("event", [b"", b"{", b"[]", b"7", b'{"hook_event_name": "Stop"}', b"\xff"])
def test_what_is_no_event_is_refused_with_the_way_out(event):
    with pytest.raises(BadInput, match=r"print-settings|PostToolUse"):
        hook_answer("claude-code", parse_event(event), TIGHT)


@pytest.mark.parametrize("made", [claude_code, codex])
def test_the_question_is_the_user_s_last_turn(tmp_path, made):
    """Not what programs add in the user's name: results, reminders, the environment."""
    assert last_user_text(Path(made(tmp_path)["transcript_path"])) == QUESTION


def test_the_end_of_a_long_transcript_is_enough(tmp_path):
    file = Path(claude_code(tmp_path)["transcript_path"])
    text = file.read_text()
    file.write_text("x" * 3_000_000 + "\n" + text + '{"type": "user", "mess')
    assert last_user_text(file) == QUESTION
    file.write_text("x" * 3_000_000)
    assert last_user_text(file) is None
    assert last_user_text(tmp_path / "none.jsonl") is None


def test_the_question_decides_among_lines_of_one_kind(tmp_path):
    lines = [f"the {word} valve of tank {i} is shut" for i in range(200) for word in ("red",)]
    lines[70] = "the copper kettle is whistling"
    event = claude_code(tmp_path, tool_response="\n".join(lines))
    file = Path(event["transcript_path"])
    file.write_text(file.read_text().replace(QUESTION, "Is the kettle whistling?"))
    found = answered("claude-code", event)
    assert lines[70] in found["hookSpecificOutput"]["updatedToolOutput"]


def test_the_summary_is_kept(tmp_path):
    assert SUMMARY in answered("codex", codex(tmp_path))["reason"]
