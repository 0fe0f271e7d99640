"""`open_index(engine="ray")`: a segment an actor, the same hits as one process finds."""

from __future__ import annotations

import numpy as np
import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.approximate import segment_search
from tamis.retrieval.index import legs
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tests.probes import tiny
from tests.retrieval.index.corpora import make_documents
from tests.retrieval.keys.test_encoder import as_lists, recipe_for

ray = pytest.importorskip("ray")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
QUESTION = "word1 word2 word3"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An index of two segments, one with a graph and one without."""
    monkeypatch.setattr(segment_search, "AUTO_KEYS", 400)
    monkeypatch.setattr(legs, "REFERENCE_CHUNKS", 24)
    monkeypatch.setattr(legs, "FEW_KEYS", 50)
    proxy = tiny.proxy("llama")
    models = ChunkModels(KeyEncoder(proxy, recipe_for(proxy)), None, ["word1 word2?"])
    settings = IndexSettings(keys=as_lists(models.keys.recipe.as_json()))
    with create_index(tmp_path / "i", settings, models) as writer:
        for part in np.array_split(np.array(make_documents(90), dtype=object), 2):
            writer.put(list(part))
        writer.finish()
    with open_writer(tmp_path / "i", models) as writer:
        writer.put(make_documents(120, seed=3)[90:])
    yield tmp_path / "i", proxy
    ray.shutdown()


def test_actors_find_what_one_process_finds(home):
    folder, proxy = home
    local = CorpusIndex.open(folder, proxy=proxy)
    spread = CorpusIndex.open(folder, proxy=proxy, engine="ray")
    assert local.stats()["searches"] == {"graph": 1, "exact": 1}
    for how in ("exact", "auto"):
        for where in (None, {"i": {">=": 60}}):
            wanted = local.search(QUESTION, 12, where, search=how)
            found = spread.search(QUESTION, 12, where, search=how)
            assert [hit.id for hit in found] == [hit.id for hit in wanted]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in wanted])
            assert found.keys_read == wanted.keys_read


def test_a_segment_that_actors_cannot_read_is_named(home):
    folder, proxy = home
    spread = CorpusIndex.open(folder, proxy=proxy, engine="ray")
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(BadInput, match="under the same path"):
        spread.search(QUESTION, 3, search="exact")
