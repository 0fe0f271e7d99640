"""Where tamis keeps things: the user's cache, or wherever whoever is asked says."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from tamis.probes.hub import cache_dir, zoo


@pytest.fixture
def told(monkeypatch):
    """Who is asked, for one test."""
    monkeypatch.setattr(cache_dir, "_home_source", None)
    return cache_dir.set_home_source


def test_it_is_the_users_cache_unless_somebody_names_another_each_time(told):
    users = platformdirs.user_cache_path("tamis")
    assert cache_dir.cache_home() == users
    answers = iter([Path("a"), Path("b"), None])
    told(lambda: next(answers))
    assert [cache_dir.cache_home() for _ in range(3)] == [Path("a"), Path("b"), users]
    told(None)
    assert cache_dir.cache_home() == users


def test_models_lie_in_it(told):
    told(lambda: Path("named"))
    assert zoo.models_root() == Path("named") / "models"
    assert zoo.models_root(Path("given")) == Path("given")
