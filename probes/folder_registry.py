"""Registries that are folders: a file is an entry by its name, so there is no list to edit.

What an entry says of itself is read from its source: to import one may take seconds, for torch.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from tamis.probes.errors import UnknownMethod

Info = TypeVar("Info")


def entry_names(folder: Path) -> list[str]:
    """The names of the entries in a folder, in order; files whose name begins with _ are none."""
    return list(_file_names(folder, folder.stat().st_mtime_ns))


@lru_cache(maxsize=16)
def _file_names(folder: Path, changed_ns: int) -> tuple[str, ...]:
    """Of the folder as it was changed last: a service asks for this with every request."""
    return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))


def check_entry(kind: str, name: str, known: Sequence[str]) -> None:
    """Refuses a name that is not known.

    Args:
        kind: what messages call an entry, such as "method".

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no {kind} {name!r}; {hint}there are: {', '.join(known)}")


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
