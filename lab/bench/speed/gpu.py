"""Everything about a GPU's speed in one run; nothing is fetched: random weights of a real shape.

    python -m tamis_lab.bench.speed.gpu         # first GPU
    python -m tamis_lab.bench.speed.gpu --device cpu --layers 2 --tokens 300 # rehearsal

The shape is that of Qwen2.5-0.5B: 24 layers, 14 query heads, 2 key heads, 896 wide, 4,864 in the
MLP. Times are those of the trained model; the attention of random weights has no meaning. The
output is one JSON object, with these fields among others:

    limit_gflops  the fastest of ten matrix products of 2048³, which shares of the limit are of
    agree         the largest difference of an attention weight, our pass against transformers' own
    cells         ours, transformers' and warm, by tokens of the context and of a passage
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from tamis.probes.model.hf_backend import random_model
from tamis.probes.model.loading import choose_device, choose_dtype
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES, PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis_lab.bench.speed.timing import MachineLimit, measure_limit

SHAPE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 32768,
}
QUESTION_TOKENS, FIRST_ROW = 31, 10


def random_proxy(layers: int, device: torch.device, dtype: torch.dtype, ours: bool) -> Proxy:
    """A proxy with the same weights at every call; `ours=False` runs transformers' own code."""
    model = random_model("qwen2", num_hidden_layers=layers, **SHAPE).to(device, dtype)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    proxy = Proxy.from_model(model, tokenizer, name="random", template=TEMPLATES["plain"])
    if not ours:
        proxy.model.layers[0].register_forward_pre_hook(lambda *_: None)
    return proxy


def random_prompts(tokens: int, passage_tokens: int) -> list[Prompt]:
    """Prompts of random ids: passages of `tokens` in total, and one question."""
    generator = random.Random(tokens)
    sizes = [passage_tokens] * max(1, tokens // passage_tokens)
    ask = QuestionTokens(tuple(generator.randrange(256) for _ in range(QUESTION_TOKENS)), FIRST_ROW)
    ids = (tuple(generator.randrange(256) for _ in range(size)) for size in sizes)
    return [Prompt(PassageTokens(one, 0, ((0, len(one)),)), ask) for one in ids]


def measure_cell(
    ours: Proxy, theirs: Proxy, prompts: Sequence[Prompt], limit: MachineLimit, rounds: int
) -> Any:
    """Times our pass, transformers' pass and cached passages in turns.

    Returns:
        Milliseconds, tokens a second and share of the limit of each.
    """
    want = Want(tuple(range(ours.depth)))
    kept = list(ours.compute_kv(prompts, want))
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: list(ours.read(prompts, want)),
        "transformers": lambda: list(theirs.read(prompts, want)),
        "warm": lambda: list(ours.read_cached(prompts, kept, want)),
    }
    ms: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            run_ms = _time_ms(run, ours.device)
            ms[name] += [run_ms] if number else []
    read = sum(map(len, prompts))
    ran = {"ours": read, "transformers": read, "warm": sum(len(p.question.ids) for p in prompts)}
    return {name: _side_figures(ms[name], read, ran[name], limit) for name in runs}


def _side_figures(
    ms: Sequence[float], read: int, ran: int, limit: MachineLimit
) -> dict[str, float]:
    p50 = statistics.median(ms)
    return {
        "ms_p50": round(p50, 2),
        "ms_least": round(min(ms), 2),
        "tokens_per_s": round(read / p50 * 1e3, 1),
        "share_of_limit": round(limit.share(ran, p50), 4),
    }


def largest_difference(ours: Proxy, theirs: Proxy) -> float:
    """The largest difference of a recorded attention weight; weights are at most 1."""
    prompts, want = random_prompts(600, 150), Want(tuple(range(ours.depth)))
    pairs = zip(ours.read(prompts, want), theirs.read(prompts, want), strict=True)
    return max(float((a.weights - b.weights).abs().max()) for a, b in pairs)


def _time_ms(run: Callable[[], Any], device: torch.device) -> float:
    _synchronize(device)
    clock = time.perf_counter()
    run()
    _synchronize(device)
    return (time.perf_counter() - clock) * 1e3


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure_gpu(options: argparse.Namespace) -> dict[str, Any]:
    """Measures with the options of the command, and returns the report."""
    device = choose_device(options.device)
    dtype = choose_dtype(options.dtype, device)
    ours, theirs = (random_proxy(options.layers, device, dtype, ours) for ours in (True, False))
    limit = measure_limit(ours)
    report = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "layers": options.layers,
        "batch_tokens": ours.batch_tokens,
        "limit_gflops": round(limit.flops / 1e9, 1),
        "agree": largest_difference(ours, theirs),
        "cells": {
            f"{tokens}/{each}": measure_cell(
                ours, theirs, random_prompts(tokens, each), limit, options.rounds
            )
            for tokens in options.tokens
            for each in options.passage_tokens
        },
    }
    if device.type == "cuda":
        report["peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return report


def argument_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--dtype", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7, help="timed ones, after one that is not")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1000, 4500, 16000, 128000])
    parser.add_argument("--passage-tokens", type=int, nargs="+", default=[170, 512])
    return parser


def main() -> None:
    """Prints the report; exits with code 2 and one line where the device is missing."""
    parser = argument_parser()
    options = parser.parse_args()
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no GPU that torch can use is here; --device cpu rehearses on the processor")
    sys.stdout.write(json.dumps(measure_gpu(options), indent=1) + "\n")


if __name__ == "__main__":
    main()
