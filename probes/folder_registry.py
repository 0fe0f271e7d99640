"""Registries that are folders: a file is an entry by its name, so there is no list to edit."""

from __future__ import annotations

import ast
import difflib
import importlib
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from tamis.probes.errors import UnknownMethod

Entry = TypeVar("Entry")
Info = TypeVar("Info")


class FolderRegistry(Generic[Entry, Info]):
    """The entries of one kind: a class each, in a file of the kind's folder.

    The last line of `readings/raw.py` is `Reading = Raw`: the entry `raw` of the kind "reading".
    `Raw.info` is written as one call with literals, because importing the file may take seconds,
    for torch. Files whose name begins with _ are no entries.

    Attributes:
        kind: what messages call an entry; the last line of its file says it with a capital.
        folder: where the files are listed.
    """

    def __init__(self, kind: str, place: str, info: type[Info]) -> None:
        """`place` is the folder below that of tamis, such as `probes/readings`."""
        self.kind, self._place, self._info = kind, place, info
        self.folder = Path(__file__).parents[1] / place

    def names(self) -> list[str]:
        """The names of all entries, in order."""
        return list(_file_names(self.folder, self.folder.stat().st_mtime_ns))

    def check(self, name: str) -> None:
        """Refuses what is not the name of an entry.

        Raises:
            UnknownMethod: with the nearest name there is.
        """
        known = self.names()
        if not isinstance(name, str):
            raise UnknownMethod(f"{self.kind} is {name!r:.80}; give one of {', '.join(known)}")
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise UnknownMethod(
                f"there is no {self.kind} {name!r}; {hint}there are: {', '.join(known)}"
            )

    def load(self, name: str) -> Entry:
        """The class of an entry; its file is imported.

        Raises:
            UnknownMethod: with the nearest name there is.
        """
        self.check(name)
        module = importlib.import_module(f"tamis.{self._place.replace('/', '.')}.{name}")
        found: Entry = getattr(module, self.kind.capitalize())
        return found

    def info(self, name: str) -> Info:
        """What an entry says of itself, from its source where that has it in literals.

        Raises:
            UnknownMethod: with the nearest name there is.
        """
        self.check(name)
        written = written_info(self.folder / f"{name}.py", self._info)
        if written is not None:
            return written
        entry: Any = self.load(name)
        found: Info = entry.info
        return found


@lru_cache(maxsize=16)
def _file_names(folder: Path, changed_ns: int) -> tuple[str, ...]:
    """Of the folder as it was changed last: a service asks for this with every request."""
    return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))


def written_info(file: Path, info: type[Info]) -> Info | None:
    """`Info("...", ...)` of a file, if it occurs once and is made of literals."""
    found: Info | None = _parse_info(file, file.stat().st_mtime_ns, info)  # type: ignore[arg-type]
    return found


@lru_cache(maxsize=256)
def _parse_info(file: Path, changed_ns: int, info: type[Any]) -> Any:
    """Of the file as it was changed last: parsing takes milliseconds."""
    calls = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == info.__name__
    ]
    if len(calls) != 1 or not all(isinstance(arg, ast.Constant) for arg in _arguments(calls[0])):
        return None
    given = {word.arg or "": ast.literal_eval(word.value) for word in calls[0].keywords}
    return info(*map(ast.literal_eval, calls[0].args), **given)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(word.value for word in call.keywords)]
