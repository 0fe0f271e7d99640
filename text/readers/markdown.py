"""Blocks of plain text, line by line: Markdown, reStructuredText, chats, logs and tables.

Every function consumes whole lines and examines each a bounded number of times. An entry of a chat
or log is a line with a speaker or a time, and the lines that continue it; the cells of a table are
separated by commas or tabs.
"""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, islice, pairwise

from tamis.probes.interruption import check_interruption
from tamis.text.lines import (
    INTRODUCES,
    LINKED_TITLE,
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
    json_spans,
    key_marks,
    key_trees,
    member_starts,
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
# '5.1.2. Key Policies' or '5.1.2 Key Policies'; one number is a list's, two are often a quantity,
# and a 0 is in dates, versions and addresses
_NUMBERED_TITLE = re.compile(r"\s*((?:[1-9]\d?\.){2,}|[1-9]\d?(?:\.[1-9]\d?){2,})\s+[^\W\d_a-z]")
# a title of LaTeX, of MediaWiki and of AsciiDoc, or a commit of Git's log
_MARKED_TITLE = re.compile(
    r"\\(?:part|chapter|(?:sub){0,2}section|paragraph)\*?\{[^{}]*\}(?:\s*\\label\{[^{}]*\})?"
    r"|(={2,6})[^=\n]+\1|={2,5} [^\s=][^=]*|commit [\da-f]{7,40}(?: \([^()]*\))?"
)
_COMMAND = re.compile(r"\\(part|chapter|section|subsection|subsubsection|paragraph)\*?\{")
_COMMAND_LEVELS = dict(part=1, chapter=1, section=2, subsection=3, subsubsection=4, paragraph=5)
_HTML_LEVEL = re.compile(r"<h([1-6])\b")
_RULE_LEVELS, _SECTION_NUMBER = {"=": 1, "-": 2}, re.compile(r"\s*\d+(?:\.\d+)*")
_CHAPTER = re.compile(
    r"\s*(?:第[一二三四五六七八九十百零〇\d]{1,5}[章节節编編部篇卷]|제\s?\d{1,3}\s?[편장절관])"
    r"(?:\s{1,2}\S[^。；，]{0,38})?"
)
CLAUSE = re.compile(
    r"\b(?:shall|must|may|will|can|should|is|are|was|were|has|have|soll|muss|ist|wird)\b|[.;:] "
)
"""What makes a clause of a line: a title names something, and has no verb or second sentence."""
_TITLE_CHARS, _FULL_LINE_CHARS = 100, 60
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
    numbered ones, and sessions of Python's interpreter. Lines indented by four spaces are not code:
    in retrieved text they are mostly lists and quotes.
    """
    lines = _strip_quote_marks(lines_of(text, start, stop))
    lines = lines._replace(
        entries=entry_lines(lines.rows),
        next_items=_next_items(lines.rows),
        titles=_plain_titles(lines.rows),
        documents=json_spans(lines.rows),
        trees=key_trees(lines.rows),
    )
    if "\u3000" in text and not (lines.documents or lines.trees):
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


_BRACKET_ALONE = re.compile(r"^[{\[]\s*$", re.MULTILINE)


def document_marks(text: str) -> list[Mark]:
    """As `markdown_marks`, of a text with JSON among other lines; none of any other."""
    has_json = _BRACKET_ALONE.search(text) and json_spans(lines_of(text).rows)
    return markdown_marks(text) if has_json else []


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
        _read_document,
        _read_tree,
        _read_session,
        _read_cue,
        _read_entry,
        _read_columns,
        _read_pairs,
        _read_comments,
        _read_heading,
        _read_table,
        _read_grid,
        _read_cells,
        _read_tabular,
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
    if at in lines.entries or at in lines.next_items or at in lines.documents or at in lines.trees:
        return True
    row = lines.rows[at]
    opens = any(mark.match(row) for mark in (FENCE, _ATX, _RULE, item))
    return (
        opens
        or _is_prompt(row)
        or _is_linked_title(row)
        or _is_marked_title(lines.rows, at)
        or _is_table(lines.rows, at)
        or _GRID_RULE.match(row) is not None
        or _is_column_header(lines.rows, at)
        or _header_lines(lines.rows, at) > 0
        or _is_tabular(row)
        or (has_stop(lines.rows[at - 1]) and _is_numbered_title(lines.rows, at))
        or _is_east_asian_title(lines.rows, at)
    )


def _is_marked_title(rows: Sequence[str], at: int) -> bool:
    """Whether a line is a title by its signs; without closing ones, below a blank line or an
    anchor."""
    found = _MARKED_TITLE.fullmatch(rows[at])
    return found is not None and (
        rows[at][0] != "=" or found[1] is not None or at == 0 or rows[at - 1][:1] in ("", "[")
    )


def _is_linked_title(row: str) -> bool:
    return "|" not in row and LINKED_TITLE.match(row) is not None


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


def _read_document(lines: Lines, at: int) -> _Blocks:
    """JSON among other lines: a block for each member, as where it stands alone."""
    if (after := lines.documents.get(at)) is None:
        return [], at
    first = lines.starts[at]
    ends = [*accumulate((len(row) + 1 for row in lines.rows[at:after]), initial=0)]
    marks: list[Mark] = [(first, "json")]
    for cut in member_starts("\n".join(lines.rows[at:after])):
        line = bisect_right(ends, cut) - 1
        marks.append((lines.starts[at + line] + cut - ends[line], "json"))
    return marks, after


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
    if _is_linked_title(row):
        return [(lines.starts[at], "heading")], at + 1
    is_fence = below == "~~~" and not _is_rule_of_tildes(lines.rows, at + 1)
    is_item = (_ITEM.match(row) and not row.lstrip()[0].isdigit()) or row[0] == "["
    if _is_underline(below, row) and not is_fence and not is_item:
        return [(lines.starts[at], "heading")], at + 2
    is_title = _is_numbered_title(lines.rows, at) or _is_section_title(lines.rows, at)
    is_title |= (
        at in lines.titles or _heads_text(lines.rows, at) or _is_east_asian_title(lines.rows, at)
    )
    if is_title or _CHAPTER.fullmatch(row) or _is_marked_title(lines.rows, at):
        return [(lines.starts[at], "heading")], at + 1
    return [], at


# '2. Probation', '§ 4 Kaution', 'Article 3 Fees', or a section of a manual's page
_SECTION_TITLE = re.compile(
    r"(?:(?:§|Art(?:icle|\.)?|Section|Clause|Chapter|Part|Line|Step|Item|Rule|Box|Annex|Lesson|Unit"
    r"|Module) ?)?(\d{1,3})[.)]? +([^\W\d_a-z][^.;:!?,|`*]*)"
)
_CAPITAL_TITLE = re.compile(r"[^\W\d_a-z][^\Wa-z]*(?: [^\Wa-z]+){0,4}")
_SECTION_CHARS, _SECTION_REACH = 60, 60


def _is_section_title(rows: Sequence[str], at: int) -> bool:
    """Whether a line has the number and name of a section, or a name in capitals, and the section's
    text is below it: as deep, or deeper below capitals. A number needs another one near it."""
    row, below = rows[at], rows[at + 1] if at + 1 < len(rows) else ""
    if len(row) > _SECTION_CHARS:
        return False
    if not below:
        return _heads_clauses(rows, at)
    if _CAPITAL_TITLE.fullmatch(row):
        return indent_of(below) > 1
    number = _SECTION_TITLE.fullmatch(row)
    if number is None or not _is_text_of_section(below) or CLAUSE.search(number[2]):
        return False
    reach = (
        range(max(0, at - _SECTION_REACH), at),
        range(at + 1, min(len(rows) - 1, at + _SECTION_REACH)),
    )
    for step, places in zip((-1, 1), reach, strict=True):
        wanted = int(number[1]) + step
        for i in places:
            other = _SECTION_TITLE.fullmatch(rows[i]) if len(rows[i]) <= _SECTION_CHARS else None
            if other and int(other[1]) == wanted and _is_text_of_section(rows[i + 1]):
                return True
    return False


def _heads_clauses(rows: Sequence[str], at: int) -> bool:
    """Whether a line has a section's number and name, and its first clause is below a blank line,
    such as 3.1 below 3."""
    number = _SECTION_TITLE.fullmatch(rows[at])
    below = next((row for row in rows[at + 1 : at + 4] if row), "").split(None, 1)
    return number is not None and below[:1] == [f"{number[1]}.1"]


def _is_text_of_section(row: str) -> bool:
    """Whether a line begins a sentence, or a numbered clause, at the margin."""
    return (
        bool(row)
        and not row[0].isspace()
        and not row[0].islower()
        and (_SECTION_TITLE.match(row) is None or _NUMBERED.match(row) is not None)
    )


_NAME_CHARS, _TITLE_WORDS, _LONG_WORD_CHARS = 48, 5, 8
_BRACKETS = re.compile(r"\([^()]{1,30}\)")
_ADMONITION = re.compile(r"Note|Warning|Tip|Hint|Caution|Important|Danger", re.IGNORECASE)
_BULLET = re.compile(rf"\s*(?:[-*+•‣▪◦·]\s+|{_POINT_SIGN}\s*)\S")
_NUMBERED_NAME = re.compile(r"\d{1,2}\.\s+[^\W\d_a-z][^.;:!?]*")

_TITLE_SIGN = r"[■□◆◇●○◎▼▽▲△►▶]"
_EAST_ASIAN_TITLE = re.compile(
    rf"\s*(?:(?P<sign>{_TITLE_SIGN})\s*"
    r"|(?P<number>[一二三四五六七八九十]{1,3}、|\d{1,2}(?:[.．]\d{1,2})*[.．]|\d{1,2}(?:[.．]\d{1,2})+)\s*)?"
    rf"(?P<name>[^。，！？：:|\t]*{_EAST_ASIAN}[^。，！？：:|\t]*)"
)
_IN_BRACKETS = re.compile(
    rf"\s*[【〈《［〔](?=[^【】〈〉《》]*{_EAST_ASIAN})[^【】〈〉《》]*[】〉》］〕]"
)
_OF_ARTICLE = re.compile(r"[（(][^（）()]{1,20}[)）]")
_EAST_ASIAN_DATE = re.compile(r"\d\s?[月월]\s?\d{1,2}\s?[日일]")
_EAST_ASIAN_CHARS, _LISTING_CHARS = 30, 15
_COUNT = re.compile(r"\d+|[一二三四五六七八九十]+")
"""Put aside, a number says of what form it is: that of the next point is the same."""


def _is_east_asian_title(rows: Sequence[str], at: int) -> bool:
    """Whether a line in Chinese, Japanese or Korean is a title: in brackets, or short and without a
    stop, with a sign or number of its own before it, or below a blank line and right above text.

    Lines with the same sign, or with numbers, next to each other are points of a list, and so is
    one right below another at the end of a block.
    """
    row = rows[at]
    below = next((line for line in rows[at + 1 : at + 3] if line), "")
    if not below or len(row) > _EAST_ASIAN_CHARS or row.isascii():
        return False
    if _IN_BRACKETS.fullmatch(row) or (_OF_ARTICLE.fullmatch(row) and below[0] in "第제"):
        return True
    found = _EAST_ASIAN_TITLE.fullmatch(row)
    if found is None or has_stop(row) or _EAST_ASIAN_DATE.search(row):
        return False
    if "、" in found["name"] and len(found["name"]) > _LISTING_CHARS:
        return False  # a clause, which goes on
    above, is_last = rows[at - 1] if at else "", not rows[at + 1]
    if is_last and above and _ITEM.match(above):
        return False
    if found["sign"]:
        return not any(line.lstrip().startswith(found["sign"]) for line in (above, below))
    if found["number"]:
        others = (_EAST_ASIAN_TITLE.match(line[:_EAST_ASIAN_CHARS]) for line in (above, below))
        forms = [_COUNT.sub("0", other["number"] or "") for other in others if other]
        return _COUNT.sub("0", found["number"]) not in forms
    return not above and not is_last and "。" in below and len(below) > len(row)


def _is_below_blank(rows: Sequence[str], at: int) -> bool:
    return at == 0 or not rows[at - 1]


def _could_be_title(rows: Sequence[str], at: int) -> bool:
    """Whether a line below a blank one, or below capitals, is short, begins as a name does and has
    no stop."""
    row = rows[at]
    return (
        0 < len(row) <= _NAME_CHARS
        and (_is_below_blank(rows, at) or is_in_capitals(rows[at - 1]))
        and row[0].isupper()
        and row[-1] not in ",-—|"
        and ")." not in row
        and not has_stop(row)
        and not _ADMONITION.fullmatch(row)
    )


def is_in_capitals(row: str) -> bool:
    """Whether a line is a name in capitals, but for what is in brackets."""
    words = _BRACKETS.sub("", row)
    letters = sum(map(str.isalpha, words))
    return (
        len(row) <= _SECTION_CHARS
        and row[:1].isupper()
        and letters > 3
        and 2 * letters > len(words)
        and words.isupper()
        and not has_stop(row)
    )


def heading_levels(headings: Sequence[str]) -> list[int]:
    """The level of each heading of a text, 1 the outermost: by its tag, its signs, the rule below
    it, its number, or its capitals. Those without signs are below those with some."""
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
    if "\n" in heading:
        return _RULE_LEVELS.get(heading[-1], 3)
    if number := _SECTION_NUMBER.match(heading):
        return 1 + number[0].count(".")
    return 3 if is_in_capitals(heading) or LINKED_TITLE.match(heading) else 4


def _heads_text(rows: Sequence[str], at: int) -> bool:
    """Whether a line stands right above two points of a list and could be their title; is a name in
    capitals that has text below it; or a number and a name, with text set in below a blank line."""
    below, under = [*rows[at + 1 : at + 3], "", ""][:2]
    if below:
        points = _BULLET.match(below) and _BULLET.match(under)
        capitals = _is_below_blank(rows, at) and is_in_capitals(rows[at])
        if capitals and not (is_in_capitals(below) or _ADMONITION.fullmatch(rows[at])):
            is_set = any(map(_GAP.search, (rows[at], below)))
            return not is_set or bool(_columns_below(rows, at + 1))
        return points is not None and _could_be_title(rows, at)
    is_name = len(rows[at]) <= _SECTION_CHARS and _NUMBERED_NAME.fullmatch(rows[at])
    return bool(is_name) and _is_below_blank(rows, at) and indent_of(under) > 2


def _plain_titles(rows: Sequence[str]) -> frozenset[int]:
    """The lines without signs that are titles, with prose or a point below each.

    One that stands so more than once is: of a speaker in what was taken down, for example. Where
    there are several of these, other names in such places are, too; where three name parts, all.
    """
    places: dict[str, list[int]] = {}
    for at, row in enumerate(rows):
        if not _could_be_title(rows, at) or len(row.split()) > _TITLE_WORDS:
            continue
        below = next((line for line in rows[at + 1 : at + 3] if line), "")
        if not any(map(str.isdigit, row)) and (has_stop(below) or _ITEM.match(below)):
            places.setdefault(row, []).append(at)
    titles = {row for row, lines in places.items() if len(lines) > 1}
    names = {row for row in places if all(word[0].isupper() for word in row.split())}
    if len(titles & names) > 1:
        titles |= names
    # one that is no name of a person, who may have signed
    words = {row for row in names if len(row) > _LONG_WORD_CHARS and " " not in row}
    parts = words | (places.keys() - names)
    if len(parts) > 2:
        titles |= places.keys()
    return frozenset(at for row in titles for at in places[row])


_NUMBERED_ITEM = re.compile(r"(\s*)(\d{1,3})[.)]\s+\S")
_ITEM_REACH = 30


def _next_items(rows: Sequence[str]) -> frozenset[int]:
    """The lines with the number that follows that of an item above at the same indentation."""
    last: dict[int, tuple[int, int]] = {}  # of each indentation the number and its line
    found = set()
    for at, row in enumerate(rows):
        if (item := _NUMBERED_ITEM.match(row)) is None:
            continue
        number, line = last.get(len(item[1]), (-1, -1))
        if int(item[2]) == number + 1 and at - line <= _ITEM_REACH:
            found.add(at)
        last[len(item[1])] = int(item[2]), at
    return frozenset(found)


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


_PAIR_LABEL = re.compile(r"[^\W\d_a-z][^\d:;!?|<>{}=@。！？]{0,46}[^\d.:;,!?|<>{}=@。！？]:?")
_PAIR_VALUE = re.compile(r".{0,100}[^:]")
_DATA_SIGN = re.compile(r"\d|@|://")
_FEWEST_PAIRS, _PAIR_LINES = 3, 40


def _read_pairs(lines: Lines, at: int) -> _Blocks:
    """Labels and values on lines that take turns, as a form is exported: each pair is a row.

    A title may stand above them, and blank lines between. Half of the values have a digit or an
    address, or all labels a colon: else the lines could as well be a list.
    """
    rows = lines.rows
    if (at and rows[at - 1]) or len(rows[at]) > _LABEL_CHARS:
        return [], at
    for first in (0, 1):
        filled = (line for line in range(at, len(rows)) if rows[line])
        pairs = list(_pairs_of(rows, islice(filled, first, _PAIR_LINES)))
        with_data = sum(_DATA_SIGN.search(rows[value]) is not None for _, value in pairs)
        with_colon = sum(rows[label].endswith(":") for label, _ in pairs)
        is_sure = 2 * with_data >= len(pairs) or with_colon == len(pairs)
        if len(pairs) >= _FEWEST_PAIRS and is_sure:
            title: list[Mark] = [(lines.starts[at], "sentence")] * first
            marks: list[Mark] = [(lines.starts[label], "table_row") for label, _ in pairs]
            return title + marks, pairs[-1][1] + 1
    return [], at


def _pairs_of(rows: Sequence[str], filled: Iterator[int]) -> Iterator[tuple[int, int]]:
    """Lines with text, two and two, while one could name what the other says, with as many lines
    between as in the first pair; a sentence is rather a paragraph below its title."""
    gap = None
    for label, value in zip(filled, filled, strict=False):
        named = _PAIR_LABEL.fullmatch(rows[label]) and _PAIR_VALUE.fullmatch(rows[value])
        gap = gap or value - label
        if not named or value - label != gap or has_stop(rows[value]):
            return
        yield label, value


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


def _is_numbered_title(rows: Sequence[str], at: int) -> bool:
    """Whether a line has a section's number and name, and text below it.

    A clause has a verb or a stop, or goes on below; a list has its next number there.
    """
    row = rows[at]
    number = _NUMBERED_TITLE.match(row)
    if number is None or len(row) > _TITLE_CHARS or has_stop(row) or row.endswith(_CLAUSE_END):
        return False
    if CLAUSE.search(row, number.end()):
        return False
    below = rows[at + 1] if at + 1 < len(rows) else ""
    if below and (len(row) >= _FULL_LINE_CHARS or is_continued(row, below)):
        return False
    next_row = next((rows[i] for i in range(at + 1, len(rows)) if rows[i]), "")
    last_row = next((rows[i] for i in range(at - 1, -1, -1) if rows[i]), "")
    return bool(next_row) and _title_depth(row) not in map(_title_depth, (next_row, last_row))


def _title_depth(row: str) -> int:
    """How many numbers a line begins with, if it could be a numbered title; else 0."""
    number = _NUMBERED_TITLE.match(row)
    return len(number[1].rstrip(".").split(".")) if number else 0


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


_BAR = re.compile(r"(?<!\S)\|(?!\S)")
_MOST_HEADER_LINES = 4
_COLUMN = re.compile(r"[^\W\d]\w*(?:[ .]\w+)?(?: \([^)]*\))?")


def _read_cells(lines: Lines, at: int) -> _Blocks:
    """A table with bars between its cells and no rule below its header, as converters of pages and
    reports write it."""
    if not (headers := _header_lines(lines.rows, at)):
        return [], at
    body = after = at + headers
    while after < len(lines.rows) and _BAR.search(lines.rows[after]):
        if _is_table(lines.rows, after):
            break
        after += 1
    rows: list[Mark] = [(start, "table_row") for start in lines.starts[body:after]]
    return [(lines.starts[at], "table_header"), *rows], after


def _header_lines(rows: Sequence[str], at: int) -> int:
    """How many lines head two rows of three cells or more, or three of two; 0 if none do.

    An empty cell is above the names of the rows, and there are figures below; or one line has names
    and years in all cells, or is below one with a unit in its first cell.
    """
    if _BAR.search(rows[at]) is None:
        return 0
    body = at
    while body < min(at + _MOST_HEADER_LINES, len(rows)) and rows[body].startswith("|"):
        body += 1
    has_rows = body < len(rows) and _BAR.search(rows[body]) and not rows[body].startswith("|")
    if body == at or not has_rows:  # else all rows have an outer bar
        first, *others = _cells(rows[at])
        is_unit = bool(others) and not "".join(others).strip() and first.strip()
        names = at + 1 if is_unit else at
        width = _columns(rows, names + 1)
        return names + 1 - at if width and _are_names(_cells(rows[names]), width) else 0
    widest = max(len(_cells(row)) for row in rows[at:body])
    has_figures = any(map(str.isdigit, "".join(rows[body : body + 2])))
    return body - at if widest <= _columns(rows, body) and has_figures else 0


def _columns(rows: Sequence[str], at: int) -> int:
    """The cells of two rows, three or more, or of three rows, two; 0 if they have not as many."""
    one, *others = [*(len(_cells(row)) for row in rows[at : at + 3]), 0, 0][:3]
    return one if one == others[0] > 1 and (one > 2 or others[1] == 2) else 0


def _are_names(cells: Sequence[str], columns: int) -> bool:
    """Whether so many cells head columns: with names, of a title or of a database, or years."""
    first, *others = (cell.strip() for cell in cells)
    has_years = bool(others) and all(map(_YEAR.fullmatch, others))
    if len(cells) != columns or (any(map(str.isdigit, first)) and not has_years):
        return False
    return all(_YEAR.fullmatch(name) or _is_name(name) for name in (first, *others))


def _is_name(cell: str) -> bool:
    if cell[:1].islower() and not _COLUMN.fullmatch(cell):
        return False  # a command, or a sentence that goes on
    return bool(cell) and (any(map(str.isalpha, cell)) or not any(map(str.isdigit, cell)))


def _cells(row: str) -> list[str]:
    """The cells of a row, without an outer bar at both ends."""
    inner = row[1:-1] if row[:1] == row[-1:] == "|" else row
    return _BAR.split(inner)


_TABULAR_END = re.compile(r"\\\\(?:\[[^\]]*\])?$")
_CELL_SIGN = re.compile(r"(?<!\\)&")
_TABULAR_RULE = re.compile(r"\s*\\(?:hline|cline|toprule|midrule|cmidrule|bottomrule)\b")


def _is_tabular(row: str) -> bool:
    return _TABULAR_END.search(row[-_TITLE_CHARS:]) is not None and bool(_CELL_SIGN.search(row))


def _read_tabular(lines: Lines, at: int) -> _Blocks:
    """Rows of LaTeX, with `&` between their cells, below a first one that heads them; rules go with
    the row above."""
    if not _is_tabular(lines.rows[at]):
        return [], at
    after, found = at + 1, list[Mark]()
    while after < len(lines.rows):
        if _is_tabular(lines.rows[after]):
            found.append((lines.starts[after], "table_row"))
        elif not _TABULAR_RULE.match(lines.rows[after]):
            break
        after += 1
    return [(lines.starts[at], "table_header" if found else "table_row"), *found], after


def _read_item(lines: Lines, at: int) -> _Blocks:
    if not _ITEM.match(lines.rows[at]):
        return [], at
    after = at + 1
    while not (
        _ends_block(lines, after, _ITEM)
        or _is_next_clause(lines.rows, after)
        or _leads_next_list(lines.rows, at, after)
    ):
        after += 1
    return [(lines.starts[at], "list_item")], after


def _leads_next_list(rows: Sequence[str], item: int, at: int) -> bool:
    """Whether a line below an item, no deeper than it, introduces the items below itself."""
    is_lead = rows[at].endswith(INTRODUCES) and indent_of(rows[at]) <= indent_of(rows[item])
    return is_lead and at + 1 < len(rows) and _ITEM.match(rows[at + 1]) is not None


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
    return is_text or FENCE.match(row) is not None or _is_linked_title(row)


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
