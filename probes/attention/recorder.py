"""Reading attention rows while a model runs, and nothing else about it.

Attention runs as it would and, when a recorder is set, gives the few rows of softmax that were
asked for, in fp32. Nothing is stored on the model: the recorder lives in a `ContextVar`, so threads
and tasks that share a model do not see each other. `forward` and `hosted` run models under it.

A batch comes in one of two layouts:

    padded   [B, N] with transformers' own mask; row spans count padded positions
    packed   [1, n_0 + n_1 + ...]: sequences end to end, no padding, each attending only to itself
             and to the keys that were kept for it; positions are passed explicitly
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from tamis.probes.attention.rows import causal_mask
from tamis.probes.signal import RowGroup


@dataclass(frozen=True, slots=True)
class KVLayer:
    """Keys and values of one layer, rotated: each `[Hkv, N, d]`."""

    keys: Tensor
    values: Tensor


class StopForward(Exception):  # control flow, not an error
    """The deepest layer wanted has been read; the rest of the forward pass is not needed."""


class CustomAttention(Protocol):
    """Attention of another shape than one packed row; `asking.Asking` is it."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float,
        window: int | None,
    ) -> Tensor:
        """`query [1, H, Nq, d]`; returns `[1, Nq, H, d]`, or raises `StopForward`."""
        ...


@dataclass(slots=True)
class Recorder:
    """What one forward pass should record, and what it has recorded.

    Attributes:
        layers: layers to record.
        row_spans: per sequence, the half-open span of query positions to record, counted within the
            sequence's own new tokens (packed) or within the padded row (padded).
        lengths: new tokens of each packed sequence; None for a padded batch.
        past: per packed sequence, what was kept for it, layer by layer; None for nothing.
        groups: how recorded rows are reduced before they are stored.
        keep: store keys and values of the new tokens.
        keep_tokens: of how many of each sequence's new tokens; None for all.
        asking: attends in place of the packed code, for questions to passages read before.
        states: store the query states of the rows (packed only).
        stop_after: raise `StopForward` once this layer has been recorded.
        weights: per sequence, per recorded layer in order, `[H, R, N_keys]` fp32.
        kept: per packed sequence, per layer in order.
        queries: likewise `[H, R, d]`, rotated and scaled: times a rotated key, they are logits.
    """

    layers: frozenset[int]
    row_spans: Sequence[tuple[int, int]]
    lengths: Sequence[int] | None = None
    past_kv: Sequence[Sequence[KVLayer] | None] | None = None
    groups: tuple[RowGroup, ...] = ("question",)
    keep_kv: bool = False
    kv_tokens: Sequence[int] | None = None
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

    def tail_mask(self, start: int, stop: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """0 where the rows `[start, stop)` see one of the last keys, else -inf: `[R, C]`.

        C is as few as hide anything: without a window, a row sees every key before the first row.
        Made once a pass, in the dtype and place of `like`.
        """
        span = (start, stop, keys, window, like.dtype)
        if span not in self._masks:
            hidden = ~causal_mask(start, stop, keys, window, like.device)
            hidden = hidden[:, 0 if window is not None else start :]
            self._masks[span] = like.new_zeros(hidden.shape).masked_fill_(hidden, -torch.inf)
        return self._masks[span]

    def mask(self, start: int, keys: int, window: int | None, like: Tensor) -> Tensor:
        """The same over all keys, for the rows from `start` to the last: `[R, N]`."""
        span = (start, keys, keys, -1, like.dtype)
        if window is not None or not start:
            return self.tail_mask(start, keys, keys, window, like)
        if span not in self._masks:
            later = self.tail_mask(start, keys, keys, None, like)
            self._masks[span] = torch.nn.functional.pad(later, (start, 0))
        return self._masks[span]

    def store_kv(self, s: int, keys: Tensor, values: Tensor) -> None:
        """Keeps a sequence's new keys and values of one layer: each `[Hkv, n, d]`."""
        most = self.kv_tokens[s] if self.kv_tokens is not None else keys.shape[1]
        self.kv_layers[s].append(KVLayer(keys[:, :most].clone(), values[:, :most].clone()))


_recorder: ContextVar[Recorder | None] = ContextVar("tamis_recorder", default=None)


def current_recorder() -> Recorder | None:
    """The recorder of this thread or task."""
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
