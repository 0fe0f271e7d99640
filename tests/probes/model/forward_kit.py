"""Every way to read a few prompts, by our pass and by transformers."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

from torch import Tensor

from tamis.compressors.reading.windows import tokenize_question
from tamis.probes.model.forward import is_supported
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES, Prompt
from tamis.probes.signal import Want
from tests.probes import tiny

OURS = ("llama", "qwen2", "qwen3")
WANT = Want((0, 1, 3), ("question", "question_mean", "sentence_means", "last"))


def prompts(proxy: Proxy) -> list[Prompt]:
    asked = (("Cats sit. " * 3, "Who?"), ("It rains in the hills. " * 20, "Where?"), ("", "Why?"))
    # longer than the 512 keys that attention takes at once
    asked += (("Emus hop over the low hills, very far. " * 18, "Who hops? In the hills. Far?"),)
    return [
        Prompt(
            proxy.layout.passage_tokens(text, [(0, len(text))], "On animals"),
            tokenize_question(proxy.layout, question),
        )
        for text, question in asked
    ]


def run_by_transformers(proxy: Proxy) -> Proxy:
    """A proxy over a copy of the model that somebody hooks into: transformers runs it."""
    twin = Proxy.from_model(deepcopy(proxy.model), tiny.tokenizer(), template=TEMPLATES["chatml"])
    twin.model.layers[0].register_forward_hook(lambda *_: None)
    assert not is_supported(twin.model)
    return twin


def readings(proxy: Proxy) -> Iterator[Tensor]:
    """Weights of every way to read: cold, keeping, kept."""
    asked = prompts(proxy)
    kept = list(proxy.compute_kv(asked, WANT))
    yield from (signal.weights for signal in proxy.read(asked, WANT))
    for signal, states in proxy.read_with_kv(asked, WANT):
        yield signal.weights
        yield from (part for layer in states for part in (layer.keys, layer.values))
    yield from (signal.weights for signal in proxy.read_cached(asked, kept, WANT))
