"""Attention of a packed batch in a fixed number of calls a layer, however many sequences it has.

    source           [Hkv, S, d]     keys of all pasts end to end, then those of the new tokens
    keys of a chunk  [B, Hkv, N, d]  gathered from the source by their places there, padded
    rows of a chunk  [B, H, R, d]    gathered from the queries of the new tokens, padded

A graphics card needs longer to start a call than to compute one sequence's part of it, so all
sequences are computed together: gathered by index tensors that are made once a batch, multiplied,
masked, normalised and reduced to row groups in one call each. `packed` and `cached` go sequence by
sequence; a CPU runs those, since padding costs it more than calls do, and they are the oracle here.

FlashAttention-2 (Dao 2023, arXiv 2307.08691) takes sequences of different lengths end to end, with
the offset where each begins, and attends for all of them in one kernel; where a sequence has fewer
queries than keys, they belong to its last tokens. Without such a kernel (torch 2.12 is the first
with one that takes a scale, a window and key heads that queries share), or in fp32, sequences are
padded.

Token ids, positions and places go to the device in one copy. Figures:
lab/log/speed.md#2026-11-28-calls-and-waits-of-a-batch-on-a-device.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from tamis.probes.attention.recorder import AttentionInput, KVBatch, KVLayer, Recorder, StopForward
from tamis.probes.attention.rounding.low_bits import TokenPlaces
from tamis.probes.devices import Ints, copy_to
from tamis.probes.signal import SharedRows

_MIN_CAPABILITY = 8  # Ampere
_NEEDED = {"scale", "window_size", "enable_gqa"}


@cache
def varlen_kernel() -> Any:
    """Torch's kernel, or None if torch has none or one without an option that is needed.

    Imported late: it takes a second.
    """
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if set(inspect.signature(varlen_attn).parameters) >= _NEEDED else None


def has_varlen_kernel(query: Tensor) -> bool:
    """Whether one kernel attends for a whole batch of these query states."""
    return (
        query.device.type == "cuda"
        and query.dtype in (torch.bfloat16, torch.float16)
        and torch.cuda.get_device_capability(query.device)[0] >= _MIN_CAPABILITY
        and varlen_kernel() is not None
    )


CHUNK_ELEMENTS = 64 << 20
"""Logits of a chunk's rows, all heads together: what exceeds them becomes another chunk, with calls
of its own."""
_TOKENS_A_ROW = 4
"""Logits of new tokens that weigh as much as one of a row: most kernels never hold them, but a
device without such a kernel does, once."""
_KEY_STEP = 8
"""Padded keys are a multiple of this, as kernels want the rows of a mask."""


def is_used(device: torch.device) -> bool:
    """Whether the sequences of a batch are computed together on this device."""
    return device.type != "cpu"


class Past(Protocol):
    """Keys and values that were computed before, of all sequences of a batch."""

    spans: Sequence[Sequence[tuple[int, int]]]
    """For each sequence, the half-open spans of these keys that it attends to, in order."""
    sizes: Sequence[int]
    """The tokens of each passage whose keys have to be decoded."""
    tokens: TokenPlaces
    """Where those are, once they were copied to the device."""

    def layer(
        self, layer: int, like: Tensor, with_values: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Keys and values of a layer in the dtype of `like`, in parts `[Hkv, n, d]`."""


class SharedPast:
    """`Recorder.past_kv`, where sequences that have the same keys share them."""

    def __init__(self, past_kv: Sequence[Sequence[KVLayer] | None]) -> None:
        self._layers = {id(past): past for past in past_kv if past}
        self.sizes: Sequence[int] = ()
        self.tokens: TokenPlaces
        spans, start = {}, 0
        for name, past in self._layers.items():
            stop = start + past[0].keys.shape[1]
            spans[name], start = (start, stop), stop
        self.spans: Sequence[Sequence[tuple[int, int]]] = [
            [spans[id(past)]] if past else [] for past in past_kv
        ]

    def layer(
        self, layer: int, like: Tensor, with_values: bool
    ) -> tuple[list[Tensor], list[Tensor]]:
        """As `Past` has it."""
        kept = [past[layer] for past in self._layers.values()]
        return (
            [one.keys.to(like) for one in kept],
            [one.values.to(like) for one in kept if with_values],
        )


@dataclass(slots=True)
class _Chunk:
    """B sequences that are padded to the same numbers of new tokens, rows and keys.

    Attributes:
        members: their places in the batch.
        rows, keys, groups: the padded numbers R, N and R'.
        numbers: index tensors by name, on the device once they were copied there.
        seen, hidden: masks by window, made once a batch.
        reduction: what softmax rows are multiplied with, made once a batch.
        weights: recorded row groups `[L, B, H, R', N]` fp32. parts: those of each layer.
        recorded: how many layers have been recorded.
        queries: states of the rows, layer by layer, `[B, H, R, d]`.
    """

    members: list[int]
    rows: int
    keys: int
    groups: int
    numbers: dict[str, Tensor] = field(default_factory=dict)
    seen: dict[tuple[str, int | None], Tensor] = field(default_factory=dict)
    hidden: dict[int | None, Tensor] = field(default_factory=dict)
    reduction: Tensor | None = None
    weights: Tensor | None = None
    parts: tuple[Tensor, ...] = ()
    recorded: int = 0
    queries: list[Tensor] = field(default_factory=list)

    def seen_from(self, kind: str, window: int | None) -> Tensor:
        """True where a row (`row`) or a new token (`token`) attends to a key: `[B, 1, R, N]`."""
        if (kind, window) not in self.seen:
            at = self.numbers[f"{kind}_positions"][:, None, :, None]
            column = torch.arange(self.keys, device=at.device)
            seen = column <= at
            if window is not None:
                seen = seen.logical_and_(column > at - window)
            self.seen[kind, window] = seen
        return self.seen[kind, window]

    def hidden_from_rows(self, window: int | None) -> Tensor:
        """True where a row must not attend to a key: `[B, 1, R, N]`."""
        if window not in self.hidden:
            self.hidden[window] = ~self.seen_from("row", window)
        return self.hidden[window]

    def group_means(self) -> Tensor:
        """What softmax rows are multiplied with to become row groups: `[B, 1, R', R]`."""
        if self.reduction is None:
            spans = self.numbers["group_spans"]
            row = torch.arange(self.rows, device=spans.device)
            start, stop = spans[..., :1], spans[..., 1:]
            inside = (row >= start) & (row < stop)
            self.reduction = (inside / (stop - start).clamp_min(1))[:, None]
        return self.reduction

    def next_part(self, heads: int, layers: int, device: torch.device) -> Tensor:
        """Where the row groups of the next layer go: `[B, H, R', N]`."""
        if self.weights is None:
            shape = (layers, len(self.members), heads, self.groups, self.keys)
            with torch.inference_mode(False):  # whoever asked may change what they get
                self.weights = torch.empty(shape, dtype=torch.float32, device=device)
            self.parts = self.weights.unbind(0)
        self.recorded += 1
        return self.parts[self.recorded - 1]


class BatchedAttention:
    """Computes and records the attention of one pass over a packed batch.

    Args:
        recorder: says what is recorded; this becomes its `custom_attention`.
        past: of all sequences; by default what the recorder has.
    """

    def __init__(self, recorder: Recorder, past: Past | None = None) -> None:
        self.recorder, self.lengths = recorder, list(recorder.lengths or ())
        self._past = past or SharedPast(recorder.past_kv or [None] * len(self.lengths))
        self._starts: list[int] = np.cumsum([0, *self.lengths])[:-1].tolist()
        spans = self._past.spans
        self._past_tokens = [sum(b - a for a, b in some) for some in spans]
        key_counts = map(self._key_count, range(len(self.lengths)))
        self._longest = max(self.lengths, default=0), max(key_counts, default=0)
        self._source_start = max((b for some in spans for _, b in some), default=0)
        self._numbers: dict[str, Tensor] = {}
        self._kept_sizes = list(recorder.kv_tokens or self.lengths) if recorder.keep_kv else []
        self._chunks: list[_Chunk] = []
        self._chunk_of: dict[int, tuple[_Chunk, int]] = {}
        self._kept: list[Tensor] = []
        self._first_layer = 0

    # ------------------------------------------------------------------ once a batch

    def prepare(self, device: torch.device, heads: int, *numbers: Sequence[int]) -> list[Tensor]:
        """Copies all that the host knows of the batch to the device, in one copy.

        Args:
            heads: of queries. numbers: others that are needed there, such as token ids.

        Returns:
            Those others, on the device.
        """
        named: list[tuple[dict[str, Tensor], str, Ints]] = []
        for members in self._split(heads):
            chunk, arrays = self._plan_chunk(members)
            self._chunks.append(chunk)
            named += [(chunk.numbers, name, array) for name, array in arrays.items()]
        self._chunk_of = {
            s: (chunk, place) for chunk in self._chunks for place, s in enumerate(chunk.members)
        }
        named += [(self._numbers, name, array) for name, array in self._plan_batch().items()]
        places: list[dict[str, Tensor]] = [{}, {}]
        for target, sizes in zip(places, (self._kept_sizes, self._past.sizes), strict=True):
            named += [(target, name, array) for name, array in _plan_tokens(sizes).items()]
        others: dict[str, Tensor] = {}
        named += [(others, str(n), np.array(some)) for n, some in enumerate(numbers)]
        flat = np.concatenate([array.ravel() for *_, array in named]).astype(np.int64)
        sent = torch.split(copy_to(torch.from_numpy(flat), device), [a.size for *_, a in named])
        for (target, name, array), part in zip(named, sent, strict=True):
            target[name] = part.view(array.shape)
        for name in ("query_offsets", "key_offsets"):
            self._numbers[name] = self._numbers[name].int()
        self._kept_tokens, self._past.tokens = (TokenPlaces(**one) for one in places)
        return list(others.values())

    def _split(self, heads: int) -> Iterator[list[int]]:
        """The sequences of each chunk: as many, the longest first, as its memory allows."""
        longest_first = sorted(range(len(self.lengths)), key=self._key_count, reverse=True)
        run: list[int] = []
        rows = tokens = 0
        for s in longest_first:
            rows, tokens = max(rows, self._row_count(s)), max(tokens, self.lengths[s])
            logits = (len(run) + 1) * self._key_count(run[0] if run else s) * heads
            if run and logits * max(rows, tokens // _TOKENS_A_ROW) > CHUNK_ELEMENTS:
                yield run
                run, rows, tokens = [], self._row_count(s), self.lengths[s]
            run.append(s)
        yield run

    def _key_count(self, s: int) -> int:
        return self._past_tokens[s] + self.lengths[s]

    def _row_count(self, s: int) -> int:
        first, stop = self.recorder.row_spans[s]
        return stop - first

    def _plan_chunk(self, members: list[int]) -> tuple[_Chunk, dict[str, Ints]]:
        """A chunk, and its numbers; what is padded repeats a real token or row."""
        lengths = np.array([self.lengths[s] for s in members])
        starts = np.array([self._starts[s] for s in members])
        pasts = np.array([self._past_tokens[s] for s in members])
        firsts = np.array([self.recorder.row_spans[s][0] for s in members])
        counts = np.array([self._row_count(s) for s in members])
        groups = [self._group_spans(s) for s in members]
        # one column more than there are keys: it gets no weight, and stands for "no token"
        keys = int((pasts + lengths).max()) // _KEY_STEP * _KEY_STEP + _KEY_STEP
        chunk = _Chunk(members, max(1, counts.max()), keys, max(1, *map(len, groups)))
        token = np.minimum(np.arange(max(1, lengths.max())), np.maximum(lengths - 1, 0)[:, None])
        row = np.minimum(np.arange(chunk.rows), np.maximum(counts - 1, 0)[:, None])
        row += firsts[:, None]
        last = max(0, sum(self.lengths) - 1)
        key_places = np.zeros((len(members), keys))
        for place, s in enumerate(members):
            own = self._key_places(s)
            key_places[place, : len(own)] = own
        group_spans = np.zeros((len(members), chunk.groups, 2))
        for place, some in enumerate(groups):
            group_spans[place, : len(some)] = np.array(some).reshape(-1, 2)
        return chunk, {
            "keys": key_places,
            "tokens": np.minimum(starts[:, None] + token, last),
            "token_positions": pasts[:, None] + token,
            "rows": np.minimum(starts[:, None] + row, last),
            "row_positions": pasts[:, None] + row,
            "group_spans": group_spans,
        }

    def _plan_batch(self) -> dict[str, Ints]:
        """Numbers of the whole batch.

        restore: of each new token, its place in the padded output of all chunks.
        packed_keys: of each sequence's keys end to end, their places in the source.
        query_offsets, key_offsets: where each sequence's begin.
        kept: which new tokens' keys and values are stored.
        """
        sequences = range(len(self.lengths))
        restore, start = np.zeros(sum(self.lengths)), 0
        for chunk in self._chunks:
            width = max(1, *(self.lengths[s] for s in chunk.members))
            for s in chunk.members:
                first, tokens = self._starts[s], self.lengths[s]
                restore[first : first + tokens] = np.arange(start, start + tokens)
                start += width
        kept = self.recorder.kv_tokens or self.lengths
        pairs = zip(self._starts, kept, strict=True)
        return {
            "restore": restore,
            "packed_keys": np.concatenate([self._key_places(s) for s in sequences]),
            "query_offsets": np.cumsum([0, *self.lengths]),
            "key_offsets": np.cumsum([0, *map(self._key_count, sequences)]),
            "kept": np.concatenate([np.arange(a, a + n) for a, n in pairs]),
        }

    def _key_places(self, s: int) -> Ints:
        """Where the keys of a sequence are in the source: its past, then its new tokens."""
        first = self._source_start + self._starts[s]
        spans = [*self._past.spans[s], (first, first + self.lengths[s])]
        return np.concatenate([np.arange(a, b) for a, b in spans])

    def _group_spans(self, s: int) -> list[tuple[int, int]]:
        """The rows whose mean each row group of a sequence is, as in `recorder.group_rows`."""
        rows, sentences = self._row_count(s), self.recorder.sentences_of(s)
        parts = {
            "question": [(r, r + 1) for r in range(rows)],
            "question_mean": [(0, rows)],
            "sentence_means": list(sentences) or [(0, rows)],
            "last": [(rows - 1, rows)],
        }
        return [span for group in self.recorder.groups for span in parts[group]]

    # ------------------------------------------------------------------ once a layer

    def attend(self, given: AttentionInput) -> Tensor:
        """Attention of `query [1, H, N, d]` to past and new keys: `[1, N, H, d]`.

        Raises:
            StopForward: this is the last layer that the recorder needs.
        """
        layer, query, key, value, scale, window = given
        recorder, last = self.recorder, layer == self.recorder.stop_after
        query, key, value = query[0], key[0], value[0]
        if recorder.keep_kv:
            self._first_layer = layer if not self._kept else self._first_layer
            self._kept += [part.index_select(1, self._numbers["kept"]) for part in (key, value)]
        past_keys, past_values = self._past.layer(layer, key, not last)
        keys = torch.cat([*past_keys, key], 1)
        records, one_kernel = layer in recorder.layers, has_varlen_kernel(query)
        pads = not (one_kernel or last)
        # kernels that take a mask want as many heads of keys as of queries
        shared = len(query) // len(keys) if pads else 1
        if records or pads:
            padded = [self._gather(keys, chunk.numbers["keys"], shared) for chunk in self._chunks]
        if records:
            for chunk, own in zip(self._chunks, padded, strict=True):
                self._record(chunk, query, own, scale, window)
        if last:
            raise StopForward
        values = torch.cat([*past_values, value], 1)
        if one_kernel:
            # packed: queries `[N, H, d]`, keys and values `[S, Hkv, d]`, a window of so many keys
            heads, places = self._head_index(keys), self._numbers["packed_keys"][:, None]
            out: Tensor = varlen_kernel()(
                query.transpose(0, 1).contiguous(),
                keys[heads, places].contiguous(),
                values[heads, places].contiguous(),
                self._numbers["query_offsets"],
                self._numbers["key_offsets"],
                *self._longest,
                scale=scale,
                window_size=(-1 if window is None else window - 1, 0),
                enable_gqa=len(query) != len(keys),
            )
            return out[None]
        return self._attend_padded(query, padded, values, scale, window)[None]

    def _gather(self, source: Tensor, places: Tensor, shared: int = 1) -> Tensor:
        """Vectors `[heads, S, d]` of the source at places `[B, N]`: `[B, heads · shared, N, d]`."""
        return source[self._head_index(source, shared)[:, None], places[:, None]]

    def _head_index(self, source: Tensor, shared: int = 1) -> Tensor:
        """The heads of a source, each as often as it is shared: `[heads · shared]`."""
        name = f"{len(source)} heads, {shared} times"
        if name not in self._numbers:
            every = torch.arange(len(source) * shared, device=source.device)
            self._numbers[name] = every if shared == 1 else every // shared
        return self._numbers[name]

    def _record(
        self, chunk: _Chunk, query: Tensor, keys: Tensor, scale: float, window: int | None
    ) -> None:
        """Records the row groups of a chunk over its keys, `[B, Hkv or H, N, d]`."""
        rows = self._gather(query, chunk.numbers["rows"]).float()
        if self.recorder.record_queries:
            chunk.queries.append(rows * scale)
        B, H, R, d = rows.shape
        rows = rows.reshape(B * keys.shape[1], -1, d)
        columns = keys.float().reshape(len(rows), -1, d).transpose(1, 2)
        zero = rows[:1, :1, :1]  # the summand that beta=0 ignores
        logits = torch.baddbmm(zero, rows, columns, beta=0, alpha=scale).view(B, H, R, -1)
        logits.masked_fill_(chunk.hidden_from_rows(window), -torch.inf)
        target = chunk.next_part(H, len(self.recorder.layers), query.device)
        if self.recorder.groups == ("question",):
            torch.softmax(logits, -1, out=target)
        else:
            torch.matmul(chunk.group_means(), logits.softmax(-1), out=target)

    def _attend_padded(
        self, query: Tensor, padded: list[Tensor], values: Tensor, scale: float, window: int | None
    ) -> Tensor:
        """The output of all sequences, `[N, H, d]`, from padded keys `[B, H, N, d]`."""
        outs = []
        for chunk, keys in zip(self._chunks, padded, strict=True):
            out = scaled_dot_product_attention(
                self._gather(query, chunk.numbers["tokens"]),
                keys,
                self._gather(values, chunk.numbers["keys"], len(query) // len(values)),
                attn_mask=chunk.seen_from("token", window),
                scale=scale,
            )
            outs.append(out.transpose(1, 2).flatten(0, 1))
        flat = torch.cat(outs) if len(outs) > 1 else outs[0]
        return flat.index_select(0, self._numbers["restore"])

    # ------------------------------------------------------------------ what was recorded

    def finish(self) -> None:
        """Gives the recorder what it was asked to store of each sequence; its rows stay here."""
        recorder, sequences = self.recorder, range(len(self.lengths))
        if recorder.keep_kv:
            batch = KVBatch(self._kept, self._kept_sizes, self._first_layer, self._kept_tokens)
            self._kept = []
            store = recorder.store_batch or KVBatch.exact
            recorder.kv_layers = [list(layers) for layers in store(batch)]
        if recorder.record_queries:
            recorder.queries = [list(self._query_states(s)) for s in sequences]

    def shared_rows(self, s: int, start: int, stop: int) -> SharedRows:
        """The recorded rows of a sequence over its keys `[start, stop)`, in its chunk's tensor."""
        chunk, place = self._chunk_of[s]
        assert chunk.weights is not None
        return SharedRows(chunk.weights, place, len(self._group_spans(s)), start, stop)

    def weights(self, s: int) -> Tensor:
        """The recorded rows of a sequence over all its keys: `[L, H, R', N]` fp32."""
        return self.shared_rows(s, 0, self._key_count(s)).own()

    def _query_states(self, s: int) -> Iterator[Tensor]:
        """The states of a sequence's rows, layer by layer: `[H, R, d]` fp32."""
        chunk, place = self._chunk_of[s]
        return (rows[place, :, : self._row_count(s)] for rows in chunk.queries)


def _plan_tokens(sizes: Sequence[int]) -> dict[str, Ints]:
    """`TokenPlaces` of passages end to end, on the host."""
    lengths = np.array(sizes, dtype=np.int64)
    return {
        "lengths": lengths,
        "passages": np.repeat(np.arange(len(sizes)), lengths),
        "places": np.concatenate([np.arange(0), *map(np.arange, sizes)]),
    }
