"""What is built for a caller's choices is kept while somebody has use of it, and no longer."""

from __future__ import annotations

import gc
import weakref

import pytest

import tamis
from tamis.probes.kv_cache.cache import PassageCache
from tamis.service.api import compress, rerank
from tamis.service.api.model_pool import MAX_BUILT, Built
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

ASKED, TEXTS = (
    "Where is the pin?",
    ["Hay lies here. The pin is in the barn.", "Only hay. More hay."],
)


@pytest.fixture(autouse=True)
def nothing_built(monkeypatch):
    monkeypatch.setattr(compress, "_built", Built("compressors"))
    monkeypatch.setattr(rerank, "_built", Built("rerankers"))


@pytest.mark.parametrize("with_cache", [False, True])
def test_a_loaded_proxy_that_nobody_holds_is_freed(with_cache):
    proxy, cache = tiny.proxy(), PassageCache() if with_cache else None
    seen = weakref.ref(proxy), weakref.ref(proxy.body)
    for _ in range(2):
        tamis.compress(ASKED, TEXTS, ratio=0.5, proxy=proxy, probe=None, cache=cache)
        tamis.rerank(ASKED, TEXTS, proxy=proxy, probe=None, cache=cache)
    del proxy
    gc.collect()
    assert [ref() for ref in seen] == [None, None]


def test_a_passage_cache_that_nobody_holds_is_freed(tmp_path):
    folder, cache = tiny.save("llama", tmp_path / "llama"), PassageCache()
    seen = weakref.ref(cache)
    tamis.compress(ASKED, TEXTS, ratio=0.5, proxy=folder, probe=None, cache=cache)
    assert cache.stats().entries
    del cache
    gc.collect()
    assert seen() is None


def test_choices_are_built_once_and_bounded(tmp_path):
    folder, proxy = tiny.save("llama", tmp_path / "llama"), tiny.proxy()
    counter = compress.counter_of("proxy", folder)
    for given in (folder, proxy):
        first = compress.compressor("question_rows", given, counter, probe=None)
        assert compress.compressor("question_rows", given, counter, probe=None) is first
        other = compress.compressor("question_rows", given, counter, probe=None, gate=False)
        assert other is not first
        seen = weakref.ref(first)
        del first, other
        for n in range(MAX_BUILT):
            compress.compressor("question_rows", given, counter, probe=tmp_path / f"{n}")
        gc.collect()
        assert seen() is None


def test_tokenizers_that_count_are_bounded(tmp_path):
    first = weakref.ref(compress.counter_of("proxy", tiny.save("llama", tmp_path / "first")))
    for n in range(compress._MAX_COUNTERS):
        compress.counter_of("proxy", tiny.save("llama", tmp_path / f"{n}"))
    gc.collect()
    assert first() is None
