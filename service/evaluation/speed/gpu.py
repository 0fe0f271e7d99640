"""Everything about a GPU's speed in one run; nothing is fetched: random weights of a real shape.

    python -m tamis.service.evaluation.speed.gpu         # first GPU
    python -m tamis.service.evaluation.speed.gpu --device cpu --layers 2 --tokens 300 # rehearsal

Qwen2.5-0.5B's shape: 24 layers, 14 query heads, 2 key heads, 896 wide, 4,864 in the MLP. Times say
what the model would take; what random weights attend to says nothing. One JSON object comes out:

    limit    the best of ten 2048³ products, which shares are of
    agree    the largest difference of a weight, our pass against transformers' own
    cells    ours, transformers' and warm, by tokens of the context and of a passage
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
from tamis.probes.prompt import TEMPLATES, Ask, Prompt, Read
from tamis.probes.signal import Want
from tamis.service.evaluation.speed.speed import Limit, limit_of

SHAPE = {
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "vocab_size": 4096,
    "max_position_embeddings": 32768,
}
QUESTION_TOKENS, ROW = 31, 10


def random_proxy(layers: int, device: torch.device, dtype: torch.dtype, ours: bool) -> Proxy:
    """The same weights at every call; `ours=False` runs them by transformers' own code."""
    model = random_model("qwen2", num_hidden_layers=layers, **SHAPE).to(device, dtype)
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(letters)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    proxy = Proxy.from_model(model, tokenizer, name="random", template=TEMPLATES["plain"])
    if not ours:
        proxy.model.layers[0].register_forward_pre_hook(lambda *_: None)
    return proxy


def prompts(tokens: int, passage_tokens: int) -> list[Prompt]:
    """Passages of random ids, `tokens` in all, and one question."""
    draw = random.Random(tokens)
    sizes = [passage_tokens] * max(1, tokens // passage_tokens)
    ask = Ask(tuple(draw.randrange(256) for _ in range(QUESTION_TOKENS)), ROW)
    ids = (tuple(draw.randrange(256) for _ in range(size)) for size in sizes)
    return [Prompt(Read(one, 0, ((0, len(one)),)), ask) for one in ids]


def cell(ours: Proxy, theirs: Proxy, asked: Sequence[Prompt], limit: Limit, rounds: int) -> Any:
    """Both sides and the warm way in turns: milliseconds, tokens a second, share of the limit."""
    want = Want(tuple(range(ours.depth)))
    kept = list(ours.keep(asked, want))
    runs: dict[str, Callable[[], Any]] = {
        "ours": lambda: list(ours.read(asked, want)),
        "transformers": lambda: list(theirs.read(asked, want)),
        "warm": lambda: list(ours.ask(asked, kept, want)),
    }
    ms: dict[str, list[float]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            took = _timed(run, ours.device)
            ms[name] += [took] if turn else []
    read = sum(map(len, asked))
    ran = {"ours": read, "transformers": read, "warm": sum(len(p.ask.ids) for p in asked)}
    return {name: _figures(ms[name], read, ran[name], limit) for name in runs}


def _figures(ms: Sequence[float], read: int, ran: int, limit: Limit) -> dict[str, float]:
    p50 = statistics.median(ms)
    return {
        "ms_p50": round(p50, 2),
        "ms_least": round(min(ms), 2),
        "tokens_per_s": round(read / p50 * 1e3, 1),
        "share_of_limit": round(limit.share(ran, p50), 4),
    }


def agree(ours: Proxy, theirs: Proxy) -> float:
    """The largest difference of a recorded weight; weights are at most 1."""
    asked, want = prompts(600, 150), Want(tuple(range(ours.depth)))
    pairs = zip(ours.read(asked, want), theirs.read(asked, want), strict=True)
    return max(float((a.weights - b.weights).abs().max()) for a, b in pairs)


def _timed(run: Callable[[], Any], device: torch.device) -> float:
    _wait(device)
    clock = time.perf_counter()
    run()
    _wait(device)
    return (time.perf_counter() - clock) * 1e3


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def report(given: argparse.Namespace) -> dict[str, Any]:
    """Measures what was asked for."""
    device = choose_device(given.device)
    dtype = choose_dtype(given.dtype, device)
    ours, theirs = (random_proxy(given.layers, device, dtype, ours) for ours in (True, False))
    limit = limit_of(ours)
    found = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "dtype": str(dtype).removeprefix("torch."),
        "torch": torch.__version__,
        "layers": given.layers,
        "batch_tokens": ours.batch_tokens,
        "limit_gflops": round(limit.flops / 1e9, 1),
        "agree": agree(ours, theirs),
        "cells": {
            f"{tokens}/{each}": cell(ours, theirs, prompts(tokens, each), limit, given.rounds)
            for tokens in given.tokens
            for each in given.passage_tokens
        },
    }
    if device.type == "cuda":
        found["peak_mb"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return found


def options() -> argparse.ArgumentParser:
    """What the script takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu")
    parser.add_argument("--dtype", default="auto", help="auto, bf16, fp16 or fp32")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=7, help="timed ones, after one that is not")
    parser.add_argument("--tokens", type=int, nargs="+", default=[1000, 4500, 16000, 128000])
    parser.add_argument("--passage-tokens", type=int, nargs="+", default=[170, 512])
    return parser


def main() -> None:
    """Prints the report; exit code 2 and one line where there is no such device."""
    parser = options()
    given = parser.parse_args()
    if given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error("no GPU that torch can use is here; --device cpu rehearses on the processor")
    sys.stdout.write(json.dumps(report(given), indent=1) + "\n")


if __name__ == "__main__":
    main()
