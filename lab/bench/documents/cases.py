"""Pages of manuals in several text formats, questions on them, and what retrieval brings for each.

    pages.jsonl.xz     package, path, format, text       one line a page and format
    questions.jsonl    id, package, path, question, answer: a sentence of the page, without markup

The answer is found in a text by its words, because each converter writes markup of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.compressors.features.bm25 import Collection
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.terms import words
from tamis.probes.text import Passage
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.records import take_evenly

CHUNK_CHARS = 4_000
CHUNKS = 6
_TARGET = re.compile(r"\]\((?:[^()]|\([^()]{0,80}\)){0,600}\)")
_TERM = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class DocumentCase:
    """A question with the chunks that BM25 brings, and where its answer is in them.

    Attributes:
        answer: passage, start and stop; None where no chunk holds all of it.
    """

    id: str
    question: str
    passages: tuple[Passage, ...]
    answer: tuple[int, int, int] | None


def load_pages(folder: Path) -> list[dict[str, Any]]:
    """The pages of a folder.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    try:
        return [row for _, row in read_json_lines(folder / "pages.jsonl.xz")]
    except BadInput as error:
        raise BadInput(
            f"{error}; give --data with a folder that has pages.jsonl.xz and questions.jsonl, such "
            "as examples/manuals of the repository"
        ) from error


def load_questions(folder: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The questions of a folder, at most `limit`, from all over it.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    rows = [row for _, row in read_json_lines(folder / "questions.jsonl")]
    return take_evenly(rows, limit or len(rows))


def document_cases(
    pages: Sequence[dict[str, Any]], questions: Sequence[dict[str, Any]], form: str
) -> Iterator[DocumentCase]:
    """The cases of one format: of the package's pages, the chunks most like the question."""
    chunks: dict[str, list[Passage]] = {}
    for page in pages:
        if page["format"] == form:
            own = chunks.setdefault(page["package"], [])
            own += [Passage(text, page["path"]) for text in cut_chunks(page["text"])]
    for row in questions:
        own = chunks[row["package"]]
        scores = Collection([chunk.text for chunk in own]).score(words(row["question"]))
        best = sorted(range(len(own)), key=lambda i: (-scores[i], i))[:CHUNKS]
        passages = tuple(own[i] for i in sorted(best))
        yield DocumentCase(
            row["id"], row["question"], passages, _answer_span(passages, row["answer"])
        )


def cut_chunks(text: str, limit: int = CHUNK_CHARS) -> Iterator[str]:
    """Chunks of at most so many characters, cut at the ends of lines where there are any."""
    start = 0
    while start < len(text):
        stop = start + limit
        if stop < len(text):
            stop = text.rfind("\n", start + 1, stop) + 1 or stop
        if text[start:stop].strip():
            yield text[start:stop]
        start = stop


def find_answer(text: str, answer: str) -> tuple[int, int] | None:
    """The span of an answer, by its words; markup and targets of links do not count."""
    bare = _TARGET.sub(lambda match: "]" + " " * (len(match[0]) - 1), text)
    terms = list(_TERM.finditer(bare.lower()))
    wanted = _TERM.findall(_TARGET.sub("] ", answer).lower())
    shown = [term[0] for term in terms]
    for at in range(len(shown) - len(wanted) + 1):
        if shown[at] == wanted[0] and shown[at : at + len(wanted)] == wanted:
            return terms[at].start(), terms[at + len(wanted) - 1].end()
    return None


def _answer_span(passages: Sequence[Passage], answer: str) -> tuple[int, int, int] | None:
    for i, passage in enumerate(passages):
        if span := find_answer(passage.text, answer):
            return (i, *span)
    return None
