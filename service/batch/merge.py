"""Joins the parts of a batch to one file."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.service.batch.output import OutputFolder, PartReceipt, sha256_hex
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.row_writer import read_table
from tamis.service.batch.survey import BatchPart
from tamis.service.batch.verification import locate_parts, open_batch
from tamis.service.files import codecs, parquet, remote
from tamis.service.files.codecs import unpack


def merge_batch(outs: Sequence[str], target: str, *, partial: bool = False) -> int:
    """Writes the rows of all parts, in the order of the input, to one file; returns their number.

    The file appears when it is complete, or not at all.

    Args:
        target: a path or URL with the format of the parts; lines may be packed in another way.
        partial: whether parts may be missing.

    Raises:
        BadInput: parts are missing or damaged, or the name is one of theirs or stands for another
            format.
    """
    plan, outputs = open_batch(outs)
    if ("parquet" in plan.suffix) != target.endswith(".parquet") or not target.endswith(
        (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
    ):
        raise BadInput(
            f"the parts are {plan.suffix} and {target} is not; name a file that ends in "
            f"{'.parquet' if plan.suffix == 'parquet' else '.jsonl, .jsonl.gz or .jsonl.zst'}"
        )
    own = {
        _real_path(f"{output.url.rstrip('/')}/{plan.part_file(part)}")
        for output in outputs
        for part in plan.parts
    }
    if _real_path(target) in own:
        raise BadInput(f"{target} is a part of what is merged; name another file")
    found = locate_parts(plan, outputs)
    missing = [plan.part_file(part) for part in plan.parts if part.index not in found]
    if missing and not partial:
        raise BadInput(
            f"{len(missing)} of {len(plan.parts)} parts are not there, {missing[0]} first; "
            "run their shards, or merge what there is with --partial"
        )
    parts = [(part, *found[part.index][0]) for part in plan.parts if part.index in found]
    with _atomic_stream(target) as stream:
        pieces = (_read_intact(output, plan, part, receipt) for part, output, receipt in parts)
        if plan.suffix == "parquet":
            _write_parquet(stream, pieces)
        else:
            _write_lines(stream, pieces, plan, target)
    return sum(part.rows for part, _, _ in parts)


def _real_path(url: str) -> str:
    """A path without links, or a URL as it is."""
    fs, path = remote.filesystem(url)
    return str(Path(path).resolve()) if remote.is_local(fs) else url


def _read_intact(
    output: OutputFolder, plan: BatchPlan, part: BatchPart, receipt: PartReceipt
) -> bytes:
    data = output.read(plan.part_file(part))
    if sha256_hex(data) != receipt.sha256:
        raise BadInput(
            f"{output.url}/{plan.part_file(part)} is damaged; delete it and run the batch again"
        )
    return data


def _write_lines(stream: Any, pieces: Iterator[bytes], plan: BatchPlan, target: str) -> None:
    with contextlib.ExitStack() as stack:
        if target.endswith(".gz"):
            stream = stack.enter_context(gzip.GzipFile("", "wb", 6, stream, mtime=0))
        elif target.endswith(".zst"):
            stream = stack.enter_context(
                codecs.import_zstandard().ZstdCompressor().stream_writer(stream, closefd=False)
            )
        for data in pieces:
            stream.write(unpack(data, plan.suffix))


def _write_parquet(stream: Any, pieces: Iterator[bytes]) -> None:
    arrow = parquet.import_pyarrow()
    writer = None
    for data in pieces:
        table = read_table(data)
        if writer is None:
            writer = arrow.parquet.ParquetWriter(stream, table.schema, compression="zstd")
        if not table.schema.equals(writer.schema):
            raise BadInput(
                "the inputs have different columns, so their parts make no one Parquet file; "
                "read the folder with a tool that joins schemas, or run with --format jsonl"
            )
        writer.write_table(table)
    if writer is not None:
        writer.close()


@contextlib.contextmanager
def _atomic_stream(target: str) -> Iterator[Any]:
    """A stream to a path or URL; a local file appears under its name when the block has ended."""
    fs, path = remote.filesystem(target)
    try:
        with contextlib.ExitStack() as stack:
            if remote.is_local(fs):
                path = str(stack.enter_context(atomic_path(Path(path))))
            with fs.open(path, "wb") as stream:
                yield stream
    except OSError as error:
        raise BadInput(f"{target} cannot be written ({remote.error_reason(error)})") from error
