"""Parts of what a tool printed: what is shown or left out as a whole, and how much it matters.

text      one string                                 nothing is stripped, normalised or dropped
parts     whole lines, or elements and members       parts of lines partition the text; between
          of JSON with the frame around them         those of JSON there are separators
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, NamedTuple

PartUnit = Literal["lines", "elements", "members", "rows", "entries", "characters"]
"""What the ordinals of an omission count."""
Place = Literal["line", "json_line", "element", "member", "string_line"]
"""How a marker is written where the part stood: as a line; as a line that is a JSON string; as an
element of a JSON array; as a member of an object; as a line within a JSON string."""


class Level(IntEnum):
    """How much a part matters whatever is asked; the lowest number goes first.

    `OUTCOME` to `DETAIL` are protected: they come before all that is scored.
    """

    OUTCOME = 0
    """The last word: exit status, `2 failed, 178 passed`, `BUILD FAILURE`."""
    MESSAGE = 1
    """What went wrong, once a failure: exception line, `E` line, `error[E0308]: ...`."""
    LOCATION = 2
    """Where: the frame in the caller's own code, `src/main.rs:3:5`."""
    DETAIL = 3
    """More of the same failure: further `E` lines, its line in the short summary."""
    CONTEXT = 4
    """What surrounds a failure: other frames, the line of source, the caret under it."""
    WARNING = 5
    ORDINARY = 6
    REPEATED = 7
    """A further one of a run of like lines: `178 PASSED`, progress, lines of a compiler."""


LAST_PROTECTED = Level.DETAIL


class Part(NamedTuple):
    """One part: its span `[start, stop)`, whole lines with their line ends or a JSON value.

    Attributes:
        level: how much it matters whatever is asked.
        unit: what `first` and `last` count, from 1. last: differs where a part is several lines.
        needs: indexes of the parts that are shown with it: the headers of its file, folder, table
            or test; the brackets around it.
        run: which run of like parts it belongs to, or -1.
        is_frame: shown only with others: a bracket, or a further piece of a part that is cut.
        turn: which of its failure's parts of its level it is: the first ones of all failures come
            before the second one of any.
        place: how a marker is written in its stead.
        is_entry: of JSON: an element, or a member of an object whose members are all objects, which
            are a list by name. Without it the list would look complete and would not be.
    """

    start: int
    stop: int
    first: int
    last: int
    level: Level = Level.ORDINARY
    unit: PartUnit = "lines"
    needs: tuple[int, ...] = ()
    run: int = -1
    is_frame: bool = False
    turn: int = 0
    place: Place = "line"
    is_entry: bool = False


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """What a tool printed, in parts in the order of the text.

    Attributes:
        format: `pytest`, `json`, `diff`, ...; `text` where nothing was recognised.
        runs: a description of each run of like parts, such as `PASSED`.
    """

    format: str
    parts: Sequence[Part]
    runs: Sequence[str] = ()
