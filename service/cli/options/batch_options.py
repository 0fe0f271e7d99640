"""The options of `tamis batch` that `tamis compress` does not have, by their parameters."""

from __future__ import annotations

from tamis.compressors.options import Option

_ROWS, _RUN = "Rows", "Run"
BATCH = {
    "inputs": Option(
        "JSON Lines (also .gz, .zst), Parquet, folders, globs, URLs. A text file is a row.",
        metavar="IN...",
        is_argument=True,
    ),
    "out": Option("The output folder, here or a URL.", short="-o"),
    "query": Option("One question for all rows, before their own.", short="-q"),
    "engine": Option("`ray` also runs on other machines."),
    "workers": Option("Processes, each with its own model.", ge=1),
    "gpus": Option("Ray only; 0.5 puts two workers on one.", _RUN, flag="--gpus-per-worker", ge=0),
    "shard": Option(
        "Do every N-th part, from the I-th on; the same or another output folder.",
        _RUN,
        metavar="I/N",
    ),
    "dry_run": Option("Say rows, tokens and time; write nothing.", _RUN),
    "on_error": Option("Keep a failing row as an error row, or stop."),
    "only_kept": Option(
        "Write rows without documents and context; spans are into those of the input."
    ),
    "share": Option(
        "Read short rows together: faster. Without, each exactly as `tamis compress` would.", _RUN
    ),
    "retry_errors": Option("Do the rows that failed again.", _RUN),
    "overwrite": Option("Remove another batch from the output folder.", _RUN),
    "quiet": Option("No progress and no summary.", _RUN),
    "prefix": Option("Before the names of added fields.", _ROWS),
    "format": Option(
        "jsonl, jsonl.gz, jsonl.zst or parquet; parquet if all inputs are, else jsonl.", _ROWS
    ),
    "part_rows": Option("Rows of a part: what a crash costs.", _ROWS, ge=1),
    "part_mb": Option(
        "MiB of input in a part, at most; by default what one core reads in under a minute.",
        _ROWS,
        ge=1,
    ),
}
"""Of `tamis batch run`."""
MERGE = {
    "outs": Option("Output folders of one batch.", metavar="OUT...", is_argument=True),
    "target": Option(
        "The file: .jsonl, .jsonl.gz, .jsonl.zst or .parquet.", short="-o", flag="--out"
    ),
    "partial": Option("Merge what there is, though parts are missing."),
}
"""Of `tamis batch merge` and `tamis batch verify`."""
