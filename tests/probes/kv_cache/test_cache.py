"""Kept passages score as freshly read ones, and stay within the memory they were given."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tamis.compressors.reading.windows import tokenize_question
from tamis.probes.attention import cached
from tamis.probes.attention.cached import CachedAttention, CachedPrompt
from tamis.probes.attention.recorder import AttentionInput, KVLayer
from tamis.probes.attention.rounding.int8 import Int8Vectors
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.storage import STORAGES
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES, Prompt
from tamis.probes.signal import Want
from tests.pretend_device import PretendDevice
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import (
    FP32,
    MEAN,
    TEXTS,
    WANT,
    assert_close,
    make_prompts,
    versioned_proxy,
    weights,
)
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

# logits and weights of eight bits in four layers, as in eager_kit
BF16 = 2.5e-2
# rows of an 8-bit cache, on random weights drawn wide; the real proxy's:
# lab/log/kept-passages.md#2026-11-24-storage-in-8-bits
INT8 = 5e-2


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
@pytest.mark.parametrize("batch_tokens", [1, 90, 10_000])
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_warm_equals_cold_equals_a_plain_reading(kind, batch_tokens, where, tmp_path):
    proxy = versioned_proxy(kind, batch_tokens=batch_tokens)
    cache = PassageCache(folder=tmp_path if where == "disk" else None)
    plain = weights(proxy, make_prompts(proxy), WANT)
    assert_close(weights(CachedReader(proxy, cache), make_prompts(proxy), WANT), plain)
    if where == "disk":
        cache = PassageCache(folder=tmp_path)
    for question in ("Who came in?", "Why, in the end?"):
        prompts = make_prompts(proxy, question)
        warm = weights(CachedReader(proxy, cache), prompts, WANT)
        assert_close(warm, weights(proxy, prompts, WANT))
    # five passages, one of them twice, one empty: nothing is kept of it
    assert cache.stats().misses == (2 if where == "disk" else 2 + 5)


def test_only_uncached_tokens_run_and_signals_count_the_cached_ones():
    proxy, cache = versioned_proxy(), PassageCache()
    reader, prompts = CachedReader(proxy, cache), make_prompts(versioned_proxy())
    first = [signal.cached_tokens for signal in reader.read(prompts[:2], MEAN)]
    again = [signal.cached_tokens for signal in reader.read(prompts, MEAN)]
    sizes = [len(prompt.passage.ids) for prompt in prompts]
    assert first == [0, 0]
    assert again == [sizes[0], sizes[1], 0, 0, 0, sizes[5]]


def test_a_passage_that_occurs_twice_is_read_once():
    proxy, cache = versioned_proxy(), PassageCache()
    twice = [make_prompts(proxy)[0]] * 3
    seen = list(CachedReader(proxy, cache).read(twice, MEAN))
    assert [signal.cached_tokens for signal in seen] == [0, *[len(twice[0].passage.ids)] * 2]
    assert_close([signal.weights for signal in seen], weights(proxy, twice))


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_cached_passages_have_equal_signals_in_tiles_of_any_size(kind, monkeypatch):
    proxy = versioned_proxy(kind)
    texts = [(None, "Word by word. " * n) for n in (1, 7, 7, 2, 30, 3)]
    prompts = make_prompts(proxy, texts=texts)
    plain = weights(proxy, prompts, WANT)
    cache = PassageCache()
    weights(CachedReader(proxy, cache), prompts)
    for size in (1, 100_000, 1 << 30):
        monkeypatch.setattr("tamis.probes.attention.cached.TILE_BYTES", size)
        assert_close(weights(CachedReader(proxy, cache), prompts, WANT), plain)


def test_a_layer_that_has_fewer_keys_than_the_one_before_is_laid_out_by_itself():
    draw = torch.Generator().manual_seed(0)

    def states(heads: int, tokens: int) -> torch.Tensor:
        return torch.randn(heads, tokens, 8, generator=draw)

    opening = [KVLayer(states(1, 2), states(1, 2)) for _ in range(3)]
    layers = [[KVLayer(states(1, n), states(1, n)) for n in (5 + p, 3, 5 + p)] for p in range(2)]
    prompts = [CachedPrompt(own, 4, 0) for own in layers]
    given = [(states(2, 8)[None], states(1, 8)[None], states(1, 8)[None]) for _ in range(3)]

    def attend(attention: CachedAttention, layer: int) -> torch.Tensor:
        return attention.attend(AttentionInput(layer, *given[layer], 0.3, None))

    def fresh() -> CachedAttention:
        return CachedAttention(opening, prompts, (2,), MEAN.rows, torch.device("cpu"), go_on=True)

    together = fresh()
    for layer in range(3):
        assert torch.equal(attend(together, layer), attend(fresh(), layer))


def test_questions_of_any_length_are_read_in_one_batch():
    proxy, cache = versioned_proxy(), PassageCache()
    reader, layout = CachedReader(proxy, cache), proxy.layout
    weights(reader, make_prompts(proxy))
    questions = ["Why?", "Why?", "", "Who? Who sat on the mat?", "Who sat on the mat? Who?", "W?"]
    mixed = [
        Prompt(p.passage, tokenize_question(layout, q))
        for p, q in zip(make_prompts(proxy), questions, strict=True)
    ]
    assert_close(weights(reader, mixed, WANT), weights(proxy, mixed, WANT))


@pytest.mark.parametrize("fuses", [True, False])
@pytest.mark.parametrize("rows", ["question_mean", "question", "sentence_means", "last"])
def test_in_bf16_cached_passages_read_like_uncached_ones(fuses, rows, monkeypatch):
    """Logits in bf16, where the processor multiplies it, and in fp32."""
    monkeypatch.setattr(cached, "can_fuse", lambda query: fuses and query.dtype == torch.bfloat16)
    proxy, want = versioned_proxy(dtype=torch.bfloat16), Want(WANT.layers, (rows,))
    reader = CachedReader(proxy, PassageCache())
    cold = weights(reader, make_prompts(proxy), want)
    warm = weights(reader, make_prompts(proxy), want)
    assert all(part.dtype == torch.float32 for part in warm)
    for one, other in zip(warm, cold, strict=True):
        torch.testing.assert_close(one, other, atol=BF16, rtol=0)
        # of a whole passage, what is rounded up and down cancels out
        torch.testing.assert_close(one.sum(-1), other.sum(-1), atol=BF16, rtol=BF16)
    assert_close(cold, weights(versioned_proxy(), make_prompts(proxy), want), BF16)


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_eight_bits_take_about_half_the_bytes_of_two_and_score_nearly_alike(where, tmp_path):
    proxy = versioned_proxy(dtype=torch.bfloat16)
    folder = tmp_path if where == "disk" else None
    exact, small = PassageCache(), PassageCache(folder=folder, storage="int8")
    for cache in (exact, small):
        weights(CachedReader(proxy, cache), make_prompts(proxy))
    # a head of 16 parts: 16 bytes and a scale of 4, for 32
    assert small.stats().bytes == exact.stats().bytes * 20 / 32
    if folder:
        small = PassageCache(folder=folder, storage="int8")
    warm = weights(CachedReader(proxy, small), make_prompts(proxy))
    assert_close(warm, weights(proxy, make_prompts(proxy)), INT8)
    assert small.stats().hits > 0


def test_rounding_is_off_by_half_a_step_at_most():
    vectors = torch.randn(3, 50, 16, generator=torch.Generator().manual_seed(0)) * 5
    vectors[0, 0] = 0
    back = torch.empty_like(vectors)
    Int8Vectors.quantize(vectors).dequantize_into(back)
    step = vectors.abs().amax(-1, keepdim=True) / 127
    assert ((back - vectors).abs() <= step / 2 + 1e-6).all()


def change_config(proxy, **config):
    for name, value in config.items():
        setattr(proxy.model.config, name, value)
    return proxy


def test_an_entry_is_served_to_nothing_it_does_not_belong_to(tmp_path):
    def reader(proxy, storage="exact"):
        return CachedReader(proxy, PassageCache(folder=tmp_path, storage=storage))

    prompts = make_prompts(versioned_proxy())
    readers = [
        reader(versioned_proxy()),
        reader(versioned_proxy(revision="r2")),
        reader(versioned_proxy(dtype=torch.bfloat16)),
        reader(versioned_proxy(template=TEMPLATES["plain"])),
        reader(versioned_proxy(), "int8"),
        reader(change_config(versioned_proxy(), rope_parameters={"rope_theta": 5.0})),
    ]
    keys = {one.key(prompts[0]) for one in readers}
    assert len(keys) == len(readers)
    titled = versioned_proxy().layout.passage_tokens(TEXTS[0][1], [], "Cats")
    assert readers[0].key(Prompt(titled, prompts[0].question)) not in keys
    assert reader(versioned_proxy()).key(prompts[0]) in keys


def test_adapters_that_are_merged_under_a_reader_change_its_keys():
    proxy = versioned_proxy()
    reader, prompts = CachedReader(proxy, PassageCache()), make_prompts(proxy)
    list(reader.read(prompts, MEAN))
    before = reader.key(prompts[0])
    proxy.card = replace(proxy.card, revision="r1 with adapters")  # as `Adapters.apply_to` does
    assert reader.key(prompts[0]) != before
    assert reader.key(prompts[0]) == CachedReader(proxy, PassageCache()).key(prompts[0])
    first, *_ = reader.read(prompts, MEAN)
    assert first.cached_tokens == 0


def test_deeper_readings_replace_shallower_ones_and_serve_them():
    proxy, cache = versioned_proxy(), PassageCache()
    reader, prompts = CachedReader(proxy, cache), make_prompts(proxy)[:2]
    weights(reader, prompts, Want((0,)))
    shallow = cache.stats().bytes
    assert_close(weights(reader, prompts), weights(proxy, prompts))
    assert cache.stats().bytes == 7 * shallow  # keys of 4 layers, values of 3; keys of 1
    assert cache.stats().misses == 4
    weights(reader, prompts, Want((1,)))
    assert (cache.stats().misses, cache.stats().hits) == (4, 2)


def test_memory_stays_below_its_limit_and_the_least_recently_used_leaves_first():
    proxy = versioned_proxy()
    texts = [(None, f"Passage number {i} is as long as the others.") for i in range(4)]
    prompts = make_prompts(proxy, texts=texts)
    whole = PassageCache()
    weights(CachedReader(proxy, whole), prompts)
    cache = PassageCache(max_bytes=whole.stats().bytes * 3 // 4)
    reader = CachedReader(proxy, cache)
    weights(reader, prompts[:3])
    weights(reader, prompts[:1])
    weights(reader, prompts[3:])  # the second has not been used for longest
    assert cache.stats().bytes <= cache.max_bytes
    assert cache.stats().evicted == 1
    assert [bool(cache.get(reader.key(p), 4)) for p in prompts] == [True, False, True, True]


def test_an_entry_larger_than_the_memory_is_read_but_not_cached():
    proxy, cache = versioned_proxy(), PassageCache(max_bytes=1000)
    prompts = make_prompts(proxy) * 2
    assert_close(weights(CachedReader(proxy, cache), prompts), weights(proxy, prompts))
    assert (cache.stats().entries, cache.stats().bytes) == (0, 0)


def test_a_model_without_a_revision_shares_no_cache_entries(tmp_path):
    one, other = tiny.proxy(), tiny.proxy()
    cache = PassageCache()
    prompts = make_prompts(one)
    weights(CachedReader(one, cache), prompts)
    hits = cache.stats().hits
    weights(CachedReader(other, cache), prompts)
    assert CachedReader(one, cache).key(prompts[0]) == CachedReader(one, cache).key(prompts[0])
    assert CachedReader(one, cache).key(prompts[0]) != CachedReader(other, cache).key(prompts[0])
    assert cache.stats().hits == 2 * hits  # the passage that occurs twice, once for each
    with pytest.raises(BadInput, match="no revision"):
        CachedReader(one, PassageCache(folder=tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [{"max_bytes": 0}, {"max_bytes": 1.5}, {"max_disk_bytes": -1}, {"storage": "int4"}],
)
def test_limits_that_are_none_are_refused(wrong):
    with pytest.raises(BadInput, match=next(iter(wrong))):
        PassageCache(**wrong)


@pytest.mark.model
@pytest.mark.parametrize("storage", ["exact", "int8"])
def test_the_real_proxy_reads_cached_passages_like_uncached_ones(proxy_folder, storage):
    # bf16 is where most people run; fp32 is where equality can be asked for
    proxy = Proxy.from_folder(proxy_folder, layers=20, dtype="fp32", device="cpu")
    texts = [
        ("Malo", "The old harbour of Malo was closed in 1907. Nobody knew why. " * 6),
        (None, "Bread was cheap then. A loaf cost two pennies."),
    ]
    want = Want(tuple(range(20)))
    cache = PassageCache(storage=storage)
    reader = CachedReader(proxy, cache)
    cold = weights(reader, make_prompts(proxy, "When was the harbour closed?", texts), want)
    for question in ("When was the harbour closed?", "What did bread cost?"):
        prompts = make_prompts(proxy, question, texts)
        warm = weights(reader, prompts, want)
        within = FP32 if storage == "exact" else 2e-2
        assert_close(warm, weights(proxy, prompts, want), within)
    assert cache.stats().hits == 4
    assert len(cold) == 2


@pytest.mark.parametrize("storage", STORAGES)
def test_a_device_keeps_no_more_than_its_bound_and_reads_the_same(storage, monkeypatch, tmp_path):
    """Entries beyond the bound are the host's; so are those of files, until there is room."""
    with PretendDevice("cuda"):
        proxy = versioned_proxy()
        proxy.body.to("cuda")
        prompts = make_prompts(proxy)
        roomy = CachedReader(proxy, PassageCache(storage=storage))
        due = [[w.cpu() for w in weights(roomy, prompts)] for _ in range(2)]
        whole = roomy.cache._device_bytes
        assert whole == roomy.cache.stats().bytes > 0
        for most in (1, whole // 2):
            cache = PassageCache(
                storage=storage, folder=tmp_path / str(most), max_device_bytes=most
            )
            reader = CachedReader(proxy, cache)
            for expected in due:
                assert_close([w.cpu() for w in weights(reader, prompts)], expected)
                assert cache._device_bytes <= most
            assert cache.stats().bytes == whole
        again = CachedReader(proxy, PassageCache(storage=storage, folder=tmp_path / "1"))
        assert_close([w.cpu() for w in weights(again, prompts)], due[1])
        assert again.cache.stats().disk_hits > 0
        assert again.cache._device_bytes == again.cache.stats().bytes == whole


def test_a_bound_on_a_device_is_a_number_of_bytes():
    with pytest.raises(BadInput, match="max_device_bytes is 0"):
        PassageCache(max_device_bytes=0)
