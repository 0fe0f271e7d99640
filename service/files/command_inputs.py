"""The input of a command: files, folders, standard input and JSON as passages and a question."""

from __future__ import annotations

import json
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.files import document_text
from tamis.service.files.document_text import (
    JSON_SUFFIXES,
    LINE_SUFFIXES,
    STDIN,
    TEXT_FIELDS,
    DocumentText,
    InputFormat,
    binary_fault,
    display_name,
    files_passed_over,
    left_out_note,
    raw_html_warning,
    read_document,
    read_given,
)
from tamis.service.files.streams import (
    irregular,
    is_repeated,
    json_kind,
    unpacked,
    unpacked_suffix,
)
from tamis.text.inputs import KNOWN_FIELDS, to_passage
from tamis.text.types import Passage

_BEGINNING_CHARS = 4096
_REQUEST = re.compile(
    r"""\s*\{(?:\s*"(?:question|query)"\s*:|.*?"(?:documents|passages)"\s*:\s*\[)""", re.DOTALL
)
_QUESTION_FIELDS, _DOCUMENT_FIELDS = ("question", "query"), ("documents", "passages")
_CONTEXT_FIELD = "context"
_READ_FIELDS = (*_QUESTION_FIELDS, *_DOCUMENT_FIELDS, _CONTEXT_FIELD, "id")
_LIST = re.compile(r"""\s*\[\s*(?:"|\{[^{}]*"text"\s*:)""")


def record_of(
    text: str, name: str, suffix: str, warn: Callable[[str], object]
) -> dict[str, Any] | None:
    """A request with `documents` and maybe a question, if the text holds one; else None.

    Args:
        warn: is told of a text that is named as JSON and is none.

    Raises:
        BadInput: the text was meant as a request and is not valid JSON.
    """
    plain = text.removeprefix("\ufeff")
    if suffix not in JSON_SUFFIXES and not (name == STDIN and plain.lstrip()[:1] in ("{", "[")):
        return None
    value = _parse(plain)
    if (documents := _documents_of(value)) is not None:
        return {**value, "documents": documents}
    documents = list(map(_named_text, value)) if isinstance(value, list) else []
    found = [_is_document(document) for document in documents]
    if documents and all(found):
        return {"documents": documents}
    if documents and found[0] and isinstance(documents[0], dict):
        raise BadInput(
            f"{display_name(name)}, element {found.index(False) + 1}: neither a text nor an object "
            f"with `text`, as {sum(found)} of {len(found)} elements are; mend it, or give it as "
            "text, in a file that ends in .txt"
        )
    if suffix != ".json" and (record := _record_of_lines(plain, name, suffix, value)):
        return record
    if isinstance(value, _BrokenJson) and suffix not in LINE_SUFFIXES and _resembles_request(plain):
        raise value.to_error(name)
    if isinstance(value, _BrokenJson) and suffix == ".json" and plain.strip():
        warn(f"{value.fault(name)}; it is read as text")
    return None


def _record_of_lines(text: str, name: str, suffix: str, whole: Any) -> dict[str, Any] | None:
    """JSON Lines of documents; lines end at line feeds alone, since a string may hold U+2028.

    Raises:
        BadInput: some lines are documents, or the name is that of JSON Lines, and one line is not
            valid JSON; or the lines are requests.
    """
    lines = {n: line for n, line in enumerate(text.split("\n"), 1) if line.strip()}
    values = {number: _named_text(_parse(line, number)) for number, line in lines.items()}
    if (requests := sum(_documents_of(value) is not None for value in values.values())) > 1:
        raise BadInput(
            f"{display_name(name)} holds {requests} requests, each with documents of its own, and "
            "one is answered at a time; `tamis batch run` goes through a file of them"
        )
    documents = [value for value in values.values() if _is_document(value)]
    broken = next((v for v in values.values() if isinstance(v, _BrokenJson)), None)
    first = next(iter(values.values()), None)
    meant = suffix in LINE_SUFFIXES or (isinstance(first, dict) and _is_document(first))
    if broken and meant and isinstance(whole, _BrokenJson):
        raise broken.to_error(name)
    if documents and len(documents) < len(values) and not broken and meant:
        number = next(n for n, value in values.items() if not _is_document(value))
        raise BadInput(
            f"{display_name(name)}, line {number}: neither a text nor an object with `text`, as "
            f"{len(documents)} of {len(values)} lines are; mend it, or give it as text, in a file "
            "that ends in .txt"
        )
    return {"documents": documents} if values and len(documents) == len(values) else None


@dataclass(frozen=True, slots=True)
class _BrokenJson:
    """Where text is not valid JSON, and why."""

    line: int
    why: str

    def to_error(self, name: str) -> BadInput:
        """The error to raise for an input of that name."""
        return BadInput(
            f"{self.fault(name)}; mend it, or give it as text, in a file that ends in .txt"
        )

    def fault(self, name: str) -> str:
        """What is wrong with an input of that name, and where."""
        return f"{display_name(name)}, line {self.line}: no JSON ({self.why})"


def _parse(text: str, line: int = 1) -> Any:
    """The value, or a `_BrokenJson`; `line` is the line number of the first character."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        return _BrokenJson(line + error.lineno - 1, f"{error.msg} at column {error.colno}")
    except (ValueError, RecursionError) as error:
        return _BrokenJson(line, str(error) or type(error).__name__)


def _resembles_request(text: str) -> bool:
    """Whether invalid JSON begins as a request or a list of documents does."""
    head = text[:_BEGINNING_CHARS]
    return bool(_REQUEST.match(head) or _LIST.match(head))


def _named_text(value: Any) -> Any:
    """The value; a document whose text has another of an index's names has it as `text`."""
    if not isinstance(value, dict) or "text" in value:
        return value
    name = next((name for name in TEXT_FIELDS if isinstance(value.get(name), str)), None)
    rest = {key: other for key, other in value.items() if key != name}
    return {"text": value[name], **rest} if name and rest.keys() <= {*KNOWN_FIELDS} else value


def _is_document(value: Any) -> bool:
    return isinstance(value, str) or (
        isinstance(value, dict) and isinstance(value.get("text"), str)
    )


def _documents_of(value: Any) -> list[Any] | None:
    """The documents of a request; None if the value is not a request.

    One text beside a question is one document, as in a row of a batch.
    """
    if not isinstance(value, dict):
        return None
    lists = (value.get(key) for key in _DOCUMENT_FIELDS)
    if (found := next((one for one in lists if isinstance(one, list)), None)) is not None:
        return found
    texts = (value.get(key) for key in (*_DOCUMENT_FIELDS, _CONTEXT_FIELD))
    text = next((one for one in texts if isinstance(one, str)), None)
    is_asked = any(isinstance(value.get(key), str) for key in _QUESTION_FIELDS)
    return [text] if is_asked and text is not None else None


@dataclass(slots=True)
class CommandInputs:
    """Everything that the inputs of a command hold.

    Attributes:
        passages: in the order given, folders sorted.
        questions: those in JSON inputs, each once.
        skipped: files found in folders that were not read, and why.
        documents: what the files were read as, those of JSON aside.
        faults: files that are named as JSON, are none, and were read as text; fields of requests in
            JSON that are not read.
    """

    passages: list[Passage] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    skipped: dict[Path, str] = field(default_factory=dict)
    documents: list[DocumentText] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """How HTML, PDF and DOCX were read, and which texts are pages of HTML or broken JSON, and
        which fields of JSON were not read."""
        raw = raw_html_warning([passage.text for passage in self.passages])
        told = [note for note in (left_out_note(self.documents), raw) if note is not None]
        return [*told, *self.faults]

    def skipped_note(self) -> str | None:
        """The files that were passed over, by name; None if there are none."""
        return files_passed_over(self.skipped)

    def question(self, given: str | None) -> str:
        """The question of the command line, or the only one in the inputs.

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
class InputOptions:
    """How inputs are read.

    Attributes:
        encoding: of every file and of standard input.
        max_bytes: more input than this is refused before it fills the memory.
        input_format: `auto` reads HTML, PDF and DOCX as what they show; `text` takes HTML as it is.
        outputs: files that will be written, None for none; an input is not written over.
    """

    encoding: str = "utf-8"
    max_bytes: int = 1 << 30
    input_format: InputFormat = InputFormat.auto
    outputs: Sequence[Path | None] = ()


def standard_input() -> BinaryIO | None:
    """Standard input as bytes; None where it is closed, as under some supervisors."""
    return getattr(sys.stdin, "buffer", None)


def gather_inputs(
    paths: Sequence[str], stdin: BinaryIO | None, options: InputOptions
) -> CommandInputs:
    """Reads paths in order; without paths, standard input if it is a pipe or a file.

    Text is not changed, line ends included; .gz, .xz and .zst are unpacked. HTML, PDF and DOCX
    are read as what they show. In a folder, a file that cannot be read so is passed over.

    Raises:
        BadInput: a path is missing, unreadable, binary, empty of text files or not in that
            encoding; JSON is broken or its documents are; there is no text at all, or more than
            `max_bytes`; or an input is one of the `outputs`.
        MissingExtra: a PDF or DOCX was named, and the package for it is not installed.
    """
    if not paths and (stdin is None or stdin.isatty()):
        raise BadInput("there is nothing to read; name files or folders, or pipe text in")
    found, total_bytes, named = CommandInputs(), 0, {*paths, STDIN}
    outputs = {output.resolve() for output in options.outputs if output is not None}
    for name, data in _contents(paths or (STDIN,), stdin, found, options.max_bytes + 1):
        if outputs and name != STDIN and Path(name).resolve() in outputs:
            raise BadInput(f"{name} is read and would be written over; name another output")
        total_bytes += len(data)
        if total_bytes > options.max_bytes:
            raise BadInput(
                f"the input has more than {options.max_bytes:,} bytes; "
                "name fewer files, or raise --max-input"
            )
        _add_input(found, name, data, options, in_folder=name not in named)
    if not found.passages and found.skipped:
        raise BadInput(f"nothing could be read; {found.skipped_note()}")
    if not any(passage.text.strip() for passage in found.passages):
        count = len(found.passages)
        which = "document given holds" if count == 1 else f"{count:,} documents given hold"
        raise BadInput(f"the {which} no text; give some with words in them")
    return found


def _contents(
    paths: Sequence[str], stdin: BinaryIO | None, found: CommandInputs, max_bytes: int
) -> Iterator[tuple[str, bytes]]:
    """The name of every input, and its first `max_bytes` bytes."""
    for path in paths:
        if path == STDIN and stdin is None:
            raise BadInput("standard input is closed; name files or folders, or pipe text in")
        if path == STDIN and stdin is not None:
            yield STDIN, stdin.read(max_bytes)
        elif Path(path).is_dir():
            yield from _text_files(Path(path), found, max_bytes)
        elif not Path(path).exists():
            raise BadInput(f"there is no file or folder {path}; check the name")
        else:
            yield path, _read_bytes(Path(path), max_bytes)


def _text_files(folder: Path, found: CommandInputs, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """The text files below a folder, sorted; hidden files are left out, other files recorded."""
    texts, others = 0, len(found.skipped)
    for file in visible_files(folder):
        try:
            fault = irregular(file)
            data = b"" if fault else _read_bytes(file, max_bytes)
            fault = fault or binary_fault(data, str(file))
        except (BadInput, MissingExtra) as error:
            fault = str(error)
        if fault is not None:
            found.skipped[file] = fault
            continue
        texts += 1
        yield str(file), data
    if not texts:
        raise BadInput(
            f"{folder} holds no text files ({len(found.skipped) - others} files that are none, "
            "hidden ones aside); name another folder, or the files themselves"
        )


def visible_files(folder: Path) -> Iterator[Path]:
    """All below a folder that is none, sorted; hidden ones and those of indexes are left out.

    Links to folders are not followed: those that lead out of the folder are among the files.
    """
    for home, folders, files in os.walk(folder):
        shown = (name for name in folders if not name.startswith("."))
        folders[:] = sorted(name for name in shown if not is_index(Path(home, name)))
        links = [name for name in folders if Path(home, name).is_symlink()]
        files += [name for name in links if not is_repeated(Path(home, name), folder)]
        yield from (Path(home, name) for name in sorted(files) if not name.startswith("."))


def is_index(folder: Path) -> bool:
    """Whether a folder is what `tamis index build` made."""
    return (folder / "manifest.json").is_file() and (folder / "segments").is_dir()


def _read_bytes(file: Path, max_bytes: int) -> bytes:
    """The first `max_bytes` bytes, of a packed file unpacked; no more is ever held."""
    try:
        with unpacked(file.open("rb"), str(file)) as stream:
            return stream.read(max_bytes)
    except OSError as error:
        raise BadInput(
            f"{file} cannot be read ({error.strerror}); check its permissions"
        ) from error


def _add_input(
    found: CommandInputs, name: str, data: bytes, options: InputOptions, in_folder: bool
) -> None:
    """Adds one input: its documents if it is JSON that holds some, else its text as a passage."""
    try:
        document = read_document(data, name, options.encoding, options.input_format)
    except (BadInput, MissingExtra) as error:
        if not in_folder:
            raise
        found.skipped[Path(name)] = str(error)
        return
    is_text = document.format == "text"
    warn = found.faults.append
    record = record_of(document.text, name, unpacked_suffix(name), warn) if is_text else None
    if record is None:
        found.documents.append(document)
        found.passages.append(document.to_passage(None if name == STDIN else name))
        return
    question = next((record[key] for key in _QUESTION_FIELDS if record.get(key) is not None), None)
    if question is not None and not isinstance(question, str):
        raise BadInput(f"{display_name(name)}: the question is {json_kind(question)}; give a text")
    if question is not None and question.strip() and question not in found.questions:
        found.questions.append(question)
    if unread := [key for key in record if key not in _READ_FIELDS and record[key] is not None]:
        found.faults.append(
            f"{display_name(name)}: of a request in a file question and documents are read, and "
            f"not {', '.join(unread):.200}; give options on the command line"
        )
    found.passages += _passages(record["documents"], name)


def _passages(documents: list[Any], name: str) -> list[Passage]:
    try:
        read = [read_given(document, index) for index, document in enumerate(documents)]
        return [to_passage(document, index) for index, document in enumerate(read)]
    except (BadInput, TypeError, ValueError) as error:
        raise BadInput(f"{display_name(name)}: {error}") from error


def read_files(
    *paths: str | Path, encoding: str = "utf-8", input_format: str = "auto"
) -> list[Passage]:
    """Files and folders as passages: text as it is, HTML, PDF and DOCX as what they show.

    A passage's `id` is its path. That of another format than text has its `format` in `metadata`,
    and of a PDF the `page_starts`: the offsets in its text at which pages begin. Spans of a result
    are into the passage's text. PDF and DOCX need `pip install "tamis[documents]"`. Fields of a
    request in JSON that are not read, and files that are passed over, are a `UserWarning`.

    Args:
        paths: folders are read sorted, hidden files aside; in them, files that are no text are
            passed over, with a warning. JSON and JSON Lines may hold documents.
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
    found = gather_inputs(list(map(str, paths)), None, options)
    for note in (*found.faults, found.skipped_note()):
        if note is not None:
            warnings.warn(note, stacklevel=2)
    return found.passages


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
