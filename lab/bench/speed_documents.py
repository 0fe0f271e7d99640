"""`bench speed --documents`: time and evidence of many documents, with gate and cascade.

Time and evidence of requests with many documents: read whole, with a gate, and with a cascade.

    whole    every document is read to the end
    gate     windows that cannot matter stop after the first layers
    cascade  and some of many documents are not read at all

Documents are made of the passages of labelled records, one behind the other, so that each has the
size asked for; those with the evidence of a question are always among its documents. The ways of a
round run directly after each other, each time in another order, so that load on the machine
affects all of them; ratios are those of the same round.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from tamis.compressors import registry
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.registry import DEFAULT, DEFAULT_ENCODER, InstalledModels, layers_needed
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.encoder import CachedEncoder
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.record_files import RecordFile, answerable_records
from tamis_lab.datasets.records import Record, gold_spans, is_covered, passages_of
from tamis_lab.train.probe.figures import fill_token_share


def time_documents(
    study: Study,
    proxy: str,
    numbers: Sequence[int],
    data: Sequence[Path],
    limit: int,
    tokens: int,
    paths: Sequence[str],
) -> None:
    """Times requests of so many documents of so many tokens, and prints times and evidence.

    Raises:
        BadInput: no labelled records, too few of them, or a path that there is not.
    """
    if not data:
        raise BadInput("--documents are made of labelled records; give --data FILE")
    reader = registry.load_proxy(proxy, layers_needed(DEFAULT, proxy))
    count = reader.layout.tokenizer.count
    found: dict[str, Any] = {}
    with study.bars():
        for number in numbers:
            cases = [
                case
                for file in data
                for case in document_cases(
                    answerable_records(RecordFile(file, None)), number, tokens, count
                )[:limit]
            ]
            on_case = partial(study.advance, f"{number} documents", 1, len(cases))
            found[str(number)] = measure_documents(reader, cases, paths, on_case, _encoder(proxy))
    study.publish(
        {"documents": found, "passage_tokens": tokens}, lambda: [documents_table(found, tokens)]
    )


def documents_table(found: Mapping[str, Mapping[str, Any]], tokens: int) -> Table:
    """One row for each number of documents, path and way."""
    heads = ("ms p50", "times as fast", "CPU", "evidence", "read")
    rows = []
    for number, paths in found.items():
        for path, ways in paths.items():
            for way, cell in ways.items():
                times = (f"{cell[name]:.2f}" for name in ("faster", "faster_cpu"))
                read = f"{cell['units_read']:.0%}" if "units_read" in cell else ""
                ms = f"{cell['ms_p50']:,.0f}"
                rows.append([number, path, way, ms, *times, _evidence_text(cell), read])
    return table(f"Documents of {tokens} tokens", ("documents", "path", "way", *heads), rows)


def _encoder(proxy: str) -> Any:
    """The sentence encoder as users have it: where it is installed."""

    try:
        return InstalledModels(proxy, DEFAULT_ENCODER, None).encoder()
    except ProxyMissing:
        return None


def _evidence_text(cell: Mapping[str, Any]) -> str:
    if "gold_first" in cell:
        return f"gold first {cell['gold_first']:.3f}"
    shares = {name: value for name, value in cell.items() if name.startswith("evidence_")}
    return ", ".join(f"{value:.3f} at {name.split('_')[1]}" for name, value in shares.items())


WAYS: Mapping[str, Mapping[str, Any]] = {
    "whole": {"gate": False},
    "gate": {"cascade": False},
    "cascade": {"cascade": True},
}
PATHS = ("cold", "warm", "rerank")
SHARES = (0.1, 0.2)
"""Of a request's tokens, those that are kept."""
_CACHE_BYTES = 1 << 32

Spans = Sequence[tuple[int, int, int]]


@dataclass(frozen=True, slots=True)
class DocumentCase:
    """A question, the documents it is asked of, and its evidence: `(document, start, stop)`."""

    question: str
    documents: Sequence[Passage]
    gold: Spans


@dataclass(frozen=True, slots=True)
class Timed:
    """One request: how long it took, the scores, and the gold kept at each of `SHARES`."""

    ms: float
    cpu_ms: float
    scores: Scores | None
    kept: tuple[int, ...]


def document_cases(
    records: Sequence[Record],
    count: int,
    tokens: int,
    count_tokens: Callable[[str], int],
    seed: int = 0,
) -> list[DocumentCase]:
    """One case a record: `count` documents of at least `tokens` tokens from all records' passages.

    Raises:
        BadInput: the records have too little text for so many documents.
    """
    pool: dict[tuple[str | None, str], Passage] = {}
    for record in records:
        for passage in passages_of(record):
            pool.setdefault((passage.title, passage.text), passage)
    sizes = {key: count_tokens(key[1]) for key in pool}
    if (most := sum(sizes.values()) // tokens) < count:
        raise BadInput(
            f"the records have text for {most} documents of {tokens} tokens, and {count} are asked "
            "for; give more records (--limit), or fewer or shorter documents"
        )
    return [_case(record, n, count, tokens, pool, sizes, seed) for n, record in enumerate(records)]


def _case(
    record: Record,
    number: int,
    count: int,
    tokens: int,
    pool: Mapping[tuple[str | None, str], Passage],
    sizes: Mapping[tuple[str | None, str], int],
    seed: int,
) -> DocumentCase:
    own = passages_of(record)
    with_gold = dict.fromkeys(d for d, _, _ in gold_spans(record))
    draw = random.Random(f"{seed}/{number}")
    gold_keys = [(own[d].title, own[d].text) for d in with_gold]
    others = [key for key in pool if key not in gold_keys]
    draw.shuffle(others)
    heads: list[list[tuple[str | None, str]]] = [[key] for key in gold_keys][:count]
    heads += [[] for _ in range(count - len(heads))]
    rest = iter(others)
    for parts in heads:
        while sum(sizes[key] for key in parts) < tokens and (key := next(rest, None)):
            parts.append(key)
    place = {parts[0]: i for i, parts in enumerate(heads) if parts}
    order = draw.sample(range(len(heads)), len(heads))
    documents = [_join(heads[i], str(i)) for i in order]
    at = {head: place_after for place_after, head in enumerate(order)}
    gold = [
        (at[place[own[d].title, own[d].text]], a, b)
        for d, a, b in gold_spans(record)
        if (own[d].title, own[d].text) in place
    ]
    return DocumentCase(record["question"], documents, gold)


def _join(parts: Sequence[tuple[str | None, str]], name: str) -> Passage:
    """One document of several passages; the first one's text and title come first."""
    title = parts[0][0] if parts else None
    return Passage("\n\n".join(text for _, text in parts), name, title)


def measure_documents(
    reader: Any,
    cases: Sequence[DocumentCase],
    paths: Sequence[str],
    on_case: Callable[[], None] = lambda: None,
    encoder: Any = None,
    **options: Any,
) -> dict[str, dict[str, Any]]:
    """By path and way the median times, their ratios to `whole`, and the evidence of all cases.

    Args:
        reader: the proxy. paths: some of `PATHS`. on_case: called after every case.
        encoder: a sentence encoder; None for none.
        options: of the default method, such as the probe and the gate of another proxy.

    Raises:
        BadInput: a path that there is not, or there is no gate for this proxy.
    """
    if wrong := [path for path in paths if path not in PATHS]:
        raise BadInput(f"there is no path {wrong[0]!r} of documents; give {', '.join(PATHS)}")
    bench = _Bench(reader, encoder, options)
    rows: dict[str, dict[str, list[Timed]]] = {path: {way: [] for way in WAYS} for path in paths}
    for number, case in enumerate(cases):
        units = units_of(case.documents)
        for path in paths:
            for way in random.Random(number).sample(list(WAYS), len(WAYS)):
                rows[path][way].append(bench.run(path, way, case, units))
        on_case()
    gold = sum(len(case.gold) for case in cases)
    return {path: _path_figures(ways, gold, path) for path, ways in rows.items()}


class _Bench:
    """Runs a request one way: each time with a new method, over an empty cache of vectors."""

    def __init__(self, reader: Any, encoder: Any, options: Mapping[str, Any]) -> None:
        self.reader, self.encoder, self.options = reader, encoder, options
        if self._method(reader, "cascade").gate is None:
            raise BadInput(
                f"no gate ships for {reader.card.name}; --documents compares readings with one"
            )

    def _method(self, reader: Any, way: str) -> QuestionRows:
        # vectors of one way must not serve the next
        encoder = None if self.encoder is None else CachedEncoder(self.encoder)
        options = {"gate": "auto", **self.options, **WAYS[way]}
        return QuestionRows(reader, encoder=encoder, **options)

    def run(self, path: str, way: str, case: DocumentCase, units: Sequence[Unit]) -> Timed:
        method = self._method(self.reader, way)
        if path == "warm":
            cache = PassageCache(_CACHE_BYTES)
            method = self._method(CachedReader(self.reader, cache), way)
            # another question has read them before
            method.reading_everything().scores(f"{case.question} Why?", case.documents, units)
        clock, cpu = time.perf_counter(), time.process_time()
        if path == "rerank":
            ranks = method.rank(case.question, case.documents, units)
            best = max(range(len(ranks.values)), key=lambda d: ranks.values[d])
            is_gold = any(d == best for d, _, _ in case.gold)
            return _timed(clock, cpu, None, (int(is_gold),))
        scores = method.scores(case.question, case.documents, units)
        took = _timed(clock, cpu, scores, ())
        tokens = method.reader.layout.tokenizer.count_many(
            [case.documents[u.passage].text[slice(*u.visible)] for u in units]
        )
        values = torch.tensor(scores.values)
        kept = tuple(
            _count_kept_gold(case, units, fill_token_share(values, tokens, s)) for s in SHARES
        )
        return Timed(took.ms, took.cpu_ms, scores, kept)


def _timed(clock: float, cpu: float, scores: Scores | None, kept: tuple[int, ...]) -> Timed:
    ms, cpu_ms = (time.perf_counter() - clock) * 1e3, (time.process_time() - cpu) * 1e3
    return Timed(ms, cpu_ms, scores, kept)


def _count_kept_gold(case: DocumentCase, units: Sequence[Unit], chosen: Sequence[int]) -> int:
    """How many gold sentences are kept by these units."""
    spans: list[list[tuple[int, int]]] = [[] for _ in case.documents]
    for u in chosen:
        spans[units[u].passage].append(units[u].visible)
    return sum(is_covered(case.documents[d].text, spans[d], a, b) for d, a, b in case.gold)


def _path_figures(
    ways: Mapping[str, Sequence[Timed]], gold: int, path: str
) -> dict[str, dict[str, Any]]:
    whole = ways["whole"]
    return {way: _way_figures(timed, whole, gold, path) for way, timed in ways.items()}


def _way_figures(
    timed: Sequence[Timed], whole: Sequence[Timed], gold: int, path: str
) -> dict[str, Any]:
    """Medians over cases, and the evidence: gold sentences kept, or gold documents ranked first."""
    figures: dict[str, Any] = {
        "ms_p50": round(statistics.median(one.ms for one in timed), 1),
        "cpu_ms_p50": round(statistics.median(one.cpu_ms for one in timed), 1),
        "faster": _ratio([one.ms for one in whole], [one.ms for one in timed]),
        "faster_cpu": _ratio([one.cpu_ms for one in whole], [one.cpu_ms for one in timed]),
        "cases": len(timed),
    }
    kept = [sum(counts) for counts in zip(*(one.kept for one in timed), strict=True)]
    if path == "rerank":
        return figures | {"gold_first": round(kept[0] / len(timed), 4)}
    names = (f"evidence_{share:g}" for share in SHARES)
    shares = [round(count / max(1, gold), 4) for count in kept]
    figures |= zip(names, shares, strict=True)
    scored = [one.scores for one in timed if one.scores is not None]
    units = [len(one.values) for one in scored]
    read = [n if s.units_read is None else s.units_read for n, s in zip(units, scored, strict=True)]
    return figures | {"units_read": round(sum(read) / sum(units), 4)}


def _ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """The median over cases of the ratio of two times."""
    pairs = zip(slower, faster, strict=True)
    return round(statistics.median(a / max(b, 1e-9) for a, b in pairs), 2)
