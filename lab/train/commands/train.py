"""`tamis lab probe train`: fits a linear probe to a proxy on labelled questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from tamis.compressors.registry import DEFAULT
from tamis.service.cli.display.output import report_errors
from tamis_lab.options.bars import file_bars
from tamis_lab.options.output_files import check_probe_target
from tamis_lab.options.shared import (
    SHARP,
    Data,
    ProxyName,
    ReadingsFolder,
    parse_record_file,
    readings_folder,
)
from tamis_lab.train.commands.probe_plots import print_figures

if TYPE_CHECKING:
    pass

Articles = Annotated[
    list[str] | None,
    typer.Option(
        "--articles",
        help="Likewise, with all passages of a title joined into one long document; LIMIT counts "
        "the questions on each. Repeatable.",
    ),
]


@report_errors()
def train(
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", help="Where to write the probe (.safetensors and .json).")
    ],
    proxy: ProxyName = SHARP,
    method: Annotated[str, typer.Option(help="question_rows, or sentinel.")] = DEFAULT,
    layers: Annotated[
        int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
    ] = None,
    read_layers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Read so many and use the first --layers: one reading serves several depths.",
        ),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(help="listwise, or logistic. Default: listwise.")
    ] = None,
    l2: Annotated[
        float | None, typer.Option(help="Weight of the squared norm. Default: .01.")
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(help="sentinel only: published, or like-cases. Default: published."),
    ] = None,
    reliant: Annotated[
        bool,
        typer.Option(
            "--reliant",
            help="sentinel only: fit on questions that the proxy answers with their context and "
            "not without, as the paper does. For a proxy that can answer.",
        ),
    ] = False,
    articles: Articles = None,
    encoder: Annotated[
        bool,
        typer.Option(help="Also learn to weigh the sentence encoder's cosines."),
    ] = True,
    blend: Annotated[
        Path | None,
        typer.Option(
            help="A probe for the same layers, whose first step is kept but for three tenths of "
            "the new one: what it learnt of documents that are not in --data stays."
        ),
    ] = None,
    cache: ReadingsFolder = None,
) -> None:
    """Fit a probe on labelled questions; a fifth of the articles is held out for its figures.

    Where the sentence encoder is installed (`tamis models pull minilm-l6`), the probe also learns
    to weigh its cosines. A proxy that finds more than the encoder is better off with
    `--no-encoder`; `tamis lab bench domains` tells. Sets of four domains or more are fitted so
    that it holds on others.

    Example: tamis lab probe train --proxy ./my-model --data train.jsonl.gz --out
    my-probe.safetensors
    """
    from tamis.compressors.registry import load_proxy
    from tamis_lab.bench.answers import ContextReliance
    from tamis_lab.datasets.score_sources import installed_encoder_source
    from tamis_lab.train.fit import check_l2
    from tamis_lab.train.probe.fitting import train_probe as fit
    from tamis_lab.train.probe.sentinel import SentinelRecipe, train_sentinel

    _check_choice("method", method, ("question_rows", "sentinel"))
    if recipe is not None:
        _check_choice("recipe", recipe, ("published", "like-cases"))
    given = {"layers": layers, "read-layers": read_layers, "loss": loss, "l2": l2}
    given["no-encoder"] = None if encoder else True
    given["blend"] = None if blend is None else str(blend)
    if method == "sentinel":
        published = recipe != "like-cases"
        _refuse_unused(method, given | ({"articles": articles or None} if published else {}))
    else:
        _refuse_unused(method, {"recipe": recipe, "reliant": reliant or None})
    check_l2(l2 := 0.01 if l2 is None else l2)
    check_probe_target(out)
    files = [parse_record_file(name) for name in data]
    files += [replace(parse_record_file(name), articles=True) for name in articles or ()]
    with file_bars() as report:
        if method == "sentinel":
            reader, kind = load_proxy(proxy, None), "published" if published else "like-cases"
            folder = readings_folder(cache)
            relies = ContextReliance(reader, folder) if reliant else None
            probe = train_sentinel(
                reader, files, folder, cast(SentinelRecipe, kind), report, relies
            )
        else:
            reader = load_proxy(proxy, read_layers or layers)
            depth, loss = layers or max(1, reader.card.layers * 2 // 3), loss or "listwise"
            folder = readings_folder(cache)
            cosines = installed_encoder_source(folder) if encoder else None
            start = None if blend is None else _load_blend(blend, reader, depth)
            probe, _ = fit(
                *(reader, files, folder, depth, report, loss, l2, read_layers, cosines, start)
            )
    written = probe.save(out)
    print_figures(probe.card.figures)
    Console(stderr=True).print(f"wrote {written}")


def _load_blend(path: Path, reader: Any, layers: int) -> Any:
    """The probe to blend with.

    Raises:
        BadInput, BadModelFile, ProbeMismatch: it has other layers, or is of another model.
    """
    from tamis.compressors.features.shipped_probes import choose_probe
    from tamis.probes.errors import BadInput

    found = choose_probe(DEFAULT, reader, path)
    assert found is not None
    if found.card.layers != layers:
        raise BadInput(
            f"--blend {path} is for {found.card.layers} layers, and {layers} are fitted; give "
            f"--layers {found.card.layers}"
        )
    return found


def _check_choice(option: str, given: str, choices: Sequence[str]) -> None:
    from tamis.probes.errors import BadInput

    if given not in choices:
        raise BadInput(f"--{option} is {given!r}; give {' or '.join(choices)}")


def _refuse_unused(method: str, given: Mapping[str, Any]) -> None:
    """Refuses options that the method does not use.

    Raises:
        BadInput: one of them was given.
    """
    from tamis.probes.errors import BadInput

    if used := [f"--{name}" for name, value in given.items() if value is not None]:
        raise BadInput(f"{method} does not use {', '.join(used)}; leave out what is not used")
