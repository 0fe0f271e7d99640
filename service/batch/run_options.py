"""How a batch is run: workers, shards, failed rows. None of it changes the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tamis.probes.errors import BadInput

BatchEngine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a batch is run; none of it changes the output.

    Attributes:
        shard: the share of the parts that this run does, `(1, 1)` for all.
        gpus: per Ray worker, maybe a fraction.
        stop_on_error: end at the first row that fails, instead of keeping it as an error row.
        retry_errors: repeat the failed rows of completed parts.
        overwrite: remove the batch of another run from the output folder.
    """

    inputs: tuple[str, ...]
    out: str
    engine: BatchEngine = "local"
    workers: int = 1
    gpus: float = 0.0
    shard: tuple[int, int] = (1, 1)
    stop_on_error: bool = False
    retry_errors: bool = False
    overwrite: bool = False

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 1 <= index <= count:
            raise BadInput(
                f"shard {index}/{count} does not exist; give 1/{count} to {count}/{count}"
            )
        if self.workers < 1:
            raise BadInput(f"{self.workers} workers do nothing; give at least 1")
