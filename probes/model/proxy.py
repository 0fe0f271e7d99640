"""A small decoder, cut to the layers that are read."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from tamis.probes.attention.cached import CachedAttention, CachedPrompt
from tamis.probes.attention.kv_layers import ExactKVLayers, KVLayers, join_kv, passage_kv
from tamis.probes.attention.packed import attention_function
from tamis.probes.attention.recorder import Recorder, use_recorder
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput, ProxyUnsupported
from tamis.probes.model.forward import ForwardRunner
from tamis.probes.model.loading import attention_shape, folder_revision, guess_template, load_folder
from tamis.probes.prompt import Layout, Prompt, Template, token_batches
from tamis.probes.signal import Signal, Want


class Proxy:
    """Reads prompts and returns the attention a method asked for.

    One proxy may be shared by threads: nothing is stored on the model, and a lock keeps two forward
    passes from fighting over the same cores.

    Decoders of Llama's kind run in a pass of our own, see `forward`; others as transformers runs
    them. `owned` says that nobody else holds the model: its weights may then be packed, in place.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        card: ModelCard,
        template: Template,
        batch_tokens: int | None = None,
        owned: bool = False,
    ) -> None:
        if any(getattr(module, "is_causal", True) is False for module in model.modules()):
            raise ProxyUnsupported(
                f"{type(model).__name__} lets tokens see what follows them; "
                "choose a decoder such as Llama, Qwen or Gemma 3"
            )
        self._runner = ForwardRunner(model.eval(), owned)
        self.card = card
        self.depth = int(model.config.num_hidden_layers)
        self.layout = Layout(tokenizer, template, card.name)
        self.batch_tokens = batch_tokens or (2048 if self.device.type == "cpu" else 16384)
        self._lock = threading.Lock()
        self._opening_kv: ExactKVLayers | None = None

    @property
    def body(self) -> Any:
        """What is run: layers, embeddings, angles and configuration, by transformers' names."""
        return self._runner.model

    @property
    def model(self) -> Any:
        """The same as a transformers model, which one can call, hook and train.

        The first time this imports transformers, which takes seconds, and `body` becomes it.
        """
        return self._runner.transformers_model()

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        device: torch.device = next(self.body.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; attention rows are given in fp32 whatever it is."""
        dtype: torch.dtype = next(self.body.parameters()).dtype
        return dtype

    @property
    def config(self) -> Any:
        """What the model's `config.json` says, as transformers reads it."""
        return self.body.config

    @property
    def context_tokens(self) -> int:
        """The longest prompt the model takes."""
        return int(getattr(self.body.config, "max_position_embeddings", 2048))

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
            dtype: `auto` is bf16 where the processor multiplies it, else fp32.
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
        return cls(model, tokenizer, card, template, batch_tokens, owned=True)

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
        """The same model, in other words: weights and lock are shared, nothing is loaded."""
        if template == self.layout.template:
            return self
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        twin._opening_kv = None
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """Reads each prompt on its own and yields its signal, in order.

        Prompts are packed end to end up to `batch_tokens`, without padding, so memory is bounded by
        one batch. `weights` cover the passage's own tokens; the title line is read and left out.

        Raises:
            BadInput: a layer that this proxy was not loaded with, or a prompt beyond its context.
        """
        yield from (signal for signal, _ in self._read(prompts, want, keep=False))

    def read_with_kv(self, prompts: Sequence[Prompt], want: Want) -> Iterator[tuple[Signal, ExactKVLayers]]:
        """Like `read`; each signal comes with its passage's keys and values, which `ask` takes.

        Of the title line and the passage, the template's opening aside, in `want.depth` layers.
        """
        return self._read(prompts, want, keep=True)

    def _read(
        self, prompts: Sequence[Prompt], want: Want, keep: bool
    ) -> Iterator[tuple[Signal, ExactKVLayers]]:
        head = len(self.layout.opening)
        for batch in token_batches(prompts, self.batch_tokens):
            recorder = self._run(
                [(*p.passage.ids, *p.question.ids) for p in batch],
                [(len(p.passage.ids) + p.question.first_row, len(p)) for p in batch],
                [self.opening_kv()] * len(batch),
                want,
                kv_tokens=[len(p.passage.ids) for p in batch] if keep else None,
            )
            for s, prompt in enumerate(batch):
                weights = torch.stack([w[..., head:] for w in recorder.weights[s]])
                yield Signal.cut_to_passage(weights, prompt, want), tuple(recorder.kv_layers[s])

    def compute_kv(self, prompts: Sequence[Prompt], want: Want) -> Iterator[ExactKVLayers]:
        """Keys and values of each prompt's head and passage, to be asked again with `ask`."""
        keeping = Want(want.layers, want.rows, keep_kv=True)
        for batch in token_batches(prompts, self.batch_tokens):
            heads = [self.opening_kv()] * len(batch)
            if not any(p.passage.ids for p in batch):
                yield from heads  # all passages are empty: transformers cannot run on no tokens
                continue
            recorder = self._run(
                [p.passage.ids for p in batch], [(0, 0)] * len(batch), heads, keeping, record=False
            )
            yield from (join_kv(self.opening_kv(), recorder.kv_layers[s]) for s in range(len(batch)))

    def read_cached(self, prompts: Sequence[Prompt], passages: Sequence[KVLayers], want: Want) -> Iterator[Signal]:
        """Like `read`, with the passages' keys and values already there: only the questions run.

        Args:
            kept: of each prompt's passage, with the template's opening or without it.

        Raises:
            BadInput: as `read`, or keys that were kept for other passages or by a shallower proxy.
        """
        passages = passage_kv(prompts, passages, len(self.layout.opening), want.depth)
        start = 0
        for batch in token_batches(prompts, self.batch_tokens, lambda p: len(p.question.ids)):
            asked = [
                CachedPrompt(passage, len(p.question.ids), p.question.first_row)
                for p, passage in zip(batch, passages[start:], strict=False)
            ]
            start += len(batch)
            asking = CachedAttention(self.opening_kv(), asked, want.layers, want.rows, self.device)
            places = [len(self.layout.opening) + one.passage_tokens for one in asked]
            recorder = Recorder(frozenset(), (), lengths=(), custom_attention=asking)
            self._forward([p.question.ids for p in batch], places, recorder, want)
            for prompt, weights in zip(batch, asking.weights(), strict=True):
                yield Signal.cut_to_passage(weights, prompt, want, cached_tokens=len(prompt.passage.ids))

    def opening_kv(self) -> ExactKVLayers:
        """Keys and values of the template's opening, computed once."""
        if self._opening_kv is None:
            want = Want(tuple(range(self.depth)), keep_kv=True)
            recorder = self._run([self.layout.opening], [(0, 0)], None, want, record=False)
            self._opening_kv = tuple(recorder.kv_layers[0])
        return self._opening_kv

    def _run(
        self,
        sequences: Sequence[Sequence[int]],
        row_spans: Sequence[tuple[int, int]],
        past_kv: Sequence[ExactKVLayers] | None,
        want: Want,
        record: bool = True,
        kv_tokens: Sequence[int] | None = None,
    ) -> Recorder:
        """One forward pass over packed sequences."""
        recorder = Recorder(
            layers=frozenset(want.layers) if record else frozenset(),
            row_spans=row_spans,
            lengths=[len(sequence) for sequence in sequences],
            past_kv=past_kv,
            groups=want.rows,
            keep_kv=want.keep_kv or kv_tokens is not None,
            kv_tokens=kv_tokens,
            stop_after=None if want.keep_kv else want.depth - 1,
        )
        starts = [past_kv[s][0].keys.shape[1] if past_kv else 0 for s in range(len(sequences))]
        self._forward(sequences, starts, recorder, want)
        return recorder

    def _forward(
        self,
        sequences: Sequence[Sequence[int]],
        starts: Sequence[int],
        recorder: Recorder,
        want: Want,
    ) -> None:
        """Runs the sequences end to end, each from its own position on."""
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
        positions = torch.cat(
            [torch.arange(a, a + len(ids)) for a, ids in zip(starts, sequences, strict=True)]
        )
        ids = torch.tensor([token for sequence in sequences for token in sequence])
        ids, positions = ids.to(self.device), positions.to(self.device)
        with self._lock, torch.inference_mode(), use_recorder(recorder):
            self._runner.run(ids, positions, attention_function(recorder))
