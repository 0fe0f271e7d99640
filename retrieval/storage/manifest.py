"""The manifest: the one file that says what an index is at this moment.

DIR/manifest.json            generation, settings, segments with files and checksums, deletions
DIR/building.json            the same of an index that is built to replace it; readers pass it over
DIR/segments/000001/…        immutable; named by the manifest or left over from a crash
DIR/deleted-000007.npy       [K, 2] segment, document: what no longer counts
DIR/lock                     held by the one writer

A commit writes new files first and swaps the manifest last, by one rename: a reader sees the index
before or after, never between.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadIndex, BadInput
from tamis.retrieval.storage.files import FileEntry, digest, write_durably

MANIFEST = "manifest.json"
BUILDING = "building.json"
SEGMENTS = "segments"
FORMAT = 2
"""2: other terms (marks are letters, HTML is decoded), and what a build reads."""
_REBUILD_HINT = "build the index again with --overwrite"


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """What an index was made with; all of it goes with it for good.

    Attributes:
        chunk_chars: chunks are packed from whole units up to so many code points.
        language: of the documents: sentences and stems.
        keys: the recipe of attention keys, `retrieval.keys.recipe`, as a mapping; None for none.
        vectors: the encoder of sentence vectors; None for none.
    """

    chunk_chars: int = 1200
    language: str = "en"
    keys: dict[str, Any] | None = None
    vectors: str | None = None


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One segment: how much it holds, and its files."""

    name: str
    documents: int
    chunks: int
    chars: int
    tokens: int
    files: tuple[FileEntry, ...]

    def file(self, name: str) -> FileEntry | None:
        """The card of one of its files; None if it has none of that name."""
        return next((card for card in self.files if Path(card.path).name == name), None)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of an index.

    Attributes:
        generation: one more with every commit.
        complete: false while the first build is under way or was cut short.
        next_segment: the number of the next segment; numbers are never used twice.
        deleted: the file of deletions; None for none.
        sources: which corpus is being built; None where it is complete, or nobody said.
    """

    settings: IndexSettings
    generation: int = 0
    complete: bool = False
    next_segment: int = 1
    segments: tuple[SegmentEntry, ...] = ()
    deleted: FileEntry | None = None
    sources: str | None = None
    format: int = FORMAT
    tamis: str = field(default_factory=lambda: version("tamis"))

    def after(self, **changes: Any) -> Manifest:
        """The next generation."""
        return replace(self, generation=self.generation + 1, tamis=version("tamis"), **changes)

    def write(self, home: Path, name: str = MANIFEST) -> None:
        """Makes this the state of the index: one rename, after everything it names is on disk."""
        body = asdict(self)
        text = json.dumps({**body, "checksum": digest(canonical_json(body))}, indent=1)
        write_durably(home / name, text.encode())

    @classmethod
    def read(cls, home: Path, name: str = MANIFEST) -> Manifest:
        """The state of an index.

        Raises:
            BadInput: there is no index. BadIndex: the manifest is damaged, or of another format.
        """
        path = home / name
        try:
            data = path.read_bytes()
        except FileNotFoundError as error:
            if (home / SEGMENTS).is_dir() and any((home / SEGMENTS).iterdir()):
                raise BadIndex(f"{path} is missing; {_REBUILD_HINT}") from error
            raise BadInput(
                f"there is no index in {home}; make one with `tamis index build CORPUS -o {home}`"
            ) from error
        except OSError as error:
            raise BadInput(f"{path} cannot be read ({error.strerror})") from error
        try:
            body = json.loads(data)
            checksum = body.pop("checksum")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise BadIndex(f"{path} is damaged: it is no manifest; {_REBUILD_HINT}") from error
        if checksum != digest(canonical_json(body)):
            raise BadIndex(f"{path} is damaged: its checksum does not match; {_REBUILD_HINT}")
        if body.get("format") != FORMAT:
            raise BadIndex(
                f"{path} has format {body.get('format')} and this tamis reads {FORMAT}; "
                f"{_REBUILD_HINT}, or use the tamis that made it"
            )
        try:
            return _parse_manifest(body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise BadIndex(f"{path} is no manifest ({error}); {_REBUILD_HINT}") from error


def canonical_json(body: dict[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _parse_manifest(body: dict[str, Any]) -> Manifest:
    segments = tuple(
        SegmentEntry(**{**of, "files": tuple(FileEntry(**card) for card in of["files"])})
        for of in body.pop("segments")
    )
    deleted = body.pop("deleted")
    return Manifest(
        settings=IndexSettings(**body.pop("settings")),
        segments=segments,
        deleted=FileEntry(**deleted) if deleted else None,
        **body,
    )
