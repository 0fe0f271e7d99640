"""The final states of a decoder whose attention is edited on the way, for what needs its output.

The pass of tamis has no output, so transformers runs the model; gradients flow where an edit has
parameters that want them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.attention.recorder import Recorder, use_recorder
from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.heads import Head
from tamis_lab.methods.window_attention.visitor import PassEdit, VisitedAttention


class MaskedHeads(PassEdit):
    """Heads whose output is nothing."""

    def __init__(self, heads: Sequence[Head]) -> None:
        """`heads` are (layer, query head)."""
        self._heads = {layer: [h for at, h in heads if at == layer] for layer, _ in heads}

    def output(self, layer: int, output: Tensor) -> Tensor:
        """The outputs, those of the masked heads 0."""
        if layer not in self._heads:
            return output
        kept = output.clone()
        kept[self._heads[layer]] = 0
        return kept


def final_states(
    proxy: Proxy, ids: Sequence[int], edit: PassEdit | None = None, gradient: bool = False
) -> Tensor:
    """The states of all tokens after the last norm: `[N, D]` fp32.

    Args:
        proxy: loaded whole. ids: from the prompt's first token on.
        gradient: keep what the gradient of the edit's parameters needs.

    Raises:
        BadInput: the prompt is beyond the model's context, or the proxy was not loaded whole.
    """
    if len(ids) > proxy.context_tokens:
        raise BadInput(f"{len(ids)} tokens are given and {proxy.card.name} takes fewer; cut them")
    if proxy.depth < proxy.card.layers:
        raise BadInput(f"{proxy.card.name} has {proxy.depth} of {proxy.card.layers} layers loaded")
    attention = VisitedAttention([len(ids)], (), (), edit)
    recorder = Recorder(frozenset(), (), lengths=(), custom_attention=attention)
    given = torch.tensor([ids], device=proxy.device)
    places = torch.arange(len(ids), device=proxy.device)[None]
    model = proxy.model
    with proxy._lock, torch.set_grad_enabled(gradient), use_recorder(recorder):
        out = model(input_ids=given, position_ids=places, use_cache=False)
    states: Tensor = out.last_hidden_state[0].float()
    return states


def unembedding(proxy: Proxy) -> Tensor:
    """The rows that turn final states into logits, for models that tie them: `[V, D]`.

    Raises:
        ProxyUnsupported: the model has rows of its own, which a proxy does not load.
    """
    if not getattr(proxy.config, "tie_word_embeddings", False):
        raise ProxyUnsupported(
            f"{proxy.card.name} does not tie its output to its embeddings; a proxy has no others"
        )
    weight: Tensor = proxy.body.embed_tokens.weight
    return weight


def token_losses(states: Tensor, rows: Tensor, ids: Sequence[int]) -> Tensor:
    """-log p of every token but the first, from the states before it: `[N - 1]` fp32."""
    logits = states[:-1].to(rows.dtype) @ rows.T
    return torch.nn.functional.cross_entropy(
        logits.float(), torch.tensor(ids[1:], device=logits.device), reduction="none"
    )
