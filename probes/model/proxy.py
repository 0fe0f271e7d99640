"""The proxy: a small decoder whose attention is read, cut to the layers that are needed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch
from tokenizers import Tokenizer

from tamis.probes.attention import batched
from tamis.probes.attention.batched import BatchedAttention
from tamis.probes.attention.cached import CachedAttention, CachedPrompt, KeptPast
from tamis.probes.attention.kv_layers import ExactKVLayers, KVLayers, join_kv, passage_kv
from tamis.probes.attention.packed import attention_function
from tamis.probes.attention.recorder import KVBatch, Recorder, use_recorder
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis.probes.interruption import check_interruption
from tamis.probes.lru import LruCache
from tamis.probes.model.forward import ForwardRunner
from tamis.probes.model.loading import (
    INT8,
    attention_shape,
    folder_revision,
    guess_template,
    load_folder,
)
from tamis.probes.prompt import MAX_TWINS, Layout, Paused, Prompt, RowSpans, Template, token_batches
from tamis.probes.signal import Signal, Want

_locks = WeakSet[Any]()
"""The locks of all proxies, which a process that is forked finds as they were at that moment."""


class Proxy:
    """Reads prompts and returns the attention that a method requested.

    Threads may share a proxy: nothing is stored on the model, and a lock keeps two forward passes
    from competing for the same cores.

    Llama-like decoders run in a forward pass of tamis, see `model.forward`; others are run by
    transformers. `owned` says that nobody else uses model and tokenizer: linear layers are replaced
    by packed ones.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        card: ModelCard,
        template: Template,
        batch_tokens: int | None = None,
        owned: bool = False,
        in_int8: bool = False,
    ) -> None:
        if any(getattr(module, "is_causal", True) is False for module in model.modules()):
            raise ProxyUnsupported(
                f"{type(model).__name__} lets tokens see what follows them; "
                "choose a decoder such as Llama, Qwen or Gemma 3"
            )
        self._runner = ForwardRunner(model.eval(), owned, in_int8)
        self.card = card
        self.depth = int(model.config.num_hidden_layers)
        self.layout = Layout(tokenizer, template, card.name, owned)
        self.batch_tokens = batch_tokens or (2048 if self.device.type == "cpu" else 16384)
        self._lock = threading.Lock()
        _locks.update((self._lock, self._runner._lock))
        _free_locks_at_forks()
        self._openings: dict[tuple[int, ...], ExactKVLayers] = {}
        self._twins = LruCache[Proxy](MAX_TWINS)

    @property
    def body(self) -> Any:
        """The model that runs, with parts named as in transformers: a `Decoder` or one of them."""
        return self._runner.model

    @property
    def model(self) -> Any:
        """The proxy as a transformers model, which can be called, hooked and trained.

        The first access imports transformers, which takes seconds, and replaces `body` by it.
        """
        return self._runner.transformers_model()

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        device: torch.device = next(self.body.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; attention rows are always returned in fp32."""
        dtype: torch.dtype = next(self.body.parameters()).dtype
        return dtype

    @property
    def arithmetic(self) -> str:
        """What products are computed in, such as `torch.bfloat16`; scores depend on it a little."""
        forward = self._runner.own_forward()
        if forward is not None and forward.in_int8:
            return f"{self.dtype}, int8 after attention"
        return str(self.dtype)

    @property
    def config(self) -> Any:
        """The model's configuration, with the attribute names of transformers."""
        return self.body.config

    @property
    def context_tokens(self) -> int:
        """The length of the longest prompt that the model takes."""
        return int(getattr(self.body.config, "max_position_embeddings", 2048))

    @property
    def can_pause(self) -> bool:
        """Whether a reading can stop between two layers and go on later: `Want.pause`."""
        return self._runner.own_forward() is not None

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        layers: int | None = None,
        dtype: str | torch.dtype = "auto",
        device: str = "auto",
        card: ModelCard | None = None,
        template: Template | None = None,
        batch_tokens: int | None = None,
    ) -> Proxy:
        """Loads a folder of safetensors, `config.json` and `tokenizer.json`; nothing is fetched.

        Args:
            folder: the model.
            layers: how many layers to load; None, or more than there are, for all. The weights of
                the others stay on disk.
            dtype: `auto` is bf16 where the processor multiplies it, else fp32. `int8` is bf16 with
                what follows attention in int8: faster on processors with VNNI, and refused on
                others.
            device: `auto` is CUDA, then MPS, then CPU.
            card: name and revision for probes; by default the folder's name and its weights' hash.
            template: by default chatml where the tokenizer has its tokens, else plain.

        Raises:
            BadInput: a number of layers, a dtype or a device that does not exist.
            ProxyMissing: no such folder. BadModelFile: it holds no readable, complete model.
            ProxyUnsupported: a model whose attention cannot be read.
        """
        folder = Path(folder)
        model, tokenizer, whole = load_folder(folder, layers, dtype, device)
        card = card or ModelCard(folder.resolve().name, folder_revision(folder), *whole)
        template = template or guess_template(tokenizer)
        in_int8 = dtype == INT8
        return cls(model, tokenizer, card, template, batch_tokens, owned=True, in_int8=in_int8)

    @classmethod
    def from_model(
        cls,
        model: Any,
        tokenizer: Any,
        *,
        name: str = "custom",
        revision: str = "unversioned",
        template: Template | None = None,
        batch_tokens: int | None = None,
    ) -> Proxy:
        """Wraps a decoder that is already loaded.

        Args:
            model: a transformers decoder, with or without its language-model head. Its attention
                implementation is set to tamis's, which is SDPA while nothing is recorded.
            tokenizer: a fast transformers tokenizer, or a `tokenizers.Tokenizer`.

        Raises:
            ProxyUnsupported: attention that cannot be read, or a tokenizer without offsets.
        """
        from tamis.probes.model.hf_backend import ATTENTION

        fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(fast, Tokenizer):
            raise ProxyUnsupported(
                f"{type(tokenizer).__name__} gives no character offsets; use a fast tokenizer"
            )
        body = getattr(model, getattr(model, "base_model_prefix", "") or "model", model)
        card = ModelCard(name, revision, *attention_shape(body.config))
        body.set_attn_implementation(ATTENTION)
        return cls(body, fast, card, template or guess_template(fast), batch_tokens)

    def with_template(self, template: Template) -> Proxy:
        """The same model with another template: weights and lock are shared, nothing is loaded.

        The latest few are kept, with the keys of their openings, until the card changes.
        """
        if template == self.layout.template:
            return self

        def make() -> Proxy:
            twin = copy(self)
            twin.layout = self.layout.with_template(template)
            twin._twins = LruCache(MAX_TWINS)
            return twin

        return self._twins.get((template, self.card.revision), make, lambda _: 1)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """Reads each prompt on its own and yields its signal, in order.

        Prompts are packed end to end up to `batch_tokens`, without padding, so memory is bounded by
        one batch. The weights cover the passage's own tokens, without those of the title line. Of a
        paused prompt only the layers behind its pause run.

        Raises:
            BadInput: a layer that this proxy was not loaded with, or a prompt beyond its context.
        """
        yield from (signal for signal, _ in self.read_with_kv(prompts, want, keep_kv=False))

    def read_with_kv(
        self,
        prompts: Sequence[Prompt],
        want: Want,
        store_batch: Callable[[KVBatch], Sequence[KVLayers]] | None = None,
        keep_kv: bool = True,
    ) -> Iterator[tuple[Signal, ExactKVLayers]]:
        """Like `read`, with each signal the keys and values of its passage, for `read_cached`.

        They are those of the title line and the passage, without the template's opening, in
        `want.depth` layers.

        Args:
            store_batch: on a device, makes what is yielded out of a whole batch's, in its place.
            keep_kv: whether they are kept; else each signal has none.
        """
        opening_tokens = len(self.layout.opening)
        for batch in _batches(prompts, self.batch_tokens, len):
            recorder, paused = self._run(
                [(*p.passage.ids, *p.question.ids) for p in batch],
                [(len(p.passage.ids) + p.question.first_row, len(p)) for p in batch],
                [self.opening_kv()] * len(batch),
                want,
                kv_tokens=[len(p.passage.ids) for p in batch] if keep_kv else None,
                paused=[p.paused for p in batch if p.paused],
                sentences=[p.question.sentence_rows for p in batch],
                store_batch=store_batch,
            )
            together = recorder.custom_attention
            for s, prompt in enumerate(batch):
                if isinstance(together, BatchedAttention):
                    signal = self._shared_signal(together, s, prompt, want, 0, paused[s])
                else:
                    weights = torch.stack([w[..., opening_tokens:] for w in recorder.weights[s]])
                    signal = Signal.cut_to_passage(weights, prompt, want, 0, paused[s])
                yield signal, tuple(recorder.kv_layers[s])

    def compute_kv(self, prompts: Sequence[Prompt], want: Want) -> Iterator[ExactKVLayers]:
        """Keys and values of each prompt's opening and passage, for `read_cached`."""
        kv_want = Want(want.layers, want.rows, keep_kv=True)
        for batch in token_batches(prompts, self.batch_tokens):
            openings = [self.opening_kv()] * len(batch)
            if not any(p.passage.ids for p in batch):
                yield from openings  # all passages are empty: transformers cannot run on no tokens
                continue
            recorder, _ = self._run(
                [p.passage.ids for p in batch],
                [(0, 0)] * len(batch),
                openings,
                kv_want,
                record=False,
                store_batch=lambda kept: kept.behind(self.opening_kv()),
            )
            if batched.is_used(self.device):
                yield from map(tuple, recorder.kv_layers)
            else:
                yield from (join_kv(self.opening_kv(), layers) for layers in recorder.kv_layers)

    def read_cached(
        self, prompts: Sequence[Prompt], passages: Sequence[KVLayers], want: Want
    ) -> Iterator[Signal]:
        """Like `read`, where keys and values of the passages are given: only the questions run.

        Args:
            passages: keys and values of each prompt's passage, with the template's opening or
                without it.

        Raises:
            BadInput: as `read`, or keys of other passages or of a proxy with fewer layers.
        """
        passages = passage_kv(prompts, passages, len(self.layout.opening), want.depth)
        start = 0
        for batch in _batches(prompts, self.batch_tokens, lambda p: len(p.question.ids)):
            cached_prompts = [
                CachedPrompt(
                    passage, len(p.question.ids), p.question.first_row, p.question.sentence_rows
                )
                for p, passage in zip(batch, passages[start:], strict=False)
            ]
            start += len(batch)
            recorder = self._cached_recorder(cached_prompts, want)
            starts = [len(self.layout.opening) + one.passage_tokens for one in cached_prompts]
            paused = self._forward(
                [p.question.ids for p in batch],
                starts,
                recorder,
                want,
                [p.paused for p in batch if p.paused],
            )
            attention = recorder.custom_attention
            rows = attention.weights() if isinstance(attention, CachedAttention) else None
            for s, (prompt, at) in enumerate(zip(batch, paused, strict=True)):
                if at is not None:
                    at = replace(at, passage_kv=cached_prompts[s].passage_kv)
                cached_tokens = len(prompt.passage.ids)
                if rows is not None:
                    yield Signal.cut_to_passage(next(rows), prompt, want, cached_tokens, at)
                else:
                    assert isinstance(attention, BatchedAttention)
                    yield self._shared_signal(attention, s, prompt, want, cached_tokens, at)

    def _cached_recorder(self, prompts: Sequence[CachedPrompt], want: Want) -> Recorder:
        """What records the questions of cached passages: in tiles, or all of them together."""
        opening, device = self.opening_kv(), self.device
        if not batched.is_used(device) or not KeptPast.can_hold(prompts):
            attention = CachedAttention(
                opening, prompts, want.layers, want.rows, device, want.pause
            )
            return Recorder(frozenset(), (), lengths=(), custom_attention=attention)
        recorder = Recorder(
            frozenset(want.layers),
            [(one.first_row, one.question_tokens) for one in prompts],
            [one.question_tokens for one in prompts],
            groups=want.rows,
            sentences=[one.sentences for one in prompts],
            stop_after=None if want.pause else want.depth - 1,
        )
        recorder.custom_attention = BatchedAttention(recorder, KeptPast(opening, prompts))
        return recorder

    def _shared_signal(
        self,
        attention: BatchedAttention,
        s: int,
        prompt: Prompt,
        want: Want,
        cached_tokens: int,
        paused: Paused | None,
    ) -> Signal:
        """The signal of one prompt of a batch whose rows are in one tensor."""
        title = len(self.layout.opening) + prompt.passage.title_tokens
        stop = len(self.layout.opening) + len(prompt.passage.ids)
        rows = attention.shared_rows(s, title, stop)
        return Signal(rows.own(), want.layers, want.rows, cached_tokens, paused, rows)

    def opening_kv(self) -> ExactKVLayers:
        """Keys and values of the template's opening, computed once for all who share the model."""
        opening = tuple(self.layout.opening)
        if (found := self._openings.get(opening)) is None:
            want = Want(tuple(range(self.depth)), keep_kv=True)
            recorder, _ = self._run([opening], [(0, 0)], None, want, record=False)
            found = self._openings[opening] = tuple(recorder.kv_layers[0])
        return found

    def forget_weights(self) -> None:
        """Drops what was made of weights that were then changed in place: openings, int8 copies."""
        self._openings.clear()
        self._runner.forget_weights()

    def _run(
        self,
        sequences: Sequence[Sequence[int]],
        row_spans: Sequence[tuple[int, int]],
        past_kv: Sequence[ExactKVLayers] | None,
        want: Want,
        record: bool = True,
        kv_tokens: Sequence[int] | None = None,
        paused: Sequence[Paused] = (),
        sentences: Sequence[RowSpans] | None = None,
        store_batch: Callable[[KVBatch], Sequence[KVLayers]] | None = None,
    ) -> tuple[Recorder, Sequence[Paused | None]]:
        """One forward pass over packed sequences; also returns where each of them pauses."""
        recorder = Recorder(
            layers=frozenset(want.layers) if record else frozenset(),
            row_spans=row_spans,
            lengths=[len(sequence) for sequence in sequences],
            past_kv=past_kv,
            groups=want.rows,
            sentences=sentences,
            keep_kv=want.keep_kv or kv_tokens is not None,
            kv_tokens=kv_tokens,
            store_batch=store_batch,
            stop_after=None if want.keep_kv or want.pause else want.depth - 1,
        )
        starts = [past_kv[s][0].keys.shape[1] if past_kv else 0 for s in range(len(sequences))]
        return recorder, self._forward(sequences, starts, recorder, want, paused)

    def _forward(
        self,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int],
        recorder: Recorder,
        want: Want,
        paused: Sequence[Paused] = (),
    ) -> Sequence[Paused | None]:
        """Runs the sequences packed end to end, each from its own start position on.

        Args:
            paused: where each of them ended before; empty where all layers run.

        Returns:
            Where each of them ends, if `want.pause`.
        """
        if want.depth > self.depth:
            raise BadInput(
                f"layer {want.depth - 1} is wanted and {self.card.name} was loaded with "
                f"{self.depth} layers; {self.card.depth_advice(want.depth)}"
            )
        longest = max(start + len(ids) for start, ids in zip(starts, sequences, strict=True))
        if longest > self.context_tokens:
            raise BadInput(
                f"a prompt has {longest} tokens and {self.card.name} takes {self.context_tokens}; "
                "read long passages in windows"
            )
        if recorder.custom_attention is None and batched.is_used(self.device):
            recorder.custom_attention = BatchedAttention(recorder)
        states, first = None, paused[0].depth if paused else 0
        with self._lock, torch.inference_mode(), use_recorder(recorder):
            check_interruption()
            begin, positions = self._start(sequences, starts, recorder)
            if paused:
                begin = torch.cat([one.states for one in paused])
            states = self._runner.run(
                begin.to(self.device),
                positions,
                attention_function(recorder),
                first,
                want.depth if want.pause else None,
            )
        if isinstance(recorder.custom_attention, BatchedAttention):
            recorder.custom_attention.finish()
        if not want.pause or states is None:
            return [None] * len(sequences)
        parts = torch.split(states, [len(sequence) for sequence in sequences])
        return [Paused(part, want.depth) for part in parts]

    def _start(
        self, sequences: Sequence[Sequence[int]], starts: Sequence[int], recorder: Recorder
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and positions of all tokens, on the device: each `[N]`."""
        ids = [token for sequence in sequences for token in sequence]
        if isinstance(recorder.custom_attention, BatchedAttention):
            pairs = zip(starts, sequences, strict=True)
            places = [place for a, own in pairs for place in range(a, a + len(own))]
            heads = int(self.config.num_attention_heads)
            begin, positions = recorder.custom_attention.prepare(self.device, heads, ids, places)
            return begin, positions
        positions = torch.cat(
            [torch.arange(a, a + len(own)) for a, own in zip(starts, sequences, strict=True)]
        )
        return torch.tensor(ids).to(self.device), positions.to(self.device)


@cache
def _free_locks_at_forks() -> None:
    """From the first proxy on, lets forked processes read, whatever threads of this one do then."""
    if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
        os.register_at_fork(after_in_child=_go_on_without_threads)


def _go_on_without_threads() -> None:
    """Frees the locks that other threads held when this process was forked without them.

    The threads of OpenMP are missing as well, and torch would wait for them: loading has used them.
    """
    for lock in _locks:
        lock._at_fork_reinit()
    torch.set_num_threads(1)


def _batches(
    prompts: Sequence[Prompt], batch_tokens: int, length: Callable[[Prompt], int]
) -> Iterator[list[Prompt]]:
    """Batches of consecutive prompts that begin with the same layer."""
    for _, run in groupby(prompts, key=lambda prompt: prompt.first_layer):
        yield from token_batches(list(run), batch_tokens, length)
