"""The manifest: the one file that defines the current state of an index.

DIR/manifest.json            generation, settings, segments with files and checksums, deletions
DIR/building.json            the same of an index that is built to replace it; readers ignore it
DIR/segments/000001/…        immutable; named by the manifest or left over from a crash
DIR/deleted-000007.npy       [K, 2] segment and document numbers of deleted documents
DIR/queries-000004.npy       [T, H·d] training queries of the structures that searches use
DIR/lock                     held by the one writer

A commit writes new files first and replaces the manifest last, by one rename: a reader gets the
state before the commit or the one after it, never a mixture.
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
"""2: index terms changed (marks are letters, HTML is decoded), and so did the text that is read."""
_REBUILD_HINT = "build the index again with --overwrite"


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The settings of an index, fixed when it is made.

    Attributes:
        chunk_chars: chunks are packed from whole units up to this many code points.
        language: of the documents; sentence boundaries and stems depend on it.
        keys: the `KeyRecipe` of attention keys as a mapping; None for an index without keys.
        vectors: the name of the encoder of sentence vectors, with `:` and the pooling where it is
            not the mean; None for an index without vectors.
        kv: what keeps chunks as they were read (model, revision, arithmetic, template, layers,
            storage, and the identity of the sentence encoder or None); None for an index that keeps
            none.
    """

    chunk_chars: int = 1200
    language: str = "en"
    keys: dict[str, Any] | None = None
    vectors: str | None = None
    kv: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """What the manifest records of a segment: how much it holds, and its files."""

    name: str
    documents: int
    chunks: int
    chars: int
    tokens: int
    files: tuple[FileEntry, ...]

    @property
    def file_names(self) -> tuple[str, ...]:
        """The names of its files in its folder."""
        return tuple(Path(file.path).name for file in self.files)


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of an index.

    Attributes:
        generation: one more with every commit.
        complete: false while the first build is under way or was cut short.
        next_segment: the number of the next segment; numbers are never used twice.
        deleted: the file that lists deleted documents; None while there are none.
        search: the structure that new segments get, see `retrieval/approximate`.
        queries: the file of training queries; None until a structure needed them.
        sources: fingerprint of the corpus that is being indexed; None once the index is complete,
            or where the caller gave none.
    """

    settings: IndexSettings
    generation: int = 0
    complete: bool = False
    next_segment: int = 1
    segments: tuple[SegmentEntry, ...] = ()
    deleted: FileEntry | None = None
    search: str = "auto"
    queries: FileEntry | None = None
    sources: str | None = None
    format: int = FORMAT
    tamis: str = field(default_factory=lambda: version("tamis"))

    def next_generation(self, **changes: Any) -> Manifest:
        """The manifest of the next commit."""
        return replace(self, generation=self.generation + 1, tamis=version("tamis"), **changes)

    def write(self, home: Path, name: str = MANIFEST) -> None:
        """Makes this the state of the index, by one rename; the files it names must be on disk."""
        body = asdict(self)
        text = json.dumps({**body, "checksum": digest(canonical_json(body))}, indent=1)
        write_durably(home / name, text.encode())

    @classmethod
    def read(cls, home: Path, name: str = MANIFEST) -> Manifest:
        """Reads the state of an index.

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
    """The bytes that a manifest's checksum is computed over."""
    return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def _parse_manifest(body: dict[str, Any]) -> Manifest:
    segments = tuple(
        SegmentEntry(**{**segment, "files": tuple(FileEntry(**file) for file in segment["files"])})
        for segment in body.pop("segments")
    )
    deleted, queries = body.pop("deleted"), body.pop("queries", None)
    return Manifest(
        settings=IndexSettings(**body.pop("settings")),
        segments=segments,
        deleted=FileEntry(**deleted) if deleted else None,
        queries=FileEntry(**queries) if queries else None,
        **body,
    )
