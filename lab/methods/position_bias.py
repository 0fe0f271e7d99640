"""Position bias: how much attention each position in a list of documents draws.

Source: AttnRank, "Attention Basin" (arXiv 2508.05128): the first and the last document of a list
draw more attention than those between, which the paper calls the attention basin. It is measured
once per model, over documents in shuffled order, in the shallowest layer that shows the bias:
min(first, last) / mean of the rest is at least 1.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.probing.heads import read_profile, shipped_file, write_profile

MIN_BIAS_RATIO = 1.3
PROFILES_FOLDER = Path(__file__).parent / "profiles"


@dataclass(frozen=True, slots=True)
class PositionProfile:
    """Shares of attention by position, of one model with one template.

    Attributes:
        by_layer: `[L][K]`, the mean share of the document at each of K positions, per layer.
        layer: the layer that is used.
        shows_basin: whether that layer meets the criterion, or is merely the nearest to it.
        cases: the number of document lists that were read.
        data: per data file its name, SHA-256 and number of cases.
    """

    model: str
    revision: str
    template: str
    by_layer: tuple[tuple[float, ...], ...]
    layer: int
    shows_basin: bool
    cases: int = 0
    data: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    @property
    def shares(self) -> tuple[float, ...]:
        """The K shares of the layer that is used, one per position."""
        return self.by_layer[self.layer]

    def shares_for(self, documents: int) -> list[float]:
        """Shares for a list of any length, by linear interpolation between measured positions."""
        measured, last = self.shares, len(self.shares) - 1
        positions = [p * last / max(1, documents - 1) for p in range(documents)]
        return [_interpolate(measured, position) for position in positions]

    def save(self, path: Path | str) -> None:
        """Writes the profile as JSON.

        Raises:
            BadInput: the file cannot be written.
        """
        write_profile(Path(path), "basin", asdict(self))

    @classmethod
    def load(cls, path: Path | str) -> PositionProfile:
        """Reads a profile.

        Raises:
            BadModelFile: the file is missing or damaged.
        """
        facts = read_profile(Path(path), "basin")
        try:
            facts["by_layer"] = tuple(tuple(map(float, row)) for row in facts["by_layer"])
            facts["data"] = tuple(facts.get("data", ()))
            found = cls(**{f.name: facts[f.name] for f in fields(cls) if f.name in facts})
            if len(found.shares) < 2:
                raise ValueError("fewer than two places")
            return found
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BadModelFile(f"{path} is no whole profile of places: {error}") from error

    @classmethod
    def load_shipped(cls, model: str) -> PositionProfile:
        """The profile that ships with tamis.

        Raises:
            BadInput: none ships for this model.
        """
        return _load_shipped(model)


@lru_cache(maxsize=8)
def _load_shipped(model: str) -> PositionProfile:
    path = shipped_file("basin", model, PROFILES_FOLDER)
    if not path.is_file():
        raise BadInput(
            f"no profile of places of {model} ships with tamis-lab; make one: "
            f"tamis lab heads basin --proxy {model} --data FILE --out FILE"
        )
    return PositionProfile.load(path)


def _interpolate(values: Sequence[float], position: float) -> float:
    low = int(position)
    high, part = min(low + 1, len(values) - 1), position - low
    return values[low] * (1 - part) + values[high] * part


def bias_ratio(shares: Sequence[float]) -> float:
    """How much more attention the ends draw: min(first, last) / mean of the rest."""
    inner = shares[1:-1]
    return min(shares[0], shares[-1]) / max(1e-12, sum(inner) / max(1, len(inner)))


def biased_layer(by_layer: Sequence[Sequence[float]]) -> tuple[int, bool]:
    """The shallowest layer that shows the bias, and True; if none does, the nearest, and False."""
    ratios = [bias_ratio(shares) for shares in by_layer]
    for layer, ratio in enumerate(ratios):
        if ratio >= MIN_BIAS_RATIO:
            return layer, True
    return max(range(len(ratios)), key=ratios.__getitem__), False
