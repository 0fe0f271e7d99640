"""Where sentences begin inside a block, and clauses of scripts that have no stops.

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
from tamis.text.language import primary_subtag
from tamis.text.lines import (
    HAN_OR_KANA,
    NUMBERED_PART,
    Lines,
    continued_lines,
    lines_of,
    markup_spans,
)
from tamis.text.readers.code import (
    CALL,
)

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
_ROW, _CELL_GAP = re.compile(r"\S.* {3,}\S.* {3,}\S"), re.compile(r"\S {3,}\Z")

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
    if text[at : at + 1].islower() and _SHORT_WORD.search(before):
        # 'lbs. is', 'Mon. to': but in a chat a small letter begins a sentence
        first = _LETTER.search(text, start, at)
        if _SMALL_LETTERS.search(before) or (first is not None and first[0].isupper()):
            return True
    if _SECTION_NUMBER.search(before) or _CELL_GAP.search(before):
        return True
    following = text[at : at + 1]
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
