"""Search engines that hold an index: what they have to offer, LanceDB, Qdrant, and both by name.

LanceDB: tables in a folder or an object store, searched in this process.

NAME           a row a chunk: number, record (JSON), head0, head1 ... as lists of vectors
NAME_header    one row, written last

Qdrant: a collection of a server, or of its local mode in a folder.

A point a chunk, with one multi-vector a head, compared by inner product, and the chunk's record;
point 0 holds the header and no vectors, and is written last. Local mode is Qdrant's own, in Python:
it compares every key, and is meant for tests and small corpora.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.probes.extras import needing

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """A chunk as an engine stores it.

    Attributes:
        number: its place in the index, from 0.
        record: `doc`, `text`, `start`, `stop`, `title`, `heading`, `metadata`.
        keys: `[N, H·d]` int8, at least one. An engine stores those of each head as one multi-vector
            of whole numbers, which 16-bit floats hold exactly.
    """

    number: int
    record: Mapping[str, Any]
    keys: NDArray[np.int8]


class LanceStore:
    """A table of LanceDB; late interaction is LanceDB's, by inner product, over all rows.

    Args:
        target: a folder, or a URI such as s3://bucket/folder.

    Raises:
        MissingExtra: LanceDB is not installed.
    """

    def __init__(self, target: str, name: str) -> None:
        with needing("this store needs LanceDB: pip install 'tamis[lancedb]'"):
            import lancedb
        self._db = lancedb.connect(target)
        self._name = name

    def write(self, header: Mapping[str, Any], chunks: Iterable[Sequence[StoredChunk]]) -> None:
        """Replaces the table; the header is written last.

        Args:
            header: what `read_header` gives; its `heads` and `width` are those of the keys.
            chunks: in batches.
        """
        import pyarrow as arrow

        about = f"{self._name}_header"
        self._db.drop_table(about, ignore_missing=True)
        heads, width = header["heads"], header["width"]
        vectors = arrow.list_(arrow.list_(arrow.float16(), width))
        columns = {"number": arrow.int64(), "record": arrow.string()}
        columns |= {f"head{h}": vectors for h in range(heads)}
        schema = arrow.schema(list(columns.items()))
        table = self._db.create_table(self._name, schema=schema, mode="overwrite")
        for batch in chunks:
            table.add(arrow.table(_columns(batch, heads, width), schema=schema))
        self._db.create_table(about, [{"header": json.dumps(header)}], mode="overwrite")

    def read_header(self) -> dict[str, Any] | None:
        """The header; None without a complete table."""
        try:
            table = self._db.open_table(f"{self._name}_header")
        except (ValueError, FileNotFoundError) as error:
            if "not found" in str(error):
                return None
            raise
        (line,) = table.to_arrow().column("header").to_pylist()
        header: dict[str, Any] = json.loads(line)
        return header

    def nearest(self, head: int, queries: Floats, count: int) -> list[int]:
        """Numbers of chunks with the largest sum of best inner products, best first.

        Args:
            queries: `[R, d]`.
        """
        search = self._db.open_table(self._name).search(
            queries, vector_column_name=f"head{head}", query_type="vector"
        )
        found = search.distance_type("dot").limit(count).select(["number", "_distance"])
        numbers: list[int] = found.to_arrow().column("number").to_pylist()
        return numbers

    def read(self, numbers: Sequence[int]) -> list[StoredChunk]:
        """The chunks of these numbers, in any order."""
        if not numbers:
            return []
        wanted = f"number IN ({', '.join(map(str, numbers))})"
        search = self._db.open_table(self._name).search().where(wanted).limit(len(numbers))
        rows = search.to_arrow().combine_chunks()
        heads = [name for name in rows.column_names if name.startswith("head")]
        parts = [_vectors(rows.column(name).combine_chunks()) for name in heads]
        own = zip(rows.column("number").to_pylist(), rows.column("record").to_pylist(), strict=True)
        return [
            StoredChunk(number, json.loads(record), np.concatenate([p[r] for p in parts], axis=1))
            for r, (number, record) in enumerate(own)
        ]

    def close(self) -> None:
        """Nothing is held."""


def _columns(batch: Sequence[StoredChunk], heads: int, width: int) -> dict[str, Any]:
    """The columns of some rows."""
    import pyarrow as arrow

    starts = arrow.array(np.cumsum([0, *(len(chunk.keys) for chunk in batch)]), arrow.int32())
    keys = np.concatenate([chunk.keys for chunk in batch]).astype(np.float16)
    columns: dict[str, Any] = {
        "number": [chunk.number for chunk in batch],
        "record": [json.dumps(chunk.record) for chunk in batch],
    }
    for head in range(heads):
        own = np.ascontiguousarray(keys[:, head * width : (head + 1) * width]).ravel()
        rows = arrow.FixedSizeListArray.from_arrays(arrow.array(own), width)
        columns[f"head{head}"] = arrow.ListArray.from_arrays(starts, rows)
    return columns


def _vectors(column: Any) -> list[NDArray[np.int8]]:
    """The multi-vector of each row, `[N, d]`."""
    width = column.type.value_type.list_size
    flat = column.flatten().flatten().to_numpy(zero_copy_only=False)
    rows = flat.reshape(-1, width).astype(np.int8)
    sizes = [len(row) for row in column]
    return np.split(rows, np.cumsum(sizes)[:-1])


_HEADER = 0


class QdrantStore:
    """A collection of Qdrant.

    Args:
        target: the URL of a server, or a folder for local mode.

    Raises:
        MissingExtra: Qdrant's client is not installed.
        BadInput: another client is at work in the folder.
    """

    def __init__(self, target: str, name: str) -> None:
        with needing("this store needs Qdrant: pip install 'tamis[qdrant]'"):
            import qdrant_client
        self._models = qdrant_client.models
        self._name = name
        if target.startswith(("http://", "https://")):
            self._client: Any = qdrant_client.QdrantClient(url=target)
            return
        try:
            self._client = qdrant_client.QdrantClient(path=target)
        except RuntimeError as error:
            raise BadInput(
                f"{target} is in use: Qdrant's local mode takes one client at a time; close the "
                "other store, or give the URL of a server"
            ) from error

    def write(self, header: Mapping[str, Any], chunks: Iterable[Sequence[StoredChunk]]) -> None:
        """Replaces the collection."""
        if self._client.collection_exists(self._name):
            self._client.delete_collection(self._name)
        models, width = self._models, header["width"]
        vectors = models.VectorParams(
            size=width,
            distance=models.Distance.DOT,
            datatype=models.Datatype.FLOAT16,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
        )
        named = {f"head{head}": vectors for head in range(header["heads"])}
        self._client.create_collection(self._name, vectors_config=named)
        for batch in chunks:
            points = [self._point(chunk, header["heads"]) for chunk in batch]
            self._client.upsert(self._name, points, wait=True)
        point = models.PointStruct(id=_HEADER, vector={}, payload=dict(header))
        self._client.upsert(self._name, [point], wait=True)

    def read_header(self) -> dict[str, Any] | None:
        """The header; None without a complete collection."""
        if not self._client.collection_exists(self._name):
            return None
        found = self._client.retrieve(self._name, [_HEADER], with_payload=True)
        return dict(found[0].payload) if found else None

    def nearest(self, head: int, queries: Floats, count: int) -> list[int]:
        """As `LanceStore` has it."""
        found = self._client.query_points(
            self._name, query=queries.tolist(), using=f"head{head}", limit=count, with_payload=False
        )
        return [point.id - 1 for point in found.points if point.id != _HEADER]

    def read(self, numbers: Sequence[int]) -> list[StoredChunk]:
        """The chunks of these numbers."""
        if not numbers:
            return []
        ids = [number + 1 for number in numbers]
        points = self._client.retrieve(self._name, ids, with_payload=True, with_vectors=True)
        return [
            StoredChunk(
                point.id - 1,
                point.payload,
                np.concatenate(
                    [np.rint(point.vector[f"head{h}"]) for h in range(len(point.vector))], axis=1
                ).astype(np.int8),
            )
            for point in points
        ]

    def close(self) -> None:
        """Gives the folder to the next client, or ends the connection."""
        self._client.close()

    def _point(self, chunk: StoredChunk, heads: int) -> Any:
        parts = np.split(chunk.keys.astype(np.float32), heads, axis=1)
        vectors = {f"head{head}": part.tolist() for head, part in enumerate(parts)}
        return self._models.PointStruct(
            id=chunk.number + 1, vector=vectors, payload=dict(chunk.record)
        )


ChunkStore = LanceStore | QdrantStore
"""One collection of an engine."""
ENGINES: dict[str, type[ChunkStore]] = {
    "lancedb": LanceStore,
    "qdrant": QdrantStore,
}
DEFAULT_NAME = "tamis"


def open_engine(engine: str, target: str | Path, name: str = DEFAULT_NAME) -> ChunkStore:
    """A collection of an engine, which need not exist yet.

    Args:
        target: a folder; for LanceDB also the URI of an object store, for Qdrant the URL of a
            server.
        name: of the table or collection.

    Raises:
        BadInput: no such engine. MissingExtra: its package is not installed.
    """
    if engine not in ENGINES:
        raise BadInput(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}")
    return ENGINES[engine](str(target), name)
