"""Outputs that were shortened, kept whole on this disk for `tamis run --retrieve`.

`run`, `pipe`, `hook` and the MCP tools share one folder: a file an output, named after its content.
Only its owner may read it; old files go when new ones come.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.text.types import ID_DIGITS, content_id

MAX_BYTES = 1 << 28
MAX_AGE_S = 7 * 24 * 3600.0
_ID = re.compile(rf"[0-9a-f]{{{ID_DIGITS}}}")
_LINES = re.compile(r"\s*(\d{1,18})(?:\s*-\s*(\d{1,18}))?\s*")


@dataclass(frozen=True, slots=True)
class OutputStore:
    """A folder with outputs, bounded in bytes and age.

    Attributes:
        folder: made when the first output comes; None stands for `outputs` in tamis's folder.
        max_bytes: of all files together. max_age_s: seconds for which a file is kept.
        clock: seconds since the epoch, as the times of files.
    """

    folder: Path | None = None
    max_bytes: int = MAX_BYTES
    max_age_s: float = MAX_AGE_S
    clock: Callable[[], float] = time.time

    def put(self, data: bytes) -> str | None:
        """Keeps an output; its id, or None where it is too large or the folder cannot be written.

        One that is there already is kept longer; the oldest give way.
        """
        key, folder = content_id(data), self._folder
        if len(data) > self.max_bytes:
            return None
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_path(folder / key) as written:
                with open(os.open(written, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                    file.write(data)
                os.utime(written, (self.clock(), self.clock()))
            self._prune(key)
        except OSError:
            return None
        return key

    def get(self, key: str) -> bytes:
        """The output with an id.

        Raises:
            BadInput: the id is none, or the output is not here.
        """
        key = key.strip()
        if not _ID.fullmatch(key):
            raise BadInput(f"the id is {key!r:.80}; give the {ID_DIGITS} hex digits of a marker")
        try:
            data = (self._folder / key).read_bytes()
        except OSError as error:
            raise BadInput(
                f"there is no output with the id {key}: it is of another machine, is older than "
                f"{self.max_age_s / 86400:g} days or gave way to newer ones; run the command again"
            ) from error
        return data

    @property
    def _folder(self) -> Path:
        return self.folder or cache_home() / "outputs"

    def _prune(self, newest: str) -> None:
        found, own = [], self._folder / newest
        for entry in os.scandir(self._folder):
            with suppress(OSError):  # another process may have removed it
                found.append((entry.stat().st_mtime, entry.stat().st_size, entry.path))
        last, now = max(found, default=(0.0,))[0], self.clock()
        if last > now:  # the clock was set back: what came last is still the last to give way
            os.utime(own, (last + 1e-3, last + 1e-3))
        left, oldest = self.max_bytes, now - self.max_age_s
        for changed, size, path in sorted(
            found, key=lambda one: (one[2].endswith(newest), one[0]), reverse=True
        ):
            left -= size
            if left < 0 or changed < oldest:
                left += size
                with suppress(OSError):
                    os.unlink(path)


def some_lines(text: str, lines: str) -> str:
    """Lines of a text by their numbers from 1; both are included.

    Raises:
        BadInput: they are no such numbers, or the text has fewer lines.
    """
    from tamis.text.lines import split_at_line_feeds

    found = _LINES.fullmatch(lines)
    all_lines = split_at_line_feeds(text)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise BadInput(f"lines is {lines!r:.80}; give numbers from 1, such as 12-47")
    if first > len(all_lines):
        raise BadInput(f"lines is {lines!r:.80}, and the text has {len(all_lines):,} lines")
    return "".join(all_lines[first - 1 : last])
