"""What a user of a GPU waits for: whole compressions, alone and many at a time, beside the model.

    python -m tamis_lab.bench.gpu                   # first GPU, the default model
    python -m tamis_lab.bench.gpu --device cpu --shape tiny --tokens 200 --requests 2

Requests go through the engine, as in the service: `cold` reads every passage, `kept` has read them
for an earlier question. Nothing is fetched: where the model is not on this machine, random weights
of its shape take its place, and a vocabulary that is learnt from the examples. Times are then those
of the trained model; the choice of sentences has no meaning. Every round has new questions. The
output is one JSON object, with these fields among others:

    weights  `trained` or `random`
    agree    the largest difference of an attention weight between the device and the CPU
    cells    by tokens of a request and requests at a time; of `cold` and `kept` each

             request_ms_p50, _max   what one request waits for
             round_ms_p50           until all of a round are answered
             read_ms_p50            `Proxy.read`, or `read_cached`, of the same prompts and no more
             read_share             the second over the first: what the rest of tamis leaves of it
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import lru_cache, partial
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tamis.compressors.features.shipped_probes import shipped_probe
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.reading.windows import split_windows, tokenize_question
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY
from tamis.compressors.rules import Budget
from tamis.probes.card import ModelCard
from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import zoo
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.model.loading import choose_device, choose_dtype
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES, Prompt
from tamis.probes.signal import Signal, Want
from tamis.service.engine.engine import Engine, EngineBounds, EngineReader, PromptCache
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.bench.generate import random_model
from tamis_lab.bench.speed import WorkloadText, example_text

SHAPES: dict[str, dict[str, Any]] = {
    DEFAULT_PROXY: {
        "kind": "llama",
        "num_hidden_layers": 30,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "max_position_embeddings": 8192,
    },
    "qwen2.5-coder-0.5b-sharp": {
        "kind": "qwen2",
        "num_hidden_layers": 24,
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "max_position_embeddings": 32768,
    },
    "tiny": {
        "kind": "llama",
        "num_hidden_layers": 2,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
    },
}
"""Of the models that tamis has probes for, and one to rehearse with."""
VOCABULARY = 4096
PASSAGE_TOKENS, KEEP_RATIO = 170, 0.2
_TIMEOUT_S = 3600.0


@lru_cache(maxsize=1)
def learnt_tokenizer() -> Tokenizer:
    """Byte-level BPE of the example documents, with ChatML's tokens."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    made.train_from_iterator([example_text()[0]], trainer)
    return made


def random_proxy(shape: str, device: torch.device, dtype: torch.dtype) -> Proxy:
    """A proxy of a shape with the same random weights at every call.

    It has the name and the revision of the model whose shape it has, so that its probe scores what
    is read, and as many layers as the probe reads.
    """
    sizes = dict(SHAPES[shape])
    kind, probe = sizes.pop("kind"), shipped_probe(DEFAULT, shape)
    layers, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
    revision = probe.card.revision if probe else "random"
    sizes["num_hidden_layers"] = probe.card.layers if probe else layers
    model = random_model(kind, vocab_size=VOCABULARY, **sizes).to(device, dtype)
    tokenizer = Tokenizer.from_str(learnt_tokenizer().to_str())
    card = ModelCard(shape, revision, layers, heads)
    return Proxy(model, tokenizer, card, TEMPLATES["chatml"], owned=True)


def load_proxy(
    shape: str, device: torch.device, dtype: torch.dtype, is_random: bool
) -> tuple[Proxy, str]:
    """The trained model, or random weights where it is not here or `is_random`; and which it is."""
    probe = shipped_probe(DEFAULT, shape)
    if not is_random and probe is not None:
        try:
            layers, place = probe.card.layers, str(device)
            return zoo.load_proxy(shape, layers=layers, dtype=dtype, device=place), "trained"
        except ProxyMissing:
            pass
    return random_proxy(shape, device, dtype), "random"


def largest_difference(ours: Proxy, exact: Proxy, prompts: Sequence[Prompt]) -> float:
    """The largest difference of an attention weight between a proxy and the same on the CPU."""
    want = Want(tuple(range(ours.depth)))
    pairs = zip(ours.read(prompts, want), exact.read(prompts, want), strict=True)
    return max(float((a.weights.cpu() - b.weights).abs().max()) for a, b in pairs)


class _Load:
    """Requests of one size through one engine: so many at a time, each with a question of its own.

    Args:
        tokens: of each request. at_once: how many there are in a round.
        cache: of passages; None reads them anew for every request.
    """

    def __init__(
        self,
        text: WorkloadText,
        proxy: Proxy,
        tokens: int,
        at_once: int,
        cache: PassageCache | None,
    ) -> None:
        self.text, self.proxy, self.at_once, self.cache = text, proxy, at_once, cache
        self.passages = text.passages(tokens)
        self.questions = 0
        units = units_of(self.passages)
        texts = [self.passages[u.passage].text[u.start : u.stop] for u in units]
        longest = max(proxy.layout.tokenizer.count_many(texts))
        self.budget = Budget(max(int(tokens * KEEP_RATIO), 2 + longest))
        self.windows = split_windows(proxy.layout, self.passages, units)
        kept = PromptCache(cache)
        room = 2 * at_once * (tokens + 100 * len(self.windows)) + 65536
        bounds = EngineBounds(room, 2 * at_once + 8, room, proxy.batch_tokens)
        self.engine = Engine(lambda: kept.wrap(proxy), bounds, None, kept.tokens_to_read)
        reader: EngineReader = self.engine.start()
        ships = shipped_probe(DEFAULT, proxy.card.name)
        method = QuestionRows(reader) if ships else QuestionRows(reader, probe=None)
        self.compressor = Compressor(method, DEFAULT, proxy.layout.tokenizer)

    def run_round(self) -> tuple[float, list[float]]:
        """Milliseconds until all are answered, and those of each request."""
        asked = [self.text.question(self.questions + n) for n in range(self.at_once)]
        self.questions += self.at_once
        with ThreadPoolExecutor(self.at_once) as pool:
            clock = time.perf_counter()
            each = list(pool.map(self._compress, asked))
            return (time.perf_counter() - clock) * 1e3, each

    def _compress(self, question: str) -> float:
        clock = time.perf_counter()
        tokens = sum(len(window.tokens.ids) for window in self.windows)
        request = self.engine.admit(tokens)
        try:
            with request.as_current():
                self.compressor.compress(question, self.passages, self.budget)
        finally:
            self.engine.release(request)
        return (time.perf_counter() - clock) * 1e3

    def prompts(self) -> list[Prompt]:
        """What the model reads for a round, were no window left out."""
        asked = [self.text.question(self.questions + n) for n in range(self.at_once)]
        layout = self.proxy.layout
        questions = [tokenize_question(layout, question) for question in asked]
        return [Prompt(window.tokens, one) for one in questions for window in self.windows]

    def close(self) -> None:
        """Ends the engine."""
        self.engine.drain(_TIMEOUT_S)


def measure_cell(
    text: WorkloadText, proxy: Proxy, tokens: int, at_once: int, rounds: int
) -> dict[str, dict[str, float]]:
    """The figures of one size and one number of requests at a time, cold and kept."""
    want = Want(tuple(range(proxy.depth)), ("sentence_means",))
    found = {}
    for way, cache in (("cold", None), ("kept", PassageCache(1 << 34))):
        load = _Load(text, proxy, tokens, at_once, cache)
        try:
            load.run_round()  # not timed: warms up, and fills the cache
            times = [load.run_round() for _ in range(rounds)]
        finally:
            load.close()
        prompts = load.prompts()
        read: Callable[[], Iterator[Signal]] = partial(proxy.read, prompts, want)
        if cache is not None:
            kept = list(proxy.compute_kv(prompts[: len(load.windows)], want)) * at_once
            read = partial(proxy.read_cached, prompts, kept, want)
        read_ms = [_time_ms(read, proxy.device) for _ in range(rounds + 1)][1:]
        found[way] = _figures(times, read_ms, sum(len(w.tokens.ids) for w in load.windows))
    return found


def _figures(
    times: Sequence[tuple[float, list[float]]], read_ms: Sequence[float], tokens: int
) -> dict[str, float]:
    """The figures of one way; `tokens_per_s` counts the tokens of all contexts of a round."""
    rounds = statistics.median(ms for ms, _ in times)
    each = [ms for _, own in times for ms in own]
    read, at_once = statistics.median(read_ms), len(times[0][1])
    return {
        "request_ms_p50": round(statistics.median(each), 2),
        "request_ms_max": round(max(each), 2),
        "round_ms_p50": round(rounds, 2),
        "read_ms_p50": round(read, 2),
        "read_share": round(read / rounds, 3),
        "requests_per_s": round(at_once / rounds * 1e3, 2),
        "tokens_per_s": round(tokens * at_once / rounds * 1e3, 1),
    }


def _time_ms(read: Callable[[], Iterator[Signal]], device: torch.device) -> float:
    _synchronize(device)
    clock = time.perf_counter()
    list(read())
    _synchronize(device)
    return (time.perf_counter() - clock) * 1e3


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def measure_gpu(options: argparse.Namespace) -> dict[str, Any]:
    """Measures with the options of the command, and returns the report."""
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    proxy, weights = load_proxy(options.shape, device, dtype, options.random)
    exact, _ = load_proxy(options.shape, torch.device("cpu"), dtype, weights == "random")
    source, name = example_text()
    text = WorkloadText(source, name, proxy.layout, PASSAGE_TOKENS)
    passages: list[Passage] = text.passages(4 * PASSAGE_TOKENS)
    windows = split_windows(proxy.layout, passages, units_of(passages))
    ask = tokenize_question(proxy.layout, text.question(0))
    report = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "model": asdict(proxy.card),
        "weights": weights,
        "layers_read": proxy.depth,
        "batch_tokens": proxy.batch_tokens,
        "rounds": options.rounds,
        "agree": largest_difference(proxy, exact, [Prompt(one.tokens, ask) for one in windows]),
        "cells": {
            f"{tokens}/{at_once}": measure_cell(text, proxy, tokens, at_once, options.rounds)
            for tokens in options.tokens
            for at_once in options.requests
        },
    }
    if device.type == "cuda":
        report["peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return report


def argument_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, mps or cpu")
    parser.add_argument("--dtype", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--shape", default=DEFAULT_PROXY, choices=SHAPES, help="of the model")
    parser.add_argument("--random", action="store_true", help="random weights in any case")
    parser.add_argument("--rounds", type=int, default=7, help="timed ones, after one that is not")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1100, 4500])
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 64], help="at a time")
    return parser


def main() -> None:
    """Prints the report; exits with code 2 and one line where the device is missing."""
    parser = argument_parser()
    options = parser.parse_args()
    is_missing = {
        "cuda": not torch.cuda.is_available(),
        "mps": not torch.backends.mps.is_available(),
    }
    kind = options.device.partition(":")[0]
    if is_missing.get(kind):
        parser.error(
            f"no GPU that torch can use as {kind} is here, and no time was measured; rehearse on "
            "the processor with --device cpu --shape tiny --tokens 200 --requests 2 --rounds 1"
        )
    sys.stdout.write(json.dumps(measure_gpu(options), indent=1) + "\n")


if __name__ == "__main__":
    main()
