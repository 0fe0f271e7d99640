"""Checks whether the output of a batch is complete and undamaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tamis.probes.errors import BadInput
from tamis.service.batch.job import describe_differences
from tamis.service.batch.output import MANIFEST_FILE, OutputFolder, PartReceipt, sha256_hex
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.row_writer import count_rows
from tamis.service.batch.survey import BatchPart


@dataclass(slots=True)
class VerificationReport:
    """The state of the parts in some output folders.

    Attributes:
        missing: parts that are in no folder. damaged: files that differ from what was written.
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
    def is_whole(self) -> bool:
        """Whether every row is present as it was written."""
        return not (self.missing or self.damaged or self.stray)


def verify_batch(outs: Sequence[str]) -> VerificationReport:
    """Reads every part and compares its rows and SHA-256 with its receipt.

    Raises:
        BadInput: a folder holds no batch, or the folders hold different ones.
    """
    plan, outputs = open_batch(outs)
    report = VerificationReport(len(plan.parts), plan.rows)
    found = locate_parts(plan, outputs)
    for part in plan.parts:
        name = plan.part_file(part)
        if part.index not in found:
            report.missing.append(name)
            continue
        for output, receipt in found[part.index]:
            report.failed += [why for _, why in receipt.failed]
            if fault := _part_fault(output, plan, part, receipt):
                report.damaged.append(f"{output.url}/{name}: {fault}")
    expected = {plan.part_file(part) for part in plan.parts}
    for output in outputs:
        parts = (name for name in sorted(output.file_names()) if name.startswith("part-"))
        report.stray += [f"{output.url}/{name}" for name in parts if name not in expected]
    return report


def _part_fault(
    output: OutputFolder, plan: BatchPlan, part: BatchPart, receipt: PartReceipt
) -> str | None:
    """What is wrong with a part's file; None if it is intact."""
    name = plan.part_file(part)
    data = output.read(name)
    if sha256_hex(data) != receipt.sha256:
        return f"{len(data):,} bytes are not the {receipt.bytes:,} that were written"
    if (rows := count_rows(data, name)) != part.rows:
        return f"{rows} rows where {part.rows} belong"
    return None


def open_batch(outs: Sequence[str]) -> tuple[BatchPlan, list[OutputFolder]]:
    """The plan that some output folders share, and the folders.

    Raises:
        BadInput: a folder holds no batch, or the folders hold different ones.
    """
    outputs = [OutputFolder(out) for out in outs]
    plans = []
    for output in outputs:
        plan = output.read_plan()
        if plan is None:
            raise BadInput(
                f"{output.url} holds no batch (no {MANIFEST_FILE}); name an output folder"
            )
        plans.append(plan)
    for plan, output in zip(plans[1:], outputs[1:], strict=True):
        changed = describe_differences(plans[0].settings, plan.settings)
        if changed or _input_hashes(plan) != _input_hashes(plans[0]):
            listed = "; ".join(changed) or "their inputs differ"
            raise BadInput(f"{outputs[0].url} and {output.url} are different batches: {listed}")
    return plans[0], outputs


def _input_hashes(plan: BatchPlan) -> list[str]:
    return [one["sha256"] for one in plan.inputs]


def locate_parts(
    plan: BatchPlan, outputs: Sequence[OutputFolder]
) -> dict[int, list[tuple[OutputFolder, PartReceipt]]]:
    """By index of each completed part, the folders that hold it and their receipts."""
    found: dict[int, list[tuple[OutputFolder, PartReceipt]]] = {}
    for output in outputs:
        for part, receipt in output.completed_parts(plan, plan.parts):
            found.setdefault(part.index, []).append((output, receipt))
    return found
