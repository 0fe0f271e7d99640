"""How a batch is run: workers, shards, failed rows. Nothing here changes what comes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tamis.probes.errors import BadInput

Engine = Literal["local", "ray"]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a batch is run; nothing here changes what comes out.

    Attributes:
        shard: which share of the parts this run does, `(1, 1)` for all.
        gpus: of a Ray worker, maybe a fraction.
        stop_on_error: end at the first row that fails, instead of keeping it as an error row.
        retry_errors: do the failed rows of parts that are done again.
        overwrite: remove what another run left in the output folder.
    """

    inputs: tuple[str, ...]
    out: str
    engine: Engine = "local"
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
