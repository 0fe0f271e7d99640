"""Whether an output is whole, and all of it as one file."""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.batch.job import differences
from tamis.service.batch.output import MANIFEST, Output, Plan, Receipt, digest
from tamis.service.batch.plan import Part
from tamis.service.batch.row_writer import count_rows, read_table, unpacked
from tamis.service.files import files

_BLOCK = 1 << 20


@dataclass(slots=True)
class Verdict:
    """What was found in output folders.

    Attributes:
        missing: parts that are in none of them. damaged: files that are not what was written.
        stray: files that belong to no part.
        failed: messages of the rows that failed.
    """

    parts: int = 0
    rows: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether every row is there, as it was written."""
        return not (self.missing or self.damaged or self.stray)


def verify(outs: Sequence[str]) -> Verdict:
    """Reads every part again: all there, each with its rows and its SHA-256.

    Raises:
        BadInput: a folder holds no batch, or the folders hold different ones.
    """
    plan, outputs = opened(outs)
    verdict = Verdict(len(plan.parts), plan.rows)
    found = _where(plan, outputs)
    for part in plan.parts:
        name = plan.file(part)
        if part.index not in found:
            verdict.missing.append(name)
            continue
        for output, receipt in found[part.index]:
            verdict.failed += [why for _, why in receipt.failed]
            if fault := _fault(output, plan, part, receipt):
                verdict.damaged.append(f"{output.url}/{name}: {fault}")
    expected = {plan.file(part) for part in plan.parts}
    for output in outputs:
        parts = (name for name in sorted(output.names()) if name.startswith("part-"))
        verdict.stray += [f"{output.url}/{name}" for name in parts if name not in expected]
    return verdict


def _fault(output: Output, plan: Plan, part: Part, receipt: Receipt) -> str | None:
    """What is wrong with a part's file."""
    name = plan.file(part)
    data = output.get(name)
    if digest(data) != receipt.sha256:
        return f"{len(data):,} bytes are not the {receipt.bytes:,} that were written"
    if (rows := count_rows(data, name)) != part.rows:
        return f"{rows} rows where {part.rows} belong"
    return None


def opened(outs: Sequence[str]) -> tuple[Plan, list[Output]]:
    """The one plan that some output folders share.

    Raises:
        BadInput: a folder holds no batch, or the folders hold different ones.
    """
    outputs = [Output(out) for out in outs]
    plans = []
    for output in outputs:
        plan = output.plan()
        if plan is None:
            raise BadInput(f"{output.url} holds no batch (no {MANIFEST}); name an output folder")
        plans.append(plan)
    for plan, output in zip(plans[1:], outputs[1:], strict=True):
        changed = differences(plans[0].settings, plan.settings)
        if changed or _inputs(plan) != _inputs(plans[0]):
            listed = "; ".join(changed) or "their inputs differ"
            raise BadInput(f"{outputs[0].url} and {output.url} are different batches: {listed}")
    return plans[0], outputs


def _inputs(plan: Plan) -> list[str]:
    return [one["sha256"] for one in plan.inputs]


def _where(plan: Plan, outputs: Sequence[Output]) -> dict[int, list[tuple[Output, Receipt]]]:
    """For every part that is done, the folders it is in."""
    found: dict[int, list[tuple[Output, Receipt]]] = {}
    for output in outputs:
        for part, receipt in output.receipts(plan, plan.parts):
            found.setdefault(part.index, []).append((output, receipt))
    return found


def merge(outs: Sequence[str], target: str, *, partial: bool = False) -> int:
    """Writes the rows of all parts, in the order of the input, to one file; returns how many.

    The file is there whole or not at all.

    Args:
        target: its name ends as the parts' does; lines may be packed in another way, or not.
        partial: whether parts may be missing.

    Raises:
        BadInput: parts are missing or damaged, or the name promises another format.
    """
    plan, outputs = opened(outs)
    if ("parquet" in plan.suffix) != target.endswith(".parquet") or not target.endswith(
        (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
    ):
        raise BadInput(
            f"the parts are {plan.suffix} and {target} is not; name a file that ends in "
            f"{'.parquet' if plan.suffix == 'parquet' else '.jsonl, .jsonl.gz or .jsonl.zst'}"
        )
    found = _where(plan, outputs)
    missing = [plan.file(part) for part in plan.parts if part.index not in found]
    if missing and not partial:
        raise BadInput(
            f"{len(missing)} of {len(plan.parts)} parts are not there, {missing[0]} first; "
            "run their shards, or merge what there is with --partial"
        )
    parts = [(part, *found[part.index][0]) for part in plan.parts if part.index in found]
    with _whole_file(target) as stream:
        pieces = (_sound(output, plan, part, receipt) for part, output, receipt in parts)
        if plan.suffix == "parquet":
            _write_parquet(stream, pieces)
        else:
            _write_lines(stream, pieces, plan, target)
    return sum(part.rows for part, _, _ in parts)


def _sound(output: Output, plan: Plan, part: Part, receipt: Receipt) -> bytes:
    data = output.get(plan.file(part))
    if digest(data) != receipt.sha256:
        raise BadInput(
            f"{output.url}/{plan.file(part)} is damaged; delete it and run the batch again"
        )
    return data


def _write_lines(stream: Any, pieces: Iterator[bytes], plan: Plan, target: str) -> None:
    with contextlib.ExitStack() as stack:
        if target.endswith(".gz"):
            stream = stack.enter_context(gzip.GzipFile("", "wb", 6, stream, mtime=0))
        elif target.endswith(".zst"):
            stream = stack.enter_context(
                files.zstandard().ZstdCompressor().stream_writer(stream, closefd=False)
            )
        for data in pieces:
            stream.write(unpacked(data, plan.suffix))


def _write_parquet(stream: Any, pieces: Iterator[bytes]) -> None:
    arrow = files.pyarrow()
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
def _whole_file(target: str) -> Iterator[Any]:
    """A stream whose file appears when all is written."""
    fs, path = files.filesystem(target)
    local = files.is_local(fs)
    beside = str(Path(path).with_name(f".{Path(path).name}.tmp")) if local else path
    try:
        with fs.open(beside, "wb") as stream:
            yield stream
            stream.flush()
        if local:
            Path(beside).replace(path)
    except OSError as error:
        raise BadInput(f"{target} cannot be written ({files.reason(error)})") from error
    finally:
        if local:
            Path(beside).unlink(missing_ok=True)
