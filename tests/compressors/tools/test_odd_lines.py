"""The one line unlike all the others is kept, whatever is asked and however little may stay."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import LAST_PROTECTED, Level
from tests.compressors.tools.tool_kit import COUNTER, shorten

DRAWN = random.Random(2)
ROWS, ODD = 300, 122


def among(line: Callable[[int], str], odd: str, rows: int = ROWS) -> str:
    return "".join(f"{odd if i == ODD else line(i)}\n" for i in range(rows))


def clock(i: int) -> str:
    return f"10:{i // 60:02d}:{i % 60:02d}"


def drawn(least: int, most: int) -> int:
    return DRAWN.randint(least, most)


def access(i: int, code: int = 200) -> str:
    when = f"10.0.0.{i % 250} - - [01/Jan/2026:{clock(i)} +0000]"
    return f'{when} "GET /p/{i} HTTP/1.1" {code} {drawn(100, 9000)} "-" "curl/8"'


def request(i: int, code: int = 200) -> str:
    return f"2026-01-01T{clock(i)}Z INFO  path=/api/{i} status={code} dur={drawn(5, 40)}ms"


def columns(odd: str, line: Callable[[int], str]) -> str:
    """Columns as kubectl prints them."""
    rows = ["NAME READY STATUS RESTARTS AGE", *among(line, odd).splitlines()]
    return "".join("".join(f"{cell:<18}" for cell in row.split()).rstrip() + "\n" for row in rows)


def pod(i: int, ready: str = "1/1", status: str = "Running", restarts: int = 0) -> str:
    return f"web-{i * 7919 % 99991:05x} {ready} {status} {restarts} {drawn(1, 30)}d"


def account(i: int, balance: str = "") -> str:
    return f" {i} | n{i} | {balance or drawn(10, 99)}.00 "


PSQL = " id | name | balance \n----+------+---------\n"
CASES = {
    "access log": among(access, access(ODD, 500)),
    "access log, 404": among(access, access(ODD, 404)),
    "app log": among(request, request(ODD, 503)),
    "syslog": among(
        lambda i: f"Jan {3 + i // 200:2d} {clock(i)} web app[{i}]: job {i * 7} done",
        f"Jan  3 {clock(ODD)} web app[{ODD}]: job {ODD * 7} lost",
    ),
    "health": among(lambda i: f"service-{i:03d}: healthy", f"service-{ODD:03d}: unhealthy"),
    "checks": among(lambda i: f"check {i:03d} ... ok", f"check {ODD:03d} ... not ok"),
    "requests": among(
        lambda i: f"curl {i}: HTTP 200 in {drawn(10, 90)} ms", f"curl {ODD}: HTTP 502 in 3001 ms"
    ),
    "du": among(lambda i: f"{drawn(4, 99)}K\t./d{i}", "41G\t./cache"),
    "copies": among(lambda i: f"copied part{i}.bin to store", "disk is nearly full now"),
    "psql": PSQL + among(account, account(ODD, "-5000")),
    "restarts": columns(pod(ODD, restarts=31), pod),
    "pending": columns(pod(ODD, "0/1", "Pending"), pod),
    "not ready": columns(pod(ODD, "0/1"), pod),
    "one of two": columns(pod(ODD, "1/2"), lambda i: pod(i, "2/2")),
}


@pytest.mark.parametrize("question", ["Is everything healthy?", "Which request failed?", None])
@pytest.mark.parametrize("name", CASES)
def test_the_one_line_unlike_the_others_stays_at_any_budget(name, question):
    text = CASES[name]
    line = text.splitlines()[ODD + (2 if name == "psql" else text.startswith("NAME"))]
    for ratio in (0.05, 0.1, 0.2, 0.4):
        kept = shorten(text, int(ratio * COUNTER.count(text)), question, "bash")
        assert line in kept.text.splitlines(), ratio


def test_many_that_are_unlike_are_no_reason_to_leave_out_the_others():
    half = "".join(f"service-{i:03d}: {'un' * (i % 2)}healthy\n" for i in range(ROWS))
    levels = {part.level for part in parse_tool_output(half).parts}
    assert min(levels) > LAST_PROTECTED
    columns_of_values = "".join(f"{i % 30} {i % 25} item {i}\n" for i in range(ROWS))
    levels = {part.level for part in parse_tool_output(columns_of_values).parts}
    assert levels <= {Level.ORDINARY, Level.REPEATED}


def test_prose_and_code_have_no_odd_line():
    text = "".join(
        f"    def part_{i}(self):\n        return self.x{i} + {i}\n\n" for i in range(60)
    )
    prose = "".join(
        f"{' '.join('abcdefg'[(i * j) % 7] * 3 for j in range(9))}\n" for i in range(99)
    )
    for one in (text, prose):
        assert min(part.level for part in parse_tool_output(one).parts) > LAST_PROTECTED


def test_what_failed_goes_before_what_is_odd():
    text = CASES["health"] + "ValueError: bad price\n"
    found = shorten(text, 30, None, "bash").text
    assert "ValueError: bad price" in found
    assert "unhealthy" not in found
    assert all(
        words in shorten(text, 200, None, "bash").text for words in ("ValueError", "unhealthy")
    )


def case_of(i: int) -> str:
    return f'  <testcase classname="a.B" name="t{i}" time="0.1"/>'


FAILED = """  <testcase classname="a.B" name="t{0}" time="0.1">
    <failure message="no {0}">at B.java</failure>
  </testcase>"""


def test_a_failure_in_junit_brings_its_test():
    body = "\n".join(FAILED.format(i) if i % 40 == 10 else case_of(i) for i in range(200))
    text = f'<testsuite tests="200" failures="5">\n{body}\n</testsuite>\n'
    assert parse_tool_output(text).format == "junit"
    for ratio in (0.1, 0.2, 0.4):
        kept = shorten(text, int(ratio * COUNTER.count(text)), "Which test failed?", "bash").text
        assert 'failures="5"' in kept
        for i in range(10, 200, 40):
            assert f'name="t{i}" time="0.1">' in kept
            assert f'<failure message="no {i}">' in kept
    few = shorten(text, int(0.03 * COUNTER.count(text)), None, "bash").text
    assert few.count("<failure") == few.count('time="0.1">')


def test_rows_that_are_not_ready_go_before_what_is_scored():
    rows = [
        pod(i, *{7: ("0/1", "Pending"), 9: ("1/3",), 11: ("0/1", "Completed")}.get(i, ()))
        for i in range(12)
    ]
    text = "NAME   READY   STATUS   RESTARTS   AGE\n" + "".join(
        f"{'   '.join(r.split())}\n" for r in rows
    )
    levels = [part.level for part in parse_tool_output(text, "kubectl get pods").parts][1:]
    assert [i for i, level in enumerate(levels) if level == Level.MESSAGE] == [7, 9]
