"""Qdrant: a collection of a server, or of its local mode in a folder.

A point a chunk, with one multi-vector a head, compared by inner product, and the chunk's record;
point 0 holds the header and no vectors, and is written last. Local mode is Qdrant's own, in Python:
it compares every key, and is meant for tests and small corpora.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from tamis.probes.errors import BadInput, MissingExtra
from tamis.retrieval.stores.types import Floats, StoredChunk

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
        try:
            import qdrant_client
        except ImportError as error:
            raise MissingExtra("this store needs Qdrant: pip install 'tamis[qdrant]'") from error
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
            points = [self._point(chunk, header["heads"], width) for chunk in batch]
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
        """Numbers of chunks, best first."""
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
                    [np.rint(point.vector[head]) for head in sorted(point.vector)], axis=1
                ).astype(np.int8),
            )
            for point in points
        ]

    def close(self) -> None:
        """Gives the folder to the next client, or ends the connection."""
        self._client.close()

    def _point(self, chunk: StoredChunk, heads: int, width: int) -> Any:
        parts = np.split(chunk.keys.astype(np.float32), heads, axis=1)
        vectors = {f"head{head}": part.tolist() for head, part in enumerate(parts)}
        return self._models.PointStruct(
            id=chunk.number + 1, vector=vectors, payload=dict(chunk.record)
        )
