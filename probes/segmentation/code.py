"""Source code: what looks like it, and where it is cut.

A piece is what can be read alone: a definition with the decorators and the comment above it, a
paragraph of statements, else some whole lines. Offsets of lines are half-open, as all others.

listing     [0, a) [a, b) ... [z, n)          paragraphs and definitions at the margin
definition  [a, m) [m, o) ... [y, b)          where it is long: its head with the first lines of its
                                              body, then its methods or paragraphs, and so inwards
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from itertools import pairwise

from tamis.probes.segmentation.lines import Lines, Mark, lines_of

CODE_CHARS = 400
"""Code up to this length stays whole; so does a member of JSON or a key of YAML with what it holds.

About ten lines and 130 tokens: a fence up to this length is whole (97 % of those in FastAPI's
handbook), and so are two in three of its functions. Half as much would leave one function in three
whole; thrice as much is a piece that no budget of a hundred tokens can hold.
"""
LINE_CHARS = 1_200  # a line is a statement, and stays whole up to this length
_LEVELS = 12  # deeper code is cut at lines: so much nesting has no reader, and costs time

FENCE = re.compile(r"\s*(`{3,}+|~{3,}+)([^`]*)$")
_CODE_END = ("{", "}", ";", ":", ")", ",", "(", "[", "]")
_CODE_START = re.compile(
    r"\s*(?:def|class|import|from|return|async|await|raise|assert|with|elif|else:|try:|except|package|using|public"
    r"|private|static|func|fn|let|const|var|struct|enum|#include|#|//|/\*|@\w)(?:\b|\s|$)|\s*\"\"\""
)
_CODE_FORM = re.compile(
    r"[\w\])] ?[-+*/]?= ?[\w\"'\[({]|\w\(|^\s*[{}\])]+[;,]?$|^\s*@\w|[{;]$"
    r"|^\s*(?:def|class|import|from \S+ import) ?"
)
_DEFINITION = re.compile(
    r"\s*(?:(?:async )?def \w+\(|class \w+[(:{ ]|import \w|from \S+ import |func \w|#include )"
)
_DEFINITION_AT_MARGIN = re.compile(
    r"(?:(?:export|default|public|private|protected|internal|static|final|abstract|async|unsafe"
    r"|pub(?:\([^)]{1,20}\))?|override|virtual|extern) )*"
    r"(?:def|class|function|fn|func|fun|struct|enum|interface|trait|impl|module|namespace|sub"
    r"|CREATE|create)\b\*? ?[\w(<]"
)
_INTRODUCTION_SIGNS = ("@", "#", "//", "/*", "*", "--", ";")
_CONTINUES = re.compile(
    r"[)}\]]|(?:else|elif|except|finally|catch|rescue|ensure|end|fi|done|esac|then|do)\b"
    r"|\.\w|&&|\|\|?|</|%>"
)
_OPEN = ("", *",[{(:;}")


def code_marks(text: str) -> list[Mark]:
    """The pieces of a source file, or none if the text does not look like one."""
    lines = lines_of(text)
    if not _is_code([row for row in lines.rows if row]):
        return []
    return [(lines.starts[line], "code") for line in listing_cuts(lines, 0, len(lines.rows))]


def _is_code(rows: Sequence[str]) -> bool:
    """Whether lines, none empty, are source code.

    They are if the first begins as code does and three define or import something (docstrings may
    hold most of the text), or if three in five begin or end as code does and one in three has a
    call, an assignment or a brace. A fence at the margin says Markdown.
    """
    if len(rows) < 3 or any(row[0] in "`~" and FENCE.match(row) for row in rows):
        return False
    if _CODE_START.match(rows[0]) and sum(_DEFINITION.match(row) is not None for row in rows) >= 3:
        return True
    edges = sum(row.endswith(_CODE_END) or _CODE_START.match(row) is not None for row in rows)
    forms = sum(_CODE_FORM.search(row) is not None for row in rows)
    return 5 * edges >= 3 * len(rows) and 3 * forms >= len(rows)


def fence_cuts(lines: Lines, at: int, after: int) -> Iterator[int]:
    """The lines where the pieces of a block `[at, after)` begin, whose first line is no code.

    A fence goes with the first piece, and one that closes the block with the last.
    """
    yield at
    closed = after - at > 1 and FENCE.match(lines.rows[after - 1]) is not None
    first, last = at + 1, after - closed
    if lines.count_chars(at, after) > CODE_CHARS and first < last:
        yield from listing_cuts(lines, first, last)[1:]


def listing_cuts(lines: Lines, first: int, last: int) -> list[int]:
    """The lines of `[first, last)` where pieces of code begin, ascending.

    At the margin behind each blank line and before each definition, and within what is long.
    """
    return list(Listing(lines, first, last, _is_definition).cut_lines())


def _is_definition(said: str, holds: bool) -> bool:
    return _DEFINITION_AT_MARGIN.match(said) is not None


def _is_introduction(said: str) -> bool:
    """Whether a line belongs to the one below: a comment, a decorator, '[section]'."""
    return said.startswith(_INTRODUCTION_SIGNS) or (said[0] == "[" and said[-1] == "]" and len(said) > 2)


class Listing:
    """The lines of one listing that say something, and how they hang together.

    Blank lines are left out: i is a line's place among the others, `at[i]` its place in the text.

    Args:
        alone: whether a statement is joined to none beside it, by what its line says, and by
            whether the line below is indented deeper.
    """

    def __init__(
        self, lines: Lines, first: int, last: int, is_standalone: Callable[[str, bool], bool]
    ) -> None:
        self._lines = lines
        self.line_numbers = [line for line in range(first, last) if lines.rows[line]]
        self.texts = [lines.rows[line].lstrip() for line in self.line_numbers]
        self.indents = [
            len(lines.rows[line]) - len(said) for line, said in zip(self.line_numbers, self.texts, strict=True)
        ]
        self._after_blank = [True, *(b - a > 1 for a, b in pairwise(self.line_numbers))]
        self._in_brackets = list(self._bracket_states())
        self.attached = [self._is_attached(i) for i in range(len(self.line_numbers))]
        self._standalone = self._standalone_statements(is_standalone)

    def cut_lines(self) -> Iterator[int]:
        """Lines of the text where pieces begin."""
        margin = min(self.indents, default=0)
        heads = self._statement_starts(0, len(self.line_numbers), margin)
        return self.cut_lines_from(self._paragraph_starts([0, *heads]))

    def cut_lines_from(self, starts: Sequence[int]) -> Iterator[int]:
        """As `cuts`, where the outermost pieces begin at 0 and at the starts given."""
        for first, last in pairwise([0, *starts, len(self.line_numbers)]):
            yield from (self.line_numbers[i] for i in self._piece_starts(first, last, _LEVELS))

    def margin_statements(self) -> list[int]:
        """The statements at the margin after the first."""
        return self._statement_starts(0, len(self.line_numbers), min(self.indents, default=0))

    def _piece_starts(self, first: int, last: int, levels: int) -> Iterator[int]:
        """The pieces of `[first, last)`: it is one if it is short."""
        if first < last and self._chars(first, last) <= CODE_CHARS:
            yield first
        elif first < last:
            parts = self._part_starts(first, last) if levels else []
            if not parts:
                yield from self._merge_short_parts(range(first, last), last, set())
            for a, b in pairwise([*parts, last]):
                yield from self._piece_starts(a, b, levels - 1)

    def _part_starts(self, first: int, last: int) -> list[int]:
        """Where the paragraphs, definitions or statements of a long piece begin, or nothing.

        They are at the outermost level of indentation that parts it. Deeper than the first line
        that is the second statement's: a definition stays with the first of its body. Brackets
        are looked into where all is inside them.
        """
        outer = self.indents[first]
        for enclosed in (False, True):
            seen = Counter(
                self.indents[i]
                for i in range(first + 1, last)
                if not self.attached[i] and (enclosed or not self._in_brackets[i])
            )
            depth = min((d for d, count in seen.items() if count > (d > outer)), default=None)
            if depth is not None:
                heads = self._statement_starts(first, last, depth, enclosed)
                heads = [first, *heads] if depth <= outer else heads
                starts = self._paragraph_starts(heads) or heads[1:]
                alone = self._standalone if depth <= outer else self._standalone - {first}
                return list(self._merge_short_parts([first, *starts], last, alone))
        return []

    def _statement_starts(self, first: int, last: int, depth: int, enclosed: bool = False) -> list[int]:
        """The lines after the first that begin a statement at a level of indentation."""
        return [
            i
            for i in range(first + 1, last)
            if self.indents[i] == depth and not self.attached[i] and (enclosed or not self._in_brackets[i])
        ]

    def _paragraph_starts(self, heads: Sequence[int]) -> list[int]:
        """Those after the first that begin a paragraph, are a definition, or come after one."""
        return [i for above, i in pairwise(heads) if self._after_blank[i] or {i, above} & self._standalone]

    def _merge_short_parts(self, starts: Sequence[int], last: int, alone: Set[int]) -> Iterator[int]:
        """The starts, without those of parts that fit into the piece before."""
        first = starts[0]
        yield first
        for i, after in pairwise([*starts[1:], last]):
            if {first, i} & alone or self._chars(first, after) > CODE_CHARS:
                first = i
                yield i

    def _chars(self, first: int, last: int) -> int:
        return self._lines.count_chars(self.line_numbers[first], self.line_numbers[last - 1] + 1)

    def _bracket_states(self) -> Iterator[bool]:
        """For each line, whether it begins inside brackets or a text in triple quotes.

        Nothing is read but signs; a blank line outside quotes closes what was miscounted.
        """
        depth, quoted = 0, False
        for said, loose in zip(self.texts, self._after_blank, strict=True):
            depth = 0 if loose and not quoted else depth
            yield quoted or depth > 0
            quoted ^= (said.count('"""') + said.count("'''")) % 2 == 1
            if not quoted:
                opened, closed = (sum(map(said.count, signs)) for signs in ("([", ")]"))
                depth = max(depth + opened - closed, 0)

    def _is_attached(self, i: int) -> bool:
        """Whether a line belongs to the one above: it closes it, goes on, or was introduced."""
        said, above = self.texts[i], self.texts[i - 1] if i else ""
        if _CONTINUES.match(said) or above.endswith("\\"):
            return True
        if said == "{":
            return above[-1:] not in _OPEN
        if i == 0 or self._after_blank[i]:
            return False
        deeper = self.indents[i] - self.indents[i - 1]
        first_item = deeper == 0 and said.startswith("- ") and above.endswith(":")
        return first_item or (abs(deeper) <= 1 and _is_introduction(above))

    def _standalone_statements(self, is_standalone: Callable[[str, bool], bool]) -> set[int]:
        """The statements that stand alone, each by its first line."""
        found: set[int] = set()
        for i in range(len(self.line_numbers) - 1, -1, -1):
            below = i + 1 < len(self.line_numbers)
            holds = below and self.indents[i + 1] > self.indents[i]
            introduces = below and self.attached[i + 1] and _is_introduction(self.texts[i])
            if is_standalone(self.texts[i], holds) or (introduces and i + 1 in found):
                found.add(i)
        return found
