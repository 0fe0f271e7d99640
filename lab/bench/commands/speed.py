"""`tamis lab bench speed`: how long a request takes, for new passages and for cached ones."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tamis.probes.errors import BadInput
from tamis.service.cli.display.console import make_console
from tamis.service.cli.display.errors import report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.bench.commands.speed_documents import run_documents
from tamis_lab.datasets.records import read_text
from tamis_lab.options.bench_options import (
    SHARP,
    ProxyName,
    parse_list,
    parse_sizes,
)
from tamis_lab.options.output_files import check_images

if TYPE_CHECKING:
    from tamis.probes.model.proxy import Proxy
    from tamis_lab.bench.speed.timing import SpeedPlan
    from tamis_lab.bench.speed.workload import WorkloadText

EPILOG = """
**Examples**

`tamis lab bench speed` times the documents of examples/, cold and warm

`tamis lab bench speed --tokens 4500,16000 --passage-tokens 512 --paths cold,warm --json`

`tamis lab bench speed --text book.txt --paths cold,fill,warm --storage int8 --rounds 9`

`tamis lab bench speed --text book.txt --tokens 1000,4500,16000,128000 --plot speed.png` draws it,
too

`tamis lab bench speed --paths cold,batch,minilm` beside a sentence encoder on the same passages

`tamis lab bench speed --against HEAD~3 --rounds 5` takes turns with another commit

`tamis lab bench speed --documents 10,30,100 --data hotpotqa.jsonl.gz --passage-tokens 300` times
many documents read whole, with a gate and with a cascade, with the evidence that each keeps

**cold** reads every passage with the question. **warm** finds every passage in the passage cache,
where an earlier question left it; each round asks another question. **fill** is a cold reading
through an empty cache. **batch** asks eight questions of the same passages through an empty cache;
its times are of one. **minilm** ranks the same sentences by a sentence encoder. **bare** is
transformers' forward pass over the batches of cold, and nothing else.
`share of limit` is the arithmetic of the linear layers for the tokens that ran, over what the
machine's best matrix product could do in that time.
"""


@report_errors()
def speed(
    text: Annotated[
        Path | None,
        typer.Option(
            "--text",
            help="A file of prose, optionally gzipped; passages are cut from it. Default: the "
            "documents of examples/.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="Sizes of the context, with commas.")
    ] = "1000,4500,16000",
    passage_tokens: Annotated[
        int, typer.Option(min=1, help="Of each passage, in the proxy's tokens.")
    ] = 512,
    paths: Annotated[
        str,
        typer.Option(
            help="Of cold, fill, warm, batch and minilm, with commas; of --documents cold, warm "
            "and rerank."
        ),
    ] = "cold,warm",
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds, after one that is not.")] = 5,
    storage: Annotated[str, typer.Option(help="Of kept passages: exact, int8 or thin.")] = "exact",
    seed: Annotated[int, typer.Option(help="Of the passages' order and the questions.")] = 0,
    proxy: ProxyName = SHARP,
    against: Annotated[
        str | None,
        typer.Option(help="A commit to take turns with; `--rounds` turns.", show_default=False),
    ] = None,
    documents: Annotated[
        str | None,
        typer.Option(
            help="Numbers of documents, with commas: time them read whole, with a gate and with a "
            "cascade, and count the evidence kept.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            help="Labelled records that --documents are made of; repeatable.",
            show_default=False,
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Questions of each file of --data.")] = 8,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw times and shares into this image.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Time whole requests: cold, and of passages that were read before."""
    from tamis.compressors.registry import DEFAULT, layers_needed, load_proxy
    from tamis.probes.kv_cache.storage import STORAGES
    from tamis_lab.bench.speed.timing import SpeedPlan
    from tamis_lab.bench.speed.workload import WorkloadText, example_text

    if storage not in STORAGES:
        raise BadInput(f"storage is {storage!r}; give one of {', '.join(STORAGES)}")
    check_images(plot)
    if documents is not None or data:
        others = {"--text": text, "--against": against, "--plot": plot}
        _refuse_with_documents([name for name, given in others.items() if given is not None])
        numbers = parse_sizes(documents or "")
        run_documents(
            proxy, numbers, data or [], limit, passage_tokens, parse_list(paths, "paths"), as_json
        )
        return
    plan = SpeedPlan(parse_sizes(tokens), parse_list(paths, "paths"), rounds, storage)
    if against is not None:
        if plot is not None:
            raise BadInput("--plot draws one commit; leave out --plot, or --against")
        words = ["--passage-tokens", passage_tokens, "--tokens", tokens, "--paths", paths]
        words += ["--storage", storage, "--seed", seed, "--proxy", proxy, "--rounds", 1]
        words += ["--text", text.resolve()] if text is not None else []
        _print_turns(_take_turns(against, [str(word) for word in words], rounds), against, as_json)
        return
    prose, name = example_text() if text is None else (read_text(text), str(text))
    model = load_proxy(proxy, layers_needed(DEFAULT, proxy))
    source = WorkloadText(prose, name, model.layout, passage_tokens, seed)
    cells = _measure_cells(source, model, plan)
    if plot is not None:
        from tamis_lab.bench.speed.plot import draw_speed

        draw_speed(cells, plot)
    report = {**cells, "workload": source.workload.as_json(), "machine": _machine_facts(model)}
    if as_json:
        typer.echo(json.dumps(report))
    else:
        console = make_console()
        console.print(_table(cells))
        console.print(_footnote(report), style="dim")


def _refuse_with_documents(given: list[str]) -> None:
    if given:
        raise BadInput(f"--documents are made of --data; leave out {', '.join(given)}")


def _measure_cells(
    source: WorkloadText, proxy: Proxy, plan: SpeedPlan
) -> dict[str, dict[str, Any]]:
    """Timings by path and size, with a bar on stderr."""
    from tamis_lab.bench.speed.timing import measure_paths

    cells: dict[str, dict[str, Any]] = {path: {} for path in plan.paths}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("timing", total=len(plan.tokens) * (plan.rounds + 1))
        for path, size, cell in measure_paths(source, proxy, plan, lambda: progress.advance(task)):
            cells[path][size] = cell
    return cells


def _take_turns(revision: str, words: list[str], turns: int) -> dict[str, dict[str, Any]]:
    """Timings of this code and of a commit in turns, with a bar on stderr."""
    from tamis_lab.bench.speed.commits import compare_commits

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("taking turns", total=2 * turns)
        return compare_commits(revision, words, turns, lambda: progress.advance(task))


def _print_turns(cells: Mapping[str, Mapping[str, Any]], revision: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({**cells, "against": revision}))
        return
    table = Table("path", "tokens", "ms p50", f"ms p50 of {revision}", "times as fast", "turns")
    for path, sizes in cells.items():
        for size, cell in sizes.items():
            table.add_row(
                path,
                f"{int(size):,}",
                f"{cell['ms_p50']:,.0f}",
                f"{cell['their_ms_p50']:,.0f}",
                f"{cell['faster']:.2f} ({cell['faster_least']:.2f} to {cell['faster_most']:.2f})",
                str(cell["turns"]),
            )
    make_console().print(table)


def _table(cells: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> Table:
    table = Table("path", "tokens", "ms p50", "ms p95", "tokens/s", "of the limit", "beside")
    table.add_column("stages ms")
    table.add_column("peak MB", justify="right")
    for path, sizes in cells.items():
        for size, cell in sizes.items():
            stages = ", ".join(f"{name} {ms:,.0f}" for name, ms in cell["stages_ms"].items())
            table.add_row(
                path,
                f"{int(size):,}",
                f"{cell['ms_p50']:,.0f}",
                f"{cell['ms_p95']:,.0f}",
                f"{cell['tokens_per_s']:,.0f}",
                f"{cell['share_of_limit']:.1%}" if "share_of_limit" in cell else "",
                _comparison_text(cell),
                stages,
                f"{cell['peak_mb']:,.0f}",
            )
    return table


def _comparison_text(cell: Mapping[str, Any]) -> str:
    if "share_of_bare" in cell:
        return f"bare {cell['bare_ms_p50']:,.0f} ms, share {cell['share_of_bare']:.2f}"
    parts = []
    if "faster_than_cold" in cell:
        parts.append(f"{cell['faster_than_cold']:.1f}× as fast as cold")
    if "max_score_difference" in cell:
        parts.append(f"scores within {cell['max_score_difference']:.1e}")
    if "faster_than_minilm" in cell:
        parts.append(f"{cell['faster_than_minilm']:.1f}× as fast as minilm")
    return ", ".join(parts)


def _footnote(report: Mapping[str, Any]) -> str:
    work, machine = report["workload"], report["machine"]
    return (
        f"{work['text']}: passages of {work['passage_tokens']} tokens, questions of "
        f"{work['question_tokens']}, seed {work['seed']}. {machine['proxy']} in "
        f"{machine['dtype']}, {machine['threads']} threads, {machine['device']}"
        f"{_limit_text(report)}."
    )


def _limit_text(report: Mapping[str, Any]) -> str:
    """The best matrix product of the machine, which shares relate to."""
    cells = (
        cell for path in set(report) - {"workload", "machine"} for cell in report[path].values()
    )
    found = [cell["limit_gflops"] for cell in cells if "limit_gflops" in cell]
    return f"; the limit is {found[0]:,.0f} GFLOP/s, ten products of 2,048³" if found else ""


def _machine_facts(proxy: Proxy) -> dict[str, Any]:
    import torch

    return {
        "device": str(proxy.device),
        "processor": _processor_name(),
        "threads": torch.get_num_threads(),
        "dtype": proxy.arithmetic.removeprefix("torch."),
        "torch": torch.__version__,
        "proxy": proxy.card.name,
        "layers": proxy.depth,
        "batch_tokens": proxy.batch_tokens,
    }


def _processor_name() -> str:
    """The processor's name where the system reports it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text("utf8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
