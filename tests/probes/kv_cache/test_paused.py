"""A reading that pauses between two layers ends as one that does not, kept passages or not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tamis.probes.errors import ProxyUnsupported
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import (
    FP32,
    assert_close,
    entry_files,
    make_prompts,
    versioned_proxy,
    weights,
)
from tests.probes.model.forward_kit import OURS
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

ALL = Want((0, 1, 2, 3))
TEXTS = ((None, "The cat sat on the mat."), ("Cats", "All was well. " * 9), (None, "Water is wet."))


def in_two(reader, prompts, pause, chosen=None):
    """The first `pause` layers of all prompts, then the rest of those chosen."""
    first = list(reader.read(prompts, Want(tuple(range(pause)), pause=True)))
    chosen = range(len(prompts)) if chosen is None else chosen
    paused = [replace(prompts[i], paused=first[i].paused) for i in chosen]
    rest = list(reader.read(paused, Want(tuple(range(pause, 4)))))
    return first, rest


@pytest.mark.parametrize("kind", OURS)
@pytest.mark.parametrize("pause", [1, 3])
def test_what_goes_on_is_read_as_if_it_had_not_paused(kind, pause):
    proxy = versioned_proxy(kind, batch_tokens=60)
    prompts = make_prompts(proxy, texts=TEXTS)
    first, rest = in_two(proxy, prompts, pause, [2, 0])
    plain = weights(proxy, prompts, ALL)
    assert_close([one.weights for one in first], [one[:pause] for one in plain])
    assert_close([one.weights for one in rest], [plain[2][pause:], plain[0][pause:]])
    assert all(one.paused is None for one in rest)
    assert [len(one.paused.states) for one in first] == [len(prompt) for prompt in prompts]


def test_one_prompt_that_goes_on_alone_is_equal_to_the_bit():
    proxy = versioned_proxy()
    prompts = make_prompts(proxy, texts=TEXTS[1:2])
    (first,), (rest,) = in_two(proxy, prompts, 2)
    (plain,) = weights(proxy, prompts, ALL)
    assert torch.equal(torch.cat([first.weights, rest.weights]), plain)


@pytest.mark.parametrize("where", ["memory", "disk"])
@pytest.mark.parametrize("storage", ["exact", "int8"])
def test_kept_passages_pause_and_go_on_too(where, storage, tmp_path):
    proxy = versioned_proxy()
    folder = tmp_path if where == "disk" else None
    reader = CachedReader(proxy, PassageCache(folder=folder, storage=storage))
    in_two(reader, make_prompts(proxy, texts=TEXTS), 2)
    if where == "disk":
        reader = CachedReader(proxy, PassageCache(folder=folder, storage=storage))
    prompts = make_prompts(proxy, "Why, in the end?", TEXTS)
    first, rest = in_two(reader, prompts, 2)
    assert all(one.cached_tokens for one in (*first, *rest))
    plain = weights(proxy, prompts, ALL)
    both = [torch.cat([a.weights, b.weights]) for a, b in zip(first, rest, strict=True)]
    assert_close(both, plain, FP32 if storage == "exact" else 5e-2)
    # and so does a reading that never pauses
    assert_close(weights(reader, prompts, ALL), both, 1e-4)
    assert all(signal.cached_tokens for signal in reader.read(prompts, ALL))


def test_the_deeper_layers_of_a_passage_that_stops_are_neither_kept_nor_opened(
    tmp_path, monkeypatch
):
    proxy = versioned_proxy()
    prompts = make_prompts(proxy, texts=TEXTS)
    in_two(CachedReader(proxy, PassageCache(folder=tmp_path)), prompts, 2, chosen=[1])
    assert len(entry_files(tmp_path)) == 3 + 1
    reader = CachedReader(proxy, PassageCache(folder=tmp_path))
    in_two(reader, prompts, 2, chosen=[1])
    opened: list[str] = []
    load = reader.cache.files.load
    monkeypatch.setattr(reader.cache.files, "load", lambda key: opened.append(key) or load(key))
    reader.cache._entries.clear()
    in_two(reader, prompts, 2, chosen=[])
    assert sorted(opened) == sorted(map(reader.key, prompts))
    held = sum(len(entry) for _, entry in reader.cache._entries._entries.values())
    assert held == 3 * 2


def test_a_passage_that_stopped_before_is_read_again_once_it_goes_on():
    proxy = versioned_proxy()
    reader, prompts = CachedReader(proxy, PassageCache()), make_prompts(proxy, texts=TEXTS)
    in_two(reader, prompts, 2, chosen=[0])
    _, rest = in_two(reader, prompts, 2)
    sizes = [len(prompt.passage.ids) for prompt in prompts]
    assert [signal.cached_tokens for signal in rest] == [sizes[0], 0, 0]
    assert_close([one.weights for one in rest], [one[2:] for one in weights(proxy, prompts, ALL)])
    _, again = in_two(reader, prompts, 2)
    assert [signal.cached_tokens for signal in again] == sizes


def test_a_passage_that_occurs_twice_is_read_once_to_either_depth():
    proxy = versioned_proxy()
    reader, prompts = CachedReader(proxy, PassageCache()), make_prompts(proxy, texts=TEXTS[1:2] * 2)
    first, rest = in_two(reader, prompts, 2)
    size = len(prompts[0].passage.ids)
    assert [one.cached_tokens for one in first] == [0, size]
    assert [one.cached_tokens for one in rest] == [0, size]
    plain = weights(proxy, prompts, ALL)
    assert_close([one.weights for one in rest], [one[2:] for one in plain])


def test_a_model_that_transformers_runs_cannot_pause():
    proxy = tiny.proxy("gemma3")
    assert not proxy.can_pause
    assert tiny.proxy().can_pause
    with pytest.raises(ProxyUnsupported, match="cannot pause between layers"):
        next(proxy.read(make_prompts(proxy, texts=TEXTS), Want((0,), pause=True)))


@pytest.mark.parametrize("storage", ["exact", "int8"])
def test_what_a_reading_of_as_many_layers_kept_is_not_enough_to_go_on_from(storage):
    """It keeps no values of its last layer, which the next one would need."""
    proxy = versioned_proxy()
    prompts = make_prompts(proxy, texts=TEXTS)
    reader = CachedReader(proxy, PassageCache(storage=storage))
    list(reader.read(prompts, Want((0, 1))))
    _, rest = in_two(reader, prompts, 2)
    plain = weights(proxy, prompts, ALL)
    assert_close([one.weights for one in rest], [one[2:] for one in plain])
