"""`tamis lab bench run`: runs a method over labelled records, with one result line per record.

One method over a file of records, one line of results a record; an interrupted run continues.

records ─ distractors? ─ limit ─► compress ─► RESULTS.jsonl            one line per record, flushed
                                              RESULTS.jsonl.meta.json  the settings of the run
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY
from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput, TamisError
from tamis.service.api.compress import compressor, counter_of
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.study import Study
from tamis_lab.datasets.records import Record, add_distractors, load_records, passages_of
from tamis_lab.datasets.result_file import ResultRow
from tamis_lab.options import shared
from tamis_lab.options.output_files import check_targets

EPILOG = shared.RECORDS


@report_errors()
def run(
    records: shared.Records,
    out: Annotated[
        Path,
        typer.Option("--results", "--out", help="Result lines; a run that was cut short goes on."),
    ],
    method: Annotated[str, typer.Option(help="See `tamis methods`.")] = DEFAULT,
    keep: Annotated[
        float, typer.Option(help="Up to 1 a share of the tokens, above whole tokens.")
    ] = 0.1,
    limit: shared.Limit = None,
    distractors: Annotated[int, typer.Option(help="Other passages beside each record's own.")] = 0,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    language: Annotated[
        str, typer.Option(help="Of the documents; auto is each record's lang.")
    ] = "auto",
    gold_out: Annotated[
        Path | None, typer.Option("--gold-out", help="Also write the records as they were used.")
    ] = None,
) -> None:
    """Compress every record of a file and write what was kept, a line per record.

    Example: tamis lab bench run dev.jsonl.gz --method lexical --keep 0.1 --results results.jsonl
    """
    check_targets(gold_out)
    study, settings = (
        Study(results=out),
        RunSettings(keep, method, distractors, seed, proxy, language),
    )
    rows = load_run_records(records, settings)
    built = compressor(method, proxy, counter_of("proxy", proxy))
    study.keep_rows(fingerprint(settings, rows), "id")
    rows = rows[:limit]
    if gold_out:
        write_gold(gold_out, rows, records, out)
    measure = partial(result_row, compressor=built, settings=settings)
    with study.bars():
        study.rows(f"{method} on {records.name}", {row["id"]: row for row in rows}, measure)
    typer.echo(f"{out}: {study.summary()}", err=True)


def fingerprint(settings: RunSettings, records: Sequence[Record]) -> dict[str, Any]:
    """What must be equal for a run to be resumed: settings and records."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode())
    return asdict(settings) | {"records_sha256": digest.hexdigest()}


AUTO_LANGUAGE = "auto"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Everything that results depend on, beside the records.

    Attributes:
        keep: above 0 and up to 1 a share of the tokens, above 1 whole tokens.
        distractors: passages of other records added to each; 0 takes records as they are.
        language: of all records, or `auto` for each record's own `lang`.
    """

    keep: float
    method: str = DEFAULT
    distractors: int = 0
    seed: int = 0
    proxy: str = DEFAULT_PROXY
    language: str = AUTO_LANGUAGE

    def __post_init__(self) -> None:
        shared.budget_of(self.keep)
        if self.distractors < 0:
            raise BadInput(f"distractors is {self.distractors}; give 0 or more")


def language_of(record: Record, language: str = AUTO_LANGUAGE) -> str:
    """The given language; for `auto` the record's own, or else English."""
    return str(record.get("lang") or "en") if language == AUTO_LANGUAGE else language


def load_run_records(path: Path, settings: RunSettings) -> list[Record]:
    """The records of a file as they will be compressed, with their distractors.

    Distractors come from the whole file, so a limit changes no record.

    Raises:
        BadInput: a record without its own text id, or as `load_records` raises.
    """
    records = load_records(path)
    _check_ids(records, path)
    if settings.distractors:
        records = add_distractors(records, settings.distractors, settings.seed)
    return records


def _check_ids(records: Sequence[Record], path: Path) -> None:
    ids: set[str] = set()
    for number, record in enumerate(records, 1):
        if not isinstance(name := record.get("id"), str) or name in ids:
            raise BadInput(
                f"{path}, record {number}: its id is {name!r}; give each its own, as text"
            )
        ids.add(name)


def result_row(record: Record, compressor: Compressor, settings: RunSettings) -> ResultRow:
    """One result line: kept spans in the documents' own text, tokens, time, a score per document.

    A record that tamis refuses has its error in the line, and nothing kept.
    """
    clock = time.perf_counter()
    try:
        compressed = compressor.compress(
            record["question"],
            passages_of(record),
            shared.budget_of(settings.keep),
            language=language_of(record, settings.language),
        )
    except TamisError as error:
        return {"id": record["id"], "error": f"{type(error).__name__}: {error}", "kept": []}
    ms = (time.perf_counter() - clock) * 1e3
    documents = range(len(record["docs"]))
    is_whole = compressed.status == "passthrough"
    return {
        "id": record["id"],
        "kept": [[d, a, b] for d in documents for a, b in compressed.spans(d)],
        "tokens_before": compressed.tokens_in,
        "tokens_after": compressed.tokens_out,
        "ms": round(ms, 3),
        # nothing is scored where everything fits
        "doc_scores": [None] * len(documents) if is_whole else list(compressed.passage_scores),
    }


def write_gold(path: Path, records: Sequence[Record], *others: Path) -> None:
    """Writes the records as they were used, so that other programs can judge the results.

    Raises:
        BadInput: the file is one of `others`, or cannot be written.
    """
    if any(path.resolve() == other.resolve() for other in others):
        raise BadInput(
            f"{path} is read or written by this run already; name another file for the gold"
        )
    try:
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records), "utf8")
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error
