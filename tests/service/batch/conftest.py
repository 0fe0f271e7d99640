"""A place to run batches in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.batch.kit import ModelFreeBatch


@pytest.fixture
def free(tmp_path: Path) -> ModelFreeBatch:
    """Batches that need no model."""
    return ModelFreeBatch(tmp_path)
