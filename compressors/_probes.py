"""The probes that ship with tamis, found by method and model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

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
    method: str, reader: Reader, probe: LinearProbe | Path | str | None
) -> LinearProbe | None:
    """The probe to use, checked against the reader.

    Args:
        probe: a probe, the path of one, `auto` for the one that ships, or None for none.

    Raises:
        ProbeMismatch: it is for another model, revision or template.
        BadModelFile: it cannot be read.
    """
    found = shipped(method, reader.card.name) if probe == "auto" else opened(probe)
    if found is not None:
        found.check(reader.card, reader.layout.template.name)
    return found


def opened(probe: LinearProbe | Path | str | None) -> LinearProbe | None:
    """A probe as it is, or read from its path.

    Raises:
        BadModelFile: it cannot be read.
    """
    return LinearProbe.load(Path(probe)) if isinstance(probe, str | Path) else probe
