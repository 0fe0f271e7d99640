"""`tamis lab bench needle`: finds a sentence at every depth of haystacks of every length."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.datasets.records import read_text
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import (
    SHARP,
    ProxyName,
    parse_list,
    parse_sizes,
)
from tamis_lab.options.output_files import check_images, check_targets, write_json

if TYPE_CHECKING:
    from tamis_lab.bench.needle.sweep import MemoizedReader, NeedleCell

BOOKS = Path("../shared/data/haystack")
EPILOG = """
**Examples**

`tamis lab bench needle --text book.txt --tokens 4000,16000,64000 --out needle.png`

`tamis lab bench needle --text book.txt --methods question_rows,lexical,infiniretri --depths
0,0.5,1`

`tamis lab bench needle --text book.txt --needle "The key is under the mat." -q "Where is the key?"`

A needle that shares its words with the question is found by word search, too: see the line of
`lexical`.
"""


@report_errors()
def needle(
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            help="Prose, optionally gzipped; repeatable, for one long haystack. Default: the books "
            f"in {BOOKS}.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[str, typer.Option(help="Lengths of the haystack, with commas.")] = (
        "4000,16000,64000"
    ),
    depths: Annotated[str, typer.Option(help="From 0 to 1, with commas.")] = "0,0.25,0.5,0.75,1",
    methods: Annotated[
        str, typer.Option("--methods", "--method", help="Names of methods, with commas.")
    ] = "question_rows,lexical",
    max_tokens: Annotated[int, typer.Option(min=1, help="Budget of the output.")] = 500,
    needle: Annotated[
        str | None, typer.Option(help="The sentence that is hidden.", show_default=False)
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="What asks for it.", show_default=False)
    ] = None,
    proxy: ProxyName = SHARP,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder to keep what was seen in, .4 kB a token: a run then goes on."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Draw the map here.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every cell here.")] = None,
) -> None:
    """Hide a sentence at every depth of haystacks of every length, and look for it.

    Windows that are read alone are read once for all depths and lengths.
    """
    from tamis_lab.bench.evidence.panel import source_names
    from tamis_lab.bench.evidence.plot import figure_class
    from tamis_lab.bench.needle import sweep as bench
    from tamis_lab.bench.needle.rank_map import draw_rank_map, rank_map

    if (needle is None) != (question is None):
        raise BadInput("--needle and --question belong together; give both or neither")
    if any(given is not None and not given.strip() for given in (needle, question)):
        raise BadInput("--needle or --question is blank; give a sentence and what asks for it")
    hidden, query = needle or bench.NEEDLE, question or bench.QUESTION
    check_targets(json_file)
    check_images(out)
    lengths, places = parse_sizes(tokens), _parse_depths(depths)
    names = parse_list(methods, "methods")
    source_names(names)  # refuses an unknown method before anything is read
    if out:
        figure_class()  # fail before an hour of reading, not after it
    from tamis.service.api.compress import counter_of

    counter = counter_of("proxy", proxy)
    haystack = bench.Haystack.from_text(_read_books(text), counter, max(lengths))
    found: dict[str, list[NeedleCell]] = {}
    with record_bars() as progress:
        for name in names:
            report = add_bar(progress, name, len(lengths) * len(places))
            scorer, reader = build_with_memory(name, proxy, cache)
            cells = found.setdefault(name, [])
            for cell in bench.sweep_needle(
                scorer, reader, haystack, lengths, places, max_tokens, counter, hidden, query
            ):
                cells.append(cell)
                report(len(cells))
    for name, cells in found.items():
        make_console().print(rank_map(name, cells), highlight=False)
    _write_report(found, json_file)
    if out:
        draw_rank_map(found, out)
        typer.echo(f"wrote {out}", err=True)


def build_with_memory(
    name: str, proxy: str, cache: Path | None
) -> tuple[Any, MemoizedReader | None]:
    """A method or a blend of methods, and the reader with a memory that it reads with, if any."""
    from tamis.compressors import registry
    from tamis.compressors.methods.fusion import Fusion
    from tamis_lab.bench.evidence.panel import BLENDS, parse_method_spec
    from tamis_lab.bench.needle.sweep import MemoizedReader

    if name in BLENDS:
        parts = {part: build_with_memory(part, proxy, cache) for part in BLENDS[name]}
        reader = next((reader for _, reader in parts.values() if reader), None)
        return Fusion({part: scorer for part, (scorer, _) in parts.items()}, BLENDS[name]), reader
    method, options = parse_method_spec(name)
    if not registry.method_info(method).needs_proxy:
        return registry.build_method(method, **options), None
    depth = registry.layers_needed(method, proxy, **options)
    reader = MemoizedReader(registry.load_proxy(proxy, depth), cache)
    return registry.build_method(method, proxy=reader, **options), reader


def _read_books(paths: Sequence[Path] | None) -> str:
    files = list(paths or ()) or sorted(BOOKS.glob("*.txt.gz"))
    if not files:
        raise BadInput(f"there is no book in {BOOKS}; give --text with a file of prose")
    return "\n\n".join(read_text(path) for path in files)


def _parse_depths(given: str) -> list[float]:
    """Depths from a list with commas.

    Raises:
        BadInput: one is not a number from 0 to 1.
    """
    try:
        found = [float(word) for word in parse_list(given, "depths")]
    except ValueError as error:
        raise BadInput(f"depths is {given!r}; give numbers from 0 to 1 with commas") from error
    if wrong := [depth for depth in found if not 0 <= depth <= 1]:
        raise BadInput(f"depths has {wrong[0]:g}; give numbers from 0 to 1 with commas")
    return found


def _write_report(found: dict[str, list[NeedleCell]], path: Path | None) -> None:
    if path is None:
        return
    import resource  # not on Windows

    report = {
        "command": ["tamis", *sys.argv[1:]],
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "methods": {name: [asdict(cell) for cell in cells] for name, cells in found.items()},
    }
    write_json(report, path)
