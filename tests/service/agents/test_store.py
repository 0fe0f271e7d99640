"""Outputs kept on this disk: by content, bounded in bytes and age."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.agents.shortening import Shortening
from tamis.service.agents.store import OutputStore
from tamis.text.types import content_id


def test_an_output_is_kept_by_its_content(tmp_path):
    store = OutputStore(tmp_path / "outputs")
    key = store.put(b"one\xff")
    assert key == content_id(b"one\xff")
    assert store.put(b"one\xff") == key
    assert store.get(f" {key}\n") == b"one\xff"
    assert [file.name for file in (tmp_path / "outputs").iterdir()] == [key]


def test_threads_that_keep_the_same_output_all_keep_it(tmp_path):
    store, data = OutputStore(tmp_path), bytes(1 << 20)
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(store.put, [data] * 64))
    assert set(keys) == {content_id(data)}
    assert [file.name for file in tmp_path.iterdir()] == [keys[0]]
    assert (tmp_path / keys[0]).stat().st_mode & 0o777 == 0o600


def test_the_oldest_give_way_in_bytes_and_age(tmp_path):
    now = [1_000_000.0]
    store = OutputStore(tmp_path, max_bytes=100, max_age_s=60, clock=lambda: now[0])
    keys = []
    for i in range(5):
        keys.append(store.put(bytes([i]) * 30))
        now[0] += 1
    for key in keys[:2]:
        with pytest.raises(BadInput, match="run the command again"):
            store.get(key)
    assert [store.get(key)[0] for key in keys[2:]] == [2, 3, 4]
    now[0] += 61
    last = store.put(b"late")
    assert [file.name for file in tmp_path.iterdir()] == [last]
    assert store.put(b"x" * 101) is None


def test_the_oldest_give_way_also_where_the_clock_was_set_back(tmp_path):
    now = [1e9]
    store = OutputStore(tmp_path, max_bytes=10_000, clock=lambda: now[0])
    before = [store.put(bytes([place]) * 2000) for place in range(5)]
    now[0] -= 86_400
    after = [store.put(bytes([100 + place]) * 2000) for place in range(4)]
    kept = {path.name for path in tmp_path.iterdir()}
    assert kept - {*before} == {*after}
    assert len(kept) == 5


@pytest.mark.parametrize("colour", ["", "\x1b[31m"])
def test_the_tokens_of_a_result_are_counted_once(tmp_path, monkeypatch, colour):
    """Where colours are taken off, without them alone."""
    store, counted = OutputStore(tmp_path), list[str]()
    monkeypatch.setattr("tamis.service.agents.shortening.OutputStore", lambda: store)
    text = "".join(f"{colour}part {i} of the order is ready\n" for i in range(200))
    for name in ("count", "count_many"):
        own = getattr(TextTokenizer, name)

        def counting(self, given, own=own):
            counted.extend([given] if isinstance(given, str) else given)
            return own(self, given)

        monkeypatch.setattr(TextTokenizer, name, counting)
    [shown] = Shortening(ratio=0.2).apply([ToolOutput(text)])
    assert "tamis run --retrieve" in shown
    assert (counted.count(text), counted.count(text.replace(colour, ""))) == (not colour, 1)
