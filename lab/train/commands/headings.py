"""`tamis lab probe headings`: labelled questions from documentation, at no labelling cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from tamis.probes.atomic_file import write_whole
from tamis.probes.errors import BadInput
from tamis.service.cli.display.output import report_errors
from tamis_lab.options.output_files import check_targets
from tamis_lab.options.shared import Seed

EPILOG = """
**Examples**

`tamis lab probe headings manual/ --out manual.jsonl --limit 200`

`tamis lab probe train --data manual.jsonl --data mine.jsonl --out mine.safetensors`

A heading is the question, the text below it the evidence; the heading is taken out of the
document, and sections of other pages stand beside it. A third of the questions on longer sections
go on with the section's first sentence, as a question with a title and a body does. Read some
before you trust them.
"""


@report_errors()
def headings(
    folder: Annotated[Path, typer.Argument(help="Folder with HTML or Markdown pages.")],
    out: Annotated[Path, typer.Option("--out", help="Where to write the records (.jsonl).")],
    limit: Annotated[int, typer.Option(min=1, help="Questions, drawn from all pages.")] = 200,
    name: Annotated[
        str | None,
        typer.Option(help="Of the set, in its ids. Default: the folder's.", show_default=False),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Make labelled questions out of the headings of documentation."""
    from tamis_lab.datasets.heading_records import heading_records, load_pages

    check_targets(out)
    pages = load_pages(folder)
    records = heading_records(pages, name or folder.resolve().name, limit, seed)
    if not records:
        raise BadInput(
            f"none of {len(pages)} pages has a heading of two words or more with text below it and "
            "pages to stand beside it; give more pages"
        )
    write_whole(out, "".join(json.dumps(row) + "\n" for row in records).encode())
    gold = sum(len(doc["gold"]) for row in records for doc in row["docs"])
    typer.echo(
        f"wrote {out}: {len(records)} questions of {len(pages)} pages, {gold / len(records):.1f} "
        "gold units each on average",
        err=True,
    )
