"""The folder is the registry: a file in `readings/` is a reading, named `Reading = TheClass`."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import BadInput, UnknownMethod
from tamis.probes.window_attention.info import ReadingInfo

if TYPE_CHECKING:
    from tamis.probes.window_attention.contract import Reading

FOLDER = Path(__file__).parents[1] / "readings"


def reading_names() -> list[str]:
    """The names of all readings."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


def reading_class(name: str) -> type[Reading]:
    """The class of a reading.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    _check_name(name)
    found: type[Reading] = importlib.import_module(f"tamis.probes.readings.{name}").Reading
    return found


def reading_info(name: str) -> ReadingInfo:
    """What a reading is and where it comes from, read from its source.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    _check_name(name)
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text("utf8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "ReadingInfo":
            words = [word for word in node.args if isinstance(word, ast.Constant)]
            return ReadingInfo(*(str(word.value) for word in words))
    return reading_class(name).info


def build_reading(name: str, reader: Any, **options: Any) -> Reading:
    """A reading by a proxy.

    Raises:
        UnknownMethod: no such reading. BadInput: an option that it does not have.
    """
    kind = reading_class(name)
    known = set(inspect.signature(kind).parameters) - {"reader"}
    if unknown := sorted(set(options) - known):
        raise BadInput(f"{name} has no option {unknown}; its options are {sorted(known) or 'none'}")
    return kind(reader, **options)


def _check_name(name: str) -> None:
    if name not in (known := reading_names()):
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no reading {name!r}; {hint}there are: {', '.join(known)}")
