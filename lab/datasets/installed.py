"""Questions on documentation that is installed on this machine, from a file that has no text of it.

    /etc/login.defs, /usr/share/doc/…   a file, or a gzipped one
    man:createdb.1                      a page of the manual, at 90 columns
    pypi:tqdm                           the description of a Python package
    stdlib:textwrap.py                  a module of Python's standard library

A row has its `source`, the `kind` of it, a `question`, and as `answer` the smallest texts that
answer by themselves. They are found whatever white space and signs of comments the installed
version has between their words. Of a long text only what is around the answer is read.
"""

from __future__ import annotations

import gzip
import re
import sysconfig
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from subprocess import PIPE, SubprocessError, run
from typing import Any

from tamis.probes.errors import BadInput

AROUND_CHARS = 2_000
"""Of a text on both sides of an answer."""
_MANUAL = {
    "PATH": "/usr/bin:/bin",
    "MANWIDTH": "90",
    "MAN_KEEP_FORMATTING": "",
    "LC_ALL": "C.UTF-8",
}
_OVERSTRUCK = re.compile(r".\x08")
_TIMEOUT_S = 60


def installed_rows(rows: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """The rows whose source is here and has their answer, each with its `text`, and how many others
    there are.

    Raises:
        BadInput: there is none at all.
    """
    found: list[dict[str, Any]] = []
    total = 0
    for row in rows:
        total += 1
        text = installed_text(row["source"]) or ""
        spans = [match.span() for part in row["answer"] if (match := _pattern(part).search(text))]
        if not spans or len(spans) < len(row["answer"]):
            continue
        first, last = _around(text, min(spans)[0], max(stop for _, stop in spans))
        answer = [text[start:stop] for start, stop in spans]
        found.append({**row, "file": row["source"], "answer": answer, "text": text[first:last]})
    if not found:
        raise BadInput(
            f"none of {total} questions has its source on this machine; install some of the "
            "packages that they name, such as zlib1g-dev of Debian or tqdm of PyPI"
        )
    return found, total - len(found)


@cache
def installed_text(source: str) -> str | None:
    """The text of a source, or None where it is not installed."""
    place, _, name = source.rpartition(":")
    try:
        if place == "pypi":
            return str(metadata.metadata(name)["Description"]).strip()
        if place == "man":
            page, _, section = name.rpartition(".")
            made = run(
                ["man", section, page], env=_MANUAL, stdout=PIPE, timeout=_TIMEOUT_S, check=True
            )
            return _OVERSTRUCK.sub("", made.stdout.decode())
        path = Path(sysconfig.get_paths()["stdlib"]) / name if place == "stdlib" else Path(source)
        raw = path.read_bytes()
        return (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
    except (OSError, UnicodeDecodeError, SubprocessError, metadata.PackageNotFoundError):
        return None


def _pattern(part: str) -> re.Pattern[str]:
    return re.compile(r"\s+(?:#\s+)*".join(map(re.escape, part.split())))


def _around(text: str, start: int, stop: int) -> tuple[int, int]:
    """The lines up to `AROUND_CHARS` before and after a span."""
    first = text.rfind("\n", 0, max(0, start - AROUND_CHARS)) + 1
    last = text.find("\n", min(len(text), stop + AROUND_CHARS))
    return first, len(text) if last < 0 else last
