"""From chosen units back to text: verbatim inside a passage, headings and separators around it.

    context   passage  separator  passage  separator ...
    passage   [title \\n]  [citation ' ']  unit unit [' … '] unit

A unit is written with the white space that follows it in its passage, so units that touch read as
they did. The first starts and the last ends where it is visible. Nothing is stripped or normalised.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from string import Formatter

from tamis.compressors._order import at_both_ends
from tamis.compressors._types import Rules
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit

_FIELDS = ("doc", "id", "unit")


def render(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    chosen: Collection[int],
    rules: Rules,
    order: Sequence[int] | None = None,
) -> str:
    """The text of the chosen units.

    Args:
        passages: the input.
        units: all units of all passages, passage by passage, in text order.
        chosen: indices into `units`, in any order.
        rules: separator, elision, citations and titles are read; `rules.order` needs scores and is
            not, give `order` instead.
        order: indices of passages as they shall follow each other; None for as given.

    Raises:
        BadInput: `order` lacks a passage with chosen units, or citations has an unknown field.
    """
    if order is not None and (lost := {units[u].passage for u in chosen} - set(order)):
        raise BadInput(
            f"order names {len(order)} passages and lacks {len(lost)} with chosen units, "
            f"the first is {min(lost)}; name every passage that shall be shown"
        )
    return Sheet(passages, units, rules).text(chosen, order)


def whole(passages: Sequence[Passage], units: Sequence[Unit], rules: Rules) -> str:
    """The whole context, rendered like a selection of all units in the order given.

    Raises:
        BadInput: citations has an unknown field.
    """
    return Sheet(passages, units, rules).text(range(len(units)))


class Sheet:
    """Passages and units, ready to be written out in any selection.

    Args:
        ranking: passages, best first: what `rules.order` goes by. Without it they stay as given.
        arrangement: every passage, as they shall follow each other, whatever `rules.order` says.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        rules: Rules,
        ranking: Sequence[int] = (),
        arrangement: Sequence[int] | None = None,
    ) -> None:
        self.passages, self.units, self.rules = passages, units, rules
        self.arrangement = arrangement
        self._rank = {passage: rank for rank, passage in enumerate(ranking)}
        self._citation = _parsed(rules.citations or "")
        self._first: dict[int, int] = {}
        for u, unit in enumerate(units):
            self._first.setdefault(unit.passage, u)

    def text(self, chosen: Collection[int], order: Sequence[int] | None = None) -> str:
        """The chosen units, joined."""
        groups: dict[int, list[int]] = {}
        for u in sorted(set(chosen)):
            groups.setdefault(self.units[u].passage, []).append(u)
        order = self.arrangement if order is None else order
        shown = self._arranged(groups) if order is None else [p for p in order if p in groups]
        written = (self._written(groups[passage]) for passage in shown)
        return self.rules.separator.join(text for text in written if text)

    def visible(self, u: int) -> str:
        """The text of a unit without the white space around it."""
        unit = self.units[u]
        return self.passages[unit.passage].text[slice(*unit.visible)]

    def piece(self, u: int) -> str:
        """A unit with the white space before it, which subword tokenizers put into its word."""
        return self.lead(u) + self.visible(u)

    def lead(self, u: int) -> str:
        """The white space between a unit and the one before it in its passage."""
        unit = self.units[u]
        if self._first[unit.passage] == u:
            return ""
        text = self.passages[unit.passage].text
        return self._blank(u - 1) + text[unit.start : unit.visible[0]]

    def joint(self, here: int, after: int) -> str:
        """What stands between two units of a passage that follow each other in the output."""
        blank = self._blank(here)
        if after == here + 1 or not self.rules.elision:
            return blank
        # a line break on either side of what was left out stays: "- a\n…\n- c"
        before, behind = (s if "\n" in s else " " for s in (blank, self._blank(after - 1)))
        return f"{before}{self.rules.elision}{behind}"

    def heading(self, u: int) -> str:
        """What stands before a passage whose first chosen unit is `u`: title line and citation."""
        unit = self.units[u]
        passage = self.passages[unit.passage]
        title = f"{passage.title}\n" if self.rules.titles and passage.title else ""
        if not self._citation:
            return title
        place = str(unit.passage + 1)
        fields = {
            "doc": place,
            "id": passage.id or place,
            "unit": str(u - self._first[unit.passage] + 1),
        }
        cited = "".join(literal + fields.get(field, "") for literal, field in self._citation)
        return f"{title}{cited} "

    def _arranged(self, kept: Iterable[int]) -> list[int]:
        """The kept passages in the order that the rules ask for."""
        if not self._rank or self.rules.order == "original":
            return list(kept)
        ranked = sorted(kept, key=self._rank.__getitem__)
        return ranked if self.rules.order == "score" else at_both_ends(ranked)

    def _written(self, chosen: Sequence[int]) -> str:
        """One passage with its heading; empty if nothing of it is visible."""
        first, last = self.units[chosen[0]], self.units[chosen[-1]]
        text = self.passages[first.passage].text
        parts, start = [], first.visible[0]
        for here, after in pairwise(chosen):
            parts += [text[start : self.units[here].visible[1]], self.joint(here, after)]
            start = self.units[after].start
        body = "".join([*parts, text[start : last.visible[1]]])
        return self.heading(chosen[0]) + body if body else ""

    def _blank(self, u: int) -> str:
        """The white space behind a unit."""
        unit = self.units[u]
        return self.passages[unit.passage].text[unit.visible[1] : unit.stop]


def _parsed(citations: str) -> list[tuple[str, str]]:
    """A citation as literals, each with the field that follows it.

    Only parsed, never `str.format`ted: `{id.__class__}` would reach into the process.
    """
    way_out = "use {doc}, {id} and {unit}, without attributes or formats; write {{ for a brace"
    try:
        parts = list(Formatter().parse(citations))
    except ValueError as error:
        raise BadInput(f"citations is {citations!r} ({error}); {way_out}") from error
    for _, field, spec, conversion in parts:
        if field is not None and (field not in _FIELDS or spec or conversion):
            raise BadInput(f"citations is {citations!r} and {field!r} is no field; {way_out}")
    return [(literal, field or "") for literal, field, _, _ in parts]
