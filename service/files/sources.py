"""What there is to read: files of rows, and folders in which every text file is a row."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from tamis.probes.errors import BadInput
from tamis.service.files import files

LINES = (".jsonl", ".ndjson", ".json")
TEXTS = (".txt", ".md", ".markdown", ".rst", ".html", ".htm", ".py")


@dataclass(frozen=True, slots=True)
class Source:
    """One file of rows, or the text files of a folder.

    Attributes:
        url: of the file; of the folder.
        names: of the text files, relative to the folder, sorted.
    """

    url: str
    kind: Literal["lines", "parquet", "texts"]
    names: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Where a row stands, for people; rows count from 1, empty lines included."""
        if self.kind == "texts":
            return f"{self.url.rstrip('/')}/{self.names[row - 1]}"
        return f"{self.url}, {'line' if self.kind == 'lines' else 'row'} {row}"


def find_sources(inputs: Sequence[str], out: str | None = None) -> list[Source]:
    """The sources that paths, URLs, folders and globs name, in order; folders sorted.

    Args:
        out: where the output goes; it must not lie where the input is looked for.

    Raises:
        BadInput: nothing there, nothing readable in it, a kind that is not known, or a file twice.
    """
    if not inputs:
        raise BadInput("there is no input; name files or folders of JSON Lines, Parquet or text")
    found = [source for given in inputs for source in _sources(given, out)]
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for source in found:
        key = (files.filesystem(source.url)[1], source.names)
        if key in seen:
            raise BadInput(
                f"{source.url} is named twice and its rows would be doubled; once is enough"
            )
        seen.add(key)
    return found


def kind_of(name: str) -> Literal["lines", "parquet", "texts"] | None:
    """What a file of that name holds, packed or not; None for something else."""
    path = PurePosixPath(name)
    suffix = path.suffix.lower()
    if files.codec_of(name):
        suffix = PurePosixPath(path.stem).suffix.lower()
        return "lines" if suffix in LINES else None
    if suffix in LINES:
        return "lines"
    if suffix == ".parquet":
        return "parquet"
    return "texts" if suffix in TEXTS else None


def _sources(given: str, out: str | None) -> Iterator[Source]:
    fs, path = files.filesystem(given)
    if fs.isdir(path):
        yield from _in_folder(fs, path, given, out)
    elif fs.exists(path):
        yield _one_file(given, path)
    elif any(sign in given for sign in "*?[") and (matches := sorted(fs.glob(path))):
        for match in matches:
            yield from _sources(_url(fs, str(match)), out)
    else:
        raise BadInput(f"there is no file or folder {given}; check the name")


def _one_file(given: str, path: str) -> Source:
    kind = kind_of(path)
    if kind is None:
        raise BadInput(
            f"{given} is no kind of input that is known; give .jsonl, .ndjson (also .gz, .zst), "
            f".parquet, or text ({' '.join(TEXTS)})"
        )
    if kind == "texts":
        parent, _, name = given.rpartition("/")
        return Source(parent or ".", "texts", (name,))
    return Source(given, kind)


def _in_folder(fs: Any, folder: str, given: str, out: str | None) -> Iterator[Source]:
    """Files of rows first, then all its text files as one source; hidden ones are passed over."""
    if out is not None and _within(out, fs, folder):
        raise BadInput(
            f"the output {out} lies inside the input folder {given} and would be read as input; "
            "name another folder"
        )
    home = folder.rstrip("/")
    names = [str(name)[len(home) + 1 :] for name in sorted(fs.find(folder))]
    shown = [name for name in names if not any(p.startswith((".", "_")) for p in name.split("/"))]
    rows = [(name, kind) for name in shown if (kind := kind_of(name)) not in (None, "texts")]
    texts = tuple(name for name in shown if kind_of(name) == "texts")
    if not rows and not texts:
        raise BadInput(
            f"{given} holds no JSON Lines, Parquet or text among its {len(names)} files; "
            "name another folder"
        )
    base = given.rstrip("/")
    for name, kind in rows:
        assert kind is not None
        yield Source(f"{base}/{name}", kind)
    if texts:
        yield Source(base, "texts", texts)


def _within(out: str, fs: Any, folder: str) -> bool:
    other, path = files.filesystem(out)
    home = folder.rstrip("/")
    return type(other) is type(fs) and (path.rstrip("/") + "/").startswith(f"{home}/")


def _url(fs: Any, path: str) -> str:
    return path if files.is_local(fs) else str(fs.unstrip_protocol(path))
