"""Formats that own a whole text: what they are told by, and what stands under what."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import Level

STATUS = """\
On branch main
Changes not staged for commit:
  (use "git add <file>..." to update what will be committed)
\tmodified:   a.py

Untracked files:
  (use "git add <file>..." to include in what will be committed)
\tb.py

no changes added to commit
"""
LOG = """\
commit 0123456789abcdef0123456789abcdef01234567
Author: A <a@b.c>
Date:   Thu Nov 26 10:00:00 2026 +0000

    Cut prices

    They were too high.

commit 1123456789abcdef0123456789abcdef01234567
Author: B <b@b.c>
Date:   Thu Nov 26 09:00:00 2026 +0000

    Raise prices
"""
TREE = """\
.
├── a
│   ├── b.py
│   └── c
│       └── d.py
└── e.py

3 directories, 3 files
"""
RG = """\
src/shop.py
12:def price(n):
30:    return price(2)

src/cart.py
4:from shop import price
"""
PS = """\
  PID TTY          TIME CMD
    1 ?        00:00:01 init
   22 ?        00:00:00 sshd
   37 pts/0    00:00:00 bash
"""
CUT_DIFF = """\
--- a/shop.py
+++ b/shop.py
@@ -1,6 +1,6 @@
 import cart
-price = 1
+price = 2
--- a/next.py
+++ b/next.py
@@ -1 +1 @@
--- a comment of SQL
+++ more of it
@@ -9 +9 @@
-old
+new
"""
CSV = "id,name,city\n" + "".join(f"{i},user{i},Rome\n" for i in range(9))
PAGE = "<!DOCTYPE html>\n<html>\n<h1>Prices</h1>\n<p>One.</p>\n<p>Two.</p>\n</html>\n"
NOTEBOOK = json.dumps(
    {
        "cells": [
            {
                "cell_type": "code",
                "source": ["1 / 0"] * 9,
                "outputs": [{"ename": "ZeroDivisionError"}],
            }
        ]
        * 4,
        "nbformat": 4,
    },
    indent=1,
)


@pytest.mark.parametrize(
    ("text", "call", "kind"),
    [
        (STATUS, "", "git status"),
        (LOG, "", "git log"),
        (TREE, "", "listing"),
        (RG, "rg -n price", "grep"),
        ("a/b.py:1:x\na/b.py:2:y\na/c.py:9:z\n", "", "grep"),
        ("./a.py\n./b/c.py\n./b/d.py\n./e.py\n./f.py\n", "find .", "listing"),
        (PS, "ps", "table"),
        (CSV, "", "table"),
        (PAGE, "", "html"),
        (NOTEBOOK, "", "notebook"),
        ('{"a": 1}\n{"a": 2}\n{"a": 3}\n', "", "jsonl"),
        ('{"a": [1, 2, 3]}', "", "json"),
        ("3", "", "text"),
        ("[not json\n", "", "text"),
        ("Words in lines.\nAnd more of them.\n", "", "text"),
        ("2026-01-01 10:00:00 INFO a\n" * 9, "", "log"),
        ("[2026-11-26 08:04:36,092] [ERROR] [shop.jobs] job 708 failed\n" * 9, "", "log"),
    ],
)
def test_a_format_is_told_by_its_text(text, call, kind):
    assert parse_tool_output(text, call).format == kind


@pytest.mark.parametrize(
    ("text", "line", "headers"),
    [
        (STATUS, "modified:   a.py", ["Changes not staged"]),
        (STATUS, "\tb.py", ["Untracked files"]),
        (LOG, "They were too high", ["commit 0123"]),
        (TREE, "d.py", ["a\n", "c\n"]),
        (PS, "sshd", ["PID TTY"]),
        (CSV, "user7", ["id,name,city"]),
        (CUT_DIFF, "price = 2", ["a/shop.py", "-1,6 +1,6"]),
        (CUT_DIFF, "-old", ["a/next.py", "-9 +9"]),
    ],
)
def test_lines_of_a_format_are_shown_under_their_headers(text, line, headers):
    parsed = parse_tool_output(text)
    texts = [text[part.start : part.stop] for part in parsed.parts]
    i = next(i for i, shown in enumerate(texts) if line in shown)
    above = [texts[j] for j in parsed.parts[i].needs]
    assert all(any(header in shown for shown in above) for header in headers)


def test_lines_that_a_hunk_still_lacks_are_its_own_though_they_look_like_a_file():
    parsed = parse_tool_output(CUT_DIFF)
    texts = [CUT_DIFF[part.start : part.stop] for part in parsed.parts]
    above = [texts[j] for j in parsed.parts[texts.index("--- a comment of SQL\n")].needs]
    assert above == ["--- a/next.py\n+++ b/next.py\n", "@@ -1 +1 @@\n"]


def test_hits_stand_under_the_file_above_them():
    parsed = parse_tool_output(RG, "rg price")
    texts = [RG[part.start : part.stop] for part in parsed.parts]
    i = texts.index("4:from shop import price\n")
    assert [texts[j] for j in parsed.parts[i].needs] == ["src/cart.py\n"]


@pytest.mark.parametrize("text", [STATUS, LOG, TREE, RG, PS, CSV, PAGE])
def test_parts_of_lines_partition_the_text(text):
    parts = parse_tool_output(text).parts
    assert "".join(text[part.start : part.stop] for part in parts) == text
    assert all(a.stop == b.start for a, b in pairwise(parts))


def test_what_failed_in_a_notebook_is_a_message():
    parsed = parse_tool_output(NOTEBOOK)
    levels = [p.level for p in parsed.parts if "ename" in NOTEBOOK[p.start : p.stop]]
    assert levels == [Level.MESSAGE] * 4


def test_the_end_of_a_pytest_run_has_its_error_as_message():
    passed = "".join(f"tests/test_a.py::test_{i} PASSED\n" for i in range(40))
    said = "E       assert 30 == 90\nE        +  where 30 = f()\n1 failed, 40 passed in 1.0s\n"
    found = parse_tool_output(passed + said)
    assert found.format == "pytest"
    assert [part.level for part in found.parts[-3:]] == [
        *(Level.MESSAGE, Level.DETAIL, Level.OUTCOME)
    ]
    assert {part.level for part in found.parts[:-3]} == {Level.REPEATED}
