"""Binary files: their kind, by how they begin, and the text of PDF and Word documents.

PDFium reads a PDF page by page; mammoth makes a page of HTML of a Word document.
"""

from __future__ import annotations

import io
import re
import threading
import zipfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.service.documents.decoding import display_name

_SNIFFED_BYTES = 8192
_PDF_WITHIN = 1024  # readers accept bytes before the header
_MAX_CONTROLS = 0.05
_TEXT_CONTROLS = frozenset(b"\t\n\v\f\r\x1b")
_KINDS = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Office"),
    (b"{\\rtf", "RTF"),
    (b"PAR1", "Parquet"),
    (b"SQLite format 3\0", "SQLite"),
    (b"\x7fELF", "program"),
    (b"\x89PNG\r\n", "picture"),
    (b"\xff\xd8\xff", "picture"),
    (b"GIF8", "picture"),
)
_IN_ZIP = (
    ("word/document.xml", "docx"),
    ("xl/workbook.xml", "Excel"),
    ("ppt/presentation.xml", "PowerPoint"),
    ("META-INF/container.xml", "EPUB"),
    ("content.xml", "OpenDocument"),
)
_WAYS = {
    "gzip": "unpack it, or name a file that ends in .gz",
    "zstd": "unpack it, or name a file that ends in .zst where those are read",
    "Parquet": "tamis batch run and tamis index build read it, if its name ends in .parquet",
    "old Office": "save it as .docx or .pdf",
    "RTF": "save it as .docx or .pdf",
    "Excel": "save its sheets as .csv",
    "PowerPoint": "save it as .pdf",
    "OpenDocument": "save it as .docx or .pdf",
    "damaged ZIP": "bring a whole copy",
    "picture": "only the text of a picture could be read: run it through OCR first",
}
_OTHER_WAY = "text, HTML, PDF and DOCX are read: convert it, or name another file"


def kind_of(data: bytes) -> str | None:
    """`pdf`, `docx`, the name of another kind of binary file, `data`, or None for text."""
    head = data[:_SNIFFED_BYTES]
    if head[:_PDF_WITHIN].lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return _kind_in_zip(data)
    if found := next((kind for magic, kind in _KINDS if head.startswith(magic)), None):
        return found
    return "data" if _is_binary(head) else None


def _kind_in_zip(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, ValueError, NotImplementedError, EOFError):
        return "damaged ZIP"
    return next((kind for name, kind in _IN_ZIP if name in names), "ZIP")


def _is_binary(head: bytes) -> bool:
    """Whether many control characters say so; UTF-16 and UTF-32 have NUL beside each letter."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")):
        return False
    controls = sum(byte < 32 and byte not in _TEXT_CONTROLS for byte in head)
    wide = max(head[0::2].count(0), head[1::2].count(0)) > 0.4 * len(head) / 2
    return controls > _MAX_CONTROLS * len(head) and not wide


def refusal(kind: str, name: str) -> str:
    """Why a binary file cannot be read, and the way out."""
    what = {"data": "holds binary data", "program": "is a program", "picture": "is a picture"}
    what["damaged ZIP"] = "begins as a ZIP or DOCX and is damaged"
    packed = kind in ("gzip", "zstd", "bzip2", "xz", "7-Zip")
    said = what.get(kind) or f"is {'packed with' if packed else 'a file of the kind'} {kind}"
    way = _WAYS.get(kind) or ("unpack it" if packed or "ZIP" in kind else _OTHER_WAY)
    return f"{display_name(name)} {said}; {way}"


MAX_UNPACKED_BYTES = 1 << 28
"""A .docx that unpacks to more (256 MiB) is refused before it fills the memory."""
_CODE_STYLES = "\n".join(
    f"{style} => pre:separator('\\n')"
    for name in ("Source Code", "HTML Preformatted", "Preformatted Text", "Code")
    for style in (f"p[style-name='{name}']", f"p.{name.replace(' ', '')}")
)


def docx_text(data: bytes, name: str) -> str:
    """Headings, paragraphs, lists, tables and notes as Markdown; pictures are left out.

    Raises:
        BadInput: the file is damaged, or unpacks to more than `MAX_UNPACKED_BYTES`.
        MissingExtra: `mammoth` is not installed.
    """
    from tamis.service.documents.html_text import html_text

    package = import_extra("mammoth", "DOCX", "documents")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_UNPACKED_BYTES:
            raise BadInput(
                f"{display_name(name)} unpacks to {unpacked:,} bytes and at most "
                f"{MAX_UNPACKED_BYTES:,} are read; save its text alone"
            )
        without_pictures = package.images.img_element(lambda picture: {})
        html: str = package.convert_to_html(
            io.BytesIO(data), convert_image=without_pictures, style_map=_CODE_STYLES
        ).value
    except BadInput:
        raise
    except Exception as error:  # mammoth raises whatever its parts raise on a damaged file
        raise BadInput(
            f"{display_name(name)} cannot be read as DOCX ({error}); bring a whole copy"
        ) from error
    return html_text(html).text


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
