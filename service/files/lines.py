"""Lines of a byte stream, of bounded length: a file without line feeds must not fill the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import IO

MAX_LINE_BYTES = 1 << 28
"""A longer line (256 MiB) is skipped and becomes an error row."""

_BLOCK = 1 << 20
BlockCallback = Callable[[bytes], object]


def read_lines(
    stream: IO[bytes], max_bytes: int = MAX_LINE_BYTES, on_block: BlockCallback | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Each line's length in bytes and its bytes, line feed included; None for one over `max_bytes`.

    Lines end at line feeds alone: U+2028 and the like may occur in a JSON string.

    Args:
        on_block: called with every block of bytes, those of over-long lines included.
    """
    while data := stream.readline(max_bytes):
        if on_block:
            on_block(data)
        if len(data) < max_bytes or data.endswith(b"\n"):
            yield len(data), data
            continue
        size = len(data)
        while not data.endswith(b"\n") and (data := stream.readline(_BLOCK)):
            size += len(data)
            if on_block:
                on_block(data)
        yield size, None
