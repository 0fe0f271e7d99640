"""Blocks of plain text, line by line: Markdown, reStructuredText, chats, logs and tables.

Every function consumes whole lines and examines each a bounded number of times. An entry of a chat
or log is a line with a speaker or a time, and the lines that continue it; the cells of a table are
separated by commas or tabs.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise

from tamis.probes.interruption import check_interruption
from tamis.text.lines import (
    Lines,
    Mark,
    has_stop,
    in_columns,
    indent_of,
    is_continued,
    is_prose,
    lines_of,
)
from tamis.text.readers.code import (
    CODE_CHARS,
    FENCE,
    fence_cuts,
    key_marks,
    key_trees,
)
from tamis.text.types import UnitKind

_ATX = re.compile(r" {0,3}#{1,6}(?:\s|$)")
_COMMENT = re.compile(r"(#{1,2})(?!#)(?P<space>\s*)(?P<text>.*)")
_COMMENT_DEPTH = 2
"""Blanks after the sign of a comment, at most; deeper lines are set in."""
# a setting that is commented out, a default, or an item
_OWN_COMMENT = re.compile(
    r"[\w.\-]+ ?=|[^\W\d_][\w.\-]{0,30}: \S|(?:[-*+]|\(?\d{1,2}[.)]|\(?[a-z]\)) "
)
_RULE = re.compile(r"([=\-~^\"*+#])\1{2,}+$|--- (?:Log|Day) ")  # the latter in logs of chats
# signs and numbers before a point of a list in Chinese, Japanese and Korean, which need no blank
# behind them; the signs are also those that converters make of bullets
_POINT_SIGN = r"[・･■□◆◇●○◎▼▽▲△►▶➢✓✔※\uf0a7\uf0b7]"
_EAST_ASIAN = r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_POINT_NUMBER = (
    r"[①-⑳]|（(?:\d{1,2}|[一二三四五六七八九十]{1,3})）|\([一二三四五六七八九十]{1,3}\)"
    rf"|\(\d{{1,2}}\)(?=\s?{_EAST_ASIAN})|\d{{1,2}}[、．]"
)
_ITEM = re.compile(
    r"\s*(?:(?:[-*+•‣▪◦·–.]|\(?\d{1,3}[.)]|\(?[a-z]\)|\([ivx]{2,5}\))\s+"
    rf"|(?:{_POINT_SIGN}|{_POINT_NUMBER})\s*)\S"
)
# a number inside a paragraph is most often a number: only '1.' interrupts it (CommonMark 5.2)
_INTERRUPTING_ITEM = re.compile(
    rf"\s*(?:(?:[-*+•‣▪◦·]|1[.)])\s+|(?:{_POINT_SIGN}|{_POINT_NUMBER})\s*)\S"
)
# '12.3 The Supplier …' after a line that ends as a clause does is the next clause
_NUMBERED = re.compile(r"\s*\d{1,3}(?:\.\d{1,3})+\.?\s+[^\W\d_a-z]")
_CLAUSE_END = (".", ";", ":", ",", "; and", "; or")
# a title of LaTeX, of MediaWiki and of AsciiDoc, or a commit of Git's log
_MARKED_TITLE = re.compile(
    r"\\(?:part|chapter|(?:sub){0,2}section|paragraph)\*?\{[^{}]*\}(?:\s*\\label\{[^{}]*\})?"
    r"|(={2,6})[^=\n]+\1|={2,5} [^\s=][^=]*|commit [\da-f]{7,40}(?: \([^()]*\))?"
)
_COMMAND = re.compile(r"\\(part|chapter|section|subsection|subsubsection|paragraph)\*?\{")
_COMMAND_LEVELS = dict(part=1, chapter=1, section=2, subsection=3, subsubsection=4, paragraph=5)
_HTML_LEVEL = re.compile(r"<h([1-6])\b")
_RULE_LEVELS = {"=": 1, "-": 2}
_PROMPT = re.compile(r"\s*>>> (?=\S)")
# mail that is quoted three times has prose where Python has one of these
_STATEMENT = re.compile(
    r"[#@]|\S+$|import \w[\w.]*(?:$|,| as )|from \S+ import |for \w.* in |(?:def|class) \w+[(:]"
    r"|(?:if|with|while|try|else)\b.*:$|print\s*[\"'(]|.*(?:\w[(\[]|\w\s?[-+*/%|&]?=\s?[^\s=])"
)
_ARITHMETIC = re.compile(r"\S\s?(?:[-+*/%<>|&]|==)\s?\S")
_QUOTED = re.compile(r"\s*(?:>{1,2}(?:\s|$))+")
# a sentence in any language, where a session's output goes on without a blank line
_SENTENCE = re.compile(r"(?:[^\W\d_]+,? ){2,}[^\W\d_]+[.!?]$|.*[。！？]$")
_EXCEPTION = re.compile(r"\s*(?:\w+\.)*\w*(?:Error|Exception|Warning|Interrupt|Exit)\b")
_DIRECTIVE = re.compile(r"\s*\.\. (?:code|code-block|sourcecode|parsed-literal)::")

_Blocks = tuple[list[Mark], int]


def markdown_marks(text: str, start: int = 0, stop: int | None = None) -> list[Mark]:
    """Marks of fences, headings, tables, list items, entries and paragraphs of `text[start:stop]`.

    CommonMark and GFM as far as lines determine them, underlined headings of reStructuredText,
    and sessions of Python's interpreter. Lines indented by four spaces are not code:
    in retrieved text they are mostly lists and quotes.
    """
    lines = _strip_quote_marks(lines_of(text, start, stop))
    lines = lines._replace(entries=entry_lines(lines.rows), trees=key_trees(lines.rows))
    if "\u3000" in text and not lines.trees:
        lines = lines._replace(rows=[row.replace("\u3000", "  ") for row in lines.rows])
    closings = _fence_ends(lines.rows)
    marks: list[Mark] = []
    at = 0
    while at < len(lines.rows):
        if not lines.rows[at]:
            at += 1
            continue
        check_interruption()
        found, at = _read_fence(lines, at, closings) if at in closings else _read_block(lines, at)
        marks += found
    # a text of marks of a quotation and nothing else is one piece
    return marks or [(lines.starts[at], "sentence") for at in sorted(lines.quoted)[:1]]


def _strip_quote_marks(lines: Lines) -> Lines:
    """The lines without the marks of a quotation: what is quoted has blocks, too."""
    quoted = frozenset(at for at, row in enumerate(lines.rows) if _QUOTED.match(row))
    if not quoted:
        return lines
    rows = [_QUOTED.sub("", row, 1) if at in quoted else row for at, row in enumerate(lines.rows)]
    return lines._replace(rows=rows, quoted=quoted)


def _read_block(lines: Lines, at: int) -> _Blocks:
    """The marks of the block that begins on a line, and the line after the block."""
    for read in (
        _read_tree,
        _read_session,
        _read_cue,
        _read_entry,
        _read_columns,
        _read_comments,
        _read_heading,
        _read_table,
        _read_grid,
        _read_item,
        _read_directive,
    ):
        found, after = read(lines, at)
        if found:
            return found, after
    after = at + 1
    while not _ends_block(lines, after, _INTERRUPTING_ITEM):
        after += 1
    return [(lines.starts[at], "sentence")], after


def _ends_block(lines: Lines, at: int, item: re.Pattern[str]) -> bool:
    """Whether a paragraph, list item or entry ends before a line."""
    if at >= len(lines.rows) or not lines.rows[at]:
        return True
    if at in lines.entries or at in lines.trees:
        return True
    row = lines.rows[at]
    opens = any(mark.match(row) for mark in (FENCE, _ATX, _RULE, item))
    return (
        opens
        or _is_prompt(row)
        or _is_marked_title(lines.rows, at)
        or _is_table(lines.rows, at)
        or _GRID_RULE.match(row) is not None
        or _is_column_header(lines.rows, at)
    )


def _is_marked_title(rows: Sequence[str], at: int) -> bool:
    """Whether a line is a title by its signs; without closing ones, below a blank line or an
    anchor."""
    found = _MARKED_TITLE.fullmatch(rows[at])
    return found is not None and (
        rows[at][0] != "=" or found[1] is not None or at == 0 or rows[at - 1][:1] in ("", "[")
    )


def _fence_ends(rows: Sequence[str]) -> dict[int, int]:
    """For each fence, the line after the one that closes it.

    From the last line up, a stack for each fence character keeps the bare fences that are longer
    than all nearer ones. An opening fence passes at most as many of them as it has characters, so
    this takes linear time.
    """
    closings: dict[int, int] = {}
    stacks: dict[str, list[tuple[int, int]]] = {"`": [], "~": []}
    for at in range(len(rows) - 1, -1, -1):
        fence = FENCE.match(rows[at])
        if fence is None or _is_rule_of_tildes(rows, at):
            continue
        size, stack, bare = len(fence[1]), stacks[fence[1][0]], not fence[2].strip()
        # never closed: with a language, code follows; bare, it closes a block that began earlier
        missing = at + 1 if bare else len(rows)
        closings[at] = next((line + 1 for line, other in reversed(stack) if other >= size), missing)
        while bare and stack and stack[-1][1] <= size:
            stack.pop()
        if bare:
            stack.append((at, size))
    return closings


def _read_fence(lines: Lines, at: int, closings: dict[int, int]) -> _Blocks:
    after = closings[at]
    return [(lines.starts[line], "code") for line in fence_cuts(lines, at, after)], after


def _read_tree(lines: Lines, at: int) -> _Blocks:
    """Nested keys among other lines: each with its content, long ones cut at the next level."""
    after = lines.trees.get(at)
    return ([], at) if after is None else (key_marks(lines, at, after), after)


def _read_comments(lines: Lines, at: int) -> _Blocks:
    """Lines right below each other that begin with as many signs: comments, and no headings.

    Their sentences are those of the text behind the signs; a setting that is commented out is one.
    """
    first = _COMMENT.match(lines.rows[at])
    after = at
    while first and after < len(lines.rows):
        row = _COMMENT.match(lines.rows[after])
        if row is None or row[1] != first[1]:
            break
        after += 1
    if first is None or after < at + 2 or (first[1] == "##" and after < at + 3):
        return [], at
    marks: list[Mark] = []
    above: str | None = None  # the line that this one may go on with
    own: int | None = None  # how deep that line is, if it is one of its own
    for line in range(at, after):
        row = _COMMENT.match(lines.rows[line])
        assert row is not None
        text, depth = row["text"], len(row["space"])
        if not text:
            if above is not None or line == at:
                marks.append((lines.starts[line], "sentence"))  # bare signs, which say nothing
            above = None
            continue
        is_own = _OWN_COMMENT.match(text) is not None
        if is_own or above is None or not _goes_on(above, text, depth, own):
            kind: UnitKind = "list_item" if _ITEM.match(text) else "sentence"
            marks.append((lines.starts[line], kind))
            own = depth if is_own or depth > _COMMENT_DEPTH else None
        above = text
    return marks or [(lines.starts[at], "sentence")], after


def _goes_on(above: str, text: str, depth: int, own: int | None) -> bool:
    """Whether a line of a comment goes on with the one above it.

    Args:
        depth: of the line. own: that of the one above, if it is a line of its own or set in.
    """
    if has_stop(above):
        return False
    if own is not None and depth != own:
        return depth > own
    if own is None and depth <= _COMMENT_DEPTH:
        return True
    return depth > _COMMENT_DEPTH and (above.endswith(",") or is_continued(above, text))


def _read_heading(lines: Lines, at: int) -> _Blocks:
    """`# Title`, a title above a rule or between two (reStructuredText), or a rule alone."""
    row, below, after = (*lines.rows[at : at + 3], "", "")[:3]
    rule = _RULE.match(row)
    if _ATX.match(row):
        is_open = (
            below
            and not _ends_block(lines, at + 1, _ITEM)
            and is_continued(row.lstrip("# "), below)
        )
        return [(lines.starts[at], "heading")], at + 1 + bool(is_open)
    if rule and below and after == row:
        return [(lines.starts[at], "heading")], at + 3
    if rule:
        return [(lines.starts[at], "sentence")], at + 1
    is_fence = below == "~~~" and not _is_rule_of_tildes(lines.rows, at + 1)
    is_item = (_ITEM.match(row) and not row.lstrip()[0].isdigit()) or row[0] == "["
    if _is_underline(below, row) and not is_fence and not is_item:
        return [(lines.starts[at], "heading")], at + 2
    if _is_marked_title(lines.rows, at):
        return [(lines.starts[at], "heading")], at + 1
    return [], at


def heading_levels(headings: Sequence[str]) -> list[int]:
    """The level of each heading of a text, 1 the outermost: by its tag, signs, or the rule below
    it. Those without signs are below those with some."""
    signed = [max(_signs_before(heading, sign) for sign in "#=") for heading in headings]
    deepest = max(signed, default=0)
    return [
        level or deepest + _plain_level(heading)
        for level, heading in zip(signed, headings, strict=True)
    ]


def _signs_before(text: str, sign: str) -> int:
    return len(text) - len(text.lstrip(sign))


def _plain_level(heading: str) -> int:
    if tag := _HTML_LEVEL.search(heading):
        return int(tag[1])
    if command := _COMMAND.match(heading):
        return _COMMAND_LEVELS[command[1]]
    return _RULE_LEVELS.get(heading[-1], 3) if "\n" in heading else 4


_GAP = re.compile(r"\S(?: {2,}|\t+)(?=\S)")
_YEAR = re.compile(r"(?<!\d)(?:19|20)\d\d(?!\d)")
_PERIOD = re.compile(
    r"(?:\d{1,2}[./]\d{1,2}[./]|\d{1,2}\.? [^\W\d]{3,9}\.? |[^\W\d]{3,9}\.? \d{1,2}, ?)?"
    + _YEAR.pattern
)
"""A year, or a day of one, that heads a column of figures."""
_COLUMN_RULE = re.compile(r"\s*[-=─━]{2,}(?:[ +|]+[-=─━]{2,})*$")
_FIGURE = re.compile(r"(?:^| {2}|\t)[-+(]?(?:[$€£] ?)?\d")
"""A cell that is a number; what is called `AL 250` or `Workers at week 7` is none."""


def _read_columns(lines: Lines, at: int) -> _Blocks:
    """A table whose columns are aligned by spaces, below a header: with a rule under it, or with
    three columns in each of the first rows and figures in them alone. Three rows with figures need
    no header.

    A further rule is a row, and the table goes on behind it. One of reStructuredText has a rule
    above its header, too, which belongs to that. A name of some rows, and rows below a blank line
    whose cells stand in the same columns, are of the table.
    """
    rows = lines.rows
    names = len(_GAP.findall(rows[at]))
    if names > 1 and _names_values(rows, at, names):
        return [(lines.starts[at], "table_header"), (lines.starts[at + 1], "table_row")], at + 2
    ruled = at + 2 < len(rows) and _is_ruled(rows[at], rows[at + 2])
    aligned = _columns_below(rows, at)
    if (names < 2 and not ruled and not aligned) or at + 2 >= len(rows):
        return [], at
    rule_below = _COLUMN_RULE.match(rows[at + 1]) is not None
    body = at + 3 if ruled else _below_header(rows, at) if aligned else at + 1 + rule_below
    headed = True
    if body == at + 1 and not aligned:
        if not all(map(_has_figures, rows[at + 1 : at + 3])):
            return [], at
        headed = not any(map(str.isdigit, rows[at]))
    found, after = list[Mark](), body
    while (line := _next_row(rows, after, aligned)) is not None:
        if rows[line].isupper() and _is_column_header(rows, line):
            break  # of another table
        found.append((lines.starts[line], "table_row"))
        after = line + 1
    if after == body:
        return [], at
    return [(lines.starts[at], "table_header" if headed else "table_row"), *found], after


def _names_values(rows: Sequence[str], at: int, gaps: int) -> bool:
    """Whether names stand each above a value, in two lines of their own.

    Args:
        gaps: of the line of names.
    """
    around = [rows[at - 1] if at else "", *rows[at : at + 3], "", ""]
    above, names, values, below = around[:4]
    if _GAP.search(above) or below or any(map(str.isdigit, names)) or ":" in names:
        return False
    if gaps != len(_GAP.findall(values)) or not _has_figures(values):
        return False
    common = _common_gaps([names, values])
    return sum(stop - start > 1 for start, stop in common) == gaps


_SAMPLE_ROWS, _LABEL_CHARS, _COLUMN_CHARS = 4, 40, 300


def _columns_below(rows: Sequence[str], at: int) -> list[tuple[int, int]]:
    """What is blank in a line without numbers and in the rows that it heads: `[start, stop)`.

    Empty unless two rows or more have figures, and three columns stand below each other.
    """
    head = rows[at]
    if not _could_head_columns(rows, at) or ": " in head or is_prose(head):
        return []
    first = _below_header(rows, at)
    below = [row for row in rows[first : first + 1 + _SAMPLE_ROWS] if not _names_rows(row)]
    sample = [head]
    for row in below[:_SAMPLE_ROWS]:
        if not _GAP.search(row) or not any(map(str.isdigit, row)):
            break
        sample.append(row)
    gaps = _common_gaps(sample)
    wide = [(start, stop) for start, stop in gaps if stop - start > 1]
    if len(sample) < 3 or len(gaps) < 2 or not wide:
        return []
    return wide if len(wide) > 1 else gaps


def _could_head_columns(rows: Sequence[str], at: int) -> bool:
    """Whether a line has columns and no numbers; years, or a name with a digit, are in a first line
    alone, and the rows below it have numbers."""
    if not _GAP.search(rows[at]):
        return False
    if not any(map(str.isdigit, rows[at])):
        return True
    heads_years = _PERIOD.search(rows[at]) is not None
    above = rows[at - 1].strip() if at else ""
    is_first = not (_FIGURE if heads_years else _GAP).search(above)
    first = _below_header(rows, at)
    first += heads_years and first < len(rows) and _names_rows(rows[first])
    sample = [_PERIOD.sub("year", rows[at]), *rows[first : first + 2]]
    return is_first and [bool(_FIGURE.search(row)) for row in sample] == [False, True, True]


def _below_header(rows: Sequence[str], at: int) -> int:
    """The first line behind a header: a rule below it is of it, and below years or three columns a
    line of units (`£'000`) and a blank line."""
    below = [*rows[at + 1 : at + 3], "", ""]
    ruled = _COLUMN_RULE.match(below[0]) is not None
    has_years = _PERIOD.search(rows[at]) is not None
    if not has_years and len(_GAP.findall(rows[at])) < 2:
        return at + 1 + ruled
    # names of rows have no units: what is above them is blank
    deeper = indent_of(below[0]) > (0 if has_years else indent_of(rows[at]))
    of_units = (deeper or below[0][:1] == "(") and _FIGURE.search(below[0]) is None
    behind = int(ruled or of_units)
    return at + 1 + behind + (not below[behind])


def _names_rows(row: str) -> bool:
    """Whether a line could name the rows below it: short, one cell, and no sentence."""
    return 0 < len(row) <= _LABEL_CHARS and not (
        _GAP.search(row.strip()) or has_stop(row.rstrip(":"))
    )


def _common_gaps(rows: Sequence[str]) -> list[tuple[int, int]]:
    """The columns of characters that are blank in all rows, between others that are not."""
    rows = list(map(in_columns, rows))
    width = min(max(map(len, rows)), _COLUMN_CHARS)
    inked = [any(row[i : i + 1].strip() for row in rows) for i in range(width)]
    edges = [i for i in range(1, width) if inked[i] != inked[i - 1]]
    first = 0 if inked[:1] == [True] else 1
    return list(zip(edges[first::2], edges[first + 1 :: 2], strict=False))


def _next_row(rows: Sequence[str], at: int, gaps: Sequence[tuple[int, int]]) -> int | None:
    """The line of a table's next row from a line on, or of a name of rows; None behind its end.

    Args:
        gaps: of the columns, if they are known: only then may a name or a blank line be between.
    """
    if at >= len(rows):
        return None
    if _GAP.search(rows[at]) or _COLUMN_RULE.match(rows[at]):
        return at
    if not gaps:
        return None
    after_blank = at + (not rows[at])
    below = after_blank
    if after_blank < len(rows) and _names_rows(rows[after_blank]):
        below += 1
    is_row = below > at and below < len(rows) and any(map(str.isdigit, rows[below]))
    return after_blank if is_row and _stands_in(rows[below], gaps) else None


def _stands_in(row: str, gaps: Sequence[tuple[int, int]]) -> bool:
    """Whether a row has cells on both sides of two gaps or more, and is blank in all: a wide cell
    may reach into one."""
    row = in_columns(row)
    between = [row[start:stop] for start, stop in gaps]
    if any(text.strip() and "  " not in text for text in between):
        return False
    return sum(bool(row[:start].strip() and row[stop:].strip()) for start, stop in gaps) > 1


def _is_ruled(above: str, below: str) -> bool:
    """Whether rules of at least two columns stand above and below a header."""
    return above == below and " " in above and _COLUMN_RULE.match(above) is not None


def _is_column_header(rows: Sequence[str], at: int) -> bool:
    """Whether a line without figures heads at least two rows with as many columns, or with columns
    that stand below each other."""
    names = len(_GAP.findall(rows[at])) if at + 2 < len(rows) else 0
    if not names or not _could_head_columns(rows, at):
        return False
    below = rows[at + 1 : at + 3]
    if " " in below[0].strip() and _COLUMN_RULE.match(below[0]):
        return True
    counted = names > 1 and "   " in rows[at]
    counted = counted and all(
        _has_figures(row) and len(_GAP.findall(row)) == names for row in below
    )
    return counted or bool(_columns_below(rows, at))


def _has_figures(row: str) -> bool:
    """Whether a line has three columns, and a digit in one of them."""
    return len(_GAP.findall(row)) > 1 and any(map(str.isdigit, row))


def _is_underline(rule: str, title: str) -> bool:
    """Whether `===` or `---` is below a line, or another rule as long; of tildes, or longer."""
    if not _RULE.match(rule):
        return False
    longer = len(rule) - len(title)
    return rule[0] in "=-" or abs(longer) <= 1 or (rule[0] == "~" and longer > 0)


def _is_rule_of_tildes(rows: Sequence[str], at: int) -> bool:
    """Whether a line of tildes underlines or encloses a title, or parts scenes, and is no fence."""
    rule = rows[at].strip()
    if rule.strip("~"):
        return False
    three_above, over, above = (rows[i] if i >= 0 else "" for i in (at - 3, at - 2, at - 1))
    below, under = (rows[i] if i < len(rows) else "" for i in (at + 1, at + 2))
    if len(rule) > len("~~~"):
        if below and not above and under == rows[at] and len(below) <= len(rule):
            return True  # above a title
        if above and not three_above and over == rows[at] and len(above) <= len(rule):
            return True  # below one
    if below:
        return False
    is_title = above and not over and _is_underline(rule, above.strip())
    return not above or bool(is_title)


_CROSSED_RULE = re.compile(r"-+(?:\+-+)+")


def _is_table(rows: Sequence[str], at: int) -> bool:
    if at + 1 >= len(rows) or "|" not in rows[at]:
        return False
    below = rows[at + 1]
    if _CROSSED_RULE.fullmatch(below):  # as psql draws it
        return below.count("+") == rows[at].count("|")
    return "|" in below and "-" in below and set(below) <= set("|:- \t")


def _read_table(lines: Lines, at: int) -> _Blocks:
    if not _is_table(lines.rows, at):
        return [], at
    after = at + 2
    while after < len(lines.rows) and "|" in lines.rows[after]:
        after += 1
    body: list[Mark] = [(start, "table_row") for start in lines.starts[at + 2 : after]]
    return [(lines.starts[at], "table_header"), *body], after


_GRID_RULE = re.compile(r"\s*\+(?:[-=]{2,}\+){2,}$")


def _read_grid(lines: Lines, at: int) -> _Blocks:
    """A table in a frame of `+---+`, as MySQL and reStructuredText draw it.

    The lines between two rules are a row, or each of them is where only the header has one below.
    A rule belongs to what stands above it, the first to what is below.
    """
    rows = lines.rows
    if not _GRID_RULE.match(rows[at]) or any(map(_GRID_RULE.match, rows[at + 1 : at + 2])):
        return [], at
    rules, after = [at], at + 1
    while after < len(rows) and (rows[after].lstrip()[:1] == "|" or _GRID_RULE.match(rows[after])):
        if _GRID_RULE.match(rows[after]):
            rules.append(after)
        after += 1
    if len(rules) < 2:
        return [], at
    if len(rules) < 3:  # no header
        return [(lines.starts[line], "table_row") for line in (at, *range(at + 2, rules[1]))], after
    bodies = list(pairwise(rules[1:]))
    if len(bodies) == 1:
        starts = list(range(rules[1] + 1, rules[2]))
    else:
        starts = [above + 1 for above, below in bodies if below > above + 1]
    return [
        (lines.starts[at], "table_header"),
        *((lines.starts[line], "table_row") for line in starts),
    ], after


def _read_item(lines: Lines, at: int) -> _Blocks:
    if not _ITEM.match(lines.rows[at]):
        return [], at
    after = at + 1
    while not (_ends_block(lines, after, _ITEM) or _is_next_clause(lines.rows, after)):
        after += 1
    return [(lines.starts[at], "list_item")], after


def _is_next_clause(rows: Sequence[str], at: int) -> bool:
    return rows[at - 1].endswith(_CLAUSE_END) and _NUMBERED.match(rows[at]) is not None


def _read_entry(lines: Lines, at: int) -> _Blocks:
    if at not in lines.entries:
        return [], at
    after = at + 1
    if SAID.match(lines.rows[at]):  # what was said may begin below a blank line
        while after < len(lines.rows) and not lines.rows[after]:
            after += 1
        if _ends_block(lines, after, _INTERRUPTING_ITEM):
            return [(lines.starts[at], "entry")], at + 1
    while not _ends_block(lines, after, _INTERRUPTING_ITEM):
        after += 1
    return [(lines.starts[at], "entry")], after


CUE = re.compile(r"(?:\d{1,6}\s+)?(?:\d{1,2}:)?\d\d:\d\d[.,]\d{3} --> .*")
"""The number and the times of a cue of subtitles."""


def _read_cue(lines: Lines, at: int) -> _Blocks:
    """A cue of subtitles: its number and times, and what is said."""
    rows = lines.rows
    said = at + 1 + (rows[at].isdecimal() and at + 1 < len(rows))
    if not CUE.fullmatch("\n".join(rows[at:said])):
        return [], at
    after = said
    while after < len(rows) and rows[after]:
        after += 1
    text: list[Mark] = [(lines.starts[said], "sentence")] if after > said else []
    return [(lines.starts[at], "entry"), *text], after


def _read_directive(lines: Lines, at: int) -> _Blocks:
    """A code directive of reStructuredText and the lines that are indented deeper."""
    row = lines.rows[at]
    if not _DIRECTIVE.match(row):
        return [], at
    after, edge = at + 1, indent_of(row)
    while after < len(lines.rows) and not lines.rows[after][: edge + 1].strip():
        after += 1
    return [(lines.starts[line], "code") for line in fence_cuts(lines, at, after)], after


def _read_session(lines: Lines, at: int) -> _Blocks:
    """A session of Python's interpreter: statements and what they print, up to a blank line.

    Where converters have dropped the blank lines, it ends before prose or a heading. A long one is
    cut before statements.
    """
    row = lines.rows[at]
    if not _is_prompt(row):
        return [], at
    statements, after, edge = [at], at + 1, indent_of(row)
    while after < len(lines.rows) and (row := lines.rows[after]) and not _ends_session(row, edge):
        if _PROMPT.match(row):
            statements.append(after)
        after += 1
    around = (at - 1, after)
    wrote = any(
        line.endswith("wrote:")
        for line in (lines.rows[max(at - 1, 0)], *lines.rows[after : after + 1])
    )
    if wrote or lines.quoted & set(around):
        return [(lines.starts[at], "sentence")], after  # mail about code
    pieces = [at]
    for first, last in pairwise([*statements, after]):
        if first > pieces[-1] and lines.count_chars(pieces[-1], last) > CODE_CHARS:
            pieces.append(first)
    return [(lines.starts[line], "code") for line in pieces], after


def _is_prompt(row: str) -> bool:
    """Whether a line is a statement behind the interpreter's prompt."""
    prompt = _PROMPT.match(row)
    if prompt is None:
        return False
    said = row[prompt.end() :]
    return _STATEMENT.match(said) is not None or (
        _ARITHMETIC.search(said) is not None and not is_prose(said)
    )


def _ends_session(row: str, edge: int) -> bool:
    """Whether a line is not of a session whose prompts are indented by `edge`."""
    if _PROMPT.match(row):
        return not _is_prompt(row)
    if indent_of(row) > edge or row.lstrip().startswith((">>>", "...")) or _EXCEPTION.match(row):
        return False
    is_text = is_prose(row) or _SENTENCE.match(row) is not None
    return is_text or FENCE.match(row) is not None


_TIME = r"\d{1,2}:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?: ?[AaPp]\.?[Mm]\b\.?)?"
_DATE = r"(?:\d{4}[-/.]\d\d[-/.]\d\d|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})"
_STAMP = rf"(?:{_DATE}(?:,? +|T|, ?))?{_TIME}(?:Z| ?[+-]\d\d:?\d\d)?"
_NAME = r"[^\W\d_][\w.'’@\-]{0,30}(?: [\w.'’()@\-]{1,30}){0,3}"
_CAPITALS = r"[^\W\d_][\w.'’@\-]{0,30}(?: [^\W\d_a-z][\w.'’)@\-]{0,30}){0,3}"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_LEVEL = r"(?:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)"
_TIMED = re.compile(
    rf"\s*(?:[\[(]{_STAMP}[\])]\s*\S"  # '[09:06] Anna: …'
    # '09:06 - Anna: …', but neither '1:12 And God: …' nor '25:27 And the boys grew: …'
    rf"|(?=(?:[01]\d|2[0-3]):|\d:\d\d:\d|\d+[-/.]){_STAMP}\s*(?:[-–—|]\s*)?"
    rf"(?:{_CAPITALS}\s?:|<[ @+]?[^<>\s]{{1,30}}>|-!-)\s"
    rf"|{_TIME}\t[^\t\n]{{1,30}}\t(?![\d:.,]+(?:\t|$))\S"  # '10:12<tab>まゆみ<tab>…'
    rf"|\[[^\[\]\n]{{1,30}}\] \[(?:오전|오후) {_TIME}\] \S"  # '[최미란] [오전 9:12] …'
    rf"|{_DATE},? {_TIME} [-–—] \S"  # '05/01/2024, 09:06 - +44 7700 900123: …'
    rf"|{_NAME},? ?[\[(]{_STAMP}[\])]\s?:\s"  # 'Anna (09:06): …'
    rf"|[^\W\d_]\S{{0,30}} {_TIME} ?[:–—-]\s"  # 'anna 09:06: …'
    rf"|{_DATE}[T ]\d\d:\d\d:\d\d\S*\s+\S"  # '2024-01-05 09:06:00,123 INFO …'
    rf"|{_MONTH} [ \d]\d \d\d:\d\d:\d\d \S"  # 'Jan  5 09:06:00 host cron[1]: …'
    r"|\d{1,3}(?:\.\d{1,3}){3} \S+ \S+ \[[^\]]{10,40}\] "  # '127.0.0.1 - - [05/Jan/2024:…] …'
    rf"|\[{_LEVEL}\]:?\s+\S|{_LEVEL}\s+\[?{_STAMP})"
)
_NICK = re.compile(r"\s*<[@+]?[\w.|\- ]{1,30}> \S")
_ROLE = re.compile(
    r"\s*\**((?:user|assistant|system|human|ai|bot|chatbot|agent|customer|client|caller|operator"
    r"|support|speaker|interviewer|interviewee|moderator)(?: ?(?:\d{1,2}|[A-Z]))?)\**:\**(?:\s|$)",
    re.IGNORECASE,
)
_SPEAKER = re.compile(
    rf"\s*(?!(?:[A-Z] ?)?[A-Z]:)({_NAME})(?: \([^\W\d_a-z][^()\n]{{1,60}}\))?:\s\S"
)
_EDITED = " · edited"
_TIME_ALONE = re.compile(_TIME)
_MONTHS = rf"{_MONTH}[a-z]*\.?"
_DAY = rf"(?:{_DATE}|{_MONTHS} \d{{1,2}}(?:,? \d{{4}})?|\d{{1,2}}\.? {_MONTHS}(?: \d{{4}})?)"
_AT = rf"(?:{_DAY},? +(?:at )?{_TIME}|{_TIME})"
SAID = re.compile(
    rf"\s*\**@?({_NAME})\**(?: \([^()\n]{{1,30}}\))?"
    rf"(?:\s+(?:on |at )?{_AT}"
    r"|(?:,|\s*[-–—|·•]|\s+(?:commented|wrote|said|replied))\s+(?:on |at )?"
    rf"(?:{_AT}|{_DAY}))(?:{_EDITED})?$"
)
"""A line with a name and a time alone, as trackers and messengers print it above what was said. A
day has a sign before it: the subject of a letter may end in one."""
_MAX_GAP_LINES = 8  # the most non-blank lines from one entry to the next


def entry_lines(rows: Sequence[str]) -> frozenset[int]:
    """The lines that begin an entry of a chat or a log.

    Two lines of the same form must be near each other: times, `<names>`, or roles ('USER: …'), of
    which there must be two different ones. Plain names ('Anna: …') count only if they begin three
    lines in four and one of them speaks twice, because lines of prose may have a colon, too.
    """
    nonblank = [line for line, row in enumerate(rows) if row]
    if len(nonblank) < 2:
        return frozenset()
    # how many lines at the margin there are up to each: deeper ones go on with an entry
    margin = list(accumulate(not rows[line][0].isspace() for line in nonblank))
    candidates = {
        i: head
        for i, line in enumerate(nonblank)
        if ":" in (head := _head_of(rows, line))
        or head.lstrip()[0] in "[<"
        or head[-1].isdigit()
        or head.endswith(_EDITED)
    }
    found: set[int] = set()
    for form in (_TIMED, _NICK, SAID, _ROLE, _SPEAKER):
        matched = {i: match for i, head in candidates.items() if (match := form.match(head))}
        if form in (_ROLE, _SPEAKER):
            names = [match[1].lower() for match in matched.values()]
            if len({*names}) < 2:
                continue
            if form is _SPEAKER and not (len({*names}) < len(names) >= 0.75 * len(nonblank)):
                continue
        for i, j in pairwise(sorted(matched)):
            deep = form is _TIMED and margin[j] > margin[i]
            if (margin[j] - margin[i] if deep else j - i) <= _MAX_GAP_LINES:
                found |= {i, j}
    return frozenset(nonblank[i] for i in found)


def _head_of(rows: Sequence[str], line: int = 0) -> str:
    """A line, with the time alone below it if there is one: a speaker may have a line alone."""
    below = rows[line + 1].strip() if line + 1 < len(rows) else ""
    return f"{rows[line]} {below}" if _TIME_ALONE.fullmatch(below) else rows[line]


def begins_entry(text: str, above: str) -> bool:
    """Whether a text begins an entry of a chat or a log, in a form such as that of an entry above:
    with a time, a nick or a role, or else with a name."""

    def has_sign(text: str) -> bool:
        line = _head_of(text.split("\n", 2))
        return any(form.match(line) for form in (_TIMED, _NICK, SAID, _ROLE))

    return has_sign(text) or (not has_sign(above) and _SPEAKER.match(text) is not None)


_DELIMITERS = (("\t", 2), (",", 3), (";", 3), ("|", 3))  # and the fewest columns of a table
_HEADER_CHARS, _HEAD_CHARS, _MOST_TITLE_LINES = 60, 4096, 6
_NUMBER = re.compile(r"\s*[-+]?[\d.,:]+%?\s*$")


def table_marks(text: str) -> list[Mark]:
    """Marks of the header and of each record of a CSV or TSV file; none if the text is not one.

    Every record must have as many values as the first; only the last one may be truncated. Above
    the header there may be lines of one value each, such as a title and a date.
    """
    head = text[:_HEAD_CHARS].splitlines()[: _MOST_TITLE_LINES + 1]
    for sign, columns in _DELIMITERS:
        has_sign = any(line.count(sign) >= columns - 1 for line in head)
        if has_sign and (marks := _table(text, sign, columns)):
            return marks
    return []


_Record = tuple[int, list[str]]


def _table(text: str, sign: str, columns: int) -> list[Mark]:
    above, records, sizes = list[_Record](), list[_Record](), list[int]()
    try:
        for at, values in _records(text, sign):
            if not records and len(above) < _MOST_TITLE_LINES and _is_title_line(values):
                above.append((at, values))
                continue
            if sizes and (sizes[0] < columns or sizes[-1] != sizes[0]):
                return []  # no table, whatever follows
            records.append((at, values))
            sizes.append(len(values))
    except csv.Error:
        return []
    if len(records) < 3 or sizes[-1] > sizes[0]:
        return []
    first: UnitKind = "table_header" if _is_header(records[0][1]) else "table_row"
    if (above and first == "table_row") or _is_prose([values for _, values in records], sign):
        return []
    return [
        *((at, "sentence") for at, _ in above),
        (records[0][0], first),
        *((at, "table_row") for at, _ in records[1:]),
    ]


def _is_title_line(values: Sequence[str]) -> bool:
    return sum(bool(value.strip()) for value in values) == 1


def _records(text: str, sign: str) -> Iterator[_Record]:
    """The non-empty records, each with the offset of its first line."""
    rows = text.splitlines(keepends=True)
    reader = csv.reader(rows, delimiter=sign)
    at = line = 0
    for values in reader:
        if any(value.strip() for value in values):
            yield at, values
        at += sum(map(len, rows[line : reader.line_num]))
        line = reader.line_num


def _is_prose(records: Sequence[Sequence[str]], sign: str) -> bool:
    """Whether spaces follow the delimiters, as they do in sentences but not in files."""
    inner = [value for values in records for value in values[1:]]
    return sign != "\t" and 5 * sum(value[:1] == " " for value in inner) > len(inner)


def _is_header(values: Sequence[str]) -> bool:
    return len({*values}) == len(values) and all(
        value.strip() and len(value) <= _HEADER_CHARS and not _NUMBER.match(value)
        for value in values
    )
