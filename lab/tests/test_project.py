"""The lab's package: everything on disk is in it, and tamis knows what it is asked for."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tamis.compressors.registry import LAB_METHODS, METHODS, method_class, method_names
from tamis.probes import pooling
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.retrieved import KeptCorpus, RetrievedReader, find_selector
from tamis.probes.model.query_states import question_states
from tamis.probes.pooling import POOLINGS, Pooling
from tamis.service.api.ask_context import check_reading
from tamis_lab.methods.registry import SELECTORS
from tests.import_graph import lab_files
from tests.probes.kv_cache.cache_kit import versioned_proxy, weights
from tests.probes.kv_cache.test_retrieved import kept_passages
from tests.probes.tiny import KV_HEADS, LAYERS

LAB = Path(__file__).parents[1]
PROJECT = tomllib.loads((LAB / "pyproject.toml").read_text("utf-8"))
POINTS = PROJECT["project"]["entry-points"]


def test_every_package_on_disk_is_listed():
    on_disk = {path.parent for path in lab_files() if path.name == "__init__.py"}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert {
        LAB / name.replace(".", "/").removeprefix("tamis_lab").lstrip("/") for name in listed
    } == (on_disk)
    assert {path.parent for path in lab_files()} == on_disk


def test_it_has_the_version_of_tamis_and_needs_that_one():
    tamis = tomllib.loads((LAB.parent / "pyproject.toml").read_text("utf-8"))["project"]
    version = PROJECT["project"]["version"]
    assert version == tamis["version"]
    assert any(want.endswith(f"=={version}") for want in PROJECT["project"]["dependencies"])


def test_tamis_names_all_methods_and_poolings_of_the_lab_where_it_is_not_installed():
    assert set(POINTS["tamis.methods"]) == set(LAB_METHODS) == set(METHODS._elsewhere)
    assert set(POINTS["tamis.poolings"]) == set(POOLINGS._elsewhere)
    assert pooling.DEFAULT_POOLING in POOLINGS.own_names()


@pytest.mark.parametrize("name", LAB_METHODS)
def test_a_method_is_found_with_its_paper(name: str):
    assert name in method_names(None)
    assert METHODS.package_of(name) == "tamis-lab"
    assert METHODS.info(name) == method_class(name).info
    assert METHODS.info(name).source


@pytest.mark.parametrize("name", POINTS["tamis.poolings"])
def test_a_pooling_is_found(name: str):
    assert issubclass(POOLINGS.load(name), Pooling)


def test_tamis_finds_every_selector_of_the_keys_of_one_head():
    single = {name for name in SELECTORS.names() if not SELECTORS.info(name).needs}
    assert {"exact", *POINTS["tamis.selectors"]} == single


@pytest.mark.parametrize("name", POINTS["tamis.selectors"])
def test_a_search_for_some_of_the_keys_needs_their_number(name: str):
    with pytest.raises(BadInput, match="finds some of the keys; say how many, by keys"):
        check_reading("retrieved", name, None)
    check_reading("retrieved", name, 5)


@pytest.mark.parametrize("name", POINTS["tamis.selectors"])
def test_a_reading_of_retrieved_keys_takes_any_of_them(name: str):
    """With the largest effort most find all that an exact search does, and no one much else."""
    proxy = versioned_proxy()
    prompts, kept, find = kept_passages(proxy)
    states = next(question_states(proxy, [prompts[0].question], range(LAYERS), 64))

    def train(layer: int) -> Tensor:
        return states[layer].reshape(KV_HEADS, -1, states.shape[-1])

    corpora = [
        KeptCorpus(kept),
        KeptCorpus(kept, 12),
        KeptCorpus(kept, 12, find_selector(name), train, effort=1.0),
    ]
    dense, exact, found = (
        torch.cat(weights(RetrievedReader(proxy, corpus, find), prompts), -1) for corpus in corpora
    )
    assert torch.isfinite(found).all()
    assert (found - exact).abs().mean() < 0.7 * (dense - exact).abs().mean()
