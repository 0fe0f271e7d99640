"""`tamis lab fit-recipe`: chooses the heads of a proxy whose keys an index stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.atomic_file import write_whole
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis_lab.options.bars import record_bars

if TYPE_CHECKING:
    from tamis_lab.train.head_selection import LabelledQuestion

EPILOG = """
**Examples**

`tamis lab fit-recipe train.jsonl.gz --proxy Qwen/Qwen2.5-0.5B-Instruct --layers 14 -o qwen.json`

`tamis index build docs/ -o docs.index --proxy Qwen/Qwen2.5-0.5B-Instruct --recipe qwen.json`
"""


@report_errors()
def fit(
    records: Annotated[
        list[Path], typer.Argument(help="Labelled records: questions, passages, gold sentences.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The recipe to write.")],
    proxy: Annotated[str, typer.Option("--proxy", help="A name, a folder, or a hub id.")] = (
        DEFAULT_PROXY
    ),
    layers: Annotated[
        int, typer.Option(min=1, help="Look no deeper: an index is read as deep as its last head.")
    ] = 10,
    heads: Annotated[
        int, typer.Option(min=1, help="At most so many; each adds to every token.")
    ] = 2,
    limit: Annotated[int, typer.Option(min=1, help="Questions, from all over the records.")] = 400,
    home: HomeFolder = None,
) -> None:
    """Choose the heads that find passages, on questions whose passages are known.

    The records' passages are one pool, and each question has to find its own among all of them.
    """
    from tamis.probes.hub.zoo import load_proxy
    from tamis_lab.train import head_selection

    passages, cases = _passage_pool(records, limit)
    loaded = load_proxy(proxy, layers=layers, root=models_folder(home))
    names = ", ".join(path.name.split(".")[0] for path in records)
    with record_bars() as progress:
        bar = progress.add_task("looking", total=len(cases) + loaded.depth)
        found = head_selection.select_heads(
            loaded,
            passages,
            cases,
            max_heads=heads,
            fitted_on=f"{len(cases)} questions and {len(passages)} passages of {names}",
            report=lambda: progress.advance(bar),
        )
    try:
        write_whole(out, (json.dumps(found.recipe.as_json()) + "\n").encode())
    except OSError as error:
        raise BadInput(f"{out} cannot be written ({error.strerror}); name another file") from error
    for layer, head in sorted(found.head_mrr, key=lambda h: -found.head_mrr[h])[:8]:
        typer.echo(f"layer {layer:2} head {head:2}  {found.head_mrr[layer, head]:.3f}")
    chosen = ", ".join(f"{layer}-{head}" for layer, head in found.recipe.heads)
    typer.echo(f"{out}: heads {chosen}, together {found.recipe_mrr:.3f} (mean reciprocal rank)")


def _passage_pool(records: list[Path], limit: int) -> tuple[list[Any], list[LabelledQuestion]]:
    """Every passage once, and the questions with the positions of the passages that answer them."""
    from tamis_lab.datasets.records import load_records
    from tamis_lab.train.head_selection import LabelledQuestion

    rows = [
        row
        for path in records
        for row in load_records(path)
        if any(doc.get("gold") for doc in row["docs"])
    ]
    rows = [rows[i * len(rows) // limit] for i in range(limit)] if len(rows) > limit else rows
    places: dict[tuple[str | None, str], int] = {}
    cases = []
    for row in rows:
        own = [places.setdefault((d.get("title"), d["text"]), len(places)) for d in row["docs"]]
        gold = [place for place, doc in zip(own, row["docs"], strict=True) if doc.get("gold")]
        cases.append(LabelledQuestion(row["question"], tuple(gold)))
    return list(places), cases
