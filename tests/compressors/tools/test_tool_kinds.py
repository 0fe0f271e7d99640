"""What is kept of real outputs of real tools: failures, their places, what is asked for."""

from __future__ import annotations

import json
import re

import pytest

from tests.compressors.tools.tool_kit import COUNTER, at_ratio, kept_lines, read_output, shorten

# file, format, share of the tokens, lines that have to be kept
KEPT = [
    (
        "pytest.txt",
        "pytest",
        0.15,
        [
            "E   ConnectionError: no database at localhost:5432",
            "E   assert 39.6 == (((44 * 9) / 10) + 1)",
            "E   assert 54.9 == (((61 * 9) / 10) + 1)",
            "E   KeyError: 'rate'",
            "E       RuntimeError: cannot read config",
            "FAILED test_shop.py::test_total - KeyError: 'rate'",
            "ERROR test_shop.py::test_db - ConnectionError: no database at localhost:5432",
        ],
    ),
    (
        "unittest.txt",
        "unittest",
        0.25,
        [
            "ERROR: test_b (__main__.A.test_b)",
            "KeyError: 'x'",
            "FAIL: test_a (__main__.A.test_a)",
            "AssertionError: Lists differ: [1, 2, 3] != [1, 2, 4]",
            "FAILED (failures=1, errors=1)",
        ],
    ),
    (
        "python_chain.txt",
        "python_traceback",
        0.4,
        [
            "json.decoder.JSONDecodeError: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)",
            'File "/home/dev/shop/chain.py", line 3, in read',
            'File "/home/dev/shop/chain.py", line 4, in read',
            "RuntimeError: settings cannot be read",
        ],
    ),
    (
        "java_trace.txt",
        "log",
        0.4,
        [
            'Exception in thread "main" java.lang.IllegalStateException: cannot order ten',
            "at Shop.order(Shop.java:3)",
            'Caused by: java.lang.NumberFormatException: For input string: "ten"',
            "at Shop.price(Shop.java:2)",
        ],
    ),
    (
        "node_trace.txt",
        "javascript_trace",
        0.3,
        [
            "Error: ENOENT: no such file or directory, open 'missing.json'",
            "at load (/home/dev/shop/app.js:2:41)",
        ],
    ),
    (
        "rust_panic.txt",
        "rust",
        0.35,
        [
            "thread 'main' (16120) panicked at panics.rs:1:39:",
            "index out of bounds: the len is 2 but the index is 7",
            "at ./panics.rs:1:39",
        ],
    ),
    (
        "rustc.txt",
        "rust",
        0.5,
        [
            "error[E0308]: mismatched types",
            "--> bad.rs:2:45",
            "error[E0425]: cannot find function `undefined_name` in this scope",
            "--> bad.rs:2:74",
            "error: aborting due to 2 previous errors",
        ],
    ),
    (
        "gcc.txt",
        "compiler",
        0.15,
        [
            "m1.c:3:18: error: ‘undefined_1’ undeclared (first use in this function)",
            "m2.c:3:18: error: ‘undefined_2’ undeclared (first use in this function)",
        ],
    ),
    ("npm_error.txt", "npm", 0.5, ["npm error code ENOTCACHED"]),
    ("kubectl.txt", "table", 0.1, ["NAME                READY   STATUS", "CrashLoopBackOff"]),
    ("psql.txt", "table", 0.15, ["id  |   name   | state", "user41", "(60 rows)"]),
]


@pytest.mark.parametrize(("file", "kind", "share", "lines"), KEPT, ids=[row[0] for row in KEPT])
def test_failures_are_kept_without_a_question(file, kind, share, lines):
    result = at_ratio(read_output(file), share)
    assert result.format == kind
    for line in lines:
        assert line in result.text


def test_the_failure_that_is_asked_for_goes_before_the_others():
    text = read_output("pytest.txt")
    result = at_ratio(text, 0.06, "why does test_dict fail?")
    assert "FAILED test_shop.py::test_dict" in result.text


def test_each_of_many_failures_has_its_message_before_any_has_its_second_line():
    body = "".join(
        f"{f' test_{i} ':_^80}\n\n>   assert {i} == -1\nE   assert {i} == -1\n"
        f"E    +  where {i} = f({'words, ' * 30})\n\na.py:{i}: AssertionError\n"
        for i in range(1, 41)
    )
    text = f"{' FAILURES ':=^80}\n{body}{' 40 failed in 1.00s ':=^80}\n"
    for share in (0.2, 0.4, 0.6, 0.8, 0.95):
        shown = kept_lines(at_ratio(text, share))
        messages = sum(f"E   assert {i} == -1" in shown for i in range(1, 41))
        assert messages > 40 * share / 2
        assert messages == 40 or not any("+  where" in line for line in shown)
    assert messages == 40


def test_a_run_is_shown_shortened_and_an_error_within_it_is_not_merged():
    rows = [f"tests/test_a.py::test_{i} PASSED" for i in range(200)]
    rows[90] = "tests/test_a.py::test_90 FAILED"
    head = f"{' test session starts ':=^60}"
    text = "\n".join([head, *rows, f"{' 1 failed, 199 passed in 2.00s ':=^60}", ""])
    result = at_ratio(text, 0.1)
    assert "tests/test_a.py::test_90 FAILED" in kept_lines(result)
    assert re.search(r"\[… \d+ more PASSED, lines \d+-\d+ omitted, \d+ tokens\]", result.text)
    assert result.text.rstrip().endswith("1 failed, 199 passed in 2.00s ===============")


def test_changed_lines_stand_under_their_file_and_hunk():
    text = read_output("git_diff.txt")
    for share in (0.1, 0.2, 0.4, 0.7):
        _check_places(text, at_ratio(text, share, "Which languages are cut into clauses?").text)


def _check_places(text, shown):
    places = dict(_placed(text))
    for number_and_line in _placed(shown):
        line, place = number_and_line
        assert place == places.get(line, place) or line.strip("+- ") == ""


def _placed(text):
    file = hunk = None
    for line in text.splitlines():
        if line.startswith("diff --git"):
            file, hunk = line, None
        elif line.startswith("@@"):
            hunk = line
        elif hunk and line[:1] in "+-" and len(line) > 30:
            yield line, (file, hunk)


def test_entries_stand_under_their_folder():
    text = read_output("ls_recursive.txt")
    folders = {}
    for block in text.split("\n\n"):
        folder, *names = block.strip().splitlines()
        folders[folder] = set(names)
    result = at_ratio(text, 0.3, "Where is the page on LangChain?")
    assert "langchain.md" in result.text
    for block in re.split(r"\n\n|\n(?=\S+:\n)", re.sub(r"\[… .*\]\n?", "\n", result.text)):
        if (lines := block.strip().splitlines()) and lines[0].endswith(":"):
            assert set(lines[1:]) <= folders[lines[0]] | {""} | set(folders)


def test_rows_keep_the_header_and_ordinals_count_rows():
    result = at_ratio(read_output("kubectl.txt"), 0.2, "web-077")
    assert kept_lines(result)[0].startswith("NAME")
    assert any(line.startswith("web-077") for line in kept_lines(result))
    gap = result.omissions[0]
    assert gap.unit == "rows"
    source = read_output("kubectl.txt").splitlines()
    assert read_output("kubectl.txt")[gap.start :].startswith(source[gap.first])


def test_hits_of_grep_are_whole_lines_of_the_source():
    text = read_output("grep.txt")
    result = at_ratio(text, 0.4, "resolve_language")
    assert result.format == "grep"
    source = set(text.splitlines())
    assert all(line in source or line.startswith("[… ") for line in kept_lines(result))


def test_the_unusual_object_of_an_array_is_kept_and_the_rest_is_counted():
    users = [{"id": i, "name": f"user{i}", "status": "active"} for i in range(300)]
    users[217]["status"] = "suspended"
    text = json.dumps({"total": 300, "users": users}, indent=2)
    result = shorten(text, COUNTER.count(text) // 10)
    shown = json.loads(result.text)
    assert shown["total"] == 300
    assert users[217] in shown["users"]
    gaps = [item for item in shown["users"] if isinstance(item, str)]
    assert sum(int(b) - int(a) + 1 for a, b in (re.findall(r"\d+", gap)[:2] for gap in gaps)) == (
        300 - sum(isinstance(item, dict) for item in shown["users"])
    )


def test_an_object_that_is_cut_says_which_one_it_is():
    items = [
        {"id": i, "notes": "plain words " * 40, "more": "other words " * 40} for i in range(20)
    ]
    items[7]["more"] = "the needle lies here " * 20
    result = shorten(json.dumps(items), 500, "needle")
    found = [item for item in json.loads(result.text) if isinstance(item, dict)]
    assert any("needle" in str(item) and item["id"] == 7 for item in found)


def test_a_log_in_a_json_string_is_cut_at_its_lines():
    log = read_output("pytest.txt")
    text = json.dumps({"stdout": log, "exit_code": 1})
    result = at_ratio(text, 0.3)
    shown = json.loads(result.text)
    assert shown["exit_code"] == 1
    source = set(log.splitlines())
    assert all(line in source or line.startswith("[… ") for line in shown["stdout"].splitlines())
    assert "E   KeyError: 'rate'" in shown["stdout"].splitlines()


def test_json_below_a_status_line_stays_json():
    body = json.dumps([{"id": i, "text": "words " * 20} for i in range(60)])
    text = f"HTTP/1.1 200 OK\ncontent-type: application/json\n\n{body}\n"
    result = at_ratio(text, 0.3)
    assert result.format == "json"
    assert isinstance(json.loads(result.text[result.text.index("\n[") :]), list)


def test_a_record_of_a_log_brings_what_continues_it():
    rows = [f"2026-01-01 10:00:{i % 60:02d} INFO request {i} served" for i in range(120)]
    rows[60] = (
        "2026-01-01 10:01:00 ERROR request failed\nTraceback (most recent call last):\n"
        '  File "/app/shop.py", line 3, in order\n    pay()\nTimeoutError: the bank is silent'
    )
    result = at_ratio("\n".join(rows) + "\n", 0.1)
    assert "2026-01-01 10:01:00 ERROR request failed" in result.text
    assert "TimeoutError: the bank is silent" in result.text
    assert 'File "/app/shop.py", line 3, in order' in result.text


def test_the_call_is_the_question_where_there_is_no_other():
    rows = [f"line {i} of the file says nothing" for i in range(200)]
    rows[120] = "line 120 of the file has the tariff"
    result = shorten("\n".join(rows), 200, call='bash {"command": "show tariff"}')
    assert rows[120] in result.text
