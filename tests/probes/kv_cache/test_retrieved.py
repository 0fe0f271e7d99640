"""One pass of a question over kept passages, against dense attention to all of them at once."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from tamis.probes.attention.kv_layers import count_tokens
from tamis.probes.attention.packed import attention_function
from tamis.probes.attention.recorder import KVLayer, Recorder, use_recorder
from tamis.probes.errors import BadInput, ProxyUnsupported, UnknownMethod
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.retrieved import ExactKeys, KeptCorpus, RetrievedReader, find_selector
from tamis.probes.prompt import TEMPLATES
from tamis.probes.signal import Want
from tests.probes.kv_cache.cache_kit import (
    FP32,
    MEAN,
    WANT,
    assert_close,
    make_prompts,
    versioned_proxy,
    weights,
)
from tests.probes.tiny import LAYERS, one_thread  # noqa: F401 - a fixture for every test here

TEXTS = (
    (None, "The cat sat on the mat. Then the dog came in."),
    ("Cats", "In the end all was well."),
    ("Long", "Water is wet. " * 12),
)
QUESTION = "Who came in? Was it wet?"


def kept_passages(proxy, storage="exact"):
    """Prompts over the texts, and the layers that are kept of each."""
    prompts = make_prompts(proxy, QUESTION, TEXTS)
    cache = PassageCache(storage=storage)
    reader = CachedReader(proxy, cache)
    list(reader.read(prompts, MEAN))
    kept = [cache.get(reader.key(prompt), LAYERS) for prompt in prompts]
    return prompts, kept, lambda prompt: cache.get(reader.key(prompt), LAYERS)


def reader_over(proxy, keys=None, storage="exact", build=ExactKeys, effort=0.5):
    """A reader to which kept passages are one long prompt; its prompts; its kept tokens."""
    prompts, kept, find = kept_passages(proxy, storage)
    corpus = KeptCorpus(kept, keys, build, effort=effort, average=False)
    return prompts, RetrievedReader(proxy, corpus, find), sum(corpus.sizes)


def dense_weights(proxy):
    """Rows of the question over all passages, by torch's attention to their keys end to end."""
    prompts, kept, _ = kept_passages(proxy)
    opening, question = proxy.opening_kv(), prompts[0].question
    past = tuple(
        KVLayer(
            torch.cat([own.keys, *(one[n].keys for one in kept)], 1),
            torch.cat([own.values, *(_values(one[n]) for one in kept)], 1),
        )
        for n, own in enumerate(opening[:LAYERS])
    )
    recorder = Recorder(
        frozenset(range(LAYERS)),
        [(question.first_row, len(question.ids))],
        [len(question.ids)],
        [past],
        WANT.rows,
        [question.sentence_rows],
        stop_after=LAYERS - 1,
    )
    place = opening[0].keys.shape[1] + max(len(prompt.passage.ids) for prompt in prompts)
    positions = torch.arange(place, place + len(question.ids))
    with torch.inference_mode(), use_recorder(recorder):
        proxy._runner.run(torch.tensor(question.ids), positions, attention_function(recorder))
    rows = torch.stack(recorder.weights[0])[..., opening[0].keys.shape[1] :]
    parts = torch.split(rows[..., : -len(question.ids)], [len(p.passage.ids) for p in prompts], -1)
    return [w[..., p.passage.title_tokens :] for w, p in zip(parts, prompts, strict=True)]


def _values(layer):
    """The last layer is kept without values, which no reading uses."""
    return layer.values if layer.values.shape[1] else torch.zeros_like(layer.keys)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_with_all_keys_retrieved_it_is_dense_attention(kind):
    """Without a search, and by one that may find as many keys as there are, or more."""
    proxy = versioned_proxy(kind)
    dense = dense_weights(proxy)
    tokens = reader_over(proxy)[2]
    for keys in (None, tokens, tokens + 1):
        prompts, reader, _ = reader_over(proxy, keys)
        assert_close(weights(reader, prompts, WANT), dense)


@pytest.mark.parametrize("keys", [None, 10**6])
def test_copies_of_a_passage_are_read_as_that_passage(keys):
    proxy = versioned_proxy()
    prompts, kept, find = kept_passages(proxy)
    alone = weights(CachedReader(proxy, PassageCache()), prompts)
    for prompt, layers, oracle in zip(prompts, kept, alone, strict=True):
        reader = RetrievedReader(proxy, KeptCorpus([layers] * 9, keys), find)
        assert_close(weights(reader, [prompt]), [oracle])


def test_few_keys_are_attended_to_and_the_nearer_to_all_the_nearer_to_dense():
    proxy = versioned_proxy()
    dense = torch.cat(dense_weights(proxy), -1)
    gaps = []
    for keys in (1, 8, 64, 200):
        prompts, reader, tokens = reader_over(proxy, keys)
        found = torch.cat(weights(reader, prompts, WANT), -1)
        gaps.append(float((found - dense).abs().mean()))
        assert keys < tokens
    assert gaps == sorted(gaps, reverse=True)
    assert gaps[0] > 10 * FP32


def test_the_best_keys_weigh_as_they_do_among_all():
    """Of nine copies the best third of the keys are read nearly as the passage is by itself."""
    proxy = versioned_proxy()
    prompts, kept, find = kept_passages(proxy)
    for prompt, layers in zip(prompts, kept, strict=True):
        (alone,) = weights(CachedReader(proxy, PassageCache()), [prompt])
        few = 3 * count_tokens(layers)
        (found,) = weights(RetrievedReader(proxy, KeptCorpus([layers] * 9, few), find), [prompt])
        best = alone >= alone.median(-1, keepdim=True).values
        ratio = (found[best] / alone[best]).median()
        assert 1 <= ratio < 1.5, "a weight among some of the keys is at most a little larger"


def test_a_question_runs_once_and_no_passage_does():
    proxy = versioned_proxy()
    prompts, reader, _ = reader_over(proxy, 8)
    runs, forward = [], proxy._forward
    proxy._forward = lambda sequences, *rest: runs.append(sequences) or forward(sequences, *rest)
    signals = list(reader.read(prompts, MEAN))
    assert runs == [[prompts[0].question.ids]]
    assert [one.cached_tokens for one in signals] == [len(p.passage.ids) for p in prompts]


def test_many_passages_outgrow_no_position():
    """Together they are longer than the model's context; each by itself is not."""
    proxy = versioned_proxy()
    prompts, kept, find = kept_passages(proxy)
    many = kept * 20
    reader = RetrievedReader(proxy, KeptCorpus(many, 16), find)
    assert sum(reader.kept.sizes) > proxy.context_tokens
    assert all(torch.isfinite(one).all() for one in weights(reader, prompts))


def test_coded_passages_are_read_as_they_are_kept():
    proxy = versioned_proxy()
    prompts, reader, _ = reader_over(proxy, storage="thin")
    dense = weights(reader, prompts)
    searched = reader_over(proxy, 10**6, storage="thin")[1]
    assert_close(weights(searched, prompts), dense)


class _First:
    """Finds the first keys of the text, twice as many at the larger effort."""

    efforts = (1, 2)
    built: ClassVar[list[tuple[torch.Tensor, torch.Tensor]]] = []

    def __init__(self, keys, train):
        self.built.append((keys, train))

    def search(self, queries, k, effort):
        ids = torch.arange(k).expand(len(queries), -1)
        return type("Hits", (), {"ids": ids.where(ids < 2 * effort, -1)})


@pytest.mark.parametrize(("effort", "keys"), [(0.0, 2), (1.0, 4)])
def test_any_selector_finds_the_keys_and_is_built_once_a_layer_and_key_head(effort, keys):
    proxy = versioned_proxy()
    _First.built.clear()
    prompts, reader, tokens = reader_over(proxy, 6, build=_First, effort=effort)
    found = weights(reader, prompts)
    assert_close(weights(reader, prompts), found)
    assert len(_First.built) == LAYERS * proxy.config.num_key_value_heads
    assert {len(own) for own, _ in _First.built} == {tokens}
    _, kept, find = kept_passages(proxy)
    first = [[KVLayer(one.keys[:, :keys], one.values[:, :keys]) for one in kept[0]]]
    alone = RetrievedReader(proxy, KeptCorpus(first, average=False), find)
    alone.kept.sizes = reader.kept.sizes  # the question stays where it was
    assert_close(found, weights(alone, prompts))


def test_what_cannot_be_read_is_refused():
    proxy = versioned_proxy()
    prompts, reader, _ = reader_over(proxy)
    with pytest.raises(BadInput, match="no passage is kept"):
        RetrievedReader(proxy, KeptCorpus([]), lambda prompt: ())
    with pytest.raises(BadInput, match="template chatml and a method asks for plain"):
        reader.with_template(TEMPLATES["plain"])
    assert reader.with_template(proxy.layout.template) is reader
    with pytest.raises(BadInput, match="layer 7 is wanted"):
        list(reader.read(prompts, Want((7,))))
    with pytest.raises(UnknownMethod, match="no selector 'nearest'; there are: exact"):
        find_selector("nearest")
    sliding, gemma, _ = reader_over(versioned_proxy("gemma3"))
    with pytest.raises(ProxyUnsupported, match="read them one by one"):
        list(gemma.read(sliding, MEAN))
