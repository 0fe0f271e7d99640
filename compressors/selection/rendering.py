"""Renders chosen units as text: verbatim inside a passage, titles and separators around it.

    context   passage  separator  passage  separator ...
    passage   [title \\n]  [citation ' ']  unit unit [' … '] unit

Adjacent units are written with the white space between them, so they read as they did. Where
something was left out between two units, the strongest break of what was left out is written (a
blank line, a line break, a blank), and the next unit keeps its indentation: a list, YAML or code
stays what it was, and text
from under another heading does not join the paragraph. The last unit ends where it is visible, and
so does the first begin, but for the indentation of what is not prose. Nothing is normalised.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from tamis.compressors.method import at_both_ends
from tamis.compressors.rules import Rules, parse_citation
from tamis.text.lines import line_starts
from tamis.text.types import KINDS, Passage, Unit


def render_whole(passages: Sequence[Passage], units: Sequence[Unit], rules: Rules) -> str:
    """The whole context: every passage's text unchanged, to its last blank, in the order given.

    Raises:
        BadInput: citations has an unknown field.
    """
    return Renderer(passages, units, rules).whole_text()


def render_without_citations(
    passages: Sequence[Passage], units: Sequence[Unit], rules: Rules
) -> str:
    """The whole context without citations, which the rules add: `Budget.ratio` is a share of this.

    Raises:
        BadInput: citations has an unknown field.
    """
    return render_whole(passages, units, replace(rules, citations=None))


class Renderer:
    """Passages and units, ready to be rendered in any selection.

    Args:
        ranking: passages, best first, for `rules.order`; without it they keep their order.
        arrangement: the indices of all passages in the order of the output, whatever `rules.order`
            is.
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
        self._citation = parse_citation(rules.citations or "")
        self._line_starts = line_starts(passages, units)
        self._first_unit: dict[int, int] = {}
        self._paragraph_ends: list[int] = []  # units with a blank line after them
        self._line_ends: list[int] = []  # units with a line break after them
        for u, unit in enumerate(units):
            self._first_unit.setdefault(unit.passage, u)
            if ends := self._space_after(u).count("\n"):
                self._line_ends.append(u)
                if ends > 1:
                    self._paragraph_ends.append(u)

    def text(self, chosen: Collection[int]) -> str:
        """The chosen units, in any order, joined: those of a passage in text order."""
        groups: dict[int, list[int]] = {}
        for u in sorted(set(chosen)):
            groups.setdefault(self.units[u].passage, []).append(u)
        order = self._order_passages(groups) if self.arrangement is None else self.arrangement
        shown = [passage for passage in order if passage in groups]
        texts = (self._render_passage(groups[passage]) for passage in shown)
        return self.rules.separator.join(text for text in texts if text)

    def whole_text(self) -> str:
        """Every passage that has any text, unchanged, after its title and citation."""
        prefixes = {passage: self._title_and_citation(u) for passage, u in self._first_unit.items()}
        texts = [passage.text for passage in self.passages]
        shown = (prefixes.get(i, "") + text for i, text in enumerate(texts) if text)
        return self.rules.separator.join(shown)

    def visible_text(self, u: int) -> str:
        """The text of a unit without the white space around it."""
        unit = self.units[u]
        return self.passages[unit.passage].text[slice(*unit.visible)]

    def text_with_space(self, u: int) -> str:
        """A unit with the white space before it, which subword tokenizers put into its word."""
        return self.space_before(u) + self.visible_text(u)

    def space_before(self, u: int) -> str:
        """The white space between a unit and the one before it in its passage."""
        unit = self.units[u]
        if self._first_unit[unit.passage] == u:
            return ""
        text = self.passages[unit.passage].text
        return self._space_after(u - 1) + text[unit.start : unit.visible[0]]

    def text_between(self, here: int, after: int) -> str:
        """The text between two units of a passage that follow each other in the output."""
        if after == here + 1:
            return self._space_after(here)
        if not self.rules.elision:
            return self._strongest_break(here, after)
        # a line break on either side of what was left out stays: "- a\n…\n- c"
        blanks = (self._space_after(here), self._space_after(after - 1))
        left, right = (blank if "\n" in blank else " " for blank in blanks)
        return f"{left}{self.rules.elision}{right}"

    def _strongest_break(self, here: int, after: int) -> str:
        """The strongest break between two units, and the indentation of the second."""
        last_space = self._space_after(after - 1)
        _, line_break, indentation = last_space.rpartition("\n")
        for breaks in (self._paragraph_ends, self._line_ends):
            at = bisect_left(breaks, here)
            if at < len(breaks) and breaks[at] < after:
                blank = self._space_after(breaks[at])
                return blank[: blank.rindex("\n") + 1] + (indentation if line_break else "")
        return self._space_after(here) or last_space

    def passage_prefix(self, u: int) -> str:
        """The text before a passage whose first chosen unit is `u`.

        A line with its title, a citation, and the unit's indentation if it is not prose.
        """
        unit = self.units[u]
        blanks, line = "", self._line_starts[u]
        at, stop = self.units[u - 1].visible if self._first_unit[unit.passage] < u else (0, 0)
        if KINDS[unit.kind].is_indented and stop <= max(at, line):  # no text before it on its line
            blanks = self.passages[unit.passage].text[line : unit.visible[0]]
        return self._title_and_citation(u) + (blanks if blanks.isspace() else "")

    def _title_and_citation(self, u: int) -> str:
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
            "unit": str(u - self._first_unit[unit.passage] + 1),
        }
        citation = "".join(literal + fields.get(field, "") for literal, field in self._citation)
        return f"{title}{citation} "

    def _order_passages(self, kept: Iterable[int]) -> list[int]:
        """The kept passages in the order of `rules.order`."""
        if not self._rank or self.rules.order == "original":
            return list(kept)
        ranked = sorted(kept, key=self._rank.__getitem__)
        return ranked if self.rules.order == "score" else at_both_ends(ranked)

    def _render_passage(self, chosen: Sequence[int]) -> str:
        """One passage after its prefix; empty if nothing of it is visible."""
        first, last = self.units[chosen[0]], self.units[chosen[-1]]
        text = self.passages[first.passage].text
        parts, start = [], first.visible[0]
        for here, after in pairwise(chosen):
            if after == here + 1 and self.units[here].stop == self.units[after].start:
                continue  # one slice of the input holds both
            parts += [text[start : self.units[here].visible[1]], self.text_between(here, after)]
            start = self.units[after].start
        body = "".join([*parts, text[start : last.visible[1]]])
        return self.passage_prefix(chosen[0]) + body if body else ""

    def _space_after(self, u: int) -> str:
        """The white space after a unit."""
        unit = self.units[u]
        return self.passages[unit.passage].text[unit.visible[1] : unit.stop]
