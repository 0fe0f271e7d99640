"""From chosen units back to text: verbatim inside a passage, headings and separators around it.

    context   passage  separator  passage  separator ...
    passage   [title \\n]  [citation ' ']  unit unit [' … '] unit

Units that touch are written with the white space between them, so they read as they did. Between
units with something left out stands the strongest break of what was left out (a blank line, a line,
a blank), and the next unit keeps its indentation: a list, YAML or code stays what it was, and text
from under another heading does not join the paragraph. The last unit ends where it is visible, and
so does the first begin, but for the indentation of what is not prose. Nothing is normalised.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from string import Formatter

from tamis.compressors.selection.order import at_both_ends
from tamis.compressors.types import Rules
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage, Unit

_FIELDS = ("doc", "id", "unit")
_PROSE = ("sentence", "heading")


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
    """The whole context: every passage as it came, to its last blank, in the order given.

    Raises:
        BadInput: citations has an unknown field.
    """
    return Sheet(passages, units, rules).whole()


def given(passages: Sequence[Passage], units: Sequence[Unit], rules: Rules) -> str:
    """The whole context without what the rules add to it: citations. What a budget is a share of.

    Raises:
        BadInput: citations has an unknown field.
    """
    return whole(passages, units, replace(rules, citations=None))


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
        self._paragraphs: list[int] = []  # units with a blank line behind them
        self._lines: list[int] = []  # and those with a line's end
        for u, unit in enumerate(units):
            self._first.setdefault(unit.passage, u)
            if ends := self._blank(u).count("\n"):
                self._lines.append(u)
                if ends > 1:
                    self._paragraphs.append(u)

    def text(self, chosen: Collection[int], order: Sequence[int] | None = None) -> str:
        """The chosen units, joined."""
        groups: dict[int, list[int]] = {}
        for u in sorted(set(chosen)):
            groups.setdefault(self.units[u].passage, []).append(u)
        order = self.arrangement if order is None else order
        shown = self._arranged(groups) if order is None else [p for p in order if p in groups]
        written = (self._written(groups[passage]) for passage in shown)
        return self.rules.separator.join(text for text in written if text)

    def whole(self) -> str:
        """Every passage that has any text, as it came, with what stands before it."""
        heads = {passage: self._head(u) for passage, u in self._first.items()}
        texts = [passage.text for passage in self.passages]
        shown = (heads.get(i, "") + text for i, text in enumerate(texts) if text)
        return self.rules.separator.join(shown)

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
        if after == here + 1:
            return self._blank(here)
        if not self.rules.elision:
            return self._gap(here, after)
        # a line break on either side of what was left out stays: "- a\n…\n- c"
        blanks = (self._blank(here), self._blank(after - 1))
        before, behind = (blank if "\n" in blank else " " for blank in blanks)
        return f"{before}{self.rules.elision}{behind}"

    def _gap(self, here: int, after: int) -> str:
        """The strongest break between two units, and the indentation of the second."""
        behind = self._blank(after - 1)
        for breaks in (self._paragraphs, self._lines):
            at = bisect_left(breaks, here)
            if at < len(breaks) and breaks[at] < after:
                blank, (_, line, indentation) = self._blank(breaks[at]), behind.rpartition("\n")
                return blank[: blank.rindex("\n") + 1] + (indentation if line else "")
        return self._blank(here) or behind

    def heading(self, u: int) -> str:
        """What stands before a passage whose first chosen unit is `u`.

        A line with its title, a citation, and the unit's indentation if it is not prose.
        """
        unit = self.units[u]
        text, at = self.passages[unit.passage].text, unit.visible[0]
        blanks = text[text.rfind("\n", 0, at) + 1 : at]
        indented = unit.kind not in _PROSE and blanks.isspace()
        return self._head(u) + (blanks if indented else "")

    def _head(self, u: int) -> str:
        """The title line and the citation of a passage whose first chosen unit is `u`."""
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
