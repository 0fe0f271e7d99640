"""Lines of a byte stream, each bounded: one line without an end must not fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

MAX_LINE_BYTES = 1 << 28
"""A longer line (256 MiB) is passed over and becomes an error row."""

_BLOCK = 1 << 20
Heard = Callable[[bytes], object]


def lines(
    stream: IO[bytes], most: int = MAX_LINE_BYTES, heard: Heard | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Each line's length in bytes and its bytes, line feed included; None for one over `most`.

    Lines end at line feeds alone: U+2028 and its like may stand in a JSON string.

    Args:
        heard: called with every block of bytes, over-long lines included.
    """
    while data := stream.readline(most):
        if heard:
            heard(data)
        if len(data) < most or data.endswith(b"\n"):
            yield len(data), data
            continue
        size = len(data)
        while not data.endswith(b"\n") and (data := stream.readline(_BLOCK)):
            size += len(data)
            if heard:
                heard(data)
        yield size, None
