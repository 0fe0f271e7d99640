"""Kept readings of cases and of prompts: rounded once, found by all that they depend on."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.reading.windows import Reading
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Signal, Want
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.datasets.reading_store import (
    CaseReadings,
    SignalReadings,
    StoreKey,
    TimedSignal,
    cached_reader,
    store_key,
)
from tests.laws.methods import make_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.scripted import ScriptedReader

KEY = StoreKey("features", "tiny", "r1")
PASSAGES = [Passage("Ann lives in Rome. Bob left."), Passage("Rome is old.", title="Rome")]
UNITS = units_of(PASSAGES)
CASE = ("Where does Ann live?", PASSAGES, UNITS)
FEATURES = torch.linspace(0.1, 0.7, len(UNITS))[:, None]  # fp16 cannot hold them
READING = Reading(FEATURES, (4, 2, 3), 2, 31, {"tokenize": 1 / 3, "read": 40.0})


class CountingReader:
    """Gives the same reading of everything, and counts how often."""

    def __init__(self) -> None:
        self.reads = 0

    def __call__(self, question, passages, units):
        self.reads += 1
        return READING


def test_a_reading_is_rounded_to_fp16_once_and_says_the_same_in_every_run(tmp_path):
    read = CountingReader()
    found = [CaseReadings(tmp_path, KEY).get_or_read(*CASE, read) for _ in range(3)]
    assert read.reads == 1
    for reading in found:
        assert reading.features.dtype == torch.float32
        assert torch.equal(reading.features, FEATURES.half().float())
        assert not torch.equal(reading.features, FEATURES)
        assert (reading.tokens, reading.windows, reading.tokens_read) == ((4, 2, 3), 2, 31)
        assert reading.timings_ms == READING.timings_ms


def test_get_finds_what_was_put_and_nothing_before(tmp_path):
    readings = CaseReadings(tmp_path, KEY)
    assert readings.get(*CASE) is None
    readings.put(*CASE, READING)
    assert torch.equal(readings.get(*CASE).features, FEATURES.half().float())


def test_a_torn_reading_is_read_anew(tmp_path):
    read = CountingReader()
    CaseReadings(tmp_path, KEY).get_or_read(*CASE, read)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-3])
    again = CaseReadings(tmp_path, KEY).get_or_read(*CASE, read)
    assert read.reads == 2
    assert torch.equal(again.features, FEATURES.half().float())


@pytest.mark.parametrize(
    "other",
    [
        ("Where does Bob live?", PASSAGES, UNITS),
        (CASE[0], [PASSAGES[0], Passage(PASSAGES[1].text, title="Oslo")], UNITS),
        (CASE[0], [PASSAGES[0], Passage(PASSAGES[1].text)], UNITS),
        (CASE[0], PASSAGES, [*UNITS[:-1], UNITS[0]]),
        (CASE[0], PASSAGES, UNITS[:-1]),
    ],
)
def test_a_reading_is_of_that_question_those_passages_and_units(tmp_path, other):
    CaseReadings(tmp_path, KEY).put(*CASE, READING)
    assert CaseReadings(tmp_path, KEY).get(*other) is None


def test_readings_are_kept_apart_by_all_that_changes_them():
    proxy = tiny.proxy()
    method = QuestionRows(cached_reader(proxy), None)
    keys = [store_key(method), store_key(method, "scores")]
    method.layers = 1
    keys.append(store_key(method))
    keys.append(store_key(QuestionRows(cached_reader(proxy), None, window_tokens=64)))
    keys.append(store_key(QuestionRows(cached_reader(tiny.proxy("qwen2")), None)))
    keys.append(store_key(QuestionRows(cached_reader(tiny.proxy(dtype=torch.bfloat16)), None)))
    assert len(set(keys)) == len(keys)


def test_readings_with_and_without_a_passage_cache_are_the_same():
    proxy = tiny.proxy()
    assert store_key(QuestionRows(cached_reader(proxy), None)) == store_key(
        QuestionRows(proxy, None)
    )


def test_an_older_reading_of_sentinel_is_not_used_again(monkeypatch):
    proxy = tiny.proxy()
    method = Sentinel(proxy, make_probe(proxy, "sentinel", {}, "sentinel"))
    new = store_key(method)
    monkeypatch.setattr(Sentinel, "reading_key", "1 1024")
    assert store_key(method) != new


PROMPT = Prompt(PassageTokens((5, 6, 7), 1, ((0, 2),)), QuestionTokens((8, 9), 1))
WANT = Want((0, 2), ("question_mean",))
SIGNAL = Signal(
    torch.rand(2, 3, 1, 3, generator=torch.Generator().manual_seed(0)), (0, 2), WANT.rows
)


def test_a_signal_is_rounded_to_bfloat16_once_and_says_the_same_in_every_run(tmp_path):
    reader = ScriptedReader.from_needles("Rome")
    assert SignalReadings(tmp_path, reader).get(PROMPT, WANT) is None
    put = SignalReadings(tmp_path, reader).put(PROMPT, WANT, SIGNAL, 1 / 3)
    found = SignalReadings(tmp_path, reader).get(PROMPT, WANT)
    for kept in (put, found):
        assert isinstance(kept, TimedSignal)
        assert kept.ms == 1 / 3
        assert (kept.signal.layers, kept.signal.rows) == (WANT.layers, WANT.rows)
        assert kept.signal.weights.dtype == torch.float32
        assert torch.equal(kept.signal.weights, SIGNAL.weights.bfloat16().float())


@pytest.mark.parametrize(
    ("prompt", "want"),
    [
        (Prompt(PassageTokens((5, 6, 8), 1, ((0, 2),)), QuestionTokens((8, 9), 1)), WANT),
        (Prompt(PassageTokens((5, 6, 7), 0, ((0, 2),)), QuestionTokens((8, 9), 1)), WANT),
        (Prompt(PassageTokens((5, 6, 7), 1, ((0, 2),)), QuestionTokens((8, 8), 1)), WANT),
        (Prompt(PassageTokens((5, 6, 7), 1, ((0, 2),)), QuestionTokens((8, 9), 0)), WANT),
        (Prompt(PassageTokens((5, 6), 1, ((0, 1),)), QuestionTokens((7, 8, 9), 1)), WANT),
        (PROMPT, Want((0, 1), ("question_mean",))),
        (PROMPT, Want((0, 2), ("last",))),
    ],
)
def test_a_signal_is_of_that_prompt_and_of_what_was_wanted_of_it(tmp_path, prompt, want):
    reader = ScriptedReader.from_needles("Rome")
    SignalReadings(tmp_path, reader).put(PROMPT, WANT, SIGNAL, 1.0)
    assert SignalReadings(tmp_path, reader).get(prompt, want) is None


def test_a_signal_is_of_that_model_and_precision(tmp_path):
    readers = [ScriptedReader.from_needles("Rome", name=name) for name in ("a", "b")]
    readers[0].dtype = torch.bfloat16
    SignalReadings(tmp_path, readers[0]).put(PROMPT, WANT, SIGNAL, 1.0)
    assert SignalReadings(tmp_path, readers[0]).get(PROMPT, WANT) is not None
    assert SignalReadings(tmp_path, readers[1]).get(PROMPT, WANT) is None
    readers[0].dtype = torch.float32
    assert SignalReadings(tmp_path, readers[0]).get(PROMPT, WANT) is None
