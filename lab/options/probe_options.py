"""Options that the commands of probes and heads share, and what their values stand for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tamis.probes.probing.linear import LinearProbe
    from tamis_lab.datasets.record_files import RecordFile

Data = Annotated[
    list[str],
    typer.Option(
        "--data", help="Labelled JSONL, maybe as FILE:LIMIT to use LIMIT questions. Repeatable."
    ),
]
ProxyName = Annotated[
    str, typer.Option("--proxy", help="A zoo name, a folder, or a hub id on this machine.")
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Where readings are kept; a refit then takes seconds. Default: the user's cache.",
    ),
]
ProbeFile = Annotated[
    Path | None,
    typer.Argument(
        help="A probe's .safetensors; by default the one that ships.", show_default=False
    ),
]


def parse_record_file(name: str) -> RecordFile:
    """A file of labelled records from `FILE` or `FILE:LIMIT`.

    Raises:
        BadInput: the limit is below 1.
    """
    from tamis.probes.errors import BadInput
    from tamis_lab.datasets.record_files import RecordFile

    path, _, limit = name.rpartition(":")
    if not path or not limit.removeprefix("-").isdecimal():
        return RecordFile(Path(name))
    if int(limit) < 1:
        raise BadInput(f"--data is {name!r}; use at least 1 question, or leave :LIMIT out for all")
    return RecordFile(Path(path), int(limit))


def named_or_shipped_probe(path: Path | None, method: str, proxy: str) -> LinearProbe:
    """The probe in a file, or the one that ships for a method and a proxy.

    Raises:
        BadInput: there is neither.
    """
    from tamis.compressors.features.shipped_probes import shipped_probe
    from tamis.probes.errors import BadInput
    from tamis.probes.probing.linear import LinearProbe

    found = LinearProbe.load(path) if path else shipped_probe(method, proxy)
    if found is None:
        raise BadInput(
            f"no probe for {method} and {proxy} ships; name a file, or fit one: tamis "
            "lab probe train"
        )
    return found


def readings_folder(cache: Path | None) -> Path:
    """The folder of stored readings: `cache`, or one in the user's cache."""
    if cache is not None:
        return cache
    from tamis.probes.hub.cache_dir import cache_home

    return cache_home() / "readings"
