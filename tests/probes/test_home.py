"""Where tamis keeps things: the user's cache, or wherever whoever is asked says."""

from __future__ import annotations

from pathlib import Path

import platformdirs
import pytest

from tamis.probes import home, zoo


@pytest.fixture
def told(monkeypatch):
    """Who is asked, for one test."""
    monkeypatch.setattr(home, "_named", None)
    return home.ask


def test_it_is_the_users_cache_unless_somebody_names_another_each_time(told):
    users = platformdirs.user_cache_path("tamis")
    assert home.cache_home() == users
    answers = iter([Path("a"), Path("b"), None])
    told(lambda: next(answers))
    assert [home.cache_home() for _ in range(3)] == [Path("a"), Path("b"), users]
    told(None)
    assert home.cache_home() == users


def test_models_lie_in_it(told):
    told(lambda: Path("named"))
    assert zoo.models_root() == Path("named") / "models"
    assert zoo.models_root(Path("given")) == Path("given")
