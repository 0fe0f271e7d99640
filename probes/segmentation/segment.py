"""Splitting text into units: blocks (code, tables, lists, chats, JSON), then sentences.

text      one string                                    nothing is stripped, normalised or dropped
marks     where a block begins, and its kind            markdown.py, code.py, config.py,
                                                        chats_tables.py, json_html.py
sentences where a sentence begins inside a block        sentences.py
pieces    [0, a) [a, b) ... [z, len)                    each with its visible span
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tamis.probes.interruption import check_interruption
from tamis.probes.lru import LruCache
from tamis.probes.segmentation.chats_tables import table_marks
from tamis.probes.segmentation.code import LINE_CHARS, code_marks
from tamis.probes.segmentation.config import config_marks
from tamis.probes.segmentation.json_html import html_marks, json_marks
from tamis.probes.segmentation.lines import Mark, paragraph_marks
from tamis.probes.segmentation.markdown import markdown_marks
from tamis.probes.segmentation.markup import PERMALINK
from tamis.probes.segmentation.sentences import sentence_starts
from tamis.probes.text import Passage, Piece, Unit, UnitKind
from tamis.probes.tokens import replace_surrogates

PIECE_CHARS = 1_000  # longer prose is cut at a clause
ITEM_CHARS = 400  # longer list items, entries and HTML blocks are read sentence by sentence

_PIECES_CACHE: LruCache[tuple[Piece, ...]] = LruCache(8_000_000)
"""The pieces of recent texts; costs are in bytes, of which a piece has more than its text."""
_PIECE_BYTES = 200

_VISIBLE = re.compile(r"\S")
_CLAUSE = re.compile(r"[,;:.!?)\]}…—–]\s|[，、；：。！？]")
_SPACE = re.compile(r"\s")
_ZWJ = "\u200d"
_SPLIT_IF_LONG = frozenset({"list_item", "entry", "html"})
_READERS = (json_marks, table_marks, config_marks, code_marks, html_marks)


def segment(text: str, language: str = "en", structure: bool = True) -> list[Piece]:
    """The text as consecutive pieces that partition it exactly.

    The first piece starts at 0, each stop is the next start, the last stop is `len(text)`. White
    space belongs to the piece before it; at the very front, to the first piece. A text of white
    space alone has no pieces. `visible` is never empty and never longer than `PIECE_CHARS`
    (`LINE_CHARS` for code and JSON): longer spans are cut at a clause, at white space, or between
    two characters. Takes time linear in the length of the text; see `probes/interruption.py`.

    Args:
        text: any string, lone surrogates and NUL included.
        language: a code such as `en`, `de` or `zh-hant`; general rules apply to unknown ones.
        structure: first find code, configuration, tables, headings, lists, chats, logs, JSON and
            HTML; if False, only paragraphs.
    """
    safe = replace_surrogates(text)
    return _pieces(safe, _spans(safe, _starts(safe, _marks(safe, structure), language)))


def units_of(
    passages: Sequence[Passage], language: str = "en", structure: bool = True
) -> list[Unit]:
    """The pieces of every passage, in order, each with the index of its passage."""
    return [
        Unit(index, piece.start, piece.stop, piece.visible, piece.kind)
        for index, passage in enumerate(passages)
        for piece in _cached_pieces(passage.text, language, structure)
    ]


def _cached_pieces(text: str, language: str, structure: bool) -> tuple[Piece, ...]:
    """Like `segment`, with a cache of recent texts."""
    key = (text, language, structure)
    return _PIECES_CACHE.get(
        key,
        lambda: tuple(segment(text, language, structure)),
        lambda pieces: len(text) + _PIECE_BYTES * len(pieces),
    )


def _marks(text: str, structure: bool) -> list[Mark]:
    """The blocks of a text, by the first reader that recognises it."""
    if not structure:
        return paragraph_marks(text)
    for read in _READERS:
        check_interruption()
        if marks := read(text):
            return marks
    return markdown_marks(text)


def _starts(text: str, marks: Sequence[Mark], language: str) -> Iterator[Mark]:
    """The marks of blocks, and within blocks of prose those of sentences."""
    for (start, kind), (stop, _) in pairwise([*marks, (len(text), "sentence")]):
        check_interruption()
        long = kind in _SPLIT_IF_LONG and len(text[start:stop].strip()) > ITEM_CHARS
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
    """The spans, where a lone pilcrow or link to a heading belongs to the span before it."""
    last: tuple[int, int, UnitKind] | None = None
    for start, stop, kind in spans:
        if (
            last
            and PERMALINK.fullmatch(text, start, stop)
            and stop - last[0] <= PIECE_CHARS
            and last[2] != "table_header"
        ):
            last = (last[0], stop, last[2])
            continue
        if last:
            yield last
        last = (start, stop, kind)
    if last:
        yield last


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
