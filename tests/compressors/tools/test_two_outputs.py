"""What failed is kept though another tool printed in a format of its own beside it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import LAST_PROTECTED, Level
from tests.compressors.tools.tool_kit import spans_in_order

WORDS = "alpha bravo carrot delta ember falcon garnet harbor indigo jasper".split()


def word(i: int) -> str:
    return WORDS[i * i % 97 % 10]


def commit(i: int) -> str:
    head = f"commit {i * 7919:040x}\nAuthor: Ada <a@b.c>\nDate:   Sat Mar 14 08:00:00 2026 +0000\n"
    return f"{head}\n    {word(i)} the {word(i + 1)} {i}\n\n    Because of {word(i + 2)}.\n\n"


def named_commit(i: int) -> str:
    return f"{commit(i)}{word(i)}/{word(i + 1)}{i}.py\nLICENSE\n\n"


def file_diff(i: int) -> str:
    name, same = f"{word(i)}{i}.py", f" {word(i + 1)} = {word(i)}\n" * 3
    head = f"diff --git a/{name} b/{name}\nindex 12..34 100644\n--- a/{name}\n+++ b/{name}\n"
    return f"{head}@@ -1,7 +1,7 @@\n{same}-{word(i)} = 1\n+{word(i)} = 2\n{same}"


def folder(i: int) -> str:
    return f"./{word(i)}{i}:\n" + "".join(f"{word(j)}{j}.txt\n" for j in range(9)) + "\n"


FORMATS = {
    "git log": ("git log", "git log", "", commit),
    "names": ("git log --name-only", "git log", "", named_commit),
    "git diff": ("git diff", "diff", "", file_diff),
    "ls -R": ("ls -R", "listing", "", folder),
    "grep": ("grep -rn", "grep", "", lambda i: f"src/{word(i)}{i}.py:{i}:    {word(i)}({i})\n"),
    "paths": ("find .", "listing", "", lambda i: f"./{word(i)}/{word(i + 1)}{i}.img\n"),
    "tree": ("tree", "listing", ".\n", lambda i: f"├── {word(i)}{i}.txt\n"),
    "values": ("env", "listing", "", lambda i: f"{word(i).upper()}_{i}={word(i)}/lib\n"),
    "csv": ("query", "table", "id,name,city,n\n", lambda i: f"{i},{word(i)},{word(i)},{i}\n"),
    "html": ("curl", "html", "<html><body>\n", lambda i: f"<p>{word(i)} of {i}</p>\n"),
}
"""The command, the format as it is called, what it begins with, and its records."""
REPORTS = {
    "E   assert 1620 == 1634": """\
=================================== FAILURES ===================================
__________________________________ test_rate ___________________________________

    def test_rate():
>       assert convert(10) == 1634
E   assert 1620 == 1634

tests/test_fx.py:21: AssertionError
=========================== short test summary info ============================
FAILED tests/test_fx.py::test_rate - assert 1620 == 1634
========================= 1 failed, 2 passed in 0.11s =========================
""",
    "    Expected: 119": """\
FAIL src/cart.test.ts
  ● total › adds tax

    expect(received).toBe(expected) // Object.is equality

    Expected: 119
    Received: 100

      at Object.toBe (src/cart.test.ts:13:20)

Tests:       1 failed, 4 passed, 5 total
""",
    "    lease_test.go:88: lease expired": """\
=== RUN   TestLease
--- FAIL: TestLease (0.03s)
    lease_test.go:88: lease expired after 29s, want 30s
FAIL
FAIL\tgithub.com/acme/lease\t4.120s
""",
    "thread 'ledger::rounds' panicked": """\
test ledger::rounds ... FAILED

failures:

---- ledger::rounds stdout ----
thread 'ledger::rounds' panicked at src/ledger.rs:204:9:
assertion `left == right` failed
  left: 250
  right: 251

test result: FAILED. 8 passed; 1 failed; 0 ignored
""",
    "src/api.ts(77,9): error TS2345": """\
src/api.ts(77,9): error TS2345: Argument of type 'string' is not assignable
Found 1 error in src/api.ts:77
""",
    "a.c:3:5: error: unknown": "a.c:3:5: error: unknown type name 'foo'\n",
    "make: *** [Makefile:2": "cc -c a.c\nmake: *** [Makefile:2: a.o] Error 1\n",
    "ConnectionError: refused": """\
Traceback (most recent call last):
  File "/app/up.py", line 3, in <module>
    put(x)
ConnectionError: refused by 10.0.0.9
""",
    "npm ERR! code E404": "npm ERR! code E404\nnpm ERR! 404 Not Found - GET https://r.org/acme-x\n",
    "Killed": "Killed\n",
    "ERROR: disk is full": "ERROR: disk is full on node 7\n",
    "fatal: unable to read": "fatal: unable to read tree 4b825dc\n",
    "bash: frob: command not found": "bash: frob: command not found\n",
    "Segmentation fault": "Segmentation fault (core dumped)\n",
}
"""What tools print that fail, by the front of the line that says why."""


def output_with_report(name: str, report: str, at: float) -> str:
    _, kind, head, record = FORMATS[name]
    records = [record(i) for i in range(400 if record(7).count("\n") == 1 else 50)]
    place = int(at * len(records))
    front = ("" if kind == "html" else report) if not place else head
    below = report if place else ""
    end = "</body></html>\n" if kind == "html" else ""
    cut = "".join(records[:place]), "".join(records[place:])
    return (
        f"{front}{cut[0]}{below}{cut[1]}{end}"
        if place < len(records)
        else (f"{head}{cut[0]}{end}{below}")
    )


def line_starting(text: str, front: str) -> int:
    return (f"\n{text}").index(f"\n{front}")


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(list(FORMATS)),
    st.sampled_from(list(REPORTS)),
    st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    st.sampled_from([None, 300, 600]),
    st.booleans(),
)
def test_a_failure_beside_a_format_is_shown_or_counted(name, front, at, budget, is_called):
    text = output_with_report(name, REPORTS[front], at)
    call = {"name": "bash", "arguments": {"command": f"{FORMATS[name][0]}; ./check"}}
    found = tamis.compress_tool_output(
        text, tokenizer="estimate", max_tokens=budget, call=call if is_called else None
    )
    if front not in text:
        return
    start = line_starting(text, front)
    is_shown = any(a <= start < b for a, b in found.kept)
    gap = next((gap for gap in found.omissions if gap.start <= start < gap.stop), None)
    assert is_shown or re.search(r"\d+ (?:fatal|failed|errors?)", (gap and gap.content) or "")
    assert "".join(text[a:b] for a, b in spans_in_order(found)) == text


@pytest.mark.parametrize("name", FORMATS)
def test_a_failure_is_as_urgent_beside_a_format_as_alone(name):
    for front, report in REPORTS.items():
        alone = {
            report[part.start : part.stop]: part.level
            for part in parse_tool_output(report).parts
            if part.level <= LAST_PROTECTED
        }
        text = output_with_report(name, report, 0.6)
        parsed = parse_tool_output(text, FORMATS[name][0])
        assert parsed.format == FORMATS[name][1]
        beside = {text[part.start : part.stop]: part.level for part in parsed.parts}
        urgent = {line: level for line, level in alone.items() if line.startswith(front)}
        assert urgent
        assert {line: beside.get(line) for line in urgent} == urgent


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("".join(f"app/log.py:{i}:    raise ValueError('error: {i}')\n" for i in range(30)), ""),
        ("".join(f"app.log:{i}:10:22:07 ERROR lost {i}\n" for i in range(30)), "grep -n ERROR"),
        ("".join(f"a.py:{i}: ERROR = {i}\n" for i in range(30)), "grep -rn ERROR"),
        ("error.log\nerrors.txt\nfatal.py\nFAILED.md\nfail/\nerror\nx.err\n", "ls"),
        (file_diff(1).replace("= 2", "= 2  # error: fatal").replace("+d", "+fatal: d"), "git diff"),
        (commit(1).replace("Because", "error: Because") + commit(2), "git log"),
    ],
)
def test_what_a_format_explains_is_no_failure_whatever_it_says(text, call):
    found = parse_tool_output(text, call)
    assert found.format != "text"
    assert min(part.level for part in found.parts) > Level.DETAIL


@pytest.mark.parametrize("place", ["app/shop.py:{}", "shop.go:{}"])
def test_records_that_begin_with_their_place_are_a_log(place):
    rows = [f"{place.format(i)}: INFO {word(i)} {i}" for i in range(99)]
    rows[60] = f"{place.format(60)}: ERROR no stock"
    found = parse_tool_output("\n".join(rows))
    assert found.format == "log"
    assert [part.first for part in found.parts if part.level == Level.MESSAGE] == [61]


def test_records_that_begin_with_the_time_are_no_hits_under_a_file():
    rows = ["Starting", *(f"10:{i:02}:33 INFO {word(i)}" for i in range(50)), "10:51:02 ERROR lost"]
    assert parse_tool_output("\n".join(rows)).parts[-1].level == Level.MESSAGE
