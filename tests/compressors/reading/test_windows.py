"""Windows of whole units, and reading each alone."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from tamis.compressors.reading import windows as windows_module
from tamis.compressors.reading.windows import read_windows, split_windows
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.signal import Signal, Want
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import ScriptedReader

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
    layout = ScriptedReader.from_needles("x").layout
    found = split_windows(layout, passages, units, limit)
    assert [u for w in found for u in range(w.first, w.stop)] == list(range(len(units)))
    for window in found:
        title = b"A title\n" if window.passage % 2 else b""
        data = bytes(window.tokens.ids)
        assert data[: window.tokens.title_tokens] == title
        here = units[window.first : window.stop]
        assert {unit.passage for unit in here} == {window.passage}
        for unit, (start, stop) in zip(here, window.tokens.unit_spans, strict=True):
            text = data[window.tokens.title_tokens :][start:stop].decode()
            assert text == passages[unit.passage].text[slice(*unit.visible)]
        assert len(here) == 1 or len(data) - len(title) <= limit


def test_windows_are_as_few_as_the_limit_allows():
    passages = [Passage("Aa. Bb. Cc. Dd.")]
    found = split_windows(ScriptedReader.from_needles("x").layout, passages, units_of(passages), 7)
    assert [(w.first, w.stop) for w in found] == [(0, 2), (2, 4)]


def test_a_passage_that_comes_again_is_not_tokenised_again_and_its_windows_are_the_same(
    monkeypatch,
):
    """Whatever else it comes with: its place, other passages, a limit, gaps, fewer of its units."""
    layout, given = ScriptedReader.from_needles("x").layout, [Passage(text) for text in TEXTS]
    titled = [*given, Passage(TEXTS[0], title="A title")]
    requests = [
        (passages, units, limit, gaps)
        for passages in (given, given[::-1], titled, [*given, given[0]])
        for units in (units_of(passages), units_of(passages)[::2])
        for limit in (8, 40)
        for gaps in (False, True)
    ]
    kept = [split_windows(layout, *request) for request in requests]
    fresh = [split_windows(ScriptedReader.from_needles("x").layout, *each) for each in requests]
    assert kept == fresh
    encoded: list[str] = []
    monkeypatch.setattr(layout.tokenizer, "encode_many", lambda texts: encoded.extend(texts) or [])
    assert [split_windows(layout, *request) for request in requests] == kept
    assert encoded == []


def test_of_passages_without_end_only_so_many_are_kept_as_fit():
    layout = ScriptedReader.from_needles("x").layout
    layout.cuts.max_cost = layout.cuts.largest = 200_000
    for n in range(300):
        passages = [Passage(f"Passage {n}. Another sentence. " * 20)]
        split_windows(layout, passages, units_of(passages))
        assert layout.cuts.total_cost <= 200_000
    assert 1 < len(layout.cuts) < 30


def test_a_text_is_tokenised_whole_so_that_windows_cut_no_token():
    """`好` is three tokens of one character; a window never holds one of them alone."""
    passages = [Passage("你好。你好。你好。")]
    found = split_windows(
        ScriptedReader.from_needles("x").layout, passages, units_of(passages, "zh"), 10
    )
    assert [bytes(w.tokens.ids).decode() for w in found] == ["你好。"] * 3


@pytest.mark.parametrize("limit", [1, 8, 16, 1000])
def test_with_gaps_a_window_also_holds_the_text_between_it_and_the_one_before(limit: int):
    passages, units = (
        [Passage("T\nAb. Cd.\n\nU\nEf. ")],
        [Unit(0, a, b, (a, b)) for a, b in ((2, 5), (6, 9), (13, 16))],
    )
    layout = ScriptedReader.from_needles("x").layout
    found = split_windows(layout, passages, units, limit, include_gaps=True)
    assert "".join(bytes(w.tokens.ids).decode() for w in found) == "T\nAb. Cd.\n\nU\nEf."
    for window in found:
        data = bytes(window.tokens.ids)
        texts = [data[a:b].decode() for a, b in window.tokens.unit_spans]
        assert texts == [
            passages[0].text[slice(*u.visible)] for u in units[window.first : window.stop]
        ]
        assert len(texts) == 1 or len(data) <= limit


def summed_attention(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
    return signal.pool(spans, "sum").flatten(1)


def test_a_reading_has_one_row_a_unit_in_order_and_counts_its_tokens():
    passages = [
        Passage("Hay here. The pin. Hay.", title="T"),
        Passage(""),
        Passage("Hay. A pin too."),
    ]
    units, reader = units_of(passages), ScriptedReader.from_needles("pin")
    reading = read_windows(
        reader, "Where?", passages, units, Want((3,), ("last",)), summed_attention, limit=15
    )
    assert reading.features.shape == (5, 2)
    assert (reading.features[:, 1] > 0.5).tolist() == [False, True, False, False, True]
    assert reading.tokens == (9, 8, 4, 4, 10)
    assert reading.windows == reader.prompts_read == 3
    ask = len(reader.layout.question_tokens("Where?").ids)
    assert [text for _, text in reader.read_log] == [
        "Hay here.",
        "The pin. Hay.",
        "Hay. A pin too.",
    ]
    assert reading.tokens_read == sum(len(text) for _, text in reader.read_log) + 2 * 2 + 3 * ask
    assert set(reading.timings_ms) == {"tokenize", "read"}


@pytest.mark.parametrize("group_tokens", [1, 20, 10_000])
def test_other_questions_are_read_after_every_window(group_tokens, monkeypatch):
    """Their features are appended, as if each had been read alone; passages run once."""
    monkeypatch.setattr(windows_module, "CACHED_GROUP_TOKENS", group_tokens)
    proxy = tiny.proxy()
    passages = [Passage("Hay here. The pin. Hay.", title="T"), Passage("Hay. A pin too.")]
    questions = ("Where?", "N/A", "Who, then?")
    given = passages, units_of(passages), Want((1, 3), ("last",)), summed_attention
    reader = CachedReader(proxy, PassageCache())
    reading = read_windows(reader, questions[0], *given, limit=4, other_questions=questions[1:])
    alone = [read_windows(proxy, question, *given, limit=4) for question in questions]
    torch.testing.assert_close(
        reading.features, torch.cat([single.features for single in alone], 1), atol=1e-5, rtol=1e-4
    )
    question_tokens = [len(proxy.layout.question_tokens(question).ids) for question in questions]
    assert reading.windows == alone[0].windows > 2
    assert reading.tokens_read == alone[0].tokens_read + reading.windows * sum(question_tokens[1:])
    again = read_windows(reader, questions[0], *given, limit=4, other_questions=questions[1:])
    assert again.tokens_read == again.windows * sum(question_tokens)
    assert again.tokens_cached == alone[0].tokens_read - reading.windows * question_tokens[0]


def test_a_cache_of_one_group_is_enough_to_read_all_windows_with_two_questions(monkeypatch):
    """All windows read before the second question comes would have pushed each other out."""
    proxy, passages = tiny.proxy(), [Passage("Hay here. The pin. Hay. A pin too. Straw. Hay.")]
    given = passages, units_of(passages), Want((1,), ("last",)), summed_attention
    whole = CachedReader(proxy, PassageCache())
    once = read_windows(whole, "Where?", *given, limit=4)
    stats = whole.cache.stats()
    assert stats.entries == once.windows > 2
    monkeypatch.setattr(windows_module, "CACHED_GROUP_TOKENS", 1)
    small = CachedReader(proxy, PassageCache(max_bytes=stats.bytes // 2))
    reading = read_windows(small, "Where?", *given, limit=4, other_questions=["N/A"])
    more = reading.windows * len(proxy.layout.question_tokens("N/A").ids)
    assert reading.tokens_read == once.tokens_read + more


def test_without_units_nothing_is_read():
    reader = ScriptedReader.from_needles("pin")
    reading = read_windows(reader, "Where?", [Passage("")], [], Want((0,)), summed_attention)
    assert (
        len(reading.features) == reading.windows == reading.tokens_read == reader.prompts_read == 0
    )
