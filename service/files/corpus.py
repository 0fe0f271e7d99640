"""A corpus as it comes: JSON Lines, Parquet, text files, folders of all these; one by one.

Each file is one document, known by its path below the folder that was named; a row of JSON Lines
or Parquet is one, known by its id. Nothing is held but the row at hand.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.retrieval.storage.chunks import CorpusDocument
from tamis.retrieval.storage.manifest import MANIFEST, SEGMENTS
from tamis.service.files.cells import cells
from tamis.service.files.files import open_parquet, opened, pyarrow
from tamis.service.files.lines import lines

ROWS = (".jsonl", ".ndjson", ".parquet")
TEXTS = (".txt", ".md", ".markdown", ".rst", ".html", ".htm")
_PACKED = (".gz", ".zst")
_IDS = ("id", "_id", "doc_id", "docid", "document_id")
_WORDS = ("text", "contents", "content", "body")


@dataclass(frozen=True, slots=True)
class Fields:
    """What the columns of rows are called; None for the first of the usual names."""

    id: str | None = None
    text: str | None = None
    title: str = "title"


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path, and the name its documents go by."""

    path: str
    name: str

    @property
    def kind(self) -> str:
        """Its suffix, that of a packing aside."""
        path = self.path.lower()
        for packing in _PACKED:
            path = path.removesuffix(packing)
        return Path(path).suffix


def sources(paths: Sequence[str]) -> list[Source]:
    """The files of a corpus, folders walked and sorted; hidden ones and indexes are passed over.

    Raises:
        BadInput: a path that is not there or lies in an index, a folder without a file that can be
            read, or two files that would go by one name.
    """
    found: list[Source] = []
    for path in paths:
        if not path.strip():
            raise BadInput("a corpus has an empty name; name a file or a folder, `.` for this one")
        if index := _index_around(path):
            raise BadInput(f"{path} lies in the index {index}; name the corpus, not its index")
        if Path(path).is_dir():
            inside = [s for s in _walk(Path(path)) if s.kind in (*ROWS, *TEXTS)]
            if not inside:
                raise BadInput(
                    f"{path} holds no file that ends in {', '.join((*ROWS, *TEXTS))}; "
                    "name another folder, or the files themselves"
                )
            found += inside
        elif "://" in path or Path(path).is_file():
            found.append(Source(path, path))
        else:
            raise BadInput(f"there is no file or folder {path}; check the name")
    return _named_once(found)


def fingerprint(paths: Sequence[str]) -> str:
    """Which corpus it is, by what was named: a build that was cut short goes on with the same."""
    named = sorted({path if "://" in path else str(Path(path).resolve()) for path in paths})
    return hashlib.blake2b("\0".join(named).encode(errors="surrogateescape")).hexdigest()[:32]


def _named_once(found: Sequence[Source]) -> list[Source]:
    """Each file once; files of different folders must not go by one name."""
    known: dict[str, Source] = {}
    for source in found:
        other = known.setdefault(source.name, source)
        if os.path.realpath(other.path) != os.path.realpath(source.path):
            raise BadInput(
                f"{other.path} and {source.path} would both be the document {source.name!r}; name "
                "the folder above them, or the files themselves, which go by the path as given"
            )
    return list(known.values())


def _walk(folder: Path) -> Iterator[Source]:
    files: list[Path] = []
    for at, folders, names in os.walk(folder):
        here = Path(at)
        folders[:] = [n for n in folders if not n.startswith(".") and not _is_index(here / n)]
        files += [here / name for name in names if not name.startswith(".")]
    for file in sorted(files):
        if file.is_file():
            yield Source(str(file), file.relative_to(folder).as_posix())


def _is_index(folder: Path) -> bool:
    return (folder / MANIFEST).is_file() and (folder / SEGMENTS).is_dir()


def _index_around(path: str) -> Path | None:
    """The index that a path lies in or is."""
    whole = Path(path).resolve()
    return next((folder for folder in (whole, *whole.parents) if _is_index(folder)), None)


def count(found: Sequence[Source]) -> int:
    """How many documents there are, blank lines aside: for a bar that knows its end."""
    total = 0
    for source in found:
        if source.kind == ".parquet":
            total += open_parquet(source.path).metadata.num_rows
        elif source.kind in ROWS:
            with opened(source.path) as stream:
                total += sum(1 for _, line in lines(stream) if line is None or line.strip())
        else:
            total += 1
    return total


def documents(found: Sequence[Source], fields: Fields, encoding: str) -> Iterator[CorpusDocument]:
    """The documents of a corpus, in order.

    Raises:
        BadInput: a row or a file that is none, with its place.
    """
    for source in found:
        if source.kind == ".parquet":
            yield from _of_rows(source, _parquet(source.path), fields)
        elif source.kind in ROWS:
            yield from _of_rows(source, _json_lines(source.path), fields)
        else:
            with opened(source.path) as stream:
                text = _decoded(stream.read(), source.path, encoding)
            yield CorpusDocument(source.name, text.removeprefix("\ufeff"))


def _of_rows(source: Source, rows: Iterator[tuple[int, Any]], fields: Fields) -> Iterator[CorpusDocument]:
    for number, row in rows:
        place = f"{source.path}, row {number}"
        if not isinstance(row, Mapping):
            raise BadInput(f"{place}: a document is a JSON object, got {type(row).__name__}")
        yield _document(row, place, f"{source.name}:{number}", fields)


def _document(row: Mapping[str, Any], place: str, name: str, fields: Fields) -> CorpusDocument:
    """A row as a document: what is neither id, text nor title is metadata."""
    text_field = fields.text or _first(row, _WORDS) or "text"
    if not isinstance(row.get(text_field), str):
        said = f"the text in {text_field!r} is null" if text_field in row else ""
        if row.get(text_field) is not None:
            said = f"there is no text in {text_field!r} but {type(row[text_field]).__name__}"
        raise BadInput(
            f"{place}: {said or f'there is no text in {text_field!r}'}; its fields are "
            f"{sorted(row)}; name the right one with --text-field"
        )
    id_field = fields.id or _first(row, _IDS)
    if fields.id and row.get(fields.id) is None:
        raise BadInput(f"{place}: there is no id in {fields.id!r}; its fields are {sorted(row)}")
    given = row.get(id_field) if id_field else None
    title = row.get(fields.title)
    titled = isinstance(title, str | int | float) and not isinstance(title, bool) and title == title
    empty = {key for key in (*_WORDS, *_IDS, fields.title) if row.get(key) is None}
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


def _first(row: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """The first of the usual names that the row has a value for, else that it has."""
    there = [name for name in names if name in row]
    return next((name for name in there if row[name] is not None), there[0] if there else None)


def _metadata(rest: dict[str, Any]) -> dict[str, Any]:
    """The row's own fields, and those of an object in `metadata`, as it is or as JSON text."""
    inner = rest.get("metadata")
    if isinstance(inner, str):
        try:
            inner = json.loads(inner)
        except (ValueError, RecursionError):
            return rest
    if inner is not None and not isinstance(inner, Mapping):
        return rest
    return {**{key: of for key, of in rest.items() if key != "metadata"}, **(inner or {})}


def _json_lines(path: str) -> Iterator[tuple[int, Any]]:
    with opened(path) as stream:
        for number, (_, line) in enumerate(lines(stream), 1):
            if line is None:
                raise BadInput(f"{path}, row {number}: the line is over 256 MiB; split it")
            if line.strip():
                yield number, _parsed(line, f"{path}, row {number}")


def _parsed(line: bytes, place: str) -> Any:
    try:
        return json.loads(_decoded(line, place, "utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{place}: not JSON ({error})") from error


def _parquet(path: str) -> Iterator[tuple[int, Any]]:
    arrow, number = pyarrow(), 0
    file = open_parquet(path)
    try:
        for batch in file.iter_batches(batch_size=256):
            for row in cells(batch):
                number += 1
                yield number, _plain(row)
    except BadInput as error:
        raise BadInput(f"{path}, row {number}: {error}") from error
    except (arrow.ArrowException, OSError) as error:
        raise BadInput(f"{path} is damaged after row {number}: {error}") from error


def _plain(value: Any) -> Any:
    """What JSON can say: dates and the like as text, so that they compare; bytes as base64."""
    if isinstance(value, Mapping):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _decoded(data: bytes, place: str, encoding: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{place} is not {encoding.removesuffix('-sig')}: byte 0x{data[error.start]:02x} at "
            f"offset {error.start} cannot be read; name its encoding, such as --encoding latin-1"
        ) from error
    except LookupError as error:
        raise BadInput(f"there is no encoding {encoding!r}; give utf-8 or latin-1") from error
