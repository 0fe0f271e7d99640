"""`tamis.langchain`, `tamis.llamaindex` and `tamis.client` export what the integrations define."""

from __future__ import annotations

from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["client", "langchain", "llamaindex"])
def test_a_public_module_exports_the_same_objects(name: str):
    public = import_module(f"tamis.{name}")
    origin = import_module(f"tamis.service.integrations.{name}")
    assert public.__all__ == origin.__all__
    for exported in public.__all__:
        assert getattr(public, exported) is getattr(origin, exported)
