"""What a heading or a table's header heads, and which of them stand over nothing that is kept."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

from tamis.probes.text import Unit


class Sections:
    """Headings and table headers, each with the units that it heads.

    A heading heads all up to the next heading with text between: of a title with a subtitle right
    below, both head the text that follows. A table's header heads its rows.

    Attributes:
        headers: for each table row, the header above it with only rows between.
    """

    def __init__(self, units: Sequence[Unit]) -> None:
        self._stops = _headed(units)
        self._tables: dict[int, int] = {}
        self.headers: dict[int, int] = {}
        header: int | None = None
        for u, unit in enumerate(units):
            if header is not None and unit.passage != units[header].passage:
                header = None
            if unit.kind == "table_header":
                header = u
                self._tables[u] = u + 1
            elif header is not None and unit.kind == "table_row":
                self.headers[u], self._tables[header] = header, u + 1
            else:
                header = None

    def __contains__(self, u: int) -> bool:
        return u in self._stops or u in self._tables

    def of(self, u: int) -> range:
        """The units that a heading or a header heads."""
        return range(u + 1, self._stops.get(u) or self._tables[u])

    def alone(self, held: Collection[int], asked: Iterable[int] | None = None) -> set[int]:
        """Which headings and headers of `asked`, or of `held`, have nothing of theirs in `held`."""
        asked = held if asked is None else set(asked)
        rows = sorted(u for u in held if u in self.headers)
        lost = {u for u in asked if u in self._tables and not self._any(rows, u)}
        text = sorted(u for u in held if u not in self._stops and u not in lost)
        return lost | {u for u in asked if u in self._stops and not self._any(text, u)}

    def _any(self, ordered: Sequence[int], u: int) -> bool:
        headed = self.of(u)
        at = bisect_left(ordered, headed.start)
        return at < len(ordered) and ordered[at] < headed.stop


def _headed(units: Sequence[Unit]) -> dict[int, int]:
    """For each heading, where what it heads ends."""
    stops: dict[int, int] = {}
    over: list[int] = []  # headings whose section goes on
    for u, unit in enumerate(units):
        starts = unit.kind == "heading"
        if over and (unit.passage != units[u - 1].passage or (starts and over[-1] != u - 1)):
            stops |= dict.fromkeys(over, u)
            over = []
        if starts:
            over.append(u)
    return stops | dict.fromkeys(over, len(units))
