"""The cache folder is the user's, or the one that the home source names."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from tamis.probes.hub import cache_dir, zoo


@pytest.fixture
def home_source(monkeypatch):
    """Sets the home source for one test."""
    monkeypatch.setattr(cache_dir, "_home_source", None)
    return cache_dir.set_home_source


def test_the_cache_folder_is_the_users_unless_the_source_names_another(home_source):
    users = platformdirs.user_cache_path("tamis")
    assert cache_dir.cache_home() == users
    answers = iter([Path("a"), Path("b"), None])
    home_source(lambda: next(answers))
    assert [cache_dir.cache_home() for _ in range(3)] == [Path("a"), Path("b"), users]
    home_source(None)
    assert cache_dir.cache_home() == users


def test_models_are_in_the_cache_folder(home_source):
    home_source(lambda: Path("named"))
    assert zoo.models_root() == Path("named") / "models"
    assert zoo.models_root(Path("given")) == Path("given")
