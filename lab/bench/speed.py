"""`tamis lab bench speed`: how long a request takes, for new passages and for cached ones.

Times of requests: without a cache, with an empty passage cache, and with cached passages.

    cold   no cache: every passage is read with the question
    fill   the same through an empty cache, which stores what is read
    warm   every passage is in the cache from an earlier question; each round has another question
    batch  eight questions about the same passages, one after the other, through an empty cache
    minilm the same request by a sentence encoder, a common ranker, for comparison with `warm`
    bare   transformers' forward pass over the token batches of `cold`, nothing recorded or scored:
           its share of the time of `cold` shows the overhead of tamis around the model

All paths of a round run directly after each other, so that load on the machine affects all of them.

The work that is timed: passages and questions of given sizes, drawn from a real text.

Text, sizes and seed determine everything, so that two machines time the same work.

Speed of this tree against another commit of tamis: the same work in turns, in two processes.

Load on the machine then affects both sides, so the ratio of the two times of a turn is more
reliable than either time.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import random
import re
import resource
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import chain, cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors import registry
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.reading.windows import WINDOW_TOKENS, split_windows
from tamis.compressors.registry import DEFAULT, build_method, layers_needed
from tamis.compressors.rules import Budget
from tamis.compressors.types import Compressed
from tamis.probes.attention.linear_kernels import PackedLinear
from tamis.probes.attention.recorder import Recorder, use_recorder
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.storage import STORAGES, Storage
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Layout, Prompt, token_batches
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.bench.speed_documents import time_documents
from tamis_lab.bench.study import Study, table, timed
from tamis_lab.datasets.records import read_text
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

EPILOG = """
**Examples**

`tamis lab bench speed` times the documents of examples/, cold and warm

`tamis lab bench speed --tokens 4500,16000 --passage-tokens 512 --paths cold,warm --json`

`tamis lab bench speed --text book.txt --paths cold,fill,warm --storage int8 --rounds 9`

`tamis lab bench speed --text book.txt --tokens 1000,4500,16000,128000 --plot speed.png` draws it,
too

`tamis lab bench speed --paths cold,batch,minilm` beside a sentence encoder on the same passages

`tamis lab bench speed --against HEAD~3 --rounds 5` takes turns with another commit

`tamis lab bench speed --documents 10,30,100 --data hotpotqa.jsonl.gz --passage-tokens 300` times
many documents read whole, with a gate and with a cascade, with the evidence that each keeps

**cold** reads every passage with the question. **warm** finds every passage in the passage cache,
where an earlier question left it; each round asks another question. **fill** is a cold reading
through an empty cache. **batch** asks eight questions of the same passages through an empty cache;
its times are of one. **minilm** ranks the same sentences by a sentence encoder. **bare** is
transformers' forward pass over the batches of cold, and nothing else.
`share of limit` is the arithmetic of the linear layers for the tokens that ran, over what the
machine's best matrix product could do in that time.
"""


@report_errors()
def speed(
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help="A file of prose, optionally gzipped; passages are cut from it. Default: the "
            "documents of examples/.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="Sizes of the context, with commas.")
    ] = "1000,4500,16000",
    passage_tokens: Annotated[
        int, typer.Option(min=1, help="Of each passage, in the proxy's tokens.")
    ] = 512,
    paths: Annotated[
        str,
        typer.Option(
            help="Of cold, fill, warm, batch and minilm, with commas; of --documents cold, warm "
            "and rerank."
        ),
    ] = "cold,warm",
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds, after one that is not.")] = 5,
    storage: Annotated[str, typer.Option(help="Of kept passages: exact, int8 or thin.")] = "exact",
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    against: Annotated[
        str | None,
        typer.Option(help="A commit to take turns with; `--rounds` turns.", show_default=False),
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option(
            help="Numbers of documents, with commas: time them read whole, with a gate and with a "
            "cascade, and count the evidence kept.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            help="Labelled records that --documents are made of; repeatable.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions of each file of --data.")] = 8,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Time whole requests: cold, and of passages that were read before."""
    if storage not in STORAGES:
        raise BadInput(f"storage is {storage!r}; give one of {', '.join(STORAGES)}")
    study, ways = Study(as_json, plot), shared.parse_list(paths, "paths")
    if documents is not None or data:
        others = {"--text": text, "--against": against, "--plot": plot}
        if given := [name for name, value in others.items() if value is not None]:
            raise BadInput(f"--documents are made of --data; leave out {', '.join(given)}")
        numbers = shared.parse_sizes(documents or "")
        time_documents(study, proxy, numbers, data or [], limit, passage_tokens, ways)
        return
    plan = SpeedPlan(shared.parse_sizes(tokens), ways, rounds, storage)
    if against is not None:
        if plot is not None:
            raise BadInput("--plot draws one commit; leave out --plot, or --against")
        words = ["--passage-tokens", passage_tokens, "--tokens", tokens, "--paths", paths]
        words += ["--storage", storage, "--seed", seed, "--proxy", proxy, "--rounds", 1]
        words += ["--text", text.resolve()] if text is not None else []
        with study.bars():
            on_run = partial(study.advance, "taking turns", 1, 2 * rounds)
            turns = compare_commits(against, [str(word) for word in words], rounds, on_run)
        study.publish({**turns, "against": against}, lambda: [_turns_table(turns, against)])
        return
    prose, name = example_text() if text is None else (read_text(text), str(text))
    model = registry.load_proxy(proxy, layers_needed(DEFAULT, proxy))
    source = WorkloadText(prose, name, model.layout, passage_tokens, seed)
    cells: dict[str, dict[str, Any]] = {path: {} for path in plan.paths}
    with study.bars():
        on_round = partial(study.advance, "timing", 1, len(plan.tokens) * (plan.rounds + 1))
        for path, size, cell in measure_paths(source, model, plan, on_round):
            cells[path][size] = cell
    report = {**cells, "workload": asdict(source.workload), "machine": _machine_facts(model)}
    study.publish(report, lambda: _tables(cells, report), lambda: speed_charts(cells))


def _turns_table(cells: Mapping[str, Mapping[str, Any]], revision: str) -> Table:
    heads = ("path", "tokens", "ms p50", f"ms p50 of {revision}", "times as fast", "turns")
    rows = []
    for path, sizes in cells.items():
        for size, cell in sizes.items():
            times = (f"{cell[name]:,.0f}" for name in ("ms_p50", "their_ms_p50"))
            span = f"({cell['faster_least']:.2f} to {cell['faster_most']:.2f})"
            faster = f"{cell['faster']:.2f} {span}"
            rows.append([path, f"{int(size):,}", *times, faster, str(cell["turns"])])
    return table("", heads, rows)


def _tables(
    cells: Mapping[str, Mapping[str, Mapping[str, Any]]], report: Mapping[str, Any]
) -> Iterator[Any]:
    heads = ("tokens", "ms p50", "ms p95", "tokens/s", "of the limit", "beside", "stages ms")
    rows = []
    for path, sizes in cells.items():
        for size, cell in sizes.items():
            stages = ", ".join(f"{name} {ms:,.0f}" for name, ms in cell["stages_ms"].items())
            rows.append(
                [
                    path,
                    f"{int(size):,}",
                    *(f"{cell[name]:,.0f}" for name in ("ms_p50", "ms_p95", "tokens_per_s")),
                    f"{cell['share_of_limit']:.1%}" if "share_of_limit" in cell else "",
                    _comparison_text(cell),
                    stages,
                    f"{cell['peak_mb']:,.0f}",
                ]
            )
    made = table("", ("path", *heads, "peak MB"), rows)
    for column in made.columns[6:8]:
        column.no_wrap = False
    yield made
    every = (cell for sizes in cells.values() for cell in sizes.values())
    limits = [cell["limit_gflops"] for cell in every if "limit_gflops" in cell]
    yield Text(_footnote(report, limits), "dim")


def speed_charts(cells: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[Chart]:
    """Time of a question, and share of the machine's limit, against the context's tokens."""

    def lines(column: str) -> dict[str, Any]:
        return {
            path: (list(map(int, sizes)), [cell[column] for cell in sizes.values()])
            for path, sizes in cells.items()
            if all(column in cell for cell in sizes.values())
        }

    across = "tokens of the context"
    shares = lines("share_of_limit")
    title = "share of the machine's matrix products"
    return [
        Chart("p50", lines("ms_p50"), across, "ms a question", logs="xy"),
        Chart("p95", lines("ms_p95"), across, "ms a question", logs="xy"),
        Chart(title, shares, across, logs="x", shares="y"),
    ]


def _comparison_text(cell: Mapping[str, Any]) -> str:
    if "share_of_bare" in cell:
        return f"bare {cell['bare_ms_p50']:,.0f} ms, share {cell['share_of_bare']:.2f}"
    parts = []
    if "faster_than_cold" in cell:
        parts.append(f"{cell['faster_than_cold']:.1f}× as fast as cold")
    if "max_score_difference" in cell:
        parts.append(f"scores within {cell['max_score_difference']:.1e}")
    if "faster_than_minilm" in cell:
        parts.append(f"{cell['faster_than_minilm']:.1f}× as fast as minilm")
    return ", ".join(parts)


def _footnote(report: Mapping[str, Any], limits: Sequence[float]) -> str:
    work, machine = report["workload"], report["machine"]
    limit = f"; the limit is {limits[0]:,.0f} GFLOP/s, ten products of 2,048³" if limits else ""
    return (
        f"{work['text']}: passages of {work['passage_tokens']} tokens, questions of "
        f"{work['question_tokens']}, seed {work['seed']}. {machine['proxy']} in "
        f"{machine['dtype']}, {machine['threads']} threads, {machine['device']}"
        f"{limit}."
    )


def _machine_facts(proxy: Proxy) -> dict[str, Any]:

    return {
        "device": str(proxy.device),
        "processor": _processor_name(),
        "threads": torch.get_num_threads(),
        "dtype": proxy.arithmetic.removeprefix("torch."),
        "torch": torch.__version__,
        "proxy": proxy.card.name,
        "layers": proxy.depth,
        "batch_tokens": proxy.batch_tokens,
    }


def _processor_name() -> str:
    """The processor's name where the system reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


PATHS = ("cold", "fill", "warm", "batch", "minilm")
BATCH_QUESTIONS = 8
"""How many questions one run of `batch` has on the same passages."""

_UNLIMITED_BYTES = 1 << 40  # a limit that no cache reaches
_MATRIX_SIZE, _PRODUCT_TRIES = 2048, 10
_QKV_MODULES = ("q_proj", "k_proj", "v_proj", "qkv")
_KEEP_RATIO = 0.1  # share of the context that is kept, or as much as its longest unit needs


@dataclass(frozen=True, slots=True)
class SpeedPlan:
    """What to time.

    Attributes:
        tokens: sizes of the context. paths: some of `PATHS`, in the order in which they run.
        rounds: that are timed, after one that is not.
        storage: of cached passages.
    """

    tokens: Sequence[int]
    paths: Sequence[str]
    rounds: int
    storage: Storage = "exact"

    def __post_init__(self) -> None:
        if wrong := [path for path in self.paths if path not in PATHS]:
            raise BadInput(f"there is no path {wrong[0]!r}; give some of {', '.join(PATHS)}")


@dataclass(frozen=True, slots=True)
class MachineLimit:
    """The machine's speed: the fastest of ten matrix products of 2048³ multiplications.

    Attributes:
        flops: operations a second, in the proxy's dtype and number of threads.
        weights: how many linear weights a token is multiplied with.
    """

    flops: float
    weights: int

    def share(self, tokens: float, ms: float) -> float:
        """Operations that `tokens` need, over those that the machine can do in this time."""
        return 2 * self.weights * tokens / (ms / 1e3) / self.flops


def measure_limit(proxy: Proxy) -> MachineLimit:
    """Times matrix products on the proxy's device."""
    a = torch.randn(_MATRIX_SIZE, _MATRIX_SIZE, device=proxy.device).to(proxy.dtype)
    best_ms = min(timed(lambda: _multiply(a))[1] for _ in range(_PRODUCT_TRIES))
    flops = 2 * _MATRIX_SIZE**3 / (best_ms / 1e3)
    return MachineLimit(flops, count_linear_weights(proxy, proxy.depth))


def count_linear_weights(proxy: Proxy, depth: int) -> int:
    """How many linear weights a token is multiplied with where the first `depth` layers are read.

    Of the last layer, only those of query, key and value: nothing but its attention is needed.
    """
    return sum(
        module.in_features * module.out_features
        for number, layer in enumerate(proxy.body.layers[:depth])
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear | PackedLinear)
        and (number < depth - 1 or any(part in name for part in _QKV_MODULES))
    )


def measure_paths(
    text: WorkloadText, proxy: Proxy, plan: SpeedPlan, on_round: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields path, size and figures; `on_round` is called after every round."""
    limit = measure_limit(proxy)
    for tokens in plan.tokens:
        yield from _ContextTiming(text, proxy, plan, tokens).run(limit, on_round)


class _ContextTiming:
    """One size of the context: its passages, and the times and results of its requests."""

    def __init__(self, text: WorkloadText, proxy: Proxy, plan: SpeedPlan, tokens: int) -> None:
        self.text, self.proxy, self.plan, self.tokens = text, proxy, plan, tokens
        self.passages = text.passages(tokens)
        counter = proxy.layout.tokenizer
        self.budget = self._budget()
        self.window_tokens = max(WINDOW_TOKENS, text.workload.passage_tokens)
        self.cache = PassageCache(_UNLIMITED_BYTES, storage=plan.storage)
        self.uncached = self._build_compressor(proxy)
        self.cached = self._build_compressor(CachedReader(proxy, self.cache))
        self.ms: dict[str, list[float]] = {path: [] for path in (*PATHS, "bare")}
        self.cpu_ms: dict[str, list[float]] = {path: [] for path in PATHS}
        self.results: dict[str, list[Compressed]] = {path: [] for path in PATHS}
        self.encoder: Compressor | None = None
        if "minilm" in plan.paths:
            self.encoder = Compressor(build_method("embedding"), "embedding", counter)

    def run(
        self, limit: MachineLimit, on_round: Callable[[], None]
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Times all rounds, then yields the figures of each path."""
        for number in range(self.plan.rounds + 1):
            self._run_round(number)
            on_round()
        for path in self.plan.paths:
            yield path, str(self.tokens), self._path_figures(path, limit)

    def _budget(self) -> Budget:
        counter, units = self.proxy.layout.tokenizer, units_of(self.passages)
        texts = [self.passages[u.passage].text[u.start : u.stop] for u in units]
        return Budget(max(int(self.tokens * _KEEP_RATIO), 2 + max(counter.count_many(texts))))

    def _build_compressor(self, reader: Any) -> Compressor:
        method = build_method(DEFAULT, proxy=reader, window_tokens=self.window_tokens, gate=False)
        return Compressor(method, DEFAULT, self.proxy.layout.tokenizer)

    def _run_round(self, number: int) -> None:
        """Runs every path and the bare pass once; round 0 is not timed, and fills the cache."""
        for path in self.plan.paths:
            questions = [self.text.question(number)]
            if path == "batch":
                others = range(1, BATCH_QUESTIONS)
                questions += [self.text.question(1000 * number + n) for n in others]
            compressor = self._path_compressor(path)
            gc.collect()
            clock, cpu = time.perf_counter(), time.process_time()
            results = [compressor.compress(q, self.passages, self.budget) for q in questions]
            if number:
                self.ms[path].append((time.perf_counter() - clock) * 1e3 / len(questions))
                self.cpu_ms[path].append((time.process_time() - cpu) * 1e3 / len(questions))
                self.results[path] += results
        if "cold" in self.plan.paths:
            question = self.text.question(number)
            batches = _prompt_batches(self.proxy, self.passages, question, self.window_tokens)
            ms = timed(lambda: _run_bare(self.proxy, batches))[1]
            self.ms["bare"] += [ms] if number else []

    def _path_compressor(self, path: str) -> Compressor:
        if path in ("fill", "batch"):
            return self._empty_cache_compressor()
        if path == "minilm" and self.encoder is not None:
            return self.encoder
        return self.uncached if path == "cold" else self.cached

    def _empty_cache_compressor(self) -> Compressor:
        cache = PassageCache(_UNLIMITED_BYTES, storage=self.plan.storage)
        return self._build_compressor(CachedReader(self.proxy, cache))

    def _path_figures(self, path: str, limit: MachineLimit) -> dict[str, Any]:
        """Times of one question in milliseconds, and the sizes of the work.

        `tokens_per_s` counts the tokens of the context, `share_of_limit` those that the model ran.
        `cpu_ms_p50` is the process's CPU time, which varies less on a busy machine.
        """
        ms, results = self.ms[path], self.results[path]
        p50 = statistics.median(ms)
        last = results[-1]
        tokens_read = statistics.mean(result.tokens_read for result in results)
        figures = {
            "ms_p50": round(p50, 1),
            "ms_p95": round(float(np.percentile(ms, 95)), 1),
            "cpu_ms_p50": round(statistics.median(self.cpu_ms[path]), 1),
            "tokens_per_s": round(last.tokens_in / p50 * 1e3, 1),
            "rounds": len(ms),
            "passages": len(self.passages),
            "windows": last.windows,
            "tokens_in": last.tokens_in,
            "tokens_read": last.tokens_read,
            "tokens_cached": last.tokens_cached,
            "stages_ms": _median_stages(results),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
        if path != "minilm":
            figures["share_of_limit"] = round(limit.share(tokens_read, p50), 4)
            figures["limit_gflops"] = round(limit.flops / 1e9, 1)
            figures["linear_weights"] = limit.weights
        return figures | self._comparisons(path, p50)

    def _comparisons(self, path: str, p50: float) -> dict[str, Any]:
        """Figures that compare a path with others, where they were timed, too."""
        if path == "cold":
            bare = statistics.median(self.ms["bare"])
            return {"bare_ms_p50": round(bare, 1), "share_of_bare": round(bare / p50, 3)}
        figures: dict[str, Any] = {}
        if path == "warm":
            size, tokens = self.cache.stats().bytes, self.results[path][-1].tokens_cached
            figures |= {"cache_bytes": size, "storage": self.plan.storage}
            figures["cache_bytes_per_1k_tokens"] = round(size / max(1, tokens) * 1000)
            if "minilm" in self.plan.paths:
                figures["faster_than_minilm"] = _median_ratio(self.ms["minilm"], self.ms[path])
        if path == "batch" and "cold" in self.plan.paths:
            figures["faster_than_cold"] = _median_ratio(self.ms["cold"], self.ms[path])
        if path in ("fill", "warm") and "cold" in self.plan.paths:
            differences = [
                abs(a - b)
                for one, other in zip(self.results["cold"], self.results[path], strict=True)
                for a, b in zip(one.scores, other.scores, strict=True)
            ]
            figures["faster_than_cold"] = _median_ratio(self.ms["cold"], self.ms[path])
            figures["faster_than_cold_cpu"] = _median_ratio(self.cpu_ms["cold"], self.cpu_ms[path])
            figures["max_score_difference"] = max(differences)
        return figures


def _median_ratio(slower_ms: Sequence[float], ms: Sequence[float]) -> float:
    """The median over rounds of the ratio of two times."""
    return round(statistics.median(a / b for a, b in zip(slower_ms, ms, strict=True)), 2)


def _median_stages(results: Sequence[Compressed]) -> dict[str, float]:
    """The median milliseconds of every stage."""
    return {
        stage: round(statistics.median(result.timings_ms[stage] for result in results), 2)
        for stage in results[-1].timings_ms
    }


def _prompt_batches(
    proxy: Proxy, passages: Sequence[Passage], question: str, window_tokens: int
) -> list[list[Prompt]]:
    ask = proxy.layout.question_tokens(question)
    cut = split_windows(proxy.layout, passages, units_of(passages), window_tokens)
    return list(token_batches([Prompt(window.tokens, ask) for window in cut], proxy.batch_tokens))


def _run_bare(proxy: Proxy, batches: Sequence[Sequence[Prompt]]) -> None:
    for batch in batches:
        _forward(proxy, batch)
    if proxy.device.type == "cuda":  # kernels run after the call returns
        torch.cuda.synchronize(proxy.device)


def _forward(proxy: Proxy, batch: Sequence[Prompt]) -> None:
    """One forward pass over a packed batch, with all layers complete and nothing recorded."""
    head = proxy.opening_kv()
    start = head[0].keys.shape[1]
    ids = [(*prompt.passage.ids, *prompt.question.ids) for prompt in batch]
    recorder = Recorder(
        layers=frozenset(),
        row_spans=[(0, 0)] * len(batch),
        lengths=[len(one) for one in ids],
        past_kv=[head] * len(batch),
    )
    positions = torch.cat([torch.arange(start, start + len(one)) for one in ids])[None]
    flat = torch.tensor([token for one in ids for token in one])[None]
    with torch.inference_mode(), use_recorder(recorder):
        proxy.model(
            input_ids=flat.to(proxy.device),
            position_ids=positions.to(proxy.device),
            use_cache=False,
        )


def _multiply(a: torch.Tensor) -> None:
    a @ a
    if a.device.type == "cuda":
        torch.cuda.synchronize(a.device)


QUESTION_TOKENS = 20
EXAMPLES = Path(__file__).parents[2] / "examples"
_WORD = re.compile(r"[\w'’-]+")
_QUESTION_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Workload:
    """The parameters of the work, printed beside the times.

    Attributes:
        text: name of the source. text_tokens: its length by the proxy's tokenizer.
        passage_tokens: of each passage except the last. question_tokens: of each question.
    """

    text: str
    text_tokens: int
    passage_tokens: int
    question_tokens: int = QUESTION_TOKENS
    seed: int = 0


class WorkloadText:
    """A text from which passages and questions are drawn.

    Raises:
        BadInput: it has fewer tokens than one passage or one question needs.
    """

    def __init__(
        self, text: str, name: str, layout: Layout, passage_tokens: int, seed: int = 0
    ) -> None:
        self.text, self.layout, self.seed = text, layout, seed
        self.offsets = layout.tokenizer.encode(text).offsets
        self.workload = Workload(name, len(self.offsets), passage_tokens, seed=seed)
        least = max(passage_tokens, 2 * QUESTION_TOKENS)
        if len(self.offsets) < least:
            raise BadInput(
                f"{name} has {len(self.offsets)} tokens and one passage takes {least}; "
                "give a longer text, or a smaller --passage-tokens"
            )

    def passages(self, tokens: int) -> list[Passage]:
        """Passages of `passage_tokens`, `tokens` in total, in an order that the seed determines.

        They are cut consecutively; at the end of the text, cutting starts again a third of a
        passage after its beginning, so that no two are equal before the text is used three times.
        """
        each = self.workload.passage_tokens
        starts = self._starts(each)
        sizes = [each] * (tokens // each) + [tokens % each] * bool(tokens % each)
        texts = [self._cut(start, size) for start, size in zip(starts, sizes, strict=False)]
        order = random.Random(self.seed).sample(range(len(texts)), len(texts))
        return [Passage(texts[i], f"passage-{i}") for i in order]

    def question(self, number: int) -> str:
        """The n-th question, of `QUESTION_TOKENS` tokens, about a phrase of the text.

        Raises:
            BadInput: no phrase of the text gives a question of that length.
        """
        generator = random.Random(f"{self.seed}/{number}")
        words = self.text.split()
        for _ in range(_QUESTION_TRIES):
            start = generator.randrange(len(words))
            for stop in range(start + 1, min(start + QUESTION_TOKENS, len(words))):
                if not _WORD.fullmatch(words[stop - 1]):
                    break
                question = f'What is "{" ".join(words[start:stop])}"?'
                # counted as in a prompt, after a space
                count = self.layout.tokenizer.count(f" {question}")
                if count == QUESTION_TOKENS:
                    return question
                if count > QUESTION_TOKENS:
                    break
        raise BadInput(f"{self.workload.text} gives no question of {QUESTION_TOKENS} tokens")

    def _starts(self, each: int) -> Iterator[int]:
        """Indices of the tokens that passages start at, without end."""
        last = len(self.offsets) - each
        thirds = (range(each * third // 3, last + 1, each) for third in range(3))
        return cycle(list(chain.from_iterable(thirds)))

    def _cut(self, start: int, size: int) -> str:
        """The text from a token on, of at most `size` tokens when it is tokenized alone."""
        stop = min(start + size, len(self.offsets))
        while True:
            cut = self.text[self.offsets[start][0] : self.offsets[stop - 1][1]]
            if stop - start <= 1 or self.layout.tokenizer.count(cut) <= size:
                return cut
            stop -= 1


def example_text() -> tuple[str, str]:
    """The text of the documents in the repository's `examples/`, and its name.

    Raises:
        BadInput: this installation of tamis does not have them.
    """
    files = sorted(file for file in EXAMPLES.glob("*/*") if file.suffix in (".md", ".html"))
    if not files:
        raise BadInput("the example documents are in the repository only; give --text FILE")
    return "\n\n".join(file.read_text("utf8") for file in files), "examples/"


ROOT = Path(__file__).resolve().parents[2]
_COMMAND = "from tamis_lab.app import run; run()"
_COMMAND_BEFORE_LAB = "from tamis.service.cli.main import run; run()"
_FRONT = "service/front"

SpeedReport = dict[str, Any]


def compare_commits(
    revision: str, words: Sequence[str], turns: int, on_run: Callable[[], None] = lambda: None
) -> dict[str, dict[str, SpeedReport]]:
    """Runs `tamis lab bench speed` of this tree and of another commit in turns, this tree first.

    Args:
        revision: the other commit, in any form that git accepts.
        words: options of the command, which both sides have. on_run: called after every run.

    Returns:
        By path and size: the medians of both sides' `ms_p50`, and of the turns' ratios.

    Raises:
        BadInput: no such commit, no git, or the other side cannot run the command.
    """
    with TemporaryDirectory(prefix="tamis-against-") as folder:
        tree = _extract_commit(revision, Path(folder) / "tree")
        theirs = _link_package(tree, Path(folder) / "theirs")
        ours = _link_package(ROOT, Path(folder) / "ours")
        runs = []
        for _ in range(turns):
            pair = []
            for side, name in ((ours, "this tree"), (theirs, revision)):
                pair.append(_run_side(side, words, name))
                on_run()
            runs.append(pair)
    return _compare_runs(runs)


def _compare_runs(runs: Sequence[Sequence[SpeedReport]]) -> dict[str, dict[str, SpeedReport]]:
    first = runs[0][0]
    return {
        path: {size: _compare_times(runs, path, size) for size in sizes}
        for path, sizes in first.items()
        if path in PATHS
    }


def _compare_times(runs: Sequence[Sequence[SpeedReport]], path: str, size: str) -> SpeedReport:
    """Medians and ratios of one path and size; `faster` above 1 means that this tree is faster."""
    times = [[side[path][size]["ms_p50"] for side in pair] for pair in runs]
    ours, theirs = (statistics.median(pair[side] for pair in times) for side in (0, 1))
    ratios = [pair[1] / pair[0] for pair in times]
    return {
        "ms_p50": round(ours, 1),
        "their_ms_p50": round(theirs, 1),
        "faster": round(statistics.median(ratios), 2),
        "faster_least": round(min(ratios), 2),
        "faster_most": round(max(ratios), 2),
        "turns": len(runs),
    }


def _extract_commit(revision: str, folder: Path) -> Path:
    """Extracts the files of a commit into a folder; the working tree stays as it is."""
    if revision.startswith("-"):
        raise BadInput(f"there is no commit {revision!r}; give a name that git knows")
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", revision]
    try:
        done = subprocess.run(command, capture_output=True, check=True)
    except FileNotFoundError as error:
        raise BadInput("--against needs git; install it, or leave the option out") from error
    except subprocess.CalledProcessError as error:
        why = error.stderr.decode("utf8", "replace").strip()
        raise BadInput(f"git has no commit {revision!r} here ({why}); see git log") from error
    folder.mkdir()
    with tarfile.open(fileobj=BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    return folder


def _link_package(tree: Path, folder: Path) -> Path:
    """Fills a folder with links under the installed names, so that Python can import the tree."""
    package = folder / "tamis"
    package.mkdir(parents=True)
    front = tree / _FRONT
    for source in [*tree.iterdir(), *(front.iterdir() if front.is_dir() else ())]:
        if source.is_dir() or source.suffix in (".py", ".pyi", ".typed"):
            link = package / source.name
            link.unlink(missing_ok=True)
            link.symlink_to(source)
    if (tree / "lab").is_dir():
        (folder / "tamis_lab").symlink_to(tree / "lab")
    return folder


def _run_side(side: Path, words: Sequence[str], name: str) -> SpeedReport:
    code = _COMMAND if (side / "tamis_lab").exists() else _COMMAND_BEFORE_LAB
    command = [sys.executable, "-c", code, "bench", "speed", *words, "--json"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(side)},
        cwd=side,
    )
    if done.returncode:
        last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
        raise BadInput(f"{name} could not run the same command: {last}")
    report: SpeedReport = json.loads(done.stdout)
    return report
