"""A place to run batches in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.batch.kit import Free


@pytest.fixture
def free(tmp_path: Path) -> Free:
    """Batches that need no model."""
    return Free(tmp_path)
