"""A served index: each search sees the newest state; a state in use is never closed."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tamis.probes.errors import TamisError

if TYPE_CHECKING:
    from tamis.retrieval.index.hit import Hits
    from tamis.retrieval.index.store import CorpusIndex

log = logging.getLogger("tamis")


class IndexPool:
    """An index that other processes write to and threads search; keeps open each state in use."""

    def __init__(self, index: CorpusIndex) -> None:
        self._newest, self._lock = index, threading.Lock()
        self._readers: Counter[CorpusIndex] = Counter()

    def search(self, *args: Any, **options: Any) -> Hits:
        """As `CorpusIndex.search`, in the state committed last."""
        with self._borrow_newest() as index:
            return index.search(*args, **options)

    @contextmanager
    def _borrow_newest(self) -> Iterator[CorpusIndex]:
        with self._lock:
            index = self._refresh()
            self._readers[index] += 1
        try:
            yield index
        finally:
            with self._lock:
                self._readers[index] -= 1
                self._close_if_unused(index)

    def _refresh(self) -> CorpusIndex:
        """The newest state; if it cannot be opened, the state served so far stays."""
        old = self._newest
        try:
            self._newest = old.newest()
        except TamisError as error:
            log.warning("index not refreshed", extra={"index": str(old.home), "why": str(error)})
        self._close_if_unused(old)
        return self._newest

    def _close_if_unused(self, index: CorpusIndex) -> None:
        """Closes a state that is neither the newest nor in use."""
        if self._readers[index] == 0:
            del self._readers[index]
            if index is not self._newest:
                index.close()
