"""How fast a request is: cold, through an empty passage cache, and of passages that are kept.

    cold   no cache: every passage is read with the question
    fill   the same through an empty cache, which keeps what is read
    warm   every passage is in the cache from an earlier question; each round asks another question
    batch  eight questions about the same passages, one after the other, through an empty cache
    minilm the same request by a sentence encoder, which is what many rank with: a peer of `warm`
    bare   transformers' forward pass over the token batches of `cold`, nothing recorded or scored:
           what is left of its speed is what tamis costs around the model

All of a round follow each other, so that a noisy machine is noisy to all.
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
from tamis.compressors.reading.windows import WINDOW_TOKENS, windows
from tamis.compressors.registry import DEFAULT, build_method
from tamis.compressors.types import Budget, Compressed
from tamis.probes.attention.linear_kernels import Packed
from tamis.probes.attention.recorder import Recorder, recording
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache, Storage
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt, packed
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis.service.evaluation.speed.workload import Text

PATHS = ("cold", "fill", "warm", "batch", "minilm")
QUESTIONS = 8
"""Asked of the same passages by one run of `batch`."""

_ROOMY = 1 << 40  # a cache whose limits are never met
_CUBE, _TRIES = 2048, 10
_ATTENDING = ("q_proj", "k_proj", "v_proj", "qkv")
_RATIO = 0.1  # of the context is kept, or as much as its longest unit takes


@dataclass(frozen=True, slots=True)
class Plan:
    """What to time.

    Attributes:
        tokens: sizes of the context. paths: of `PATHS`, in that order.
        rounds: timed ones; one more is run before.
        storage: of kept passages.
    """

    tokens: Sequence[int]
    paths: Sequence[str]
    rounds: int
    storage: Storage = "exact"

    def __post_init__(self) -> None:
        if wrong := [path for path in self.paths if path not in PATHS]:
            raise BadInput(f"there is no path {wrong[0]!r}; give some of {', '.join(PATHS)}")


@dataclass(frozen=True, slots=True)
class Limit:
    """The machine's own pace: the best of ten products of two 2048³ matrices.

    Attributes:
        flops: operations a second, in the proxy's dtype and number of threads.
        weights: linear weights that a token is multiplied with; in the last layer, whose rows are
            read and no more, those of query, key and value.
    """

    flops: float
    weights: int

    def share(self, tokens: float, ms: float) -> float:
        """Operations that `tokens` need, over those that the machine could do in the time."""
        return 2 * self.weights * tokens / (ms / 1e3) / self.flops


def limit_of(proxy: Proxy) -> Limit:
    """Times the machine."""
    a = torch.randn(_CUBE, _CUBE, device=proxy.device).to(proxy.dtype)
    best = min(_timed(lambda: _multiplied(a)) for _ in range(_TRIES))
    return Limit(2 * _CUBE**3 / (best / 1e3), linear_weights(proxy, proxy.depth))


def linear_weights(proxy: Proxy, depth: int) -> int:
    """Linear weights that a token is multiplied with where the first `depth` layers are read.

    Of the last one only those of query, key and value: its rows are read and no more.
    """
    return sum(
        module.in_features * module.out_features
        for number, layer in enumerate(proxy.body.layers[:depth])
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear | Packed)
        and (number < depth - 1 or any(part in name for part in _ATTENDING))
    )


def measure(
    text: Text, proxy: Proxy, plan: Plan, hear: Callable[[], None] = lambda: None
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Path, size and its cell, one after the other; `hear` is called after every round."""
    limit = limit_of(proxy)
    for tokens in plan.tokens:
        yield from _Size(text, proxy, plan, tokens).cells(limit, hear)


class _Size:
    """One size of the context: its passages, its requests, their times."""

    def __init__(self, text: Text, proxy: Proxy, plan: Plan, tokens: int) -> None:
        self.text, self.proxy, self.plan, self.tokens = text, proxy, plan, tokens
        self.passages = text.passages(tokens)
        counter = proxy.layout.tokens
        self.budget = self._budget()
        self.window_tokens = max(WINDOW_TOKENS, text.work.passage_tokens)
        self.cache = PassageCache(_ROOMY, storage=plan.storage)
        self.plain, self.kept = self._over(proxy), self._over(CachedReader(proxy, self.cache))
        self.ms: dict[str, list[float]] = {path: [] for path in (*PATHS, "bare")}
        self.cpu_ms: dict[str, list[float]] = {path: [] for path in PATHS}
        self.found: dict[str, list[Compressed]] = {path: [] for path in PATHS}
        encoded = "minilm" in plan.paths
        self.encoder = Compressor(build_method("embedding"), "embedding", counter) if encoded else None

    def cells(
        self, limit: Limit, hear: Callable[[], None]
    ) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Times every round, then yields what came of it, path by path."""
        for turn in range(self.plan.rounds + 1):
            self._round(turn)
            hear()
        for path in self.plan.paths:
            yield path, str(self.tokens), self._cell(path, limit)

    def _budget(self) -> Budget:
        counter, units = self.proxy.layout.tokens, units_of(self.passages)
        texts = [self.passages[u.passage].text[u.start : u.stop] for u in units]
        return Budget(max(int(self.tokens * _RATIO), 2 + max(counter.count_many(texts))))

    def _over(self, reader: Any) -> Compressor:
        method = build_method(DEFAULT, proxy=reader, window_tokens=self.window_tokens)
        return Compressor(method, DEFAULT, self.proxy.layout.tokens)

    def _round(self, turn: int) -> None:
        """Every path once, and the bare pass; the first round warms up, and fills the cache."""
        for path in self.plan.paths:
            asked = [self.text.question(turn)]
            if path == "batch":
                asked += [self.text.question(1000 * turn + n) for n in range(1, QUESTIONS)]
            over = self._reader(path)
            gc.collect()
            clock, cpu = time.perf_counter(), time.process_time()
            found = [over.compress(question, self.passages, self.budget) for question in asked]
            if turn:
                self.ms[path].append((time.perf_counter() - clock) * 1e3 / len(asked))
                self.cpu_ms[path].append((time.process_time() - cpu) * 1e3 / len(asked))
                self.found[path] += found
        if "cold" in self.plan.paths:
            asked = [self.text.question(turn)]
            batches = _batches(self.proxy, self.passages, asked[0], self.window_tokens)
            ms = _timed(lambda: _bare(self.proxy, batches))
            self.ms["bare"] += [ms] if turn else []

    def _reader(self, path: str) -> Compressor:
        if path in ("fill", "batch"):
            return self._filling()
        if path == "minilm" and self.encoder is not None:
            return self.encoder
        return self.plain if path == "cold" else self.kept

    def _filling(self) -> Compressor:
        return self._over(CachedReader(self.proxy, PassageCache(_ROOMY, storage=self.plan.storage)))

    def _cell(self, path: str, limit: Limit) -> dict[str, Any]:
        """Times in milliseconds, and what they are of.

        Of a question each. `tokens_per_s` counts the context's tokens; `share_of_limit` those that
        ran. `cpu_ms_p50` is the processor's time, which is steadier on a busy machine.
        """
        ms, found = self.ms[path], self.found[path]
        p50 = statistics.median(ms)
        last = found[-1]
        read = statistics.mean(one.tokens_read for one in found)
        cell = {
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
            "stages_ms": _stages(found),
            "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        }
        if path != "minilm":
            cell["share_of_limit"] = round(limit.share(read, p50), 4)
            cell |= {"limit_gflops": round(limit.flops / 1e9, 1), "linear_weights": limit.weights}
        return cell | self._beside(path, p50)

    def _beside(self, path: str, p50: float) -> dict[str, Any]:
        """What compares a path with another, where both were timed."""
        if path == "cold":
            bare = statistics.median(self.ms["bare"])
            return {"bare_ms_p50": round(bare, 1), "share_of_bare": round(bare / p50, 3)}
        beside: dict[str, Any] = {}
        if path == "warm":
            held, tokens = self.cache.stats().bytes, self.found[path][-1].tokens_cached
            beside |= {"cache_bytes": held, "storage": self.plan.storage}
            beside["cache_bytes_per_1k_tokens"] = round(held / max(1, tokens) * 1000)
            if "minilm" in self.plan.paths:
                beside["faster_than_minilm"] = _ratio(self.ms["minilm"], self.ms[path])
        if path == "batch" and "cold" in self.plan.paths:
            beside["faster_than_cold"] = _ratio(self.ms["cold"], self.ms[path])
        if path in ("fill", "warm") and "cold" in self.plan.paths:
            apart = [
                abs(a - b)
                for one, other in zip(self.found["cold"], self.found[path], strict=True)
                for a, b in zip(one.scores, other.scores, strict=True)
            ]
            beside["faster_than_cold"] = _ratio(self.ms["cold"], self.ms[path])
            beside["faster_than_cold_cpu"] = _ratio(self.cpu_ms["cold"], self.cpu_ms[path])
            beside["max_score_difference"] = max(apart)
        return beside


def _ratio(cold: Sequence[float], other: Sequence[float]) -> float:
    """The median over rounds of how many times as long the cold one took."""
    return round(statistics.median(a / b for a, b in zip(cold, other, strict=True)), 2)


def _stages(found: Sequence[Compressed]) -> dict[str, float]:
    """The median of every stage."""
    return {
        stage: round(statistics.median(one.timings_ms[stage] for one in found), 2)
        for stage in found[-1].timings_ms
    }


def _batches(
    proxy: Proxy, passages: Sequence[Passage], question: str, limit: int
) -> list[list[Prompt]]:
    ask = proxy.layout.ask(question)
    cut = windows(proxy.layout, passages, units_of(passages), limit)
    return list(packed([Prompt(window.read, ask) for window in cut], proxy.batch_tokens))


def _bare(proxy: Proxy, batches: Sequence[Sequence[Prompt]]) -> None:
    for batch in batches:
        _forward(proxy, batch)


def _forward(proxy: Proxy, batch: Sequence[Prompt]) -> None:
    """One pass over a packed batch, every layer whole, nothing recorded."""
    head = proxy.head()
    start = head[0].keys.shape[1]
    ids = [(*prompt.read.ids, *prompt.ask.ids) for prompt in batch]
    recorder = Recorder(
        layers=frozenset(),
        row_spans=[(0, 0)] * len(batch),
        lengths=[len(one) for one in ids],
        past=[head] * len(batch),
    )
    positions = torch.cat([torch.arange(start, start + len(one)) for one in ids])[None]
    flat = torch.tensor([token for one in ids for token in one])[None]
    with torch.inference_mode(), recording(recorder):
        proxy.model(
            input_ids=flat.to(proxy.device),
            position_ids=positions.to(proxy.device),
            use_cache=False,
        )


def _multiplied(a: torch.Tensor) -> None:
    a @ a
    if a.device.type == "cuda":
        torch.cuda.synchronize(a.device)


def _timed(run: Callable[[], Any]) -> float:
    """Milliseconds of one run."""
    clock = time.perf_counter()
    run()
    return (time.perf_counter() - clock) * 1e3
