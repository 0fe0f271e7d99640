"""The text of a PDF, page by page, read by PDFium."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.service.documents.decoding import display_name

_PDFIUM = threading.Lock()  # PDFium may be called by one thread at a time
_MIN_PAGES, _REPEATED, _REPEATED_WITH_NUMBER = 3, 0.5, 0.05
"""A first or last line is a running head where it stands on half of the pages, or with another
number on a twentieth of them (chapters differ in theirs), and on three pages at least."""
_RUNNING_LINES = 2
_DIGITS = re.compile(r"\d+")
_NUMERALS = re.compile(r"[ivxlcIVXLC\d\s/|–-]*")
_HYPHEN_AT_LINE_END = "\ufffe"  # PDFium writes it and joins the two halves of the word


@dataclass(frozen=True, slots=True)
class PdfText:
    """The text of a PDF.

    Attributes:
        starts: the offset of each page in `text`; pages are separated by a line feed.
        left_out: the number of running heads and page numbers.
    """

    text: str
    title: str | None
    starts: tuple[int, ...]
    left_out: Mapping[str, int] = field(default_factory=dict)


def pdf_text(data: bytes, name: str) -> PdfText:
    """The text of every page, in PDFium's reading order; lines are those of the page.

    Running heads and page numbers are left out: first and last lines that many pages share, apart
    from their numbers. A word that is hyphenated at a line's end is
    joined.

    Raises:
        BadInput: the file is damaged or needs a password, or no page holds text.
        MissingExtra: `pypdfium2` is not installed.
    """
    package = import_extra("pypdfium2", "PDF", "documents")
    try:
        with _PDFIUM:
            title, pages = _read_pages(package, data)
    except package.PdfiumError as error:
        raise BadInput(_fault(display_name(name), str(error))) from error
    if not any(page.strip() for page in pages):
        raise BadInput(
            f"{display_name(name)} has no text in its {len(pages):,} pages: they were scanned; run "
            "it through OCR first"
        )
    shown, left_out = _without_running_lines(pages)
    starts = tuple(accumulate((len(page) + 1 for page in shown[:-1]), initial=0))
    noted = {"running heads and page numbers": left_out} if left_out else {}
    return PdfText("\n".join(shown), title, starts, noted)


def _read_pages(package: Any, data: bytes) -> tuple[str | None, list[str]]:
    document = package.PdfDocument(data)
    try:
        title = document.get_metadata_value("Title").strip() or None
        return title, [_page_text(document[number]) for number in range(len(document))]
    finally:
        document.close()  # and with it its pages


def _page_text(page: Any) -> str:
    text_page = page.get_textpage()
    text: str = text_page.get_text_range()
    text_page.close()
    page.close()
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
    return text.replace(_HYPHEN_AT_LINE_END, "")


def _without_running_lines(pages: Sequence[str]) -> tuple[list[str], int]:
    """The pages without what repeats at their head and foot, and how many lines that were."""
    lines = [page.split("\n") for page in pages]
    left_out = 0
    if len(pages) >= _MIN_PAGES:
        for _ in range(_RUNNING_LINES):
            left_out += _remove_running_edges(lines)
    return ["\n".join(own) for own in lines], left_out


def _remove_running_edges(lines: Sequence[list[str]]) -> int:
    """Removes first and last lines that pages share; how many of them held text."""
    edges = Counter(key for own in lines for key in {_key(own, at) for at in _edges(own)})
    running = {key for key, count in edges.items() if count >= _least_count(key, len(lines))}
    removed = [own.pop(at) for own in lines for at in (0, -1) if own and _key(own, at) in running]
    return sum(bool(line.strip()) for line in removed)


def _least_count(key: tuple[int, str], pages: int) -> float:
    share = _REPEATED_WITH_NUMBER if "#" in key[1] else _REPEATED
    return max(_MIN_PAGES, share * pages)


def _edges(lines: Sequence[str]) -> tuple[int, ...]:
    return (0, -1)[: len(lines)]


def _key(lines: Sequence[str], at: int) -> tuple[int, str]:
    """A line at an edge without its numbers; page numbers alone, Roman ones too, are all alike."""
    line = lines[at].strip()
    return at, "" if _NUMERALS.fullmatch(line) else _DIGITS.sub("#", line)


def _fault(name: str, why: str) -> str:
    if "password" in why.lower():
        return f"{name} needs a password; save a copy without one"
    return f"{name} cannot be read as PDF ({why}); bring a whole copy"
