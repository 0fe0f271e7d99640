"""No failure is lost in silence: it stays, whole or cut within, or a marker counts it."""

from __future__ import annotations

import json
import os
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tamis
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.shortening import Shortening
from tamis.text.readers.outputs.json_parts import json_level
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import Level
from tamis_agents.tools import AgentTools
from tests.compressors.tools.test_tool_properties import JSON_CONTAINERS, PHRASES
from tests.compressors.tools.tool_kit import spans_in_order

EXAMPLES = int(os.environ.get("TAMIS_EXAMPLES", "300"))
COUNTER = estimating_tokenizer()
LONG = " ".join(f"field{i}=value{i}" for i in range(120))
INFO = [f"INFO request {i} ok\n" for i in range(13)]
FORTY = "".join(f'level=info msg="request {i} ok" path=/a/{i}\n' for i in range(40))
GRADLE = """\
> Task :compileJava UP-TO-DATE

FAILURE: Build failed with an exception.

* Where:
Build file '/app/build.gradle' line: 3

* What went wrong:
An exception occurred applying plugin request [id: 'org.springframework.boot', version: '3.2.0']
> Failed to apply plugin 'org.springframework.boot'.
   > java.lang.UnsupportedClassVersionError: org/springframework/boot/gradle/plugin/SpringBoot \
has been compiled by a more recent version of the Java Runtime (class file version 61.0), this \
version of the Java Runtime only recognizes class file versions up to 55.0

* Try:
> Run with --stacktrace option to get the stack trace.
> Run with --info or --debug option to get more log output.
> Run with --scan to get full insights.

* Get more help at https://help.gradle.org

BUILD FAILED in 3s
"""
ROWS = [json.dumps({"level": "info", "msg": f"request {i} ok", "n": i}) for i in range(40)]
SAID = "boom " * 300
LOST = [
    pytest.param("".join([*INFO, f"ERROR paid: {LONG}\n"]), {}, "ERROR paid: field0", id="last"),
    pytest.param(
        "".join([*INFO[:6], f"ERROR paid: {LONG}\n", *INFO[6:]]), {}, "ERROR paid: ", id="middle"
    ),
    pytest.param(
        f'{FORTY}level=fatal msg="cannot bind: {LONG}"\n{FORTY}',
        {"ratio": 0.02},
        'level=fatal msg="cannot bind: field0',
        id="logfmt",
    ),
    pytest.param(GRADLE, {"ratio": 0.3}, "UnsupportedClassVersionError: org", id="gradle"),
    pytest.param(
        "\n".join([*ROWS, json.dumps({"level": "error", "msg": SAID, "n": 9}), *ROWS]),
        {"ratio": 0.1},
        '{"level": "error", "msg": "boom boom',
        id="JSON Lines",
    ),
    pytest.param(
        "\n".join([*ROWS, json.dumps({"level": 50, "msg": SAID, "n": 9}), *ROWS]),
        {"ratio": 0.1},
        '{"level": 50, "msg": "boom boom',
        id="pino",
    ),
    pytest.param(
        json.dumps({"rows": [*range(900)], "error": SAID * 4}, indent=1),
        {"ratio": 0.1},
        '"error": "boom boom',
        id="JSON",
    ),
    pytest.param(
        "".join(
            [*INFO, *INFO] * 12 + ["ERROR ", " ".join(f"w{i}" for i in range(70)), "\n"] + INFO * 24
        ),
        {"max_tokens": 250},
        "ERROR w0 w1",
        id="600 lines",
    ),
    pytest.param(
        "".join([*INFO, f"ERROR paid: {LONG}\n"]), {"max_tokens": 9}, "ERROR paid", id="9"
    ),
]


@pytest.mark.parametrize(("text", "budget", "failure"), LOST)
def test_a_failure_that_is_longer_than_its_share_is_cut_within(text, budget, failure):
    found = tamis.compress_tool_output(text, tokenizer="estimate", **budget)
    assert failure in found.text
    assert found.tokens_out < found.tokens_in
    limit = budget.get("max_tokens", int(budget.get("ratio", 0.4) * found.tokens_in))
    assert found.tokens_out <= limit or f"which have {found.tokens_out}" in found.warnings[0]
    assert all(default_marker(gap) in found.text for gap in found.omissions)
    if found.format == "jsonl":
        assert all(json.loads(line) for line in found.text.splitlines())
    if found.format == "json":
        assert json.loads(found.text)["error"].startswith("boom boom")


def test_a_line_that_is_cut_keeps_both_ends_and_says_how_much_went():
    text = "".join([*INFO, f"ERROR paid: {LONG} in the end\n", *INFO])
    found = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=300)
    [line] = [line for line in found.text.splitlines() if line.startswith("ERROR")]
    head, first, last, tail = re.fullmatch(
        r"(ERROR paid: .+)\[… characters (\d+)-(\d+) omitted, \d+ tokens\](.+ in the end)", line
    ).groups()
    whole = text.splitlines()[13]
    assert (whole[: int(first) - 1], whole[int(last) :]) == (head, tail)


def test_markers_count_the_failures_that_they_stand_for():
    rows = [f"INFO request {i} ok" for i in range(200)]
    for i in range(20, 180, 8):
        rows[i] = f"ERROR {i} cannot write to {'/'.join(str(i + n) for n in range(30))}"
    rows[102] = "FATAL out of memory"
    text = "\n".join(rows)
    found = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=150)
    lost = sum(int(n) for n in re.findall(r"\[… (?:1 fatal, )?(\d+) errors?,", found.text))
    assert lost + found.text.count("cannot write") == 20
    assert ("FATAL" in found.text) + found.text.count("1 fatal") == 1


@pytest.mark.parametrize("shorten_text", ["apply", "mcp"])
def test_agents_get_the_failure_and_the_id_of_the_rest(shorten_text, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    text = "".join([*INFO, f"ERROR paid: {LONG}\n"])
    if shorten_text == "mcp":
        shown = AgentTools().shorten(text)
        markers = re.findall(r"\[… [^\]]*\]", shown)
        assert all(re.search(r"; id [0-9a-f]{24}\]", marker) for marker in markers)
    else:
        [shown] = Shortening(min_tokens=0).apply([ToolOutput(text)])
        assert re.search(r"; tamis run --retrieve [0-9a-f]{24}\]", shown)
    assert "ERROR paid: field0" in shown


@pytest.mark.parametrize("limit", range(60, 600, 20))
def test_failed_tests_come_before_advice_and_blank_lines(limit):
    said = "because of this " * 60
    text = (
        f"{'.' * 60}FF\n=========== warnings summary ===========\ntests/test_a.py::test_b\n"
        "  /usr/lib/x.py:3: DeprecationWarning: old\n    import y\n\n"
        "-- Docs: https://docs.pytest.org/en/stable/how-to/capture-warnings.html\n"
        "=========== short test summary info ===========\n"
        f"FAILED tests/test_a.py::test_b - {said}\nFAILED tests/test_a.py::test_c - {said}\n"
        "2 failed, 60 passed in 1.23s\n"
    )
    shown = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=limit).text
    assert "FAILED tests/test_a.py::test_b" in shown
    assert "FAILED tests/test_a.py::test_c" in shown or "-- Docs" not in shown


LINES = st.one_of(
    st.sampled_from(PHRASES),
    st.text(max_size=30),
    st.builds(
        "{} {}".format,
        st.sampled_from(
            [
                "ERROR",
                "2026-01-01 10:00:00 FATAL",
                "level=fatal",
                "error:",
                "E  ",
                "a.c:3:5: error:",
            ]
        ),
        st.integers(1, 200).map(lambda n: "why " * n),
    ),
)
RECORDS = st.fixed_dictionaries(
    {"level": st.sampled_from(["info", "error"]), "msg": st.text(max_size=9) | st.just(SAID)}
)
TEXTS = st.one_of(
    st.lists(LINES, min_size=1, max_size=60).map("\n".join),
    st.lists(RECORDS.map(json.dumps), min_size=3, max_size=30).map("\n".join),
    JSON_CONTAINERS.map(json.dumps),
)


@settings(deadline=None, max_examples=EXAMPLES, suppress_health_check=[HealthCheck.too_slow])
@given(TEXTS, st.floats(0.0, 0.98))
def test_of_any_text_with_a_failure_one_is_shown_and_markers_count_the_others(text, share):
    prepared = prepare_tool_outputs([ToolOutput(text)], None, COUNTER)
    limit = int(share * prepared.tokens_in[0])
    [found] = prepared.select([0.0] * len(prepared.units), [limit], default_marker)
    assert found.tokens_out <= limit or found.warnings
    parts = [
        part
        for part in parse_tool_output(text).parts
        if part.level == Level.MESSAGE and not part.is_frame
    ]
    fronts = {part.start for part in parts for a, b in found.kept if a <= part.start < b}
    assert fronts or not parts
    counted = (
        re.findall(r"(\d+) (?:fatal|failed|errors?)", gap.content or "") for gap in found.omissions
    )
    assert sum(int(n) for counts in counted for n in counts) == len(parts) - len(fronts)
    if found.format not in ("json", "notebook", "jsonl"):
        assert "".join(text[a:b] for a, b in spans_in_order(found)) == text
        assert all(default_marker(gap) in found.text for gap in found.omissions)


@pytest.mark.parametrize("budget", [40, 120, 384])
def test_a_log_that_is_given_as_a_document_has_its_failure_cut_within(budget):
    text = "".join([*INFO, f"ERROR payment failed: {LONG}\n"])
    found = tamis.compress("Why did the payment fail?", [text], max_tokens=budget, method="lexical")
    assert "ERROR payment failed: field0" in found.text
    assert found.tokens_out <= budget
    assert [w for w in found.warnings if "a part was kept" in w]


LOGS = st.lists(
    st.integers(0, 99).map("INFO request {} ok\n".format)
    | st.integers(1, 150).map(lambda n: f"ERROR {'why ' * n}\n"),
    min_size=8,
    max_size=40,
).map("".join)


@settings(deadline=None, max_examples=60)
@given(LOGS, st.integers(20, 300), st.sampled_from(["Is request 7 ok?", "What is wrong, and why?"]))
def test_a_document_whose_failures_are_all_left_out_comes_with_a_warning(text, budget, question):
    found = tamis.compress(
        question, [text], max_tokens=budget, method="lexical", tokenizer="estimate"
    )
    shown = sum("ERROR" in line for line in found.text.splitlines())
    cut = any("a part was kept" in warning for warning in found.warnings)
    lost = [warning for warning in found.warnings if "a failure, and none was kept" in warning]
    assert bool(lost) == (not shown and not cut and "ERROR" in text)
    assert not lost or f" {text.count('ERROR')} line" in lost[0]


def test_the_end_of_a_long_log_and_its_last_failure_are_shown_among_many_failures():
    """With the lines around it: what ended a job is said last, and next to no word of failure."""
    words = "disk mail net user cart shop index cache queue token page route".split()
    rows = [
        f"ERROR {one} of {two} lost {three}, trying again"
        for one in words
        for two in words
        for three in words
    ]
    end = [
        "deploying to eu-west",
        "the key of the registry is too old",
        "exit code 1",
        "cleaning up",
    ]
    text = "\n".join([*rows, *end])
    found = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=1500)
    assert found.tokens_out <= 1500
    assert "\n".join(end) in found.text
    assert rows[0] in found.text
    assert found.text.count("trying again") > 20


STATED = ["CrashLoopBackOff", "OOMKilled", "ImagePullBackOff"]


@pytest.mark.parametrize("state", STATED)
def test_the_state_of_a_pod_that_failed_is_a_failure_where_it_is_stated(state):
    text = f"State:          Waiting\n  Reason:       {state}\nLast: None\nOOMKilled is a word\n"
    parts = parse_tool_output(text).parts
    assert [part.first for part in parts if part.level == Level.MESSAGE] == [2]


MOCHA = """\
  1) Session
       expires:

      AssertionError [ERR_ASSERTION]: Expected values to be strictly equal:

1799 !== 1800

      + expected - actual

      -1799
      +1800

      at Context.<anonymous> (test/session.spec.js:44:14)
"""
PIP = "ERROR: No matching distribution found for acme==4.2\n"


@pytest.mark.parametrize("report", [MOCHA, PIP, "a.c:3:5: error: no\n", "npm ERR! code E404\n"])
@pytest.mark.parametrize(
    "stamp",
    [
        *("2026-03-14T08:08:35.5533026Z ", "\ufeff2026-03-14T08:08:35.5533026Z "),
        *("test\tRun npm test\t2026-03-14T08:08:35.5533026Z ", "#11 2.301 "),
        "2026-03-14T08:08:35.5533026Z #11 2.301 ",
    ],
)
def test_lines_matter_as_much_with_what_a_job_puts_before_each(report, stamp):
    plain, stamped = (
        [part.level for part in parse_tool_output(text).parts]
        for text in (report, "".join(f"{stamp}{row}\n" for row in report.splitlines()))
    )
    assert stamped == plain
    assert Level.MESSAGE in plain


ITEMS = st.integers(0, 40) | st.integers(0, 3000)


@settings(deadline=None, max_examples=60)
@given(ITEMS, ITEMS, st.sampled_from([200, 300, 600]))
def test_a_cut_line_keeps_its_word_of_failure_wherever_it_stands(before, after, budget):
    item = '{"id": 7, "name": "alpha"}, '
    said = f'ERROR reply: [{item * before}{{"error": "quota_exceeded"}}, {item * after}]\n'
    found = tamis.compress_tool_output(
        "".join([*INFO, said, *INFO]), tokenizer="estimate", max_tokens=budget
    )
    assert "ERROR reply" in found.text
    assert '"error": "quota_' in found.text


KOTLIN_WARNINGS = [f"w: file:///a/src/Cart{i}.kt:{i}:5 Parameter is never used" for i in range(90)]
KOTLIN = "e: file:///a/src/CartModel.kt:31:17 Unresolved reference: totl"
SBT_WARNINGS = [f"[warn] /a/src/Cart{i}.scala:{i}:5: unused import {i}" for i in range(90)]
SBT = "[error] /a/src/CartModel.scala:31:17: value totl is not a member of Cart"


@pytest.mark.parametrize(
    ("warnings", "error"), [(KOTLIN_WARNINGS, KOTLIN), (SBT_WARNINGS, SBT)], ids=["kotlin", "sbt"]
)
@pytest.mark.parametrize("at", [10, 45, 80])
def test_an_error_stays_among_warnings_of_its_form(warnings, error, at):
    lines = [*warnings[:at], "> Task :cart:compileReleaseKotlin FAILED", error, *warnings[at:]]
    text = "\n".join([*lines, GRADLE])
    for limit in (300, 1500):
        shown = tamis.compress_tool_output(
            text, call="build 7 cart", tokenizer="estimate", max_tokens=limit
        )
        assert error in shown.text


def test_a_record_of_json_stays_by_its_level_whatever_stands_before_it():
    rows = [{"args": "x " * 40, "level": "info", "msg": f"request {i}"} for i in range(60)]
    rows[31] = {"args": "x " * 3000, "level": "error", "msg": "disk full"}
    text = "".join(json.dumps(row) + "\n" for row in rows)
    assert (
        "disk full" in tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=1500).text
    )


@pytest.mark.parametrize("key", ["level", "status"])
def test_the_long_message_of_an_object_that_failed_is_cut_and_not_dropped(key):
    rows = [{"at": i, key: "ok", "msg": f"request {i} was served"} for i in range(60)]
    rows[31] = {"at": 31, key: "error", "msg": "disk full: " + "while flushing many rows, " * 80}
    text = json.dumps(rows, indent=1)
    shown = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=1500).text
    assert "disk full: while flushing" in shown
    alone = json.dumps({"exit_code": 1, "output": "building\r" * 3000 + "Error: disk full"})
    shown = tamis.compress_tool_output(alone, tokenizer="estimate", max_tokens=1500).text
    assert "Error: disk full" in shown


@pytest.mark.parametrize("around", [0, 1, 200])
@pytest.mark.parametrize("before", [150, 3000])
def test_an_error_far_in_a_long_line_is_shown_wherever_the_line_stands(before, around):
    error = "Error: cannot open /etc/app.yaml: permission denied"
    line = "step " * before + error + " step" * 3000 + "\n"
    text = "building\n" * around + line + "done\n" * around
    for limit in (300, 1500):
        shown = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=limit).text
        assert error in shown


PLACED = {
    "src/a{i}.ts:{i}:5: warning: 'v{i}' is never used": (
        "src/core.ts:88:14: Property 'token' does not exist on type 'Session'."
    ),
    "src/a{i}.ts({i},5): warning TS6133: 'v{i}' is never read.": (
        "src/core.ts(88,14): Property 'token' does not exist on type 'Session'."
    ),
    "./lib/a{i}.py:{i}:70: W291 trailing whitespace": "core.py:77:9: undefined name 'session'",
    "a{i}.c:{i}:7: note: expanded from macro 'FOO'": "core.c:77:9: implicit declaration of 'frob'",
}


@pytest.mark.parametrize("usual", PLACED)
@pytest.mark.parametrize("at", [20, 240])
def test_what_is_said_of_a_line_and_column_stays_without_a_word_of_failure(usual, at):
    lines = [usual.format(i=i) for i in range(300)]
    lines.insert(at, PLACED[usual])
    text = "\n".join(lines) + "\n"
    for limit in (300, 1500):
        shown = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=limit).text
        assert PLACED[usual] in shown


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("limit", [300, 1500])
def test_the_one_file_with_errors_of_a_report_keeps_its_name_and_messages(indent, limit):
    clean = {"messages": [], "errorCount": 0, "fatalErrorCount": 0, "error": None}
    rows = [{"filePath": f"/app/src/file{i}.js", **clean} for i in range(60)]
    said = {"ruleId": "no-undef", "severity": 2, "message": "'fetchUser' is not defined."}
    source = "".join(f"const v{i} = compute({i}, 'some text');\n" for i in range(80))
    rows[37] |= {"messages": [said], "errorCount": 1, "source": source}
    text = json.dumps(rows, indent=indent)
    shown = tamis.compress_tool_output(text, tokenizer="estimate", max_tokens=limit).text
    assert "/app/src/file37.js" in shown
    assert said["message"] in shown


@pytest.mark.parametrize("space", ["", " ", "\n  "])
@pytest.mark.parametrize("value", ["null", "0", '""', "[ ]", "false"])
def test_a_field_of_errors_that_is_empty_is_no_failure(space, value):
    assert json_level(f'{{"error":{space}{value}}}') == Level.ORDINARY
    assert json_level(f'{{"error":{space}"disk full"}}') == Level.MESSAGE
