"""Lines of bounded length, since a file without line feeds must not fill the memory; JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from tamis.probes.errors import BadInput
from tamis.service.documents.decoding import decode_text
from tamis.service.files.codecs import open_unpacked

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


def read_json_lines(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The number, from 1, and the object of each line of a file, packed or not.

    Blank lines are counted and passed over; a byte order mark is no part of a line.

    Raises:
        BadInput: the file cannot be read, or a line is not a JSON object in UTF-8, with its number.
    """
    with open_unpacked(str(path)) as stream:
        for number, (_, line) in enumerate(read_lines(stream), 1):
            place = f"{path}, line {number}"
            if line is None:
                raise BadInput(f"{place}: the line is over 256 MiB; split it")
            if not line.strip():
                continue
            try:
                row = json.loads(decode_text(line, place, "utf-8").removeprefix("\ufeff"))
            except (ValueError, RecursionError) as error:
                raise BadInput(f"{place}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise BadInput(f"{place}: a row is a JSON object, got {type(row).__name__}")
            yield number, row
