"""Parses a Dockerfile: its stages, their parents, and the files of its build context.

Only the instructions of the files in deploy/ are supported; anything else is refused by name, so
that no step is ever skipped silently.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

KNOWN = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE HEALTHCHECK RUN STOPSIGNAL USER WORKDIR".split()
)


class UnknownInstruction(Exception):
    """A line that is not supported."""


@dataclass(frozen=True, slots=True)
class Step:
    """One instruction: `RUN`, its flags (`network=none`), and the rest of the line."""

    verb: str
    flags: tuple[str, ...]
    rest: str

    def flag(self, name: str) -> str | None:
        """The value of a flag; the last one where it is repeated."""
        found = [f.partition("=")[2] for f in self.flags if f.partition("=")[0] == name]
        return found[-1] if found else None


@dataclass(slots=True)
class Stage:
    """A stage: its name, its parent stage or image, and its steps."""

    name: str
    parent: str
    steps: list[Step] = field(default_factory=list)

    @property
    def copied_stages(self) -> list[str]:
        """Stages that files are copied from."""
        return [s.flag("from") or "" for s in self.steps if s.verb == "COPY" and s.flag("from")]


def parse_stages(file: Path) -> dict[str, Stage]:
    """The stages of a Dockerfile by name, in order.

    Raises:
        UnknownInstruction: an instruction that is not in `KNOWN`, or a step before the first FROM.
    """
    found: dict[str, Stage] = {}
    for line in _lines(file.read_text("utf-8")):
        verb, _, rest = line.partition(" ")
        if verb == "FROM":
            parent, _, name = rest.partition(" AS ")
            found[name] = Stage(name, parent.strip())
        elif verb not in KNOWN or not found:
            raise UnknownInstruction(f"{file}: {line}")
        else:
            flags = re.match(r"(?:\s*--\S+)*", rest)
            assert flags is not None  # it matches the empty string
            given = tuple(flag.removeprefix("--") for flag in flags[0].split())
            last = found[next(reversed(found))]
            last.steps.append(Step(verb, given, rest[flags.end() :].strip()))
    return found


def _lines(text: str) -> Iterator[str]:
    """Lines with their continuations, without comments."""
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    for line in plain.replace("\\\n", " ").splitlines():
        if line.strip():
            yield re.sub(r"\s+", " ", line.strip()) if line.startswith("ENV") else line.strip()


def parse_assignments(rest: str) -> dict[str, str]:
    """`A=1 B="two words"` as a dictionary."""
    return dict(word.split("=", 1) for word in shlex.split(rest) if "=" in word)


def ignore_patterns(file: Path) -> list[str]:
    """The patterns of FILE.dockerignore, in order."""
    ignore_file = file.with_name(file.name + ".dockerignore")
    lines = ignore_file.read_text("utf-8").splitlines() if ignore_file.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether a file is left out of the context: the last matching pattern decides."""
    parts = path.split("/")
    ancestors = ["/".join(parts[: i + 1]) for i in range(len(parts))]
    out = False
    for pattern in patterns:
        bare = pattern.removeprefix("!").strip("/")
        tail = bare.removeprefix("**/")
        names = parts if bare != tail else []
        if any(_matches(p, bare) for p in ancestors) or any(fnmatchcase(n, tail) for n in names):
            out = not pattern.startswith("!")
    return out


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern matches this path; a star does not match a slash."""
    return path.count("/") == pattern.count("/") and fnmatchcase(path, pattern)


def context_files(root: Path, patterns: list[str]) -> list[str]:
    """The files of the context, relative to its root, sorted."""
    found: list[str] = []
    kept = [p[1:].strip("/") for p in patterns if p.startswith("!")]
    for home, folders, files in os.walk(root):
        base = Path(home).relative_to(root).as_posix()
        below = "" if base == "." else f"{base}/"
        folders[:] = [
            name
            for name in folders
            # below an ignored folder only files named by a later pattern are included
            if not is_ignored(below + name, patterns)
            or any(f"{one}/".startswith(f"{below}{name}/") for one in kept)
        ]
        found += [below + name for name in files if not is_ignored(below + name, patterns)]
    return sorted(found)


def files_digest(root: Path, files: list[str]) -> str:
    """SHA-256 of names and contents."""
    sha = hashlib.sha256()
    for name in files:
        path = root / name
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        sha.update(f"{name}\0{len(data)}\0".encode() + data)
    return sha.hexdigest()
