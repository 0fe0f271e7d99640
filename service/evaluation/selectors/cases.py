"""What selectors are compared on: keys of a real text, and query states of real questions.

The text is read in windows, each on its own behind the template's opening, so its keys stand at the
same positions in every window. Questions stand behind a whole window and see none of them
(`probes.states`). Captured once: windows go to disk a shard at a time, so that a run that was cut
short goes on and a longer text begins where a shorter one ended.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import Ask, Prompt, Read
from tamis.probes.signal import Want

SHARD_WINDOWS = 8
Head = tuple[int, int]
"""Layer and query head."""


@dataclass(frozen=True, slots=True)
class Case:
    """One query head: the keys it reads and what it asks.

    Attributes:
        head: layer and query head.
        keys: `[N, d]`, rotated, of tokens with a letter or a digit; separators are left out.
        train: `[T, d]` query states that an index may learn from.
        test: `[Q, d]` query states of other questions. Both are scaled: q · k is the logit.
    """

    head: Head
    keys: Tensor
    train: Tensor
    test: Tensor


@dataclass(frozen=True, slots=True)
class Capture:
    """Reads keys and query states, or finds what an earlier run read.

    Attributes:
        proxy: deep enough for `heads`. window: tokens a window. folder: where shards go.
    """

    proxy: Proxy
    heads: tuple[Head, ...]
    window: int
    folder: Path

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the heads, ascending."""
        return tuple(sorted({layer for layer, _ in self.heads}))

    def kv(self, head: int) -> int:
        """The key head that a query head reads (grouped-query attention)."""
        config = self.proxy.body.config
        return head * int(config.num_key_value_heads) // int(config.num_attention_heads)

    def keys(self, ids: Sequence[int], step: Callable[[int], object]) -> dict[Head, Tensor]:
        """Keys of every token, `[N, d]` a (layer, key head); `step` hears how many were read."""
        size = self.window * SHARD_WINDOWS
        shards = []
        for start in range(0, len(ids), size):
            part = list(ids[start : start + size])
            shards.append(self._stored("keys", part, self._key_heads(), partial(self._read, part)))
            step(len(part))
        return _joined(shards)

    def queries(self, asks: Sequence[Ask], step: Callable[[int], object]) -> dict[Head, Tensor]:
        """Query states of every row of every question, `[rows, d]` a (layer, query head)."""
        shards = []
        for start in range(0, len(asks), 64):
            part = list(asks[start : start + 64])
            ids = [token for ask in part for token in (-ask.rows, *ask.ids)]
            shards.append(self._stored("queries", ids, self.heads, partial(self._ask, part)))
            step(len(part))
        return _joined(shards)

    def _read(self, ids: Sequence[int]) -> dict[str, Tensor]:
        cut = range(0, len(ids), self.window)
        prompts = [Prompt(Read(tuple(ids[a : a + self.window]), 0, ()), Ask((), 0)) for a in cut]
        heads = self._key_heads()
        kept = self.proxy.keep(prompts, Want(self.layers))
        opening = len(self.proxy.layout.head)
        parts: dict[str, list[Tensor]] = {}
        for window in kept:
            for layer, head in heads:
                keys = window[layer].keys[head, opening:]
                parts.setdefault(f"{layer}.{head}", []).append(keys.cpu())
        return {name: torch.cat(part) for name, part in parts.items()}

    def _ask(self, asks: Sequence[Ask]) -> dict[str, Tensor]:
        states = list(question_states(self.proxy, asks, self.layers, self.window))
        return {
            f"{layer}.{head}": torch.cat([s[self.layers.index(layer), head] for s in states])
            for layer, head in self.heads
        }

    def _key_heads(self) -> tuple[Head, ...]:
        return tuple(sorted({(layer, self.kv(head)) for layer, head in self.heads}))

    def _stored(
        self,
        what: str,
        ids: Sequence[int],
        heads: Sequence[Head],
        make: Callable[[], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """A shard from disk if it holds these heads, else made and added to what is there."""
        path = self.folder / f"{what}-{self._name(ids)}.safetensors"
        wanted = {f"{layer}.{head}" for layer, head in heads}
        there = _shard(path)
        if not wanted <= set(there):
            there |= {name: tensor.contiguous() for name, tensor in make().items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{os.getpid()}")
            save_file(there, part)
            os.replace(part, path)
        return {name: there[name] for name in sorted(wanted)}

    def _name(self, ids: Sequence[int]) -> str:
        """All that the states depend on, beside the head."""
        card, template = self.proxy.card, self.proxy.layout.template
        facts = (card.revision, template, self.proxy.dtype, self.window, tuple(ids))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def _shard(path: Path) -> dict[str, Tensor]:
    """What an earlier run left; a damaged file is as good as none, and is written again."""
    try:
        return load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError):
        return {}


def _joined(shards: Sequence[dict[str, Tensor]]) -> dict[Head, Tensor]:
    if not shards:
        raise BadInput("there is nothing to read: the text or the questions are empty")
    return {
        (int(name.split(".")[0]), int(name.split(".")[1])): torch.cat([s[name] for s in shards])
        for name in shards[0]
    }


def content(texts: Sequence[str]) -> Tensor:
    """Which tokens hold a letter or a digit: `[N]` bool.

    Full stops, commas and line breaks draw every question's attention, as sinks do, and say
    nothing. The sinks themselves are in the template's opening, which is no part of the text.
    """
    return torch.tensor([any(char.isalnum() for char in text) for text in texts])
