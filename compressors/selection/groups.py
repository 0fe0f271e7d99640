"""Which units belong together, so that what is kept answers by itself.

    lead      what is below it                                  shown with its lead
    heading   all up to the next heading of its level           lists, tables and headings, if short
    header    the rows of its table                             always
    lead-in   the list, code, table or paragraph after a colon  always; a paragraph's if short
    entry     its further lines, the next cells of a row        always; of a long one if short
    fence     its code, and the fence that closes it            always
    key       the lines nested in it                            always, or they are not shown

A lead says nothing by itself: it is kept for what is below it, and that inherits a share of its
worth, for the choice alone. Figures of each relation, and of the many that brought nothing on
documents of others: lab/log/evidence.md#2026-12-02-each-relation-taken-out.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Literal
from unicodedata import category

from tamis.probes.interruption import check_interruption
from tamis.text.lines import INTRODUCES
from tamis.text.readers.code import FENCE, is_open_key, key_parents
from tamis.text.readers.markdown import begins_entry, heading_levels
from tamis.text.types import KINDS, Passage, Unit

Lead = Literal["heading", "header", "lead_in", "key", "fence"]

LEAD_SHARE, LEAST_OF_IT = 0.9, 0.5
"""What the best unit below a lead has of its worth, and of that what the worst has at least."""
_INTRODUCES = re.compile(rf"[{''.join(INTRODUCES)}][*_\"'”’»)\]`\s]*$")
_END_CHARS, _SHORT_CHARS = 16, 60
_BARE_TAGS = re.compile(r"(?:<(?:/?[\w-]+\s?|!DOCTYPE\b[^<>]{0,200})>\s*)+", re.IGNORECASE)
_MOST_LEADS = 12
"""The nearest leads that count: of an outline each line may lead to all that follow."""


class Groups:
    """The lead of each unit, and what is below each lead.

    Attributes:
        parents: the lead of each unit, or -1. bonds: whether it is shown with it: 3 always, 2 where
            both fit, 1 where it is short, 0 no.
        kinds: of the units that have others below them. stops: the end of what is below each lead
            that says nothing by itself, which begins right after it.
        closings: the fence that closes each.
        vain: units without content: rules of tables, bare tags, fences.
    """

    def __init__(self, units: Sequence[Unit], passages: Sequence[Passage] = ()) -> None:
        self._units, self._passages = units, passages
        self._texts = [
            passages[unit.passage].text[slice(*unit.visible)] if passages else "" for unit in units
        ]
        self.parents, self.bonds = [-1] * len(units), [0] * len(units)
        self.kinds: dict[int, Lead] = {}
        self.stops: dict[int, int] = {}
        self.vain = {u for u in range(len(units)) if passages and self._is_bare(u)}
        self._levels = self._find_levels()
        self.closings = self._find_closings()
        self._keys = self._find_keys()
        bare = {
            u for u in self._keys.values() if all(map(is_open_key, self._texts[u].splitlines()))
        }
        open_leads: list[int] = []
        for u in range(len(units)):
            check_interruption()
            while open_leads and self._ends(open_leads[-1], u):
                self._close(open_leads.pop(), u)
            if u in self._keys:
                self.parents[u], self.bonds[u] = self._keys[u], 3
            else:
                self.parents[u] = open_leads[-1] if open_leads else -1
                self.bonds[u] = self._bond(u)
            if u in bare or u in self.closings:
                self.kinds[u] = "key" if u in bare else "fence"
                open_leads.append(u)
            elif (head := self._head_of_piece(u)) >= 0:
                inside = "\n" not in self._gap(u)
                is_long = inside or len(self._texts[head]) > _SHORT_CHARS
                self.parents[u], self.bonds[u] = head, 1 if is_long else 2
            elif (kind := self._lead_kind(u)) is not None:
                self.kinds[u] = kind
                open_leads.append(u)
        while open_leads:
            self._close(open_leads.pop(), len(units))

    def __contains__(self, u: int) -> bool:
        """Whether a unit is a lead, which says nothing by itself."""
        return u in self.stops

    def ancestors(self, u: int) -> list[int]:
        """The lead of a unit, that one's lead, and so on."""
        found = list[int]()
        # keys have no limit: text cannot be nested deeper than it is long
        while self.parents[u] >= 0 and (self.bonds[u] == 3 or len(found) < _MOST_LEADS):
            found.append(u := self.parents[u])
        return found

    def shown_with(self, u: int) -> list[tuple[int, int]]:
        """The leads that a unit is shown with, the nearest first, each with its bond, and a fence
        with the one that closes it.

        What is beyond one that is shown if it is short has no stronger bond.
        """
        found, bond = [(self.closings[u], 3)] if u in self.closings else [], 3
        for lead in self.ancestors(u):
            if not (bond := min(bond, self.bonds[u])):
                break
            found += ((v, bond) for v in (lead, self.closings.get(lead, u)) if v != u)
            u = lead
        return found

    def worths(self, values: Sequence[float], calibrated: bool) -> list[float]:
        """What each unit is worth to the choice: its value, or what it has of its lead's.

        Values that are no probabilities are first scaled, the lowest to 0 and the best to 1.
        """
        low, high = (0.0, 1.0) if calibrated or not values else (min(values), max(values))
        own = [(value - low) / (high - low) if high > low else 1.0 for value in values]
        best: dict[int, float] = {}  # below each lead
        for u, worth in enumerate(own):
            if u not in self.stops:
                for lead in self.ancestors(u):
                    best[lead] = max(best.get(lead, 0.0), worth)
        worths = list(own)
        for u, lead in enumerate(self.parents):
            check_interruption()
            if lead >= 0:
                mine = best.get(u, own[u]) if u in self.stops else own[u]
                of_best = math.sqrt(mine / best[lead]) if best.get(lead) else 1.0
                share = LEAD_SHARE * (LEAST_OF_IT + (1 - LEAST_OF_IT) * of_best)
                worths[u] = max(worths[u], share * worths[lead])
        return worths

    def _find_levels(self) -> dict[int, int]:
        """The levels of headings, passage by passage."""
        marked = [u for u, unit in enumerate(self._units) if unit.kind == "heading"]
        found: dict[int, int] = {}
        for _, group in groupby(marked, key=lambda u: self._units[u].passage):
            members = list(group)
            texts = [self._texts[u] for u in members]
            found |= zip(members, heading_levels(texts), strict=True)
        return found

    def _find_keys(self) -> dict[int, int]:
        """The units of configuration that are nested in a key, each with the unit that has it."""
        found: dict[int, int] = {}
        everything = range(len(self._units))
        for (_, kind), run in groupby(
            everything, key=lambda u: (self._units[u].passage, self._units[u].kind)
        ):
            if kind != "code":
                continue
            lines = [
                (u, row)
                for u in run
                for row in f"{' ' * self._indent(u)}{self._texts[u]}".splitlines()
            ]
            for (u, _), up in zip(lines, key_parents([row for _, row in lines]), strict=False):
                if up >= 0 and lines[up][0] != u:
                    found.setdefault(u, lines[up][0])
        return found

    def _find_closings(self) -> dict[int, int]:
        """The fences that are units of their own, each with the one that closes it."""
        found: dict[int, int] = {}
        opened: tuple[int, str] | None = None
        for u, unit in enumerate(self._units):
            if unit.kind != "code" or (opened and unit.passage != self._units[opened[0]].passage):
                opened = None
            if (fence := self._fence(u)) is None:
                continue
            if opened is None:
                opened = u, fence[1]
            elif fence[1].startswith(opened[1]) and not fence[2].strip():
                found[opened[0]] = u
                opened = None
        return found

    def _fence(self, u: int) -> re.Match[str] | None:
        """The fence that a unit is, if it is one."""
        text = self._texts[u].strip("> \r\n") if self._units[u].kind == "code" else ""
        return FENCE.match(text) if text and "\n" not in text else None

    def _lead_kind(self, u: int) -> Lead | None:
        """What a unit is to those after it, if it is anything to them."""
        unit = self._units[u]
        if unit.kind == "table_header":
            return "header"
        if u in self._levels:
            return "heading"
        is_last = u + 1 == len(self._units) or self._units[u + 1].passage != unit.passage
        if is_last or unit.kind not in ("sentence", "list_item", "html"):
            return None
        return "lead_in" if _INTRODUCES.search(self._texts[u][-_END_CHARS:]) else None

    def _close(self, lead: int, stop: int) -> None:
        if self.kinds[lead] != "lead_in" or stop > lead + 1:
            self.stops[lead] = stop

    def _ends(self, lead: int, u: int) -> bool:
        """Whether what is below a lead ends before a unit."""
        unit, kind = self._units[u], self.kinds[lead]
        if unit.passage != self._units[lead].passage:
            return True
        if kind == "key":
            while u > lead:
                u = self._keys.get(u, -1)
            return u != lead
        if kind == "fence":
            return u > self.closings[lead]
        if u in self._levels:
            return kind != "heading" or self._levels[u] <= self._levels[lead]
        if kind != "lead_in":
            return kind == "header" and unit.kind != "table_row"
        if self._units[lead].kind == unit.kind == "list_item":
            return self._indent(u) <= self._indent(lead)
        if u == lead + 1:
            return False
        first = self._units[lead + 1].kind
        if first == "table_header":
            return unit.kind not in (first, "table_row")
        is_apart = not KINDS[first].is_listed and self._gap(u).count("\n") > 1
        return first == "html" or unit.kind != first or is_apart

    def _bond(self, u: int) -> int:
        """Whether a unit is shown with its lead."""
        lead = self.parents[u]
        kind = self.kinds.get(lead)
        if kind is None or (not self._passages and kind != "header"):
            return 0
        if kind in ("header", "fence"):
            return 2 + (u == self.closings.get(lead))
        if kind == "lead_in":
            first = self._units[lead + 1].kind
            return 2 if KINDS[first].is_listed or first == "table_header" else 1
        is_title = self._levels[lead] == 1 and self.parents[lead] < 0
        listed = self._units[u].kind in ("list_item", "table_header", "heading")
        return int(not is_title and (listed or "<li" in self._texts[u][:_END_CHARS]))

    def _head_of_piece(self, u: int) -> int:
        """The unit that one goes on with: an entry that was cut or has several lines, a row that
        was cut; -1 for what begins by itself."""
        unit, before = self._units[u], self._units[u - 1] if u else None
        same = before is not None and (before.passage, before.kind) == (unit.passage, unit.kind)
        if not (same and self._passages) or unit.kind not in ("entry", "table_row"):
            return -1
        head = u - 1
        while (up := self.parents[head]) >= 0 and self._units[up].kind == unit.kind:
            head = up
        inside = "\n" not in self._gap(u)
        if unit.kind == "table_row":
            return head if inside else -1
        return head if inside or not begins_entry(self._texts[u], self._texts[head]) else -1

    def _is_bare(self, u: int) -> bool:
        """Whether a unit has signs or tags alone, and no letter, digit or pictograph."""
        kind, text = self._units[u].kind, self._texts[u]
        if kind == "html":
            return _BARE_TAGS.fullmatch(text) is not None
        if kind == "code":
            return self._fence(u) is not None
        return not any(char.isalnum() or category(char) == "So" for char in text)

    def _gap(self, u: int) -> str:
        """The white space before a unit, from the visible end of the one before."""
        unit, before = self._units[u], self._units[u - 1] if u else None
        start = before.visible[1] if before and before.passage == unit.passage else 0
        return self._passages[unit.passage].text[start : unit.visible[0]] if self._passages else ""

    def _indent(self, u: int) -> int:
        return len(self._gap(u).rpartition("\n")[2])
