"""`bench peers`: compares tamis and published compressors on the same cases, in one run."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis_lab.options.bars import record_bars
from tamis_lab.options.bench_options import DEFAULT_DATA, ProxyName, data_folder, parse_list
from tamis_lab.options.output_files import check_images

if TYPE_CHECKING:
    from tamis.probes.tokens import TextTokenizer
    from tamis_lab.bench.peers.cases import PeerCase
    from tamis_lab.bench.peers.registry import Peer, PeerRegistry
    from tamis_lab.bench.peers.run import PeerRunSettings
    from tamis_lab.datasets.result_file import ResultFile

EPILOG = """
**What is measured**

Every peer gets the same question, documents and budget, in a process and an environment of its own,
and answers with the text it keeps; those that read with a proxy read with the same one. Evidence is
looked for in that text alone, so peers that keep sentences and peers that delete words compare.
They take turns case by case. `make peers` makes the environments, then runs this.

**Examples**

`tamis lab bench peers` runs all peers that are here, on 25 cases a set

`tamis lab bench peers --peers tamis,bm25,minilm --sets hotpotqa --cases 5`

`tamis lab bench peers --plot peers.png --json > peers.json`

`tamis lab bench peers --against tamis_warm` compares with tamis on passages that it has cached

`tamis lab bench peers --peers tamis,cross_encoder --weights cross_encoder=models/ms-marco-minilm`

A run that was cut short goes on where it ended: rows are kept in `--out`, and what the processes
say in a folder beside it. Sets take turns; cases that some peer has not done yet are left out.

`tamis lab bench peers --minutes 10` measures ten minutes more
"""
SETS = "hotpotqa,xquad_en,hotpotqa@4500"


@report_errors()
def peers(
    names: Annotated[
        str | None,
        typer.Option("--peers", help="Names, with commas. Default: all that can run here."),
    ] = None,
    sets: Annotated[
        str, typer.Option(help="Files of records; NAME@TOKENS fills contexts up with others.")
    ] = SETS,
    cases: Annotated[int, typer.Option(min=1, help="Cases a set.")] = 25,
    budget: Annotated[
        float, typer.Option(help="Up to 1 a share of the tokens, above whole tokens.")
    ] = 0.2,
    data: Annotated[
        Path | None,
        typer.Option(help=f"Folder with the sets. Default: {DEFAULT_DATA}.", show_default=False),
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="Peer that all are compared with. Default: tamis.")
    ] = None,
    proxy: ProxyName = DEFAULT_PROXY,
    weights: Annotated[
        list[str] | None,
        typer.Option(help="PEER=FOLDER, for peers with a model of their own; repeatable."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each process. Default: all cores.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Begin no case after so long; report what is there.")
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds a case may take.")] = 600,
    seed: Annotated[int, typer.Option(help="Of cases, distractors and intervals.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", help="Rows. Default: a file in the user's cache.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    plot: Annotated[
        Path | None, typer.Option(help="Draw evidence against ms here (.png, .svg, .pdf).")
    ] = None,
    adapters: Annotated[
        Path | None,
        typer.Option(help="Folder with peers.toml. Default: lab/tests/peers.", show_default=False),
    ] = None,
) -> None:
    """Compare tamis with published compressors: evidence, time and memory on the same cases."""
    from tamis.probes.hub.zoo import model_folder
    from tamis.service.api.compress import counter_of
    from tamis_lab.bench.peers.cases import interleave_sets, load_peer_cases
    from tamis_lab.bench.peers.registry import PEERS_FOLDER, PeerRegistry, parse_weights
    from tamis_lab.bench.peers.run import PeerRunSettings

    check_images(plot)
    field, given = PeerRegistry.load(adapters or PEERS_FOLDER), parse_weights(weights or ())
    field = field.with_reference(against) if against else field
    chosen, left_out = _choose_peers(field, names, given)
    counter, cores = counter_of("proxy", proxy), threads or len(os.sched_getaffinity(0))
    by_set = {
        name: load_peer_cases(name, data_folder(data), cases, budget, counter, seed)
        for name in parse_list(sets, "sets")
    }
    settings = {"budget": budget, "proxy": proxy, "threads": cores, "seed": seed}
    results = _open_results(out, settings)
    around = PeerRunSettings(
        proxy, model_folder(proxy), given, cores, timeout, _log_folder(results.path)
    )
    _measure(interleave_sets(by_set), chosen, field, around, results, counter, minutes)
    report = _make_report(by_set, chosen, field, results, settings) | {"not_run": left_out}
    _print_report(report, as_json)
    if plot and report["sets"]:
        _draw_report(report, plot)


def _choose_peers(
    field: PeerRegistry, names: str | None, weights: Mapping[str, Path]
) -> tuple[list[Peer], list[str]]:
    """The peers that run, and the reasons why others do not.

    Raises:
        BadInput: a peer that was named cannot run.
    """
    wanted = field.select(parse_list(names, "peers") if names else list(field.peers))
    field.select(list(weights))
    why = {
        peer.name: reason for peer in wanted if (reason := field.missing_requirement(peer, weights))
    }
    if names and why:
        raise BadInput("; ".join(why.values()))
    for reason in why.values():
        typer.echo(f"tamis: left out: {reason}", err=True)
    if len(why) == len(wanted):
        raise BadInput("no peer can run here; each line above says what it needs")
    return [peer for peer in wanted if peer.name not in why], list(why.values())


def _open_results(out: Path | None, settings: Mapping[str, Any]) -> ResultFile:
    """The result rows; by default in a file for these settings, so that a run resumes."""
    from tamis_lab.datasets.result_file import ResultFile

    made = dict(settings) | {"tamis": version("tamis")}
    if out is None:
        name = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()[:12]
        out = cache_home() / "peers" / f"{name}.jsonl"
        out.parent.mkdir(parents=True, exist_ok=True)
    return ResultFile(out, made, "key")


def _log_folder(rows: Path) -> Path:
    """A folder beside the rows, for the output of the peers' processes."""
    folder = rows.with_name(f"{rows.name}.logs")
    folder.mkdir(exist_ok=True)
    return folder


def _measure(
    cases: Sequence[PeerCase],
    peers: Sequence[Peer],
    field: PeerRegistry,
    around: PeerRunSettings,
    results: ResultFile,
    counter: TextTokenizer,
    minutes: float | None,
) -> None:
    """Runs the cases that are not done yet, under a bar that names the peer at work."""
    from tamis_lab.bench.peers.run import row_key, run_peers

    keys = [row_key(case, peer) for case in cases for peer in peers]
    before = len(results.done_keys.intersection(keys))
    with record_bars() as progress:
        bar = progress.add_task("peers", total=len(keys), completed=before)

        def report(activity: str) -> None:
            progress.update(bar, description=activity)

        for row in run_peers(cases, peers, field, around, results, counter, report, minutes):
            progress.advance(bar)
            if "error" in row:
                progress.console.print(f"tamis: {row['peer']} on {row['case']}: {row['error']}")
    now = len(results.done_keys.intersection(keys))
    remaining = f", {len(keys) - now} are left" if now < len(keys) else ""
    summary = f"{now - before} rows measured, {before} were there before{remaining}"
    typer.echo(f"{results.path}: {summary}", err=True)


def _make_report(
    by_set: Mapping[str, Sequence[PeerCase]],
    peers: Sequence[Peer],
    field: PeerRegistry,
    results: ResultFile,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    from tamis_lab.bench.evidence.tally import environment_facts
    from tamis_lab.bench.peers.figures import complete_cases, peer_figures

    rows = results.rows()
    done = {name: complete_cases(of, peers, rows) for name, of in by_set.items()}
    for name in (name for name, of in done.items() if not of):
        typer.echo(f"tamis: {name}: no case was done by every peer yet", err=True)
    return {
        **environment_facts(),
        **settings,
        "reference": field.reference,
        "rows": str(results.path),
        "sets": {
            name: peer_figures(of, peers, rows, field, settings["seed"])
            for name, of in done.items()
            if of
        },
    }


def _print_report(report: Mapping[str, Any], as_json: bool) -> None:
    from tamis_lab.bench.peers.table import describe_frontier, peer_footnote, peer_tables

    if as_json:
        typer.echo(json.dumps(report, indent=1))
        return
    console = make_console()
    for name, found in report["sets"].items():
        console.print(*peer_tables(name, found))
        console.print(describe_frontier(found), "\n", highlight=False)
    console.print(peer_footnote(report), highlight=False)


def _draw_report(report: Mapping[str, Any], path: Path) -> None:
    from tamis_lab.bench.peers.plot import draw_peers

    draw_peers(report["sets"], path)
    typer.echo(f"wrote {path}", err=True)
