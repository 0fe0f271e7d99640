"""`tamis.read_files` and `tamis.read_html`: files and pages as the passages that are read."""

from __future__ import annotations

from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage
from tamis.service.documents import document_text
from tamis.service.documents.document_text import InputFormat
from tamis.service.files.command_inputs import InputOptions, gather_inputs


def read_files(
    *paths: str | Path, encoding: str = "utf-8", input_format: str = "auto"
) -> list[Passage]:
    """Files and folders as passages: text as it is, HTML, PDF and DOCX as what they show.

    A passage's `id` is its path. That of another format than text has its `format` in `metadata`,
    and of a PDF the `page_starts`: the offsets in its text at which pages begin. Spans of a result
    are into the passage's text. PDF and DOCX need `pip install "tamis[documents]"`.

    Args:
        paths: folders are read sorted, hidden files aside; in them, files that are no text are
            passed over. JSON and JSON Lines may hold documents.
        encoding: of text; a page of HTML may name its own.
        input_format: `text` takes HTML as its source, `html` takes every text for a page.

    Raises:
        BadInput: a path is missing, or a file that was named is binary, damaged or in another
            encoding. MissingExtra: a PDF or DOCX was named, and the package is not installed.
    """
    if input_format not in list(InputFormat):
        raise BadInput(f"input_format is {input_format!r:.80}; give {', '.join(InputFormat)}")
    if not paths:
        raise BadInput("there is nothing to read; name files or folders")
    options = InputOptions(encoding, input_format=InputFormat(input_format))
    return gather_inputs(list(map(str, paths)), None, options).passages


def read_html(html: str, id: str | None = None) -> Passage:
    """What a page of HTML shows, as a passage: Markdown, without navigation, scripts and footers.

    Its `title` is the page's; `metadata` says that it was HTML. Spans of a result are into its
    `text`.

    Raises:
        BadInput: it is no text, or nested deeper than any page for people.
    """
    if not isinstance(html, str):
        raise BadInput(f"the page is of type {type(html).__name__}; give its source as text")
    return document_text.read_html(html).to_passage(id)
