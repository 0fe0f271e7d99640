"""A codec: bits where they count, in the bytes that were asked for, for the model it is of."""

from __future__ import annotations

import heapq
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tamis.probes.attention.coded_layer import RUN, CodedKVLayer
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.thin_layer import ThinKVLayer
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch
from tamis.probes.kv_cache import codec as codecs
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.codec import KVCodec, find_codec, shipped_codec
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import TEMPLATES
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.train.codec.fitting import NORMAL_ERROR, allot_bits, fit_codec
from tamis_lab.train.codec.samples import _Sampler, read_samples, rotation_rates
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import MEAN, make_prompts, versioned_proxy, weights
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

WORDS = (
    "the cat sat on a mat and then in came another thin animal with the hat of an old man".split()
)


def records(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for n in range(count):
        order = torch.randint(len(WORDS), (120,), generator=generator).tolist()
        text = " ".join(WORDS[i] for i in order) + "."
        yield {
            "id": str(n),
            "question": "Who came in?",
            "answers": ["the cat"],
            "docs": [{"title": "Cats", "text": text, "sents": [[0, len(text)]], "gold": [0]}],
        }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("records") / "cats.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in records(30)))
    return path


def read(proxy, data):
    return read_samples(proxy, [RecordFile(data)], "en", 0, lambda *_: None)


@pytest.fixture(scope="module")
def proxy():
    return versioned_proxy()


@pytest.fixture(scope="module")
def samples(proxy, data):
    return read(proxy, data)


def fit(proxy, samples, bits):
    opening = len(proxy.layout.opening)
    return fit_codec(samples, proxy.card, opening, rotation_rates(proxy), bits)


@pytest.fixture
def codec(proxy, samples, tmp_path):
    return fit(proxy, samples, 4).save(tmp_path / "codec.safetensors")


def allot_slowly(variances, total):
    """One bit for eight directions after the other, to the run that gains most by it."""
    gains = [a - b for a, b in pairwise(NORMAL_ERROR)]
    runs = [
        (n, r, float(v.view(-1, RUN)[r].sum()))
        for n, v in enumerate(variances)
        for r in range(len(v) // RUN)
    ]
    bits = {(n, r): 0 for n, r, _ in runs}
    heap = [(-v * gains[0], n, r, v) for n, r, v in runs]
    heapq.heapify(heap)
    for _ in range(total // RUN):
        _, n, r, v = heapq.heappop(heap)
        bits[n, r] += 1
        if bits[n, r] < len(gains):
            heapq.heappush(heap, (-v * gains[bits[n, r]], n, r, v))
    return bits


def test_bits_go_one_by_one_to_the_directions_that_gain_most():
    generator = torch.Generator().manual_seed(3)
    variances = [
        torch.rand(48, generator=generator).exp().pow(4).sort(descending=True).values.double()
        for _ in range(3)
    ]
    found, slow = allot_bits(variances, 200), allot_slowly(variances, 200)
    assert sum(int(each.sum()) for each in found) == 200
    for n, each in enumerate(found):
        runs = each.view(-1, RUN)
        assert (runs == runs[:, :1]).all()
        assert (each.diff() <= 0).all()
        assert runs[:, 0].tolist() == [slow[n, r] for r in range(len(runs))]


@pytest.mark.parametrize("bits", [1.5, 3])
def test_a_token_takes_the_bytes_that_were_asked_for(proxy, samples, bits):
    codec = fit(proxy, samples, bits)
    layers, heads, size = tiny.LAYERS, tiny.KV_HEADS, samples.keys.shape[-1]
    asked = bits * (2 * layers - 1) * heads * size / 8
    taken = sum(code.token_bytes for code in codec.layers)
    assert asked - 1 <= taken <= asked + layers  # no layer is left without a run
    assert codec.card.figures["bytes"] == taken
    assert [code.has_values for code in codec.layers] == [True] * (layers - 1) + [False]


def test_more_bits_lose_less_of_every_layer(proxy, samples):
    errors = [fit(proxy, samples, bits).card.figures["relative_error"] for bits in (1, 2, 4)]
    for worse, better in pairwise(errors):
        assert sum(better) < sum(worse)
    assert max(errors[-1]) < 0.1


def test_what_no_question_sees_takes_hardly_a_bit(proxy, samples):
    """The first channel of the first head's keys: unseen, a change of it changes few bytes."""
    blind = replace(samples, key_metric=samples.key_metric.clone())
    blind.key_metric[1, 0, 0] = blind.key_metric[1, 0, :, 0] = 0
    changed = {}
    for name, of in (("seen", samples), ("unseen", blind)):
        code = fit(proxy, of, 2).layers[1]
        layer = KVLayer(samples.keys[1].float(), samples.values[1].float())
        straight = code.rotation.apply(layer.keys.transpose(0, 1), [layer.keys.shape[1]])
        before = code.encode(KVLayer(straight.transpose(0, 1), layer.values)).packed
        moved = layer.keys.clone()
        moved[0, :, 0] += moved[0, :, 0].std()
        moved = code.rotation.apply(moved.transpose(0, 1), [layer.keys.shape[1]])
        after = code.encode(KVLayer(moved.transpose(0, 1), layer.values)).packed
        changed[name] = float((before != after).float().mean())
    assert changed["unseen"] < 0.5 * changed["seen"]


def test_a_saved_codec_is_the_same_codec(proxy, codec, tmp_path):
    again = KVCodec.load(tmp_path / "codec.safetensors")
    assert again.card == codec.card
    assert again.digest == codec.digest
    layer = KVLayer(*torch.randn(2, 2, 9, again.card.size))
    assert torch.equal(again.layers[0].encode(layer).packed, codec.layers[0].encode(layer).packed)


def test_warm_readings_are_near_exact_ones_in_a_fraction_of_the_bytes(proxy, codec, tmp_path):
    cache = PassageCache(
        storage="thin", codec=tmp_path / "codec.safetensors", folder=tmp_path / "p"
    )
    texts = [("Cats", r["docs"][0]["text"]) for r in records(4, seed=9)]
    prompts = make_prompts(proxy, texts=texts)
    exact = weights(proxy, prompts)
    reader = CachedReader(proxy, cache)
    first = weights(reader, prompts)  # fills; exact
    for cache_of in (cache, PassageCache(storage="thin", codec=codec, folder=tmp_path / "p")):
        warm = weights(CachedReader(proxy, cache_of), prompts)
        for plain, one, other in zip(exact, first, warm, strict=True):
            torch.testing.assert_close(one, plain)
            assert float((other - plain).norm() / plain.norm()) < 0.2
        assert cache_of.stats().hits >= 4
    tokens = sum(len(prompt.passage.ids) for prompt in prompts)
    assert cache.stats().bytes == tokens * codec.card.figures["bytes"]


def test_an_early_exit_is_coded(proxy, codec):
    prompts = make_prompts(proxy)[:2]
    reader = CachedReader(proxy, PassageCache(storage="thin", codec=codec))
    two = replace(MEAN, layers=(0, 1))
    shallow = [s.weights for s in reader.read(prompts, two)]
    again = [s.weights for s in reader.read(prompts, two)]
    for one, other in zip(shallow, again, strict=True):
        assert float((one - other).norm() / one.norm()) < 0.3
    assert all(isinstance(one, CodedKVLayer) for one in reader.cache.get(reader.key(prompts[0]), 2))


@pytest.mark.parametrize("where", ["memory", "disk"])
def test_a_deeper_reading_leaves_the_coded_entry_as_it_is(where, tmp_path, data):
    """The codec of two layers and a reading of four: each finds what it kept."""
    proxy = versioned_proxy()
    shallow = read(proxy, data)
    two_layers = replace(shallow, keys=shallow.keys[:2], values=shallow.values[:2])
    codec = fit(proxy, two_layers, 4)
    folder = tmp_path / "p" if where == "disk" else None
    prompts = make_prompts(proxy)[:1]
    two = replace(MEAN, layers=(0, 1))

    def reader():
        return CachedReader(proxy, PassageCache(storage="thin", codec=codec, folder=folder))

    one = reader()
    list(one.read(prompts, two))
    if where == "disk":
        one = reader()
    before = [s.weights for s in one.read(prompts, two)]
    exact = weights(proxy, prompts)
    first_deep = weights(one, prompts)
    torch.testing.assert_close(first_deep, exact)
    again = list(one.read(prompts, MEAN))
    assert all(signal.cached_tokens for signal in again)
    after = [s.weights for s in one.read(prompts, two)]
    torch.testing.assert_close(after, before)


def test_a_template_with_another_opening_is_kept_without_the_codec(proxy, codec):
    cache = PassageCache(storage="thin", codec=codec)
    reader = CachedReader(proxy, cache)
    assert reader.codec is codec
    plain = reader.with_template(TEMPLATES["plain"])
    assert len(plain.layout.opening) != len(reader.layout.opening)
    assert plain.codec is None
    prompts = make_prompts(plain.proxy)[:1]
    weights(plain, prompts)
    kept = cache.get(plain.key(prompts[0]), 4)
    assert all(isinstance(layer, ThinKVLayer) for layer in kept)


def test_a_codec_of_another_model_is_refused(codec, tmp_path):
    other = versioned_proxy(revision="r2")
    cache = PassageCache(storage="thin", codec=tmp_path / "codec.safetensors")
    with pytest.raises(ProbeMismatch, match=r"at r1, and the model is .* at r2"):
        CachedReader(other, cache)
    with pytest.raises(BadInput, match="storage='thin'"):
        PassageCache(codec=codec)
    assert shipped_codec(other.card) is None


def test_entries_of_a_codec_that_is_gone_are_whole_and_not_served(
    codec, proxy, tmp_path, monkeypatch
):
    folder = tmp_path / "p"
    prompts = make_prompts(proxy)[:1]
    weights(CachedReader(proxy, PassageCache(storage="thin", codec=codec, folder=folder)), prompts)
    assert find_codec(codec.digest) is codec
    monkeypatch.setattr(codecs, "_codecs", {})
    with pytest.raises(BadModelFile, match="is not here"):
        find_codec(codec.digest)
    assert PassageCache(folder=folder, storage="thin").verify() == []


@pytest.mark.parametrize(
    ("bits", "tokens", "match"),
    [
        (0, None, "bits is 0"),
        (6.5, None, "bits is 6.5"),
        (7, None, "bits is 7"),
        (2, 100, "tokens"),
    ],
)
def test_what_cannot_be_fitted_is_said(proxy, samples, bits, tokens, match):
    few = replace(samples, keys=samples.keys[:, :, :tokens], values=samples.values[:, :, :tokens])
    with pytest.raises(BadInput, match=match):
        fit(proxy, few, bits)


def test_a_model_that_rotates_layers_differently_is_refused():
    with pytest.raises(BadInput, match="rotate"):
        rotation_rates(versioned_proxy("gemma3"))


def test_a_proxy_that_was_used_is_fitted_as_a_fresh_one(data):
    used, fresh = versioned_proxy(), versioned_proxy()
    weights(used, make_prompts(used))
    torch.testing.assert_close(read(used, data).value_metric, read(fresh, data).value_metric)


def test_logits_of_samples_are_those_of_the_model(proxy):
    """Of query states as a token sees them, and its key without rotation."""
    sampler = _Sampler(proxy, 0)
    (prompt,) = make_prompts(proxy, texts=[("Cats", "the cat sat on the mat. " * 3)])
    tokens, opening = len(prompt.passage.ids), len(proxy.layout.opening)
    (layers,) = proxy.compute_kv([prompt], MEAN)
    (states,) = question_states(proxy, [prompt.question], range(tiny.LAYERS), tokens)
    place, rows = 5, states.shape[2]
    for n in range(tiny.LAYERS):
        key = layers[n].keys[:, opening + place]
        straight = sampler._remove_rotation(n, key[:, None], torch.tensor([place]))[:, 0]
        seen = sampler._remove_rotation(n, states[n], torch.full((rows,), place))
        group = tiny.HEADS // tiny.KV_HEADS
        ours = torch.einsum("hrd,hd->hr", seen, straight.repeat_interleave(group, 0))
        theirs = torch.einsum("hrd,hd->hr", states[n], key.repeat_interleave(group, 0))
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)
