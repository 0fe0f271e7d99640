"""Readings kept on disk: what a proxy saw of one case serves every method and refit again."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tamis.compressors._reading import Look
from tamis.probes.capture import Want
from tamis.probes.prompt import Prompt, Read, Template
from tamis.probes.proxy import Kept, Proxy
from tamis.probes.signal import Signal
from tamis.probes.text import Passage, Unit

KEPT_TOKENS = 60_000
"""Passages kept to be asked again: 2 GB for 20 layers of the default proxy in fp32."""


class Keeping:
    """A reader that keeps the keys and values of passages it has read, and only asks again.

    Data sets ask many questions of the same passages; so read, they cost a fraction.
    """

    def __init__(self, proxy: Proxy, most_tokens: int = KEPT_TOKENS) -> None:
        self.proxy, self.most_tokens = proxy, most_tokens
        self.card, self.layout = proxy.card, proxy.layout
        self._kept: OrderedDict[Read, Kept] = OrderedDict()
        self._tokens = 0

    def with_template(self, template: Template) -> Keeping:
        """The same model, in other words; nothing kept is shared."""
        return Keeping(self.proxy.with_template(template), self.most_tokens)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """Like `Proxy.read`; equal to it within the rounding of the dtype."""
        new = list({p.read: p for p in prompts if p.read not in self._kept}.values())
        fresh = dict(zip([p.read for p in new], self.proxy.keep(new, want), strict=True))
        kept = [fresh.get(p.read) or self._kept[p.read] for p in prompts]
        yield from self.proxy.ask(prompts, kept, want)
        self._kept.update(fresh)
        self._tokens += sum(len(read.ids) for read in fresh)
        while self._tokens > self.most_tokens:
            read, _ = self._kept.popitem(last=False)
            self._tokens -= len(read.ids)


class Looks:
    """A folder of readings, one small safetensors file a case."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder / hashlib.sha256(key.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "key.txt").write_text(key)

    def get(
        self,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        look: Callable[[str, Sequence[Passage], Sequence[Unit]], Look],
    ) -> Look:
        """The stored reading of this case, or a new one, stored."""
        shape = [[p.title, p.text] for p in passages], [[u.passage, *u.visible] for u in units]
        name = hashlib.sha256(json.dumps([question, shape]).encode()).hexdigest()[:24]
        path = self.folder / f"{name}.safetensors"
        if path.is_file():
            return _loaded(path)
        _save(path, look(question, passages, units))
        return _loaded(path)  # rounded to fp16, as every later run will find it


def _save(path: Path, look: Look) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
    os.close(handle)
    tensors = {
        "features": look.features.half(),
        "tokens": torch.tensor(look.tokens, dtype=torch.int32),
    }
    facts = {
        "windows": look.windows,
        "tokens_read": look.tokens_read,
        "timings_ms": look.timings_ms,
    }
    save_file(tensors, temporary, metadata={"facts": json.dumps(facts)})
    os.replace(temporary, path)


def _loaded(path: Path) -> Look:
    with safe_open(path, framework="pt") as file:
        facts = json.loads(file.metadata()["facts"])
        features = file.get_tensor("features").float()
        tokens = tuple(file.get_tensor("tokens").tolist())
    return Look(features, tokens, facts["windows"], facts["tokens_read"], facts["timings_ms"])
