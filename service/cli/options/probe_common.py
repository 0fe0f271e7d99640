"""What the commands of probes and heads share: sources, readings, the shipped probe, bars."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from tamis.probes.probing.linear import LinearProbe
    from tamis.service.training.probe import Source


def source_of(name: str) -> Source:
    """`FILE` or `FILE:LIMIT` as a training source. BadInput: a limit below 1."""
    from tamis.probes.errors import BadInput
    from tamis.service.training.probe import Source

    path, _, limit = name.rpartition(":")
    if not path or not limit.removeprefix("-").isdecimal():
        return Source(Path(name))
    if int(limit) < 1:
        raise BadInput(f"--data is {name!r}; use at least 1 question, or leave :LIMIT out for all")
    return Source(Path(path), int(limit))


def probe_of(path: Path | None, method: str, proxy: str) -> LinearProbe:
    """The probe of a file, or the one that ships. BadInput: there is neither."""
    from tamis.compressors.features.shipped_probes import shipped_probe
    from tamis.probes.errors import BadInput
    from tamis.probes.probing.linear import LinearProbe

    found = LinearProbe.load(path) if path else shipped_probe(method, proxy)
    if found is None:
        raise BadInput(
            f"no probe for {method} and {proxy} ships; name a file, or fit one: tamis probe train"
        )
    return found


def readings(cache: Path | None) -> Path:
    """The folder readings are kept in."""
    if cache is not None:
        return cache
    from tamis.probes.hub.cache_dir import cache_home

    return cache_home() / "looks"


@contextmanager
def file_bars() -> Iterator[Callable[..., None]]:
    """Bars on stderr with what is left, one a file; what is noted stands behind its bar."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, Any] = {}

        def report(name: str, done: int, total: int, note: str = "") -> None:
            if name not in tasks:
                tasks[name] = bar.add_task(name, total=total, note=note)
            bar.update(tasks[name], completed=done, note=note)

        yield report
