"""Recording selected rows of attention while a model runs.

Attention is computed as usual; when a recorder is set, the requested rows of softmax are also
stored, in fp32. Nothing is stored on the model: the recorder lives in a `ContextVar`, so threads
and tasks that share a model do not affect each other. `model.forward` and `model.hf_backend` run
models under it.

A batch comes in one of two layouts:

    padded   [B, N] with transformers' own mask; row spans count padded positions
    packed   [1, n_0 + n_1 + ...]: sequences end to end, no padding, each attending only to itself
             and to the keys that were cached for it; positions are passed explicitly

Rows are reduced to row groups as they are recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tamis.probes.attention.rounding.low_bits import TokenPlaces, split_copy
from tamis.probes.prompt import RowSpans
from tamis.probes.signal import RowGroup


def causal_mask(
    start: int, stop: int, keys: int, window: int | None, device: torch.device
) -> Tensor:
    """Which of `keys` positions the rows at positions `[start, stop)` attend to: `[R, N]` bool."""
    row = torch.arange(start, stop, device=device)[:, None]
    column = torch.arange(keys, device=device)[None]
    allowed = column <= row
    return allowed if window is None else allowed & (column > row - window)


def softmax_rows(query: Tensor, key: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Softmax rows in fp32: `query [H, R, d]`, `key [Hkv, N, d]`, `mask [R, N]` to `[H, R, N]`.

    The mask is True where a row attends. Query heads that share a key head are multiplied with it
    together, so that keys are not copied.
    """
    H, R, d = query.shape
    shared = query.float().reshape(key.shape[0], -1, d) * scale
    logits = (shared @ key.float().transpose(1, 2)).view(H, R, -1)
    return logits.masked_fill_(~mask, -torch.inf).softmax(-1)


def group_rows(weights: Tensor, groups: tuple[RowGroup, ...], sentences: RowSpans = ()) -> Tensor:
    """Rows `[..., R, N]` reduced to the given groups, in order: `[..., R', N]`.

    Args:
        sentences: the rows of each sentence of the question; empty where it has no two.
    """
    parts = {
        "question": lambda: weights,
        "question_mean": lambda: weights.mean(-2, keepdim=True),
        "sentence_means": lambda: torch.stack(
            [weights[..., a:b, :].mean(-2) for a, b in sentences], -2
        ),
        "last": lambda: weights[..., -1:, :],
    }
    return torch.cat([parts[group]() for group in _named_groups(groups, sentences)], dim=-2)


def group_rows_fp32(
    weights: Tensor, groups: tuple[RowGroup, ...], sentences: RowSpans = ()
) -> Tensor:
    """Softmax rows `[..., R, N]` of any dtype, reduced to groups in fp32: `[..., R', N]`."""
    if is_question_mean(groups, sentences) and weights.shape[-2]:
        return weights.sum(-2, keepdim=True, dtype=torch.float32).div_(weights.shape[-2])
    return group_rows(weights.float(), groups, sentences)


def is_question_mean(groups: tuple[RowGroup, ...], sentences: RowSpans = ()) -> bool:
    """Whether the groups are the mean of all rows and nothing else, which is often faster."""
    return _named_groups(groups, sentences) == ("question_mean",)


def _named_groups(groups: tuple[RowGroup, ...], sentences: RowSpans) -> tuple[RowGroup, ...]:
    """The groups of a question; without several sentences, its only one is the whole."""
    if sentences:
        return groups
    return tuple("question_mean" if group == "sentence_means" else group for group in groups)


def softmax_row_groups(
    query: Tensor,
    key: Tensor,
    tail_mask: Tensor,
    groups: tuple[RowGroup, ...],
    sentences: RowSpans = (),
) -> Tensor:
    """Row groups of a softmax, fp32: scaled `query [H, R, d]`, `key [Hkv, N, d]` to `[H, R', N]`.

    Args:
        tail_mask: `[R, C]`, added to the logits of the last C keys: -inf where a row must not
            attend, else 0.
    """
    H, R, d = query.shape
    logits = query.reshape(key.shape[0], -1, d) @ key.float().transpose(1, 2)
    logits = logits.view(H, R, -1)
    logits[..., logits.shape[-1] - tail_mask.shape[1] :] += tail_mask
    return softmax_groups(logits, groups, sentences)


def softmax_groups(
    logits: Tensor, groups: tuple[RowGroup, ...], sentences: RowSpans = ()
) -> Tensor:
    """Row groups of the softmax of logits `[..., R, N]`: `[..., R', N]`. Overwrites the logits.

    For the mean, the division by the sums is part of a matrix product and not a pass of its own.
    """
    if not is_question_mean(groups, sentences) or not logits.shape[-2]:
        return group_rows(logits.softmax(-1), groups, sentences)
    grown = logits.sub_(logits.amax(-1, keepdim=True)).exp_()
    sums = grown.sum(-1, keepdim=True)
    return (sums.reciprocal_() / logits.shape[-2]).transpose(-2, -1) @ grown


@dataclass(frozen=True, slots=True)
class KVLayer:
    """Keys and values of one layer, rotated: each `[Hkv, N, d]`."""

    keys: Tensor
    values: Tensor


@dataclass(frozen=True, slots=True)
class KVBatch:
    """Keys and values of a whole packed batch, as a device has them together.

    Attributes:
        parts: keys and values of each layer in turn: `[Hkv, N, d]`, the sequences end to end.
        sizes: the tokens of each sequence. first: the model's layer that the first one is.
        tokens: where they are.
    """

    parts: Sequence[Tensor]
    sizes: Sequence[int]
    first: int
    tokens: TokenPlaces

    def split(self, together: Tensor, axis: int) -> list[Tensor]:
        """A tensor over the tokens of all sequences, cut into tensors with memory of their own."""
        return split_copy(together, self.sizes, axis)

    def exact(self, with_last_values: bool = True) -> list[list[KVLayer]]:
        """The layers of each sequence, the last perhaps without its values."""
        parts = self.parts if with_last_values else self.parts[:-1]
        found = []
        for own in self.split(torch.stack(list(parts)), 2):
            vectors = list(own.unbind(0))
            if not with_last_values:
                vectors.append(vectors[-1].new_empty(own.shape[1], 0, own.shape[3]))
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            found.append([KVLayer(*pair) for pair in pairs])
        return found

    def behind(self, opening: Sequence[KVLayer]) -> list[list[KVLayer]]:
        """The layers of each sequence, those of a template's opening before its own tokens."""
        head = torch.stack([part for one in opening for part in (one.keys, one.values)])
        own = torch.split(torch.stack(list(self.parts)), list(self.sizes), 2)
        whole = torch.cat([part for piece in own for part in (head, piece)], 2)
        sizes = [head.shape[2] + n for n in self.sizes]
        return replace(self, parts=whole.unbind(0), sizes=sizes).exact()


class StopForward(Exception):  # control flow, not an error
    """The deepest requested layer has been read; the rest of the forward pass is not needed."""


class AttentionInput(NamedTuple):
    """What the attention of one layer is computed from.

    Attributes:
        query: `[1, H, Nq, d]`. key, value: `[1, Hkv, Nq, d]`, of the same tokens.
        scale: of the products of queries and keys. window: how far back a token sees; None: to all.
    """

    layer: int
    query: Tensor
    key: Tensor
    value: Tensor
    scale: float
    window: int | None


class CustomAttention(Protocol):
    """Attention computed otherwise than by `packed`, such as `cached.CachedAttention`."""

    def attend(self, given: AttentionInput) -> Tensor:
        """`query [1, H, Nq, d]`; returns `[1, Nq, H, d]`, or raises `StopForward`."""


@dataclass(slots=True)
class Recorder:
    """What one forward pass shall record, and what it has recorded.

    Attributes:
        layers: the layers to record.
        row_spans: per sequence, the half-open span of query positions to record, counted within the
            sequence's own new tokens (packed) or within the padded row (padded).
        lengths: new tokens of each packed sequence; None for a padded batch.
        past_kv: per packed sequence, its cached keys and values, layer by layer; None for none.
        groups: the row groups that recorded rows are reduced to before they are stored.
        sentences: per sequence, the rows of each sentence of its question; None where no group
            asks for them.
        keep_kv: store keys and values of the new tokens.
        kv_tokens: for how many of each sequence's new tokens; None for all.
        store_batch: makes what is kept of each sequence out of a batch's keys and values, where a
            device has them together; None for the exact ones.
        custom_attention: replaces the attention of `packed`.
        record_queries: store the query states of the rows (packed only).
        stop_after: raise `StopForward` once this layer has been recorded.
        weights: per sequence, per recorded layer in order, `[H, R, N_keys]` fp32.
        kv_layers: per packed sequence, the stored keys and values per layer in order.
        queries: per packed sequence and recorded layer `[H, R, d]`, rotated and scaled: their
            products with rotated keys are logits.
    """

    layers: frozenset[int]
    row_spans: Sequence[tuple[int, int]]
    lengths: Sequence[int] | None = None
    past_kv: Sequence[Sequence[KVLayer] | None] | None = None
    groups: tuple[RowGroup, ...] = ("question",)
    sentences: Sequence[RowSpans] | None = None
    keep_kv: bool = False
    kv_tokens: Sequence[int] | None = None
    store_batch: Callable[[KVBatch], Sequence[Any]] | None = None
    custom_attention: CustomAttention | None = None
    record_queries: bool = False
    stop_after: int | None = None
    weights: list[list[Tensor]] = field(default_factory=list)
    kv_layers: list[list[KVLayer]] = field(default_factory=list)
    queries: list[list[Tensor]] = field(default_factory=list)
    _masks: dict[tuple[Any, ...], Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.weights = [[] for _ in self.row_spans]
        self.kv_layers = [[] for _ in self.row_spans]
        self.queries = [[] for _ in self.row_spans]

    def sentences_of(self, s: int) -> RowSpans:
        """The rows of each sentence of a sequence's question."""
        return self.sentences[s] if self.sentences is not None else ()

    def tail_mask(
        self, start: int, stop: int, keys: int, window: int | None, like: Tensor
    ) -> Tensor:
        """0 where the rows `[start, stop)` attend to one of the last C keys, else -inf: `[R, C]`.

        C is the number of keys that are masked for any row: without a window, all rows attend to
        every key before the first row. Made once per pass, with the dtype and device of `like`.
        """
        span = (start, stop, keys, window, like.dtype)
        if span not in self._masks:
            hidden = ~causal_mask(start, stop, keys, window, like.device)
            hidden = hidden[:, 0 if window is not None else start :]
            self._masks[span] = like.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        return self._masks[span]

    def mask(self, start: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """The mask over all keys, for the rows from `start` to the last: `[R, N]`."""
        span = (start, keys, keys, -1, like.dtype)
        if window is not None or not start:
            return self.tail_mask(start, keys, keys, window, like)
        if span not in self._masks:
            tail = self.tail_mask(start, keys, keys, None, like)
            self._masks[span] = torch.nn.functional.pad(tail, (start, 0))
        return self._masks[span]

    def store_kv(self, s: int, keys: Tensor, values: Tensor) -> None:
        """Stores a sequence's new keys and values of one layer: each `[Hkv, n, d]`."""
        stop = self.kv_tokens[s] if self.kv_tokens is not None else keys.shape[1]
        self.kv_layers[s].append(KVLayer(keys[:, :stop].clone(), values[:, :stop].clone()))


_recorder: ContextVar[Recorder | None] = ContextVar("tamis_recorder", default=None)


def current_recorder() -> Recorder | None:
    """The recorder of this thread or task, if one is set."""
    return _recorder.get()


@contextmanager
def use_recorder(recorder: Recorder) -> Iterator[Recorder]:
    """Records the forward passes of this thread or task until the block ends."""
    token = _recorder.set(recorder)
    try:
        yield recorder
    except StopForward:
        pass
    finally:
        _recorder.reset(token)
