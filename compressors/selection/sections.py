"""What a unit is not shown without: a table's header, a lead-in; and which headings stand alone."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence

from tamis.probes.text import Passage, Unit

# a value is of no use without the name that stands before it
_VALUE = re.compile(
    r"[-*\s(]*(?:Defaults? to\b|Defaults?:|The default is\b|Default value\b)", re.IGNORECASE
)


class Sections:
    """Headings and table headers, each with the units below it.

    Below a heading are all units up to the next heading with text between: of a title and a
    subtitle right after it, both are above the text that follows. Below a table's header are its
    rows.

    Attributes:
        leads: for each table row, the header above it, with nothing but rows between; for the first
            piece of code after a line that ends with a colon, that line; for a default value, the
            nearest unit before it that is none, which names what it is a value of.
    """

    def __init__(self, units: Sequence[Unit], passages: Sequence[Passage] = ()) -> None:
        self._section_stops = _section_stops(units)
        self._table_stops: dict[int, int] = {}
        self.leads: dict[int, int] = _lead_ins(units, passages) if passages else {}
        self._rows: set[int] = set()
        header: int | None = None
        for u, unit in enumerate(units):
            if header is not None and unit.passage != units[header].passage:
                header = None
            if unit.kind == "table_header":
                header = u
                self._table_stops[u] = u + 1
            elif header is not None and unit.kind == "table_row":
                self.leads[u], self._table_stops[header] = header, u + 1
                self._rows.add(u)
            else:
                header = None

    def __contains__(self, u: int) -> bool:
        return u in self._section_stops or u in self._table_stops

    def units_below(self, u: int) -> range:
        """The units below a heading or a header."""
        return range(u + 1, self._section_stops.get(u) or self._table_stops[u])

    def without_content(
        self, kept_units: Collection[int], candidates: Iterable[int] | None = None
    ) -> set[int]:
        """The headings and headers with no kept unit below them.

        Args:
            candidates: the units to check; None for the kept ones.
        """
        candidates = kept_units if candidates is None else set(candidates)
        rows = sorted(u for u in kept_units if u in self._rows)
        tables = {u for u in candidates if u in self._table_stops and not self._has_below(u, rows)}
        text = sorted(u for u in kept_units if u not in self._section_stops and u not in tables)
        headings = {
            u for u in candidates if u in self._section_stops and not self._has_below(u, text)
        }
        return tables | headings

    def _has_below(self, u: int, ordered: Sequence[int]) -> bool:
        """Whether one of some units, in ascending order, is below a heading or a header."""
        below = self.units_below(u)
        at = bisect_left(ordered, below.start)
        return at < len(ordered) and ordered[at] < below.stop


def _lead_ins(units: Sequence[Unit], passages: Sequence[Passage]) -> dict[int, int]:
    """For code the line that introduces it, for a default value the unit that it is of.

    That is the unit before it or, where default values follow each other, before the first.
    """
    leads: dict[int, int] = {}
    last_valued = -1
    for u in range(1, len(units)):
        before, unit = units[u - 1], units[u]
        if before.passage != unit.passage:
            continue
        text = passages[unit.passage].text
        is_code = unit.kind == "code" and before.kind != "code"
        introduced = is_code and text[slice(*before.visible)].endswith((":", "："))
        valued = unit.kind in ("sentence", "list_item", "html") and _VALUE.match(
            text, *unit.visible
        )
        if introduced or (valued and before.kind != "table_row" and last_valued != u - 1):
            leads[u] = u - 1
        elif valued and u - 1 in leads:
            leads[u] = leads[u - 1]
        if valued:
            last_valued = u
    return leads


def _section_stops(units: Sequence[Unit]) -> dict[int, int]:
    """For each heading, the end of the units below it."""
    stops: dict[int, int] = {}
    open_headings: list[int] = []  # their sections go on
    for u, unit in enumerate(units):
        starts = unit.kind == "heading"
        if open_headings and (
            unit.passage != units[u - 1].passage or (starts and open_headings[-1] != u - 1)
        ):
            stops |= dict.fromkeys(open_headings, u)
            open_headings = []
        if starts:
            open_headings.append(u)
    return stops | dict.fromkeys(open_headings, len(units))
