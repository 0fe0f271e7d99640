"""Times of requests: without a cache, with an empty passage cache, and with cached passages.

    cold   no cache: every passage is read with the question
    fill   the same through an empty cache, which stores what is read
    warm   every passage is in the cache from an earlier question; each round has another question
    batch  eight questions about the same passages, one after the other, through an empty cache
    minilm the same request by a sentence encoder, a common ranker, for comparison with `warm`
    bare   transformers' forward pass over the token batches of `cold`, nothing recorded or scored:
           its share of the time of `cold` shows the overhead of tamis around the model

All paths of a round run directly after each other, so that load on the machine affects all of them.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.reading.windows import WINDOW_TOKENS, split_windows
from tamis.compressors.registry import DEFAULT, build_method
from tamis.compressors.rules import Budget
from tamis.compressors.types import Compressed
from tamis.probes.attention.linear_kernels import PackedLinear
from tamis.probes.attention.recorder import Recorder, use_recorder
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.storage import Storage
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt, token_batches
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis_lab.bench.speed.workload import WorkloadText

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
    best_ms = min(_time_ms(lambda: _multiply(a)) for _ in range(_PRODUCT_TRIES))
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
            ms = _time_ms(lambda: _run_bare(self.proxy, batches))
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


def _time_ms(run: Callable[[], Any]) -> float:
    """Milliseconds of one run."""
    clock = time.perf_counter()
    run()
    return (time.perf_counter() - clock) * 1e3
