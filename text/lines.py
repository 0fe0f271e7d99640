"""Lines of a text, and marks, which give the blocks of a text.

A mark is the offset where a block begins, and its kind. The block ends at the next mark and
includes the blank lines before that. Links, images and inline code are markup inside a line, which
no sentence ends in.

One line reads as prose or code, whole or broken, at its beginning and its end. Lines come without
trailing white space. A bare line also lacks the marks of a quotation before it and the targets of
its links. The words are English; other languages are told by counts alone.

`continued_lines` tells which lines of a paragraph were only broken at a margin. The text of an HTML
page keeps the line ends of its source, where tags and links that are gone made lines of any length.
So columns alone do not tell: a line of prose without a stop goes on where the next line begins as
only the inside of a sentence does, or where this one ends as no sentence can. Code, keys, cells,
verse and entries of lists are lines of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from types import MappingProxyType
from typing import NamedTuple
from unicodedata import east_asian_width

from tamis.text.types import Passage, Unit, UnitKind

Mark = tuple[int, UnitKind]
_ROWS_AT_A_TIME = 1 << 14
"""One call in C holds the interpreter, and other threads wait."""


class Lines(NamedTuple):
    """Lines of a text: the offset of each, and its content without trailing white space.

    `entries` are the lines that begin an entry of a chat or log, if these were determined, and
    `quoted` those whose marks of a quotation are left out. `trees` gives for the first line of
    nested keys the line after them.
    """

    starts: list[int]
    rows: list[str]
    entries: frozenset[int] = frozenset()
    quoted: frozenset[int] = frozenset()
    trees: Mapping[int, int] = MappingProxyType({})

    def count_chars(self, first: int, last: int) -> int:
        """The number of characters in lines `[first, last)`, without the last line's end."""
        return self.starts[last - 1] + len(self.rows[last - 1]) - self.starts[first]


def lines_of(text: str, start: int = 0, stop: int | None = None) -> Lines:
    """The lines of `text[start:stop]`, with offsets into the whole text."""
    cut = text[start:stop].splitlines(keepends=True)
    starts = [start]
    for first in range(0, len(cut), _ROWS_AT_A_TIME):
        sizes = map(len, cut[first : first + _ROWS_AT_A_TIME])
        starts += islice(accumulate(sizes, initial=starts[-1]), 1, None)
    rows = [row.rstrip() for row in cut]
    if start == 0 and rows and rows[0] != "\ufeff":
        rows[0] = rows[0].removeprefix("\ufeff")  # a mark of the encoding hides no first block
    return Lines(starts[: len(cut)], rows)


def indent_of(row: str) -> int:
    """The characters of white space that a line begins with."""
    return len(row) - len(row.lstrip())


def in_columns(row: str) -> str:
    """A line with every wide character twice, as it stands in columns on a screen."""
    if row.isascii():
        return row
    return "".join(char * (1 + (east_asian_width(char) in "FW")) for char in row)


INTRODUCES = (":", "：", "—")
"""How a line ends that introduces what is below it."""


def is_empty_quote(line: str) -> bool:
    """Whether a line has marks of a quotation alone."""
    return line.lstrip().startswith(">") and not line.strip("> \t\r\n")


def split_at_line_feeds(text: str) -> list[str]:
    """The lines with their ends, as markers count them: a line ends with a line feed alone."""
    *lines, last = text.split("\n")
    return [line + "\n" for line in lines] + ([last] if last else [])


# bounded, so that a run of opening brackets takes linear time, and without a way back among what
# is in brackets: an image in it can be read in four ways, and many of them in four to their number
_LINK = re.compile(
    r"!?\[(?:!?\[[^\[\]]{0,80}\](?:\([^()]{0,200}\))?|[^\[\]]){0,200}+\]\s?"
    r"\((?:[^()\s]|\([^()\s]{0,80}\)|\n){0,400}"
    r"(?:\s+\"(?:[^\"]|\"(?!\s{0,4}\))){0,200}\")?\s?\)"
)
_SIGN = "[¶\ue000-\uf8ff#]"
_TITLE_LINK = rf"\[{_SIGN}\]\([^()\n]{{0,300}}\)"
PERMALINK = re.compile(rf"{_SIGN}|{_TITLE_LINK}")
"""A pilcrow or `[#](…)`, the link from a heading to itself."""
_CODE = re.compile(r"(?<!`)`[^`\n]{1,80}\n?[^`\n]{0,80}`(?!`)")


def markup_spans(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The spans of links, images and inline code in `[start, stop)`, links first."""
    for inner, sign, form in (("](", "[", _LINK), ("]\n(", "[", _LINK), ("`", "`", _CODE)):
        if text.find(inner, start, stop) >= 0:
            yield from _spans_from(sign, form, text, start, stop)


def _spans_from(
    sign: str, form: re.Pattern[str], text: str, start: int, stop: int
) -> Iterator[tuple[int, int]]:
    """The spans of a form that begins with a sign, or an image's with `!` before it.

    Tried at each sign: one search through many signs without a match would hold the interpreter.
    """
    at = text.find(sign, start, stop)
    while at >= 0:
        is_image = sign == "[" and at > start and text[at - 1] == "!"
        if (found := form.match(text, at - is_image, stop)) is not None:
            yield found.span()
            start = found.end()
        at = text.find(sign, max(at + 1, start), stop)


FEW_WORDS, _MANY_WORDS = 4, 7
_OPENERS, _CLOSERS = "*_~[(\"'“‘«", "*_~])\"'”’»}`"
_STOPS = tuple(".!?…:;。！？：")
_QUOTE = re.compile(r"\s*(?:>\s?)*")
_LINK_TARGET = re.compile(r"\]\([^()\s]{1,300}(?:(?:\s\"[^\"\n]{1,200}\")?\)|$)")
_WORD = re.compile(r"(?<![^\s(\[\"'“‘*_`/-])(?:[^\W\d_]{2,}|[aA])(?![^\s)\]\"'”’*_`.,:;!?…/-])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“])(?:e\.g|i\.e|cf|vs|viz|resp|approx|incl|esp|[Ff]ig|Sec|No|Vol|Eq|pp"
    r"|Dr|Mr|Mrs|Ms|Prof|St|z\.\s?B|d\.\s?h|u\.\s?a|bzw)\.$"
)
# a line of prose in English has one of these; cells, titles and code rarely do
ENGLISH_FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with without into onto upon about between through during "
    "within against and or but nor than that which who whose whom where when while because if "
    "unless until whether as is are was were be been being has have had can could may might must "
    "shall should will would does did not its their your our his her my this these those each "
    "every any some such both either how it they we you he she there also only via per "
    "using".split()
)
# no sentence ends with one of these
_NEVER_LAST = frozenset(
    "a an the of to in on at by for from with into onto upon between during against and or but nor "
    "than that which who whose when where how because if unless until whether as is are was were "
    "be being have has had do does can could may might must shall should will would see both those "
    "its their your our his my every via per using e.g. i.e.".split()
)
# columns, a member of JSON, an operator, a comment or prompt
_CODE_LINE = re.compile(
    r"\S {3,}\S|^[\"'][^\"']{1,40}[\"']:|\s(?:[-+*/|&:]?=|==|!=|=>|->|&&|\|\||<-)\s"
    r"|^(?://|/\*|>>>|\.\.\.|#|\$ |\})|\{$"
)
_MAYBE_CODE = re.compile(r"[{}]|[;(\[=|\\]$|^[<$%@]|\w=[\w\"']|^[\w.]+\([^()]*\)$")
# a heading with its permanent link, as documentation systems print it
_TITLE_END = re.compile("[¶\ue000-\uf8ff]$|[\\w ]#$")
_INSIDE_SIGN = re.compile(r"[(/…&$[`\d]|[-.:]+\w|::")


def bare_line(line: str) -> str:
    """A line without the marks of a quotation before it, and without the targets of its links."""
    quote = _QUOTE.match(line)
    line = line[quote.end() :] if quote else line
    return _LINK_TARGET.sub("]", line) if "](" in line else line


def has_stop(line: str) -> bool:
    """Whether a line ends as a sentence, a lead-in, a clause of a law or a linked title does."""
    if ends_with_abbreviation(line):
        return False
    return line.rstrip(_CLOSERS)[-1:] in _STOPS or _TITLE_END.search(line) is not None


def ends_with_abbreviation(line: str) -> bool:
    """Whether a line ends with an abbreviation that something follows, such as `e.g.` or `Dr.`."""
    return line[-1:] == "." and _ABBREVIATION.search(line[-12:]) is not None


def ends_open(line: str) -> bool:
    """Whether a bare line ends with a word that ends no sentence, such as `the` or `and`."""
    word = line[-24:].rsplit(None, 1)[-1:]
    return bool(word) and word[0].lstrip(_OPENERS) in _NEVER_LAST


def begins_inside(line: str) -> bool:
    """Whether a bare line begins as the inside of a sentence does.

    In lower case, or with a comma or a stop; or with code, a link, a number or a bracket, and words
    or a stop after that.
    """
    word = line.lstrip(_OPENERS)
    if word[:1].islower() or line[:1] in (",", ";", ")", "."):
        return True
    is_sign = _INSIDE_SIGN.match(word) or _INSIDE_SIGN.match(line)
    return is_sign is not None and (has_function_word(line) or has_stop(line))


def begins_with_code(line: str) -> bool:
    """Whether a line begins with inline code."""
    return line.lstrip(_OPENERS)[:1] == "`"


def count_words(line: str) -> int:
    """How many words of natural language a bare line has."""
    return len(_WORD.findall(line))


def line_starts(passages: Sequence[Passage], units: Sequence[Unit]) -> list[int]:
    """Where the line begins that each unit begins in."""
    found: list[int] = []
    passage, start, seen = -1, 0, 0
    for unit in units:  # none looks at what the one before it saw: one line may hold them all
        if unit.passage != passage:
            passage, start, seen = unit.passage, 0, 0
        at = unit.visible[0]
        start = max(start, passages[passage].text.rfind("\n", seen, at) + 1)
        seen = at
        found.append(start)
    return found


def has_function_word(line: str) -> bool:
    """Whether a bare line has a word that holds English sentences together, and another."""
    words = _WORD.findall(line)
    return len(words) > 1 and any(word.lower() in ENGLISH_FUNCTION_WORDS for word in words)


def is_prose(line: str) -> bool:
    """Whether a bare line reads as prose: some words, one that holds sentences together."""
    count = count_words(line)
    if count < FEW_WORDS or is_code(line):
        return False
    return count >= _MANY_WORDS or has_function_word(line)


def is_code(line: str) -> bool:
    """Whether a bare line is code; one of few words that looks like it is, too."""
    if _CODE_LINE.search(line):
        return True
    few = count_words(line) < FEW_WORDS and not has_function_word(line)
    return few and _MAYBE_CODE.search(line) is not None


def is_title(line: str) -> bool:
    """Whether most longer words of a bare line begin with a capital."""
    words: list[str] = [word for word in _WORD.findall(line) if len(word) > FEW_WORDS]
    return 2 * sum(word[0].isupper() for word in words) > len(words)


_ITEM = re.compile(
    r"\s*(?:[-+*•‣▪◦·–]\s|\(?\d{1,3}[.)]\s|:\s|¶|[\w.-]{1,30}:\s|\d+(?:\.\d+)*\.?\s+[^\W\d_a-z])"
)
# what cannot begin a sentence, whatever stands before it
_GOES_ON = re.compile(
    r"(?:of|and|or|but|nor|than|which|that|whose|for|as|with|from)\s+\w|[.,;)](?:\s|$)"
)
_SHORT_CHARS, _LONG_CHARS, _COLUMNS = 25, 60, 160
_FULL_SHARE, _ALMOST_FULL_SHARE = 0.8, 0.5
_REACH = 4  # lines on either side that tell whether a paragraph is wrapped


def continued_lines(lines: Sequence[str]) -> list[bool]:
    """For each line of a paragraph, whether it goes on with the sentence of the line above.

    Args:
        lines: without trailing white space.
    """
    bare = [bare_line(line) for line in lines]
    ends, heads = [_last_cell(line) for line in bare], [_first_cell(line) for line in bare]
    votes = _wrapping_votes(ends, heads)
    found = [False] * len(lines)
    width = max(map(len, map(in_columns, bare))) if any(map(HAN_OR_KANA.search, bare)) else 0
    for i in range(1, len(lines)):
        if width >= _LEAST_COLUMNS and _fills(bare[i - 1], bare[i].lstrip(), width):
            found[i] = True
        elif _may_go_on(ends[i - 1], heads[i], found[i - 1]):
            near = [*votes[max(0, i - _REACH) : i], *votes[i + 1 : i + 1 + _REACH]]
            if "|" in lines[i]:
                found[i] = has_function_word(heads[i]) and _is_inside(ends[i - 1], heads[i])
            elif len(bare[i - 1]) > _COLUMNS:
                found[i] = heads[i][:1].islower()
            else:
                found[i] = _is_inside(ends[i - 1], heads[i]) or _is_wrapped(bare, i, near)
    return found


_LEAST_COLUMNS, _OPEN_COLUMNS = 40, 3
HAN_OR_KANA = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
NUMBERED_PART = (
    r"(?:§+|Section|Sec\.|Clause|Cl[aá]us(?:ula|ola)|Clausule|Klausel|Chapter|Chapitre|Kapitel"
    r"|Cap[ií]t(?:ulo|olo)|Art(?:icle|[ií]culo|icolo|ikel|\.)|Paragraph|Abschnitt|Ziffer|Item|Rule"
    r"|Point|Punkt|Punto|TOP)"
)
"""Pattern: what a numbered part of a contract, law or agenda is called: `Article`, `§`."""


def _fills(before: str, after: str, width: int) -> bool:
    """Whether a line of Chinese or Japanese was broken at the margin, where all lines are: these
    have no blanks to be broken at."""
    is_open = before.endswith(("、", "，")) or HAN_OR_KANA.match(before[-1:])
    if not (is_open and HAN_OR_KANA.match(after)):
        return False
    return len(in_columns(before)) >= width - _OPEN_COLUMNS and _ITEM.match(after) is None


def is_continued(line: str, below: str) -> bool:
    """Whether a title goes on with the line below it, in its sentence or in a link."""
    joined = f"{line}\n{below}"
    in_link = any(a <= len(line) < b for a, b in markup_spans(joined, 0, len(joined)))
    return in_link or (is_prose(bare_line(line)) and continued_lines([line, below])[1])


def _wrapping_votes(ends: Sequence[str], heads: Sequence[str]) -> list[int]:
    """For each line after prose without a stop: 1 if it begins inside a sentence, else -1."""
    votes = [0] * len(ends)
    for i in range(1, len(ends)):
        if heads[i] and is_prose(ends[i - 1]) and not has_stop(ends[i - 1]):
            votes[i] = 1 if begins_inside(heads[i]) else -1
    return votes


def _may_go_on(before: str, after: str, goes_on: bool) -> bool:
    """Whether two lines are prose that may be one sentence.

    Args:
        goes_on: whether the line before goes on with a sentence itself.
    """
    if not before or not after or has_stop(before) or _ITEM.match(after):
        return False
    prose = goes_on or (is_prose(before) and len(before) >= _SHORT_CHARS)
    opens = has_function_word(before) and not before[0].islower()
    prose = prose or (opens and count_words(after) > 2)
    prose = prose or _GOES_ON.match(after) is not None
    return prose and not is_code(before) and not is_code(after)


def _is_inside(before: str, after: str) -> bool:
    """Whether the break between two lines is one where no sentence can end or begin."""
    listed = before[-1] == "," and begins_with_code(after)
    return listed or begins_inside(after) or ends_open(before)


def _is_wrapped(lines: Sequence[str], i: int, near: Sequence[int]) -> bool:
    """Whether a line that begins with a capital goes on, by the width and by the lines around.

    Args:
        near: the votes of the breaks around.
    """
    before, after = lines[i - 1], lines[i]
    prose = before[-1] == "," or (is_prose(before) and (is_prose(after) or has_stop(after)))
    if not prose or is_title(before):
        return False
    word = after.lstrip()[:80].split(None, 1)[0]
    width = max(map(len, lines[max(0, i - 2) : i + 2]))
    share = _FULL_SHARE if min(near, default=0) < 0 or sum(near) < 2 else _ALMOST_FULL_SHARE
    full = len(before) + 1 + len(word) >= share * width
    return full and (sum(near) > 0 or len(before) >= _LONG_CHARS)


def _last_cell(line: str) -> str:
    """What follows the last `|` of a line, or the tab before its last column."""
    return line.rpartition("|")[2].rpartition("\t")[2].strip()


def _first_cell(line: str) -> str:
    """What stands before the first `|` of a line, or before the tab after its first column."""
    return line.partition("|")[0].strip().partition("\t")[0].strip()
