"""A service whose method gives probabilities without a model, as another package's method would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.plugin_kit import forget_plugins, install_package
from tests.service.http.app_kit import Running, served

_CODE = """
from tamis.compressors.features.bm25 import visible_texts
from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.types import Scores
from tamis.text.terms import words


class Shares(ScoringMethod):
    info = MethodInfo("the share of the question's words that a sentence has", "a test")

    def scores(self, question, passages, units):
        asked = set(words(question))
        texts = visible_texts(passages, units)
        values = [len(asked & set(words(text))) / max(1, len(asked)) for text in texts]
        best = best_unit_scores(values, units, len(passages))
        return Scores(tuple(values), best, calibrated=True)
"""


@contextmanager
def served_by_shares() -> Iterator[Running]:
    """A service by the share of the question's words that a sentence has."""
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        entries = {"tamis.methods": {"shares": "tamis_shares:Shares"}}
        install_package(Path(folder), patch, "tamis-shares", _CODE, entries)
        try:
            with served(method="shares") as running:
                yield running
        finally:
            forget_plugins()
