"""The data that selectors are compared on: keys of a real text, query states of real questions.

The text is read in windows, each alone after the template's opening, so that keys have the same
positions in every window. Questions have positions after a whole window, but attend to none
(`probes.model.query_states`). States are captured once and written to disk in shards of several
windows, so that an interrupted run is resumed, and a longer text continues a shorter one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want

SHARD_WINDOWS = 8
SHARD_QUESTIONS = 64
Head = tuple[int, int]
"""Layer and query head."""


@dataclass(frozen=True, slots=True)
class SelectorCase:
    """One query head: the keys it attends to, and query states.

    Attributes:
        head: layer and query head.
        keys: `[N, d]`, rotated, of tokens with a letter or a digit; separators are left out.
        train: `[T, d]` query states that an index may learn from.
        test: `[Q, d]` query states of other questions. Both are scaled: q · k is the logit.
        values: `[N, d]` of the same tokens. questions: `[Q]`, the question of each test row.
    """

    head: Head
    keys: Tensor
    train: Tensor
    test: Tensor
    values: Tensor
    questions: Tensor


@dataclass(frozen=True, slots=True)
class StateCapture:
    """Captures keys and query states of some heads, or loads those that an earlier run captured.

    Attributes:
        proxy: with all layers of `heads`. window: tokens in a window. folder: of the shards.
    """

    proxy: Proxy
    heads: tuple[Head, ...]
    window: int
    folder: Path

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the heads, ascending."""
        return tuple(sorted({layer for layer, _ in self.heads}))

    def key_head(self, head: int) -> int:
        """The key head that a query head reads (grouped-query attention)."""
        config = self.proxy.body.config
        return head * int(config.num_key_value_heads) // int(config.num_attention_heads)

    def read_kv(
        self, ids: Sequence[int], on_step: Callable[[int], object]
    ) -> dict[Head, tuple[Tensor, Tensor]]:
        """Keys and values of every token, `[N, d]` each, for each (layer, key head).

        Args:
            on_step: called after each shard with its number of tokens.
        """
        size, heads = self.window * SHARD_WINDOWS, self._key_heads()
        shards = []
        for start in range(0, len(ids), size):
            part = list(ids[start : start + size])
            capture = partial(self._capture_kv, part)
            shards.append(self._load_or_capture("kv", part, heads, capture))
            on_step(len(part))
        return {head: (kv[0], kv[1]) for head, kv in _join_shards(shards, dim=1).items()}

    def read_queries(
        self, asks: Sequence[QuestionTokens], on_step: Callable[[int], object]
    ) -> dict[Head, Tensor]:
        """Query states of every row of every question, `[rows, d]` for each (layer, query head).

        Args:
            on_step: called after each shard with its number of questions.
        """
        shards = []
        for start in range(0, len(asks), SHARD_QUESTIONS):
            part = list(asks[start : start + SHARD_QUESTIONS])
            ids = [token for ask in part for token in (-ask.first_row, *ask.ids)]
            capture = partial(self._capture_queries, part)
            shards.append(self._load_or_capture("queries", ids, self.heads, capture))
            on_step(len(part))
        return _join_shards(shards)

    def _capture_kv(self, ids: Sequence[int]) -> dict[str, Tensor]:
        starts, question = range(0, len(ids), self.window), QuestionTokens((), 0)
        texts = (tuple(ids[start : start + self.window]) for start in starts)
        prompts = [Prompt(PassageTokens(text, 0, ()), question) for text in texts]
        heads = self._key_heads()
        opening = len(self.proxy.layout.opening)
        parts: dict[str, list[Tensor]] = {}
        for window in self.proxy.compute_kv(prompts, Want(self.layers)):
            for layer, head in heads:
                kv = torch.stack((window[layer].keys[head], window[layer].values[head]))
                parts.setdefault(f"{layer}.{head}", []).append(kv[:, opening:].cpu())
        return {name: torch.cat(part, 1) for name, part in parts.items()}

    def _capture_queries(self, asks: Sequence[QuestionTokens]) -> dict[str, Tensor]:
        states = list(question_states(self.proxy, asks, self.layers, self.window))
        return {
            f"{layer}.{head}": torch.cat([s[self.layers.index(layer), head] for s in states])
            for layer, head in self.heads
        }

    def _key_heads(self) -> tuple[Head, ...]:
        return tuple(sorted({(layer, self.key_head(head)) for layer, head in self.heads}))

    def _load_or_capture(
        self,
        kind: str,
        ids: Sequence[int],
        heads: Sequence[Head],
        capture: Callable[[], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """A shard from disk if it has these heads; otherwise they are captured and added to it."""
        path = self.folder / f"{kind}-{self._shard_name(ids)}.safetensors"
        names = {f"{layer}.{head}" for layer, head in heads}
        shard = _load_shard(path)
        if not names <= set(shard):
            shard |= {name: tensor.contiguous() for name, tensor in capture().items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                save_file(shard, temporary)
        return {name: shard[name] for name in sorted(names)}

    def _shard_name(self, ids: Sequence[int]) -> str:
        """A digest of everything that the states depend on, beside the head."""
        card, template = self.proxy.card, self.proxy.layout.template
        facts = (card.revision, template, self.proxy.arithmetic, self.window, tuple(ids))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def _load_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard by head; none if the file is missing or damaged."""
    try:
        return load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError):
        return {}


def _join_shards(shards: Sequence[dict[str, Tensor]], dim: int = 0) -> dict[Head, Tensor]:
    if not shards:
        raise BadInput("there is nothing to read: the text or the questions are empty")
    heads = {name: tuple(map(int, name.split("."))) for name in shards[0]}
    return {
        (layer, head): torch.cat([s[name] for s in shards], dim)
        for name, (layer, head) in heads.items()
    }


def content_mask(texts: Sequence[str]) -> Tensor:
    """Which tokens have a letter or a digit: `[N]` bool.

    Full stops, commas and line breaks attract the attention of every question, as sinks do, but
    have no content. The sinks themselves are in the template's opening, not in the text.
    """
    return torch.tensor([any(char.isalnum() for char in text) for text in texts])
