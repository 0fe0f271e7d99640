"""Code, configuration files and JSON: how they are recognised, and where they are cut into pieces.

A piece can be read alone: a definition with the decorators and the comment above it, a paragraph of
statements, or else some whole lines. Spans of lines are half-open.

listing     [0, a) [a, b) ... [z, n)          paragraphs and definitions at the margin
definition  [a, m) [m, o) ... [y, b)          a long one: its first lines, then its methods or
                                              paragraphs, and so on recursively

Configuration is YAML, TOML, INI, properties or a file of variables. Prose has colons, too, so a
text is configuration only if every line at its margin is a key, a section, an item or a comment,
and if it has a feature that notes lack: keys nested in keys, a section, `key=value`, or keys in
lower case none of which occurs twice.

A file of lines that no other reader knows, such as a crontab, a Dockerfile or a Makefile, is told
by its comments: lines with `#` right above lines that read as no prose.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import replace
from itertools import pairwise

from tamis.probes.tokens import TextTokenizer
from tamis.text.lines import Lines, Mark, has_stop, indent_of, is_prose, lines_of
from tamis.text.types import Passage, Unit

CODE_CHARS = 400
"""Code up to this length stays whole; so does a JSON member or a YAML key with its content.

About ten lines and 130 tokens: a fence up to this length is whole (97 % of those in FastAPI's
handbook), and so are two in three of its functions. Half as much would leave one function in three
whole; thrice as much is a piece that no budget of a hundred tokens can hold.
"""
LINE_CHARS = 1_200  # a line is a statement, and is kept whole up to this length
_LEVELS = 12  # code nested deeper is cut at lines: nobody reads it, and it costs time
_DEEPEST_CHARS = 200

# tildes with carets or more tildes behind them point at something in the line above
FENCE = re.compile(
    r"(?:\s*(?=`)| {0,3}(?=~))(`{3,}+(?=[^`]*$)|~{3,}+(?=[ \t]*(?:[\w{.+#-][^~^`]*)?$))(.*)$"
)
_CODE_END = ("{", "}", ";", ":", ")", ",", "(", "[", "]")
_CODE_START = re.compile(
    r"\s*(?:def|class|import|from|return|async|await|raise|assert|with|elif|else:|try:|except|package|using|public"
    r"|private|static|func|fn|let|const|var|struct|enum|#include|#|//|/\*|@\w|CREATE|ALTER|INSERT"
    r"|SELECT|FROM|WHERE)(?:\b|\s|$)|\s*\"\"\""
)
_CODE_FORM = re.compile(
    r"[\w\])] ?[-+*/]?= ?[\w\"'\[({]|\w\(|^\s*[{}\])]+[;,]?$|^\s*@\w|[{;]$"
    r"|^\s*(?:def|class|import|from \S+ import) ?|^\s*(?:CREATE|ALTER|INSERT|SELECT|FROM|WHERE)\b"
    r"|\b(?:NOT NULL|PRIMARY KEY|REFERENCES|DEFAULT)\b"
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
CALL = r"\s*at [\w.$<>/]+\("
"""One of a stack of calls, as a trace of the JVM or of .NET prints it."""
_CALL = re.compile(CALL)
_COMMENT = re.compile(r"#(?!!|include|define|undef|pragma|el|end|if)")


def code_marks(text: str) -> list[Mark]:
    """Marks of the pieces of a source file; none if the text does not look like one."""
    lines = lines_of(text)
    if not _is_code([row for row in lines.rows if row]):
        return []
    return [(lines.starts[line], "code") for line in listing_cuts(lines, 0, len(lines.rows))]


def _is_code(rows: Sequence[str]) -> bool:
    """Whether non-empty lines are source code.

    They are if the first begins like code and three define or import something, one of them at the
    margin (docstrings may make up most of the text; code in prose is indented), or if three in five
    begin or end like code and one in three has a call, an assignment or a brace; but not if one in
    three is of a stack of calls. A fence at the margin means Markdown.
    """
    if len(rows) < 3 or any(row[0] in "`~" and FENCE.match(row) for row in rows):
        return False
    if 3 * sum(_CALL.match(row) is not None for row in rows) > len(rows):
        return False
    defining = [indent_of(row) for row in rows if _DEFINITION.match(row)]
    at_margin = len(defining) >= 3 and min(defining) == min(map(indent_of, rows))
    if at_margin and _CODE_START.match(rows[0]):
        return True
    if 5 * sum(_COMMENT.match(row) is not None for row in rows) >= 3 * len(rows):
        return False  # a file of settings that explains them
    if _has_blocks(rows):
        return True
    edges = sum(row.endswith(_CODE_END) or _CODE_START.match(row) is not None for row in rows)
    forms = sum(_CODE_FORM.search(row) is not None for row in rows)
    return 5 * edges >= 3 * len(rows) and 3 * forms >= len(rows)


def _has_blocks(rows: Sequence[str]) -> bool:
    """Whether most lines at the margin open or close a block in braces, and none is prose."""
    margin = [row for row in rows if not (row[0].isspace() or row.startswith(("#", "//", '"')))]
    opened = sum(row.endswith(" {") for row in margin)
    closed = sum(row[0] == "}" for row in margin)
    most = opened > 1 and opened == closed and 2 * (opened + closed) > len(margin)
    return most and not any(map(is_prose, margin))


_STATEMENT = re.compile(
    r"[=|{}<>$\\*@]|\s--?\w|/\w|\S {3,}\S|[A-Z]{3} \S|[A-Z][a-z]{1,20}[A-Z]\w{0,40} \S|:$"
    r"|\d\.\d+\.\d"
)
_NO_STATEMENT = re.compile(r"\s*(?:[-+*•]\s|\d{1,3}[.)]\s|[|>`~!\[])")


def commented_marks(text: str) -> list[Mark]:
    """Marks of each line at the margin with the comment above it and the deeper lines below, as of
    a crontab, a Dockerfile or a Makefile; none if the text has no comments above statements."""
    if "\n#" not in text:
        return []
    lines = lines_of(text)
    if not _has_comments(lines.rows):
        return []
    listing = Listing(lines, 0, len(lines.rows), _has_children)
    starts = listing.cut_lines_from(listing.margin_statements())
    return [(lines.starts[line], "code") for line in starts]


def _has_comments(rows: Sequence[str]) -> bool:
    """Whether lines with one `#` are comments: two of them, and most of their runs, are right above
    a statement, and two thirds of all other lines at the margin are one."""
    comments = [at for at, row in enumerate(rows) if _COMMENT.match(row)]
    if any(re.match(r"#{2,6} |`{3}|~{3}", row) for row in rows):
        return False
    below = [rows[at + 1] for at in comments if at + 1 < len(rows)]
    below = [row for row in below if not _COMMENT.match(row)]  # at the ends of runs
    above = sum(map(_is_statement, below))
    others = [row for row in rows if row and not (row[0].isspace() or _COMMENT.match(row))]
    few = 5 * len(comments) < 3 * sum(map(bool, rows))
    stated = 3 * sum(map(_is_statement, others)) >= 2 * len(others)
    return few and above > 1 and 2 * above > len(below) and stated


def _is_statement(row: str) -> bool:
    if _NO_STATEMENT.match(row) or (is_prose(row) and has_stop(row)):
        return False
    return _STATEMENT.search(row) is not None


def fence_cuts(lines: Lines, at: int, after: int) -> Iterator[int]:
    """The first lines of the pieces of a code block `[at, after)` whose first line is not code.

    That line belongs to the first piece; a fence that closes the block belongs to the last.
    """
    yield at
    is_closed = after - at > 1 and FENCE.match(lines.rows[after - 1]) is not None
    first, last = at + 1, after - is_closed
    if lines.count_chars(at, after) > CODE_CHARS and first < last:
        yield from listing_cuts(lines, first, last)[1:]


def listing_cuts(lines: Lines, first: int, last: int) -> list[int]:
    """The lines of `[first, last)` where pieces of code begin, ascending.

    They begin at the margin after each blank line and at each definition, and inside long pieces.
    """
    return list(Listing(lines, first, last, _is_definition).cut_lines())


_OPENING = re.compile(r"[\[\s]*\{")


def split_long_code(
    passages: Sequence[Passage], units: Sequence[Unit], counter: TextTokenizer, limit: int
) -> list[Unit]:
    """Splits each unit of code, and of JSON of several lines, that has more tokens than the limit,
    at its statements and keys, and each entry of a log, at its lines.

    The parts have at most half as many, where lines allow, so that one fits beside another. Keys
    with values are split from half the limit on. The first and the last piece of a block are parted
    from its fences, which any of its pieces is shown with.
    """
    found: list[Unit] = []
    for unit in units:
        text, (first, last) = passages[unit.passage].text, unit.visible
        # no tokenizer makes more tokens than bytes, of which a character has four at most
        tokens = 0
        on_one_line = unit.kind == "json" and "\n" not in text[first:last]
        if unit.kind in ("code", "entry", "json") and 4 * (last - first) > limit:
            tokens = counter.count(text[first:last])
        if on_one_line:
            parts = -(-3 * tokens // limit) if tokens > limit else 1
            found += cut_unit(text, unit, _member_cuts(text, first, last, (last - first) // parts))
            continue
        most = limit if tokens > limit or not _has_keys_alone(text[first:last]) else limit // 2
        most_chars = last - first if tokens <= most else (last - first) * most // (2 * tokens)
        rows = text[first:last].split("\n") if unit.kind == "code" else []
        is_part = len(rows) > 1 and _is_fence(rows[0]) != _is_fence(rows[-1])
        if tokens <= most and not is_part:
            found.append(unit)
            continue
        starts = piece_starts(text, first, last, most_chars)
        found += cut_unit(text, unit, starts)
    return found


def _member_cuts(text: str, start: int, stop: int, most_chars: int) -> list[int]:
    """Where the parts of an object on one line begin, whole members each, the first at its own
    start; of what is no object, that alone."""
    cuts, depth = [start], 0
    opening = _OPENING.match(text, start, stop)
    for token in _JSON_TOKEN.finditer(text, opening.end() - 1, stop) if opening else ():
        depth += (token[0] in ("{", "[")) - (token[0] in ("}", "]"))
        ends_member = depth == 1 and token[0] == "," and token.end() < stop
        if ends_member and token.end() - cuts[-1] >= most_chars:
            cuts.append(token.end())
    return cuts


def cut_unit(text: str, unit: Unit, starts: Sequence[int]) -> Iterator[Unit]:
    """The parts of a unit that begin at these places of its text, the first at its own start."""
    first, last = unit.visible
    for start, stop in pairwise([unit.start, *starts[1:], unit.stop]):
        body = text[max(start, first) : min(stop, last)]
        shown = max(start, first) + len(body) - len(body.lstrip())
        yield replace(unit, start=start, stop=stop, visible=(shown, shown + len(body.strip())))


def _has_keys_alone(text: str) -> bool:
    """Whether each line is a key, an item or a comment."""
    rows = [row.strip() for row in text.splitlines() if row.strip()]
    return all(_NEUTRAL.match(row) or _KEY.match(row) or _ITEM.match(row) for row in rows)


def piece_starts(text: str, start: int, stop: int, most_chars: int) -> list[int]:
    """Where pieces of a piece of code begin, the first at its own start.

    Args:
        most_chars: of each, where lines allow.
    """
    before = text[max(0, start - _DEEPEST_CHARS) : start]
    margin = start - (len(before) - len(before.rstrip(" \t")))
    is_indented = margin == 0 or text[margin - 1] == "\n"  # like the lines below it
    lines = lines_of(text, margin if is_indented else start, stop)
    inner = range(_is_fence(lines.rows[0]), len(lines.rows) - _is_fence(lines.rows[-1]))
    inner = inner or range(len(lines.rows))
    listing = Listing(lines, inner.start, inner.stop, lambda row, has_body: False, most_chars)
    cuts = [*range(1, inner.start + 1), *list(listing.cut_lines())[1:]]
    return [start, *(lines.starts[line] for line in (*cuts, *range(inner.stop, len(lines.rows))))]


def _is_fence(row: str) -> bool:
    return FENCE.match(row.lstrip("> ")) is not None


def _is_definition(row: str, has_body: bool) -> bool:
    return _DEFINITION_AT_MARGIN.match(row) is not None


def _is_introduction(row: str) -> bool:
    """Whether a line belongs to the one below: a comment, a decorator, '[section]'."""
    is_section = row[0] == "[" and row[-1] == "]" and len(row) > 2
    return row.startswith(_INTRODUCTION_SIGNS) or is_section


class Listing:
    """The non-blank lines of a listing, and which of them belong together.

    An index i counts non-blank lines; `line_numbers[i]` is the line's number in the text.

    Args:
        is_standalone: whether a statement is a piece of its own, never merged with its neighbours,
            given its line and whether the next line is indented deeper.
        most_chars: of a piece, where lines allow.
    """

    def __init__(
        self,
        lines: Lines,
        first: int,
        last: int,
        is_standalone: Callable[[str, bool], bool],
        most_chars: int = CODE_CHARS,
    ) -> None:
        self._lines, self._most_chars = lines, most_chars
        self.line_numbers = [line for line in range(first, last) if lines.rows[line]]
        self.texts = [lines.rows[line].lstrip() for line in self.line_numbers]
        self.indents = [
            len(lines.rows[line]) - len(text)
            for line, text in zip(self.line_numbers, self.texts, strict=True)
        ]
        self._leading = self._lines_before_values()
        gaps = (b - a > 1 for a, b in pairwise(self.line_numbers))
        self._after_blank = [True, *gaps][: len(self.line_numbers)]
        self._in_brackets = list(self._bracket_states())
        self.attached = [self._is_attached(i) for i in range(len(self.line_numbers))]
        self._standalone = self._standalone_statements(is_standalone)

    def cut_lines(self) -> Iterator[int]:
        """The lines of the text where pieces begin."""
        margin = min(self.indents, default=0)
        starts = self._statement_starts(0, len(self.line_numbers), margin)
        return self.cut_lines_from(self._paragraph_starts([0, *starts]))

    def cut_lines_from(self, starts: Sequence[int]) -> Iterator[int]:
        """Like `cut_lines`, where the outermost pieces begin at 0 and at the given starts."""
        edges = pairwise([0, *starts, len(self.line_numbers)])
        cuts = (i for first, last in edges for i in self._piece_starts(first, last, _LEVELS))
        return (self.line_numbers[i] for i in self._before_keys(cuts))

    def _before_keys(self, cuts: Iterator[int]) -> Iterator[int]:
        """The starts of pieces, moved up to the keys that their first lines are nested in.

        Where these are all of the piece above, each is one of its own, up to one that begins an
        item: that would be shown without its value for what else the item has.
        """
        above = -1
        for i in cuts:
            start = i
            while start > above + 1 and self._leading[start - 1]:
                start -= 1
            if start == above + 1 and above >= 0 and self._leading[above]:
                items = (key for key in range(above, i) if _ITEM.match(self.texts[key]))
                i = next(items, i)
            else:
                i = start
            yield from range(start, i + 1)
            above = i

    def _lines_before_values(self) -> list[bool]:
        """For each line, whether it is a key whose value begins below it, or a comment between."""
        is_comment = [_COMMENT.match(text) is not None for text in self.texts]
        are_items = [text.startswith("- ") for text in self.texts]
        for i in reversed(range(len(self.texts) - 1)):
            if is_comment[i]:  # as deep as what it stands above
                self.indents[i] = max(self.indents[i], self.indents[i + 1])
                are_items[i] = are_items[i + 1]
        found = [False] * len(self.texts)
        for i, (depth, below) in enumerate(pairwise(self.indents)):
            as_deep = are_items[i + 1] or _SECTION.match(self.texts[i]) is not None
            leads = below > depth or (below == depth and as_deep)
            found[i] = found[i - 1] if is_comment[i] else leads and is_open_key(self.texts[i])
        return found

    def margin_statements(self) -> list[int]:
        """The statements at the margin after the first."""
        return self._statement_starts(0, len(self.line_numbers), min(self.indents, default=0))

    def _piece_starts(self, first: int, last: int, levels: int) -> Iterator[int]:
        """The starts of the pieces of `[first, last)`, which is one piece if it is short."""
        if first < last and self._chars(first, last) <= self._most_chars:
            yield first
        elif first < last:
            parts = self._part_starts(first, last) if levels else []
            if not parts:
                yield from self._merge_short_parts(range(first, last), last, set())
            for a, b in pairwise([*parts, last]):
                yield from self._piece_starts(a, b, levels - 1)

    def _part_starts(self, first: int, last: int) -> list[int]:
        """Where the paragraphs, definitions or statements of a long piece begin; empty if nowhere.

        They are at the outermost level of indentation that divides the piece. If that is deeper
        than the first line, the first statement at it is skipped: a definition stays with the
        first statement of its body. Lines inside brackets count only if nothing else divides it.
        """
        outer = self.indents[first]
        for enclosed in (False, True):
            counts = Counter(
                self.indents[i]
                for i in range(first + 1, last)
                if not self.attached[i] and (enclosed or not self._in_brackets[i])
            )
            depth = min((d for d, count in counts.items() if count > (d > outer)), default=None)
            if depth is not None:
                statements = self._statement_starts(first, last, depth, enclosed)
                statements = [first, *statements] if depth <= outer else statements
                starts = self._paragraph_starts(statements) or statements[1:]
                standalone = self._standalone
                if depth > outer:
                    standalone = standalone - {first}
                    starts = [s for s in statements[:1] if s in standalone] + starts
                return list(self._merge_short_parts([first, *starts], last, standalone))
        return []

    def _statement_starts(
        self, first: int, last: int, depth: int, enclosed: bool = False
    ) -> list[int]:
        """The lines after the first that begin a statement at the indentation `depth`."""
        return [
            i
            for i in range(first + 1, last)
            if self.indents[i] == depth
            and not self.attached[i]
            and (enclosed or not self._in_brackets[i])
        ]

    def _paragraph_starts(self, statements: Sequence[int]) -> list[int]:
        """Statements after the first that begin a paragraph, stand alone or follow such a one."""
        return [
            i
            for above, i in pairwise(statements)
            if self._after_blank[i] or {i, above} & self._standalone
        ]

    def _merge_short_parts(
        self, starts: Sequence[int], last: int, standalone: Set[int]
    ) -> Iterator[int]:
        """The starts without those of parts that fit into the piece before them."""
        first = starts[0]
        yield first
        for i, after in pairwise([*starts[1:], last]):
            if {first, i} & standalone or self._chars(first, after) > self._most_chars:
                first = i
                yield i

    def _chars(self, first: int, last: int) -> int:
        return self._lines.count_chars(self.line_numbers[first], self.line_numbers[last - 1] + 1)

    def _bracket_states(self) -> Iterator[bool]:
        """For each line, whether it begins inside brackets or a triple-quoted string.

        Only counts brackets and quotes; a blank line outside quotes resets the count of brackets.
        """
        depth, quoted = 0, False
        for text, after_blank in zip(self.texts, self._after_blank, strict=True):
            depth = 0 if after_blank and not quoted else depth
            yield quoted or depth > 0
            quoted ^= (text.count('"""') + text.count("'''")) % 2 == 1
            if not quoted:
                opened, closed = (sum(map(text.count, signs)) for signs in ("([", ")]"))
                depth = max(depth + opened - closed, 0)

    def _is_attached(self, i: int) -> bool:
        """Whether a line belongs to the one above: ends it, continues it or is introduced by it."""
        text, above = self.texts[i], self.texts[i - 1] if i else ""
        if _CONTINUES.match(text) or above.endswith("\\"):
            return True
        if text == "{":
            return above[-1:] not in _OPEN
        if i == 0 or self._after_blank[i]:
            return False
        deeper = self.indents[i] - self.indents[i - 1]
        first_item = deeper == 0 and text.startswith("- ") and above.endswith(":")
        return first_item or (abs(deeper) <= 1 and _is_introduction(above))

    def _standalone_statements(self, is_standalone: Callable[[str, bool], bool]) -> set[int]:
        """The first lines of statements that stand alone, including their introductions."""
        found: set[int] = set()
        for i in range(len(self.line_numbers) - 1, -1, -1):
            below = i + 1 < len(self.line_numbers)
            has_body = below and self.indents[i + 1] > self.indents[i]
            introduces = below and self.attached[i + 1] and _is_introduction(self.texts[i])
            if is_standalone(self.texts[i], has_body) or (introduces and i + 1 in found):
                found.add(i)
        return found


_NAME = r"(?:\"[^\"]{1,80}\"|'[^']{1,80}'|[\w$@/.<][\w$@/.<>\-\[\]]{0,79})"
_KEY = re.compile(rf"(?:- +)*({_NAME}) ?:(?: +(\S.*))?$")
_PAIR = re.compile(r"(?:export +)?[\w.\-/$@\"]{1,80} *=(?![=>]).*(?<![;{])$")
_SECTION = re.compile(r"\[{1,2}[^\[\]]{1,80}\]{1,2}(?:\s*[#;].*)?$")
_NEUTRAL = re.compile(r"[#;!]|---|\.\.\.$|%YAML|[\])}]+,?$")
_ITEM = re.compile(r"- +\S|-$")
_IDENTIFIER = re.compile(r"[a-z_][\w.\-/]*$")
_VALUE_SIGNS = "|>&#"
_VALUE_CHARS = 80  # a longer value, or one that ends in a full stop, may be a sentence


def config_marks(text: str) -> list[Mark]:
    """Marks of each section or key with its content; none if the text is not configuration.

    Long ones are cut at the next level of indentation, like code.
    """
    first = text.lstrip()[:200].split("\n", 1)[0].rstrip()  # avoids splitting prose into lines
    if not first or not (_NEUTRAL.match(first) or _is_margin_line(first)):
        return []
    lines = lines_of(text)
    rows = [row for row in lines.rows if row]
    if len(rows) < 3 or not _is_config(rows):
        return []
    return key_marks(lines, 0, len(lines.rows))


def key_marks(lines: Lines, first: int, last: int) -> list[Mark]:
    """Marks of each section or key of `[first, last)`, with its content."""
    listing = Listing(lines, first, last, _has_children)
    cuts = listing.cut_lines_from(_outermost_starts(listing))
    return [(lines.starts[line], "code") for line in cuts]


_TREE_KEY = re.compile(r"\s*[A-Za-z][\w ./()-]{0,40}:(?:\s+(\S.*))?$")
_LEAST_TREE = 6
"""Lines of a listing of nested keys."""


def key_trees(rows: Sequence[str]) -> dict[int, int]:
    """The first line of each listing of nested keys among other lines, and the line after it.

    As `kubectl describe` prints them: names may have several words, and every line at the margin is
    a key. A last key whose content has none, such as a table, is left to other readers.
    """
    found: dict[int, int] = {}
    after = 0
    for first, row in enumerate(rows):
        if first < after or row[:1].isspace() or not _TREE_KEY.match(row):
            continue
        after, last_key = first + 1, first
        while after < len(rows) and (rows[after][:1].isspace() or _TREE_KEY.match(rows[after])):
            last_key = last_key if rows[after][0].isspace() else after
            after += 1
        has_keys = any(map(_TREE_KEY.match, rows[last_key + 1 : after]))
        end = after if has_keys or after < last_key + 3 else last_key
        if _is_tree(rows[first:end]):
            found[first] = end
    return found


def _is_tree(rows: Sequence[str]) -> bool:
    """Whether most lines are keys, some of which are nested in others, and few values prose."""
    keys = list(map(_TREE_KEY.match, rows))
    nested = sum(
        bool(key and key[1] is None and inner and indent_of(below) > indent_of(row))
        for (key, inner), (row, below) in zip(pairwise(keys), pairwise(rows), strict=True)
    )
    told = sum(row.endswith((".", "!", "?")) for row in rows)
    return (
        len(rows) >= _LEAST_TREE
        and nested > 1
        and 5 * sum(key is not None for key in keys) >= 3 * len(rows)
        and 10 * told <= len(rows)
    )


def is_open_key(row: str) -> bool:
    """Whether a line is of a section, or a key whose value is below it; or it says nothing."""
    inner = row.strip()
    if not inner or _SECTION.match(inner) or _NEUTRAL.match(inner):
        return True
    key = _KEY.match(inner)
    return key is not None and (key[2] or _VALUE_SIGNS)[0] in _VALUE_SIGNS


def key_parents(rows: Sequence[str]) -> list[int]:
    """The line that each line is nested in, or -1; none of what is no configuration.

    A section has the lines up to the next one, and `---` its document.
    """
    margin = min((indent_of(row) for row in rows if row), default=0)
    rows = ["" if FENCE.match(row) else row[margin:].rstrip() for row in rows]
    filled = [row for row in rows if row]
    if not filled or not (_is_config(filled) or _is_tree(filled)):
        return []
    found = [-1] * len(rows)
    open_lines: list[tuple[float, int]] = []  # with their depths
    for at, row in enumerate(rows):
        depth = indent_of(row) + 0.5 * (_ITEM.match(row.lstrip()) is not None)
        if row.startswith("---") or _SECTION.match(row):
            depth = -1.0 - (row[0] == "-")
        elif not row or _NEUTRAL.match(row.lstrip()):
            continue
        while open_lines and open_lines[-1][0] >= depth:
            open_lines.pop()
        found[at] = open_lines[-1][1] if open_lines else -1
        open_lines.append((depth, at))
    return found


def _has_children(row: str, has_body: bool) -> bool:
    """Whether a key has others nested in it, and so stands alone."""
    return has_body


def _outermost_starts(listing: Listing) -> list[int]:
    """The starts of sections, or else of keys, at the margin after the first line."""
    statements = listing.margin_statements()
    sections = {i for i in (0, *statements) if _begins_section(listing, i)}
    if sections:
        first = min(sections)
        return [i for i in statements if i in sections or i < first]
    return [i for i in statements if not _ITEM.match(listing.texts[i])] or statements


def _begins_section(listing: Listing, i: int) -> bool:
    """Whether a section begins on a line, or after the comment that begins there."""
    while not _SECTION.match(listing.texts[i]):
        i += 1
        if i == len(listing.texts) or not listing.attached[i]:
            return False
    return True


def _is_config(rows: Sequence[str]) -> bool:
    margin_rows: list[str] = []
    for row in rows:
        if row[0].isspace() or _NEUTRAL.match(row):
            continue
        if not _is_margin_line(row):
            return False
        margin_rows.append(row)
    if not margin_rows:
        return False
    pairs = sum(_PAIR.match(row) is not None for row in margin_rows)
    if any(_SECTION.match(row) for row in margin_rows):
        return pairs > 1 and not any(_ITEM.match(row) for row in margin_rows)
    return (pairs > 2 and pairs == len(margin_rows)) or _is_yaml(rows, margin_rows)


def _is_margin_line(row: str) -> bool:
    return any(form.match(row) for form in (_KEY, _PAIR, _SECTION, _ITEM))


def _is_yaml(rows: Sequence[str], margin_rows: Sequence[str]) -> bool:
    keys = [key for row in rows if (key := _KEY.match(row.lstrip()))]
    margin_keys = [key for row in margin_rows if (key := _KEY.match(row))]
    if len(keys) < 3 or 2 * len(keys) < sum(not _ITEM.match(row.lstrip()) for row in rows):
        return False
    names = [key[1] for key in margin_keys if key[0][0] != "-"]
    if len({*names}) < len(names) and "---" not in rows:
        return False
    if sum(_is_nested_key(*pair) for pair in pairwise(rows)) > (0 if names else 1):
        return True
    short = sum(not key[2] or _is_short(key[2]) for key in margin_keys)
    lower = names and all(_IDENTIFIER.match(name) for name in names)
    return bool(lower) and 5 * short >= 4 * len(margin_keys)


def _is_nested_key(above: str, row: str) -> bool:
    """Whether a key is nested in the one above, which has no value or is an item's first key."""
    key, inner = _KEY.match(above.lstrip()), row.lstrip()
    deeper = len(row) - len(inner) > len(above) - len(above.lstrip())
    return deeper and bool(key and (not key[2] or key[0][0] == "-") and _KEY.match(inner))


def _is_short(value: str) -> bool:
    return len(value) <= _VALUE_CHARS and value[-1] not in ".!?"


_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]')
_NUMBER_OR_WORD = re.compile(r"\s*[-\dtfn]")


def json_marks(text: str) -> list[Mark]:
    """A block for each member of the top object or array; nested where one exceeds `CODE_CHARS`.

    Numbers, true, false and null in an array stay together. JSON Lines: a block for each line. No
    marks if the text is not JSON.
    """
    if text.lstrip()[:1] not in ("{", "["):
        return []
    if is_json_container(text):
        return [(at, "json") for at in (0, *member_starts(text))]
    lines = lines_of(text)
    rows = [(at, row) for at, row in zip(lines.starts, lines.rows, strict=True) if row]
    if len(rows) > 1 and all(row[0] == "{" and is_json_container(row) for _, row in rows):
        return [(at, "json") for at, _ in rows]
    return []


def is_json_container(text: str) -> bool:
    """Whether the text is an object or array; numbers, which may be long, are not converted."""
    if text.rstrip()[-1:] not in ("}", "]"):
        return False
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


def member_starts(text: str) -> list[int]:
    """Offsets after the commas between members, without those inside short members."""
    starts: list[int] = []
    # per open bracket: the number of starts before it, its member's start, whether it is an array
    open_brackets: list[tuple[int, int, bool]] = []
    member = 0
    for token in _JSON_TOKEN.finditer(text):
        sign, after = token[0][0], token.end()
        if sign in "[{":
            open_brackets.append((len(starts), member, sign == "["))
            member = after
        elif sign in "]}":
            starts_before, member, _ = open_brackets.pop()
            if open_brackets and after - member <= CODE_CHARS:
                del starts[starts_before:]
        elif sign == ",":
            member = after
            if not (open_brackets[-1][2] and _NUMBER_OR_WORD.match(text, after)):
                starts.append(after)
    return starts
