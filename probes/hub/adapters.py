"""Learnt adapters on disk, and merged into the model they were learnt for.

A folder holds `adapters.safetensors`, for each projection `NAME.a [rank, I]` and `NAME.b [O, rank]`
in fp32, and `adapters.json`, its card. Merged at load, W becomes W + scale · B A, in fp32, then in
the model's dtype: a sharpened proxy costs no more than the one it comes from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from tamis.probes.attention.linear_kernels import unpack
from tamis.probes.card_file import read_card_fields
from tamis.probes.errors import BadModelFile, ProbeMismatch
from tamis.probes.hub.sharpened import CARD, WEIGHTS, sharpened_revision
from tamis.probes.model.proxy import Proxy

FORMAT = 1
_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("name", "base", "revision", "template", "weights_sha256"), str),
    **dict.fromkeys(("rank", "depth"), int),
    "scale": (int, float),
    **dict.fromkeys(("layers", "trained_on"), list),
    **dict.fromkeys(("recipe", "figures"), dict),
}


@dataclass(frozen=True, slots=True)
class AdapterCard:
    """What adapters were learnt for and with; they are refused with any other model.

    Attributes:
        name: of the model that base and adapters make.
        base: the proxy they were learnt on, as `load_proxy` takes it: a name or a folder.
        revision, template: of that proxy. Its revision must match, its place may change.
        rank, scale: of each adapter, and what its product is multiplied with.
        layers: the layers adapted.
        depth: layers that were read while they were learnt; adapters help no deeper.
        trained_on: per training set its name, SHA-256 and how many questions were used.
        recipe: every other number that changed the result, the seed among them.
        figures: the curve on articles held out.
        weights_sha256: of the safetensors file beside the card.
    """

    name: str
    base: str
    revision: str
    template: str
    rank: int
    scale: float
    layers: tuple[int, ...]
    depth: int
    trained_on: tuple[Mapping[str, Any], ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Adapters:
    """For each projection by name, `a [rank, I]` and `b [O, rank]`, and the card of all."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    card: AdapterCard

    @property
    def revision(self) -> str:
        """Of the model they make: the base's, and the adapters' own hash."""
        return sharpened_revision(self.card.revision, self.card.weights_sha256)

    def save(self, folder: Path) -> Adapters:
        """Writes weights and card into a folder; returns the adapters with their hash."""
        tensors = {f"{name}.a": a for name, (a, _) in self.pairs.items()}
        tensors |= {f"{name}.b": b for name, (_, b) in self.pairs.items()}
        data = save({name: t.detach().float().cpu().contiguous() for name, t in tensors.items()})
        card = replace(self.card, weights_sha256=hashlib.sha256(data).hexdigest())
        folder.mkdir(parents=True, exist_ok=True)
        (folder / WEIGHTS).write_bytes(data)
        text = json.dumps(asdict(card), indent=1, ensure_ascii=False)
        (folder / CARD).write_text(text + "\n", encoding="utf-8")
        return Adapters(self.pairs, card)

    @classmethod
    def load(cls, folder: Path) -> Adapters:
        """Reads a folder of adapters and believes nothing.

        Raises:
            BadModelFile: a file is missing, torn, foreign, of another format, or holds NaN.
        """
        card = _read_card(folder / CARD)
        path = folder / WEIGHTS
        try:
            data = path.read_bytes()
            tensors = load(data)
        except Exception as error:  # safetensors raises its own exception for any torn file
            raise BadModelFile(f"{path} cannot be read as adapters: {error}") from error
        if hashlib.sha256(data).hexdigest() != card.weights_sha256:
            raise BadModelFile(f"{path} does not belong to its card: hashes differ")
        if not all(torch.isfinite(t).all() for t in tensors.values()):
            raise BadModelFile(f"{path} holds values that are not finite")
        names = sorted({name.rpartition(".")[0] for name in tensors})
        try:
            return cls({n: (tensors[f"{n}.a"], tensors[f"{n}.b"]) for n in names}, card)
        except KeyError as error:
            raise BadModelFile(f"{path} lacks {error}; every adapter has a and b") from error

    def apply_to(self, proxy: Proxy) -> Proxy:
        """The proxy, changed in place to the model that it and the adapters make.

        Adapters of layers that it was not loaded with are left out.

        Raises:
            ProbeMismatch: it is of another revision. BadModelFile: a projection is missing or
                has another shape.
        """
        if self.card.revision != proxy.card.revision:
            raise ProbeMismatch(
                f"the adapters were learnt on {self.card.base} at {self.card.revision}, and this "
                f"is {proxy.card.name} at {proxy.card.revision}; learn some for it: "
                "tamis probe lora --proxy PROXY --data FILE --out FOLDER"
            )
        merge(proxy.body, self)
        proxy.card = replace(proxy.card, name=self.card.name, revision=self.revision)
        return proxy


@torch.no_grad()
def merge(model: Any, adapters: Adapters) -> None:
    """Adds `scale · B A` to the projections, in place; nothing else of the model is touched.

    Raises:
        BadModelFile: a projection is missing or has another shape.
    """
    unpack(model)  # a proxy that was read before
    there = dict(model.named_modules())
    for name, (a, b) in adapters.pairs.items():
        if _layer_number(name) >= int(model.config.num_hidden_layers):
            continue
        module, shape = there.get(name), (b.shape[0], a.shape[1])
        if not isinstance(module, nn.Linear) or tuple(module.weight.shape) != shape:
            raise BadModelFile(
                f"the adapters hold {name} {list(shape)}, and {type(model).__name__} has none such"
            )
        weight = module.weight
        moved = weight.float() + adapters.card.scale * (b @ a).to(weight.device)
        weight.copy_(moved.to(weight.dtype))


def _layer_number(name: str) -> int:
    """Which layer a projection is of; -1 where the name does not say."""
    numbers = [part for part in name.split(".") if part.isdecimal()]
    return int(numbers[0]) if numbers else -1


def _read_card(path: Path) -> AdapterCard:
    names = {f.name for f in fields(AdapterCard)}
    facts = read_card_fields(path, names, _KINDS, FORMAT, "the card of adapters")
    tuples = {name: tuple(facts[name]) for name in ("layers", "trained_on")}
    return AdapterCard(**facts | tuples)
