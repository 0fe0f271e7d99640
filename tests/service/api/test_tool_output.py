"""`tamis.compress_tool_output`: arguments, defaults and errors."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

import tamis
from tamis.compressors.tools.markers import default_marker
from tests.compressors.tools.tool_kit import COUNTER, read_output

LOG = read_output("pytest.txt")


def shortened(text=LOG, **arguments):
    return tamis.compress_tool_output(text, tokenizer=COUNTER, **arguments)


def test_without_a_budget_two_fifths_are_kept():
    result = shortened()
    assert 0.3 * result.tokens_in < result.tokens_out <= 0.4 * result.tokens_in


def test_a_limit_in_tokens_and_a_share_are_the_same_limit():
    assert shortened(ratio=0.25) == shortened(max_tokens=int(0.25 * COUNTER.count(LOG)))


def test_what_fits_comes_back_as_it_is_and_its_method_is_not_loaded():
    result = shortened("a\nb\n", max_tokens=100, method="question_rows")
    assert (result.text, result.omissions) == ("a\nb\n", ())


@pytest.mark.parametrize(
    "text", ["ok", "one line only here", "a\nb\n", '{"a": 1}', "word " * 99, ""]
)
def test_a_share_that_holds_nothing_of_a_text_leaves_it_whole(text):
    result = shortened(text)
    assert (result.text, result.omissions, result.tokens_out) == (text, (), COUNTER.count(text))
    assert result.kept == (((0, len(text)),) if text else ())
    assert bool(result.warnings) == bool(text)
    assert all("it stays whole" in warning for warning in result.warnings)


def test_a_text_that_is_shorter_than_a_marker_stays_whole_above_a_limit_in_tokens():
    result = shortened("one line only here", max_tokens=1)
    assert (result.text, result.omissions) == ("one line only here", ())
    assert result.warnings == ("1 tokens admit no line of this output: it stays whole",)


def test_the_call_is_a_name_a_mapping_or_nothing():
    rows = "".join(f"value {i} of the settings\n" for i in range(300))
    rows += "tariff is 12\n" + "x y\n" * 99
    arguments = {"pattern": "tariff"}
    calls = ("show tariff", {"name": "show", "arguments": arguments})
    for call in (*calls, {"name": "show", "arguments": json.dumps(arguments)}):
        assert "tariff is 12" in shortened(rows, call=call, ratio=0.05).text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": b"a"}, "of type bytes"),
        ({"question": 3}, "of type int"),
        ({"call": 3}, "call is 3"),
        ({"call": {"arguments": {}}}, "give the tool's name"),
        ({"call": {"name": "a", "id": 1}}, "no field 'id'"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"ratio": 2}, "ratio is 2"),
        ({"max_tokens": 3, "ratio": 0.1}, "cannot be met together"),
        ({"method": "lexica"}, "did you mean"),
        ({"method": "edges"}, "ordering"),
        ({"k1": 3}, "no option"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, message):
    with pytest.raises(tamis.BadInput, match=message):
        shortened(**arguments)


def test_the_marker_is_the_callers():
    result = shortened(ratio=0.2, marker=lambda gap: f"({gap.tokens} tokens of {gap.unit})")
    assert f"({result.omissions[0].tokens} tokens of lines)" in result.text
    assert default_marker(result.omissions[0], "3f").endswith(" tokens; id 3f]")


def test_in_an_event_loop_it_is_the_same():
    assert asyncio.run(tamis.acompress_tool_output(LOG, tokenizer=COUNTER)) == shortened()


def test_no_model_is_imported_for_it(tmp_path):
    (tmp_path / "tokenizer.json").write_text(COUNTER._plain.to_str(), "utf8")
    code = (
        "import sys, tamis\n"
        "tamis.compress_tool_output('a line\\n' * 99, ratio=.2, tokenizer=sys.argv[1])\n"
        "print([name for name in ('torch', 'transformers', 'sklearn') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "tokenizer.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
