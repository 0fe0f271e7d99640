"""How many calls a batch costs a graphics card: printed as a table, and checked by a test.

    python -m tests.device_calls

The default method reads windows of a random model under `pretend_device`, which counts and computes
nothing on a card: no time is measured here. `cold` reads without a cache, `fill` keeps passages as
it reads, `kept` reads the question alone.
"""

from __future__ import annotations

import random
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.text.types import Passage, Unit
from tests.laws.methods import head_profile, sentinel_probe
from tests.pretend_device import PretendDevice, varlen_stand_in
from tests.probes import tiny

LAYERS = 8
PROMPTS = (1, 8, 40)
QUESTION = "Who came in, and when?\nWe saw the cat. It was wet!"


@dataclass(frozen=True, slots=True)
class Card:
    """A card to be pretended: its kernels, and what is computed on it."""

    name: str
    dtype: str
    capability: tuple[int, int] = (7, 5)
    has_varlen: bool = False
    kind: str = "cuda"

    def pretend(self) -> PretendDevice:
        """A new one, with nothing counted."""
        kernel = varlen_stand_in("2.12") if self.has_varlen else None
        return PretendDevice(self.kind, capability=self.capability, varlen=kernel)


CARDS = (
    Card("Ampere, bf16, torch 2.12", "bf16", (8, 0), True),
    Card("Turing, fp32, any torch", "fp32"),
    Card("Apple, fp32", "fp32", kind="mps"),
)


@dataclass(frozen=True, slots=True)
class Calls:
    """What one batch of prompts cost.

    Attributes:
        launches: calls that compute on the card, all layers together. syncs: how often the host
            waited for it.
    """

    launches: int
    syncs: int

    @property
    def a_layer(self) -> float:
        """Launches for each layer, with what is done once a batch spread over them."""
        return self.launches / LAYERS


def save_model(folder: Path, kind: str = "qwen2") -> Path:
    """A random model of `LAYERS` layers, with its tokenizer."""
    tiny.model(kind, num_hidden_layers=LAYERS).save_pretrained(folder)
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def documents(count: int) -> tuple[list[Passage], list[Unit]]:
    """Passages of one to four sentences, each short enough to be one prompt."""
    draw = random.Random(count)
    passages, units = [], []
    for p in range(count):
        text = ""
        for _ in range(draw.randrange(1, 5)):
            start = len(text)
            text += "".join(draw.choice("abcdefgh ") for _ in range(draw.randrange(8, 20))) + ". "
            units.append(Unit(p, start, len(text), (start, len(text))))
        passages.append(Passage(text, f"No. {p}" if p % 2 else ""))
    return passages, units


def question_rows(reader: Any) -> Any:
    """The default method."""
    return QuestionRows.for_fit(reader, LAYERS)


def sentinel(reader: Any) -> Any:
    """Sentinel, whose template has an opening of its own, which is read beforehand."""
    made = Sentinel(reader, sentinel_probe(reader), chunk_tokens=1)
    if isinstance(made.reader, Proxy):
        made.reader.opening_kv()
    return made


OTHERS: dict[str, Callable[[Any], Any]] = {
    "sentinel": sentinel,
    "ehpc": lambda reader: EHPC(reader, head_profile(reader), calibrate=False),
    "ehpc, by token": lambda reader: EHPC(reader, head_profile(reader), form="token"),
}
"""Published methods whose rows are pooled in other ways."""


def count(
    card: Card,
    folder: Path,
    prompts: int,
    storage: Any = "exact",
    method: Callable[[Any], Any] = question_rows,
    **cache: Any,
) -> dict[str, Calls]:
    """The calls of one batch, read cold, read and kept, and read from what is kept.

    Args:
        prompts: how many the batch has.
        storage, cache: of the passages that are kept.
        method: makes the method from a reader.
    """
    passages, units = documents(prompts)
    found = {}
    with card.pretend() as device:
        proxy = Proxy.from_folder(folder, device=card.kind, dtype=card.dtype)
        proxy.opening_kv()
        kept = CachedReader(proxy, PassageCache(storage=storage, **cache))
        for way, reader in (("cold", proxy), ("fill", kept), ("kept", kept)):
            made = method(reader)
            device.reset()
            reading = made.read(QUESTION, passages, units)
            assert reading.windows >= prompts, "every passage has to be a prompt, at least"
            assert bool(reading.tokens_cached) == (way == "kept")
            found[way] = Calls(device.launches, device.syncs)
    return found


def table(folder: Path) -> Iterator[str]:
    """The lines of the table, in Markdown."""
    yield "| card | passages | " + " | ".join(f"{n} prompts" for n in PROMPTS) + " |"
    yield "|---|---|" + "---|" * len(PROMPTS)
    for card in CARDS:
        for storage in ("exact", "int8"):
            cells = [count(card, folder, n, storage) for n in PROMPTS]
            for way in ("cold", "fill", "kept"):
                if way == "cold" and storage != "exact":
                    continue
                own = [cell[way] for cell in cells]
                texts = [f"{calls.a_layer:.1f} · {calls.syncs}" for calls in own]
                name = way if way == "cold" else f"{way}, {storage}"
                yield f"| {card.name} | {name} | " + " | ".join(texts) + " |"


def main() -> None:
    """Prints calls a layer and waits a batch."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        model = save_model(Path(folder))
        sys.stdout.write("calls a layer · waits of the host a batch\n\n")
        for line in table(model):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
