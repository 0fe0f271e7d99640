"""Which results an LRU cache keeps, and when it drops them."""

import threading

from tamis.probes.lru import LruCache
from tamis.text.types import Passage
from tamis.text.units import segment


def test_a_cached_result_is_not_computed_again():
    made, recent = [], LruCache(1000)
    for key in ("a", "b", "a"):
        assert (
            recent.get(key, lambda key=key: made.append(key) or key.upper(), lambda _: 10)
            == key.upper()
        )
    assert made == ["a", "b"]


def test_the_least_recently_used_goes_first_and_the_bound_holds():
    recent, made = LruCache(100), []

    def get(key):
        return recent.get(key, lambda: made.append(key) or key, lambda _: 10)

    for key in (*range(10), 0, 10):
        get(key)
    assert recent.total_cost == 100
    made.clear()
    get(0)
    get(1)
    assert made == [1], "0 was used after 1"


def test_a_result_above_a_tenth_of_the_bound_is_not_stored():
    recent = LruCache(100)
    assert recent.get("large", lambda: 1, lambda _: 11) == 1
    assert recent.total_cost == 0
    assert recent.get("large", lambda: 2, lambda _: 11) == 2


def test_what_gives_way_is_returned_and_a_result_above_its_own_bound_replaces_none():
    recent = LruCache(100, largest=100)
    assert recent.put("a", 60, 1) == recent.put("b", 40, 2) == []
    assert recent.put("a", 70, 3) == [2], "b gives way to what takes the place of the first a"
    assert recent.total_cost == 70
    assert recent.put("a", 101, 4) == []
    assert len(recent) == recent.total_cost == 0, "no earlier a stays for the one not stored"


def test_a_result_larger_than_the_cache_is_kept_alone_where_that_is_asked_for():
    recent = LruCache(100, largest=10**9)
    recent.put("a", 60, 1)
    assert recent.put("b", 500, 2) == [1]
    assert (recent.peek("b"), len(recent)) == (2, 1)
    assert recent.put("c", 60, 3) == [2]


def test_two_threads_that_compute_the_same_key_count_its_cost_once():
    recent, both = LruCache(100), threading.Barrier(2)

    def work():
        recent.get("a", lambda: both.wait(10), lambda _: 10)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recent.total_cost == 10


def test_cached_units_of_a_passage_equal_freshly_segmented_ones(monkeypatch):
    text = "One is here. Two is there.\n\n- a list\n- of two"
    fresh = segment.units_of([Passage(text, "1"), Passage(text, "2")])
    cuts = []
    real = segment.segment
    monkeypatch.setattr(segment, "segment", lambda *of: cuts.append(of) or real(*of))
    assert segment.units_of([Passage(text, "1"), Passage(text, "2")]) == fresh
    assert not cuts
    assert segment.units_of([Passage(text, "1")], "de") == [u for u in fresh if u.passage == 0]
    assert len(cuts) == 1, "another language: cut anew"


def test_what_is_kept_of_recent_texts_is_bounded_in_bytes_however_short_their_pieces():
    for i in range(80):
        segment.units_of([Passage(f"{i} " + "1. " * 2_000)])
    kept = [pieces for _, pieces in segment._PIECES_CACHE._entries.values()]
    assert len(kept) > 5
    # a piece takes 190 bytes of memory, as tracemalloc measures it
    assert sum(map(len, kept)) * 190 < 8_000_000
