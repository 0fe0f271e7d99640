"""The documents of a corpus: JSON Lines, Parquet, text files, and folders of all these.

A text file is one document, whose id is its path below the folder that was named; a row of JSON
Lines or Parquet is one with an id of its own. Documents are read one at a time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.retrieval.storage.chunks import CorpusDocument
from tamis.retrieval.storage.manifest import MANIFEST, SEGMENTS
from tamis.service.files.document_text import (
    FORMAT,
    TEXT_FIELDS,
    TEXT_SUFFIXES,
    files_passed_over,
    read_document,
)
from tamis.service.files.row_values import import_pyarrow, iterate_rows, open_parquet
from tamis.service.files.streams import (
    MAX_LINE_BYTES,
    codec_of,
    open_unpacked,
    read_json_lines,
    read_lines,
    unpacked_suffix,
)

ROW_SUFFIXES = (".jsonl", ".ndjson", ".parquet")
_SUFFIXES = (*ROW_SUFFIXES, *TEXT_SUFFIXES)
_ID_FIELDS = ("id", "_id", "doc_id", "docid", "document_id")


@dataclass(frozen=True, slots=True)
class CorpusFields:
    """The names of the columns of rows; None stands for the first of the usual names."""

    id: str | None = None
    text: str | None = None
    title: str = "title"


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file: its path, the name that its documents are identified by, and how it was found."""

    path: str
    name: str
    in_folder: bool = False

    @property
    def kind(self) -> str:
        """The suffix of the file, without that of its packing."""
        return unpacked_suffix(self.path)


def find_corpus_files(paths: Sequence[str]) -> list[CorpusFile]:
    """The files of a corpus, folders walked and sorted; hidden files and indexes are skipped.

    Raises:
        BadInput: a path does not exist or is in an index, a folder has no file that can be read, or
            two files would have the same name.
    """
    found: list[CorpusFile] = []
    for path in paths:
        if not path.strip():
            raise BadInput("a corpus has an empty name; name a file or a folder, `.` for this one")
        if index := _enclosing_index(path):
            raise BadInput(f"{path} lies in the index {index}; name the corpus, not its index")
        if Path(path).is_dir():
            inside = [file for file in _files_below(Path(path)) if file.kind in _SUFFIXES]
            if not inside:
                raise BadInput(
                    f"{path} holds no file that ends in {', '.join(_SUFFIXES)}; "
                    "name another folder, or the files themselves"
                )
            found += inside
        elif "://" in path or Path(path).is_file():
            found.append(CorpusFile(path, path))
        else:
            raise BadInput(f"there is no file or folder {path}; check the name")
    return _distinct_files(found)


def files_of_unknown_kind(paths: Sequence[str]) -> dict[str, str]:
    """The files in the folders of a corpus that are passed over, and why; hidden ones aside."""
    folders = [Path(path) for path in paths if Path(path).is_dir()]
    files = [file for folder in folders for file in _files_below(folder)]
    return {file.path: "unknown kind" for file in files if file.kind not in _SUFFIXES}


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


def _files_below(folder: Path) -> Iterator[CorpusFile]:
    files: list[Path] = []
    for at, folders, names in os.walk(folder):
        here = Path(at)
        folders[:] = [n for n in folders if not n.startswith(".") and not _is_index(here / n)]
        files += [here / name for name in names if not name.startswith(".")]
    for file in sorted(files):
        if file.is_file():
            yield CorpusFile(str(file), file.relative_to(folder).as_posix(), in_folder=True)


def _is_index(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / SEGMENTS).is_dir()


def _enclosing_index(path: str) -> Path | None:
    """The index that a path is, or is inside of."""
    whole = Path(path).resolve()
    return next((folder for folder in (whole, *whole.parents) if _is_index(folder)), None)


def count_documents(found: Sequence[CorpusFile]) -> int:
    """The number of documents, blank lines aside: the total of a progress bar."""
    total = 0
    for source in found:
        if source.kind == ".parquet":
            with open_parquet(source.path) as file:
                total += file.metadata.num_rows
        elif source.kind in ROW_SUFFIXES:
            with open_unpacked(source.path) as stream:
                total += sum(1 for _, line in read_lines(stream) if line is None or line.strip())
        else:
            total += 1
    return total


def read_documents(
    found: Sequence[CorpusFile],
    fields: CorpusFields,
    encoding: str,
    passed_over: dict[str, str] | None = None,
) -> Iterator[CorpusDocument]:
    """The documents of a corpus, in order.

    Args:
        passed_over: takes the path of each text file in a folder that cannot be read, and why;
            without it, such a file raises as one that was named does.

    Raises:
        BadInput: a row or a file is not a document, with its location; or no file could be read.
            MissingExtra: a PDF or DOCX, without the package for it.
    """
    unread: dict[str, str] = {}
    for source in found:
        if source.kind == ".parquet":
            yield from _row_documents(source, _parquet_rows(source.path), fields)
        elif source.kind in ROW_SUFFIXES:
            yield from _row_documents(source, read_json_lines(source.path), fields)
        else:
            try:
                with open_unpacked(source.path) as stream:
                    data = _read_whole(stream, source.path)
                document = read_document(data, source.path, encoding)
            except (BadInput, MissingExtra) as error:
                if passed_over is None or not source.in_folder:
                    raise
                unread[source.path] = str(error)
                continue
            metadata = {} if document.format == "text" else {FORMAT: document.format}
            text = document.text.removeprefix("\ufeff")
            yield CorpusDocument(source.name, text, document.title, metadata)
    if found and len(unread) == len(found):
        raise BadInput(f"nothing could be read; {files_passed_over(unread)}")
    if passed_over is not None:
        passed_over |= unread


def _read_whole(stream: IO[bytes], path: str) -> bytes:
    """All of a file; of a packed one at most as much as one row may have."""
    if codec_of(path) is None:
        return stream.read()
    data = stream.read(MAX_LINE_BYTES + 1)
    if len(data) > MAX_LINE_BYTES:
        raise BadInput(f"{path} unpacks to over {MAX_LINE_BYTES >> 20} MiB; split it, or unpack it")
    return data


def _row_documents(
    source: CorpusFile, rows: Iterator[tuple[int, Any]], fields: CorpusFields
) -> Iterator[CorpusDocument]:
    for number, row in rows:
        place = f"{source.path}, {'row' if source.kind == '.parquet' else 'line'} {number}"
        yield _document_of(row, place, f"{source.name}:{number}", fields)


def _document_of(
    row: Mapping[str, Any], place: str, name: str, fields: CorpusFields
) -> CorpusDocument:
    """A row as a document: every field that is not id, text or title is metadata."""
    text_field = fields.text or _first_field(row, TEXT_FIELDS) or "text"
    if not isinstance(row.get(text_field), str):
        fault = f"the text in {text_field!r} is null" if text_field in row else ""
        if row.get(text_field) is not None:
            fault = f"there is no text in {text_field!r} but {type(row[text_field]).__name__}"
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
