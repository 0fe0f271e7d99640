"""Keys and queries of a proxy: tiny models for the paths, the real one for what it finds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tamis.probes.errors import BadIndex, ProbeMismatch
from tamis.probes.hub.zoo import load_proxy
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.keys import encoder as module
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.keys.late_interaction import SCALE
from tamis.retrieval.keys.recipe import KeyRecipe, shipped_recipe
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.text.types import CorpusDocument
from tests.probes import tiny
from tests.probes.tiny import one_thread as one_thread
from tests.retrieval.index.corpora import make_documents

TEXTS = ["The quay of Malo was closed.", "", "Bread. " * 60, "x"]
TITLES = ["Malo", None, "Bread", None]


def recipe_for(proxy, heads=((0, 1), (2, 3))) -> KeyRecipe:
    means = tuple((0.1,) * 16 for _ in heads)
    card, template = proxy.card, proxy.layout.template.name
    return KeyRecipe(card.name, card.revision, template, heads, (1.0,) * len(heads), means, means)


@pytest.fixture(scope="module")
def encoder():
    proxy = tiny.proxy("llama")
    return KeyEncoder(proxy, recipe_for(proxy))


def test_every_token_has_a_key_of_unit_length(encoder):
    tokens = encoder.proxy.layout.tokenizer
    for text, title, keys in zip(TEXTS, TITLES, encoder.encode_chunks(TEXTS, TITLES), strict=True):
        assert keys.dtype == np.int8
        assert len(keys) == tokens.count(text) + (tokens.count(f"{title}\n") if title else 0)
        lengths = np.linalg.norm(keys.reshape(len(keys), 2, 16) / SCALE, axis=-1)
        assert lengths == pytest.approx(1, abs=0.02)


def test_keys_do_not_depend_on_what_else_is_read(encoder):
    together = list(encoder.encode_chunks(TEXTS, TITLES))
    for text, title, keys in zip(TEXTS, TITLES, together, strict=True):
        (alone,) = encoder.encode_chunks([text], [title])
        assert np.abs(alone.astype(int) - keys).max(initial=0) <= 1  # rounding to a 127th


def test_a_long_text_is_read_in_windows_and_none_of_it_is_left_out(encoder, monkeypatch):
    (whole,) = encoder.encode_chunks(TEXTS[2:3], [None])
    monkeypatch.setattr(module, "WINDOW_TOKENS", 50)
    (parts,) = encoder.encode_chunks(TEXTS[2:3], [None])
    assert len(parts) == len(whole) > 150
    assert np.abs(parts[:50].astype(int) - whole[:50]).max() <= 1


def test_a_question_has_one_query_for_each_of_its_tokens(encoder):
    question = "When was it closed?"
    queries = encoder.encode_question(question)
    assert queries.shape == (encoder.proxy.layout.tokenizer.count(f" {question}"), 32)
    doubled = KeyEncoder(encoder.proxy, replace(encoder.recipe, weights=(2.0, 1.0)))
    assert doubled.encode_question(question)[:, :16] == pytest.approx(2 * queries[:, :16], abs=1e-4)


def test_queries_of_the_first_layer_are_centred_projections_wherever_they_stand(encoder):
    question, proxy = "When was it closed?", encoder.proxy
    ids = proxy.layout.tokenizer.encode(f" {question}").ids
    layer = proxy.model.layers[0]
    with torch.inference_mode():
        embedded = layer.input_layernorm(proxy.model.embed_tokens(torch.tensor([ids])))
        states = layer.self_attn.q_proj(embedded)[0].view(len(ids), tiny.HEADS, -1)[:, 1]
    expected = states * layer.self_attn.scaling - 0.1
    assert encoder.encode_question(question)[:, :16] == pytest.approx(expected.numpy(), abs=1e-4)


def test_another_model_is_refused():
    proxy = tiny.proxy("llama")
    with pytest.raises(ProbeMismatch, match="load that one"):
        KeyEncoder(proxy, replace(recipe_for(proxy), revision="other"))


@pytest.mark.parametrize("damage", [{"heads": []}, {"weights": [1.0]}, {"extra": 1}, {"heads": 3}])
def test_a_recipe_that_does_not_hold_together_is_refused(damage):
    body = recipe_for(tiny.proxy("llama")).as_json() | damage
    with pytest.raises(BadIndex, match="recipe"):
        KeyRecipe.from_json(body)


def test_keys_are_the_same_after_merging_as_when_they_were_read(tmp_path, encoder):
    documents, home = make_documents(12), tmp_path / "i"
    body = KeyRecipe.from_json(encoder.recipe.as_json()).as_json()
    models = ChunkModels(encoder)
    with create_index(home, IndexSettings(keys=as_lists(body)), models) as writer:
        for document in documents:
            writer.put([document])
        writer.put([])
        writer.finish()
    with open_writer(home, models) as writer:
        writer.delete(["d3"])
        writer.compact()
    index = CorpusIndex.open(home, proxy=encoder.proxy)
    found = {hit.id: hit.scores["keys"] for hit in index.search("word1 word2", 50)}
    assert len(found) == 11
    with create_index(tmp_path / "fresh", IndexSettings(keys=as_lists(body)), models) as writer:
        writer.put([document for document in documents if document.id != "d3"])
        writer.finish()
    fresh = CorpusIndex.open(tmp_path / "fresh", proxy=encoder.proxy).search("word1 word2", 50)
    assert found == pytest.approx({hit.id: hit.scores["keys"] for hit in fresh}, abs=0.05)


def test_a_batch_without_any_text_leaves_the_index_searchable(tmp_path, encoder):
    """A blank document has no chunk; the keys of the others stay where they are."""
    body = as_lists(KeyRecipe.from_json(encoder.recipe.as_json()).as_json())
    models, home = ChunkModels(encoder), tmp_path / "i"
    with create_index(home, IndexSettings(keys=body), models) as writer:
        writer.put(make_documents(3))
        writer.finish()
    before = CorpusIndex.open(home, proxy=encoder.proxy).search("word1 word2", 9)
    with open_writer(home, models) as writer:
        writer.put([CorpusDocument("blank", " \n ")])
    after = CorpusIndex.open(home, proxy=encoder.proxy).search("word1 word2", 9)
    assert [(hit.id, hit.scores) for hit in after] == [(hit.id, hit.scores) for hit in before]


def as_lists(value):
    if isinstance(value, dict):
        return {key: as_lists(of) for key, of in value.items()}
    return [as_lists(of) for of in value] if isinstance(value, tuple) else value


FACTS = {
    "malo": "The old harbour of Malo was shut to all ships in the spring of 1907.",
    "bread": "A loaf of rye bread cost two pennies at the market in those days.",
    "trains": "Steam engines were retired from the northern railway after the war.",
    "bees": "A queen bee lays up to two thousand eggs a day in early summer.",
    "glass": "Window glass was made by blowing a cylinder and cutting it open.",
    "salt": "Salt was taxed so heavily that smuggling it became a trade.",
    "whales": "Sperm whales dive for more than an hour to hunt giant squid.",
    "ink": "Iron gall ink darkens on the page and slowly eats the paper.",
}
QUESTIONS = {
    "When did the port of Malo close?": "malo",
    "How much did people pay for bread?": "bread",
    "What replaced locomotives that burn coal?": "trains",
    "How many offspring can an insect have per day?": "bees",
    "Why did people smuggle a seasoning?": "salt",
    "How long can a whale hold its breath?": "whales",
}


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_the_shipped_recipe_finds_what_shares_no_word_with_the_question(tmp_path):
    recipe = shipped_recipe("smollm2-135m")
    encoder = KeyEncoder(load_proxy("smollm2-135m", layers=recipe.layers[-1] + 1), recipe)
    documents = [CorpusDocument(name, text) for name, text in FACTS.items()]
    with create_index(
        tmp_path / "i", IndexSettings(keys=as_lists(recipe.as_json())), ChunkModels(encoder)
    ) as w:
        w.put(documents)
        w.finish()
    index = CorpusIndex.open(tmp_path / "i", proxy=encoder.proxy)
    first = {q: index.search(q, 1, by=["keys"])[0].doc for q in QUESTIONS}
    assert sum(first[q] == doc for q, doc in QUESTIONS.items()) >= 5, first
