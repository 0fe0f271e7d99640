"""`tamis lab heads`: finds retrieval heads of a proxy, and measures its position bias."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from typer.core import TyperCommand

from tamis.probes.probing.heads import HEAD_SCORINGS
from tamis.service.cli.display.output import make_console, report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis.service.cli.options.typer_options import parse_options
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_images, check_targets
from tamis_lab.options.shared import SHARP, ReadingsFolder, named_or_shipped_probe
from tamis_lab.train.commands import head_studies
from tamis_lab.train.commands.head_options import (
    Best,
    By,
    Data,
    Out,
    Png,
    ProxyName,
    check_by,
    record_files,
)
from tamis_lab.train.heads.finder import FINDERS

if TYPE_CHECKING:
    from tamis.probes.probing.heads import Head, HeadProfile

EPILOG = """
**Examples**

`tamis lab heads show --by contrast` draws the heads that ship for the default proxy

`tamis lab heads find --by needle --data train.jsonl.gz:100 --out needle.json --png needle.png`

`tamis lab heads find --by induction --option draws=2 --out induction.json` needs no data

`tamis lab heads check induction.json --data train.jsonl.gz:20` masks them, and random ones

`tamis lab heads overlap --k 16` says how far the ways to find heads agree

`tamis lab heads basin --data multi.jsonl.gz:100 --out basin.json --png basin.png`
"""
app = typer.Typer(
    help="Find, compare and inspect heads that attend to the evidence.",
    epilog=EPILOG,
    no_args_is_help=True,
)


class _FindCommand(TyperCommand):
    """Names every finder in its help, which is when their files are read."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Prints the help of `find` with a paragraph for each way to find heads."""
        self.help = "\n\n".join([
            "Score every head of a proxy.",
            "On labelled questions: needle: the last row's mass on a sentence made up and hidden "
            "in the records' texts (EHPC, arXiv 2501.12959). copy: answer tokens copied from gold "
            "sentences (retrieval heads, arXiv 2404.15574). contrast: gold documents against the "
            "others (CoRe, arXiv 2510.02219). qr: mass on gold beyond what an empty question draws "
            "(QRHead, arXiv 2506.09944). probe: the weights of a fitted probe; reads nothing.",
            *map(_describe_finder, FINDERS.names()),
        ])  # fmt: skip
        super().format_help(ctx, formatter)


def _describe_finder(name: str) -> str:
    info = FINDERS.info(name)
    needs = "on labelled questions" if info.reads_records else "needs no data"
    return f"{name}: {info.summary} ({info.source}); {needs}."


app.command("basin")(head_studies.position_bias)
app.command("check")(head_studies.check)
app.command("roles")(head_studies.roles)
app.command("focus")(head_studies.focus)


@app.command(cls=_FindCommand)
@report_errors()
def find(
    by: By,
    data: Data = None,
    proxy: ProxyName = SHARP,
    out: Out = None,
    png: Png = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use at most so many questions a file.")
    ] = None,
    k: Best = 16,
    prompt_tokens: Annotated[
        int, typer.Option(min=1, help="Documents a prompt holds; gold ones always.")
    ] = 1000,
    temperature: Annotated[float, typer.Option(help="Of contrast.")] = 0.01,
    probe: Annotated[
        Path | None, typer.Option(help="For --by probe; default: the one that ships.")
    ] = None,
    options: Annotated[
        list[str] | None,
        typer.Option("--option", help="NAME=VALUE of a finder, such as draws=2. Repeatable."),
    ] = None,
    cache: ReadingsFolder = None,
) -> None:
    """Score every head of a proxy."""
    from tamis.compressors.registry import load_proxy
    from tamis_lab.methods.head_scores import check_temperature
    from tamis_lab.train.heads import profiles as finding

    scoring = check_by(by)
    check_targets(out)
    check_images(png)
    if by == "contrast":
        check_temperature(temperature)
    if by == "probe":
        reader = load_proxy(proxy, 1)
        profile = finding.profile_from_probe(
            reader, named_or_shipped_probe(probe, "question_rows", proxy)
        )
    elif by not in HEAD_SCORINGS:
        found = record_files(data, limit, by) if data else []
        given = parse_options(options, "draws=2")
        with file_bars() as report:
            profile = finding.find_heads_by_file(load_proxy(proxy, None), by, found, given, report)
    else:
        sources = record_files(data, limit, by)
        reader = load_proxy(proxy, None)
        with file_bars() as report:
            profile = finding.find_heads(
                reader, scoring, sources, _heads_cache(cache), report, prompt_tokens, temperature
            )
    _print_profile(profile, k)
    if out:
        profile.save(out)
        typer.echo(f"wrote {out}", err=True)
    _draw_profile(profile, png)


@app.command()
@report_errors()
def show(
    profile: Annotated[
        Path | None,
        typer.Argument(help="A profile; by default the one that ships.", show_default=False),
    ] = None,
    by: By = "contrast",
    proxy: ProxyName = SHARP,
    k: Best = 16,
    png: Png = None,
) -> None:
    """Draw a profile of heads, its best k numbered by rank."""
    from tamis.probes.probing.heads import choose_profile

    check_images(png)
    found = choose_profile(profile or "auto", check_by(by), proxy)
    _print_profile(found, k)
    _draw_profile(found, png)


def jaccard(first: Sequence[Head], second: Sequence[Head]) -> float:
    """The Jaccard overlap of two sets of heads, from 0 to 1."""
    a, b = set(first), set(second)
    return len(a & b) / len(a | b) if a | b else 1.0


@app.command()
@report_errors()
def overlap(
    profiles: Annotated[
        list[Path] | None,
        typer.Argument(help="Profiles; by default all that ship.", show_default=False),
    ] = None,
    proxy: ProxyName = SHARP,
    k: Best = 16,
    as_json: AsJson = False,
) -> None:
    """Say how far several ways to find heads agree: shared heads of the best k, and Jaccard."""
    found = _load_profiles(profiles, proxy)
    best = {name: profile.best(k) for name, profile in found.items()}
    pairs = {a: {b: jaccard(best[a], best[b]) for b in best} for a in best}
    if as_json:
        typer.echo(json.dumps({"k": k, "best": best, "jaccard": pairs}))
        return
    table = Table(f"best {k}", *best, box=None, header_style="bold")
    for a in best:
        shared = (len(set(best[a]) & set(best[b])) for b in best)
        table.add_row(a, *(f"{n} ({pairs[a][b]:.2f})" for n, b in zip(shared, best, strict=True)))
    make_console().print(table)
    common = set.intersection(*map(set, best.values()))
    make_console().print(f"in all: {_head_names(sorted(common)) or 'none'}", highlight=False)


def _load_profiles(paths: Sequence[Path] | None, proxy: str) -> dict[str, HeadProfile]:
    """Profiles by a short name.

    Raises:
        BadInput: there are fewer than two, or they are of different models.
    """
    from tamis.probes.errors import BadInput
    from tamis.probes.probing.heads import HEAD_SCORINGS, HeadProfile, shipped_file

    if paths:
        stems = [path.stem for path in paths]
        named = {path: str(path) if stems.count(path.stem) > 1 else path.stem for path in paths}
        found = {name: HeadProfile.load(path) for path, name in named.items()}
    else:
        shipped = [by for by in HEAD_SCORINGS if shipped_file(by, proxy).is_file()]
        found = {by: HeadProfile.load_shipped(by, proxy) for by in shipped}
    if len(found) < 2:
        subject = "of the files named" if paths else f"profiles of {proxy}"
        raise BadInput(
            f"{len(found)} {subject} can be compared; name at least two files that differ"
        )
    models = {(p.model, p.layers, p.heads) for p in found.values()}
    if len(models) > 1:
        listed = ", ".join(f"{m} ({layers} layers of {h} heads)" for m, layers, h in sorted(models))
        raise BadInput(f"these are profiles of {listed}; heads of one model can be compared")
    return found


def _print_profile(profile: HeadProfile, k: int) -> None:
    from tamis_lab.train.commands.profile_plots import head_map_text

    k = min(k, profile.layers * profile.heads)
    console = make_console()
    console.print(head_map_text(profile, k))
    best = profile.best(k)
    table = Table("rank", "layer-head", "score", box=None, header_style="bold")
    for rank, (layer, head) in enumerate(best, 1):
        table.add_row(str(rank), f"{layer}-{head}", f"{profile.scores[layer][head]:.4f}")
    console.print(table)
    stable = ", ".join(f"{size}: {value:.2f}" for size, value in profile.stability.items())
    console.print(
        f"{profile.model} ({profile.template}), by {profile.by}, {profile.cases} questions; "
        f"overlap of the best k when questions are drawn again: {stable or 'not measured'}",
        highlight=False,
    )


def _draw_profile(profile: HeadProfile, png: Path | None) -> None:
    from tamis_lab.train.commands.profile_plots import draw_head_map

    if png:
        draw_head_map(profile, png)
        typer.echo(f"wrote {png}", err=True)


def _head_names(heads: Sequence[tuple[int, int]]) -> str:
    return " ".join(f"{layer}-{head}" for layer, head in heads)


def _heads_cache(cache: Path | None) -> Path:
    from tamis.probes.hub.cache_dir import cache_home

    return cache if cache is not None else cache_home() / "heads"
