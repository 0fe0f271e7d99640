"""What a batch costs a graphics card in calls, and the host in waits, for any number of prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.compressors.methods.question_rows import pool_question_batch, pool_question_rows
from tamis.compressors.reading.windows import pool_signals
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tests import device_calls
from tests.device_calls import CARDS, LAYERS, PROMPTS, Card
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

MOST_CALLS, MOST_WAITS = 40, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return device_calls.save_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize(
    ("card", "storage"),
    [*((card, "exact") for card in CARDS), (CARDS[0], "int8"), (CARDS[0], "thin")],
    ids=lambda value: getattr(value, "name", value),
)
def test_calls_do_not_grow_with_prompts(card: Card, storage: Any, folder: Path) -> None:
    by_size = [device_calls.count(card, folder, n, storage) for n in PROMPTS]
    for way in ("cold", "fill", "kept"):
        calls = [found[way] for found in by_size]
        assert max(one.a_layer for one in calls) <= MOST_CALLS, way
        assert max(one.syncs for one in calls) <= MOST_WAITS, way
        # more prompts have more lengths of sentences, which are pooled by length
        assert calls[2].launches - calls[1].launches <= 12, way


@pytest.mark.parametrize("method", device_calls.OTHERS)
def test_calls_of_published_methods_do_not_grow_with_prompts(method: str, folder: Path) -> None:
    way = {"method": device_calls.OTHERS[method]}
    by_size = [device_calls.count(CARDS[1], folder, n, **way)["cold"] for n in PROMPTS]
    assert max(calls.a_layer for calls in by_size) <= MOST_CALLS
    assert max(calls.syncs for calls in by_size) <= MOST_WAITS
    assert by_size[2].launches - by_size[1].launches <= 12


def test_what_the_card_has_no_room_for_comes_back_in_one_copy(folder: Path) -> None:
    card = CARDS[1]
    limits = (1 << 30, 1)
    roomy, tight = (
        device_calls.count(card, folder, 40, "exact", max_device_bytes=most) for most in limits
    )
    assert roomy["cold"] == tight["cold"]
    assert tight["fill"].syncs == roomy["fill"].syncs + 1, "one copy to the host"
    assert tight["kept"].syncs <= MOST_WAITS
    assert tight["kept"].a_layer <= MOST_CALLS


def test_a_reading_in_stages_costs_each_stage_as_much_as_a_reading(folder: Path) -> None:
    waits, calls = [], []
    with CARDS[0].pretend() as device:
        proxy = Proxy.from_folder(folder, device="cuda", dtype="bf16")
        reader = CachedReader(proxy, PassageCache())
        proxy.opening_kv()
        texts = [p.text for p in device_calls.documents(40)[0]]
        ask = proxy.layout.question_tokens("Who?")
        prompts = [
            Prompt(proxy.layout.passage_tokens(text, [(0, 5), (5, len(text))]), ask)
            for text in texts
        ]
        for layers, pause in ((range(3), True), (range(3, LAYERS), False)):
            want = Want(tuple(layers), ("sentence_means",), pause=pause)
            device.reset()
            signals = list(reader.read(prompts, want))
            pools = pool_question_rows, pool_question_batch
            assert len(list(pool_signals(prompts, iter(signals), *pools))) == 40
            prompts = [
                Prompt(p.passage, p.question, s.paused)
                for p, s in zip(prompts, signals, strict=True)
            ]
            waits.append(device.syncs)
            calls.append(device.launches / len(layers))
    assert max(waits) <= MOST_WAITS
    assert max(calls) <= MOST_CALLS + 5  # what is done once a batch is spread over few layers


def test_keys_of_passages_are_joined_to_the_opening_for_all_of_them(folder: Path) -> None:
    launches = []
    with CARDS[0].pretend() as device:
        proxy = Proxy.from_folder(folder, device="cuda", dtype="bf16")
        ask = proxy.layout.question_tokens("Who?")
        proxy.opening_kv()
        for n in PROMPTS:
            texts = [p.text for p in device_calls.documents(n)[0]]
            asked = [Prompt(proxy.layout.passage_tokens(text, []), ask) for text in texts]
            device.reset()
            assert len(list(proxy.compute_kv(asked, Want(tuple(range(LAYERS)))))) == n
            launches.append(device.launches)
            assert device.syncs <= MOST_WAITS
    assert max(launches) <= MOST_CALLS * LAYERS
    assert max(launches) - min(launches) <= 12
