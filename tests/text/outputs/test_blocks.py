"""Which lines of tests, compilers, builds and logs matter, and what they are shown under."""

from __future__ import annotations

import pytest

from tamis.text.readers.outputs.blocks import BLOCKS
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import Level

GO_TEST = """\
=== RUN   TestPrice
    price_test.go:12: price(3) = 7, want 6
--- FAIL: TestPrice (0.00s)
=== RUN   TestOk
--- PASS: TestOk (0.00s)
FAIL
FAIL\texample.com/shop\t0.004s
ok  \texample.com/shop/db\t0.002s
"""
GO_PANIC = """\
panic: runtime error: index out of range [7] with length 2

goroutine 1 [running]:
runtime.goPanicIndex(0x7, 0x2)
\t/usr/local/go/src/runtime/panic.go:114 +0x74
main.pick(...)
\t/home/dev/shop/main.go:5
exit status 2
"""
TSC = """\
src/shop.ts(12,5): error TS2322: Type 'string' is not assignable to type 'number'.
src/cart.ts:3:14 - error TS2304: Cannot find name 'prise'.

3     return prise(n);
             ~~~~~

Found 2 errors in 2 files.
"""
ESLINT = """\
/home/dev/shop/a.js
  1:7   error    'x' is assigned a value but never used  no-unused-vars
  4:1   warning  Unexpected console statement            no-console

✖ 2 problems (1 error, 1 warning)
"""
MAVEN = """\
[INFO] Scanning for projects...
[INFO] Downloading from central: a.pom
[ERROR] COMPILATION ERROR :
[ERROR] /home/dev/shop/Shop.java:[3,16] cannot find symbol
[INFO] BUILD FAILURE
[ERROR] To see the full stack trace of the errors, re-run Maven with the -e switch.
[ERROR] -> [Help 1]
"""
DOCKER = """\
#5 [2/4] RUN pip install shop
#5 0.412 Collecting shop
#5 0.890 ERROR: No matching distribution found for shop
#5 ERROR: process "/bin/sh -c pip install shop" did not complete successfully: exit code: 1
------
Dockerfile:4
--------------------
   3 |     COPY . .
   4 | >>> RUN pip install shop
--------------------
ERROR: failed to solve: process "/bin/sh -c pip install shop" did not complete successfully
"""
JEST = """\
PASS src/b.test.js
FAIL src/a.test.js
  ✓ adds (2 ms)
  ✕ prices (3 ms)

  ● shop › prices

    Expected: 6
    Received: 7

      at Object.<anonymous> (src/a.test.js:5:20)

Tests:       1 failed, 1 passed, 2 total
"""
CARGO_TEST = """\
running 2 tests
test tests::ok ... ok
test tests::price ... FAILED

failures:

---- tests::price stdout ----

thread 'tests::price' panicked at src/lib.rs:9:5:
assertion `left == right` failed
  left: 7
 right: 6

test result: FAILED. 1 passed; 1 failed; 0 ignored
"""
LINK = """\
cc -o shop main.o
/usr/bin/ld: main.o: in function `main':
main.c:(.text+0x9): undefined reference to `price'
collect2: error: ld returned 1 exit status
make: *** [Makefile:3: shop] Error 1
"""
MYPY = """\
shop/a.py:1: error: Function is missing a type annotation  [no-untyped-def]
shop/a.py:9: note: Use "-> None" if function does not return a value
shop/b.py:4: error: Incompatible return value type  [return-value]
Found 2 errors in 2 files (checked 11 source files)
"""
RUFF = """\
F821 Undefined name `prise`
  --> src/shop.py:23:12
   |
22 | def total(rows):
23 |     return prise(rows)
   |            ^^^^^

Found 1 error.
"""
RUFF_CONCISE = """\
src/shop.py:23:12: F821 Undefined name `prise`
src/shop.py:1:8: F401 [*] `os` imported but unused
Found 2 errors.
"""
# name, text, format, then (line, least level) pairs
CASES = [
    (
        GO_TEST,
        "go",
        [
            ("price_test.go:12", Level.MESSAGE),
            ("--- FAIL", Level.MESSAGE),
            ("FAIL\t", Level.OUTCOME),
        ],
    ),
    (
        GO_PANIC,
        "go",
        [
            ("panic: ", Level.MESSAGE),
            ("/home/dev/shop/main.go:5", Level.LOCATION),
            ("/usr/local/go/src", Level.CONTEXT),
            ("exit status 2", Level.OUTCOME),
        ],
    ),
    (
        TSC,
        "compiler",
        [
            ("TS2322", Level.MESSAGE),
            ("TS2304", Level.MESSAGE),
            ("return prise", Level.CONTEXT),
            ("Found 2 errors", Level.OUTCOME),
        ],
    ),
    (
        ESLINT,
        "compiler",
        [
            ("never used", Level.MESSAGE),
            ("Unexpected console", Level.WARNING),
            ("2 problems", Level.OUTCOME),
        ],
    ),
    (
        MAVEN,
        "maven",
        [
            ("COMPILATION ERROR", Level.MESSAGE),
            ("cannot find symbol", Level.MESSAGE),
            ("BUILD FAILURE", Level.OUTCOME),
            ("To see the full", Level.ORDINARY),
        ],
    ),
    (
        DOCKER,
        "docker_build",
        [
            ("#5 ERROR", Level.OUTCOME),
            ("Dockerfile:4", Level.LOCATION),
            (">>> RUN", Level.DETAIL),
            ("failed to solve", Level.MESSAGE),
        ],
    ),
    (
        JEST,
        "jest",
        [
            ("✕ prices", Level.MESSAGE),
            ("Expected: 6", Level.DETAIL),
            ("Received: 7", Level.DETAIL),
            ("Tests:", Level.OUTCOME),
            ("✓ adds", Level.REPEATED),
        ],
    ),
    (
        CARGO_TEST,
        "rust",
        [
            ("panicked at src/lib.rs", Level.MESSAGE),
            ("assertion `left", Level.MESSAGE),
            ("  left: 7", Level.DETAIL),
            ("test result", Level.OUTCOME),
        ],
    ),
    (MYPY, "compiler", [("return value type", Level.MESSAGE), ("Found 2", Level.OUTCOME)]),
    (
        RUFF,
        "linters",
        [
            ("F821", Level.MESSAGE),
            ("src/shop.py:23:12", Level.LOCATION),
            ("return prise", Level.DETAIL),
            ("Found 1", Level.OUTCOME),
        ],
    ),
    (RUFF_CONCISE, "linters", [("F821", Level.MESSAGE), ("Found 2", Level.OUTCOME)]),
    (
        LINK,
        "compiler",
        [
            ("undefined reference", Level.MESSAGE),
            ("collect2", Level.MESSAGE),
            ("make: ***", Level.MESSAGE),
        ],
    ),
]


@pytest.mark.parametrize(("text", "kind", "lines"), CASES)
def test_lines_matter_by_what_the_tool_says_with_them(text, kind, lines):
    parsed = parse_tool_output(text)
    assert parsed.format == kind
    levels = {text[part.start : part.stop]: part.level for part in parsed.parts}
    for words, level in lines:
        [found] = [of for line, of in levels.items() if words in line][:1]
        assert (words, found.name) == (words, level.name)


@pytest.mark.parametrize(
    ("text", "line", "header"),
    [
        (GO_TEST, "price_test.go:12", "=== RUN   TestPrice"),
        (ESLINT, "never used", "/home/dev/shop/a.js"),
        (DOCKER, "Collecting shop", "#5 [2/4] RUN"),
        (CARGO_TEST, "  left: 7", "thread 'tests::price'"),
        (CARGO_TEST, "  left: 7", "---- tests::price stdout"),
        (TSC, "return prise", "src/cart.ts:3:14"),
        (RUFF, "return prise", "F821"),
    ],
)
def test_lines_are_shown_under_what_they_belong_to(text, line, header):
    parsed = parse_tool_output(text)
    texts = [text[part.start : part.stop] for part in parsed.parts]
    [i] = [i for i, shown in enumerate(texts) if line in shown]
    assert any(header in texts[j] for j in parsed.parts[i].needs)


def test_colours_do_not_hide_an_error():
    parsed = parse_tool_output("ok\n\x1b[31m\x1b[1mValueError\x1b[0m: bad\nok\n")
    assert parsed.parts[1].level == Level.MESSAGE


def test_counts_of_no_errors_and_names_with_error_in_them_are_no_errors():
    text = "INFO 0 errors\nerror_handler.py ok\nINFO retried, ERROR count 0\n" + "all is well\n" * 9
    assert all(part.level > Level.DETAIL for part in parse_tool_output(text).parts)


HINTS = {
    "compiler": ["a.c:7: x", "a.ts(3,14): x", "make: *** [all]", "ld: x", " 3:14  error x"],
    "linters": ["a.py:7:3: F821 x", "a.py:7: E501", "  --> a.py:7"],
    "pytest": ["=== a", "E   x", "____ a", "FAILED a", "a PASSED   [ 50%]", "a ERROR [ 7%]"],
    "python_traceback": [
        "Traceback (most recent call last)",
        '  File "a.py"',
        "x KeyError",
        "aException:",
    ],
    "rust": [
        "error[E0308]: x",
        "warning: x",
        "it panicked at",
        "test result: ok",
        "   Compiling a",
    ],
    "log": ["2026-11-29T10", "[2026-11-29 10", "10:22:33", "x INFO y", "an err here", "error"],
    "docker_build": [
        "#5 0.412 x",
        "Step 2/9 : RUN x",
        "failed to solve: x",
        "ERROR: failed to solve",
    ],
    "go": [
        *("panic: x", "goroutine 7 [running]:", "fatal error: x", "--- FAIL: x", "    --- PASS: x"),
        *("FAIL\tx", "ok  \tx", "=== RUN   x"),
    ],
    "java_trace": ["\tat a.B$C.<init>(B.java:7)", "  at a.b/c.D.e(Unknown Source)"],
    "javascript_trace": ["    at a (b.js:5:20)", "\tat b.js:5:20"],
    "jest": [
        *("  ✓ a", "✔ a", "✕ a", "✖ a", "  × a", "● a", "not ok 7 - a", "Tests:  7 passed"),
        *("# fail 1", "  7 passing (3ms)"),
    ],
    "junit": ['  <testcase name="a"/>', "<testcase>"],
    "maven": [
        *("[INFO] x", "[ERROR] x", "[WARNING] x", "> Task :x", "BUILD FAILED", "BUILD SUCCESSFUL"),
    ],
    "npm": [
        *("npm ERR! x", "npm error x", "npm warn x", "npm WARN x", "npm notice", "npm http x"),
        *("npm verb x", "added 7 packages", "# npm audit report", "error Command failed"),
    ],
    "unittest": ["Ran 7 tests in 0.1s", "Ran 1 test in 0.1s", "FAIL: a (b.C)", "ERROR: a (b.C)"],
    "shell": ["", "anything"],
}
NO_HINTS = {
    "compiler": ["a.c:7 x", "(3,14) x", " ld: x", "3:14 error x"],
    "linters": ["a.py:7:3: Fix it", "a.py:7:F821", "--> a.py:7"],
    "pytest": ["a === b", "E  x", "__ a", " FAILED a", "PASSED[ 50%]"],
    "python_traceback": ["Error", " Exception", "KeyErrors", "anErrorCode", 'x File "a.py'],
    "rust": [" error: x", "errors: 7", "Compiling a", "the test result: ok"],
    "log": ["on 2026-11-29", "at 10:22:33", "infos", "errors", "INFORM"],
    "docker_build": ["#five x", "see #5 x", "Step 2 : RUN", "it failed to solve", "# 5"],
    "go": [
        "a panic: x",
        "goroutine x",
        "=== PAUSE x",
        "FAIL x",
        "ok  x",
        "x --- FAIL",
        "--- SKIP: x",
    ],
    "java_trace": ["at B.java:7", "x at a.B.c(", "at a b("],
    "javascript_trace": ["look at a.js:5", "at", "atom x"],
    "jest": ["a ✓", "is not ok", "Tests 7", "# of failed", "7 passed", "passing"],
    "junit": ["<testcases>", "a <testcase>", "<testsuite>", "testcase"],
    "maven": ["[INFO]x", "x [INFO] y", "[DEBUG] x", "Task :x", "BUILD FAILURE", "a BUILD FAILED"],
    "npm": [
        "npm install",
        "an npm error",
        "added many packages",
        "# npm audit reports",
        "error Commands",
    ],
    "unittest": ["Ran all tests in 1s", "a FAIL: b (c)", "FAIL: a", "Ran 7 tests"],
    "shell": [],
}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_hints_are_whole_words_at_their_places(block):
    for text in HINTS[block.name]:
        assert block.hinted_in(text), text
        assert block.hinted_in(f"above\n{text}\nbelow"), text
    for text in NO_HINTS[block.name]:
        assert not block.hinted_in(f"above\n{text}\nbelow"), text
