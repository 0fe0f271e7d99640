"""`tamis.compress`: models are loaded when they are asked, once, and from where one says."""

from __future__ import annotations

import asyncio
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import tamis
from tamis.compressors.features.words import WORD_FEATURES
from tamis.probes.errors import (
    BadInput,
    BadModelFile,
    ProbeMismatch,
    ProxyMissing,
    UnknownMethod,
    UnknownTokenizer,
)
from tamis.probes.hub import zoo
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.tokens import TextTokenizer
from tamis.service.api import compress, lazy_method
from tamis.service.api.compress import counter_of
from tamis.service.api.model_pool import Built
from tests.laws.methods import ScriptedEncoder, question_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.scripted import ScriptedReader

PIN = "The pin is in the barn."
TEXTS = [f"Hay lies here. {PIN} More hay there.", "Nothing to see. Just more hay."]
ASKED = "Where is the pin?"


@pytest.fixture
def folder(tmp_path):
    return tiny.save("llama", tmp_path / "llama")


@pytest.fixture
def built(monkeypatch):
    """What was built, in order; the cache of compressors is empty before."""
    names, find_class = [], lazy_method.method_class

    def slow(name):
        names.append(name)
        time.sleep(0.02)  # long enough for other threads to call meanwhile
        return find_class(name)

    monkeypatch.setattr(compress, "_built", Built("compressors"))
    monkeypatch.setattr(lazy_method, "method_class", slow)
    return names


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "Path"])
def test_a_proxy_may_be_a_folder_and_is_loaded_only_when_it_is_asked(folder, built, kind):
    whole = tamis.compress(ASKED, TEXTS, max_tokens=10_000, proxy=kind(folder))
    assert (whole.status, whole.tokenizer, built) == ("passthrough", folder.name, [])
    for _ in range(2):
        short = tamis.compress(ASKED, TEXTS, max_tokens=40, proxy=kind(folder))
        assert short.tokens_out <= 40
        assert short.windows == 2
    assert built == ["question_rows"]


def test_threads_that_ask_at_once_load_one_model(built):
    reader = ScriptedReader.from_needles(PIN)
    late = lazy_method.LazyMethod("question_rows", reader)
    compressor = compress.Compressor(late, "question_rows", reader.layout.tokenizer)

    def ask(_: int) -> str:
        return compressor.compress(ASKED, TEXTS, tamis.Budget(max_tokens=30)).text

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(16))) == {PIN}
    assert built == ["question_rows"]


def test_a_probe_may_be_given_by_its_path_and_must_be_for_the_proxy(tmp_path, built):
    reader = ScriptedReader.from_needles(PIN)
    question_probe(reader).save(tmp_path / "mine.safetensors")
    for path in (tmp_path / "mine.safetensors", str(tmp_path / "mine.safetensors")):
        out = tamis.compress(ASKED, TEXTS, threshold=0.0, proxy=reader, probe=path)
        assert len(out.kept) == len(out.scores) == 5
        other = ScriptedReader.from_needles(PIN, name="other")
        with pytest.raises(ProbeMismatch, match="model scripted"):
            tamis.compress(ASKED, TEXTS, max_tokens=30, proxy=other, probe=path)
    with pytest.raises(BadModelFile, match=r"none\.json"):
        tamis.compress(ASKED, TEXTS, max_tokens=30, proxy=reader, probe=tmp_path / "none")


def test_a_probe_says_how_deep_a_folder_is_loaded(folder, tmp_path, built):
    made = tiny.Proxy.from_folder(folder)
    probe = question_probe(made)
    card = replace(probe.card, layers=2)
    size = 2 * 2 * made.card.heads + len(WORD_FEATURES)
    weights = {
        **probe.weights,
        "first": probe.weights["first"][-size:],
        "single": probe.weights["single"][-size:],
        "alone": probe.weights["alone"][-(2 * 2 * made.card.heads + 1) :],
    }
    LinearProbe(weights, card).save(tmp_path / "flat.safetensors")
    tamis.compress(ASKED, TEXTS, max_tokens=40, proxy=folder, probe=tmp_path / "flat.safetensors")
    ((_, compressor),) = compress._built._named._entries.values()
    assert compressor.scorer._method.reader.depth == 2


def test_two_probes_of_one_proxy_are_not_taken_for_each_other(built):
    reader = ScriptedReader.from_needles(PIN)
    found = [
        tamis.compress(
            ASKED, TEXTS, max_tokens=30, proxy=reader, probe=question_probe(reader, seed)
        )
        for seed in (0, 1)
    ]
    assert found[0].scores != found[1].scores


def test_root_is_where_models_are_searched(tmp_path, built):
    """The tokenizer that counts, and the model that reads: what fits needs the first alone."""
    words = TextTokenizer(tiny.tokenizer(), "tiny")
    for how in ({"max_tokens": 10_000}, {"max_tokens": 9, "tokenizer": words}):
        with pytest.raises(ProxyMissing, match=re.escape(str(tmp_path))):
            tamis.compress(ASKED, TEXTS, root=tmp_path, **how)


def test_wrong_names_and_options_are_refused_even_where_all_would_fit(built):
    reader = ScriptedReader.from_needles(PIN)
    for wrong, error in (
        ({"method": "lexicl"}, UnknownMethod),
        ({"method": "edges"}, BadInput),
        ({"colour": 1}, BadInput),
        ({"tokenizer": "gpt-9"}, UnknownTokenizer),
        ({"tokenizer": "g" * 5000}, UnknownTokenizer),
        ({"history": 5}, BadInput),
    ):
        with pytest.raises(error):
            tamis.compress(ASKED, TEXTS, max_tokens=10_000, proxy=reader, **wrong)


def test_an_encoder_may_be_given(built):
    counter = TextTokenizer(tiny.tokenizer(), "tiny")
    how = {"method": "embedding", "encoder": ScriptedEncoder(), "tokenizer": counter}
    assert PIN in tamis.compress(PIN, TEXTS, max_tokens=60, **how).text


def test_the_asynchronous_call_gives_the_same(built):
    reader = ScriptedReader.from_needles(PIN)
    how = {"max_tokens": 30, "proxy": reader}
    out = asyncio.run(tamis.acompress(ASKED, TEXTS, **how))
    assert out.text == tamis.compress(ASKED, TEXTS, **how).text == PIN


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
@pytest.mark.parametrize("name", ["smollm2-135m", "smollm2-135m-sharp"])
def test_a_tokenizer_is_called_the_same_before_and_after_its_proxy_is_loaded(name):
    """A service has loaded its proxy, the command line need not: both say what counted."""
    loaded = zoo.load_proxy(name, layers=1)
    assert counter_of("proxy", name).name == loaded.layout.tokenizer.name == "smollm2-135m"
    folder = zoo.model_folder(name)
    loaded = zoo.load_proxy(folder, layers=1)
    assert counter_of("proxy", folder).name == loaded.layout.tokenizer.name == "smollm2-135m"
