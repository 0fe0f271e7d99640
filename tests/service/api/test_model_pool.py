"""Weights are in memory once, whoever asks, and only as long as somebody does."""

from __future__ import annotations

import gc
import shutil

import pytest

from tamis.compressors import registry
from tamis.service.api import compress
from tamis.service.api.lazy_method import LazyMethod
from tamis.service.api.model_pool import _proxies, shared_proxy

pytestmark = pytest.mark.model
QUESTION, TEXTS = "Where is the key?", ["The key is in the drawer. The wall is blue. Rain falls."]


@pytest.fixture
def folder(proxy_folder, tmp_path):
    """A folder of its own: what other tests hold plays no part."""
    return shutil.copytree(proxy_folder, tmp_path / "proxy")


def loaded_from(folder):
    gc.collect()
    return [depth for name, _, depth in _proxies if name == str(folder)]


def test_compressing_ranking_and_options_share_one_proxy(folder):
    late = [
        LazyMethod("infiniretri", folder, heads=0),
        LazyMethod("infiniretri", folder, heads=0, window_tokens=400),
        LazyMethod("infiniretri", folder, heads=0, use="reranking"),
    ]
    held = [one.load() for one in late]
    assert len(held) == 3
    assert loaded_from(folder) == [30]
    assert shared_proxy(folder, 12) is shared_proxy(folder, None)  # a deeper one reads the same
    del late, held
    assert loaded_from(folder) == []


def test_a_shallow_one_does_not_serve_who_reads_deeper(folder):
    few = shared_proxy(folder, 4)
    assert shared_proxy(folder, 3) is few
    assert shared_proxy(folder, 5) is not few
    assert shared_proxy(few, None) is few


def test_a_deeper_proxy_scores_the_same():
    layers = registry.layers_needed("question_rows", "smollm2-135m")
    found = []
    for depth in (layers, None):
        proxy = registry.load_proxy("smollm2-135m", depth)
        found.append(compress.compress(QUESTION, TEXTS, max_tokens=8, proxy=proxy).scores)
    assert found[0] == found[1]
