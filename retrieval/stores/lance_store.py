"""LanceDB: tables in a folder or an object store, searched in this process.

NAME           a row a chunk: number, record (JSON), head0, head1 ... as lists of vectors
NAME_header    one row, written last
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import MissingExtra
from tamis.retrieval.stores.types import Floats, StoredChunk


class LanceStore:
    """A table of LanceDB; late interaction is LanceDB's, by inner product, over all rows.

    Args:
        target: a folder, or a URI such as s3://bucket/folder.

    Raises:
        MissingExtra: LanceDB is not installed.
    """

    def __init__(self, target: str, name: str) -> None:
        try:
            import lancedb
        except ImportError as error:
            raise MissingExtra("this store needs LanceDB: pip install 'tamis[lancedb]'") from error
        self._db = lancedb.connect(target)
        self._name = name

    def write(self, header: Mapping[str, Any], chunks: Iterable[Sequence[StoredChunk]]) -> None:
        """Replaces the table."""
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
        """Numbers of chunks, best first."""
        search = self._db.open_table(self._name).search(
            queries, vector_column_name=f"head{head}", query_type="vector"
        )
        found = search.distance_type("dot").limit(count).select(["number", "_distance"])
        numbers: list[int] = found.to_arrow().column("number").to_pylist()
        return numbers

    def read(self, numbers: Sequence[int]) -> list[StoredChunk]:
        """The chunks of these numbers."""
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
