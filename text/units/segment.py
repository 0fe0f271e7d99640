"""Splitting text into units: blocks (code, tables, lists, chats, JSON), then sentences.

text      one string                                    nothing is stripped, normalised or dropped
marks     where a block begins, and its kind            markdown, code, xml_html
sentences where a sentence begins inside a block        lines, then sentencex, then clauses
pieces    [0, a) [a, b) ... [z, len)                    each with its visible span

A line that is a statement of its own (a verse, a log entry, a key with its value) ends a sentence;
a line that was only wrapped at the margin does not. sentencex knows the abbreviations of many
languages; errors of it that were found on XQuAD, SQuAD and HotpotQA are corrected.

Thai and Lao put a space between clauses and a full stop only after abbreviations; Khmer and Burmese
have stops of their own and often leave them out. A paragraph of these would be one unit. It is cut
at spaces, as near to `CLAUSE_CHARS` as they allow. Chinese and Japanese without stops are cut at
commas and spaces, else where a particle in hiragana ends, else anywhere between two characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

from sentencex import get_sentence_boundaries

from tamis.probes.interruption import check_interruption
from tamis.probes.lru import LruCache
from tamis.probes.tokens import TextTokenizer, replace_surrogates
from tamis.text.language import primary_subtag
from tamis.text.lines import (
    FEW_WORDS,
    HAN_OR_KANA,
    NUMBERED_PART,
    PERMALINK,
    Lines,
    Mark,
    continued_lines,
    count_words,
    has_function_word,
    is_empty_quote,
    is_prose,
    lines_of,
    markup_spans,
)
from tamis.text.readers.code import (
    CALL,
    LINE_CHARS,
    code_marks,
    commented_marks,
    config_marks,
    cut_unit,
    json_marks,
    split_long_code,
)
from tamis.text.readers.markdown import markdown_marks, table_marks
from tamis.text.readers.xml_html import html_marks, xml_marks
from tamis.text.types import KINDS, Passage, Piece, Unit, UnitKind

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
    """The pieces of every passage, in order, each with the index of its passage; those of its text
    where it brings none."""
    return [
        Unit(index, piece.start, piece.stop, piece.visible, piece.kind)
        for index, passage in enumerate(passages)
        for piece in passage.pieces or _cached_pieces(passage.text, language)
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


WINDOW_CHARS = 2_000
_SEARCHED_CHARS, _LONGEST_END = 16_384, 1024  # of a part, and of what ends a sentence
QUOTED_CHARS = 240  # a longer sentence with quotation marks or brackets is split inside them

# columns at which prose is wrapped; a shorter line is a verse or an entry, a longer one a paragraph
_COLUMNS = range(55, 161)
_RAGGED_COLUMNS = 10
_RECORD = re.compile(
    r"\s*(?:\[|\d{1,4}[-/:.]\d|\"[^\"]{1,40}\":|[^\s:：]{1,12}："
    r"|[^\W\d_][\w.\-]*(?: [\w.\-]+){0,3}\s?[:=：](?:\s|$))"
)
_ASCII_STOP = re.compile(r"[.!?]")
# a line with a date, or one of a stack of calls
_OWN_LINE = re.compile(rf"\s*\[?\d{{4}}-\d\d-\d\d|{CALL}|\s*\.\.\. \d+ more$|Caused by: ")
_STOP = re.compile(r"[.!?。！？…:：;]$")
# what a row of a bill ends in
_AMOUNT = re.compile(r"\S(?: {3,}|\t)\S{0,4} ?\d[\d.,'’]*(?: ?\S{1,4})?$")

# three cells, with gaps that no prose has, and such a gap before a cell: '2 pers.      19,00 €'
_ROW = re.compile(r"\S(?:(?: {0,2}[^ ])*+ {3,}[^ ]){2}")
_CELL_GAP = re.compile(r"\S {3,}\Z")

_CAPITAL = "A-ZÀ-ÖØ-ÞА-ЯΑ-Ω"
_OPENING = "\"'“„«‘‹(\\["
_CLOSING = "\"'”’»›)\\]}」』）】》〉"
# an apostrophe or a backtick may pair with a distant one; all between them is then one sentence
_LETTER_LIKE = re.compile(r"[`´]|(?<=\w)['’](?=\w)")
# sentencex fails on "C\u00a0." for every white space of more than one byte
_WIDE_BLANK = re.compile(r"[^\S\x00-\x7f](?=[^\w\s])")
_PAIRED = re.compile("[\"“”„«»()（）「」『』'‘’]")
_MISSED = re.compile(
    rf"[。！？]+[{_CLOSING}]*"  # '…？2011年…': no split before a digit
    rf"|[.!?][{_CLOSING}]+\s+(?=[{_OPENING}]?[{_CAPITAL}])"  # '…(see there.) Then …'
    r"|(?<=[^\W\d_]{5})(?<!pprox)\.\s+(?=\d)"  # '… Richtung. 1950 ernannte …'
    rf"|\b(?:[Mm]ay|me|art|ill|ID|CA|DC|pH|km|bien|mar)\.\s+(?=[{_CAPITAL}])"  # words
    rf"|(?<=\d)\s?(?:[ckm]?m/[hs]|l/(?:min|[hs])|[cdghlmst])\.\s+(?=[{_CAPITAL}])"  # '50 km/h.'
    # 'other race groups . Former …', 'Tottenham Hotspur F.C.. The …'
    rf"|(?:(?<=[^.\s]\s)[.!?]|(?<=[^.\s])(?:\.\.|…)|(?<=[^.\s\]>A-Z])\.\.\.)\s+(?=[{_CAPITAL}])"
)
# what follows a full stop without a space and belongs to its sentence: '.”', '.[source needed]';
# bounded, else a line of nothing but notes would be scanned from each of them to its end
_TAIL = re.compile(
    rf"(?:[{_CLOSING}]{{1,8}}(?=\s|$|\[)|[”’」』）】》〉]{{1,8}}"
    r"|\[[^\[\]\n]{1,40}\]\.?|(?<=\.):\d[\d:–-]{,40}|[*_]{1,3}(?=\s|$)){1,8}"
)
_OPEN_END = re.compile(
    r"(?:\b(?:[Vv]ol|[Ff]ig|[Ee]q|Bros|EE|vs|cf|[Nn]r|Mrs?|Ms|Mme|Mlle|MM|Sra?|Srta|Dra?|Prof|[VU]ds?)\."
    r"|\.\s?\.)\s*$"
)
_MONSIEUR = re.compile(r"(?<![\w.'’-])M\.\s*$")
# Thai and Lao put a full stop after abbreviations and nowhere else: 'พ.ศ. 2560', 'ดร. สมชาย'
_ABBREVIATED = re.compile("[\u0e00-\u0eff]\\.\\s*$")
# a name with dots is no end of a sentence: 'asyncio.Future.result', 'Makefile.PL', 'subprocess.'
_DOTTED = re.compile(r"[\w.]*\w\.\Z")
_NAME_PART = re.compile(r"[A-Z_\d]{2,}\b|[A-Z]+[a-z]+[A-Z]\w*|[A-Za-z]\w*[.(_]\S|\w*\d")
# 'org.postgresql.util.PSQLException'
_QUALIFIED = re.compile(r"\w\.\w+\.\Z")
# what numbers an item, a table or a section is no sentence: "1.", "a)", "#.", "Table 2.", "§ 11."
_LABEL = re.compile(
    r"\s*(?:\(?(?:\d{1,3}|[^\W\d_]|#)[.)]|(?:Table|Tab\.|Figure|Fig\.|Exhibit|Box|Step|Tabelle"
    rf"|Abbildung|Tableau|Tabla|{NUMBERED_PART})\s?\d{{1,3}}[a-z]?(?:\.\d{{1,3}})*\.)\s*"
)
_ORDINAL = re.compile(r"(?:^|\s)\d{1,2}\.\s*$")
# '.PHONY', '.idle.py'; but 'in Table 2 .The'
_OPENING_DOT, _DOTTED_NAME = re.compile(r"(?:^|\s)\.\Z"), re.compile(r"[a-z\d/]|[A-Z]{2}|\w+\.\w")
# 'max. 35 °C', 'Max. flow', 'approx. 20'; and 'FILE... TARGET' of how a command is used
_MEASURE = re.compile(r"(?:^|[\s(])(?:[Mm](?:ax|in)|[Aa]pprox|s\.\s?[de])\.\s*$")
_NUMBERED = re.compile(r"(?:^|[\s(])(?:ca|[Aa]rt|[Nn]os?|[Qq]ty)\.\s*$")
_USAGE = re.compile(r"[\]>A-Z]\.\.\.\s*$")
_SMALL_LETTERS = re.compile(r"(?:^|[\s(])[а-я]{1,2}\.\s*$")  # 'т. е. на улице'
_SHORT_WORD = re.compile(r"(?<![^\s(])[^\W\d_]{1,5}\. *$")
# '5.1.2. ' at the beginning of a line
_SECTION_NUMBER = re.compile(r"(?:^|\n)\s*(?:\d{1,3}\.){2,}\s*$")
_NAME_CHARS = 40
_ORDINAL_LANGUAGES = frozenset(
    {"de", "da", "nb", "nn", "no", "fi", "et", "cs", "sk", "hu", "sl", "hr", "pl"}
)


def sentence_starts(text: str, start: int, stop: int, language: str) -> Iterator[int]:
    """Start offsets of the sentences in `[start, stop)`, ascending, the first at `start`.

    Args:
        text: without lone surrogates, see `replace_surrogates`; `[start, stop)` has no blank line.
        language: a code; its primary subtag selects the abbreviations.
    """
    subtag = primary_subtag(language)
    statements = _outside_markup(text, start, stop, list(_statements(text, start, stop)))
    for first, last in pairwise([*statements, stop]):
        sentences = [first, *sorted(_repaired_starts(text, first, last, subtag))]
        for begin, end in pairwise([*sentences, last]):
            yield begin
            yield from clause_starts(text, begin, end)


def _statements(text: str, start: int, stop: int) -> Iterator[int]:
    """Starts of lines that begin a statement of their own, the first line included."""
    yield start
    lines = lines_of(text, start, stop)
    rows = [row for row in lines.rows if row]
    if len(rows) < 2:
        return
    continued = continued_lines(lines.rows)
    if 4 * sum(_RECORD.match(row) is not None for row in rows) >= 3 * len(rows):
        yield from (
            at
            for at, row, goes_on in zip(lines.starts, lines.rows, continued, strict=True)
            if at > start and (not goes_on or _RECORD.match(row))
        )
    else:
        yield from _unwrapped_line_starts(
            lines, continued, max(map(len, rows)), rows[0].lstrip()[:1].islower()
        )


def _unwrapped_line_starts(
    lines: Lines, continued: Sequence[bool], width: int, all_lower: bool
) -> Iterator[int]:
    """Starts of lines that do not continue the line before."""
    pairs = list(pairwise(lines.rows))
    slack = _RAGGED_COLUMNS if width in _COLUMNS else 0
    margin = width - slack if width <= _COLUMNS[-1] else None
    if slack == 0 and (
        len(pairs) < 3 or not all(_is_full(a, b, width) for a, b in pairs if a and b)
    ):
        margin = None  # lines outside the usual columns count as wrapped only if every one is full
    for at, (before, after), goes_on in zip(lines.starts[1:], pairs, continued[1:], strict=True):
        continues = (
            after.lstrip("# \t")[:1].islower()
            and not all_lower
            and _STOP.search(before[-1:]) is None
        )
        columns = _AMOUNT.search(before) and _AMOUNT.search(after)
        columns = columns or (_ROW.match(before) and _ROW.match(after))
        if (
            _OWN_LINE.match(after)
            or columns
            or not (
                goes_on or continues or (margin is not None and _is_full(before, after, margin))
            )
        ):
            yield at


def _is_full(before: str, after: str, width: int) -> bool:
    """Whether the next line's first word would not have fit on this one, as in wrapped prose."""
    word = after.lstrip()[:width].split(" ", 1)[0]
    return len(before) + 1 + len(word) >= width


def _repaired_starts(text: str, start: int, stop: int, language: str) -> set[int]:
    """Starts inside one statement: those of sentencex, with corrections."""
    if _ASCII_STOP.search(text, start, stop) is None and text[start:stop].isascii():
        return set()  # avoids a call that is expensive for short lines
    found = set(_windowed_starts(text, start, stop, language))
    found = {
        at
        for at in found
        if not (_is_unfinished(text, start, at, language) or _LABEL.fullmatch(text, start, at))
    }
    if is_southeast_asian(text[start:stop]):
        found = {at for at in found if _ABBREVIATED.search(text, max(start, at - 12), at) is None}
    found.update(_missed_starts(text, start, stop))
    found = set(_outside_markup(text, start, stop, sorted(found)))
    return {offset for at in found if start < (offset := _skip_tail(text, at, stop)) < stop}


def _missed_starts(text: str, start: int, stop: int) -> Iterator[int]:
    """The starts that sentencex misses, searched for in parts: a search holds the interpreter."""
    while start < stop:
        check_interruption()
        part = start + _SEARCHED_CHARS
        last = start
        for found in _MISSED.finditer(text, start, min(stop, part + _LONGEST_END)):
            if found.start() >= part:
                break
            last = found.end()
            yield last
        start = max(part, last)


def _outside_markup(text: str, start: int, stop: int, found: Sequence[int]) -> Iterator[int]:
    """The ascending starts that are not inside a link, an image or inline code."""
    spans = sorted(markup_spans(text, start, stop)) if found else []
    place = 0
    for at in found:
        while place < len(spans) and spans[place][1] <= at:
            place += 1
        if place == len(spans) or at <= spans[place][0]:
            yield at


def _windowed_starts(text: str, start: int, stop: int, language: str) -> Iterator[int]:
    """sentencex's starts after the first, by windows that begin at a sentence start."""
    while start < stop:
        check_interruption()
        end = _window_end(text, start, stop)
        window = _WIDE_BLANK.sub(" ", _LETTER_LIKE.sub("ʼ", text[start:end]))
        found = [start + at for at in _boundaries(window, language)]
        yield from found[1:]
        start = found[-1] if len(found) > 1 and end < stop else end


def _boundaries(text: str, language: str) -> Iterator[int]:
    """sentencex's starts, and those inside long quotations and brackets, which it keeps whole."""
    for each in get_sentence_boundaries(language, text):
        start, sentence = each["start_index"], each["text"]
        yield start
        if len(sentence) > QUOTED_CHARS and _PAIRED.search(sentence):
            bare = _PAIRED.sub("ʼ", sentence)
            yield from (
                start + inner["start_index"]
                for inner in get_sentence_boundaries(language, bare)[1:]
            )


def _window_end(text: str, start: int, stop: int) -> int:
    if stop - start <= WINDOW_CHARS:
        return stop
    return max(text.rfind(" ", start + 1, start + WINDOW_CHARS) + 1, 0) or start + WINDOW_CHARS


def _is_unfinished(text: str, start: int, at: int, language: str) -> bool:
    """Whether the sentence that seems to end before `at` continues."""
    check_interruption()
    before = text[max(start, at - 12) : at]
    if _DOTTED.search(before) and _NAME_PART.match(text, at):
        return True
    if _OPENING_DOT.search(before) and _DOTTED_NAME.match(text, at):
        return True
    following = text[at : at + 1]
    if following.islower() and _is_abbreviated(text, start, at, before):
        return True
    if _SECTION_NUMBER.search(before) or _CELL_GAP.search(before):
        return True
    if (following.isdigit() or following.islower()) and _MEASURE.search(before):
        return True
    if following.isdigit() and _NUMBERED.search(before):
        return True
    if not following.islower() and text[at : at + 2].isupper() and _USAGE.search(before):
        return True
    if text[at : at + 1].isalnum() and _QUALIFIED.search(text, max(start, at - _NAME_CHARS), at):
        return True
    own = _ORDINAL if language in _ORDINAL_LANGUAGES else _MONSIEUR if language == "fr" else None
    return bool(_OPEN_END.search(before) or (own is not None and own.search(before)))


def _is_abbreviated(text: str, start: int, at: int, before: str) -> bool:
    """Whether a word with a stop before a small letter is a short form: 'lbs. is', 'Mon. to'.

    In a chat, which begins with a small letter, sentences do, too.
    """
    front = next(filter(str.isalpha, text[start : min(at, start + _NAME_CHARS)]), "")
    return bool((front.isupper() and _SHORT_WORD.search(before)) or _SMALL_LETTERS.search(before))


def _skip_tail(text: str, at: int, stop: int) -> int:
    """The start, moved after a closing quote, bracket or note that directly follows the stop."""
    tail = None if at == 0 or text[at - 1].isspace() else _TAIL.match(text, at, stop)
    return tail.end() if tail else at


CLAUSE_CHARS = 60
"""Visible characters from which on a clause of Thai and its kin ends at the next space."""
LONG_CJK_CHARS = 240
"""A sentence of Chinese or Japanese from this length on is cut into clauses."""
_CJK_CLAUSE_CHARS = 80

_LETTER = re.compile(r"[^\W\d_]")
_SOUTHEAST = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff]")
_SPACES = re.compile(r"\s+")
# what follows the space belongs to what stands before it: a number, a bracket, a sign of repetition
_GOES_ON = re.compile("[\\d๐-๙໐-໙()\\[\\]%.,:/–-]|\u0e46|\u0ec6|ฯ")
_COMMA = re.compile("[，、；：,;:」』）)]|\\s")
_PARTICLE_END = re.compile("[\u3041-\u309f](?=[\u30a1-\u30fa\u4e00-\u9fff])")


def is_southeast_asian(text: str) -> bool:
    """Whether most letters of a text are Thai, Lao, Khmer or Burmese."""
    return 2 * len(_SOUTHEAST.findall(text)) > len(_LETTER.findall(text)) > 0


def clause_starts(text: str, start: int, stop: int) -> Iterator[int]:
    """Starts of the clauses in one sentence `[start, stop)` after the first, ascending.

    None where the sentence is short, or in a script whose sentences end with a full stop.
    """
    sentence = text[start:stop]
    if len(sentence) > CLAUSE_CHARS and is_southeast_asian(sentence):
        yield from _cut_at_spaces(text, start, stop)
    elif len(sentence) > LONG_CJK_CHARS and _is_cjk(sentence):
        yield from _cut_cjk(text, start, stop)


def _is_cjk(text: str) -> bool:
    return 2 * len(HAN_OR_KANA.findall(text)) > len(text)


def _cut_at_spaces(text: str, start: int, stop: int) -> Iterator[int]:
    clause = start
    for space in _SPACES.finditer(text, start, stop):
        is_long = space.start() - clause >= CLAUSE_CHARS
        rest = stop - space.end()
        if is_long and rest >= CLAUSE_CHARS // 3 and not _GOES_ON.match(text, space.end(), stop):
            yield space.end()
            clause = space.end()


def _cut_cjk(text: str, start: int, stop: int) -> Iterator[int]:
    clause = start
    while stop - clause > LONG_CJK_CHARS:
        first, last = clause + _CJK_CLAUSE_CHARS, clause + LONG_CJK_CHARS
        match = _COMMA.search(text, first, last) or _PARTICLE_END.search(text, first, last)
        clause = match.end() if match else _before_marks(text, first, last)
        if text[clause:stop].isspace():
            return
        yield clause


def _before_marks(text: str, start: int, at: int) -> int:
    """The last offset up to `at` that does not part a character from the marks on it."""
    while at > start and unicodedata.category(text[at])[0] == "M":
        at -= 1
    return at
