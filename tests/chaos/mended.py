"""Patterns that were slow and are not: what they find is what they found before.

python -m tests.chaos --only mended
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.service.files import document_text
from tamis.service.http.schemas import patterns
from tamis.text import lines
from tamis.text.readers.outputs import builds, line_table, listings, logs, runners


@dataclass(frozen=True, slots=True)
class Mended:
    """A pattern as it is, as it was, and what texts for it are made of."""

    now: Any
    before: str | bytes
    parts: list[str]

    def compare(self, examples: int) -> None:
        """Fails where the pattern does not find what it found.

        But for a bracket that opens in an address inside a link, and a second end of a comment.
        """
        old = re.compile(self.before, self.now.flags & (re.I | re.S | re.M))

        @settings(max_examples=examples, deadline=None, database=None)
        @given(st.lists(st.sampled_from(self.parts), max_size=14).map("".join))
        def check(drawn):
            text = drawn.encode() if isinstance(self.before, bytes) else drawn
            for method in ("match", "search"):
                found, wanted = getattr(self.now, method)(text), getattr(old, method)(text)
                assert (found is None) == (wanted is None), text
                if found is not None:
                    assert (found.span(), found.groups()) == (wanted.span(), wanted.groups()), text

        check()


MENDED = [
    Mended(
        builds._COMPILER_SOURCE,
        r"\s+\d* \||\s+\^|\s+[~^]+|\s*\d+\s{2,}\S|\s*[~^]+$|\s{2,}.*\^",
        [*" \t1|^~x"],
    ),
    Mended(
        runners._PYTEST_STATUS,
        r"\S+(?:::| ).*\b(PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS|RERUN)\b(?:\s|$)"
        r"|\S+\.py [.FEsxX]+(?:\s|$)",
        ["PASSED", "ERROR", "::", ":", " ", "a", ".py", ".", "F", "\n"],
    ),
    Mended(
        runners._PYTEST_COUNTS,
        r"\d+ (?:passed|failed|error|skipped|xfailed|deselected|warning)|no tests ran",
        [*"12 ", "passed", "error", "no tests ran", "a", "\u0663"],
    ),
    Mended(
        builds._RUST_TEST,
        r"test \S+.* \.\.\. (ok|FAILED|ignored)",
        ["test ", "a", " ", " ... ", "ok", "."],
    ),
    Mended(
        logs._FEW_ERRORS,
        r"\d+ (?:errors?|failures?)\b|(?:errors?|failures?|failed)[:=] *\d+",
        [*"12 :=s", "error", "failed", "failure"],
    ),
    Mended(
        listings._HUNK,
        r"@@+ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))?.* @@+",
        ["@@", "@", " ", "-", "+", ",", "1", "2", " -1,2 +3", "x"],
    ),
    Mended(
        builds._DOCKER_FILE,
        r"\S*Dockerfile\S*:\d+",
        ["Dockerfile", ":", "1", "x", " ", ":2"],
    ),
    Mended(
        builds._MAVEN_GRADLE,
        r"> Task \S+ FAILED|.* > .* FAILED$",
        ["> Task ", " > ", " FAILED", "x", " ", "\n"],
    ),
    Mended(
        document_text._START,
        r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html)\b",
        ["<!--x-->", "<!-- <html> -->", " ", "<html>", "<!doctype html>", "\n"],
    ),
    Mended(patterns._COUNT, r"\{(\d*)(,?)(\d*)\}", [*"{},12"]),
    Mended(
        line_table._STATUS,
        r"\s*(?:\[ *\d+%\]|\[\w+\])?\s*(PASS(?:ED)?|ok|OK|CC|CXX|AR|LD|gcc|g\+\+|cc|clang|c\+\+"
        r"|[A-Z][a-z]+(?:ing|ed|ched)|Get|Hit|test|adding|extracting|inflating|copying|creating"
        r"|writing|running|Selecting)\b",
        [*" [1%]\n", "[ 12%]", "[ok]", "ok", "PASS", "ED", "Cop", "ying"],
    ),
    Mended(
        lines._LINK,
        r"!?\[(?:[^\[\]]|!?\[[^\[\]]{0,80}\](?:\([^()]{0,200}\))?){0,200}\]\s?"
        r"\((?:[^()\s]|\([^()\s]{0,80}\)|\n){0,400}"
        r"(?:\s+\"(?:[^\"]|\"(?!\s{0,4}\))){0,200}\")?\s?\)",
        [*"![]x \n", "(u)", '(u "t")', "[x]", "![y](v)"],
    ),
    Mended(
        document_text._DECLARED,
        rb"""charset\s*=\s*["']?\s*([\w.:-]+)|encoding\s*=\s*["']([\w.:-]+)""",
        ["charset", "encoding", "=", " ", '"', "'", "a", "CHARSET"],
    ),
]
