"""Which kind of binary file bytes are, by how they begin; binary data are never read as text."""

from __future__ import annotations

import io
import zipfile

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
