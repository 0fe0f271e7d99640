"""The probes that ship with tamis, looked up by method and model."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe

WEIGHTS_FOLDER = Path(__file__).parents[1] / "weights"


def weights_file(method: str, model: str, exit_layer: int | None = None) -> Path:
    """The path of a method's probe for a model in the wheel.

    Args:
        exit_layer: of a probe that reads fewer layers; None for the usual one.
    """
    early = "" if exit_layer is None else f".exit-{exit_layer}"
    return WEIGHTS_FOLDER / f"{method}.{model.replace('/', '--')}{early}.safetensors"


def shipped_exits(method: str, model: str) -> list[int]:
    """The layers after which a reading with a shipped probe may stop, the usual one included."""
    usual = shipped_probe(method, model)
    stem = f"{weights_file(method, model).stem}.exit-"
    early = [
        int(file.stem.removeprefix(stem)) for file in WEIGHTS_FOLDER.glob(f"{stem}*.safetensors")
    ]
    return sorted({*early, usual.card.layers}) if usual else []


@lru_cache(maxsize=32)
def shipped_probe(method: str, model: str, exit_layer: int | None = None) -> LinearProbe | None:
    """The probe that ships for a method and a model; None where there is none.

    Raises:
        BadInput: none stops after `exit_layer`; the message names those that ship.
    """
    path = weights_file(method, model, exit_layer)
    if exit_layer is None:
        return LinearProbe.load(path) if path.is_file() else None
    usual = shipped_probe(method, model)
    if usual and usual.card.layers == exit_layer:
        return usual
    if not path.is_file():
        exits = ", ".join(map(str, shipped_exits(method, model))) or "none"
        raise BadInput(
            f"exit_layer is {exit_layer}, and probes for {model} ship for {exits}; fit one: "
            f"tamis lab probe train --proxy {model} --layers {exit_layer} --data FILE"
        )
    return LinearProbe.load(path)


def choose_probe(
    method: str,
    reader: Reader,
    probe: LinearProbe | Path | str | None,
    exit_layer: int | None = None,
) -> LinearProbe | None:
    """The probe to use, checked against the reader's model and template.

    Args:
        probe: a probe, the path of one, `auto` for the one that ships, or None for none.
        exit_layer: the last layer it may read; None for what it was fitted for.

    Raises:
        ProbeMismatch: it is for another model, revision or template.
        BadModelFile: it cannot be read.
        BadInput: it reads to another layer than `exit_layer`, none ships that stops there, or it is
            a probe for another method.
    """
    found = (
        shipped_probe(method, reader.card.name, exit_layer)
        if probe == "auto"
        else load_probe(probe)
    )
    if exit_layer is not None and (found.card.layers if found else None) != exit_layer:
        reads = f"{found.card.layers} layers" if found else "nothing"
        raise BadInput(f"exit_layer is {exit_layer} and the probe reads {reads}; give one of them")
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
