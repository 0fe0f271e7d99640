"""The options of `tamis batch` that `tamis compress` does not have."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

if TYPE_CHECKING:
    from tamis.service.batch.job import RunOptions as RunOptions

_ROWS, _RUN = "Rows", "Run"


class EngineChoice(enum.StrEnum):
    """Where workers run."""

    local = "local"
    ray = "ray"


class OnErrorChoice(enum.StrEnum):
    """What happens to a row that fails."""

    keep = "keep"
    stop = "stop"


Inputs: TypeAlias = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help="JSON Lines (also .gz, .zst), Parquet, folders, globs, URLs. A text file is a row.",
        show_default=False,
    ),
]


EngineOption = Annotated[
    EngineChoice, typer.Option("--engine", help="`ray` also runs on other machines.")
]
OnErrorOption = Annotated[
    OnErrorChoice, typer.Option("--on-error", help="Keep a failing row as an error row, or stop.")
]
Out = Annotated[str, typer.Option("--out", "-o", help="The output folder, here or a URL.")]
Query = Annotated[
    str | None, typer.Option("--query", "-q", help="One question for all rows, before their own.")
]
Workers = Annotated[
    int, typer.Option("--workers", min=1, help="Processes, each with its own model.")
]
Gpus = Annotated[
    float,
    typer.Option(
        "--gpus-per-worker",
        min=0,
        help="Ray only; 0.5 puts two workers on one.",
        rich_help_panel=_RUN,
    ),
]
Shard = Annotated[
    str,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Do every N-th part, from the I-th on; the same or another output folder.",
        rich_help_panel=_RUN,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Say rows, tokens and time; write nothing.", rich_help_panel=_RUN
    ),
]
RetryErrors = Annotated[
    bool,
    typer.Option("--retry-errors", help="Do the rows that failed again.", rich_help_panel=_RUN),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite", help="Remove another batch from the output folder.", rich_help_panel=_RUN
    ),
]
Share = Annotated[
    bool,
    typer.Option(
        "--share/--no-share",
        help="Read short rows together: faster. Without, each exactly as `tamis compress` would.",
        rich_help_panel=_RUN,
    ),
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="No progress and no summary.", rich_help_panel=_RUN)
]

IdField = Annotated[
    str,
    typer.Option("--id-field", help="Where a text file's name goes.", rich_help_panel=_ROWS),
]
QueryField = Annotated[
    str, typer.Option("--query-field", help="Where a row's question is.", rich_help_panel=_ROWS)
]
HistoryField = Annotated[
    str | None,
    typer.Option(
        "--history-field",
        help="Where a row's earlier turns are, a list of texts, if its question depends on them.",
        show_default=False,
        rich_help_panel=_ROWS,
    ),
]
DocsField = Annotated[
    str,
    typer.Option("--docs-field", help="Where a row's documents are.", rich_help_panel=_ROWS),
]
ContextField = Annotated[
    str,
    typer.Option(
        "--context-field",
        help="Where the text of a row without documents is.",
        rich_help_panel=_ROWS,
    ),
]
TextField = Annotated[
    str,
    typer.Option("--text-field", help="Where a document's text is.", rich_help_panel=_ROWS),
]
Prefix = Annotated[
    str,
    typer.Option("--prefix", help="Before the names of added fields.", rich_help_panel=_ROWS),
]
FormatOption = Annotated[
    str | None,
    typer.Option(
        "--format",
        help="jsonl, jsonl.gz, jsonl.zst or parquet; parquet if all inputs are, else jsonl.",
        show_default=False,
        rich_help_panel=_ROWS,
    ),
]
OnlyKept = Annotated[
    bool,
    typer.Option(
        "--only-kept",
        help="Write rows without documents and context; spans are into those of the input.",
    ),
]
PartRows = Annotated[
    int,
    typer.Option(
        "--part-rows", min=1, help="Rows of a part: what a crash costs.", rich_help_panel=_ROWS
    ),
]
PartMb = Annotated[
    int | None,
    typer.Option(
        "--part-mb",
        min=1,
        help="MiB of input in a part, at most; by default what one core reads in under a minute.",
        show_default=False,
        rich_help_panel=_ROWS,
    ),
]

Outs: TypeAlias = Annotated[
    list[str], typer.Argument(metavar="OUT...", help="Output folders of one batch.")
]
Target = Annotated[
    str,
    typer.Option("--out", "-o", help="The file: .jsonl, .jsonl.gz, .jsonl.zst or .parquet."),
]
