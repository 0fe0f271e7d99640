"""The input files of a batch: files of rows, and folders in which every text file is a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tamis.probes.errors import BadInput
from tamis.service.files import document_text, streams

LINE_SUFFIXES = (".jsonl", ".ndjson", ".json")
TEXT_SUFFIXES = (*document_text.TEXT_SUFFIXES, ".py")


@dataclass(frozen=True, slots=True)
class InputFile:
    """One file of rows, or the text files of a folder.

    Attributes:
        url: of the file, or of the folder.
        names: of the text files, relative to the folder, sorted.
        passed_over: the folder's other files, relative to it; hidden ones are not named.
    """

    url: str
    kind: Literal["lines", "parquet", "texts"]
    names: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = field(default=(), compare=False)

    def paths(self) -> tuple[Any, list[str]]:
        """The file system, and the path there of the file, or of each text file of the folder."""
        fs, path = streams.filesystem(self.url)
        return fs, [f"{path.rstrip('/')}/{name}" for name in self.names] or [path]

    def location(self, row: int) -> str:
        """Where a row is, for a message; rows count from 1, empty lines included."""
        if self.kind == "texts":
            return f"{self.url.rstrip('/')}/{self.names[row - 1]}"
        return f"{self.url}, {'line' if self.kind == 'lines' else 'row'} {row}"


def find_input_files(inputs: Sequence[str], out: str | None = None) -> list[InputFile]:
    """The input files that paths, URLs, folders and globs name, in order; folders sorted.

    Args:
        out: the output folder, which must not be inside a folder of the input.

    Raises:
        BadInput: nothing is there, nothing in it can be read, its kind is unknown, a file is
            named twice, or the output is a file.
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


def kind_of(name: str) -> Literal["lines", "parquet", "texts"] | None:
    """What a file of that name holds, packed or not; None for an unknown kind."""
    suffix = streams.unpacked_suffix(name)
    if suffix in LINE_SUFFIXES:
        return "lines"
    if streams.codec_of(name):
        return None
    if suffix == ".parquet":
        return "parquet"
    return "texts" if suffix in TEXT_SUFFIXES else None


def _expand(given: str, out: str | None) -> Iterator[InputFile]:
    fs, path = streams.filesystem(given)
    if fs.isdir(path):
        yield from _folder_files(fs, path, given, out)
    elif fs.exists(path):
        yield _single_file(given, path)
    elif any(sign in given for sign in "*?[") and (matches := sorted(fs.glob(path))):
        for match in matches:
            yield from _expand(_url(fs, str(match)), out)
    else:
        raise BadInput(f"there is no file or folder {given}; check the name")


def _single_file(given: str, path: str) -> InputFile:
    kind = kind_of(path)
    if kind is None:
        raise BadInput(
            f"{given} is no kind of input that is known; give .jsonl, .ndjson (also .gz, "
            f".zst, .xz), .parquet, or text ({' '.join(TEXT_SUFFIXES)})"
        )
    if kind == "texts":
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
    odd = set[str]()
    if streams.is_local(fs):
        # a link to nothing, a pipe and the like cannot be read twice, or at all
        odd = {name for name in shown if not (Path(home) / name).is_file()}
    files = [name for name in shown if name not in odd]
    rows = [(name, kind) for name in files if (kind := kind_of(name)) not in (None, "texts")]
    texts = tuple(name for name in files if kind_of(name) == "texts")
    if not rows and not texts:
        raise BadInput(
            f"{given} holds no JSON Lines, Parquet or text among its {len(names)} files; "
            "name another folder"
        )
    base = given.rstrip("/")
    passed_over = tuple(name for name in shown if name in odd or kind_of(name) is None)
    for name, kind in rows:
        assert kind is not None
        yield InputFile(f"{base}/{name}", kind, (), passed_over)
        passed_over = ()
    if texts:
        yield InputFile(base, "texts", texts, passed_over)


def _is_inside(out: str, fs: Any, folder: str) -> bool:
    other, path = streams.filesystem(out)
    home = folder.rstrip("/")
    return type(other) is type(fs) and (path.rstrip("/") + "/").startswith(f"{home}/")


def _url(fs: Any, path: str) -> str:
    """A path on a file system, as `find_input_files` takes it."""
    return path if streams.is_local(fs) else str(fs.unstrip_protocol(path))
