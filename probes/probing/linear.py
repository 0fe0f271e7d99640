"""Linear probes: named weights in a safetensors file, and a JSON card about their use."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from tamis.probes.card import ModelCard
from tamis.probes.card_file import read_card, read_weights, write_weights_and_card
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch

FORMAT = 1


@dataclass(frozen=True, slots=True)
class ProbeCard:
    """What a probe was fitted for and with; it is refused with any other model.

    Attributes:
        method: the method that the probe belongs to.
        model, revision, template: of the proxy and its prompts.
        layers: the number of layers that are read, from the first.
        heads: query heads per layer.
        rows: the row groups that are read.
        trained_on: per training set its name, SHA-256 and the number of questions used.
        figures: its measured quality, and on which data.
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
    """A probe's named weight tensors and its card."""

    weights: Mapping[str, Tensor]
    card: ProbeCard

    def check(self, model: ModelCard, template: str) -> None:
        """Checks that the probe is valid for a model and template.

        Raises:
            ProbeMismatch: it is not; the message names both and the command for a new probe.
        """
        mine = (self.card.model, self.card.revision, self.card.template)
        given = (model.name, model.revision, template)
        if mine != given:
            raise ProbeMismatch(
                f"the probe was fitted with model {mine[0]} at {mine[1]} and template {mine[2]}; "
                f"this is {given[0]} at {given[1]} and template {given[2]}. "
                "Fit one for it: tamis lab probe train --proxy PROXY --data FILE"
            )

    def weight(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """The weight tensor of a name, which must have exactly this shape.

        Raises:
            BadModelFile: it is missing or has another shape.
        """
        found = self.weights.get(name)
        if found is None or tuple(found.shape) != shape:
            has = "missing" if found is None else f"of shape {tuple(found.shape)}"
            raise BadModelFile(f"the probe's weight {name!r} is {has}; {shape} is needed")
        return found

    def digest(self) -> str:
        """The SHA-256 of the weights' file, whether or not it was written."""
        return hashlib.sha256(self._file_bytes()).hexdigest()

    def _file_bytes(self) -> bytes:
        data: bytes = save({n: w.float().contiguous() for n, w in sorted(self.weights.items())})
        return data

    def save(self, path: Path) -> Path:
        """Writes the weights (safetensors) and the card beside them (`.json`).

        Returns:
            The file of the weights: `path` with the suffix `.safetensors`.

        Raises:
            BadInput: a file cannot be written.
        """
        data = self._file_bytes()
        card = asdict(self.card) | {"weights_sha256": hashlib.sha256(data).hexdigest()}
        weights, card_path = probe_files(path)
        try:
            write_weights_and_card(weights, data, card_path, card)
        except OSError as error:
            reason = error.strerror or error
            raise BadInput(f"{weights} cannot be written ({reason}); name another file") from error
        return weights

    @classmethod
    def load(cls, path: Path) -> LinearProbe:
        """Reads and checks a probe.

        Raises:
            BadModelFile: a file is missing, damaged, foreign, of another format, or has NaN values.
        """
        weights_path, card_path = probe_files(path)
        card = _read_card(card_path)
        return cls(read_weights(weights_path, card.weights_sha256), card)


def probe_files(path: Path) -> tuple[Path, Path]:
    """The paths of a probe's weights and card, given either of them or the name without suffix."""
    known = path.suffix in (".safetensors", ".json")
    stem = path.name.removesuffix(path.suffix) if known else path.name
    return path.with_name(f"{stem}.safetensors"), path.with_name(f"{stem}.json")


def _read_card(path: Path) -> ProbeCard:
    card = read_card(path, ProbeCard, FORMAT, "a probe's card")
    if odd := [name for name in ("layers", "heads") if getattr(card, name) < 1]:
        raise BadModelFile(f"{path} is not a probe's card; less than 1: {odd}")
    return card


@dataclass(frozen=True, slots=True)
class Calibration:
    """Maps scores z of one request to probabilities.

        sigmoid(a·z + b·max z + c·logsumexp z + d + e·softmax z)

    A listwise fit determines which unit is best, not whether any is good; the best score of the
    request and the logsumexp indicate that. `a + b + c` is the slope when all scores rise together;
    `e` lets a unit that has the request for itself be as sure as it is, however small `a` must be
    for the many that have hardly a share. The order of units within a request is that of z.
    """

    a: float
    b: float
    c: float
    d: float
    e: float = 0.0

    def __call__(self, z: Tensor) -> Tensor:
        """Probabilities `[U]` of scores `[U]`."""
        if not len(z):
            return z
        level = self.b * z.max() + self.c * torch.logsumexp(z, 0) + self.d
        return torch.sigmoid(self.a * z + level + self.e * z.softmax(0))


def conformal_threshold(lowest: Tensor, coverage: float) -> float:
    """The lowest probability that a unit to keep may have; 0, which keeps all, if n is too small.

    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, §2.2) with the lowest probability
    of a question's gold units as its score: of n calibration questions, the threshold is the k-th
    lowest such score, k = ⌊(1 - coverage)(n + 1)⌋, at most n. A new question like those keeps all
    its evidence with at least that probability. Nothing is promised for data unlike the
    calibration's.

    Args:
        lowest: `[n]`, per calibration question the lowest probability of its gold units.
        coverage: the share of questions whose evidence shall be kept whole.
    """
    # (1 - 0.9) * 10 is 0.9999999999999998: rounding errors are forgiven
    k = min(math.floor((1 - coverage) * (len(lowest) + 1) + 1e-9), len(lowest))
    return float(sorted(lowest.tolist())[k - 1]) if k else 0.0
