"""The text that selectors search, and the questions that are asked of it."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis.service.datasets.records import load, read_jsonl
from tamis.service.files.inputs import Reading, gather

BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Material:
    """Paths: a text to index, questions that an index may learn from, and questions to test it."""

    text: tuple[Path, ...]
    train: tuple[Path, ...]
    test: tuple[Path, ...]


def text_of(paths: Sequence[Path]) -> str:
    """All documents, one after the other, each once.

    Args:
        paths: labelled records (.jsonl, .jsonl.gz), text files (.gz or not) and folders of them.

    Raises:
        BadInput: a path that cannot be read, or nothing in it.
    """
    found = BETWEEN.join(dict.fromkeys(text for path in paths for text in _texts(path)))
    if not found.strip():
        raise BadInput(f"there is no text in {', '.join(map(str, paths)) or 'no paths'}")
    return found


def questions_of(paths: Sequence[Path]) -> list[str]:
    """All questions, each once: of labelled records, or the lines of a text file.

    Raises:
        BadInput: a path that cannot be read, or nothing in it.
    """
    found = list(dict.fromkeys(q for path in paths for q in _questions(path) if q.strip()))
    if not found:
        raise BadInput(f"there are no questions in {', '.join(map(str, paths)) or 'no paths'}")
    return found


def _texts(path: Path) -> Iterator[str]:
    if _is_records(path):
        for record in load(path):
            for doc in record["docs"]:
                yield f"{doc['title']}\n{doc['text']}" if doc.get("title") else doc["text"]
    elif path.suffix == ".gz":
        yield _unpacked(path)
    else:
        found = gather([str(path)], io.BytesIO(), Reading())
        yield from (passage.text for passage in found.passages)


def _questions(path: Path) -> Iterator[str]:
    if _is_records(path):
        for number, record in enumerate(read_jsonl(path), 1):
            if not isinstance(record.get("question"), str):
                raise BadInput(f"{path}, line {number}: a record without a 'question'")
            yield record["question"]
        return
    try:
        text = _unpacked(path) if path.suffix == ".gz" else path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
    yield from text.splitlines()


def _is_records(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".jsonl")


def _unpacked(path: Path) -> str:
    try:
        return gzip.decompress(path.read_bytes()).decode("utf8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise BadInput(f"{path} cannot be read: {error}") from error
