"""A linear probe on disk: named weights in safetensors, and a JSON card that says what for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from tamis.probes.card import ModelCard
from tamis.probes.card_file import read_card_fields
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch

FORMAT = 1
_KINDS: dict[str, type] = {
    **dict.fromkeys(("method", "model", "revision", "template", "weights_sha256"), str),
    **dict.fromkeys(("layers", "heads"), int),
    **dict.fromkeys(("rows", "trained_on"), list),
    "figures": dict,
}


@dataclass(frozen=True, slots=True)
class ProbeCard:
    """What a probe was fitted for and with; it is refused with anything else.

    Attributes:
        method: the compressor it belongs to.
        model, revision, template: the proxy and its prompt.
        layers: how many layers of the model are read, from the first.
        heads: query heads a layer.
        rows: the row groups read.
        trained_on: per training set its name, SHA-256 and how many questions were used.
        figures: what it reached, on which data.
        weights_sha256: of the safetensors file beside the card.
    """

    method: str
    model: str
    revision: str
    template: str
    layers: int
    heads: int
    rows: tuple[str, ...]
    trained_on: tuple[Mapping[str, Any], ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    weights_sha256: str = ""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class LinearProbe:
    """Named weight tensors and their card."""

    weights: Mapping[str, Tensor]
    card: ProbeCard

    def check(self, model: ModelCard, template: str) -> None:
        """Refuses any model, revision or template but the probe's own.

        Raises:
            ProbeMismatch: with both sides named, and the command that fits a new probe.
        """
        mine = (self.card.model, self.card.revision, self.card.template)
        given = (model.name, model.revision, template)
        if mine != given:
            raise ProbeMismatch(
                f"the probe was fitted with model {mine[0]} at {mine[1]} and template {mine[2]}; "
                f"this is {given[0]} at {given[1]} and template {given[2]}. "
                "Fit one for it: tamis probe train --proxy PROXY --data FILE"
            )

    def weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """One weight tensor, of exactly this shape.

        Raises:
            BadModelFile: it is missing or has another shape.
        """
        found = self.weights.get(name)
        if found is None or tuple(found.shape) != shape:
            has = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise BadModelFile(f"the probe's weight {name!r} is {has}; {shape} is needed")
        return found

    def save(self, path: Path) -> Path:
        """Writes `path` (safetensors) and the card beside it (`.json`).

        Returns:
            The file of the weights: `path` with `.safetensors`, if it does not end so.

        Raises:
            BadInput: a file cannot be written.
        """
        data = save({name: w.float().contiguous() for name, w in sorted(self.weights.items())})
        card = asdict(self.card) | {"weights_sha256": hashlib.sha256(data).hexdigest()}
        weights, beside = probe_files(path)
        try:
            weights.parent.mkdir(parents=True, exist_ok=True)
            weights.write_bytes(data)
            beside.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf8")
        except OSError as error:
            raise BadInput(f"{weights} cannot be written ({error}); name another file") from error
        return weights

    @classmethod
    def load(cls, path: Path) -> LinearProbe:
        """Reads a probe and believes nothing.

        Raises:
            BadModelFile: a file is missing, torn, foreign, of another format, or holds NaN.
        """
        path, beside = probe_files(path)
        card = _read_card(beside)
        try:
            data = path.read_bytes()
            weights = load(data)
        except Exception as error:  # safetensors raises its own exception for any torn file
            raise BadModelFile(f"{path} cannot be read: {error}") from error
        if hashlib.sha256(data).hexdigest() != card.weights_sha256:
            raise BadModelFile(f"{path} does not belong to its card: hashes differ")
        if not all(torch.isfinite(w).all() for w in weights.values()):
            raise BadModelFile(f"{path} holds values that are not finite")
        return cls(weights, card)


def probe_files(path: Path) -> tuple[Path, Path]:
    """Weights and card of a probe, whichever of both is named, or what they have in common."""
    known = path.suffix in (".safetensors", ".json")
    stem = path.name.removesuffix(path.suffix) if known else path.name
    return path.with_name(f"{stem}.safetensors"), path.with_name(f"{stem}.json")


def _read_card(path: Path) -> ProbeCard:
    names = {f.name for f in fields(ProbeCard)}
    facts = read_card_fields(path, names, _KINDS, FORMAT, "a probe's card")
    if odd := [name for name in ("layers", "heads") if facts[name] < 1]:
        raise BadModelFile(f"{path} is not a probe's card; less than 1: {odd}")
    return ProbeCard(
        **facts | {"rows": tuple(facts["rows"]), "trained_on": tuple(facts["trained_on"])}
    )
