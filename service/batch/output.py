"""The output folder of a batch: its manifest and plan, its parts, and their receipts.

OUT/manifest.json           settings and inputs: what a rerun must agree with
OUT/plan.jsonl              which rows make which part, so that the input is surveyed only once
OUT/part-000000.jsonl       rows, in the order of the input
OUT/_done/part-000000.json  its receipt, written after it: counts, failures, SHA-256
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.batch.plan import BatchPlan
from tamis.service.batch.survey import BatchPart
from tamis.service.files import remote
from tamis.service.files.input_files import InputFile

MANIFEST_FILE, PLAN_FILE, RECEIPTS_FOLDER = "manifest.json", "plan.jsonl", "_done"


@dataclass(frozen=True, slots=True)
class PartReceipt:
    """The record of a part that is done.

    Attributes:
        part: the index of the part.
        failed: number in its input file and message of each row whose status is `error`.
        sha256, bytes: of the part's file. seconds: how long the part took.
    """

    part: int
    rows: int
    tokens_in: int
    tokens_out: int
    failed: tuple[tuple[int, str], ...]
    sha256: str
    bytes: int
    seconds: float

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> PartReceipt:
        """A receipt from its JSON."""
        failed = tuple((int(row), str(why)) for row, why in given["failed"])
        return cls(**{**given, "failed": failed})


class OutputFolder:
    """The output folder of a batch, at a local path or an fsspec URL."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs, path = remote.filesystem(self.url)
        self.path = path.rstrip("/")

    def write_plan(self, plan: BatchPlan) -> None:
        """Writes the plan, then the manifest, so that a manifest never exists without its plan."""
        parts = "".join(json.dumps(list(asdict(part).values())) + "\n" for part in plan.parts)
        manifest = {
            "settings": plan.settings,
            "inputs": plan.inputs,
            "sources": [asdict(source) for source in plan.sources],
            "columns": plan.columns,
            "suffix": plan.suffix,
            "rows": plan.rows,
            "parts": len(plan.parts),
        }
        self.write(PLAN_FILE, parts.encode())
        self.write(MANIFEST_FILE, (json.dumps(manifest, indent=1) + "\n").encode())

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
                InputFile(s["url"], s["kind"], tuple(s["names"])) for s in manifest["sources"]
            )
            columns = tuple((str(name), str(kind)) for name, kind in manifest["columns"])
            if len(parts) != (declared := manifest["parts"]):
                raise ValueError(f"{len(parts)} parts are planned and {declared} declared")
            return BatchPlan(
                manifest["settings"],
                sources,
                tuple(manifest["inputs"]),
                parts,
                manifest["suffix"],
                columns,
                manifest["rows"],
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise BadInput(
                f"{self.url}/{MANIFEST_FILE} or {PLAN_FILE} is damaged ({error}); "
                "start again with --overwrite, or name another folder"
            ) from error

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Writes a file atomically; see `write_file`."""
        remote.write_file(self.fs, f"{self.path}/{name}", data, durable=durable)

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
        self, plan: BatchPlan, parts: Sequence[BatchPart]
    ) -> Iterator[tuple[BatchPart, PartReceipt]]:
        """Those of the parts that are done, with their receipts."""
        files, receipts = self.file_names(), self.file_names(RECEIPTS_FOLDER)
        for part in parts:
            if plan.part_file(part) in files and f"{part.stem}.json" in receipts:
                receipt = self.read_receipt(part)
                if receipt is not None and receipt.rows == part.rows:
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
        path = f"{self.path}/{folder}".rstrip("/")
        try:
            return {str(name).rsplit("/", 1)[-1] for name in self.fs.ls(path, detail=False)}
        except OSError:
            return set()

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
