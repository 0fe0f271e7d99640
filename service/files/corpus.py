"""The documents of a corpus: JSON, JSON Lines, Parquet, every text file, and folders of all these.

A text file is one document, whose id is its path below the folder that was named; a row of JSON
Lines or Parquet is one with an id of its own. Documents are read one at a time.

A file keeps its id: one that an index knows has the one it has there, and a new one goes by its
path below the folder that the index was made of, whether it is named itself or in a folder.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path, PurePath
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.files.command_inputs import is_index, record_of, visible_files
from tamis.service.files.document_text import (
    FORMAT,
    LINE_SUFFIXES,
    SNIFFED_BYTES,
    TEXT_FIELDS,
    PassedOver,
    binary_fault,
    files_passed_over,
    read_document,
)
from tamis.service.files.row_values import import_pyarrow, iterate_rows, open_parquet
from tamis.service.files.streams import (
    MAX_LINE_BYTES,
    codec_of,
    irregular,
    json_kind,
    open_unpacked,
    raise_fault,
    read_json_lines,
    read_lines,
    unpacked_suffix,
)
from tamis.text.types import CorpusDocument

_FOLDER_END = "/./"
_ID_FIELDS = ("id", "_id", "doc_id", "docid", "document_id")


@dataclass(frozen=True, slots=True)
class CorpusFields:
    """The names of the columns of rows; None stands for the first of the usual names."""

    id: str | None = None
    text: str | None = None
    title: str = "title"


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file.

    Attributes:
        name: what its documents are identified by. folder: the real path of the folder that it is
            named below. in_folder: whether that was named, and not the file.
    """

    path: str
    name: str
    folder: str | None = None
    in_folder: bool = False

    @property
    def kind(self) -> str:
        """The suffix of the file, without that of its packing."""
        return unpacked_suffix(self.path)

    @property
    def place(self) -> str:
        """Where it is: the URL, or the path without links in the folders above it."""
        if "://" in self.path:
            return self.path
        return os.path.join(os.path.realpath(os.path.dirname(self.path)), PurePath(self.path).name)

    def source(self, home: Path) -> str:
        """Where it is as seen from an index, by which `CorpusDocument.source` knows it."""
        if "://" in self.path:
            return self.path
        start = os.path.realpath(home)
        if self.folder is None:
            return os.path.relpath(self.place, start)
        below = self.place.removeprefix(_inside(self.folder))
        return f"{os.path.relpath(self.folder, start)}{_FOLDER_END}{below}"


_Skip = Callable[[BadInput], object]


@dataclass(slots=True)
class ReadingNotes:
    """Which files and rows of a corpus were not read, and why; which were read as plain text.

    Attributes:
        unread: the paths of files that were not read, or not whole.
    """

    passed_over: PassedOver = field(default_factory=PassedOver)
    faults: list[str] = field(default_factory=list)
    unread: set[str] = field(default_factory=set)

    def skip(self, error: BadInput) -> None:
        """Notes a row that is passed over; the message begins with its place."""
        place, _, why = str(error).partition(": ")
        self.passed_over[place] = why


def source_place(home: Path, source: str | None) -> str:
    """The `CorpusFile.place` of a file that an index knows by this; empty for none."""
    if source is None or "://" in source:
        return source or ""
    return os.path.normpath(os.path.join(os.path.realpath(home), source))


def _inside(folder: str) -> str:
    """What the places of all files in a folder begin with."""
    return f"{folder.rstrip('/')}/"


def is_below(place: str, paths: Sequence[str]) -> bool:
    """Whether a file is one of a corpus, or in a folder of it, be it there or not."""
    ends = (end for path in paths for end in (CorpusFile(path, path).place, os.path.realpath(path)))
    return _inside(place).startswith(tuple(map(_inside, ends)))


def find_corpus_files(
    paths: Sequence[str],
    home: Path = Path(),
    known: Mapping[str, str] | None = None,
    allow_empty: bool = False,
) -> list[CorpusFile]:
    """The files of a corpus, each once, by the names that they have in an index.

    Args:
        known: the `CorpusDocument.source` of the documents of the index in `home`, by their ids.

    Raises:
        BadInput: as `walk_corpus`, or two files would have the same name.
    """
    sources = dict(known or {})
    ids = {source_place(home, source): doc for doc, source in sources.items()}
    ends = (source.partition(_FOLDER_END) for source in sources.values())
    folders = sorted({source_place(home, folder) for folder, mark, _ in ends if mark})
    # what the index knows goes first, and an outer folder before those in it
    folders += sorted(os.path.realpath(path) for path in paths if Path(path).is_dir())
    found = []
    for file in walk_corpus(paths, allow_empty):
        place = file.place
        doc, name = ids.get(place, ""), file.name
        folder = next((one for one in folders if place.startswith(_inside(one))), None)
        if PurePath(doc).name == PurePath(place).name:  # rows have ids of their own
            name = doc
        elif folder is not None:
            name = place.removeprefix(_inside(folder))
        found.append(replace(file, name=name, folder=folder))
    return _distinct_files(found)


def walk_corpus(paths: Sequence[str], allow_empty: bool = False) -> list[CorpusFile]:
    """The files of a corpus, folders walked and sorted; hidden files and indexes are skipped.

    Raises:
        BadInput: a path does not exist or is in an index, or a folder has no file and must have.
    """
    found: list[CorpusFile] = []
    for path in paths:
        if not path.strip():
            raise BadInput("a corpus has an empty name; name a file or a folder, `.` for this one")
        if index := _enclosing_index(path):
            raise BadInput(f"{path} lies in the index {index}; name the corpus, not its index")
        if Path(path).is_dir():
            inside = sorted(visible_files(Path(path)))
            if not inside and not allow_empty:
                raise BadInput(
                    f"{path} holds no file, hidden ones aside; name another folder, or if it was "
                    "emptied give tamis index sync --allow-empty"
                )
            found += [CorpusFile(str(file), str(file), in_folder=True) for file in inside]
        elif "://" in path or Path(path).is_file():
            found.append(CorpusFile(path, path))
        else:
            raise BadInput(f"there is no file or folder {path}; check the name")
    return found


def corpus_fingerprint(paths: Sequence[str]) -> str:
    """Identifies a corpus by its paths, so that an interrupted build resumes only with the same."""
    named = sorted({path if "://" in path else str(Path(path).resolve()) for path in paths})
    return hashlib.blake2b("\0".join(named).encode(errors="surrogateescape")).hexdigest()[:32]


def _distinct_files(found: Sequence[CorpusFile]) -> list[CorpusFile]:
    """Each file once; files of different folders must have different names."""
    known: dict[str, CorpusFile] = {}
    for source in found:
        other = known.setdefault(source.name, source)
        if os.path.realpath(other.path) != os.path.realpath(source.path):
            raise BadInput(
                f"{other.path} and {source.path} would both be the document {source.name!r}; name "
                "the folder above them, or the files themselves, which go by the path as given"
            )
    return list(known.values())


def _enclosing_index(path: str) -> Path | None:
    """The index that a path is, or is inside of."""
    whole = Path(path).resolve()
    return next((folder for folder in (whole, *whole.parents) if is_index(folder)), None)


def count_documents(found: Sequence[CorpusFile]) -> int:
    """The number of documents, blank lines aside: the total of a progress bar."""
    total = 0
    for source in found:
        # a file of a folder that cannot be read is told when it is read
        with suppress(*((BadInput, MissingExtra) if source.in_folder else ())):
            if _irregular(source):
                continue
            if source.kind == ".parquet":
                with open_parquet(source.path) as file:
                    total += file.metadata.num_rows
            elif source.kind in LINE_SUFFIXES:
                with open_unpacked(source.path) as stream:
                    lines = (line for _, line in read_lines(stream))
                    total += sum(1 for line in lines if line is None or line.strip())
            else:
                total += 1
    return total


def read_documents(
    found: Sequence[CorpusFile],
    fields: CorpusFields,
    encoding: str,
    notes: ReadingNotes | None = None,
    home: Path = Path(),
) -> Iterator[CorpusDocument]:
    """The documents of a corpus, in order.

    Args:
        notes: takes the files in folders, and their rows, that cannot be read, and why; without
            it, such a file raises as one that was named does.
        home: the folder of the index, as seen from which documents have their `source`.

    Raises:
        BadInput: a file is not a document, with its location; or nothing could be read.
            MissingExtra: a PDF or DOCX, without the package for it.
    """
    told, read = notes or ReadingNotes(), 0
    for file in found:
        source, before = file.source(home), told.passed_over.count
        skip = told.skip if notes is not None and file.in_folder else raise_fault
        try:
            for document in _documents_of(file, fields, encoding, told, skip):
                read += 1
                yield replace(document, source=source)
        except (BadInput, MissingExtra) as error:
            if skip is raise_fault:
                raise
            told.passed_over[file.path] = str(error)
        if told.passed_over.count > before:
            told.unread.add(file.path)
    if not read and told.passed_over:
        raise BadInput(f"nothing could be read; {files_passed_over(told.passed_over)}")


def _irregular(file: CorpusFile) -> str | None:
    """Why it cannot be read as a file, as a pipe or a link to nothing."""
    return None if "://" in file.path else irregular(file.path)


def _documents_of(
    file: CorpusFile, fields: CorpusFields, encoding: str, told: ReadingNotes, skip: _Skip
) -> Iterator[CorpusDocument]:
    """The documents of one file: those that it holds as JSON or Parquet, or the text it is."""
    if fault := _irregular(file):
        raise BadInput(f"{file.path} {fault}")
    if file.kind == ".parquet":
        return _row_documents(file, _parquet_rows(file.path), fields, skip)
    if file.kind in LINE_SUFFIXES:
        rows = read_json_lines(file.path, skip)
        first = list(islice(rows, 1))
        if not first or fields.text or _first_field(first[0][1], TEXT_FIELDS):
            return _row_documents(file, chain(first, rows), fields, skip)
        told.faults.append(
            f"{file.path} is one text, since there is no text in 'text' of its first line but "
            f"{sorted(first[0][1])}; --text-field names another"
        )
    document = read_document(read_whole(file.path), file.path, encoding)
    if file.kind == ".json" and document.format == "text":
        record = record_of(document.text, file.path, file.kind, told.faults.append)
        if record is not None:
            given = (one if isinstance(one, dict) else {"text": one} for one in record["documents"])
            return _row_documents(file, enumerate(given, 1), fields, skip)
    metadata = {} if document.format == "text" else {FORMAT: document.format}
    text = document.text.removeprefix("\ufeff")
    return iter((CorpusDocument(file.name, text, document.title, metadata),))


def read_whole(path: str) -> bytes:
    """All of a file; of a packed one at most as much as one row may have, of a binary one none."""
    with open_unpacked(path) as stream:
        head = stream.read(SNIFFED_BYTES)
        if fault := binary_fault(head, path):
            raise BadInput(fault)
        most = MAX_LINE_BYTES - len(head) if codec_of(path) else -1
        data = head + stream.read(most)
        if codec_of(path) and stream.read(1):
            raise BadInput(
                f"{path} unpacks to over {MAX_LINE_BYTES >> 20} MiB; split it, or unpack it"
            )
    return data


def _row_documents(
    source: CorpusFile, rows: Iterable[tuple[int, Any]], fields: CorpusFields, skip: _Skip
) -> Iterator[CorpusDocument]:
    for number, row in rows:
        place = f"{source.path}, {'line' if source.kind in LINE_SUFFIXES else 'row'} {number}"
        try:
            yield _document_of(row, place, f"{source.name}:{number}", fields)
        except BadInput as error:
            skip(error)


def _document_of(
    row: Mapping[str, Any], place: str, name: str, fields: CorpusFields
) -> CorpusDocument:
    """A row as a document: every field that is not id, text or title is metadata."""
    text_field = fields.text or _first_field(row, TEXT_FIELDS) or "text"
    if not isinstance(row.get(text_field), str):
        fault = f"the text in {text_field!r} is null" if text_field in row else ""
        if row.get(text_field) is not None:
            fault = f"there is no text in {text_field!r} but {json_kind(row[text_field])}"
        raise BadInput(
            f"{place}: {fault or f'there is no text in {text_field!r}'}; its fields are "
            f"{sorted(row)}; name the right one with --text-field"
        )
    id_field = fields.id or _first_field(row, _ID_FIELDS)
    if fields.id and row.get(fields.id) is None:
        raise BadInput(f"{place}: there is no id in {fields.id!r}; its fields are {sorted(row)}")
    given = row.get(id_field) if id_field else None
    title = row.get(fields.title)
    titled = isinstance(title, str | int | float) and not isinstance(title, bool) and title == title
    empty = {key for key in (*TEXT_FIELDS, *_ID_FIELDS, fields.title) if row.get(key) is None}
    taken = {id_field, text_field, *empty} | ({fields.title} if titled else set())
    try:
        return CorpusDocument(
            name if given is None else str(given),
            row[text_field],
            (str(title) or None) if titled else None,
            _metadata({key: value for key, value in row.items() if key not in taken}),
        )
    except BadInput as error:
        raise BadInput(f"{place}: {error}") from error


def _first_field(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the usual names with a value in the row, else the first that it has at all."""
    present = [name for name in names if name in row]
    return next(
        (name for name in present if row[name] is not None), present[0] if present else None
    )


def _metadata(rest: dict[str, Any]) -> dict[str, Any]:
    """The row's other fields, and those of an object in `metadata`, which may be JSON text."""
    inner = rest.get("metadata")
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            return rest
    if inner is not None and not isinstance(inner, Mapping):
        return rest
    return {**{key: of for key, of in rest.items() if key != "metadata"}, **(inner or {})}


def _parquet_rows(path: str) -> Iterator[tuple[int, Any]]:
    arrow, number = import_pyarrow(), 0
    try:
        with open_parquet(path) as file:
            for batch in file.iter_batches(batch_size=256, use_threads=False):
                for row in iterate_rows(batch):
                    number += 1
                    yield number, _plain_value(row)
    except BadInput as error:
        raise BadInput(f"{path}, row {number}: {error}") from error
    except (arrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} is damaged after row {number}: {error}") from error


def _plain_value(value: Any) -> Any:
    """A JSON value: dates and the like as text, so that they can be compared; bytes in base64."""
    if isinstance(value, Mapping):
        return {str(key): _plain_value(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain_value(of) for of in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
