"""`tamis lab bench search`: what the searches of an index's keys find, read, take and cost.

Keeps what the bench builds in a folder: a run that was cut short goes on where it was.

FOLDER/training.npy                       [T, H·d] training queries
FOLDER/TOKENS-REAL/source.json            what the keys were taken and drawn from
FOLDER/TOKENS-REAL/keys.npy, starts.npy   keys and chunks of a corpus with drawn chunks
FOLDER/TOKENS-REAL/KIND0_NAME.npy         the array NAME of a structure of head 0
FOLDER/TOKENS-REAL/KIND0.json             what it cost; written last

Keys of a corpus of any size: those of an index, and beyond them chunks drawn like them.

A drawn chunk is a chunk of the index whose every key was moved by what separates another key from
the centre of its list (some 24 near keys), and brought to unit length again: the same crowds of
near keys and lengths of chunks, in another place. Drawn chunks have no text.

FAISS's HNSW and IVF over the keys of one head: what the graph of lists is compared with. FAISS
compares bytes: it rounds query vectors, too. What it finds is scored again, exactly.

Measures searches of token keys against the exact search, at one size of a corpus.

recall@10   of the ten chunks that the exact search ranks first, the share that is found: by keys
            alone, and by keys and BM25 together
nDCG@10     of documents with judgements, by their best chunk, by keys and BM25 together
keys read   that each query vector was compared with, centroids included, as a share of all keys
ms, CPU ms  of the search of keys, without encoding the question and without BM25
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate.graph import GraphSearch, KeyClusters, cluster_keys
from tamis.retrieval.approximate.types import Arrays, Floats, FoundKeys, KeySearch, Progress
from tamis.retrieval.index.legs import (
    OTHERS_DEPTH,
    KeyLeg,
    KeyShard,
    LegScores,
    LocalShards,
    candidates_beside,
    complete_scores,
    fuse_standard_scores,
    top_indexes,
)
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import corpus_sentences, encode_queries, load_questions
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.keys.late_interaction import SCALE, FittedFloor, fit_floor
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis.retrieval.storage.files import write_durably
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.retrieval import chunk_documents, query_metrics
from tamis_lab.bench.study import Study, table, timed
from tamis_lab.methods.kv_search.faiss_module import faiss, search_and_count
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

EPILOG = """
**What is measured**

Each structure is built over the keys of the index and asked all questions; what it finds is
compared with the exact search. Beyond the size of the index, chunks are drawn that are like its
own: their keys are moved as far as near keys lie apart, and they have no text.

**Examples**

`tamis lab bench search docs.index --questions asked.txt`

`tamis lab bench search scifact.index --questions queries.jsonl --sizes 1000000,3000000,10000000
--keep built --plot recall.png --json > search.json`; rows of
`{"query", "qrels": {"id": 1}}` also give nDCG@10
"""


@report_errors()
def search(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An index with keys.")],
    questions: Annotated[
        Path, typer.Option(help="A question a line, or rows (.jsonl) with `query` and `qrels`.")
    ],
    sizes: Annotated[
        str | None,
        typer.Option(help="Tokens, with commas. Default: all of the index.", show_default=False),
    ] = None,
    structures: Annotated[
        str, typer.Option(help="Which to build: graph, ivf, hnsw.")
    ] = "graph,ivf",
    limit: Annotated[int, typer.Option(min=1, help="At most so many questions.")] = 100,
    keep: Annotated[
        Path | None,
        typer.Option(help="Keep what is built here; the same command then goes on."),
    ] = None,
    drawn_beyond: Annotated[
        int | None,
        typer.Option(min=1, help="Draw chunks beyond so many tokens of text, to check them."),
    ] = None,
    floor: Annotated[
        str,
        typer.Option(help="What chunks are compared with: fitted, or sampled, 512 chunks."),
    ] = "fitted",
    as_json: shared.Json = False,
    plot: shared.Plot = None,
) -> None:
    """Compare the searches of an index's keys, at one or more sizes.

    The plot shows recall against keys read, and CPU milliseconds against tokens.
    """
    names = shared.parse_list(structures, "structures")
    if odd := [name for name in names if name not in STRUCTURES]:
        raise BadInput(f"there is no structure {odd[0]!r}; choose from {', '.join(STRUCTURES)}")
    if floor not in FLOORS:
        raise BadInput(f"there is no floor {floor!r}; choose from {', '.join(FLOORS)}")
    study, found = Study(as_json, plot), CorpusIndex.open(index)
    if "keys" not in found.legs:
        raise BadInput(f"{index} indexes words alone: it has no keys to search")
    lengths = sorted(shared.parse_sizes(sizes, "sizes")) if sizes else []
    asked = load_asked(questions, limit)
    run = SearchRun(found, asked, lengths, names, bool(plot), keep, drawn_beyond, floor)
    with study.bars():
        report = run.report(study.advance)
    figures = report | {"questions": len(run.questions), "floor": floor}
    study.publish(figures, lambda: _tables(report), lambda: search_charts(report))


FLOORS = ("fitted", "sampled")
_COLUMNS = {
    "recall_at_10": ".3f",
    "recall_at_10_keys": ".3f",
    "ndcg_at_10": ".3f",
    "keys_read": ".2%",
    "ms_p50": ".1f",
    "ms_p95": ".1f",
    "cpu_ms_p50": ".1f",
    "build_s": ".1f",
    "bytes_a_token": ".1f",
}


def _tables(report: Mapping[str, Any]) -> Iterator[Any]:
    """A table a size, a row a system, and how times grow."""
    for row in report["sizes"]:
        yield table(
            f"{row['tokens']:,} keys, {row['real_tokens']:,} of text; {row['chunks']:,} chunks",
            ("search", *(name.replace("_", " ") for name in _COLUMNS)),
            (
                [name, *(format(of[n], f) if n in of else "" for n, f in _COLUMNS.items())]
                for name, of in row["systems"].items()
            ),
        )
    slopes = [f"{name} {slope:.2f}" for name, slope in report["growth"].items() if slope]
    if slopes:
        yield f"log-log slope of CPU ms over tokens: {', '.join(slopes)}"


def search_charts(report: Mapping[str, Any]) -> list[Chart]:
    """Recall against keys read at the largest size, and CPU milliseconds against tokens."""
    row, curves = report["sizes"][-1], {}
    for name, curve in row["curves"].items():
        shares = [100 * point["keys_read"] for point in curve]
        for label, column in (("keys", "recall_at_10_keys"), ("with BM25", "recall_at_10")):
            curves[f"{name}, {label}"] = (shares, [point[column] for point in curve])
    times = {
        name if slope is None else f"{name}, slope {slope:.2f}": (
            [one["tokens"] for one in report["sizes"]],
            [one["systems"][name]["cpu_ms_p50"] for one in report["sizes"]],
        )
        for name, slope in report["growth"].items()
    }
    return [
        Chart(f"{row['tokens']:,} keys", curves, "keys read (%)", "recall@10", logs="x"),
        Chart("", times, "tokens", "CPU ms (median)", logs="xy"),
    ]


StepListener = Callable[[str, int, int], None]
"""Called with an activity, how much more of it is done, and how much there is in all."""


@dataclass(frozen=True, slots=True)
class SearchRun:
    """What is measured.

    Attributes:
        sizes: numbers of tokens; none for that of the index.
        structures: names in `STRUCTURES`. queries: at most so many questions.
        efforts: whether recall is measured at several efforts, at the largest size.
        keep: the folder that keeps what is built; none for this run alone.
        drawn_beyond: chunks are drawn beyond so many tokens of text; by default beyond the index.
        floor: what chunks are compared with, in `FLOORS`.
    """

    index: CorpusIndex
    questions: Sequence[tuple[str, Mapping[str, float]]]
    sizes: Sequence[int]
    structures: Sequence[str]
    efforts: bool = False
    keep: Path | None = None
    drawn_beyond: int | None = None
    floor: str = FLOORS[0]

    def report(self, step: StepListener) -> dict[str, Any]:
        """The figures by size and system.

        Returns:
            `{"sizes": [{"tokens", "real_tokens", "systems": {name: figures}, "curves"}], "growth"}`
        """
        recipe = KeyRecipe.from_json(self.index.manifest.settings.keys or {})
        encoder = self.index.models.key_encoder(recipe)
        asked = self._encode_questions(encoder, step)
        heads = len(recipe.heads)
        rows = []
        with tempfile.TemporaryDirectory() as own:
            kept = KeptBuilds(self.keep or Path(own), self.index, heads, self.drawn_beyond)
            training = kept.training(lambda: self._training_queries(encoder))
            for size in self.sizes or [self.index.stats()["tokens"]]:
                corpus, folder = kept.corpus(size)
                rows.append(self._measure(corpus, folder, heads, asked, training, step))
        return {"sizes": rows, "growth": _growth(rows)}

    def _training_queries(self, encoder: KeyEncoder) -> Floats:
        texts = [*load_questions(), *corpus_sentences(self.index.segments)]
        return encode_queries(encoder, texts)

    def _encode_questions(self, encoder: KeyEncoder, step: StepListener) -> list[KeyQuestion]:
        found = []
        for text, grades in self.questions:
            words = self.index.leg_scores(text, ["bm25"])["bm25"].values
            found.append(KeyQuestion(encoder.encode_question(text), words, grades))
            step("questions", 1, len(self.questions))
        return found

    def _measure(
        self,
        corpus: KeyCorpus,
        folder: Path,
        heads: int,
        asked: Sequence[KeyQuestion],
        training: Floats,
        step: StepListener,
    ) -> dict[str, Any]:
        N, chunks = len(corpus.keys), len(corpus.starts) - 1
        owners = np.full(chunks, "", dtype=object)
        owners[: corpus.real_chunks] = [
            of or "" for of in chunk_documents(self.index)[: corpus.real_chunks]
        ]
        own = [
            KeyQuestion(q.queries, q.bm25[: corpus.real_chunks], _present(q.grades, owners))
            for q in asked
        ]
        name = f"{N:,} keys"
        compared = None
        if self.floor == "fitted":
            compared = fit_floor(corpus.keys, corpus.starts, training, heads)
        searched = search_exactly(
            corpus, heads, owners, own, lambda: step(f"{name}, exact", 1, len(own)), compared
        )
        systems = {"exact": measure_exact(searched), "bm25": measure_bm25(searched)}
        curves = {}
        for kind in self.structures:
            searches, cost = build_searches(
                kind,
                STRUCTURES[kind],
                corpus,
                training,
                heads,
                folder,
                lambda keys, kind=kind: step(f"{name}, {kind}", keys, heads * N),  # type: ignore[misc]
            )
            systems[kind] = measure_searches(searched, searches) | cost
            if self.efforts:
                curves[kind] = _curve(searched, searches)
        return {
            "tokens": N,
            "real_tokens": corpus.real_keys,
            "chunks": chunks,
            "systems": systems,
            "curves": curves,
        }


def load_asked(path: Path, limit: int) -> list[tuple[str, dict[str, float]]]:
    """Questions with grades: rows `{"query" or "question", "qrels"}`, or the lines of a text file.

    Raises:
        BadInput: it cannot be read, or there is no question.
    """
    if not path.name.removesuffix(".gz").endswith(".jsonl"):
        found: list[tuple[str, dict[str, float]]] = [(q, {}) for q in load_questions(path)]
    else:
        found = []
        for number, row in read_json_lines(path):
            text = row.get("query", row.get("question"))
            if not isinstance(text, str) or not text.strip():
                raise BadInput(f"{path}, row {number}: a row has a 'query' or a 'question'")
            found.append((text, {str(d): float(g) for d, g in dict(row.get("qrels", {})).items()}))
    if not found:
        raise BadInput(f"{path} holds no question")
    step = max(1, len(found) // limit)
    return found[::step][:limit]


def _present(grades: Mapping[str, float], owners: Any) -> dict[str, float]:
    """The grades of documents that are in the corpus."""
    there = set(owners.tolist())
    return {doc: grade for doc, grade in grades.items() if doc in there}


def _curve(searched: SearchedCorpus, searches: Sequence[KeySearch]) -> list[dict[str, float]]:
    return [{"effort": e, **measure_searches(searched, searches, e)} for e in EFFORTS]


def _growth(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """The log-log slope of CPU milliseconds over tokens, by system."""
    sizes = [row["tokens"] for row in rows]
    names = [name for name in rows[0]["systems"] if name != "bm25"]
    return {
        name: time_growth(sizes, [row["systems"][name]["cpu_ms_p50"] for row in rows])
        for name in names
    }


Costs = dict[str, float]


@dataclass(frozen=True, slots=True)
class KeptBuilds:
    """A folder of corpora and their structures.

    Args:
        drawn_beyond: chunks are drawn beyond so many tokens of text; by default beyond the index.
    """

    folder: Path
    index: CorpusIndex
    heads: int
    drawn_beyond: int | None = None

    def training(self, make: Callable[[], Floats]) -> Floats:
        """The training queries; made where they are not there yet."""
        path = self.folder / "training.npy"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            _save_whole(path, make())
        queries: Floats = np.load(path)
        return queries

    def corpus(self, tokens: int) -> tuple[KeyCorpus, Path]:
        """The corpus of about so many tokens, and the folder of its structures.

        Raises:
            BadInput: the folder holds those of another index.
        """
        real = index_corpus(self.index, min(tokens, self.drawn_beyond or tokens))
        folder = self.folder / f"{tokens}-{real.real_keys}"
        self._claim(folder)
        if real.real_keys >= tokens - int(np.diff(real.starts).max()):
            return real, folder
        starts = folder / "starts.npy"
        if starts.exists():  # written after the keys
            keys = np.load(folder / "keys.npy", mmap_mode="r")
            return KeyCorpus(keys, np.load(starts), real.real_chunks), folder
        corpus = extend_corpus(real, tokens, self.heads, folder / "keys.npy")
        _save_whole(starts, corpus.starts)
        return corpus, folder

    def _claim(self, folder: Path) -> None:
        """Notes which index a corpus was made of, or checks that it is this one."""
        manifest = self.index.manifest
        source = {
            "index": str(self.index.folder.resolve()),
            "segments": [entry.name for entry in manifest.segments],
        }
        note = folder / "source.json"
        if not note.exists():
            folder.mkdir(parents=True, exist_ok=True)
            write_durably(note, json.dumps(source).encode())
        elif json.loads(note.read_text()) != source:
            raise BadInput(
                f"{folder} holds keys of another index, or of another state of it; give another "
                "folder, or delete it"
            )


def build_searches(
    name: str,
    kind: type[KeySearch],
    corpus: KeyCorpus,
    training: Floats,
    heads: int,
    folder: Path,
    report: Progress,
) -> tuple[list[KeySearch], Costs]:
    """The structures of one kind over all heads, and what building them took."""
    searches, costs = [], []
    parts = (np.split(of, heads, axis=1) for of in (corpus.keys, training))
    for head, (keys, trained) in enumerate(zip(*parts, strict=True)):
        start = f"{name}{head}"
        note = folder / f"{start}.json"
        if note.exists():
            report(len(keys))
        else:
            cost = _build(kind, keys, np.ascontiguousarray(trained), folder, start, report)
            write_durably(note, json.dumps(cost).encode())
        costs.append(json.loads(note.read_text()))
        paths = sorted(folder.glob(f"{start}_*.npy"))
        arrays = {p.stem.removeprefix(f"{start}_"): np.load(p, mmap_mode="r") for p in paths}
        searches.append(kind(keys, arrays))
    size = sum(cost["bytes"] for cost in costs)
    total = {key: sum(cost[key] for cost in costs) for key in ("build_s", "build_cpu_s")}
    return searches, total | {"bytes_a_token": size / len(corpus.keys)}


def _build(
    kind: type[KeySearch],
    keys: NDArray[Any],
    training: Floats,
    folder: Path,
    start: str,
    report: Progress,
) -> Costs:
    """Builds the structure of one head into a folder; seconds and bytes."""
    wall, cpu = time.perf_counter(), time.process_time()
    arrays = kind.build(keys, training, report)
    seconds = {
        "build_s": time.perf_counter() - wall,
        "build_cpu_s": time.process_time() - cpu,
        "bytes": float(sum(array.nbytes for array in arrays.values())),
    }
    for name, array in arrays.items():
        np.save(folder / f"{start}_{name}.npy", array)
    return seconds


def _save_whole(path: Path, values: NDArray[Any]) -> None:
    """Writes an array so that no part of it is ever taken for the whole."""
    part = path.with_suffix(".part.npy")
    np.save(part, values)
    part.replace(path)


_BLOCK_CHUNKS = 1024


@dataclass(frozen=True, slots=True)
class KeyCorpus:
    """Keys `[N, H·d]` int8, where each chunk's begin `[C + 1]`, and how many chunks are real."""

    keys: NDArray[Any]
    starts: NDArray[np.int64]
    real_chunks: int

    @property
    def real_keys(self) -> int:
        """How many of the keys were read from text."""
        return int(self.starts[self.real_chunks])


def index_corpus(index: CorpusIndex, tokens: int | None = None) -> KeyCorpus:
    """The keys of an index, of its first chunks where there are more than `tokens`."""
    parts = [part for segment in index.segments if (part := segment.keys()) is not None]
    keys = np.concatenate([part[0] for part in parts])
    sizes = np.concatenate([np.diff(part[1]) for part in parts])
    starts = np.cumsum([0, *sizes], dtype=np.int64)
    count = len(sizes)
    if tokens is not None and tokens < starts[-1]:
        count = int(np.searchsorted(starts, tokens, "right")) - 1
    starts = starts[: count + 1]
    return KeyCorpus(keys[: starts[-1]], starts, count)


def extend_corpus(real: KeyCorpus, tokens: int, heads: int, path: Path, seed: int = 0) -> KeyCorpus:
    """The keys of a corpus and of drawn chunks, about `tokens` together, in a file.

    Args:
        path: the .npy file that is written and mapped into memory.
    """
    draw = np.random.default_rng(seed)
    sizes = np.diff(real.starts)
    missing = max(0, tokens - int(real.starts[-1]))
    drawn = draw.integers(0, real.real_chunks, 1 + round(missing / sizes.mean()))
    drawn = drawn[: np.searchsorted(np.cumsum(sizes[drawn]), missing)]
    starts = np.cumsum([0, *sizes, *sizes[drawn]], dtype=np.int64)
    shape = (int(starts[-1]), real.keys.shape[1])
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.int8, shape=shape)
    out[: len(real.keys)] = real.keys
    offsets = [_offsets(keys) for keys in np.split(real.keys, heads, axis=1)]
    filled = len(real.keys)
    for first in range(0, len(drawn), _BLOCK_CHUNKS):
        own = drawn[first : first + _BLOCK_CHUNKS]
        rows = np.concatenate([np.arange(*real.starts[c : c + 2]) for c in own])
        for head, moved in enumerate(offsets):
            width = moved.shape[1]
            columns = slice(head * width, (head + 1) * width)
            keys = real.keys[rows, columns] + moved[draw.integers(0, len(moved), len(rows))]
            length = np.maximum(np.linalg.norm(keys, axis=1, keepdims=True), 1e-6)
            out[filled : filled + len(rows), columns] = np.rint(keys * (SCALE / length))
        filled += len(rows)
    out.flush()
    return KeyCorpus(np.load(path, mmap_mode="r"), starts, real.real_chunks)


def _offsets(keys: NDArray[Any]) -> NDArray[np.float32]:
    """What separates each key from the centre of its list: `[N, d]`."""
    clusters: KeyClusters = cluster_keys(keys)
    owners = np.repeat(np.arange(len(clusters.centroids)), np.diff(clusters.starts))
    centres = clusters.centroids[owners].astype(np.float32)
    return np.asarray(keys[clusters.members].astype(np.float32) - centres)


DEGREE, CONSTRUCTION, BEAM = 32, 100, 512
_BLOCK_KEYS = 1 << 14
_PROBES, _KEYS_FOUND = 64, 512
_SAMPLE_KEYS, _ROUNDS, _IVF_BLOCK_KEYS = 1 << 17, 10, 1 << 16
_BYTE = 127


class HnswSearch:
    """Finds keys of one head by FAISS's HNSW, by inner product, on keys as 8-bit numbers."""

    def __init__(self, keys: NDArray[Any], arrays: Arrays) -> None:
        self._keys, self._index = keys, faiss().deserialize_index(arrays["index"])

    @staticmethod
    def build(keys: NDArray[Any], queries: Floats | None, report: Progress) -> Arrays:
        """The index; queries change nothing."""
        module = faiss()
        kind, product = module.ScalarQuantizer.QT_8bit_direct_signed, module.METRIC_INNER_PRODUCT
        index = module.IndexHNSWSQ(keys.shape[1], kind, DEGREE // 2, product)
        index.hnsw.efConstruction = CONSTRUCTION
        index.train(keys[:2].astype(np.float32))
        for start in range(0, len(keys), _BLOCK_KEYS):
            part = keys[start : start + _BLOCK_KEYS].astype(np.float32)
            index.add(part)
            report(len(part))
        return {"index": module.serialize_index(index)}

    def find(self, queries: Floats, effort: float = 1.0) -> FoundKeys:
        """The best keys that a beam search finds."""
        beam = max(1, round(BEAM * effort))
        params = faiss().SearchParametersHNSW(efSearch=beam)
        k = min(beam, int(self._index.ntotal))
        return search_bytes(self._index, self._keys, queries, k, params)


class IvfSearch:
    """Finds keys of one head by FAISS's IVF: the clusters nearest to a query are read whole.

    Raises:
        MissingExtra: FAISS is not installed.
    """

    def __init__(self, keys: NDArray[Any], arrays: Arrays) -> None:
        module = faiss()
        self._keys, self._bytes = keys, arrays["index"]  # read in place
        reader = module.ZeroCopyIOReader(module.swig_ptr(self._bytes), self._bytes.size)
        self._index = module.read_index(reader, module.IO_FLAG_MMAP_IFC)
        self._reader = reader

    @staticmethod
    def build(keys: NDArray[Any], queries: Floats | None, report: Progress) -> Arrays:
        """The index of `[N, d]` int8 keys, with 4 √N clusters; queries change nothing."""
        module = faiss()
        N, d = keys.shape
        lists = min(N, max(1, round(4 * N**0.5)))
        product = module.METRIC_INNER_PRODUCT
        index = module.IndexIVFScalarQuantizer(
            module.IndexFlat(d, product),
            d,
            lists,
            module.ScalarQuantizer.QT_8bit_direct_signed,
            product,
        )
        index.by_residual = False
        index.cp.niter = _ROUNDS
        index.cp.min_points_per_centroid = 1  # else FAISS warns on stderr where keys are few
        index.train(keys[:: -(-N // _SAMPLE_KEYS)].astype(np.float32))
        for start in range(0, N, _IVF_BLOCK_KEYS):
            part = keys[start : start + _IVF_BLOCK_KEYS].astype(np.float32)
            index.add(part)
            report(len(part))
        return {"index": module.serialize_index(index)}

    def find(self, queries: Floats, effort: float = 1.0) -> FoundKeys:
        """The best keys in the clusters nearest to each query."""
        probes = min(int(self._index.nlist), max(1, round(_PROBES * effort)))
        params = faiss().SearchParametersIVF(nprobe=probes)
        k = min(int(self._index.ntotal), max(1, round(_KEYS_FOUND * effort)))
        found = search_bytes(self._index, self._keys, queries, k, params)
        return replace(found, read=found.read + len(queries) * int(self._index.nlist))


def search_bytes(index: Any, keys: NDArray[Any], queries: Floats, k: int, params: Any) -> FoundKeys:
    """The keys that a FAISS index of `[N, d]` int8 keys finds, with exact inner products.

    Args:
        k: at most so many for each of `[R, d]` queries.
        params: FAISS's search parameters.
    """
    largest = np.maximum(np.abs(queries).max(1, keepdims=True), 1e-9)
    whole = np.ascontiguousarray(np.rint(queries * (_BYTE / largest)), np.float32)
    (_, ids), read = search_and_count(lambda: index.search(whole, k, params=params))
    rows, columns = np.nonzero(ids >= 0)
    found = ids[rows, columns]
    scores = np.einsum("fd,fd->f", queries[rows], keys[found].astype(np.float32))
    return FoundKeys(rows, found, scores, read)


STRUCTURES: Mapping[str, type[KeySearch]] = {
    "graph": GraphSearch,
    "ivf": IvfSearch,
    "hnsw": HnswSearch,
}


TOP = 10
EFFORTS = (0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True)
class KeyQuestion:
    """A question as it is searched for.

    Attributes:
        queries: `[R, H·d]`. bm25: `[C]` of the real chunks. grades: of documents, by id.
    """

    queries: Floats
    bm25: Floats
    grades: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class SearchedCorpus:
    """A corpus, the exact scores of its questions, and how long those took.

    Attributes:
        owners: `[C]`, the document of each chunk; empty for drawn ones.
        ms, cpu_ms: of each exact search.
        floor: that chunks are compared with; None for a sample of them.
    """

    corpus: KeyCorpus
    heads: int
    owners: NDArray[Any]
    questions: Sequence[KeyQuestion]
    exact: Sequence[LegScores]
    ms: Sequence[float]
    cpu_ms: Sequence[float]
    floor: FittedFloor | None = None

    def key_leg(self, searches: Sequence[KeySearch]) -> KeyLeg:
        """The leg of its keys, with the structures of all heads or without any."""
        return _key_leg(self.corpus, self.heads, searches, self.floor)


def search_exactly(
    corpus: KeyCorpus,
    heads: int,
    owners: NDArray[Any],
    questions: Sequence[KeyQuestion],
    report: Callable[[], None],
    floor: FittedFloor | None = None,
) -> SearchedCorpus:
    """Runs the exact search of every question."""
    leg = _key_leg(corpus, heads, (), floor)
    runs = []
    for question in questions:
        runs.append(timed(partial(leg.exact, question.queries)))
        report()
    exact, ms, cpu_ms = zip(*runs, strict=True)
    return SearchedCorpus(corpus, heads, owners, questions, exact, ms, cpu_ms, floor)


def measure_searches(
    searched: SearchedCorpus, searches: Sequence[KeySearch], effort: float = 1.0
) -> dict[str, float]:
    """The figures of one structure at one effort, as means and percentiles over the questions."""
    corpus = searched.corpus
    live = np.ones(len(corpus.starts) - 1, bool)
    leg = searched.key_leg(searches)
    rows = []
    for question, exact in zip(searched.questions, searched.exact, strict=True):
        words = _bm25_leg(question, live)
        others = np.sort(top_indexes(words.values, words.values > 0, OTHERS_DEPTH))

        def search(others: NDArray[Any], q: KeyQuestion = question) -> LegScores:
            count = max(TOP, round(candidates_beside(len(others)) * effort))
            return leg.approximate(q.queries, live, others, count, effort)

        alone = search(np.zeros(0, np.int64))
        found, ms, cpu_ms = timed(partial(search, others))
        rows.append(
            {
                "recall_at_10_keys": _share_found(_top(exact), _top(alone)),
                **_fused_figures(searched, question, exact, found, words),
                "keys_read": found.keys_read / len(corpus.keys),
                "ms": ms,
                "cpu_ms": cpu_ms,
            }
        )
    return _summary(rows)


def measure_exact(searched: SearchedCorpus) -> dict[str, float]:
    """The figures of the exact search."""
    live = np.ones(len(searched.corpus.starts) - 1, bool)
    rows = [
        {
            "recall_at_10_keys": 1.0,
            **_fused_figures(searched, question, exact, exact, _bm25_leg(question, live)),
            "keys_read": 1.0,
            "ms": searched.ms[q],
            "cpu_ms": searched.cpu_ms[q],
        }
        for q, (question, exact) in enumerate(zip(searched.questions, searched.exact, strict=True))
    ]
    return _summary(rows)


def measure_bm25(searched: SearchedCorpus) -> dict[str, float]:
    """What BM25 alone finds of the exact search by keys and BM25."""
    live = np.ones(len(searched.corpus.starts) - 1, bool)
    rows = []
    for question, exact in zip(searched.questions, searched.exact, strict=True):
        words = _bm25_leg(question, live)
        wanted = top_indexes(fuse_standard_scores({"b": words, "k": exact}), live, TOP)
        rows.append(
            {
                "recall_at_10_keys": _share_found(_top(exact), _top(words)),
                "recall_at_10": _share_found(wanted, _top(words)),
                "ndcg_at_10": _ndcg(words.values, searched.owners, question.grades),
                "keys_read": 0.0,
                "ms": 0.0,
                "cpu_ms": 0.0,
            }
        )
    return _summary(rows)


def time_growth(sizes: Sequence[int], ms: Sequence[float]) -> float | None:
    """The slope of log ms over log size, by least squares; None for a single size."""
    if len(sizes) < 2:
        return None
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(ms, 1e-3)), 1)[0])


def _fused_figures(
    searched: SearchedCorpus,
    question: KeyQuestion,
    exact: LegScores,
    found: LegScores,
    words: LegScores,
) -> dict[str, float]:
    live = np.ones(len(words.values), bool)
    known = live if found.known is None else found.known
    wanted = top_indexes(fuse_standard_scores({"b": words, "k": exact}), live, TOP)
    fused = fuse_standard_scores({"b": words, "k": found})
    ranked = np.where(known, fused, -np.inf)
    return {
        "recall_at_10": _share_found(wanted, top_indexes(fused, known, TOP)),
        "ndcg_at_10": _ndcg(ranked, searched.owners, question.grades),
    }


def _key_leg(
    corpus: KeyCorpus, heads: int, searches: Sequence[KeySearch], floor: FittedFloor | None
) -> KeyLeg:
    live = np.ones(len(corpus.starts) - 1, bool)
    return KeyLeg(
        [corpus.starts],
        [bool(searches)],
        [floor is not None],
        heads,
        live,
        lambda drawn: LocalShards(
            [KeyShard(corpus.keys, corpus.starts, searches, heads, drawn[0], floor)]
        ),
    )


def _bm25_leg(question: KeyQuestion, live: NDArray[np.bool_]) -> LegScores:
    values = np.zeros(len(live), np.float32)
    values[: len(question.bm25)] = question.bm25
    return complete_scores(values, live)


def _top(leg: LegScores) -> NDArray[Any]:
    known = np.ones(len(leg.values), bool) if leg.known is None else leg.known
    return top_indexes(leg.values, known, TOP)


def _share_found(wanted: NDArray[Any], found: NDArray[Any]) -> float:
    return len(set(wanted.tolist()) & set(found.tolist())) / max(1, len(wanted))


def _ndcg(scores: NDArray[Any], owners: NDArray[Any], grades: Mapping[str, float]) -> float:
    """nDCG@10 of documents by their best chunk; NaN where none was judged."""
    if not any(grade > 0 for grade in grades.values()):
        return float("nan")
    ranked: dict[str, None] = {}
    for chunk in top_indexes(scores, np.isfinite(scores), 200):
        ranked.setdefault(owners[chunk] or f"drawn {chunk}")
    return query_metrics(list(ranked), grades)[2]


def _summary(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = {name: float(np.nanmean([row[name] for row in rows])) for name in rows[0]}
    ms = [row["ms"] for row in rows]
    cpu = [row["cpu_ms"] for row in rows]
    del means["ms"], means["cpu_ms"]
    return {
        **means,
        "ms_p50": statistics.median(ms),
        "ms_p95": float(np.percentile(ms, 95)),
        "cpu_ms_p50": statistics.median(cpu),
    }
