"""A file's bytes as text: as it is, or what a page of HTML, a PDF or a Word document shows.

Text is never changed. Of the other formats, spans and counts are of the text that was read, which
is returned with them.

PDFium reads a PDF page by page; mammoth makes a page of HTML of a Word document.
"""

from __future__ import annotations

import codecs
import enum
import io
import re
import threading
import zipfile
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import PurePath
from typing import Any, Literal

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.text.types import Passage

FORMAT, PAGE_STARTS = "format", "page_starts"
"""Metadata of a passage that was read from another format than text."""
STDIN = "-"
_DECLARED = re.compile(
    rb"""charset\s*=\s*(?:["']\s*)?([\w.:-]+)|encoding\s*=\s*["']([\w.:-]+)""", re.I
)
_DECLARED_WITHIN = 4096


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of one document.

    Attributes:
        format: `text` is unchanged; of `html`, `pdf` and `docx` it is what they show.
        title: that the document has of its own.
        page_starts: of a PDF, the offset in `text` of each page; a line feed is between two.
        left_out: how many parts of each kind are not content and were left out.
    """

    text: str
    format: Literal["text", "html", "pdf", "docx"] = "text"
    title: str | None = None
    page_starts: tuple[int, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)

    def metadata(self) -> dict[str, Any]:
        """What a passage's metadata says of it; nothing of text."""
        if self.format == "text":
            return {}
        pages = {PAGE_STARTS: list(self.page_starts)} if self.page_starts else {}
        return {FORMAT: self.format, **pages}

    def to_passage(self, name: str | None) -> Passage:
        """The document as a passage with that id."""
        return Passage(self.text, name, self.title, self.metadata())


def decode_text(data: bytes, name: str, encoding: str) -> str:
    """Bytes as text.

    Raises:
        BadInput: they are not in the encoding, with the offset, or are UTF-16; or the encoding is
            unknown.
    """
    try:
        text, is_wide = data.decode(encoding), codecs.lookup(encoding).name in _WIDE_ENCODINGS
    except UnicodeDecodeError as error:
        if wide := _wide_encoding(data):
            raise _wide_error(name, wide, encoding) from error
        byte = data[error.start : error.start + 1].hex()
        raise BadInput(
            f"{display_name(name)} is not {encoding}: byte 0x{byte} at offset {error.start} cannot "
            "be read; name its encoding, such as --encoding latin-1"
        ) from error
    except UnicodeError as error:  # of codecs that do not decode text: there is no offset
        raise BadInput(
            f"{display_name(name)} cannot be read as {encoding} ({error}); name its encoding, "
            "such as utf-8"
        ) from error
    except (LookupError, ValueError) as error:
        raise BadInput(
            f"there is no encoding {encoding!r}; give utf-8, latin-1 or another that Python knows"
        ) from error
    if not is_wide and (wide := _wide_encoding(data)):
        raise _wide_error(name, wide, encoding)
    return text


def _wide_error(name: str, wide: str, encoding: str) -> BadInput:
    return BadInput(
        f"{display_name(name)} is {wide} and not {encoding}; name its encoding: --encoding {wide}"
    )


def _wide_encoding(data: bytes) -> str | None:
    """UTF-16 by its mark, or by NUL beside most letters, which UTF-8 and Latin-1 read as text."""
    head = data[:SNIFFED_BYTES]
    if head.startswith(_WIDE_MARKS):
        return "utf-32" if head.startswith(_WIDE_MARKS[:2]) else "utf-16"
    if len(head) < _LEAST_WIDE_BYTES:
        return None
    high, low = (head[first::2].count(0) / (len(head) // 2) for first in (0, 1))
    if max(high, low) < _WIDE_SHARE or min(high, low) > 1 - _WIDE_SHARE:
        return None
    return "utf-16-be" if high > low else "utf-16-le"


def decode_html(data: bytes, name: str, encoding: str) -> str:
    """A page as text; one that is not UTF-8 in the encoding that it names itself.

    Raises:
        BadInput: as `decode_text`.
    """
    try:
        return decode_text(data, name, encoding)
    except BadInput:
        declared = _declared_encoding(data)
        if encoding != "utf-8" or declared is None:
            raise
        return decode_text(data, name, declared)


def _declared_encoding(data: bytes) -> str | None:
    """The encoding in a page's `meta`; latin-1 is windows-1252 there, as the HTML standard says."""
    found = _DECLARED.search(data[:_DECLARED_WITHIN])
    if found is None:
        return None
    given = (found[1] or found[2]).decode("ascii", "replace")
    try:
        known = codecs.lookup(given).name
    except LookupError:
        return None
    return "cp1252" if known in ("iso8859-1", "ascii") else known


def display_name(name: str) -> str:
    """The name of an input for a message."""
    return "standard input" if name == STDIN else name


SNIFFED_BYTES = 8192
_WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_WIDE_ENCODINGS = [f"utf-{bits}{end}" for bits in (16, 32) for end in ("", "-le", "-be")]
_WIDE_SHARE, _LEAST_WIDE_BYTES = 0.6, 16
_TAR_MAGIC_AT = 257
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
    "gzip": "unpack it, or have its name end in .gz",
    "zstd": "unpack it, or have its name end in .zst",
    "xz": "unpack it, or have its name end in .xz",
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
    head = data[:SNIFFED_BYTES]
    if head[:_PDF_WITHIN].lstrip(b"\xef\xbb\xbf \t\r\n\0").startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        return _kind_in_zip(data)
    if found := next((kind for magic, kind in _KINDS if head.startswith(magic)), None):
        return found
    if head.startswith(b"ustar", _TAR_MAGIC_AT):
        return "tar"
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
    packed = kind in ("gzip", "zstd", "bzip2", "xz", "7-Zip", "tar")
    said = what.get(kind) or f"is {'packed with' if packed else 'a file of the kind'} {kind}"
    way = _WAYS.get(kind) or ("unpack it" if packed or "ZIP" in kind else _OTHER_WAY)
    return f"{display_name(name)} {said}; {way}"


def binary_fault(head: bytes, name: str) -> str | None:
    """Why a file that begins so holds no text, PDF or DOCX; None where it may.

    NUL is no text here that is not that of UTF-16: of a file of a folder nobody said that it is.
    """
    head = head[:SNIFFED_BYTES]
    kind = kind_of(head)  # what a ZIP holds is said at its end
    if kind is None and head.count(0) > _MAX_CONTROLS * len(head) and not _wide_encoding(head):
        kind = "data"
    return None if kind in (None, "pdf", "docx", "damaged ZIP") else refusal(kind, name)


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
    from tamis.service.files.html_text import html_text

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


def pdf_text(data: bytes, name: str) -> DocumentText:
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
    return DocumentText("\n".join(shown), "pdf", title, starts, noted)


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
    edges = Counter(key for own in lines for key in {_key(own, at) for at in (0, -1)[: len(own)]})
    running = {key for key, count in edges.items() if count >= _least_count(key, len(lines))}
    removed = [own.pop(at) for own in lines for at in (0, -1) if own and _key(own, at) in running]
    return sum(bool(line.strip()) for line in removed)


def _least_count(key: tuple[int, str], pages: int) -> float:
    share = _REPEATED_WITH_NUMBER if "#" in key[1] else _REPEATED
    return max(_MIN_PAGES, share * pages)


def _key(lines: Sequence[str], at: int) -> tuple[int, str]:
    """A line at an edge without its numbers; page numbers alone, Roman ones too, are all alike."""
    line = lines[at].strip()
    return at, "" if _NUMERALS.fullmatch(line) else _DIGITS.sub("#", line)


def _fault(name: str, why: str) -> str:
    if "password" in why.lower():
        return f"{name} needs a password; save a copy without one"
    return f"{name} cannot be read as PDF ({why}); bring a whole copy"


LINE_SUFFIXES = (".jsonl", ".ndjson")
JSON_SUFFIXES = (*LINE_SUFFIXES, ".json")
"""Files that may hold documents; so does Parquet. Any other file is text, by what is in it."""
HTML_SUFFIXES = (".html", ".htm", ".xhtml")
TEXT_FIELDS = ("text", "contents", "content", "body")
"""Names of the text of a document in JSON, the first that is there."""

_START = re.compile(
    r"\ufeff?\s*(?:<\?xml[^>]*>\s*)?(?:(?><!--.*?-->)\s*)*+<(?:!doctype\s+html|html)\b", re.I | re.S
)
_SNIFFED_CHARS = 4096
_NAMED = 5


class InputFormat(enum.StrEnum):
    """What files are read as: `auto` by suffix and beginning, `text` as they are, `html` as pages.

    PDF and DOCX are read as what they show under each.
    """

    auto = "auto"
    text = "text"
    html = "html"


def read_document(
    data: bytes, name: str, encoding: str = "utf-8", input_format: InputFormat = InputFormat.auto
) -> DocumentText:
    """The text of a file.

    Args:
        data: its bytes, unpacked. name: of the file, for its suffix and for messages.
        encoding: of text; a page that is not UTF-8 may name its own.

    Raises:
        BadInput: it is binary, damaged, protected or not in the encoding, or holds pictures alone.
        MissingExtra: a PDF or a Word document, and the package for it is not installed.
    """
    found = kind_of(data)
    if found == "pdf":
        return pdf_text(data, name)
    if found == "docx":
        return DocumentText(docx_text(data, name), "docx")
    if found is not None:
        raise BadInput(refusal(found, name))
    if input_format == InputFormat.html or (
        input_format == InputFormat.auto and _is_html(data, name)
    ):
        return _read_page(decode_html(data, name, encoding), name)
    return DocumentText(decode_text(data, name, encoding))


def _read_page(html: str, name: str) -> DocumentText:
    try:
        return read_html(html)
    except BadInput as error:
        raise BadInput(f"{display_name(name)}: {error}") from error


def read_html(html: str) -> DocumentText:
    """What a page shows, with its title.

    Raises:
        BadInput: see `html_text`.
    """
    from tamis.service.files.html_text import html_text

    page = html_text(html)
    return DocumentText(page.text, "html", page.title or None, (), page.left_out)


def is_html_page(text: str) -> bool:
    """Whether a text begins as a whole page does: with a doctype or `<html>`."""
    return _START.match(text[:_SNIFFED_CHARS]) is not None


def read_given(given: Any, index: int) -> Any:
    """A caller's document; of one with `"format": "html"`, `text` becomes what the page shows.

    Raises:
        BadInput: the format is another; or see `html_text`.
    """
    if not isinstance(given, Mapping) or FORMAT not in given:
        return given
    rest = {name: value for name, value in given.items() if name != FORMAT}
    if given[FORMAT] == "text" or not isinstance(given.get("text"), str):
        return rest
    if given[FORMAT] != "html":
        raise BadInput(
            f"passage {index} has the format {given[FORMAT]!r:.80}; give text or html, and PDF and "
            "DOCX as files"
        )
    page = read_html(given["text"])
    titled = rest if rest.get("title") is not None else {**rest, "title": page.title}
    return {
        **titled,
        "text": page.text,
        "metadata": {**(rest.get("metadata") or {}), FORMAT: "html"},
    }


def _is_html(data: bytes, name: str) -> bool:
    """By the suffix; where that says nothing, by how the data begin."""
    plain = name.lower().removesuffix(".gz").removesuffix(".zst").removesuffix(".xz")
    suffix = PurePath(plain).suffix
    if suffix in HTML_SUFFIXES:
        return True
    return suffix == "" and is_html_page(data[:_SNIFFED_CHARS].decode("utf-8", "replace"))


def page_at(metadata: Mapping[str, Any], offset: int) -> int | None:
    """The number of the page, from 1, that an offset is on; None where there are no pages."""
    starts: Sequence[int] = metadata.get(PAGE_STARTS) or ()
    return bisect_right(starts, offset) if starts else None


def raw_html_warning(texts: Sequence[str]) -> str | None:
    """That some texts are whole pages of HTML, whose tags are read and counted; None if none is."""
    pages = [index for index, text in enumerate(texts) if is_html_page(text)]
    if not pages:
        return None
    return (
        f"HTML is read as text, tags and all, in document {name_first(pages)}; with "
        '"format": "html" what the page shows is read instead'
    )


def left_out_note(documents: Iterable[DocumentText]) -> str | None:
    """One sentence on how documents of other formats were read; None where all are text."""
    formats: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for document in documents:
        formats[document.format] += 1
        left_out.update(document.left_out)
    del formats["text"]
    if not formats:
        return None
    names = {"html": "HTML", "pdf": "PDF", "docx": "DOCX"}
    read = " and ".join(f"{count:,} {names[name]}" for name, count in formats.items())
    parts = ", ".join(f"{kind} ({count:,})" for kind, count in left_out.items() if count)
    one = sum(formats.values()) == 1
    return (
        f"{read} {'document was' if one else 'documents were'} read as what "
        f"{'it shows' if one else 'they show'}, and spans are into that text"
        + (f"; left out: {parts}" if parts else "")
    )


MOST_REASONS = 20
"""So many of the files and rows that are passed over are named with why."""


class PassedOver(dict[Any, str]):
    """Why files and rows were passed over, of the first of them; `count` is of all."""

    count = 0

    def __setitem__(self, place: Any, why: str) -> None:
        self.count += 1
        if len(self) < MOST_REASONS:
            super().__setitem__(place, why)


def count_passed_over(skipped: Mapping[Any, str]) -> int:
    """How many files and rows were passed over, those that are not named included."""
    return skipped.count if isinstance(skipped, PassedOver) else len(skipped)


def files_passed_over(skipped: Mapping[Any, str]) -> str | None:
    """The files of folders that were not read, the first of them by name with why; None without."""
    if not skipped:
        return None
    count = count_passed_over(skipped)
    files = "1 file" if count == 1 else f"{count:,} files"
    return f"passed over {files}: {name_first(name_reasons(skipped), count)}"


def name_reasons(skipped: Mapping[Any, str]) -> list[str]:
    """Each file with the reason for which it was not read."""
    return [f"{path} ({why.removeprefix(f'{path} ')})" for path, why in skipped.items()]


def name_first(items: Sequence[Any], count: int | None = None) -> str:
    """The first few items, and how many more there are, of `count` if not all are given."""
    more = (len(items) if count is None else count) - _NAMED
    return ", ".join(map(str, items[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")
