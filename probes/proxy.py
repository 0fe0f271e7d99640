"""A small decoder, cut to the layers that are read."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModel
from transformers.utils import logging as hf_logging

from tamis.probes.capture import ATTENTION, KeptLayer, Recorder, Want, recording
from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing, ProxyUnsupported
from tamis.probes.prompt import TEMPLATES, Layout, Prompt, Template
from tamis.probes.signal import Signal

Kept = tuple[KeptLayer, ...]
"""Keys and values of some tokens, layer by layer."""


@dataclass(frozen=True, slots=True)
class Card:
    """What a probe must match: which model, and how deep it is.

    Attributes:
        name: as users type it.
        revision: changes whenever the weights do.
        layers, heads: of the whole model, before any cut.
    """

    name: str
    revision: str
    layers: int
    heads: int


_DTYPES = {
    **dict.fromkeys(("bf16", "bfloat16"), torch.bfloat16),
    **dict.fromkeys(("fp16", "float16"), torch.float16),
    **dict.fromkeys(("fp32", "float32"), torch.float32),
}


class Proxy:
    """Reads prompts and returns the attention a method asked for.

    One proxy may be shared by threads: nothing is stored on the model, and a lock keeps two forward
    passes from fighting over the same cores.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Tokenizer,
        card: Card,
        template: Template,
        batch_tokens: int | None = None,
    ) -> None:
        if any(getattr(module, "is_causal", True) is False for module in model.modules()):
            raise ProxyUnsupported(
                f"{type(model).__name__} lets tokens see what follows them; "
                "choose a decoder such as Llama, Qwen or Gemma 3"
            )
        self.model = model.eval()
        self.card = card
        self.depth = int(model.config.num_hidden_layers)
        self.layout = Layout(tokenizer, template, card.name)
        self.batch_tokens = batch_tokens or (1024 if self.device.type == "cpu" else 16384)
        self._lock = threading.Lock()
        self._head: Kept | None = None

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights; attention rows are fp32 whatever it is."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @property
    def context_tokens(self) -> int:
        """The longest prompt the model takes."""
        return int(getattr(self.model.config, "max_position_embeddings", 2048))

    @classmethod
    def from_folder(
        cls,
        folder: str | Path,
        *,
        layers: int | None = None,
        dtype: str | torch.dtype = "auto",
        device: str = "auto",
        card: Card | None = None,
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
        if not (folder / "config.json").is_file():
            raise ProxyMissing(
                f"{folder} holds no config.json; give a folder with a model in safetensors"
            )
        if layers is not None and layers < 1:
            raise BadInput(f"layers is {layers}; give at least 1, or None for all")
        where = choose_device(device)
        kind = choose_dtype(dtype, where)
        with _reading(folder):
            config = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        whole = readable(config)
        model = _load(folder, min(layers or whole[0], whole[0]), kind)
        card = card or Card(folder.resolve().name, folder_revision(folder), *whole)
        return cls(
            model.to(where), tokenizer, card, template or guess_template(tokenizer), batch_tokens
        )

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
        fast = getattr(tokenizer, "backend_tokenizer", tokenizer)
        if not isinstance(fast, Tokenizer):
            raise ProxyUnsupported(
                f"{type(tokenizer).__name__} gives no character offsets; use a fast tokenizer"
            )
        body = getattr(model, getattr(model, "base_model_prefix", "") or "model", model)
        card = Card(name, revision, *readable(body.config))
        body.set_attn_implementation(ATTENTION)
        return cls(body, fast, card, template or guess_template(fast), batch_tokens)

    def with_template(self, template: Template) -> Proxy:
        """The same model, in other words: weights and lock are shared, nothing is loaded."""
        if template == self.layout.template:
            return self
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        twin._head = None
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """Reads each prompt on its own and yields its signal, in order.

        Prompts are packed end to end up to `batch_tokens`, without padding, so memory is bounded by
        one batch. `weights` cover the passage's own tokens; the title line is read and left out.

        Raises:
            BadInput: a layer that this proxy was not loaded with, or a prompt beyond its context.
        """
        for batch in packed(prompts, self.batch_tokens):
            recorder = self._run(
                [(*p.read.ids, *p.ask.ids) for p in batch],
                [(len(p.read.ids) + p.ask.rows, len(p)) for p in batch],
                [self.head()] * len(batch),
                want,
            )
            yield from (
                _signal(recorder, s, p, want, len(self.layout.head)) for s, p in enumerate(batch)
            )

    def keep(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Kept]:
        """Keys and values of each prompt's head and passage, to be asked again with `ask`."""
        keeping = Want(want.layers, want.rows, keep=True)
        for batch in packed(prompts, self.batch_tokens):
            heads = [self.head()] * len(batch)
            if not any(p.read.ids for p in batch):
                yield from heads  # all passages are empty: transformers cannot run on no tokens
                continue
            recorder = self._run(
                [p.read.ids for p in batch], [(0, 0)] * len(batch), heads, keeping, record=False
            )
            yield from (_joined(self.head(), recorder.kept[s]) for s in range(len(batch)))

    def ask(self, prompts: Sequence[Prompt], kept: Sequence[Kept], want: Want) -> Iterator[Signal]:
        """Like `read`, with the passages' keys and values already there: only the questions run.

        Raises:
            BadInput: as `read`, or keys that were kept for other passages or by a shallower proxy.
        """
        self._check_kept(prompts, kept, want)
        start = 0
        for batch in packed(prompts, self.batch_tokens, lambda p: len(p.ask.ids)):
            past = kept[start : start + len(batch)]
            start += len(batch)
            recorder = self._run(
                [p.ask.ids for p in batch],
                [(p.ask.rows, len(p.ask.ids)) for p in batch],
                past,
                want,
            )
            yield from (
                _signal(recorder, s, p, want, len(self.layout.head)) for s, p in enumerate(batch)
            )

    def head(self) -> Kept:
        """Keys and values of the template's opening, computed once."""
        if self._head is None:
            want = Want(tuple(range(self.depth)), keep=True)
            recorder = self._run([self.layout.head], [(0, 0)], None, want, record=False)
            self._head = tuple(recorder.kept[0])
        return self._head

    def _check_kept(self, prompts: Sequence[Prompt], kept: Sequence[Kept], want: Want) -> None:
        """Foreign keys would score without complaint, and wrong."""
        if len(kept) != len(prompts):
            raise BadInput(f"{len(prompts)} prompts and {len(kept)} kept passages; give one each")
        for p, (prompt, layers) in enumerate(zip(prompts, kept, strict=True)):
            there = layers[0].keys.shape[1] if layers else 0
            due = len(self.layout.head) + len(prompt.read.ids)
            if there != due or len(layers) < want.depth:
                raise BadInput(
                    f"prompt {p} needs {due} kept tokens in {want.depth} layers and was given "
                    f"{there} in {len(layers)}; keep the passage again with this proxy"
                )

    def _run(
        self,
        sequences: Sequence[Sequence[int]],
        row_spans: Sequence[tuple[int, int]],
        past: Sequence[Kept] | None,
        want: Want,
        record: bool = True,
    ) -> Recorder:
        """One forward pass over packed sequences."""
        if want.depth > self.depth:
            raise BadInput(
                f"layer {want.depth - 1} is wanted and {self.card.name} was loaded with "
                f"{self.depth} layers; {_deeper(want.depth, self.card.layers)}"
            )
        starts = [past[s][0].keys.shape[1] if past else 0 for s in range(len(sequences))]
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
        recorder = Recorder(
            layers=frozenset(want.layers) if record else frozenset(),
            row_spans=row_spans,
            lengths=[len(sequence) for sequence in sequences],
            past=past,
            groups=want.rows,
            keep=want.keep,
            stop_after=None if want.keep else want.depth - 1,
        )
        with self._lock, torch.inference_mode(), recording(recorder):
            self.model(
                input_ids=ids[None].to(self.device),
                position_ids=positions[None].to(self.device),
                use_cache=False,
            )
        return recorder


def _deeper(depth: int, layers: int) -> str:
    """The way out of a want that is deeper than the proxy."""
    if depth <= layers:
        return f"load it with layers={depth} (the whole model has {layers})"
    return f"the whole model has {layers}: want layers below {layers}, or choose a deeper proxy"


def packed(prompts: Sequence[Any], batch_tokens: int, length: Any = len) -> Iterator[list[Any]]:
    """Consecutive prompts in batches of at most `batch_tokens`; a longer one is its own batch."""
    batch: list[Any] = []
    total = 0
    for prompt in prompts:
        size = length(prompt)
        if batch and total + size > batch_tokens:
            yield batch
            batch, total = [], 0
        batch.append(prompt)
        total += size
    if batch:
        yield batch


def _signal(recorder: Recorder, s: int, prompt: Prompt, want: Want, head: int) -> Signal:
    """The recorded rows of one sequence, cut to its passage's own tokens."""
    # [0, head) kept opening   [head, head + start) title   [.., stop) passage   then the question
    start, stop = head + prompt.read.start, head + len(prompt.read.ids)
    return Signal(
        torch.stack([w[..., start:stop] for w in recorder.weights[s]]), want.layers, want.rows
    )


def _joined(head: Kept, kept: Sequence[KeptLayer]) -> Kept:
    return tuple(
        KeptLayer(torch.cat((a.keys, b.keys), 1), torch.cat((a.values, b.values), 1))
        for a, b in zip(head, kept, strict=True)
    )


def readable(config: Any) -> tuple[int, int]:
    """Layers and heads of a decoder whose attention tamis reads faithfully.

    Raises:
        ProxyUnsupported: what the model does beside causal softmax attention, full or sliding.
    """
    kind = getattr(config, "model_type", type(config).__name__)
    sizes = [getattr(config, f"num_{axis}", 0) for axis in ("hidden_layers", "attention_heads")]
    kinds = set(getattr(config, "layer_types", None) or ())
    reasons = {
        "is no text decoder": not all(sizes),
        "caps its attention logits": getattr(config, "attn_logit_softcapping", None) is not None,
        "lets tokens see what follows them": not getattr(config, "is_causal", True)
        or getattr(config, "use_bidirectional_attention", False),
        "has layers that do not attend by softmax over all keys or a window": not kinds
        <= {"full_attention", "sliding_attention"},
    }
    if why := [reason for reason, holds in reasons.items() if holds]:
        raise ProxyUnsupported(
            f"{kind} {' and '.join(why)}; choose a decoder such as Llama, Qwen or Gemma 3"
        )
    return int(sizes[0]), int(sizes[1])


def _load(folder: Path, layers: int, dtype: torch.dtype) -> Any:
    """The first layers of a model, without its head."""
    with _reading(folder), _quiet():
        model, found = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            num_hidden_layers=layers,
            attn_implementation=ATTENTION,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    # transformers fills a missing tensor with random numbers and only warns
    if missing := sorted(found["missing_keys"]):
        raise BadModelFile(
            f"{folder} lacks {len(missing)} tensors, the first is {missing[0]}; fetch it again"
        )
    return model


@contextmanager
def _reading(folder: Path) -> Iterator[None]:
    """Turns whatever the readers of transformers and tokenizers raise into one error."""
    try:
        yield
    except Exception as error:  # the Rust side raises a bare Exception for a missing or torn file
        raise BadModelFile(f"{folder} cannot be loaded as a proxy: {error}") from error


def choose_device(device: str) -> torch.device:
    """`auto`, or any name torch knows. BadInput: another."""
    if device != "auto":
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise BadInput(f"device is {device!r}; give auto, cpu, mps, cuda or cuda:N") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """`auto`, a torch dtype, or its name. BadInput: another name; it lists the ones there are."""
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype in _DTYPES:
        return _DTYPES[dtype]
    if dtype != "auto":
        raise BadInput(f"dtype is {dtype!r}; give auto or one of {', '.join(sorted(_DTYPES))}")
    if device.type == "cpu":
        able = torch.cpu.get_capabilities()
        return torch.bfloat16 if able.get("avx512_bf16") or able.get("amx_bf16") else torch.float32
    able_gpu = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return torch.bfloat16 if able_gpu else torch.float16


def guess_template(tokenizer: Tokenizer) -> Template:
    """ChatML where the tokenizer has its turn tokens, else plain words."""
    return TEMPLATES["chatml" if tokenizer.token_to_id("<|im_start|>") is not None else "plain"]


def folder_revision(folder: Path) -> str:
    """The first 16 hex digits of the SHA-256 over the folder's weights, in name order."""
    digest = hashlib.sha256()
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadModelFile(f"{folder} holds no *.safetensors; pickled weights are not loaded")
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()[:16]


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences transformers' report of the layers that were left on disk, here and only here."""
    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
        if bars:
            hf_logging.enable_progress_bar()
