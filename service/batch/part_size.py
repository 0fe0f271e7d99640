"""The size of a batch's parts where none is given: what an interruption may cost, in time.

The plan must depend on the input alone, for the machines of `--shard` make the same one each; so
the size comes from measured rates of one core, and not from a measurement here.
"""

from __future__ import annotations

from collections.abc import Sequence

from tamis.service.files.input_files import InputFile

PROXY_TOKENS_A_SECOND, BYTES_A_TOKEN = 1_690, 4.75
"""Of the default proxy on one core, and of rows of JSON Lines: lab/docs/scale.md."""
LOST_SECONDS = 50
MAX_PARTS, MAX_BYTES = 50_000, 8 << 20
"""A larger input has larger parts, up to `MAX_BYTES`: the plan of all parts is held in memory."""


def default_part_bytes(needs_proxy: bool, input_bytes: int) -> int:
    """The most bytes of input in a part, so that about `LOST_SECONDS` are lost with it.

    Args:
        needs_proxy: whether a model reads the rows; other methods are far faster.
    """
    if not needs_proxy:
        return MAX_BYTES
    least = int(LOST_SECONDS * PROXY_TOKENS_A_SECOND * BYTES_A_TOKEN)
    return min(MAX_BYTES, max(least, input_bytes // MAX_PARTS))


def input_bytes(sources: Sequence[InputFile]) -> int:
    """The size of the input files, packed ones as they are."""
    total = 0
    for source in sources:
        fs, paths = source.paths()
        total += sum(int(fs.info(path).get("size") or 0) for path in paths)
    return total
