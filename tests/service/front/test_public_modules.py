"""`tamis.langchain`, `tamis.llamaindex` and `tamis.client` export what the integrations define."""

from __future__ import annotations

import sys
from importlib import import_module

import pytest

from tamis.probes.errors import MissingExtra


@pytest.mark.parametrize("name", ["client", "langchain", "llamaindex"])
def test_a_public_module_exports_the_same_objects(name: str):
    public = import_module(f"tamis.{name}")
    origin = import_module(f"tamis.service.integrations.{name}")
    assert public.__all__ == origin.__all__
    for exported in public.__all__:
        assert getattr(public, exported) is getattr(origin, exported)


@pytest.mark.parametrize("name", ["TamisToolChoice", "TamisToolEdit", "TamisToolMiddleware"])
def test_without_langchain_what_is_for_its_agents_names_the_extra(name: str, monkeypatch):
    """And all else of `tamis.langchain` needs langchain-core alone."""
    monkeypatch.setitem(sys.modules, "langchain.agents.middleware", None)
    monkeypatch.delitem(sys.modules, "tamis.service.integrations.langchain_agents", raising=False)
    with pytest.raises(MissingExtra, match=r"tamis\[agents\]"):
        getattr(import_module("tamis.langchain"), name)
