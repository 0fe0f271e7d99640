"""Offsets in the units of the caller's language: code points, UTF-8 bytes, UTF-16 code units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tamis.probes.errors import BadInput

OffsetUnit = Literal["codepoint", "utf8", "utf16"]


class OffsetConverter:
    """Converts offsets in one text; a lone surrogate is three bytes, or one code unit."""

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self.unit, self._last = unit, len(text)
        self._at: NDArray[np.int64] | None = (
            None if unit == "codepoint" else _character_starts(text, unit)
        )

    def from_codepoints(self, index: int) -> int:
        """Converts an offset in code points to the caller's unit."""
        return index if self._at is None else int(self._at[index])

    def to_codepoints(self, offset: int) -> int:
        """Converts an offset in the caller's unit to code points.

        Raises:
            BadInput: it is beyond the text, or inside a character.
        """
        if self._at is None:
            if offset > self._last:
                raise BadInput(
                    f"the offset {offset} lies beyond the text, which ends at {self._last}"
                )
            return offset
        index = int(np.searchsorted(self._at, offset))
        if index == len(self._at) or self._at[index] != offset:
            raise BadInput(f"the offset {offset} is not where a character starts, in {self.unit}")
        return index


def _character_starts(text: str, unit: OffsetUnit) -> NDArray[np.int64]:
    """The offset of each character's start, and of the text's end: `[N + 1]`."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    bounds: Sequence[int] = (0x80, 0x800, 0x10000) if unit == "utf8" else (0x10000,)
    widths = 1 + sum((points >= bound).astype(np.int64) for bound in bounds)
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
