"""A file's bytes as text: as it is, or what a page of HTML, a PDF or a Word document shows.

Text is never changed. Of the other formats, spans and counts are of the text that was read, which
is returned with them.
"""

from __future__ import annotations

import enum
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any, Literal

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage
from tamis.service.documents import binary
from tamis.service.documents.decoding import decode_html, decode_text, display_name

HTML_SUFFIXES = (".html", ".htm", ".xhtml")
DOCUMENT_SUFFIXES = (".pdf", ".docx")
"""Formats whose packages are in the extra `documents`."""
PLAIN_SUFFIXES = (".txt", ".md", ".markdown", ".rst")
TEXT_SUFFIXES = (*PLAIN_SUFFIXES, *HTML_SUFFIXES, *DOCUMENT_SUFFIXES)

FORMAT, PAGE_STARTS = "format", "page_starts"
"""Metadata of a passage that was read from another format than text."""

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


@dataclass(frozen=True, slots=True)
class DocumentText:
    """The text of one document.

    Attributes:
        format: `text` is unchanged; of `html`, `pdf` and `docx` it is what they show.
        title: that the document has of its own.
        page_starts: of a PDF, the offset in `text` of each page.
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


def read_document(
    data: bytes,
    name: str,
    encoding: str = "utf-8",
    input_format: InputFormat = InputFormat.auto,
) -> DocumentText:
    """The text of a file.

    Args:
        data: its bytes, unpacked. name: of the file, for its suffix and for messages.
        encoding: of text; a page that is not UTF-8 may name its own.

    Raises:
        BadInput: it is binary, damaged, protected or not in the encoding, or holds pictures alone.
        MissingExtra: a PDF or a Word document, and the package for it is not installed.
    """
    found = binary.kind_of(data)
    if found == "pdf":
        pages = binary.pdf_text(data, name)
        return DocumentText(pages.text, "pdf", pages.title, pages.starts, pages.left_out)
    if found == "docx":
        return DocumentText(binary.docx_text(data, name), "docx")
    if found is not None:
        raise BadInput(binary.refusal(found, name))
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
    from tamis.service.documents.html_text import html_text

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
    suffix = PurePath(name.lower().removesuffix(".gz").removesuffix(".zst")).suffix
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
        f"HTML is read as text, tags and all, in document {_name_first(pages)}; with "
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


def files_passed_over(skipped: Mapping[Any, str]) -> str | None:
    """The files of folders that were not read, the first of them by name with why; None without."""
    if not skipped:
        return None
    files = "1 file" if len(skipped) == 1 else f"{len(skipped):,} files"
    named = [f"{path} ({why})" for path, why in skipped.items()]
    return f"passed over {files}: {_name_first(named)}"


def _name_first(items: Sequence[Any]) -> str:
    """The first few items, and how many more there are."""
    more = len(items) - _NAMED
    return ", ".join(map(str, items[:_NAMED])) + (f" and {more:,} more" if more > 0 else "")
