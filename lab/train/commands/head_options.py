"""Options that the commands of `tamis lab heads` share, and what their values stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.probing.heads import HEAD_SCORINGS
from tamis_lab.options.shared import parse_record_file
from tamis_lab.train.heads.finder import FINDERS

BY_CHOICES = (*HEAD_SCORINGS, *FINDERS.names())

Data = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        help="Labelled JSONL, maybe as FILE:LIMIT to use LIMIT questions. Repeatable.",
        show_default=False,
    ),
]
ProxyName = Annotated[
    str, typer.Option("--proxy", help="A zoo name, a folder, or a hub id on this machine.")
]
By = Annotated[str, typer.Option("--by", help=f"{', '.join(BY_CHOICES)}.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", help="Write the profile here, as JSON.")]
Png = Annotated[Path | None, typer.Option("--png", help="Also draw the map as an image.")]
Best = Annotated[int, typer.Option("--k", min=1, help="How many heads to name.")]


def check_by(by: str) -> Any:
    """The value of `--by`.

    Raises:
        BadInput: it is not one of `BY_CHOICES`.
    """
    from tamis.probes.errors import BadInput

    if by not in BY_CHOICES:
        raise BadInput(f"--by is {by!r}; give one of {', '.join(BY_CHOICES)}")
    return by


def record_files(data: Sequence[str] | None, limit: int | None, what: str) -> list[Any]:
    from tamis.probes.errors import BadInput

    if not data:
        raise BadInput(f"{what} reads labelled questions; give --data FILE")
    found = [parse_record_file(name) for name in data]
    return [
        replace(s, limit=min(limit, s.limit or limit)) if limit is not None else s for s in found
    ]
