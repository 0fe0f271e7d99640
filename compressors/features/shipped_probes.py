"""The probes that ship with tamis, looked up by method and model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"


def weights_file(method: str, model: str) -> Path:
    """The path of a method's probe for a model in the wheel."""
    return WEIGHTS_FOLDER / f"{method}.{model.replace('/', '--')}.safetensors"


@lru_cache(maxsize=32)
def shipped_probe(method: str, model: str) -> LinearProbe | None:
    """The probe that ships for a method and a model; None where there is none."""
    path = weights_file(method, model)
    return LinearProbe.load(path) if path.is_file() else None


def choose_probe(
    method: str, reader: Reader, probe: LinearProbe | Path | str | None
) -> LinearProbe | None:
    """The probe to use, checked against the reader's model and template.

    Args:
        probe: a probe, the path of one, `auto` for the one that ships, or None for none.

    Raises:
        ProbeMismatch: it is for another model, revision or template.
        BadModelFile: it cannot be read.
        BadInput: it is a probe for another method.
    """
    found = shipped_probe(method, reader.card.name) if probe == "auto" else load_probe(probe)
    if found is not None:
        if found.card.method != method:
            raise BadInput(
                f"the probe is one for {found.card.method}, and here one for {method} is needed; "
                "probes of `tamis lab probe train` go in as probe, those of "
                "`tamis lab probe rank` as "
                "rank_probe"
            )
        found.check(reader.card, reader.layout.template.name)
    return found


def load_probe(probe: LinearProbe | Path | str | None) -> LinearProbe | None:
    """A probe as it is, or read from its path.

    Raises:
        BadModelFile: it cannot be read. BadInput: it is neither.
    """
    if isinstance(probe, str | Path):
        return LinearProbe.load(Path(probe))
    if probe is not None and not isinstance(probe, LinearProbe):
        raise BadInput(f"the probe is {probe!r:.80}; give a LinearProbe, or the path of one")
    return probe
