"""Methods with a template of their own: what depends on the template alone is made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer

from tamis.compressors.methods.sentinel import sentinel_template
from tamis.compressors.reading.windows import with_cache
from tamis.probes import prompt as prompt_module
from tamis.probes.kv_cache import cache as cache_module
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Template
from tamis.service.batch.row_compressor import PooledReader
from tamis.service.engine.engine import Engine, EngineBounds
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here
from tests.service.engine.test_engine import WANT, prompts

BATCHES = 12


class Counts:
    """Copies of a tokenizer, forward passes over an opening, and hashes of what a proxy is."""

    def __init__(self, monkeypatch) -> None:
        self.clones = self.openings = self.fingerprints = 0
        run, fingerprint, counts = Proxy._run, cache_module.fingerprint, self

        class Counted:
            @staticmethod
            def from_str(text):
                counts.clones += 1
                return Tokenizer.from_str(text)

        def counted_run(proxy, sequences, spans, past, *rest, **options):
            counts.openings += past is None
            return run(proxy, sequences, spans, past, *rest, **options)

        def counted_fingerprint(*given):
            counts.fingerprints += 1
            return fingerprint(*given)

        monkeypatch.setattr(prompt_module, "Tokenizer", Counted)
        monkeypatch.setattr(Proxy, "_run", counted_run)
        monkeypatch.setattr(cache_module, "fingerprint", counted_fingerprint)

    def all(self) -> tuple[int, int, int]:
        return self.clones, self.openings, self.fingerprints


def engine_reads(proxy, template, texts):
    """The engine's model thread gets the template with each prompt."""
    engine = Engine(lambda: proxy, EngineBounds(batch_tokens=4096))
    reader = engine.start().with_template(template)
    for text in texts:
        request = engine.admit(10)
        with request.as_current():
            yield from reader.read(prompts(reader, text), WANT)
        engine.release(request)
    engine.drain(5)


def rows_read(proxy, template, texts):
    """Rows of a batch that make their method anew."""
    pooled = PooledReader(proxy)

    def row(text):
        reader = pooled.with_template(template)
        return list(reader.read(prompts(reader, text), WANT))

    for text in texts:
        for signals in pooled.run_together([lambda text=text: row(text)]):
            yield from signals


@pytest.mark.parametrize("cached", [False, True], ids=["plain", "cached"])
@pytest.mark.parametrize("read", [engine_reads, rows_read])
def test_of_many_batches_the_first_alone_copies_tokenizers_and_reads_openings(
    read, cached, monkeypatch
):
    proxy = tiny.proxy()
    template = sentinel_template(proxy.layout.template)
    assert template != proxy.layout.template
    texts = [f"{i} the cat sat. a bat." for i in range(BATCHES)]
    alone = proxy.with_template(template)
    plain = [s for text in texts for s in alone.read(prompts(alone, text), WANT)]
    counts, fresh = Counts(monkeypatch), tiny.proxy()
    reader, seen = with_cache(fresh, PassageCache() if cached else None), []
    for signal, expected in zip(read(reader, template, texts), plain, strict=True):
        torch.testing.assert_close(signal.weights, expected.weights, atol=1e-5, rtol=1e-4)
        seen.append(counts.all())
    assert seen[0] == seen[-1]
    assert counts.openings == 1


def test_templates_that_are_kept_are_bounded():
    proxy = tiny.proxy()
    for i in range(100):
        template = Template("same name", f"Opening {i}:\n", "\nQ:", "\nA:")
        assert proxy.with_template(template).layout.template == template
    assert proxy._twins.total_cost <= 16
    assert proxy.layout._others.total_cost <= 16


def test_a_twin_is_of_the_proxy_as_it_is_now():
    """Adapters are merged into a proxy in place: what an earlier twin kept is of other weights."""
    proxy, template = tiny.proxy(), sentinel_template(tiny.proxy().layout.template)
    before = proxy.with_template(template)
    kept = before.opening_kv()
    proxy.card = replace(proxy.card, revision="r2")
    proxy.forget_weights()
    after = proxy.with_template(template)
    assert after is not before
    assert after.card is proxy.card
    assert after.opening_kv() is not kept


def test_templates_of_one_name_are_not_read_together():
    """Words of in-context forms may differ under one name."""
    proxy = tiny.proxy()
    engine = Engine(tiny.proxy, EngineBounds(batch_tokens=4096))
    reader = engine.start()
    templates = [Template("mine", f"{word}:\n", "\nQ:", "\nA:") for word in ("the cat", "a bat")]

    def ask(template):
        own, request = reader.with_template(template), engine.admit(10)
        try:
            with request.as_current():
                return next(iter(own.read(prompts(own, "the hat in."), WANT))).weights
        finally:
            engine.release(request)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, templates * 8))
    for template, weights in zip(templates * 8, found, strict=True):
        own = proxy.with_template(template)
        (alone,) = own.read(prompts(own, "the hat in."), WANT)
        torch.testing.assert_close(weights, alone.weights, atol=1e-5, rtol=1e-4)
    engine.drain(5)
