"""The text whose keys selectors search, and the questions they search for."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.service.files.command_inputs import InputOptions, gather_inputs
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.records import load_records, read_text

DOCUMENT_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class SelectorInputs:
    """Paths of the text to index, of questions an index may learn from, and of test questions."""

    text: tuple[Path, ...]
    train: tuple[Path, ...]
    test: tuple[Path, ...]


def load_text(paths: Sequence[Path]) -> str:
    """The text of all documents in order, each once.

    Args:
        paths: labelled records (.jsonl, .jsonl.gz), text files (.gz or not) and folders of them.

    Raises:
        BadInput: a path cannot be read, or there is no text.
    """
    documents = dict.fromkeys(text for path in paths for text in _read_documents(path))
    text = DOCUMENT_SEPARATOR.join(documents)
    if not text.strip():
        raise BadInput(f"there is no text in {', '.join(map(str, paths)) or 'no paths'}")
    return text


def load_questions(paths: Sequence[Path]) -> list[str]:
    """All questions, each once: of labelled records, or the lines of a text file.

    Raises:
        BadInput: a path cannot be read, or there is no question.
    """
    questions = dict.fromkeys(q for path in paths for q in _read_questions(path) if q.strip())
    if not questions:
        raise BadInput(f"there are no questions in {', '.join(map(str, paths)) or 'no paths'}")
    return list(questions)


def _read_documents(path: Path) -> Iterator[str]:
    if _is_records(path):
        for record in load_records(path):
            for doc in record["docs"]:
                yield f"{doc['title']}\n{doc['text']}" if doc.get("title") else doc["text"]
    elif path.suffix == ".gz":
        yield read_text(path)
    else:
        found = gather_inputs([str(path)], io.BytesIO(), InputOptions())
        yield from (passage.text for passage in found.passages)


def _read_questions(path: Path) -> Iterator[str]:
    if _is_records(path):
        for number, record in read_json_lines(path):
            if not isinstance(record.get("question"), str):
                raise BadInput(f"{path}, line {number}: a record without a 'question'")
            yield record["question"]
        return
    yield from read_text(path).splitlines()


def _is_records(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".jsonl")
