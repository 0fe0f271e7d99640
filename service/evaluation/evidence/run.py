"""One method over a file of records: a line of results for each, as far as it came the last time.

records ─ distractors? ─ limit ─► compress ─► RESULTS.jsonl            one line a record, flushed
                                              RESULTS.jsonl.meta.json  the settings it was made with
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY
from tamis.compressors.types import Budget
from tamis.probes.errors import BadInput, TamisError
from tamis.service.datasets.records import Record, load, passages_of, with_distractors

Row = dict[str, Any]
AUTO = "auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """What results depend on, beside the records.

    Attributes:
        keep: above 0 and up to 1 a share of the tokens, above 1 whole tokens.
        distractors: other passages put beside each record's own; 0 takes records as they are.
        language: of all records, or `auto` for each record's own `lang`.
    """

    keep: float
    method: str = DEFAULT
    distractors: int = 0
    seed: int = 0
    proxy: str = DEFAULT_PROXY
    language: str = AUTO

    def __post_init__(self) -> None:
        budget_of(self.keep)
        if self.distractors < 0:
            raise BadInput(f"distractors is {self.distractors}; give 0 or more")


def budget_of(keep: float) -> Budget:
    """A share of the tokens up to 1, whole tokens above. BadInput: neither."""
    if keep <= 1:
        return Budget(ratio=keep)
    if not float(keep).is_integer():
        raise BadInput(
            f"keep is {keep}; give a share above 0 and up to 1, or a whole number of tokens"
        )
    return Budget(max_tokens=int(keep))


def language_of(record: Record, language: str = AUTO) -> str:
    """The language asked for; under `auto` the record's own, else English."""
    return str(record.get("lang") or "en") if language == AUTO else language


def records_for(path: Path, settings: Settings) -> list[Record]:
    """The records of a file as they will be compressed, with their distractors in place.

    Distractors come from the whole file, so a limit changes no record.

    Raises:
        BadInput: a record without its own text id, or as `load` says.
    """
    records = load(path)
    _check(records, path)
    if settings.distractors:
        records = with_distractors(records, settings.distractors, settings.seed)
    return records


def _check(records: Sequence[Record], path: Path) -> None:
    seen: set[str] = set()
    for number, record in enumerate(records, 1):
        if not isinstance(name := record.get("id"), str) or name in seen:
            raise BadInput(
                f"{path}, record {number}: its id is {name!r}; give each its own, as text"
            )
        seen.add(name)


def fingerprint(settings: Settings, records: Sequence[Record]) -> dict[str, Any]:
    """What must be the same for a run to be resumed: settings, records, version."""
    digest = hashlib.sha256()
    for record in records:
        digest.update(json.dumps(record, sort_keys=True).encode())
    return asdict(settings) | {"records_sha256": digest.hexdigest(), "tamis": version("tamis")}


class Results:
    """A file of result lines that is only ever added to.

    Attributes:
        done: the ids that have a line. failed: how many of them are errors.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], key: str = "id") -> None:
        """Opens a new file, or one of the same settings; half a line at its end is cut off.

        Args:
            key: what names a line.

        Raises:
            BadInput: a file of other settings, or one that is not of results; a device; no such
                folder.
        """
        self.path, self._card = path, path.with_name(f"{path.name}.meta.json")
        self.key = key
        self.done: set[str] = set()
        self.failed = 0
        try:
            self._open(dict(settings))
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error}") from error

    def append(self, row: Row) -> None:
        """Writes one line and hands it to the system at once."""
        with self.path.open("a", encoding="utf8") as lines:
            lines.write(json.dumps(row) + "\n")
        self._count(row)

    def _open(self, settings: dict[str, Any]) -> None:
        if self.path.exists() and not self.path.is_file():
            raise BadInput(
                f"{self.path} is no ordinary file, and a run could not go on from it; "
                "name another file"
            )
        if self.path.is_file() and self.path.stat().st_size:
            self._check_settings(settings)
            self._cut_torn_line()
            self._read_done()
        else:
            _replace(self._card, json.dumps(settings, indent=1) + "\n")
            self.path.touch()

    def _check_settings(self, settings: dict[str, Any]) -> None:
        way_out = "name another --out, or delete both files"
        if not self._card.is_file():
            raise BadInput(
                f"{self.path} is not empty and {self._card.name} is not beside it; {way_out}"
            )
        try:
            made = json.loads(self._card.read_text("utf8"))
        except ValueError as error:
            raise BadInput(f"{self._card} is not JSON ({error}); {way_out}") from error
        if made == settings:
            return
        before = made if isinstance(made, dict) else {}
        changed = [k for k in sorted({*before, *settings}) if before.get(k) != settings.get(k)]
        told = ", ".join(f"{k} {before.get(k)} (now {settings.get(k)})" for k in changed)
        raise BadInput(f"{self.path} was made with {told}; {way_out}")

    def _cut_torn_line(self) -> None:
        """A run that was killed may leave half a line; its record is done again."""
        with self.path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def _read_done(self) -> None:
        for number, line in enumerate(self.path.read_text("utf8").splitlines(), 1):
            try:
                row = json.loads(line)
                self._count({**row, self.key: str(row[self.key])})
            except (ValueError, KeyError, TypeError) as error:
                raise BadInput(
                    f"{self.path}, line {number} is no result; name another --out"
                ) from error

    def _count(self, row: Row) -> None:
        self.done.add(row[self.key])
        self.failed += "error" in row


def run(
    records: Sequence[Record], compressor: Compressor, settings: Settings, results: Results
) -> Iterator[Row]:
    """Compresses the records that have no line yet; each line is written before it is yielded."""
    for record in records:
        if record["id"] not in results.done:
            row = result_of(record, compressor, settings)
            results.append(row)
            yield row


def result_of(record: Record, compressor: Compressor, settings: Settings) -> Row:
    """One result line: kept spans in the documents' own text, tokens, time, a score a document.

    A record that tamis refuses has its error in the line, and nothing kept.
    """
    clock = time.perf_counter()
    try:
        short = compressor.compress(
            record["question"],
            passages_of(record),
            budget_of(settings.keep),
            language=language_of(record, settings.language),
        )
    except TamisError as error:
        return {"id": record["id"], "error": f"{type(error).__name__}: {error}", "kept": []}
    ms = (time.perf_counter() - clock) * 1e3
    documents = range(len(record["docs"]))
    whole = short.status == "passthrough"
    return {
        "id": record["id"],
        "kept": [[d, a, b] for d in documents for a, b in short.spans(d)],
        "tokens_before": short.tokens_in,
        "tokens_after": short.tokens_out,
        "ms": round(ms, 3),
        # nothing was scored where everything fitted
        "doc_scores": [None] * len(documents) if whole else list(short.passage_scores),
    }


def write_gold(path: Path, records: Sequence[Record], *others: Path) -> None:
    """The records as they were used, so that others can judge the results.

    Raises:
        BadInput: the file is one of `others`, or cannot be written.
    """
    if any(path.resolve() == other.resolve() for other in others):
        raise BadInput(
            f"{path} is read or written by this run already; name another file for the gold"
        )
    try:
        _replace(path, "".join(json.dumps(record) + "\n" for record in records))
    except OSError as error:
        raise BadInput(f"{path} cannot be written: {error}") from error


def _replace(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, "utf8")
    os.replace(part, path)
