"""One long prompt through the layers of a decoder, with what a pattern leaves out left out.

The layers are those of `model.forward`; tokens that a pattern drops leave the pass, so that their
linear layers are saved, too. The deepest layer computes the question's rows alone, as the product
does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis.probes.model.forward import Rotation
from tamis_lab.methods.prefill import block_attention
from tamis_lab.methods.prefill.block_attention import BlockWeights
from tamis_lab.methods.prefill.contract import (
    BLOCK,
    PromptShape,
    Sight,
    count_blocks,
    group_heads,
    with_forced,
)


@dataclass(slots=True)
class Prefilled:
    """What a pass over one prompt gives.

    Attributes:
        rows: of each layer, the question's rows over all n tokens, 0 for those that did not come so
            far: `[H, R, n]` fp32.
        alive: of each layer, the tokens that came so far.
        seen: of each layer, the blocks multiplied, of the tokens that came so far, `[Hkv, B, B]`;
            None for all, or where weights were taken from another layer.
        own: of each layer, whether its rows are its own.
        apart: whether passages did not see each other.
        states: that enter the deepest layer, of its tokens: `[m, D]`.
        products: of blocks, logits and values each counted as one half. dense: of a dense pass.
    """

    rows: list[Tensor] = field(default_factory=list)
    alive: list[Tensor] = field(default_factory=list)
    seen: list[Tensor | None] = field(default_factory=list)
    own: list[bool] = field(default_factory=list)
    apart: bool = False
    states: Tensor = field(default_factory=lambda: torch.empty(0))
    products: float = 0.0
    dense: float = 0.0

    @property
    def density(self) -> float:
        """Blocks multiplied, as a share of a dense pass's."""
        return self.products / self.dense


def prefill(
    proxy: Any, ids: Sequence[int], shape: PromptShape, sight: Sight | None = None
) -> Prefilled:
    """Runs one prompt.

    Args:
        proxy: a `Proxy`. ids: `shape.tokens` of them, from the prompt's first on.
        sight: of a pattern, made under `with proxy.device`; None for the dense pass.

    Raises:
        BadInput: a prompt beyond the model's context, or more layers than are loaded.
        ProxyUnsupported: a model that the pass of tamis does not run.
    """
    if len(ids) > proxy.context_tokens:
        raise BadInput(f"{len(ids)} tokens are given and {proxy.card.name} takes fewer; cut them")
    if shape.layers > proxy.depth or shape.tokens != len(ids):
        raise BadInput(
            f"{shape.layers} layers of {proxy.depth} and {shape.tokens} tokens of {len(ids)} do "
            "not agree"
        )
    forward = proxy._runner.own_forward()
    if forward is None or any(layer.window for layer in forward.layers[: shape.layers]):
        raise ProxyUnsupported(f"{proxy.card.name} is not run by the pass of tamis without windows")
    # patterns make their tensors without a device: here that is the model's
    with proxy._lock, torch.inference_mode(), proxy.device:
        return _Pass(forward, shape, sight or Sight()).run(torch.tensor(ids))


class _Pass:
    def __init__(self, forward: Any, shape: PromptShape, sight: Sight) -> None:
        self._forward, self._shape, self._sight = forward, shape, sight
        self._segments = sight.segments()
        self._alive = torch.arange(shape.tokens)
        self._kept: dict[int, BlockWeights] = {}
        self._kept_rows: dict[int, Tensor] = {}
        reused = (sight.reuse(layer) for layer in range(shape.layers))
        self._sources = {source for source in reused if source is not None}
        self.found = Prefilled(apart=self._segments is not None)

    def run(self, ids: Tensor) -> Prefilled:
        forward, shape = self._forward, self._shape
        states = forward.model.embed_tokens(ids)
        places = self._sight.positions()
        places = torch.arange(len(ids)) if places is None else places
        cos, sin = forward.model.rotary_emb(states[None], position_ids=places[None])
        rotation = Rotation.from_angles(cos[0], sin[0])
        for number in range(shape.layers):
            layer = forward.layers[number]
            queries, keys, values = self._project(layer, states, rotation)
            queries = queries * layer.scale
            if number == shape.layers - 1:
                self._rows(number, queries, keys)
                self.found.states = states
                return self.found
            attended = self._attend(number, queries, keys, values)
            onward = self._sight.onward(number, self._last)
            if onward is not None:
                states, attended, rotation = states[onward], attended[onward], _at(rotation, onward)
                self._alive = self._alive[onward]
            attended = attended.reshape(len(states), -1)
            for tile in forward._tiles(len(states)):
                layer.add_feed_forward(states[tile], attended[tile])
        raise BadInput("no layer is to be run")

    def _project(self, layer: Any, states: Tensor, rotation: Rotation) -> list[Tensor]:
        """Queries `[H, m, d]`, keys and values `[Hkv, m, d]` of the tokens that came so far."""
        forward = self._forward
        heads = states.new_empty(len(states), forward.heads + 2 * forward.kv_heads, forward.size)
        for tile in forward._tiles(len(states)):
            forward._project(layer, states[tile], rotation.select(tile), heads[tile])
        return [part[0].contiguous() for part in forward._split(heads)]

    def _attend(self, number: int, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One layer's attention, `[m, H, d]`, its rows noted."""
        source, R = self._sight.reuse(number), self._shape.rows
        if source is not None:
            output = block_attention.reuse_weights(self._kept[source], values, len(queries))
            self._note(number, self._kept_rows[source], None, 0.5 * self._full(len(self._alive)))
            return output
        seen = self._seen(number, queries, keys)
        kept = BlockWeights() if number in self._sources else None
        if seen is None and kept is None and self._segments is None:
            output = block_attention.attend_dense(queries, keys, values)
        else:
            blocks = block_attention.whole(len(self._alive), len(keys)) if seen is None else seen
            output = block_attention.attend_blocks(
                queries, keys, values, blocks, self._segments, kept
            )
        products = self._full(len(self._alive)) if seen is None else float(seen.sum())
        rows = block_attention.row_weights(queries, keys, R, self._segments)
        self._note(number, rows, seen, products)
        if kept is not None:
            self._kept, self._kept_rows = {number: kept}, {number: rows}
        edited = self._sight.edit_rows(number, rows)
        if edited is not None:
            shared = edited.reshape(len(values), -1, edited.shape[-1]) @ values
            output[-R:] = shared.view(len(queries), R, -1).transpose(0, 1)
        return output

    def _rows(self, number: int, queries: Tensor, keys: Tensor) -> None:
        """The deepest layer: the question's rows alone, in the dense pass as well."""
        rows = block_attention.row_weights(queries, keys, self._shape.rows, self._segments)
        self._note(number, rows, None, 0.0, deepest=True)

    def _seen(self, number: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        asked = self._sight.blocks(number, queries, keys)
        if asked is None:
            return None
        dense_from = (len(self._alive) - self._shape.rows) // BLOCK
        if len(asked) != len(keys):
            asked = group_heads(asked, len(keys))
        return with_forced(asked, dense_from)

    def _full(self, tokens: int) -> float:
        blocks = count_blocks(tokens)
        return float(self._forward.kv_heads * blocks * (blocks + 1) / 2)

    def _note(
        self,
        number: int,
        rows: Tensor,
        seen: Tensor | None,
        products: float,
        deepest: bool = False,
    ) -> None:
        found, self._last = self.found, rows
        spread = rows.new_zeros(*rows.shape[:2], self._shape.tokens, dtype=torch.float32)
        spread[..., self._alive] = rows.float()
        found.rows.append(spread)
        found.alive.append(self._alive)
        found.seen.append(seen)
        found.own.append(self._sight.reuse(number) is None)
        found.products += products
        found.dense += 0.0 if deepest else self._full(self._shape.tokens)


def _at(rotation: Rotation, ids: Tensor) -> Rotation:
    return Rotation(rotation.cos[ids], rotation.sin[ids], rotation.neg_sin[ids])
