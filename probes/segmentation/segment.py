"""Splitting text into units: blocks (code, tables, lists, chats, JSON), then sentences.

text      one string                                    nothing is stripped, normalised or dropped
marks     where a block begins, and its kind            markdown.py, code.py, json_html.py,
                                                        chats_tables.py, config_marks here
sentences where a sentence begins inside a block        sentences.py
pieces    [0, a) [a, b) ... [z, len)                    each with its visible span

Configuration is YAML, TOML, INI, properties and environment files. Prose has colons, too. A text is
treated as configuration only if every line at its margin is a key, a section, an item or a comment,
and if it has a feature that notes lack: keys nested in keys, a section, `key=value`, or keys in
lower case none of which occurs twice.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tamis.probes.interruption import check_interruption
from tamis.probes.lru import LruCache
from tamis.probes.segmentation.chats_tables import table_marks
from tamis.probes.segmentation.code import LINE_CHARS, Listing, code_marks
from tamis.probes.segmentation.json_html import html_marks, json_marks
from tamis.probes.segmentation.lines import Mark, lines_of, paragraph_marks
from tamis.probes.segmentation.markdown import markdown_marks
from tamis.probes.segmentation.markup import PERMALINK
from tamis.probes.segmentation.sentences import sentence_starts
from tamis.probes.text import Passage, Piece, Unit, UnitKind
from tamis.probes.tokens import replace_surrogates

_NAME = r"(?:\"[^\"]{1,80}\"|'[^']{1,80}'|[\w$@/.<][\w$@/.<>\-\[\]]{0,79})"
_KEY = re.compile(rf"(?:- +)*({_NAME}) ?:(?: +(\S.*))?$")
_PAIR = re.compile(r"(?:export +)?[\w.\-/$@\"]{1,80} *=(?![=>]).*(?<![;{])$")
_SECTION = re.compile(r"\[{1,2}[^\[\]]{1,80}\]{1,2}(?:\s*[#;].*)?$")
_NEUTRAL = re.compile(r"[#;!]|---|\.\.\.$|%YAML|[\])}]+,?$")
_ITEM = re.compile(r"- +\S|-$")
_IDENTIFIER = re.compile(r"[a-z_][\w.\-/]*$")
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
    listing = Listing(lines, 0, len(lines.rows), _has_children)
    return [
        (lines.starts[line], "code") for line in listing.cut_lines_from(_outermost_starts(listing))
    ]


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
