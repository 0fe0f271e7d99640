"""What is held of the last texts, and what is not."""

import threading

from tamis.probes.lru import LruCache
from tamis.probes.segmentation import segment
from tamis.probes.text import Passage


def test_what_comes_again_is_not_made_again():
    made, recent = [], LruCache(1000)
    for key in ("a", "b", "a"):
        assert recent.get(key, 10, lambda key=key: made.append(key) or key.upper()) == key.upper()
    assert made == ["a", "b"]


def test_the_least_recently_used_goes_first_and_the_bound_holds():
    recent, made = LruCache(100), []

    def ask(key):
        return recent.get(key, 10, lambda: made.append(key) or key)

    for key in (*range(10), 0, 10):
        ask(key)
    assert recent.cost == 100
    made.clear()
    ask(0)
    ask(1)
    assert made == [1], "0 was used after 1"


def test_a_large_one_is_made_and_not_held():
    recent = LruCache(100)
    assert recent.get("large", 11, lambda: 1) == 1
    assert recent.cost == 0
    assert recent.get("large", 11, lambda: 2) == 2


def test_two_threads_that_make_the_same_count_it_once():
    recent, both = LruCache(100), threading.Barrier(2)

    def work():
        recent.get("a", 10, lambda: both.wait(10))

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert recent.cost == 10


def test_units_of_a_passage_asked_again_are_those_of_a_fresh_one(monkeypatch):
    text = "One is here. Two is there.\n\n- a list\n- of two"
    fresh = segment.units_of([Passage(text, "1"), Passage(text, "2")])
    cuts = []
    real = segment.segment
    monkeypatch.setattr(segment, "segment", lambda *of: cuts.append(of) or real(*of))
    assert segment.units_of([Passage(text, "1"), Passage(text, "2")]) == fresh
    assert not cuts
    assert segment.units_of([Passage(text, "1")], "de") == [u for u in fresh if u.passage == 0]
    segment.units_of([Passage(text, "1")], structure=False)
    assert len(cuts) == 2, "another language, another structure: cut anew"
