"""A file of result lines that a run appends to, and that a later run of equal settings continues.

RESULTS.jsonl            one line per result, flushed
RESULTS.jsonl.meta.json  the settings that the results were made with
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.service.files.streams import codec_of, read_json_lines

ResultRow = dict[str, Any]


class ResultFile:
    """An append-only file of result lines, with the settings they were made with beside it.

    Attributes:
        done_keys: the keys that have a line. failed: how many of the lines are errors.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], key: str = "id", option: str = "--out"
    ) -> None:
        """Opens a new file, or one of the same settings; an incomplete last line is removed.

        Args:
            key: the field that identifies a line. option: that names the file, for messages.

        Raises:
            BadInput: a file of other settings, a file without results, a device, or no such folder.
        """
        self.path, self._settings_path = path, path.with_name(f"{path.name}.meta.json")
        self.key, self._option = key, option
        self.done_keys: set[str] = set()
        self.failed = 0
        if codec_of(path.name):
            raise BadInput(f"{path} would be packed, and lines are added one by one; name a .jsonl")
        try:
            self._open(json.loads(json.dumps(settings)))
        except OSError as error:
            raise BadInput(f"{path} cannot be written: {error}") from error

    def append(self, row: ResultRow) -> None:
        """Writes one line and flushes it to the operating system."""
        with self.path.open("a", encoding="utf8") as lines:
            lines.write(json.dumps(row) + "\n")
        self._count_row(row)

    def rows(self) -> list[ResultRow]:
        """The results so far."""
        return [row for _, row in read_json_lines(self.path)]

    def delete(self) -> None:
        """Deletes the file and its settings: what it held is elsewhere now."""
        self.path.unlink()
        self._settings_path.unlink()

    def _open(self, settings: dict[str, Any]) -> None:
        if self.path.exists() and not self.path.is_file():
            raise BadInput(
                f"{self.path} is no ordinary file, and a run could not go on from it; "
                "name another file"
            )
        if self.path.is_file() and self.path.stat().st_size:
            self._check_settings(settings)
            self._truncate_torn_line()
            self._read_keys()
        else:
            with atomic_path(self._settings_path) as temporary:
                temporary.write_text(json.dumps(settings, indent=1) + "\n", "utf8")
            self.path.touch()

    def _check_settings(self, settings: dict[str, Any]) -> None:
        way_out = f"name another {self._option}, or delete both files"
        if not self._settings_path.is_file():
            name = self._settings_path.name
            raise BadInput(f"{self.path} is not empty and {name} is not beside it; {way_out}")
        try:
            stored = json.loads(self._settings_path.read_text("utf8"))
        except ValueError as error:
            raise BadInput(f"{self._settings_path} is not JSON ({error}); {way_out}") from error
        if stored == settings:
            return
        before = stored if isinstance(stored, dict) else {}
        changed = [k for k in sorted({*before, *settings}) if before.get(k) != settings.get(k)]
        differences = ", ".join(f"{k} {before.get(k)} (now {settings.get(k)})" for k in changed)
        raise BadInput(f"{self.path} was made with {differences}; {way_out}")

    def _truncate_torn_line(self) -> None:
        """Removes the incomplete line that a killed run may leave; its record is done again."""
        with self.path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)

    def _read_keys(self) -> None:
        for number, row in read_json_lines(self.path):
            if self.key not in row:
                raise BadInput(
                    f"{self.path}, line {number} is no result; name another {self._option}"
                )
            self._count_row({**row, self.key: str(row[self.key])})

    def _count_row(self, row: ResultRow) -> None:
        self.done_keys.add(row[self.key])
        self.failed += "error" in row
