"""Windows of whole units, and reading each alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tamis.compressors.reading import windows as _reading
from tamis.compressors.reading.windows import read_windows, windows
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.scripted import Scripted
from tamis.probes.segmentation.segment import units_of
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage, Unit
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself

LONG = "This sentence is far longer than any window that is tried here, and still is one unit."
TEXTS = [
    "Cats sit. Big dogs run. Two emus hop far.",
    "",
    f"One. {LONG} Two. Three.",
    "Ünïcode 你好。 Ende.",
]


@pytest.mark.parametrize("limit", [1, 8, 16, 40, 1000])
def test_windows_hold_whole_units_each_once_and_keep_the_limit(limit: int):
    passages = [Passage(text, title="A title" if p % 2 else None) for p, text in enumerate(TEXTS)]
    units = units_of(passages)
    layout = Scripted.pointing_at("x").layout
    cut = windows(layout, passages, units, limit)
    assert [u for w in cut for u in range(w.first, w.stop)] == list(range(len(units)))
    for window in cut:
        title = b"A title\n" if window.passage % 2 else b""
        data = bytes(window.read.ids)
        assert data[: window.read.start] == title
        here = units[window.first : window.stop]
        assert {unit.passage for unit in here} == {window.passage}
        for unit, (start, stop) in zip(here, window.read.spans, strict=True):
            said = data[window.read.start :][start:stop].decode()
            assert said == passages[unit.passage].text[slice(*unit.visible)]
        assert len(here) == 1 or len(data) - len(title) <= limit


def test_windows_are_as_few_as_the_limit_allows():
    passages = [Passage("Aa. Bb. Cc. Dd.")]
    cut = windows(Scripted.pointing_at("x").layout, passages, units_of(passages), 7)
    assert [(w.first, w.stop) for w in cut] == [(0, 2), (2, 4)]


def test_a_text_is_tokenised_whole_so_that_windows_cut_no_token():
    """`好` is three tokens of one character; a window never holds one of them alone."""
    passages = [Passage("你好。你好。你好。")]
    cut = windows(Scripted.pointing_at("x").layout, passages, units_of(passages, "zh"), 10)
    assert [bytes(w.read.ids).decode() for w in cut] == ["你好。"] * 3


@pytest.mark.parametrize("limit", [1, 8, 16, 1000])
def test_with_lead_a_window_also_holds_what_stands_between_it_and_the_one_before(limit: int):
    passages, units = (
        [Passage("T\nAb. Cd.\n\nU\nEf. ")],
        [Unit(0, a, b, (a, b)) for a, b in ((2, 5), (6, 9), (13, 16))],
    )
    layout = Scripted.pointing_at("x").layout
    cut = windows(layout, passages, units, limit, lead=True)
    assert "".join(bytes(w.read.ids).decode() for w in cut) == "T\nAb. Cd.\n\nU\nEf."
    for window in cut:
        data = bytes(window.read.ids)
        said = [data[a:b].decode() for a, b in window.read.spans]
        assert said == [
            passages[0].text[slice(*u.visible)] for u in units[window.first : window.stop]
        ]
        assert len(said) == 1 or len(data) <= limit


def mass(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
    return signal.pool(spans, "sum").flatten(1)


def test_reading_alone_gives_one_row_a_unit_in_order_and_counts_what_it_reads():
    passages = [
        Passage("Hay here. The pin. Hay.", title="T"),
        Passage(""),
        Passage("Hay. A pin too."),
    ]
    units, reader = units_of(passages), Scripted.pointing_at("pin")
    seen = read_windows(reader, "Where?", passages, units, Want((3,), ("last",)), mass, limit=15)
    assert seen.features.shape == (5, 2)
    assert (seen.features[:, 1] > 0.5).tolist() == [False, True, False, False, True]
    assert seen.tokens == (9, 8, 4, 4, 10)
    assert seen.windows == reader.prompts_read == 3
    ask = len(reader.layout.ask("Where?").ids)
    assert [text for _, text in reader.seen] == ["Hay here.", "The pin. Hay.", "Hay. A pin too."]
    assert seen.tokens_read == sum(len(text) for _, text in reader.seen) + 2 * 2 + 3 * ask
    assert set(seen.timings_ms) == {"tokenize", "read"}


@pytest.mark.parametrize("turn_tokens", [1, 20, 10_000])
def test_questions_beside_the_first_are_asked_of_every_window(turn_tokens, monkeypatch):
    """Their features stand behind, as if each had been asked alone; passages run once."""
    monkeypatch.setattr(_reading, "TURN_TOKENS", turn_tokens)
    proxy = tiny.proxy()
    passages = [Passage("Hay here. The pin. Hay.", title="T"), Passage("Hay. A pin too.")]
    asked = ("Where?", "N/A", "Who, then?")
    given = passages, units_of(passages), Want((1, 3), ("last",)), mass
    reader = CachedReader(proxy, PassageCache())
    seen = read_windows(reader, asked[0], *given, limit=4, beside=asked[1:])
    alone = [read_windows(proxy, question, *given, limit=4) for question in asked]
    torch.testing.assert_close(
        seen.features, torch.cat([look.features for look in alone], 1), atol=1e-5, rtol=1e-4
    )
    asks = [len(proxy.layout.ask(question).ids) for question in asked]
    assert seen.windows == alone[0].windows > 2
    assert seen.tokens_read == alone[0].tokens_read + seen.windows * sum(asks[1:])
    again = read_windows(reader, asked[0], *given, limit=4, beside=asked[1:])
    assert again.tokens_read == again.windows * sum(asks)
    assert again.tokens_cached == alone[0].tokens_read - seen.windows * asks[0]


def test_a_cache_of_one_turn_is_enough_to_ask_all_windows_twice(monkeypatch):
    """All windows read before the second question comes would have pushed each other out."""
    proxy, passages = tiny.proxy(), [Passage("Hay here. The pin. Hay. A pin too. Straw. Hay.")]
    given = passages, units_of(passages), Want((1,), ("last",)), mass
    whole = CachedReader(proxy, PassageCache())
    once = read_windows(whole, "Where?", *given, limit=4)
    stats = whole.cache.stats()
    assert stats.entries == once.windows > 2
    monkeypatch.setattr(_reading, "TURN_TOKENS", 1)
    small = CachedReader(proxy, PassageCache(max_bytes=stats.bytes // 2))
    seen = read_windows(small, "Where?", *given, limit=4, beside=["N/A"])
    more = seen.windows * len(proxy.layout.ask("N/A").ids)
    assert seen.tokens_read == once.tokens_read + more


def test_nothing_to_read_is_no_read():
    reader = Scripted.pointing_at("pin")
    seen = read_windows(reader, "Where?", [Passage("")], [], Want((0,)), mass)
    assert len(seen.features) == seen.windows == seen.tokens_read == reader.prompts_read == 0
