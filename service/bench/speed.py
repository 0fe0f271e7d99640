"""How fast a request is, beside the bare forward pass of the same batches.

The bare pass is the proxy's own model, cut to the same layers, over the same packed token batches,
with no row recorded and no unit scored: what is left of its speed is what tamis costs around the
model.
"""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tamis.compressors._pipeline import Compressor
from tamis.compressors._reading import windows
from tamis.compressors._registry import DEFAULT, build, depth, load_proxy
from tamis.compressors._types import Budget
from tamis.probes.capture import Recorder, recording
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Prompt, packed
from tamis.probes.proxy import Proxy
from tamis.probes.segment import units_of
from tamis.probes.text import Passage

QUESTION = (
    "Which of the settings described here has to be changed "
    "before a browser may send its cookies along?"
)


@dataclass(frozen=True, slots=True)
class Speed:
    """One row of the table: medians over rounds, in milliseconds and tokens a second."""

    tokens: int
    passages: int
    pipeline_ms: float
    bare_ms: float
    pipeline_tokens_s: float
    bare_tokens_s: float
    share_of_bare: float
    stages_ms: dict[str, float]
    peak_mb: float


def workload(text: str, proxy: Proxy, tokens: int, passage_tokens: int) -> list[Passage]:
    """Passages of whole sentences, about `passage_tokens` each, `tokens` in all; text is repeated.

    Raises:
        BadInput: the text is empty.
    """
    units = units_of([Passage(text)])
    sizes = proxy.layout.tokens.count_many([text[u.start : u.stop] for u in units])
    if not sum(sizes):
        raise BadInput("the text for the workload is empty; give a file with prose")
    passages: list[Passage] = []
    total = held = start = at = 0
    while total < tokens:
        held, total = held + sizes[at], total + sizes[at]
        if held >= passage_tokens or at == len(units) - 1 or total >= tokens:
            passages.append(Passage(text[units[start].start : units[at].stop], str(len(passages))))
            held, start = 0, (at + 1) % len(units)
        at = (at + 1) % len(units)
    return passages


def measure(
    text: str, sizes: Sequence[int], passage_tokens: int, proxy_name: str, rounds: int = 3
) -> Iterator[Speed]:
    """Times the cold pipeline and the bare pass in turn, after one untimed round of each."""
    proxy = load_proxy(proxy_name, depth(DEFAULT, proxy_name))
    compressor = Compressor(build(DEFAULT, proxy=proxy), DEFAULT, proxy.layout.tokens)
    for tokens in sizes:
        passages = workload(text, proxy, tokens, passage_tokens)
        found: list[Any] = []

        def cold(passages: list[Passage] = passages, found: list[Any] = found) -> None:
            found.append(compressor.compress(QUESTION, passages, Budget(ratio=0.1)))

        batches = _batches(proxy, passages)

        def bare(batches: list[list[Prompt]] = batches) -> None:
            for batch in batches:
                _forward(proxy, batch)

        pipeline_ms, bare_ms = _alternate(cold, bare, rounds)
        ran = found[-1].tokens_read
        stages = {name: round(ms, 1) for name, ms in found[-1].timings_ms.items()}
        yield Speed(
            tokens=found[-1].tokens_in,
            passages=len(passages),
            pipeline_ms=round(pipeline_ms, 1),
            bare_ms=round(bare_ms, 1),
            pipeline_tokens_s=round(ran / pipeline_ms * 1e3, 1),
            bare_tokens_s=round(ran / bare_ms * 1e3, 1),
            share_of_bare=round(bare_ms / pipeline_ms, 3),
            stages_ms=stages,
            peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        )


def _batches(proxy: Proxy, passages: Sequence[Passage]) -> list[list[Prompt]]:
    ask = proxy.layout.ask(QUESTION)
    cut = windows(proxy.layout, passages, units_of(passages))
    return list(packed([Prompt(window.read, ask) for window in cut], proxy.batch_tokens))


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


def _alternate(
    one: Callable[[], None], other: Callable[[], None], rounds: int
) -> tuple[float, float]:
    """Median milliseconds of both, run in turn so that a noisy machine is noisy to both."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(rounds + 1):
        for run, kept in zip((one, other), times, strict=True):
            clock = time.perf_counter()
            run()
            if turn:
                kept.append((time.perf_counter() - clock) * 1e3)
    return statistics.median(times[0]), statistics.median(times[1])
