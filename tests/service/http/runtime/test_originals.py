"""The store of originals: bounded in bytes and seconds, counted, and kept apart by owner."""

from __future__ import annotations

import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.service.engine.errors import NotFound
from tamis.service.http.runtime.originals import ENTRY_BYTES, OriginalStore, text_hash

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=60)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def store_of(max_bytes: int = 10_000, seconds: float = 60.0) -> tuple[OriginalStore, Clock]:
    clock = Clock()
    return OriginalStore(max_bytes, seconds, clock), clock


def keep(store: OriginalStore, text: str, owner: str = "ada") -> str | None:
    return store.put(owner, text, "bash", 9, "shown")


@given(st.lists(st.tuples(st.sampled_from(["ada", "bob"]), texts), max_size=40))
def test_it_never_holds_more_than_its_bytes_and_what_is_found_is_what_was_put(puts):
    store, _ = store_of(4 * ENTRY_BYTES + 60)
    last = {}
    for owner, text in puts:
        digest = keep(store, text, owner)
        assert (digest is None) == (store.room_for(text) is None)
        if digest is not None:
            assert digest == text_hash(text)
            last[owner, digest] = text
            assert store.get(owner, digest).text == text
        stats = store.stats()
        assert stats.bytes <= store.max_bytes
        assert stats.bytes == sum(entry.bytes for entry in store._entries.values())
        assert stats.entries == len(store._entries)
    for (owner, digest), text in last.items():
        try:
            assert store.get(owner, digest).text == text
        except NotFound:
            assert store.stats().evicted


def test_a_text_is_forgotten_after_its_time_and_counted_no_more():
    store, clock = store_of()
    digest = keep(store, "a")
    clock.now = 59.9
    assert store.get("ada", digest).text == "a"
    clock.now = 60.0
    with pytest.raises(NotFound, match="older than 60 s"):
        store.get("ada", digest)
    stats = store.stats()
    assert (stats.bytes, stats.entries, stats.expired, stats.misses) == (0, 0, 1, 1)


def test_a_text_that_is_sent_again_is_kept_longer_and_counts_once():
    store, clock = store_of()
    digest = keep(store, "a")
    store.get("ada", digest)
    clock.now = 50.0
    keep(store, "a")
    clock.now = 100.0
    assert store.get("ada", digest).retrievals == 2
    assert store.stats().bytes == 1 + ENTRY_BYTES


def test_the_oldest_gives_way():
    store, _ = store_of(3 * (ENTRY_BYTES + 1))
    digests = [keep(store, text) for text in "abcd"]
    with pytest.raises(NotFound):
        store.get("ada", digests[0])
    assert [store.get("ada", digest).text for digest in digests[1:]] == ["b", "c", "d"]
    assert store.stats().evicted == 1


def test_what_is_larger_than_the_store_pushes_nothing_out():
    store, _ = store_of(2 * ENTRY_BYTES)
    digest = keep(store, "a")
    assert keep(store, "b" * 2 * ENTRY_BYTES) is None
    assert store.get("ada", digest).text == "a"


def test_one_owner_s_text_is_not_another_s():
    store, _ = store_of()
    digest = keep(store, "a")
    with pytest.raises(NotFound):
        store.get("bob", digest)
    assert keep(store, "a", "bob") == digest
    assert store.stats().entries == 2


def test_an_entry_takes_no_more_memory_than_is_counted():
    store, _ = store_of()
    keep(store, "a" * 1000)
    ((key, entry),) = store._entries.items()
    parts = [key, *key, entry, entry.data, entry.tool_name, entry.expires]
    assert sum(map(sys.getsizeof, parts)) <= entry.bytes


def test_threads_may_put_and_get_at_once():
    store, _ = store_of(20 * (ENTRY_BYTES + 4))
    failures = []

    def work(owner: str) -> None:
        for i in range(300):
            digest = keep(store, f"{i:04}", owner)
            try:
                found = store.get(owner, digest).text
            except NotFound:
                continue  # others pushed it out
            if found != f"{i:04}":
                failures.append(found)

    threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert store.stats().bytes <= store.max_bytes
