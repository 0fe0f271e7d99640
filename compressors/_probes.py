"""The probes that ship with tamis, found by method and model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from tamis.compressors._reading import Reader
from tamis.probes.linear import LinearProbe

WEIGHTS = Path(__file__).parent / "weights"


def weights_file(method: str, model: str) -> Path:
    """Where the probe of a method for a model lies in the wheel."""
    return WEIGHTS / f"{method}.{model.replace('/', '--')}.safetensors"


@lru_cache(maxsize=32)
def shipped(method: str, model: str) -> LinearProbe | None:
    """The probe that ships for a method and a model; None where there is none."""
    path = weights_file(method, model)
    return LinearProbe.load(path) if path.is_file() else None


def chosen_probe(
    method: str, reader: Reader, probe: LinearProbe | Path | Literal["auto"] | None
) -> LinearProbe | None:
    """The probe to use, checked against the reader.

    Raises:
        ProbeMismatch: it is for another model, revision or template. BadModelFile: it cannot be read.
    """
    if probe == "auto":
        found = shipped(method, reader.card.name)
    else:
        found = LinearProbe.load(probe) if isinstance(probe, Path) else probe
    if found is not None:
        found.check(reader.card, reader.layout.template.name)
    return found
