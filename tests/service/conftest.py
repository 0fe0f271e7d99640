"""What the adapters are made with: fields that need no model, or one without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tamis.probes.tokens import TextTokenizer
from tests.scripted import ScriptedReader
from tests.service.cli.cli_kit import word_tokenizer
from tests.service.integrations.adapter_kit import PIN


@pytest.fixture
def words(tmp_path: Path) -> TextTokenizer:
    """A counter of words."""
    return TextTokenizer.from_file(word_tokenizer(tmp_path))


@pytest.fixture
def free(words: TextTokenizer) -> dict[str, Any]:
    """Fields with which no model is needed."""
    return {"method": "lexical", "tokenizer": words}


@pytest.fixture
def looking(words: TextTokenizer) -> dict[str, Any]:
    """Fields with a model that looks at the pin."""
    reader = ScriptedReader.from_needles(PIN)
    return {"proxy": reader, "options": {"probe": None}, "tokenizer": words}
