"""`tamis lab bench tools`: what is kept of the outputs of tools, and whether it is still valid."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import add_bar, record_bars
from tamis_lab.options.bench_options import SHARP, ProxyName, Seed, parse_list
from tamis_lab.options.output_files import check_images, check_targets, write_json

if TYPE_CHECKING:
    from tamis.probes.tokens import TextTokenizer
    from tamis_lab.bench.tools.compressors import OutputCompressor
    from tamis_lab.bench.tools.records import LabelledOutput
    from tamis_lab.bench.tools.tally import ToolRow

EPILOG = """
**Examples**

`tamis lab bench tools`

`tamis lab bench tools --kinds pytest,git --ratio .3 --method lexical,question_rows --rows
rows.jsonl`

**Labelled outputs** come with tamis: pytest, compilers, git, listings, searches, JSON, logs,
tables, pages. Yours are JSON Lines, a file a kind, given by --data; spans are half-open in code
points, `errors` must never be lost, and `rules` hold of whatever is left

`{"id": "1", "name": "bash", "arguments": "{\\"command\\": \\"make\\"}", "question": "What broke?",
"text": "cc a.c\\na.c:1: error: x\\n", "gold": [[7, 22]], "errors": [[7, 22]],
"rules": [{"rule": "lines"}]}`

Rules: `lines` (whole ones), `json`, `json_lines`, and any name with `headers`, patterns of lines
under which the others stay: `{"rule": "hunks", "headers": ["^diff --git ", "^@@ "]}`.
"""


@report_errors()
def tools(
    ratio: Annotated[
        str, typer.Option("--ratio", help="Shares of an output's tokens, with commas.")
    ] = ".2,.3,.5",
    methods: Annotated[
        str, typer.Option("--method", "--methods", help="What scores the lines, with commas.")
    ] = "lexical",
    against: Annotated[
        str | None,
        typer.Option(
            help="What to compare with, with commas: head_tail, bm25_lines, sentences (tamis "
            "for prose), and packages of peers/tools. Default: all that can run here.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with labelled outputs of your own.")
    ] = None,
    kinds: Annotated[str | None, typer.Option(help="Kinds of outputs, with commas.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Outputs a kind.")] = None,
    seed: Seed = 0,
    proxy: ProxyName = SHARP,
    rows_file: Annotated[
        Path | None,
        typer.Option("--rows", help="Write every row here, as JSON Lines."),
    ] = None,
    png: Annotated[Path | None, typer.Option("--png", help="Also draw it as an image.")] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
) -> None:
    """Shorten outputs of real tools, and see what is lost of the lines that matter.

    The first compressor is the one that the others are compared with.
    """
    from tamis_lab.bench.evidence.plot import figure_class
    from tamis_lab.bench.tools.figures import tool_figures

    check_targets(json_file)
    check_targets(rows_file)
    check_images(png)
    if png:
        figure_class()  # fail before the work, not after it
    bench = _prepare(ratio, data, kinds, limit, proxy)
    with ExitStack() as stack:
        compressors = bench.build(parse_list(methods, "method"), against, stack)
        rows = bench.measure(compressors)
    figures = tool_figures(rows, seed)
    _print_figures(figures)
    if rows_file:
        _write_rows(rows, rows_file)
    if json_file:
        write_json(bench.report(figures, seed, limit), json_file)
    if png:
        from tamis_lab.bench.tools.plot import draw_tools

        draw_tools(figures, png)
        typer.echo(f"wrote {png}", err=True)


@dataclass(frozen=True, slots=True)
class _Bench:
    """What is measured: the outputs, where they come from, and at which ratios."""

    files: Mapping[str, Path]
    outputs: Sequence[LabelledOutput]
    ratios: Sequence[float]
    proxy: str
    counter: TextTokenizer

    def build(
        self, methods: Sequence[str], against: str | None, stack: ExitStack
    ) -> dict[str, OutputCompressor]:
        """tamis with each method, then those that it is compared with."""
        from tamis_lab.bench.tools.compressors import ToolCompressor
        from tamis_lab.bench.tools.scorers import build_scorer

        own: dict[str, OutputCompressor] = {
            f"tamis {name}": ToolCompressor(build_scorer(name, self.proxy), self.counter)
            for name in methods
        }
        return own | _others(against, self, stack)

    def measure(self, compressors: Mapping[str, OutputCompressor]) -> list[ToolRow]:
        """All rows, under a bar."""
        from tamis_lab.bench.tools.tally import tally_tools

        with record_bars() as progress:
            report = add_bar(progress, "outputs", len(self.outputs))
            return list(tally_tools(self.outputs, compressors, self.ratios, self.counter, report))

    def report(self, figures: Mapping[str, Any], seed: int, limit: int | None) -> dict[str, Any]:
        """The figures with everything that they depend on."""
        from tamis_lab.bench.evidence.tally import environment_facts
        from tamis_lab.bench.tools.records import file_facts
        from tamis_lab.datasets.record_files import file_sha256

        files = {
            kind: file_facts(path) | {"sha256": file_sha256(path)}
            for kind, path in self.files.items()
        }
        return {
            "command": ["tamis", *sys.argv[1:]],
            "seed": seed,
            "limit": limit,
            "proxy": self.proxy,
            **environment_facts(),
            "files": files,
            "ratios": figures,
        }


def _prepare(
    ratio: str, data: Path | None, kinds: str | None, limit: int | None, proxy: str
) -> _Bench:
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.tools.records import OUTPUTS_FOLDER, find_kinds, load_outputs

    ratios, files = parse_ratios(ratio), find_kinds(data or OUTPUTS_FOLDER)
    if kinds:
        wanted = parse_list(kinds, "kinds")
        if unknown := [kind for kind in wanted if kind not in files]:
            raise BadInput(f"there is no kind {unknown[0]!r}; there are: {', '.join(files)}")
        files = {kind: files[kind] for kind in wanted}
    outputs = [row for kind, path in files.items() for row in load_outputs(path, kind, limit)]
    return _Bench(files, outputs, ratios, proxy, counter_of("proxy", proxy))


def parse_ratios(given: str) -> list[float]:
    """Shares of the tokens from a list with commas.

    Raises:
        BadInput: one is not a number above 0 and up to 1.
    """
    try:
        found = [float(word) for word in parse_list(given, "ratio")]
    except ValueError as error:
        raise BadInput(f"ratio is {given!r}; give numbers with commas, such as .2,.3") from error
    if wrong := [share for share in found if not 0 < share <= 1]:
        raise BadInput(f"ratio has {wrong[0]:g}; a share is above 0 and at most 1")
    return found


def _others(against: str | None, bench: _Bench, stack: ExitStack) -> dict[str, OutputCompressor]:
    """The compressors named, or all that can run here; says on stderr which ones cannot."""
    from tamis_lab.bench.tools.compressors import PLAIN
    from tamis_lab.bench.tools.packages import (
        TOOL_PEERS_FOLDER,
        installed_packages,
        package_compressor,
    )

    found: dict[str, OutputCompressor] = {name: make(bench.counter) for name, make in PLAIN.items()}
    wanted = parse_list(against, "against") if against is not None else None
    # only the sources of tamis have adapters of packages
    if TOOL_PEERS_FOLDER.is_dir() and (wanted is None or set(wanted) - set(found)):
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry, ready, lacks = installed_packages(TOOL_PEERS_FOLDER)
        for peer in ready:
            package = package_compressor(registry, peer, logs / f"{peer.name}.log", bench.proxy)
            stack.enter_context(package.process)
            found[peer.name] = package
        for lack in lacks:
            typer.echo(f"left out: {lack}", err=True)
    if wanted is None:
        return found
    if unknown := [name for name in wanted if name not in found]:
        raise BadInput(f"there is no compressor {unknown[0]!r} here; there are: {', '.join(found)}")
    return {name: found[name] for name in wanted}


def _print_figures(figures: Mapping[str, Any]) -> None:
    from tamis_lab.bench.tools.table import kind_table, tool_footnote, tool_table

    console = make_console()
    for ratio, of in figures.items():
        console.print(tool_table(ratio, of))
        console.print(kind_table(ratio, of))
    console.print(tool_footnote(figures))


def _write_rows(rows: Sequence[ToolRow], path: Path) -> None:
    from tamis_lab.bench.tools.tally import row_json

    lines = "".join(json.dumps(row_json(row), ensure_ascii=False) + "\n" for row in rows)
    try:
        path.write_text(lines, "utf-8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error
