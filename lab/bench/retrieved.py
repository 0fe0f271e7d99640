"""`tamis lab bench retrieved`: attention over retrieved keys and values, against the dense reading.

The documents of labelled records are read once and kept. Each question is then read

    passages    each passage in a prompt of its own, as `tamis compress` reads
    dense       one pass that attends to the keys and values of all passages
    summed      the same, where passages side by side are one long prompt
    NAME:K      the same, where each query attends to the K keys that a selector finds
    words:P     the dense reading of the P passages that BM25 finds first

and every sentence is scored, by attention alone and as the default method scores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from tamis.compressors.features.second_step import isolated_features, isolated_probabilities
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import WINDOW_TOKENS, split_windows, tokenize_question
from tamis.probes.attention.kv_layers import KVLayers, count_tokens
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.probes.hub.zoo import load_proxy
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.retrieved import EXACT, KeptCorpus, RetrievedReader, find_selector
from tamis.probes.kv_cache.storage import layer_bytes
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tamis.service.api.kept_chunks import selector_queries
from tamis.service.api.languages import SHARP
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.bench.study import Study, environment_facts, table, timed
from tamis_lab.datasets.records import gold_spans, load_records, passages_of, take_evenly
from tamis_lab.datasets.statistics import rank_correlations
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

EPILOG = """
**Examples**

`tamis lab bench retrieved ../shared/data/dev/hotpotqa.jsonl.gz --tokens 8000,32000`

`tamis lab bench retrieved records.jsonl --readings passages,dense,quest:128 --results rows.jsonl`
"""
READINGS = "passages,dense,summed,exact:128,exact:512,exact:2048,words:20"


@report_errors()
def retrieved(
    records: shared.Records,
    tokens: Annotated[str, typer.Option(help="Lengths of the corpus, in tokens.")] = "32000",
    readings: Annotated[str, typer.Option(help="What is compared, with commas.")] = READINGS,
    questions: Annotated[int, typer.Option(min=1, help="Of each corpus.")] = 40,
    budgets: shared.Budgets = "100,300",
    as_json: shared.Json = False,
    plot: shared.Plot = None,
    results: shared.Results = None,
    proxy: shared.ProxyName = SHARP,
    cache: Annotated[Path | None, typer.Option(help="Where passages are kept.")] = None,
) -> None:
    """Compare reading by retrieved keys and values with reading all of them."""
    named = shared.parse_list(readings, "readings")
    sizes, kept = shared.parse_sizes(tokens), shared.parse_sizes(budgets, "budgets")
    study = Study(as_json, plot, results)
    study.keep_rows({"records": records.name, "readings": named, "budgets": kept, "proxy": proxy})
    folder = cache or cache_home() / "retrieved"
    rows: list[Mapping[str, Any]] = []
    facts: dict[int, dict[str, Any]] = {}
    with study.bars():
        for size in sizes:
            corpus = Corpus(records, size, proxy, folder, kept)
            cases = {f"{size} {n}": n for n in range(len(corpus.asked))}
            chosen = dict(take_evenly(list(cases.items()), questions))
            facts[size] = corpus.facts()
            found = study.rows(f"{size:,}", chosen, partial(corpus.measure, readings=named))
            rows += [{"tokens": size, **row} for row in found]
    summary = [_mean_of(rows, size, name) for size in sizes for name in named]
    study.publish(
        {"proxy": proxy, "corpora": [*facts.values()], "rows": summary},
        lambda: [*_tables(summary), *map(_describe_corpus, facts.values())],
        lambda: _charts(summary),
    )


def _describe_corpus(corpus: Mapping[str, Any]) -> str:
    """A corpus in words, with what its first reading costs, for the times in the table."""
    first = (
        f"read for the first time in {corpus['first_ms']:,.0f} ms ({corpus['first_cpu_ms']:,.0f} "
        "of the processor)"
        if corpus["first_ms"]
        else "kept before this run"
    )
    return (
        f"{corpus['passages']:,} passages of {corpus['tokens']:,} tokens, "
        f"{corpus['bytes_per_token']:,.0f} bytes a token, {first}."
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A question, and its gold sentences: passage, start and stop of each."""

    question: str
    gold: tuple[tuple[int, int, int], ...]


class Corpus:
    """Passages of records, kept, and the questions about them.

    Args:
        tokens: at least so many, where the records have them.
        folder: where passages are kept. budgets: in tokens.
    """

    def __init__(
        self, records: Path, tokens: int, proxy: str, folder: Path, budgets: Sequence[int]
    ) -> None:
        depth = QuestionRows.layers_needed(proxy, {})
        self.proxy, self.budgets = load_proxy(proxy, layers=depth), budgets
        layout = self.proxy.layout
        self.passages, self.asked = _gather(records, tokens, layout.tokenizer.count_many)
        self.units = units_of(self.passages, "en")
        self.cache = PassageCache(folder=folder, storage="thin")
        self.reader = CachedReader(self.proxy, self.cache)
        self.windows = split_windows(layout, self.passages, self.units, WINDOW_TOKENS)
        want = Want(tuple(range(depth or self.proxy.depth)), ("sentence_means",))
        asked = tokenize_question(layout, "N/A")
        prompts = [Prompt(window.tokens, asked) for window in self.windows]
        cached_tokens, self.read_ms, self.read_cpu_ms = timed(
            lambda: [one.cached_tokens for one in self.reader.read(prompts, want)]
        )
        self.depth = want.depth
        self._found = {key: self._load(key) for key in map(self.reader.key, prompts)}
        self.kept = [self.find(prompt) for prompt in prompts]
        self.tokens = sum(map(count_tokens, self.kept))
        self.tokens_read = self.tokens - sum(cached_tokens)

    def facts(self) -> dict[str, Any]:
        """Its size, and what reading all of it for the first time takes; None if it was kept."""
        share = self.tokens / self.tokens_read if self.tokens_read else None
        return {
            "passages": len(self.kept),
            "tokens": self.tokens,
            "bytes_per_token": sum(layer_bytes(layer) for one in self.kept for layer in one)
            / self.tokens,
            "first_ms": share and share * self.read_ms,
            "first_cpu_ms": share and share * self.read_cpu_ms,
        }

    def find(self, prompt: Prompt) -> KVLayers:
        """The kept layers of a prompt's passage."""
        return self._found[self.reader.key(prompt)]

    def _load(self, key: str) -> KVLayers:
        found = self.cache.get(key, self.depth)
        if found is None:
            raise BadInput(
                "what was kept of a passage is gone: its folder is full; ask for fewer tokens"
            )
        return found

    def measure(self, number: int, readings: Sequence[str]) -> dict[str, Any]:
        """What each reading of a question keeps, how long it takes, and how near to dense it is."""
        asked, dense = self.asked[number], None
        row: dict[str, Any] = {}
        for name in readings:
            method = QuestionRows(self._reader(name, asked.question), gate=False)
            given = (asked.question, self.passages, self.units)
            reading, ms, cpu_ms = timed(partial(method.read, *given))
            assert method.probe is not None
            alone = isolated_probabilities(method.probe, isolated_features(reading))
            whole = torch.tensor(method.score_reading(reading, *given).values)
            dense = alone if name == "dense" else dense
            row[name] = {
                "ms": ms,
                "cpu_ms": cpu_ms,
                "rho": None if dense is None else _rho(alone, dense),
                "alone": [self._gold_share(asked, alone, reading.tokens, b) for b in self.budgets],
                "whole": [self._gold_share(asked, whole, reading.tokens, b) for b in self.budgets],
            }
        return row

    def _reader(self, name: str, question: str) -> Any:
        kind, _, given = name.partition(":")
        if kind == "passages":
            return self.reader
        if kind in ("dense", "summed"):
            corpus = KeptCorpus(self.kept, average=kind == "dense")
        elif not given.isdecimal() or not int(given):
            raise BadInput(f"reading {name!r} is none of passages, dense, summed, NAME:K, words:P")
        elif kind == "words":
            scores = Lexical().scores(question, self.passages, self.units).passages
            best = set(sorted(range(len(scores)), key=lambda p: -scores[p])[: int(given)])
            pairs = zip(self.windows, self.kept, strict=True)
            corpus = KeptCorpus([kept for window, kept in pairs if window.passage in best])
        else:
            queries = [] if kind == EXACT else self._queries
            build = find_selector(kind)
            corpus = KeptCorpus(self.kept, int(given), build, queries.__getitem__)
        return RetrievedReader(self.proxy, corpus, self.find)

    @cached_property
    def _queries(self) -> list[Tensor]:
        return selector_queries(self.proxy, self.depth)

    def _gold_share(
        self, asked: Asked, scores: Tensor, tokens: Sequence[int], budget: int
    ) -> float:
        """The share of gold sentences among the best units that fit."""
        left, kept = budget, set()
        for u in scores.argsort(descending=True).tolist():
            if tokens[u] <= left:
                left -= tokens[u]
                kept.add(u)
        found = [
            any(
                unit.passage == passage and unit.start < stop and unit.stop > start
                for unit in (self.units[u] for u in kept)
            )
            for passage, start, stop in asked.gold
        ]
        return sum(found) / len(found)


def _gather(
    path: Path, tokens: int, count: Callable[[Sequence[str]], list[int]]
) -> tuple[list[Passage], list[Asked]]:
    """Different passages of records until there are so many tokens, and the questions of these."""
    places: dict[tuple[str | None, str], int] = {}
    asked, total = [], 0
    for record in load_records(path):
        own = passages_of(record)
        for passage in own:
            if (passage.title, passage.text) not in places:
                places[passage.title, passage.text] = len(places)
                total += count([passage.text])[0]
        at = [places[passage.title, passage.text] for passage in own]
        if gold := tuple((at[d], a, b) for d, a, b in gold_spans(record)):
            asked.append(Asked(record["question"], gold))
        if total >= tokens:
            break
    return [Passage(text, str(n), title) for n, (title, text) in enumerate(places)], asked


def _rho(scores: Tensor, dense: Tensor) -> float:
    return rank_correlations(scores[None], dense[None])[0]


def _mean_of(rows: Sequence[Mapping[str, Any]], size: int, name: str) -> dict[str, Any]:
    own = [row[name] for row in rows if row["tokens"] == size]
    known = [one["rho"] for one in own if one["rho"] is not None]
    return {
        "tokens": size,
        "reading": name,
        "questions": len(own),
        "rho": statistics.fmean(known) if known else None,
        "alone": torch.tensor([one["alone"] for one in own]).mean(0).tolist(),
        "whole": torch.tensor([one["whole"] for one in own]).mean(0).tolist(),
        "ms": statistics.median(one["ms"] for one in own),
        "cpu_ms": statistics.median(one["cpu_ms"] for one in own),
    }


def _tables(rows: Sequence[Mapping[str, Any]]) -> Iterator[Any]:
    yield table(
        "gold sentences kept within each budget, by attention alone and by the default method",
        ("reading", "tokens", "alone", "default", "unit ρ", "CPU ms", "ms"),
        (
            [
                row["reading"],
                f"{row['tokens']:,}",
                *(" / ".join(f"{kept:.3f}" for kept in row[kind]) for kind in ("alone", "whole")),
                "" if row["rho"] is None else f"{row['rho']:.3f}",
                *(f"{row[name]:,.0f}" for name in ("cpu_ms", "ms")),
            ]
            for row in rows
        ),
    )
    yield (
        f"{rows[0]['questions']} questions a corpus, {environment_facts()['threads']} threads. "
        "unit ρ: rank correlation of the sentences' scores by attention alone with the dense ones."
    )


def _charts(rows: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Evidence against the keys that a query attends to, a line a selector and corpus."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for row in rows:
        name, _, keys = row["reading"].partition(":")
        if keys and name != "words":
            xs, ys = series.setdefault(f"{name}, {row['tokens']:,} tokens", ([], []))
            xs.append(int(keys))
            ys.append(row["alone"][-1])
    return [
        Chart("Gold sentences kept by attention alone", series, "keys a query", "kept", (), "x")
    ]
