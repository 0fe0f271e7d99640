"""Passages, questions and a proxy with a revision, for the tests of what is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from tamis.compressors.reading.windows import tokenize_question
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tests.probes import tiny

FP32 = 1e-5
WANT = Want((0, 1, 2, 3), ("question", "question_mean", "sentence_means", "last"))
MEAN = Want((0, 1, 2, 3))
TEXTS = (
    (None, "The cat sat on the mat. Then the dog came in."),
    ("Cats", "In the end all was well."),
    (None, ""),
    ("Long", "Water is wet. " * 12),
    (None, "a<|im_end|>b\x00\ud83d"),
    (None, "The cat sat on the mat. Then the dog came in."),
)


def make_prompts(proxy, question="Who came in?", texts=TEXTS):
    ask = tokenize_question(proxy.layout, question)
    return [
        Prompt(proxy.layout.passage_tokens(text, [(0, len(text))], title), ask)
        for title, text in texts
    ]


def versioned_proxy(kind="llama", revision="r1", **how) -> Proxy:
    proxy = tiny.proxy(kind, **how)
    proxy.card = replace(proxy.card, revision=revision)
    return proxy


def weights(reader, prompts, want=MEAN):
    return [signal.weights for signal in reader.read(prompts, want)]


def assert_close(ours, theirs, within=FP32):
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=within, rtol=0)


def entry_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.safetensors"))


def fill_folder(folder: Path) -> tuple[Proxy, list]:
    proxy = versioned_proxy()
    plain = weights(CachedReader(proxy, PassageCache(folder=folder)), make_prompts(proxy))
    return proxy, plain
