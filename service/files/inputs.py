"""What the command line was given to read: files, folders, standard input, JSON."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tamis.probes.errors import BadInput
from tamis.probes.text import Passage
from tamis.service.files.json_input import JSONS, STDIN, called, record_of

TEXTS = (".txt", ".md", ".markdown", ".rst", ".html", ".htm", ".py", *JSONS)
_PACKED = ".gz"
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
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


def standard_input() -> BinaryIO | None:
    """Its bytes; None where it is closed, as under some supervisors."""
    return getattr(sys.stdin, "buffer", None)


def gather(paths: Sequence[str], stdin: BinaryIO | None, reading: Reading) -> Gathered:
    """Reads paths in order; without any, standard input if it is a pipe or a file.

    Text is taken as it is, line ends included; files that end in .gz are unpacked.

    Raises:
        BadInput: a path is missing, unreadable, empty of text files or not in that encoding; JSON
            is broken or its documents are; there is no text at all, or more than `max_bytes`.
    """
    if not paths and (stdin is None or stdin.isatty()):
        raise BadInput("there is nothing to read; name files or folders, or pipe text in")
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
    paths: Sequence[str], stdin: BinaryIO | None, found: Gathered, most: int
) -> Iterator[tuple[str, bytes]]:
    """Names of everything to read, and its first `most` bytes."""
    for path in paths:
        if path == STDIN and stdin is None:
            raise BadInput("standard input is closed; name files or folders, or pipe text in")
        if path == STDIN and stdin is not None:
            yield STDIN, stdin.read(most)
        elif Path(path).is_dir():
            yield from _texts_in(Path(path), found, most)
        elif not Path(path).exists():
            raise BadInput(f"there is no file or folder {path}; check the name")
        else:
            yield path, _bytes_of(Path(path), most, unpack=True)


def _texts_in(folder: Path, found: Gathered, most: int) -> Iterator[tuple[str, bytes]]:
    """The text files below a folder, sorted; hidden ones are passed over, others counted."""
    texts, others = 0, len(found.skipped)
    for file in _files_in(folder):
        named = _suffix(str(file)) in TEXTS
        data = _bytes_of(file, most, unpack=named)
        if named or _is_text(data):
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


def _suffix(name: str) -> str:
    """What kind of file it is, whether it is packed or not."""
    return Path(name.lower().removesuffix(_PACKED)).suffix


def _bytes_of(file: Path, most: int, unpack: bool) -> bytes:
    """The first `most` bytes; of a .gz, of what is packed in it, and no more is ever held."""
    opened = gzip.open if unpack and file.suffix.lower() == _PACKED else open
    try:
        with opened(file, "rb") as stream:
            data: bytes = stream.read(most)
            return data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise BadInput(f"{file} is no whole gzip file ({error}); pack it again") from error
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
    record = record_of(text, name, _suffix(name))
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
        BadInput: they are packed or not in that encoding, with the offset; or there is no such
            encoding.
    """
    if packing := next((word for magic, word in _MAGIC.items() if data.startswith(magic)), None):
        raise BadInput(
            f"{called(name)} is packed with {packing}; unpack it, or name a file that ends in .gz"
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{called(name)} is not {encoding}: byte 0x{data[error.start : error.start + 1].hex()} "
            f"at offset {error.start} cannot be read; name its encoding, such as --encoding latin-1"
        ) from error
    except UnicodeError as error:  # of codecs that are none for text: no offset
        raise BadInput(
            f"{called(name)} cannot be read as {encoding} ({error}); name its encoding, such as "
            "utf-8"
        ) from error
    except (LookupError, ValueError) as error:
        raise BadInput(
            f"there is no encoding {encoding!r}; give utf-8, latin-1 or another that Python knows"
        ) from error


def _passages(documents: list[Any], name: str) -> list[Passage]:
    from tamis.compressors.documents import to_passage

    try:
        return [to_passage(document, index) for index, document in enumerate(documents)]
    except (BadInput, TypeError, ValueError) as error:
        raise BadInput(f"{called(name)}: {error}") from error
