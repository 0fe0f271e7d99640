"""What is studied of heads beside their scores: position bias, the causal check, and roles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from tamis.probes.atomic_file import write_whole
from tamis.service.cli.display.output import make_console, report_errors
from tamis.service.cli.options.compress_options import AsJson
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_images, check_targets
from tamis_lab.options.shared import SHARP, Seed
from tamis_lab.train.commands.head_options import Data, Out, Png, ProxyName, record_files

if TYPE_CHECKING:
    from tamis_lab.train.heads.causal import CausalCheck


@report_errors()
def position_bias(
    data: Data = None,
    proxy: ProxyName = SHARP,
    documents: Annotated[int, typer.Option(min=3, help="Places in the list.")] = 10,
    document_tokens: Annotated[
        int, typer.Option(min=1, help="First sentences of each, up to so many tokens.")
    ] = 100,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use at most so many records a file.")
    ] = None,
    out: Out = None,
    png: Png = None,
) -> None:
    """Measure how much attention each place in a list of documents draws (attnrank's profile).

    Without --data, the profile that ships is shown.
    """
    from tamis.compressors.registry import load_proxy
    from tamis_lab.methods.position_bias import PositionProfile, bias_ratio
    from tamis_lab.train.commands.profile_plots import draw_position_bias, position_bias_text
    from tamis_lab.train.heads.position_bias import measure_position_bias

    check_targets(out)
    check_images(png)
    if not data:
        profile = PositionProfile.load_shipped(proxy)
    else:
        sources, reader = record_files(data, limit, "basin"), load_proxy(proxy, None)
        with file_bars() as report:
            profile = measure_position_bias(reader, sources, documents, document_tokens, report)
    make_console().print(position_bias_text(profile))
    ratio = bias_ratio(profile.shares)
    note = "" if profile.shows_basin else "; no layer reaches 1.3, so this is the nearest"
    make_console().print(f"ends to middle {ratio:.2f} over {profile.cases} lists{note}")
    if out:
        profile.save(out)
        typer.echo(f"wrote {out}", err=True)
    if png:
        draw_position_bias(profile, png)
        typer.echo(f"wrote {png}", err=True)


@report_errors()
def check(
    profile: Annotated[
        Path | None,
        typer.Argument(help="A profile; by default the one that ships.", show_default=False),
    ] = None,
    data: Data = None,
    by: Annotated[str, typer.Option("--by", help="Of the profile that ships.")] = "contrast",
    proxy: ProxyName = SHARP,
    k: Annotated[int, typer.Option("--k", min=1, help="How many heads are masked.")] = 8,
    prompt_tokens: Annotated[int, typer.Option(min=32, help="Of a haystack.")] = 300,
    seed: Seed = 0,
    as_json: AsJson = False,
) -> None:
    """Mask the best heads of a profile, and as many random ones: is the needle still found?

    Heads that look for what is asked break it; random ones of the same layers do not (retrieval
    heads, arXiv 2404.15574, §3). The needles are made up and hidden in the records' texts.
    """
    from tamis.compressors.registry import load_proxy
    from tamis.probes.probing.heads import choose_profile
    from tamis_lab.datasets.record_files import answerable_records
    from tamis_lab.train.heads.causal import check_heads

    found = choose_profile(profile or "auto", by, proxy)
    files = record_files(data, None, "check")
    reader = load_proxy(proxy, None)
    found.check(reader.card, reader.layout.template.name)
    records = [record for file in files for record in answerable_records(file)]
    with file_bars() as report:
        shown = check_heads(
            reader,
            found.best(k),
            records,
            lambda done, total: report("needles", done, total),
            prompt_tokens,
            seed,
        )
    _print_check(shown, found.by, k, as_json)


def _print_check(shown: CausalCheck, by: str, k: int, as_json: bool) -> None:
    names = ("as it is", f"best {k} by {by} masked", f"{k} random ones masked")
    logs = [sum(one) / len(one) for one in (shown.plain, shown.found, shown.random)]
    if as_json:
        rows = dict(zip(("plain", "found", "random"), logs, strict=True))
        right = dict(zip(("plain", "found", "random"), shown.right, strict=True))
        facts = {"by": by, "k": k, "needles": len(shown.plain), "log_p": rows, "right": right}
        typer.echo(json.dumps(facts | {"random_ahead": list(shown.lead)}))
        return
    table = Table("heads", "mean log p of a token", "values right", box=None, header_style="bold")
    for name, log, share in zip(names, logs, shown.right, strict=True):
        table.add_row(name, f"{log:.3f}", f"{share:.2f}")
    make_console().print(table)
    lead, low, high = shown.lead
    make_console().print(
        f"random ones cost {lead:.3f} [{low:.3f}, {high:.3f}] less, {len(shown.plain)} needles",
        highlight=False,
    )


@report_errors()
def roles(
    data: Data = None,
    proxy: ProxyName = SHARP,
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """What each head attends to, whatever is asked: separators, neighbours, copies, entropy.

    Averages over the documents of the records (What Does BERT Look At?, arXiv 1906.04341, §3).
    """
    from tamis.compressors.registry import load_proxy
    from tamis_lab.methods.readings.roles import ROLES
    from tamis_lab.train.heads.roles import measure_roles

    check_targets(out)
    files = record_files(data, None, "roles")
    with file_bars() as report:
        found = measure_roles(load_proxy(proxy, None), files, report)
    facts: dict[str, Any] = {"proxy": proxy, "roles": list(ROLES), "by_head": found.tolist()}
    if out:
        write_whole(out, (json.dumps(facts) + "\n").encode())
        typer.echo(f"wrote {out}", err=True)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    table = Table("role", "mean of heads", "most", "head", box=None, header_style="bold")
    for role, values in zip(ROLES, found.movedim(-1, 0), strict=True):
        layer, head = divmod(int(values.argmax()), values.shape[1])
        table.add_row(role, f"{values.mean():.3f}", f"{values.max():.3f}", f"{layer}-{head}")
    make_console().print(table)


@report_errors()
def focus(
    profile: Annotated[
        Path | None,
        typer.Argument(help="A profile; by default the one that ships.", show_default=False),
    ] = None,
    data: Data = None,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Write the directions here, as safetensors.")
    ] = Path("focus.safetensors"),
    proxy: ProxyName = SHARP,
    k: Annotated[int, typer.Option("--k", min=1, help="How many heads get a direction.")] = 20,
) -> None:
    """Fit focus directions: added to the queries of the best heads, they move mass to the gold.

    For `tamis lab bench readings --readings focus:directions=FILE` (Focus Directions, arXiv
    2503.23306). Fit on questions that are not judged.
    """
    from safetensors.torch import save

    from tamis.compressors.registry import load_proxy
    from tamis.probes.probing.heads import choose_profile
    from tamis_lab.datasets.record_files import answerable_records
    from tamis_lab.train.heads.focus import fit_directions

    check_targets(out)
    found = choose_profile(profile or "auto", "contrast", proxy)
    files = record_files(data, None, "focus")
    heads = found.best(k)
    reader = load_proxy(proxy, 1 + max(layer for layer, _ in heads))
    found.check(reader.card, reader.layout.template.name)
    records = [record for file in files for record in answerable_records(file)]
    with file_bars() as report:
        directions, masses = fit_directions(
            reader, records, heads, lambda done, total: report("questions", done, total)
        )
    write_whole(out, save({"directions": directions}))
    shown = f"mass on gold {masses[0]:.4f} at first, {masses[-1]:.4f} at last; wrote {out}"
    make_console().print(shown, highlight=False)
