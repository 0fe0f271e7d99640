"""The output folder: what the run is, which parts are done, and what is in them.

OUT/manifest.json           settings and inputs: what a rerun must agree with
OUT/plan.jsonl              which rows make which part, so that the input is surveyed only once
OUT/part-000000.jsonl       rows, in the order of the input
OUT/_done/part-000000.json  its receipt, written behind it: counts, failures, SHA-256
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.batch.plan import Part, Survey
from tamis.service.batch.row_writer import Columns
from tamis.service.files import files
from tamis.service.files.sources import Source

MANIFEST, PLAN, DONE = "manifest.json", "plan.jsonl", "_done"


@dataclass(frozen=True, slots=True)
class Receipt:
    """A part that is done.

    Attributes:
        failed: number in the source and message of each row whose status is `error`.
        sha256: of the part's file. seconds: that it took.
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
    def from_dict(cls, given: Mapping[str, Any]) -> Receipt:
        """A receipt as it was written."""
        failed = tuple((int(row), str(why)) for row, why in given["failed"])
        return cls(**{**given, "failed": failed})


@dataclass(frozen=True, slots=True)
class Plan:
    """The manifest and the plan: what is to be done, and of what.

    Attributes:
        settings: what a rerun must agree with. inputs: rows, SHA-256 and stamp of each source.
        columns: of a Parquet output whose input is text.
    """

    settings: Mapping[str, Any]
    sources: tuple[Source, ...]
    inputs: tuple[Mapping[str, Any], ...]
    parts: tuple[Part, ...]
    suffix: str
    columns: Columns = ()
    rows: int = field(default=0)

    @classmethod
    def of(
        cls, settings: Mapping[str, Any], surveys: Sequence[Survey], suffix: str, columns: Columns
    ) -> Plan:
        """A plan for sources that were surveyed."""
        inputs = tuple(
            {"name": s.source.url, "rows": s.rows, "sha256": s.sha256, "stamp": s.stamp}
            for s in surveys
        )
        parts = tuple(part for s in surveys for part in s.parts)
        sources = tuple(s.source for s in surveys)
        rows = sum(s.rows for s in surveys)
        return cls(settings, sources, inputs, parts, suffix, columns, rows)

    def file(self, part: Part) -> str:
        """The name of a part's file."""
        return f"{part.stem}.{self.suffix}"

    def shard(self, index: int, count: int) -> list[Part]:
        """Every `count`-th part; `index` counts from 1."""
        return [part for part in self.parts if part.index % count == index - 1]


class Output:
    """One output folder, here or elsewhere."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.fs, path = files.filesystem(self.url)
        self.path = path.rstrip("/")

    def write_plan(self, plan: Plan) -> None:
        """Writes plan, then manifest: a manifest never stands without its plan."""
        parts = "".join(json.dumps(list(asdict(part).values())) + "\n" for part in plan.parts)
        told = {
            "settings": plan.settings,
            "inputs": plan.inputs,
            "sources": [asdict(source) for source in plan.sources],
            "columns": plan.columns,
            "suffix": plan.suffix,
            "rows": plan.rows,
            "parts": len(plan.parts),
        }
        self.put(PLAN, parts.encode())
        self.put(MANIFEST, (json.dumps(told, indent=1) + "\n").encode())

    def plan(self) -> Plan | None:
        """The plan that was written; None in a new folder.

        Raises:
            BadInput: manifest or plan is damaged.
        """
        if not self.fs.exists(f"{self.path}/{MANIFEST}"):
            return None
        try:
            told = json.loads(self.get(MANIFEST))
            parts = tuple(Part(*json.loads(line)) for line in self.get(PLAN).splitlines())
            sources = tuple(Source(s["url"], s["kind"], tuple(s["names"])) for s in told["sources"])
            columns = tuple((str(name), str(kind)) for name, kind in told["columns"])
            if len(parts) != told["parts"]:
                raise ValueError(f"{len(parts)} parts are planned and {told['parts']} declared")
            inputs = tuple(told["inputs"])
            return Plan(
                told["settings"], sources, inputs, parts, told["suffix"], columns, told["rows"]
            )
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise BadInput(
                f"{self.url}/{MANIFEST} or {PLAN} is damaged ({error}); "
                "start again with --overwrite, or name another folder"
            ) from error

    def put(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Writes a file in one piece."""
        files.put(self.fs, f"{self.path}/{name}", data, durable=durable)

    def get(self, name: str) -> bytes:
        """A file's bytes."""
        data: bytes = self.fs.cat_file(f"{self.path}/{name}")
        return data

    def put_part(self, name: str, data: bytes, receipt: Receipt) -> None:
        """A part, then its receipt: one that is lost or torn only costs the part again."""
        self.put(name, data)
        told = json.dumps(asdict(receipt), ensure_ascii=True)
        stem = name.split(".", 1)[0]
        self.put(f"{DONE}/{stem}.json", f"{told}\n".encode(), durable=False)

    def receipts(self, plan: Plan, parts: Sequence[Part]) -> Iterator[tuple[Part, Receipt]]:
        """Of those parts, the ones that are done."""
        there, receipts = self.names(), self.names(DONE)
        for part in parts:
            if plan.file(part) in there and f"{part.stem}.json" in receipts:
                receipt = self.receipt(part)
                if receipt is not None and receipt.rows == part.rows:
                    yield part, receipt

    def receipt(self, part: Part) -> Receipt | None:
        """A part's receipt; None where it is torn, as after a power cut, or not there."""
        try:
            return Receipt.from_dict(json.loads(self.get(f"{DONE}/{part.stem}.json")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def names(self, folder: str = "") -> set[str]:
        """The names of the files in a folder; none where there is no such folder."""
        place = f"{self.path}/{folder}".rstrip("/")
        try:
            return {str(name).rsplit("/", 1)[-1] for name in self.fs.ls(place, detail=False)}
        except OSError:
            return set()

    def drop_torn(self, parts: Sequence[Part]) -> None:
        """Removes what a killed run left half written of these parts."""
        stems = {part.stem for part in parts}
        for folder in ("", DONE):
            for name in self.names(folder):
                if name.endswith(".tmp") and name[1:].split(".", 1)[0] in {
                    *stems,
                    "manifest",
                    "plan",
                }:
                    self._remove(f"{folder}/{name}".lstrip("/"))

    def clear(self) -> None:
        """Removes what a run made, and nothing else."""
        for name in sorted(self.names(DONE)):
            self._remove(f"{DONE}/{name}")
        for name in sorted(self.names()):
            if name in (MANIFEST, PLAN) or name.lstrip(".").startswith("part-"):
                self._remove(name)

    def _remove(self, name: str) -> None:
        self.fs.rm_file(f"{self.path}/{name}")


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(data).hexdigest()
