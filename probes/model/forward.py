"""The forward pass of tamis over Llama-like decoders: Llama, Qwen2 and Qwen3.

The model is a `decoder.Decoder` or one of transformers' classes; its weights, rotary angles and
configuration are used. Transformers' code is the oracle in the tests. The pass differs from it:

    one row of tokens       packed prompts are `[N, D]` from the first layer to the last
    few passes over memory  norm, rotation and gate: on a CPU in bf16 they are bound by memory
    packed weights          in the layout that oneDNN multiplies, see `attention.linear_kernels`
    whole numbers           behind attention, where they are faster
    attention only          it ends with the attention of the last layer; there is no output

Any other model, and one with hooks, is run by transformers. Costs of the alternatives:
lab/log/speed.md#2026-11-24-our-own-forward-pass.

    states [N, I] ─ each token's largest ─► int8 [N, I] · scale [N, 1] ┐
    weight [O, I] ─ each row's largest ───► int8 [I, O] · scale [O] ───┴─► int32 [N, O] ─► fp32

Processors with VNNI multiply int8 at twice the rate of bf16. Each token's states and each output of
a weight have a scale of their own (LLM.int8(), arXiv 2208.07339, §2.1). Departure: outlying
channels are not multiplied apart; at the sizes of a proxy no channel needs it. Query, key and value
stay in bf16: they are a seventh of the work, and rounding them moves scores most. Figures:
lab/log/speed.md#2026-11-27-int8-after-attention.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import rms_norm, silu

from tamis.probes.attention.linear_kernels import (
    PackedLinear,
    Product,
    can_fuse,
    can_join,
    join,
    make_products,
    pack,
    raise_malloc_threshold,
)
from tamis.probes.attention.recorder import AttentionInput
from tamis.probes.attention.rounding.int8 import Int8Vectors
from tamis.probes.errors import ProxyUnsupported
from tamis.probes.model.decoder import HIDDEN_ACT, Decoder

_EPS_SHARE = 2.0**-12
"""The largest share of a squared norm at which `eps` is ignored: an eighth of bf16's step."""
BLOCK_TOKENS = 256
"""Tokens whose products and element-wise steps are done together, so that they stay in cache; of
several threads, four times as many, since each waits for the others at every step."""


class RmsNorm:
    """Root mean square normalisation (Zhang and Sennrich 2019, arXiv 1910.07467, §4).

    On a CPU in bf16 it uses torch's operation for weight normalisation, which scales every row to a
    given length in one pass over memory, four times as fast as `rms_norm`. It has no `eps`, so
    states with a row for which `eps` matters are left to `rms_norm`.
    """

    def __init__(self, weight: Tensor, eps: float) -> None:
        self.weight, self.eps = weight, eps
        self.min_squared_norm = eps * weight.numel() / _EPS_SHARE
        root = math.sqrt(weight.numel())
        self._length = weight.new_full((1, 1), root)
        # the length is rounded to the dtype; the rounding error goes into the weight
        self._adjusted_weight = (
            weight.detach().float() * (root / self._length.float().view(()))
        ).to(weight)

    def __call__(self, states: Tensor) -> Tensor:
        """`[N, D]` to `[N, D]`."""
        if can_fuse(states):
            lengths = self._length.expand(len(states), 1).contiguous()
            scaled, norms = torch._weight_norm_interface(states, lengths, 0)
            if float(norms.amin()) ** 2 > self.min_squared_norm:
                return scaled.mul_(self._adjusted_weight)
        return rms_norm(states, self.weight.shape, self.weight, self.eps)


@dataclass(frozen=True, slots=True)
class Rotation:
    """Rotation by position (RoPE, Su et al. 2021, arXiv 2104.09864, §3.4) of a pass's tokens.

    Attributes:
        cos, sin, neg_sin: cosine, sine and negated sine of the angles: `[N, 1, d/2]`.
    """

    cos: Tensor
    sin: Tensor
    neg_sin: Tensor

    @classmethod
    def from_angles(cls, cos: Tensor, sin: Tensor) -> Rotation:
        """From cos and sin `[N, d]` as transformers returns them, with two equal halves."""
        half = cos.shape[-1] // 2
        cos, sin = cos[:, None, :half], sin[:, None, :half]
        return cls(cos, sin, -sin)

    def select(self, tile: slice) -> Rotation:
        """The rotation of a slice of the tokens."""
        return Rotation(self.cos[tile], self.sin[tile], self.neg_sin[tile])

    def __call__(self, states: Tensor, out: Tensor) -> None:
        """Rotates `[N, heads, d]` into `out`, of the same shape, in four passes over half of it."""
        half = self.cos.shape[-1]
        a, b = states[..., :half], states[..., half:]
        left, right = out[..., :half], out[..., half:]
        torch.mul(a, self.cos, out=left).addcmul_(b, self.neg_sin)
        torch.mul(b, self.cos, out=right).addcmul_(a, self.sin)


@dataclass(frozen=True, slots=True)
class RollingRotation:
    """The same rotation in three calls, for devices where calls are slow to start.

    Attributes:
        cos, sin: `[N, 1, d]`, the first half of the sine negated.
    """

    cos: Tensor
    sin: Tensor

    @classmethod
    def from_angles(cls, cos: Tensor, sin: Tensor) -> RollingRotation:
        """From cos and sin `[N, d]` as transformers returns them, with two equal halves."""
        half = sin.shape[-1] // 2
        return cls(cos[:, None], torch.cat((-sin[:, :half], sin[:, half:]), 1)[:, None])

    def select(self, tile: slice) -> RollingRotation:
        """The rotation of a slice of the tokens."""
        return RollingRotation(self.cos[tile], self.sin[tile])

    def __call__(self, states: Tensor, out: Tensor) -> None:
        """Rotates `[N, heads, d]` into `out`, of the same shape, which may be the same memory."""
        other = states.roll(states.shape[-1] // 2, -1)
        torch.mul(states, self.cos, out=out)
        out.addcmul_(other, self.sin)


def swiglu(states: Tensor, gate: Product, up: Product) -> Tensor:
    """SwiGLU (Shazeer 2020, arXiv 2002.05202, §2): `silu(gate(x)) * up(x)`, `[N, D]` to `[N, F]`.

    Where products can be fused, both steps happen while a tile is in cache.
    """
    if can_fuse(states):
        return up.multiply(states, gate.silu(states))
    return silu(gate(states), inplace=True).mul_(up(states))


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A weight as integers from -127 to 127.

    Attributes:
        codes: `[I, O]` int8. scale: `[O]` fp32; a column is its codes times its scale.
    """

    codes: Tensor
    scale: Tensor

    @classmethod
    def quantize(cls, product: Product) -> Int8Weight:
        """The weight of a product without a bias."""
        weight = product.weight.detach()
        rows = Int8Vectors.quantize(weight.to_dense() if weight.is_mkldnn else weight)
        return cls(rows.codes.T.contiguous(), rows.scales[:, 0])


def multiply(states: Int8Vectors, weight: Int8Weight) -> Tensor:
    """States `[N, I]` times a weight: `[N, O]` fp32."""
    sums: Tensor = torch._int_mm(states.codes, weight.codes)
    return torch.mul(sums, weight.scale).mul_(states.scales)


@dataclass(frozen=True, slots=True)
class Int8FeedForward:
    """A layer from its attention on: output projection, norm, SwiGLU (arXiv 2002.05202, §2)."""

    out: Int8Weight
    norm: RmsNorm
    gate: Int8Weight
    up: Int8Weight
    down: Int8Weight

    @classmethod
    def quantize(
        cls, out: Product, norm: RmsNorm, gate: Product, up: Product, down: Product
    ) -> Int8FeedForward:
        """From a layer's products, which have no biases; their weights stay beside these."""
        weights = [Int8Weight.quantize(product) for product in (out, gate, up, down)]
        return cls(weights[0], norm, *weights[1:])

    def add(self, states: Tensor, attended: Tensor) -> None:
        """Adds what follows attention to states `[N, D]`, in place."""
        size = BLOCK_TOKENS if torch.get_num_threads() == 1 else 4 * BLOCK_TOKENS
        blocks = (torch.split(part, size) for part in (states, attended))
        for some, own in zip(*blocks, strict=True):
            some.add_(multiply(Int8Vectors.quantize(own), self.out))
            normed = Int8Vectors.quantize(self.norm(some))
            hidden = silu(multiply(normed, self.gate), inplace=True)
            hidden.mul_(torch._int_mm(normed.codes, self.up.codes)).mul_(self.up.scale)
            gated = Int8Vectors.quantize(hidden)
            # the states' scale is the same for all of a token's gated units, so it comes last
            gated.scales.mul_(normed.scales)
            some.add_(multiply(gated, self.down))


AttentionFunction = Callable[[AttentionInput], Tensor]
"""The attention of one layer: `[1, N, H, d]`."""

SUPPORTED_CLASSES = frozenset({"LlamaModel", "Qwen2Model", "Qwen3Model"})
"""The classes of transformers that this pass supports."""
_TRANSFORMERS_MODELS = "transformers.models."

TILE_TOKENS = 2048
"""Tokens that are processed together outside attention: this bounds the memory of a long prompt.
Fewer are no faster, see lab/log/speed.md#2026-11-24-our-own-forward-pass."""
DEVICE_TILE_TOKENS = 16384
"""The same on other devices than the CPU, where each tile costs calls: a whole batch."""

_QKV = ("q_proj", "k_proj", "v_proj")
_GATE_UP = ("gate_proj", "up_proj")
_PROJECTIONS = (
    ("self_attn", _QKV),
    ("self_attn", ("o_proj",)),
    *(("mlp", (name,)) for name in ("gate_proj", "up_proj", "down_proj")),
)


def is_supported(model: Any) -> bool:
    """Whether this pass can run a model: a supported class with ordinary parts and no hooks."""
    kind = type(model)
    return (
        (
            kind is Decoder
            or (
                kind.__name__ in SUPPORTED_CLASSES
                and kind.__module__.startswith(_TRANSFORMERS_MODELS)
            )
        )
        and getattr(model.config, "hidden_act", None) == HIDDEN_ACT
        and all(_is_plain(layer) for layer in model.layers)
    )


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer has ordinary or packed linear layers and no hooks."""
    linears = [
        getattr(getattr(layer, part), name) for part, names in _PROJECTIONS for name in names
    ]
    return all(type(linear) in (nn.Linear, PackedLinear) for linear in linears) and not any(
        module._forward_hooks or module._forward_pre_hooks for module in layer.modules()
    )


@dataclass(frozen=True, slots=True)
class _Layer:
    """One layer's operations, and the scale and window of its attention."""

    input_norm: RmsNorm
    qkv: tuple[Product, ...]
    q_norm: RmsNorm | None
    k_norm: RmsNorm | None
    out: Product
    post_attention_norm: RmsNorm
    gate: Product
    up: Product
    down: Product
    scale: float
    window: int | None
    int8: Int8FeedForward | None
    gate_up: Product | None

    def add_feed_forward(self, states: Tensor, attended: Tensor) -> None:
        """Applies everything after attention to a tile of states `[N, D]`, in place."""
        if self.int8 is not None:
            self.int8.add(states, attended)
            return
        states.add_(self.out(attended))
        if self.gate_up is not None:
            gate, up = self.gate_up(self.post_attention_norm(states)).chunk(2, -1)
            states.add_(self.down(silu(gate).mul_(up)))
            return
        states.add_(self.down(swiglu(self.post_attention_norm(states), self.gate, self.up)))

    @classmethod
    def from_module(cls, layer: Any, in_int8: bool, joins: bool) -> _Layer:
        """From the modules of a layer; weights are shared, but for copies in int8.

        Args:
            joins: whether products of the same states may become one.
        """
        attn = layer.self_attn
        qkv = (join(attn, _QKV),) if joins and can_join(attn, _QKV) else make_products(attn, _QKV)
        joins = joins and can_join(layer.mlp, _GATE_UP)
        gate_up = join(layer.mlp, _GATE_UP) if joins else None
        (out,), (gate,), (up,), (down,) = (
            make_products(getattr(layer, part), names) for part, names in _PROJECTIONS[1:]
        )
        norm = _rms_norm(layer.post_attention_layernorm)
        return cls(
            _rms_norm(layer.input_layernorm),
            qkv,
            _rms_norm(attn.q_norm) if hasattr(attn, "q_norm") else None,
            _rms_norm(attn.k_norm) if hasattr(attn, "k_norm") else None,
            out,
            norm,
            gate,
            up,
            down,
            float(attn.scaling),
            getattr(attn, "sliding_window", None),
            Int8FeedForward.quantize(out, norm, gate, up, down) if in_int8 else None,
            gate_up,
        )


class Forward:
    """Runs packed tokens through the layers of one model.

    Args:
        model: one that `is_supported`.
        owned: nobody else uses it, so its linear layers may be replaced by packed ones.
        in_int8: multiply what follows attention in int8, if those products have no biases.
    """

    def __init__(self, model: Any, owned: bool, in_int8: bool = False) -> None:
        self.model = model
        config, attn = model.config, model.layers[0].self_attn
        self.size = int(attn.head_dim)
        self.heads = int(config.num_attention_heads)
        self.kv_heads = int(config.num_key_value_heads)
        self.in_int8 = in_int8 and not _has_biases(model)
        if owned and can_fuse(model.embed_tokens.weight):
            # products that are computed in int8 do not need their weights in oneDNN's layout
            in_bf16 = _PROJECTIONS[:1] if self.in_int8 else _PROJECTIONS
            for layer in model.layers:
                for part, names in in_bf16:
                    pack(getattr(layer, part), names)
        raise_malloc_threshold()
        self._is_device = model.embed_tokens.weight.device.type != "cpu"
        joins = owned and self._is_device
        self.layers = [_Layer.from_module(layer, self.in_int8, joins) for layer in model.layers]
        self._parts, self._versions = _parts(model), _versions(model)

    def is_current(self) -> bool:
        """Whether the model still has the modules and weights that this was built from.

        A weight that was changed in place is another one, too: what is copied from it (its integers
        for int8, a norm's adjusted weight) would outlive it.
        """
        parts = _parts(self.model)
        return (
            len(parts) == len(self._parts)
            and all(a is b for a, b in zip(parts, self._parts, strict=True))
            and _versions(self.model) == self._versions
            and all(map(_is_joined, self.layers, self.model.layers))
        )

    def run(
        self,
        start: Tensor,
        positions: Tensor,
        attend: AttentionFunction,
        first: int = 0,
        pause: int | None = None,
    ) -> Tensor:
        """One pass over tokens at positions `[N]`; `attend` computes the attention.

        `attend` may end the pass with an exception.

        Args:
            start: token ids `[N]`; or the states `[N, D]` before layer `first`, which are
                overwritten.
            first: the first layer that runs.
            pause: the layer before which the pass ends; None to end with the attention of the last.

        Returns:
            The states before layer `pause`, `[N, D]`.
        """
        states = start if start.is_floating_point() else self.model.embed_tokens(start)
        cos, sin = self.model.rotary_emb(states[None], position_ids=positions[None])
        kind = RollingRotation if self._is_device else Rotation
        rotation: Rotation | RollingRotation = kind.from_angles(cos[0], sin[0])
        tiles = self._tiles(len(start))
        in_place = self._is_device and len(tiles) == 1 and self.layers[first].q_norm is None
        heads = states.new_empty(len(start), self.heads + 2 * self.kv_heads, self.size)
        for tile in tiles:
            self._project(self.layers[first], states[tile], rotation.select(tile), heads[tile])
        last = (len(self.layers) if pause is None else pause) - 1
        for number in range(first, last + 1):
            layer = self.layers[number]
            query, key, value = self._split(heads)
            given = AttentionInput(number, query, key, value, layer.scale, layer.window)
            attended = attend(given)
            if number == last and pause is None:
                break
            attended = attended.reshape(len(start), -1)
            for tile in tiles:
                layer.add_feed_forward(states[tile], attended[tile])
                if number == last:
                    continue
                following = self.layers[number + 1]
                if in_place:
                    heads = self._project_in_place(following, states, rotation)
                else:
                    self._project(following, states[tile], rotation.select(tile), heads[tile])
        return states

    def _tiles(self, tokens: int) -> list[slice]:
        """Spans of tokens that are processed together outside attention."""
        most = DEVICE_TILE_TOKENS if self._is_device else TILE_TOKENS
        each = -(-tokens // -(-tokens // most))
        return [slice(start, start + each) for start in range(0, tokens, each)]

    def _project(
        self, layer: _Layer, states: Tensor, rotation: Rotation | RollingRotation, heads: Tensor
    ) -> None:
        """Writes a tile's query, key and value, the first two rotated: `[N, H + 2 Hkv, d]`."""
        joined, both = self._multiply(layer, states), self.heads + self.kv_heads
        rotated = joined[:, :both]
        if layer.q_norm is not None and layer.k_norm is not None:
            query, key = joined[:, : self.heads], joined[:, self.heads : both]
            rotated = torch.cat(
                (_norm_heads(layer.q_norm, query), _norm_heads(layer.k_norm, key)), 1
            )
        rotation(rotated, heads[:, :both])
        heads[:, both:] = joined[:, both:]

    def _project_in_place(
        self, layer: _Layer, states: Tensor, rotation: Rotation | RollingRotation
    ) -> Tensor:
        """What `_project` writes, for all tokens, without a copy of what is not rotated."""
        joined = self._multiply(layer, states)
        rotated = joined[:, : self.heads + self.kv_heads]
        rotation(rotated, rotated)
        return joined

    def _multiply(self, layer: _Layer, states: Tensor) -> Tensor:
        """Query, key and value of a tile before rotation: `[N, H + 2 Hkv, d]`."""
        normalised = layer.input_norm(states)
        parts = [part(normalised).view(len(states), -1, self.size) for part in layer.qkv]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def _split(self, heads: Tensor) -> list[Tensor]:
        """Query, key and value of all tokens, as attention takes them: `[1, heads, N, d]`."""
        sizes = [self.heads, self.kv_heads, self.kv_heads]
        return [part.transpose(0, 1)[None] for part in torch.split(heads, sizes, 1)]


class ForwardRunner:
    """Runs a model by the pass of tamis where that is supported, else by transformers.

    Args:
        model: a `Decoder`, or a decoder of transformers.
        owned, in_int8: as for `Forward`.
    """

    def __init__(self, model: Any, owned: bool, in_int8: bool = False) -> None:
        self.model, self.owned, self.in_int8 = model, owned, in_int8
        self._forward: Forward | None = None
        self._lock = threading.Lock()

    def own_forward(self) -> Forward | None:
        """The pass of tamis over the model as it is now; None where transformers must run it.

        Threads that ask at once get the same one: each would pack all the weights.
        """
        with self._lock:
            model, forward = self.model, self._forward
            if not is_supported(model):
                return None
            if forward is None or forward.model is not model or not forward.is_current():
                forward = self._forward = Forward(model, self.owned, self.in_int8)
            return forward

    def run(
        self,
        start: Tensor,
        positions: Tensor,
        attend: AttentionFunction,
        first: int = 0,
        pause: int | None = None,
    ) -> Tensor | None:
        """One pass over tokens at positions `[N]`, by tamis or by transformers.

        Args:
            start, first, pause: as for `Forward.run`; transformers runs whole passes only.
            attend: the attention for the current recorder; transformers looks it up itself.

        Raises:
            ProxyUnsupported: part of a pass is asked of transformers.
        """
        if (forward := self.own_forward()) is not None:
            return forward.run(start, positions, attend, first, pause)
        if first or pause is not None:
            raise ProxyUnsupported(
                f"{type(self.model).__name__} is run by transformers, which cannot pause between "
                "layers; read it with gate and cascade at false"
            )
        self.transformers_model()(
            input_ids=start[None], position_ids=positions[None], use_cache=False
        )
        return None

    def forget_weights(self) -> None:
        """Drops the pass with its copies of weights; the next run makes another."""
        self._forward = None

    def transformers_model(self) -> Any:
        """The model as a class of transformers; a `Decoder` is converted, sharing the weights."""
        with self._lock:
            if isinstance(self.model, Decoder):
                from tamis.probes.model.hf_backend import adopt_decoder

                self.model = adopt_decoder(self.model)
            return self.model


def _is_joined(layer: _Layer, module: Any) -> bool:
    """Whether joined products still have the memory of the weights that they were made of."""
    pairs = [(module.mlp.gate_proj, layer.gate_up)]
    if len(layer.qkv) == 1 and layer.gate_up is not None:
        pairs.append((module.self_attn.q_proj, layer.qkv[0]))
    return all(
        product is None or linear.weight.data_ptr() == product.weight.data_ptr()
        for linear, product in pairs
    )


def _rms_norm(module: Any) -> RmsNorm:
    return RmsNorm(module.weight, float(module.variance_epsilon))


def _norm_heads(norm: RmsNorm, states: Tensor) -> Tensor:
    """Normalises the vector of each head and token: `[N, heads, d]`."""
    return norm(states.reshape(-1, states.shape[-1])).view(states.shape)


def _has_biases(model: Any) -> bool:
    """Whether a product behind attention has a bias."""
    return any(
        getattr(getattr(layer, part), name).bias is not None
        for layer in model.layers
        for part, names in _PROJECTIONS[1:]
        for name in names
    )


def _parts(model: Any) -> list[Any]:
    """The modules of the layers and their parameters, to detect replacements."""
    return [
        part
        for layer in model.layers
        for module in layer.modules()
        for part in (module, *module._parameters.values())
    ]


def _versions(model: Any) -> list[int]:
    """How often each weight of the layers was changed in place; 0 where torch does not count."""
    return [
        0 if weight.is_inference() else weight._version
        for layer in model.layers
        for weight in layer.parameters()
    ]
