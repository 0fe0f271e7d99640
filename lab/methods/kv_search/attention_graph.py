"""RetrievalAttention's index: a graph over keys whose edges follow the queries.

Source: arXiv 2409.10516, §3.2, which builds on RoarGraph (arXiv 2408.08933). Queries are far from
the keys they attend to, so a graph of keys near each other leads a query through many keys that it
does not attend to. Known queries therefore guide the construction:

1. exact search from training queries to their nearest keys: a bipartite graph;
2. projected on the keys: keys that queries retrieve together become neighbours;
3. keys that no query retrieved are linked to the rest.

Departures, each measured, see
lab/log/retrieval-and-selectors.md#2026-11-24-finding-the-keys-that-a-question-attends-to:

- The papers give only a query's nearest key the others as candidates, in order of their distance.
  Here all keys that a query retrieves are candidates of each other, in order of how many queries
  they share.
- Step 3: RoarGraph searches the projected graph for every key. Here FAISS builds an HNSW graph in
  the queries' metric (`query_metric`), and its edges fill up each key's list; keys that still
  cannot be reached get a link.
- The papers index a prompt's keys with that prompt's queries. Here queries of other questions
  build the graph, since an index is made before its questions are known.
- FAISS searches the graph; the papers have their own search. `IndexHNSWFlat` is a flat store of
  keys, a table of neighbours a level, and an entry point: with one level and a given table its
  search is a beam search over any graph, and FAISS builds nothing.

`build_published_graph` takes the first two back: a query's nearest key gets the others, every key
is searched for in the projected graph, and keys are near by their own distance.

Keys are centred, which changes no order of scores and keeps fp32 sums small. Leave out sinks and
separators before adding keys: every query attends to them, and they carry no information.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.graph import (
    Table,
    compact_rows,
    connect_graph,
    join_tables,
    prune_candidates,
    query_metric,
    reverse_links,
    shared_neighbours,
    table_of_links,
)
from tamis_lab.methods.kv_search.ann import to_numpy, to_tensors
from tamis_lab.methods.kv_search.exact import ExactIndex, pad_hits
from tamis_lab.methods.kv_search.faiss_module import faiss, search_and_count
from tamis_lab.methods.kv_search.types import KeyHits, check_effort, check_k, check_vectors


@dataclass(frozen=True, slots=True)
class GraphRecipe:
    """The parameters of a graph's construction.

    Attributes:
        degree: neighbours a key, even.
        query_links: at most this many of them come from queries; 0 leaves out the projection.
        nearest: keys that a training query is linked to.
        max_queries: training queries used, evenly drawn from those given.
        candidates: neighbours considered for a key before pruning.
        construction: keys that FAISS considers when it inserts one (efConstruction).
    """

    degree: int = 32
    query_links: int = 16
    nearest: int = 50
    max_queries: int = 4096
    candidates: int = 64
    construction: int = 100

    def __post_init__(self) -> None:
        smallest = min(self.nearest, self.max_queries, self.candidates, self.construction)
        if self.degree < 4 or self.degree % 2 or self.query_links < 0 or smallest < 1:
            raise BadInput(f"degree must be even and at least 4, the rest positive: {self}")
        if self.query_links >= self.degree:
            raise BadInput(
                f"{self.query_links} query links do not fit into a degree of {self.degree}"
            )


@dataclass(frozen=True, slots=True)
class KeyGraph:
    """A finished graph.

    Attributes:
        keys: `[N, D]` fp32, centred. mean: `[D]`, what was subtracted.
        table: neighbours `[N, M]`. entry: where searches start.
    """

    keys: Tensor
    mean: Tensor
    table: Table
    entry: int


class AttentionGraphIndex:
    """Searches a graph of keys that was built from queries.

    Args:
        queries: `[T, D]` training queries, of the same head as the keys.
        beam: candidates kept during a search (efSearch); more is slower and finds more.
        recipe: parameters of the graph. build: makes it; by default `build_graph`.

    Raises:
        BadInput: queries that are not `[T, D]` or not finite, or too small a beam.
        MissingExtra: FAISS is not installed.
    """

    def __init__(
        self,
        queries: Tensor,
        *,
        beam: int = 200,
        recipe: GraphRecipe | None = None,
        build: Callable[[Tensor, Tensor, GraphRecipe], KeyGraph] | None = None,
    ) -> None:
        faiss()
        check_effort(beam)
        self._queries = check_vectors(queries, None, "training queries").cpu()
        if not len(self._queries):
            raise BadInput("there are no training queries; give some, or use ann.build('hnsw')")
        self.beam, self.recipe = beam, recipe or GraphRecipe()
        self._build = build or build_graph
        self.graph: KeyGraph | None = None
        self._index: Any = None

    def add(self, keys: Tensor) -> None:
        """Adds `[N, D]` keys, and builds the graph of all its keys anew.

        Raises:
            BadInput: another width than the queries', no keys, or values that are not finite.
        """
        new = check_vectors(keys, self._queries.shape[1], "keys").cpu()
        if not len(new):
            raise BadInput("there are no keys to add")
        if self.graph is not None:
            new = torch.cat((self.graph.keys + self.graph.mean, new))
        self.graph = self._build(new, self._queries, self.recipe)
        self._index = make_faiss_graph(
            to_numpy(self.graph.keys), self.graph.table, self.graph.entry
        )

    def search(self, queries: Tensor, k: int, beam: int | None = None) -> KeyHits:
        """The best keys that a beam search of the graph finds; a beam below k counts as k.

        Raises:
            BadInput: queries of another width, a beam below 1, or no keys were added.
        """
        check_k(k)
        check_effort(beam)
        if self.graph is None:
            raise BadInput("the graph is empty; add keys before searching")
        queries = check_vectors(queries, self.graph.keys.shape[1], "queries").cpu()
        params = faiss().SearchParametersHNSW(efSearch=max(beam or self.beam, k))
        vectors, best = to_numpy(queries), min(k, len(self))
        found, read = search_and_count(lambda: self._index.search(vectors, best, params=params))
        scores, ids = to_tensors(found)
        scores = torch.where(ids < 0, -torch.inf, scores + (queries @ self.graph.mean)[:, None])
        return pad_hits(scores, ids, k, read + len(queries))  # FAISS does not count the entry

    def __len__(self) -> int:
        return 0 if self.graph is None else len(self.graph.keys)


def build_graph(keys: Tensor, queries: Tensor, recipe: GraphRecipe) -> KeyGraph:
    """Builds the key graph `[N, D]`, tuned to training queries `[T, D]`."""
    mean = keys.mean(0)
    keys = keys - mean
    mapped = keys @ query_metric(queries)
    base = base_neighbours(_build_hnsw(mapped, recipe))
    links = _query_links(keys, mapped, queries, recipe)
    entry = int((keys @ queries.mean(0)).argmax())
    table = connect_graph(join_tables(links, base, limit=recipe.degree - 1), entry)
    return KeyGraph(keys, mean, table, entry)


def build_published_graph(keys: Tensor, queries: Tensor, recipe: GraphRecipe) -> KeyGraph:
    """The graph as RoarGraph builds it (§4), with as many neighbours a key as `build_graph`'s.

    Half of a key's neighbours come from queries, half from the search for the key itself; that
    begins at the key in the middle. Keys that a search still cannot reach get a link, as there.
    """
    mean, half = keys.mean(0), recipe.degree // 2
    keys = keys - mean
    entry = int(keys.norm(dim=1).argmin())
    projected = _both_ways(keys, projected_neighbours(keys, queries, recipe), half)
    walk = make_faiss_graph(
        to_numpy(keys), connect_graph(projected, entry), entry, by_distance=True
    )
    params = faiss().SearchParametersHNSW(efSearch=recipe.construction)
    count = min(recipe.candidates, len(keys))
    near = walk.search(to_numpy(keys), count, params=params)[1].astype(np.int32)
    near[near == np.arange(len(keys))[:, None]] = -1  # a key finds itself
    own = _both_ways(keys, near, half)
    table = connect_graph(join_tables(projected, own, limit=recipe.degree - 1), entry)
    return KeyGraph(keys, mean, table, entry)


def projected_neighbours(keys: Tensor, queries: Tensor, recipe: GraphRecipe) -> Table:
    """Candidates `[N, C]`, nearest first: those that a query finds beside its nearest key.

    Only keys that are the nearest of some query have any.
    """
    step = max(1, -(-len(queries) // recipe.max_queries))
    ids = ExactIndex(keys).search(queries[::step], min(recipe.nearest, len(keys))).ids
    pairs = torch.stack((ids[:, :1].expand(-1, ids.shape[1] - 1), ids[:, 1:]), 2).reshape(-1, 2)
    rows, columns = np.unique(pairs.numpy(), axis=0).T
    distances = (keys[rows] - keys[columns]).norm(dim=1)
    order = np.lexsort((distances.numpy(), rows))
    return table_of_links(rows[order], columns[order], len(keys), recipe.candidates)


def _both_ways(keys: Tensor, candidates: Table, limit: int) -> Table:
    """The candidates that stay, and keys that link here, at most `limit` in all."""
    links = prune_candidates(keys, candidates, limit)
    return join_tables(links, reverse_links(links, limit), limit=limit)


def _build_hnsw(mapped: Tensor, recipe: GraphRecipe) -> Any:
    """FAISS's own HNSW graph of the keys, mapped so that distance is the queries' metric."""
    index = faiss().IndexHNSWFlat(mapped.shape[1], recipe.degree // 2, faiss().METRIC_L2)
    index.hnsw.efConstruction = recipe.construction
    index.add(to_numpy(mapped))
    return index


def _query_links(keys: Tensor, mapped: Tensor, queries: Tensor, recipe: GraphRecipe) -> Table:
    """Neighbours of each key that training queries retrieve together with it."""
    if not recipe.query_links or len(keys) < 2:
        return np.full((len(keys), 1), -1, np.int32)
    step = max(1, -(-len(queries) // recipe.max_queries))
    hits = ExactIndex(keys).search(queries[::step], min(recipe.nearest, len(keys)))
    near = shared_neighbours(hits.ids.numpy(), len(keys), recipe.candidates)
    return prune_candidates(mapped, near, recipe.query_links)


def make_faiss_graph(
    keys: NDArray[np.float32], table: Table, entry: int, by_distance: bool = False
) -> Any:
    """A FAISS index that searches the graph by inner product or distance, from key `entry` on.

    Args:
        keys: `[N, D]`. table: ids of other keys, M even.
    """
    module = faiss()
    N, M = table.shape
    metric = module.METRIC_L2 if by_distance else module.METRIC_INNER_PRODUCT
    index = module.IndexHNSWFlat(keys.shape[1], M // 2, metric)
    index.storage.add(keys)
    index.ntotal = N
    graph = index.hnsw
    module.copy_array_to_vector(np.ones(N, np.int32), graph.levels)
    graph.prepare_level_tab(N, True)  # room for the table: FAISS gives level 0 M neighbours
    module.copy_array_to_vector(compact_rows(table).ravel(), graph.neighbors)
    graph.entry_point, graph.max_level = int(entry), 0
    return index


def base_neighbours(index: Any) -> Table:
    """The neighbours on level 0 of a graph that FAISS built: `[N, M]`."""
    module, graph = faiss(), index.hnsw
    start = module.vector_to_array(graph.offsets)[:-1].astype(np.int64)
    width = graph.nb_neighbors(0)
    flat = module.vector_to_array(graph.neighbors)
    table: Table = flat[start[:, None] + np.arange(width)]
    return table
