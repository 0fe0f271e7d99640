"""A model of a few bytes in the zoo, for the tests of how models come and go."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.probes.hub import zoo
from tests.probes.hub import fake_wheel


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pinned wheel of a few bytes, in the zoo as `fake`."""
    entry, path = fake_wheel.build(tmp_path / "wheels")
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    return path
