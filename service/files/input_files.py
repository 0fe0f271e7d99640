"""The input files of a batch: files of rows, and folders in which every text file is a row.

Which files are text is told by how they begin, as where folders are compressed or indexed.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.files import streams
from tamis.service.files.document_text import JSON_SUFFIXES, SNIFFED_BYTES, binary_fault

Kind = Literal["lines", "parquet", "texts"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of rows, or the text files of a folder.

    Attributes:
        url: of the file, or of the folder.
        names: of the text files, relative to the folder, sorted.
        passed_over: the folder's other files, relative to it, and why; hidden ones are not named.
    """

    url: str
    kind: Kind
    names: tuple[str, ...] = ()
    passed_over: Mapping[str, str] = field(default_factory=dict, compare=False)

    def paths(self) -> tuple[Any, list[str]]:
        """The file system, and the path there of the file, or of each text file of the folder."""
        fs, path = streams.filesystem(self.url)
        return fs, [f"{path.rstrip('/')}/{name}" for name in self.names] or [path]

    def location(self, row: int) -> str:
        """Where a row is, for a message; rows count from 1, empty lines included."""
        if self.kind == "texts":
            return f"{self.url.rstrip('/')}/{self.names[row - 1]}"
        is_line = self.kind == "lines" and streams.unpacked_suffix(self.url) != ".json"
        return f"{self.url}, {'line' if is_line else 'row'} {row}"


def find_input_files(inputs: Sequence[str], out: str | None = None) -> list[InputFile]:
    """The input files that paths, URLs, folders and globs name, in order; folders sorted.

    Args:
        out: the output folder, which must not be inside a folder of the input.

    Raises:
        BadInput: nothing is there, nothing in it can be read, it is binary, a file is named twice,
            or the output is a file.
    """
    if not inputs:
        raise BadInput("there is no input; name files or folders of JSON Lines, Parquet or text")
    if out is not None:
        fs, path = streams.filesystem(out)
        if fs.isfile(path):
            raise BadInput(f"the output {out} is a file; name a folder, which is made")
    found = [source for given in inputs for source in _expand(given, out)]
    known: set[tuple[str, tuple[str, ...]]] = set()
    for source in found:
        key = (streams.filesystem(source.url)[1], source.names)
        if key in known:
            raise BadInput(
                f"{source.url} is named twice and its rows would be doubled; once is enough"
            )
        known.add(key)
    return found


def _kind_of(fs: Any, path: str, name: str) -> Kind:
    """What a file holds: rows, by its name, or text.

    Raises:
        BadInput: it is neither. MissingExtra: it is packed, without the package for that.
    """
    if streams.is_local(fs) and (fault := streams.irregular(path)):
        raise BadInput(f"{name} {fault}")  # a pipe and the like cannot be read twice, or at all
    if streams.unpacked_suffix(path) in JSON_SUFFIXES:
        return "lines"
    if path.lower().endswith(".parquet"):
        return "parquet"
    with streams.open_unpacked(_url(fs, path)) as stream:
        if fault := binary_fault(stream.read(SNIFFED_BYTES), name):
            raise BadInput(fault)
    return "texts"


def open_rows(url: str) -> IO[bytes]:
    """A file of a row a line, unpacked. If one in .json is one JSON text of many lines or an array,
    its rows are written on a line each.
    """
    with streams.open_unpacked(url) as stream:
        if streams.unpacked_suffix(url) == ".json":
            data = stream.read(streams.MAX_LINE_BYTES)
            with contextlib.suppress(ValueError, RecursionError):
                value = json.loads(b"" if stream.read(1) else data)
                if isinstance(value, list) or b"\n" in data.strip():
                    rows = value if isinstance(value, list) else [value]
                    return io.BytesIO(b"\n".join(json.dumps(row).encode() for row in rows))
    return streams.open_unpacked(url)


def _expand(given: str, out: str | None) -> Iterator[InputFile]:
    fs, path = streams.filesystem(given)
    if fs.isdir(path):
        yield from _folder_files(fs, path, given, out)
    elif fs.exists(path):
        yield _single_file(given, fs, path)
    elif any(sign in given for sign in "*?[") and (matches := sorted(fs.glob(path))):
        for match in matches:
            yield from _expand(_url(fs, str(match)), out)
    else:
        raise BadInput(f"there is no file or folder {given}; check the name")


def _single_file(given: str, fs: Any, path: str) -> InputFile:
    if (kind := _kind_of(fs, path, given)) == "texts":
        parent, _, name = given.rpartition("/")
        return InputFile(parent or ".", "texts", (name,))
    return InputFile(given, kind)


def _folder_files(fs: Any, folder: str, given: str, out: str | None) -> Iterator[InputFile]:
    """Files of rows first, then all text files as one input; hidden files are skipped."""
    if out is not None and _is_inside(out, fs, folder):
        raise BadInput(
            f"the output {out} lies inside the input folder {given} and would be read as input; "
            "name another folder"
        )
    home = folder.rstrip("/")
    names = [str(name)[len(home) + 1 :] for name in sorted(fs.find(folder))]
    shown = [name for name in names if not any(p.startswith((".", "_")) for p in name.split("/"))]
    if streams.is_local(fs):  # where links to folders are among the files
        shown = [name for name in shown if not streams.is_repeated(f"{home}/{name}", home)]
    kinds, passed_over = dict[str, Kind](), dict[str, str]()
    for name in shown:
        try:
            kinds[name] = _kind_of(fs, f"{home}/{name}", name)
        except (BadInput, MissingExtra) as error:
            passed_over[name] = str(error)
    rows = [(name, kind) for name, kind in kinds.items() if kind != "texts"]
    texts = tuple(name for name, kind in kinds.items() if kind == "texts")
    if not rows and not texts:
        raise BadInput(
            f"{given} holds no JSON Lines, Parquet or text among its {len(names)} files; "
            "name another folder"
        )
    base = given.rstrip("/")
    for name, kind in rows:
        yield InputFile(f"{base}/{name}", kind, (), passed_over)
        passed_over = {}
    if texts:
        yield InputFile(base, "texts", texts, passed_over)


def _is_inside(out: str, fs: Any, folder: str) -> bool:
    other, path = streams.filesystem(out)
    home = folder.rstrip("/")
    return type(other) is type(fs) and (path.rstrip("/") + "/").startswith(f"{home}/")


def _url(fs: Any, path: str) -> str:
    """A path on a file system, as `find_input_files` takes it."""
    return path if streams.is_local(fs) else str(fs.unstrip_protocol(path))
