"""Shards of an index on a Ray cluster: a segment an actor, merged exactly.

Words, fusion and texts stay with the process that searches; actors read keys, in their own memory
and on their own processors. Every machine opens the index under the same path.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import connect_to_ray
from tamis.retrieval.index.key_shards import Answer, KeyShard, Numbers, open_shard
from tamis.retrieval.storage.manifest import SegmentEntry
from tamis.retrieval.storage.segment import Segment


class RayShards:
    """Actors that hold one segment each; they end with the object.

    Args:
        home: the folder of the index, as the machines of the cluster see it.
        entries: the segments. drawn: chunks of each that all others are compared with.

    Raises:
        MissingExtra: Ray is not installed.
    """

    def __init__(
        self, home: Path, entries: Sequence[SegmentEntry], heads: int, drawn: Sequence[Numbers]
    ) -> None:
        self._ray = connect_to_ray("ray", "a search by shards on Ray", "ray")
        actor = self._ray.remote(num_cpus=1, max_restarts=2, max_task_retries=2)(_ShardActor)
        where = str(home.resolve())
        pairs = zip(entries, drawn, strict=True)
        self._actors = [actor.remote(where, entry, heads, own) for entry, own in pairs]

    def map(self, task: Callable[..., Answer], *args: Sequence[Any]) -> list[Answer]:
        """The task's answer for each shard; all actors work at the same time.

        Raises:
            BadInput: an actor cannot read its segment, or died more than twice.
        """
        asked = [
            actor.run.remote(task, *own) for actor, *own in zip(self._actors, *args, strict=True)
        ]
        try:
            answers: list[Answer] = self._ray.get(asked)
        except self._ray.exceptions.RayError as error:
            raise BadInput(
                f"a shard of the index gave no answer ({_cause(error)}); every machine of the "
                "cluster has to see the index under the same path, in the state that was opened"
            ) from error
        return answers


class _ShardActor:
    """One segment in a process of its own."""

    def __init__(self, home: str, entry: SegmentEntry, heads: int, drawn: Numbers) -> None:
        self._shard: KeyShard = open_shard(Segment(Path(home), entry), heads, drawn)

    def run(self, task: Callable[..., Any], *args: Any) -> Any:
        return task(self._shard, *args)


def _cause(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
