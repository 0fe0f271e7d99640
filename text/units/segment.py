"""Splitting text into units: blocks (code, tables, lists, chats, JSON), then sentences.

text      one string                                    nothing is stripped, normalised or dropped
marks     where a block begins, and its kind            markdown, code, xml_html
sentences where a sentence begins inside a block        lines, then sentencex, then clauses
pieces    [0, a) [a, b) ... [z, len)                    each with its visible span
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tamis.probes.interruption import check_interruption
from tamis.probes.lru import LruCache
from tamis.probes.tokens import TextTokenizer, replace_surrogates
from tamis.text.lines import (
    FEW_WORDS,
    PERMALINK,
    Mark,
    count_words,
    has_function_word,
    is_empty_quote,
    is_prose,
    lines_of,
)
from tamis.text.readers.code import (
    LINE_CHARS,
    code_marks,
    commented_marks,
    config_marks,
    cut_unit,
    json_marks,
    split_long_code,
)
from tamis.text.readers.markdown import document_marks, markdown_marks, table_marks
from tamis.text.readers.xml_html import html_marks, xml_marks
from tamis.text.types import KINDS, Passage, Piece, Unit, UnitKind
from tamis.text.units.sentences import sentence_starts

PIECE_CHARS = 1_000  # longer prose is cut at a clause
ITEM_CHARS = 400  # longer list items, entries and HTML blocks are read sentence by sentence

_PIECES_CACHE: LruCache[tuple[Piece, ...]] = LruCache(8_000_000)
"""The pieces of recent texts; costs are in bytes, of which a piece has more than its text."""
_PIECE_BYTES = 200

_VISIBLE = re.compile(r"\S")
_STOPS = re.compile(r"[.!?…,;:)\]”»]{1,3}")
_CLAUSE = re.compile(r"[,;:.!?)\]}…—–]\s|[，、；：。！？]")
_SPACE = re.compile(r"\s")
_ZWJ = "\u200d"
_READERS = (
    json_marks,
    document_marks,
    table_marks,
    config_marks,
    code_marks,
    xml_marks,
    html_marks,
    commented_marks,
)


def segment(text: str, language: str = "en") -> list[Piece]:
    """The text as consecutive pieces that partition it exactly.

    The first piece starts at 0, each stop is the next start, the last stop is `len(text)`. White
    space belongs to the piece before it; at the very front, to the first piece. A text of white
    space alone has no pieces. `visible` is never empty and never longer than `PIECE_CHARS`
    (`LINE_CHARS` for code and JSON): longer spans are cut at a clause, at white space, or between
    two characters. Takes time linear in the length of the text; see `probes/interruption.py`.

    Args:
        text: any string, lone surrogates and NUL included.
        language: a code such as `en`, `de` or `zh-hant`; general rules apply to unknown ones.
    """
    safe = replace_surrogates(text)
    return _pieces(safe, _spans(safe, _starts(safe, _marks(safe), language)))


def units_of(passages: Sequence[Passage], language: str = "en") -> list[Unit]:
    """The pieces of every passage, in order, each with the index of its passage."""
    return [
        Unit(index, piece.start, piece.stop, piece.visible, piece.kind)
        for index, passage in enumerate(passages)
        for piece in _cached_pieces(passage.text, language)
    ]


ROOM_SHARE = 0.75
"""One unit may take this share of a budget: what it is shown with takes room, too."""


def split_long_units(
    passages: Sequence[Passage],
    units: Sequence[Unit],
    counter: TextTokenizer,
    limit: int,
    language: str = "en",
) -> list[Unit]:
    """Splits what has more tokens than `ROOM_SHARE` of a budget, at its own joints.

    Code and entries: `split_long_code`. An item that is longer than the budget is read sentence by
    sentence: under all that hold it, it is the same unit, with the same score. Lines that are no
    wrapped prose, such as statements of SQL, are parted where they have more tokens than that. So
    is a row of a table, not of HTML: behind the cell that names it, before its longest cell, if
    that says something, and at the sentences of that. No sentence is cut.
    """
    found: list[Unit] = []
    safe, safe_of = "", -1
    budget, limit = limit, max(1, int(ROOM_SHARE * limit))
    for unit in split_long_code(passages, units, counter, limit):
        text, (first, last) = passages[unit.passage].text, unit.visible
        tokens = 0
        most = budget if unit.kind == "list_item" else limit
        # no tokenizer makes more tokens than bytes, of which a character has four at most
        parted = unit.kind in ("sentence", "list_item")
        parted |= unit.kind == "table_row" and text[first] != "<"  # none of HTML
        if parted and 4 * (last - first) > most:
            tokens = counter.count(text[first:last])
        if tokens <= most:
            found.append(unit)
            continue
        if unit.passage != safe_of:
            safe, safe_of = replace_surrogates(text), unit.passage
        if unit.kind == "table_row":
            cuts = list(_row_cuts(safe, first, last, language, tokens <= budget))
            found += cut_unit(text, unit, cuts) if len(cuts) > 1 else [unit]
            continue
        starts = [
            cut
            for start, stop in pairwise([*sentence_starts(safe, first, last, language), last])
            for cut in (_line_starts(safe, start, stop) if tokens > limit else [start])
        ]
        found += cut_unit(text, unit, starts)
    return found


_CELL = re.compile(r"[^,;|\t]+(?:[,;] [^,;|\t]*)*")
_NAMING_CELLS = 3
"""The first cells of a row, one of which may name it."""


def _row_cuts(text: str, first: int, last: int, language: str, fits_alone: bool) -> Iterator[int]:
    """Where the parts of a row begin: what names it, more cells, and the sentences of the longest
    one, with what is behind it; blanks follow the commas of what a cell says. A row that has room
    without its header is parted only if that cell is most of it; one of a file that has none is
    parted before that cell, whatever it holds."""
    yield first
    cells = [found.span() for found in _CELL.finditer(text, first, last)]
    start, stop = max(cells, key=lambda span: span[1] - span[0], default=(first, last))
    said = start + (text[start : start + 1] == '"')  # no sentence ends inside quotation marks
    inside = list(sentence_starts(text, said, last, language))[1:]
    says = has_function_word(text[start:stop]) and count_words(text[start:stop]) >= FEW_WORDS
    if fits_alone and 2 * (stop - start) <= last - first:
        return  # a note among many cells
    if not inside and not says:
        if not fits_alone and start > first and text[first] != "|":
            yield start
        return
    named = [at for at, end in cells[:_NAMING_CELLS] if _is_name(text[at:end])]
    after = [at for at, _ in cells if named and at > named[0]]
    if after and first < after[0] < start:
        yield after[0]
    if start > first:
        yield start
    yield from inside


def _is_name(cell: str) -> bool:
    """Whether a cell names a row: words, and neither an id nor a date."""
    word = re.search(r"[^\W\d_]{2}", cell) is not None
    return word and (" " in cell.strip() or not any(map(str.isdigit, cell)))


def _line_starts(text: str, start: int, stop: int) -> Iterator[int]:
    """Where the lines of a piece begin that are not wrapped prose; of all else its start alone."""
    lines = lines_of(text, start, stop)
    rows = [row for row in lines.rows if row]
    yield start
    if len(rows) > 2 and 2 * sum(map(_is_wrapped, rows)) <= len(rows):
        rows_at = zip(lines.starts, lines.rows, strict=True)
        yield from (at for at, row in rows_at if row and at > start)


def _is_wrapped(row: str) -> bool:
    """Whether a line reads as one of prose that goes on below it."""
    return is_prose(row) and not row.endswith((";", "{", "}"))


def _cached_pieces(text: str, language: str) -> tuple[Piece, ...]:
    """Like `segment`, with a cache of recent texts."""
    return _PIECES_CACHE.get(
        (text, language),
        lambda: tuple(segment(text, language)),
        lambda pieces: len(text) + _PIECE_BYTES * len(pieces),
    )


def _marks(text: str) -> list[Mark]:
    """The blocks of a text, by the first reader that recognises it."""
    for read in _READERS:
        check_interruption()
        if marks := read(text):
            return marks
    return markdown_marks(text)


def _starts(text: str, marks: Sequence[Mark], language: str) -> Iterator[Mark]:
    """The marks of blocks, and within blocks of prose those of sentences."""
    for (start, kind), (stop, _) in pairwise([*marks, (len(text), "sentence")]):
        check_interruption()
        long = KINDS[kind].is_split and len(text[start:stop].strip()) > ITEM_CHARS
        if kind == "sentence" or long:
            yield from ((at, kind) for at in sentence_starts(text, start, stop, language))
        else:
            yield start, kind


def _spans(text: str, marks: Iterator[Mark]) -> Iterator[tuple[int, int, UnitKind]]:
    """The visible spans: without surrounding white space, none empty, none too long."""
    for (start, kind), (stop, _) in pairwise([*marks, (len(text), "sentence")]):
        ink = _VISIBLE.search(text, start, stop)
        if ink is None:
            continue
        stop = start + len(text[start:stop].rstrip())
        cuts = [
            *_cuts(
                text, ink.start(), stop, LINE_CHARS if kind in ("code", "json") else PIECE_CHARS
            ),
            stop,
        ]
        yield from ((a, a + len(text[a:b].rstrip()), kind) for a, b in pairwise(cuts))


def _pieces(text: str, spans: Iterator[tuple[int, int, UnitKind]]) -> list[Piece]:
    """The pieces: each visible span with the white space after it, the first also before it."""
    visible = list(_join_permalinks(text, spans))
    edges = [0, *(start for start, _, _ in visible[1:]), len(text)]
    return [
        Piece(start, stop, (first, last), kind)
        for (first, last, kind), (start, stop) in zip(visible, pairwise(edges), strict=False)
    ]


def _join_permalinks(
    text: str, spans: Iterator[tuple[int, int, UnitKind]]
) -> Iterator[tuple[int, int, UnitKind]]:
    """The spans, where a lone pilcrow, a link to a heading, an empty line of a quotation or a stop
    belongs to the span before it."""
    last: tuple[int, int, UnitKind] | None = None
    for start, stop, kind in spans:
        check_interruption()
        if (
            last
            and (
                PERMALINK.fullmatch(text, start, stop)
                or is_empty_quote(text[start:stop])
                or (last[2] == kind == "sentence" and _STOPS.fullmatch(text, start, stop))
            )
            and stop - last[0] <= PIECE_CHARS
            and last[2] != "table_header"
            and not _is_in_comment(text, start, stop)
        ):
            last = (last[0], stop, last[2])
            continue
        if last:
            yield last
        last = (start, stop, kind)
    if last:
        yield last


def _is_in_comment(text: str, start: int, stop: int) -> bool:
    """Whether a sign stands alone on its line, right above or below another line of comment."""
    above = text.rfind("\n", 0, max(0, start - 1)) + 1
    return text[start - 1 : start] in ("", "\n") and (
        text.startswith("\n#", stop) or text.startswith("#", above, start)
    )


def _cuts(text: str, start: int, stop: int, limit: int) -> Iterator[int]:
    """The start, and the offsets where `[start, stop)` is cut so that no part exceeds the limit."""
    yield start
    while stop - start > limit:
        ink = _VISIBLE.search(text, _last_break(text, start, start + limit), stop)
        if ink is None:  # impossible: the character before stop is visible
            return
        start = ink.start()
        yield start


def _last_break(text: str, start: int, stop: int) -> int:
    """The best offset to cut in `(start, stop]`: a clause mark, else white space, else any."""
    for mark, first in ((_CLAUSE, (start + stop) // 2), (_SPACE, start)):
        last = start
        for last_match in mark.finditer(text, first, stop):
            last = last_match.end()
        if last > start:
            return _grapheme_boundary(text, start, last)
    return _grapheme_boundary(text, start, stop)


def _grapheme_boundary(text: str, start: int, at: int) -> int:
    """The last offset up to `at` that does not separate accents or joined emoji from their base."""
    # 64: no emoji in use is longer, and an endless run of accents must still be cut
    for offset in range(at, max(start, at - 64), -1):
        if not _joins_previous(text, start, offset):
            return offset
    return at


def _joins_previous(text: str, start: int, at: int) -> bool:
    """Whether the character at `at` belongs to the one before it."""
    if at >= len(text):
        return False
    before, here = text[at - 1], text[at]
    if here < "\u0300":
        return before == "\r" and here == "\n"
    if _is_flag_letter(here):
        run = at
        while run > start and _is_flag_letter(text[run - 1]):
            run -= 1
        return (at - run) % 2 == 1
    joins = before == _ZWJ or here == _ZWJ or "\U0001f3fb" <= here <= "\U0001f3ff"
    return joins or "\U000e0020" <= here <= "\U000e007f" or unicodedata.category(here)[0] == "M"


def _is_flag_letter(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"


# sentencex is quadratic on CJK and on backticks: 40k characters of '你好。' take 0.6 s
