"""A corpus as it comes: JSON Lines, Parquet, text files, folders of all these; one by one.

Each file is one document, known by its path below the folder that was named; a row of JSON Lines
or Parquet is one, known by its id. Nothing is held but the row at hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.retrieval.chunks import Document
from tamis.service.batch.cells import cells
from tamis.service.batch.files import opened, pyarrow
from tamis.service.batch.lines import lines
from tamis.service.batch.plan import open_parquet

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
    """The files of a corpus, folders walked and sorted; hidden ones are passed over.

    Raises:
        BadInput: a path that is not there, or a folder without a file that can be read.
    """
    found: list[Source] = []
    for path in paths:
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
    return found


def _walk(folder: Path) -> Iterator[Source]:
    for file in sorted(folder.rglob("*")):
        below = file.relative_to(folder)
        if file.is_file() and not any(part.startswith(".") for part in below.parts):
            yield Source(str(file), below.as_posix())


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


def documents(found: Sequence[Source], fields: Fields, encoding: str) -> Iterator[Document]:
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
                yield Document(source.name, _decoded(stream.read(), source.path, encoding))


def _of_rows(source: Source, rows: Iterator[tuple[int, Any]], fields: Fields) -> Iterator[Document]:
    for number, row in rows:
        place = f"{source.path}, row {number}"
        if not isinstance(row, Mapping):
            raise BadInput(f"{place}: a document is a JSON object, got {type(row).__name__}")
        yield _document(row, place, f"{source.name}:{number}", fields)


def _document(row: Mapping[str, Any], place: str, name: str, fields: Fields) -> Document:
    """A row as a document: what is neither id, text nor title is metadata."""
    text_field = fields.text or next((word for word in _WORDS if word in row), "text")
    if not isinstance(row.get(text_field), str):
        raise BadInput(
            f"{place}: there is no text in {text_field!r}; its fields are {sorted(row)}; "
            "name the right one with --text-field"
        )
    id_field = fields.id or next((word for word in _IDS if word in row), None)
    if fields.id and row.get(fields.id) is None:
        raise BadInput(f"{place}: there is no id in {fields.id!r}; its fields are {sorted(row)}")
    given = row.get(id_field) if id_field else None
    title = row.get(fields.title)
    rest = {k: v for k, v in row.items() if k not in (id_field, text_field, fields.title)}
    inner = rest.pop("metadata", None)
    return Document(
        name if given is None else str(given),
        row[text_field],
        title if isinstance(title, str) and title else None,
        {**rest, **inner} if isinstance(inner, Mapping) else rest,
    )


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
    """What JSON can say; dates and the like become their text, so that they compare."""
    if isinstance(value, Mapping):
        return {str(key): _plain(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(of) for of in value]
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
