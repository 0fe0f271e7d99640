"""How far requests have come, for a client that wants to show it while it waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tamis.service.engine.request import QueuedRequest


class RunningRequests:
    """Requests that are being served, by the owner of their API key and their request id."""

    def __init__(self) -> None:
        self._by_id: dict[tuple[str, str], QueuedRequest] = {}

    @contextmanager
    def follow(self, owner: str, request_id: str, request: QueuedRequest) -> Iterator[None]:
        """Makes a request known while the block runs; of two with the same id, the later one."""
        key = owner, request_id
        self._by_id[key] = request
        try:
            yield
        finally:
            if self._by_id.get(key) is request:
                del self._by_id[key]

    def find(self, owner: str, request_id: str) -> QueuedRequest | None:
        """The request; None where none of this id is being served."""
        return self._by_id.get((owner, request_id))
