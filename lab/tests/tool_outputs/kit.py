"""What the makers of outputs share: running a tool, labelling lines, naming things.

    a small project with planted faults ─ the real tool ─► text ─ patterns ─► labelled lines

A label is a half-open span of code points of the text: whole lines, or a JSON value.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MOST_LABELLED = 0.12
"""Labels above this share of the characters would leave nothing to choose at 20 %."""
LEAST_CHARACTERS, MOST_CHARACTERS = 3_000, 60_000
_PLAIN = {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "100", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r(?=\n)")
_WHOLE_LINES = {"rule": "lines"}

Span = tuple[int, int]


class BadMaker(Exception):
    """What a tool printed is not what its maker planted."""


@dataclass(frozen=True)
class Output:
    """One labelled output, in the form of its file."""

    id: str
    name: str
    arguments: str
    question: str | None
    text: str
    gold: list[Span]
    errors: list[Span]
    rules: list[dict[str, Any]] = field(default_factory=lambda: [_WHOLE_LINES])

    def record(self) -> dict[str, Any]:
        """The output as JSON."""
        return asdict(self)


def lines_of(text: str) -> Iterator[tuple[int, int, str]]:
    """Every line with its span, the line feed left out."""
    start = 0
    for line in text.split("\n"):
        yield start, start + len(line), line
        start += len(line) + 1


def label_lines(text: str, patterns: Iterable[str]) -> list[Span]:
    """Lines that a pattern matches, each text once.

    Raises:
        BadMaker: a pattern matches no line.
    """
    spans: dict[str, Span] = {}
    for pattern in patterns:
        found = [(a, b, line) for a, b, line in lines_of(text) if re.search(pattern, line)]
        if not found:
            raise BadMaker(f"no line matches {pattern!r} in:\n{text[-3000:]}")
        for a, b, line in found:
            spans.setdefault(line, (a, b))
    return sorted(spans.values())


def label_values(text: str, wanted: Callable[[Any], bool]) -> list[Span]:
    """JSON objects of a text that a predicate wants, outermost first; those within them are not.

    Raises:
        BadMaker: there is none.
    """
    decoder, spans, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        try:
            value, stop = decoder.raw_decode(text, at)
        except ValueError:
            at = text.find("{", at + 1)
            continue
        if wanted(value):
            spans.append((at, stop))
        at = text.find("{", stop if wanted(value) else at + 1)
    if not spans:
        raise BadMaker(f"no object is wanted in:\n{text[:500]}")
    return spans


def clean(text: str, places: Mapping[str, str]) -> str:
    """The text without escapes of a terminal, folders of this machine under usual names."""
    text = _ESCAPES.sub("", text)
    for place in sorted(places, key=len, reverse=True):
        text = text.replace(place, places[place])
    return text


class Workshop:
    """A folder for each project, and what its tools print."""

    def __init__(self, kind: str, root: Path, bins: Sequence[Path], seed: int) -> None:
        """`bins` are folders of programs that are looked into before the usual ones."""
        self.kind, self.root, self.seed, self.bins = kind, root / kind, seed, list(bins)
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True)
        self.outputs: list[Output] = []

    def rng(self, name: str) -> random.Random:
        """A generator that depends on the seed, the kind and a name alone."""
        return random.Random(f"{self.seed}:{self.kind}:{name}")

    def project(self, name: str, files: Mapping[str, str] = {}) -> Path:
        """A new folder with these files."""
        folder = self.root / name
        write_files(folder, files)
        return folder

    def run(
        self, command: str, folder: Path, env: Mapping[str, str] = {}, timeout_s: float = 300
    ) -> str:
        """What a shell command prints to both outputs, in the order of printing."""
        path = os.pathsep.join([*map(str, self.bins), os.environ["PATH"]])
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env={**os.environ, **_PLAIN, "PATH": path, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            check=False,
            timeout=timeout_s,
        )
        text = done.stdout.decode("utf-8", "replace")
        return clean(text, {str(folder): f"/home/dev/{folder.name}", **self._places()})

    def add(
        self,
        call: tuple[str, Mapping[str, Any]],
        question: str | None,
        text: str,
        gold: Sequence[str] | list[Span],
        errors: Sequence[str] = (),
        rules: Sequence[Mapping[str, Any]] = (_WHOLE_LINES,),
    ) -> None:
        """Labels a text and keeps it.

        Args:
            call: the tool's name and arguments.
            gold: patterns of lines, or spans. errors: patterns of lines that must not be lost.

        Raises:
            BadMaker: labels are missing, not unique, or too much of the text.
        """
        spans = label_lines(text, gold) if gold and isinstance(gold[0], str) else list(gold)
        output = Output(
            f"{self.kind}-{len(self.outputs):02}",
            call[0],
            json.dumps(call[1], ensure_ascii=False),
            question,
            text,
            spans,  # type: ignore[arg-type]
            label_lines(text, errors),
            [dict(rule) for rule in rules],
        )
        _check(output)
        self.outputs.append(output)

    def _places(self) -> dict[str, str]:
        home = Path.home()
        pythons = {str(path.parent): "/home/dev/.venv" for path in self.bins}
        pyenv = {str(p): "/usr" for p in (home / ".pyenv/versions").glob("*")}
        return {**pythons, **pyenv, str(self.root): "/home/dev", str(home): "/home/dev"}


def _check(output: Output) -> None:
    text, size = output.text, len(output.text)
    labels = sorted({*output.gold, *output.errors})
    share = sum(b - a for a, b in labels) / max(1, size)
    lines = text.count("\n")
    problems = {
        "nothing is gold": not output.gold,
        f"{share:.0%} is labelled": share > MOST_LABELLED,
        f"{lines} lines, {size} characters": size < LEAST_CHARACTERS or size > MOST_CHARACTERS,
        "a gold text is there twice": any(_copies(text, a, b) != 1 for a, b in output.gold),
    }
    if found := [problem for problem, there in problems.items() if there]:
        twice = [text[a:b] for a, b in output.gold if _copies(text, a, b) != 1]
        raise BadMaker(f"{output.id}: {'; '.join(found)} {twice[:3]}\n{text[:1500]}")


def _copies(text: str, start: int, stop: int) -> int:
    wanted = text[start:stop]
    if "\n" in wanted or not text.startswith("\n", stop):
        return text.count(wanted)
    return sum(line == wanted for line in text.split("\n"))


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Files by their path in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


def headers(rule: str, *patterns: str) -> dict[str, Any]:
    """A rule: each line stays under its header of every level, outermost first."""
    return {"rule": rule, "headers": list(patterns)}


def bash(command: str) -> tuple[str, dict[str, str]]:
    """A call of a shell tool."""
    return "bash", {"command": command}
