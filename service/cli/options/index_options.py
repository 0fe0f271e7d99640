"""Options that the commands of `tamis index` and `tamis ask-context` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path, typer.Argument(metavar="INDEX", help="The folder of the index.")]
Corpus = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS",
        help="JSON Lines and Parquet (.gz, .zst), text, Markdown, HTML, PDF and DOCX files, or "
        "folders.",
    ),
]
IdField = Annotated[
    str | None, typer.Option(help="Rows' field of ids; id, _id, doc_id, docid if none is named.")
]
TextField = Annotated[
    str | None, typer.Option(help="Rows' field of text; text, contents, content, body if none is.")
]
TitleField = Annotated[str, typer.Option(help="Rows' field of titles.")]
Proxy = Annotated[
    str | None,
    typer.Option("--proxy", help="The model of the keys: its name, or a folder."),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="CONDITION",
        help="Only documents whose metadata meet it: key=a,b key!=a key>=1; repeatable.",
        show_default=False,
    ),
]
Search = Annotated[
    str,
    typer.Option(
        "--search",
        help="How keys are searched: exact, graph or ivf; auto takes what the index has.",
    ),
]
Structure = Annotated[
    str,
    typer.Option(
        "--search",
        help="What a search finds keys by: graph, ivf (FAISS), exact for every key; auto is exact "
        "below 400,000 keys and graph above.",
    ),
]
Questions = Annotated[
    Path | None,
    typer.Option(
        "--questions", help="Questions that the graph follows, a line each. Default: general ones."
    ),
]
By = Annotated[
    str | None,
    typer.Option("--by", help="Search by these alone: bm25, keys, vectors, with commas."),
]


def parse_legs(by: str | None) -> list[str] | None:
    """The ways of search in `--by`; None if it was not given."""
    return None if by is None else [word.strip() for word in by.split(",") if word.strip()]
