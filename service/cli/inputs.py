"""What the command line was given to read: files, folders, standard input, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage

STDIN = "-"
JSONS = (".json", ".jsonl")
TEXTS = (".txt", ".md", ".markdown", ".rst", ".html", ".htm", ".py", *JSONS)
_SNIFFED_BYTES = 8192


@dataclass(slots=True)
class Gathered:
    """Everything there is to read.

    Attributes:
        passages: in the order given, folders sorted.
        questions: those that JSON inputs bring along, each once.
        skipped: files found in folders that are not text.
    """

    passages: list[Passage] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)

    def question(self, given: str | None) -> str:
        """The question asked on the command line, or the only one that the inputs bring along.

        Raises:
            BadInput: there is none, or more than one.
        """
        if given is not None:
            return given
        if len(self.questions) == 1:
            return self.questions[0]
        if self.questions:
            raise BadInput(
                f"the inputs ask {len(self.questions)} different questions; choose one with -q"
            )
        raise BadInput('there is no question; ask one with -q "...", or in a JSON input')


@dataclass(frozen=True, slots=True)
class Reading:
    """How inputs are read.

    Attributes:
        encoding: of every file and of standard input.
        max_bytes: more than that is refused before it fills the memory.
    """

    encoding: str = "utf-8"
    max_bytes: int = 1 << 30


def gather(paths: Sequence[str], stdin: BinaryIO, reading: Reading) -> Gathered:
    """Reads paths in order; without any, standard input if it is a pipe or a file.

    Text is taken as it is, line ends included.

    Raises:
        BadInput: a path is missing, unreadable, empty of text files or not in that encoding; JSON
            documents are malformed; there is no text at all, or more than `max_bytes`.
    """
    if not paths and stdin.isatty():
        raise BadInput("there is nothing to compress; name files or folders, or pipe text in")
    found, total_bytes = Gathered(), 0
    for name, data in _contents(paths or (STDIN,), stdin, found, reading.max_bytes + 1):
        total_bytes += len(data)
        if total_bytes > reading.max_bytes:
            raise BadInput(
                f"the input has more than {reading.max_bytes:,} bytes; "
                "name fewer files, or raise --max-input"
            )
        _add(found, name, data, reading.encoding)
    if not any(passage.text.strip() for passage in found.passages):
        raise BadInput(
            f"the {len(found.passages)} documents given hold no text; give some with words in them"
        )
    return found


def _contents(
    paths: Sequence[str], stdin: BinaryIO, found: Gathered, most: int
) -> Iterator[tuple[str, bytes]]:
    """Names of everything to read, and its first `most` bytes."""
    for path in paths:
        if path == STDIN:
            yield STDIN, stdin.read(most)
        elif Path(path).is_dir():
            yield from _texts_in(Path(path), found, most)
        elif not Path(path).exists():
            raise BadInput(f"there is no file or folder {path}; check the name")
        else:
            yield path, _bytes_of(Path(path), most)


def _texts_in(folder: Path, found: Gathered, most: int) -> Iterator[tuple[str, bytes]]:
    """The text files below a folder, sorted; hidden ones are passed over, others counted."""
    texts, others = 0, len(found.skipped)
    for file in _files_in(folder):
        data = _bytes_of(file, most)
        if file.suffix.lower() in TEXTS or _is_text(data):
            texts += 1
            yield str(file), data
        else:
            found.skipped.append(file)
    if not texts:
        raise BadInput(
            f"{folder} holds no text files ({len(found.skipped) - others} files that are none, "
            "hidden ones aside); name another folder, or the files themselves"
        )


def _files_in(folder: Path) -> Iterator[Path]:
    for home, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(home, name).is_file():
                yield Path(home, name)


def _bytes_of(file: Path, most: int) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(most)
    except OSError as error:
        raise BadInput(
            f"{file} cannot be read ({error.strerror}); check its permissions"
        ) from error


def _is_text(data: bytes) -> bool:
    """Whether a file of unknown kind is text: UTF-8 without NUL."""
    if b"\0" in data[:_SNIFFED_BYTES]:
        return False
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _add(found: Gathered, name: str, data: bytes, encoding: str) -> None:
    """Adds one input: its documents if it is JSON that holds some, else all of it as a passage."""
    text = decoded(data, name, encoding)
    record = _record(text, name)
    if record is None:
        found.passages.append(Passage(text, None if name == STDIN else name))
        return
    question = record.get("question", record.get("query"))
    if isinstance(question, str) and question.strip() and question not in found.questions:
        found.questions.append(question)
    found.passages += _passages(record["documents"], name)


def decoded(data: bytes, name: str, encoding: str) -> str:
    """Bytes as text.

    Raises:
        BadInput: they are not in that encoding, with the offset; or there is no such encoding.
    """
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{name} is not {encoding}: byte 0x{data[error.start]:02x} at offset {error.start} "
            "cannot be read; name its encoding, such as --encoding latin-1"
        ) from error
    except LookupError as error:
        raise BadInput(
            f"there is no encoding {encoding!r}; give utf-8, latin-1 or another that Python knows"
        ) from error


def _record(text: str, name: str) -> dict[str, Any] | None:
    """`documents` and maybe a question, if that is what the text holds."""
    suffix = Path(name).suffix.lower()
    plain = text.removeprefix("\ufeff")
    if suffix not in JSONS and not (name == STDIN and plain.lstrip()[:1] in ("{", "[")):
        return None
    value = _parsed(plain)
    if isinstance(value, dict):
        for key in ("documents", "passages"):
            if isinstance(value.get(key), list):
                return {**value, "documents": value[key]}
    elif isinstance(value, list) and value and all(map(_is_document, value)):
        return {"documents": value}
    return None if suffix == ".json" else _record_of_lines(plain)


def _record_of_lines(text: str) -> dict[str, Any] | None:
    """JSON Lines of documents; lines end at line feeds alone, U+2028 may stand in a string."""
    values = [_parsed(line) for line in text.split("\n") if line.strip()]
    return {"documents": values} if values and all(map(_is_document, values)) else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_document(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict) and isinstance(value.get("text"), str)
    )


def _passages(documents: list[Any], name: str) -> list[Passage]:
    from tamis.compressors._pipeline import passage_of

    try:
        return [passage_of(document, index) for index, document in enumerate(documents)]
    except (BadInput, TypeError, ValueError) as error:
        raise BadInput(f"{name}: {error}") from error
