"""The output folder of a batch: its manifest and plan, its parts, and their receipts.

OUT/manifest.json           settings and inputs: what a rerun must agree with
OUT/plan.jsonl              which rows make which part, so that the input is surveyed only once
OUT/part-000000.jsonl       rows, in the order of the input
OUT/_done/part-000000.json  its receipt, written after it: counts, failures, SHA-256

Parts are read again to check that an output is complete, and to join it to one file.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path, write_lock
from tamis.probes.errors import BadInput
from tamis.probes.hub.model_store import lock_model
from tamis.service.batch.job import describe_differences
from tamis.service.batch.outcomes import count_rows, read_table
from tamis.service.batch.plan import BatchPart, BatchPlan
from tamis.service.files import row_values, streams
from tamis.service.files.input_files import InputFile
from tamis.service.files.streams import unpack

MANIFEST_FILE, PLAN_FILE, RECEIPTS_FOLDER = "manifest.json", "plan.jsonl", "_done"


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """The record of a part that is done.

    Attributes:
        part: the index of the part.
        failed: number in its input file and message of each row whose status is `error`.
        sha256, bytes: of the part's file. seconds: how long the part took.
        unusable: how many of the failed rows were refused unread.
    """

    part: int
    rows: int
    tokens_in: int
    tokens_out: int
    failed: tuple[tuple[int, str], ...]
    sha256: str
    bytes: int
    seconds: float
    unusable: int = 0

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> PartReceipt:
        """A receipt from its JSON."""
        failed = tuple((int(row), str(why)) for row, why in given["failed"])
        return cls(**{**given, "failed": failed})


class OutputFolder:
    """The output folder of a batch, at a local path or an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs, path = streams.filesystem(self.url)
        self.path = path.rstrip("/")

    def write_plan(self, plan: BatchPlan) -> None:
        """Writes the plan, then the manifest, so that a manifest never exists without its plan."""
        parts = "".join(json.dumps(list(asdict(part).values())) + "\n" for part in plan.parts)
        manifest = {**asdict(replace(plan, parts=())), "parts": len(plan.parts)}
        self.write(PLAN_FILE, parts.encode())
        self.write(MANIFEST_FILE, (json.dumps(manifest, indent=1) + "\n").encode())

    def keep_plan(self, plan: BatchPlan) -> BatchPlan:
        """The plan in the folder; in a new folder this one, which is written.

        Of runs on this machine that do so at once one writes, where the file system has locks.

        Raises:
            BadInput: as `read_plan`, or it cannot be written.
        """
        with contextlib.ExitStack() as stack:
            if streams.is_local(self.fs):
                with contextlib.suppress(OSError):
                    stack.enter_context(lock_model(Path(self.path, RECEIPTS_FOLDER, PLAN_FILE)))
            if self.read_plan() is None:
                self.write_plan(plan)
            return self.read_plan() or plan

    def hold(self, shard: tuple[int, int], held: contextlib.ExitStack) -> None:
        """Keeps the parts of a shard from other runs on this machine until `held` is closed.

        Raises:
            BadInput: another run has some of them; where the file system has no locks, none does.
        """
        with contextlib.suppress(OSError, ImportError):
            if streams.is_local(self.fs):
                home = Path(self.path)
                home.mkdir(parents=True, exist_ok=True)
                own = home / f".lock-{shard[0]}-{shard[1]}"
                held.enter_context(write_lock(own, BadInput))
                for other in home.glob(".lock-*-*"):
                    index, count = map(int, other.name.split("-")[1:])
                    if other != own and (index - shard[0]) % math.gcd(count, shard[1]) == 0:
                        with write_lock(other, BadInput):
                            pass

    def read_plan(self) -> BatchPlan | None:
        """The plan in the folder; None in a new folder.

        Raises:
            BadInput: the manifest or the plan is damaged.
        """
        if not self.fs.exists(f"{self.path}/{MANIFEST_FILE}"):
            return None
        try:
            manifest = json.loads(self.read(MANIFEST_FILE))
            parts = tuple(
                BatchPart(*json.loads(line)) for line in self.read(PLAN_FILE).splitlines()
            )
            sources = tuple(
                InputFile(s["url"], s["kind"], tuple(s["names"]), s.get("passed_over", {}))
                for s in manifest["sources"]
            )
            columns = tuple((str(name), str(kind)) for name, kind in manifest["columns"])
            if len(parts) != (declared := manifest["parts"]):
                raise ValueError(f"{len(parts)} parts are planned and {declared} declared")
            settings, inputs = manifest["settings"], tuple(manifest["inputs"])
            suffix, rows = manifest["suffix"], manifest["rows"]
            return BatchPlan(settings, sources, inputs, parts, suffix, columns, rows)
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise BadInput(
                f"{self.url}/{MANIFEST_FILE} or {PLAN_FILE} is damaged ({error}); "
                "start again with --overwrite, or name another folder"
            ) from error

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Writes a file atomically; see `write_file`."""
        streams.write_file(self.fs, f"{self.path}/{name}", data, durable=durable)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        data: bytes = self.fs.cat_file(f"{self.path}/{name}")
        return data

    def write_part(self, name: str, data: bytes, receipt: PartReceipt) -> None:
        """Writes a part, then its receipt: if that is lost or damaged, the part is done again."""
        self.write(name, data)
        line = json.dumps(asdict(receipt), ensure_ascii=True)
        stem = name.split(".", 1)[0]
        self.write(f"{RECEIPTS_FOLDER}/{stem}.json", f"{line}\n".encode(), durable=False)

    def completed_parts(
        self, plan: BatchPlan, parts: Sequence[BatchPart], *, whole: bool = False
    ) -> Iterator[tuple[BatchPart, PartReceipt]]:
        """Those of the parts that are done, with their receipts.

        Args:
            whole: leave out those whose files have not the size that was written.
        """
        sizes, receipts = self.file_sizes(), self.file_names(RECEIPTS_FOLDER)
        for part in parts:
            if (name := plan.part_file(part)) in sizes and f"{part.stem}.json" in receipts:
                receipt = self.read_receipt(part)
                if receipt is None or receipt.rows != part.rows:
                    continue
                if not whole or sizes[name] in (None, receipt.bytes):
                    yield part, receipt

    def read_receipt(self, part: BatchPart) -> PartReceipt | None:
        """A part's receipt; None where it is missing, or incomplete as after a power cut."""
        try:
            return PartReceipt.from_dict(
                json.loads(self.read(f"{RECEIPTS_FOLDER}/{part.stem}.json"))
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def file_names(self, folder: str = "") -> set[str]:
        """The names of the files in a folder; empty if the folder does not exist."""
        return set(self.file_sizes(folder))

    def file_sizes(self, folder: str = "") -> dict[str, int | None]:
        """The files in a folder, each with its bytes, None where the file system does not say."""
        path = f"{self.path}/{folder}".rstrip("/")
        try:
            found = self.fs.ls(path, detail=True)
        except OSError:
            return {}
        return {str(one["name"]).rsplit("/", 1)[-1]: one.get("size") for one in found}

    def remove_partial_files(self, parts: Sequence[BatchPart]) -> None:
        """Removes the temporary files of these parts, of the plan and of the manifest.

        A run that is killed while it writes leaves them behind.
        """
        stems = {*(part.stem for part in parts), "manifest", "plan"}
        for folder in ("", RECEIPTS_FOLDER):
            for name in self.file_names(folder):
                if name.endswith(".tmp") and name[1:].split(".", 1)[0] in stems:
                    self._remove(f"{folder}/{name}".lstrip("/"))

    def clear(self) -> None:
        """Removes the files of a batch, and nothing else."""
        for name in sorted(self.file_names(RECEIPTS_FOLDER)):
            self._remove(f"{RECEIPTS_FOLDER}/{name}")
        for name in sorted(self.file_names()):
            if name in (MANIFEST_FILE, PLAN_FILE) or name.lstrip(".").startswith("part-"):
                self._remove(name)

    def _remove(self, name: str) -> None:
        self.fs.rm_file(f"{self.path}/{name}")


def sha256_hex(data: bytes) -> str:
    """SHA-256 as hexadecimal digits."""
    return sha256(data).hexdigest()


@dataclass(slots=True)
class VerificationReport:
    """The state of the parts in some output folders.

    Attributes:
        missing: parts that are in no folder. damaged: files that differ from what was written.
        stray: files that belong to no part.
        failed: messages of the rows that failed.
        passed_over: the files of folders that are no rows, and why.
    """

    parts: int = 0
    rows: int = 0
    missing: list[str] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    passed_over: Mapping[str, str] = field(default_factory=dict)

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
    report = VerificationReport(len(plan.parts), plan.rows, passed_over=plan.passed_over)
    found = locate_parts(plan, outputs)
    for part in plan.parts:
        name = plan.part_file(part)
        if part.index not in found:
            report.missing.append(name)
            continue
        for output, receipt in found[part.index]:
            report.failed += [why for _, why in receipt.failed]
            if fault := _part_fault(output, plan, part, receipt):
                report.damaged.append(
                    f"{output.url}/{name}: {fault}; delete it and run the batch again"
                )
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


def merge_batch(outs: Sequence[str], target: str, *, partial: bool = False) -> int:
    """Writes the rows of all parts, in the order of the input, to one file; returns their number.

    The file appears when it is complete, or not at all.

    Args:
        target: a path or URL with the format of the parts; lines may be packed in another way.
        partial: whether parts may be missing.

    Raises:
        BadInput: parts are missing or damaged, or the name is one of theirs or an input's, or
            of another format.
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
    if _real_path(target) in own.union(_real_path(source.url) for source in plan.sources):
        raise BadInput(f"{target} is a part or an input of what is merged; name another file")
    found = locate_parts(plan, outputs)
    missing = [plan.part_file(part) for part in plan.parts if part.index not in found]
    if missing and not partial:
        raise BadInput(
            f"{len(missing)} of {len(plan.parts)} parts are not there, {missing[0]} first; "
            "run their shards, or merge what there is with --partial"
        )
    parts = [(part, *found[part.index][0]) for part in plan.parts if part.index in found]
    if missing and not parts:
        raise BadInput("no part is there yet; merge when some are done")
    with _atomic_stream(target) as stream:
        pieces = (_read_intact(output, plan, part, receipt) for part, output, receipt in parts)
        if plan.suffix == "parquet":
            _write_parquet(stream, pieces)
        else:
            _write_lines(stream, pieces, plan, target)
    return sum(part.rows for part, _, _ in parts)


def _real_path(url: str) -> str:
    """A path without links, or a URL as it is."""
    fs, path = streams.filesystem(url)
    return str(Path(path).resolve()) if streams.is_local(fs) else url


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
                streams.import_zstandard().ZstdCompressor().stream_writer(stream, closefd=False)
            )
        for data in pieces:
            stream.write(unpack(data, plan.suffix))


def _write_parquet(stream: Any, pieces: Iterator[bytes]) -> None:
    arrow, writer = row_values.import_pyarrow(), None
    with contextlib.ExitStack() as stack:
        for data in pieces:
            table = read_table(data)
            if writer is None:
                made = arrow.parquet.ParquetWriter(stream, table.schema, compression="zstd")
                writer = stack.enter_context(made)
            if not table.schema.equals(writer.schema):
                raise BadInput(
                    "the inputs have different columns, so their parts make no one Parquet file; "
                    "read the folder with a tool that joins schemas, or run with --format jsonl"
                )
            writer.write_table(table)


@contextlib.contextmanager
def _atomic_stream(target: str) -> Iterator[Any]:
    """A stream to a path or URL; a local file appears under its name when the block has ended."""
    fs, path = streams.filesystem(target)
    try:
        with contextlib.ExitStack() as stack:
            if streams.is_local(fs):
                path = str(stack.enter_context(atomic_path(Path(path))))
            with fs.open(path, "wb") as stream:
                yield stream
    except OSError as error:
        raise BadInput(f"{target} cannot be written ({streams.error_reason(error)})") from error
