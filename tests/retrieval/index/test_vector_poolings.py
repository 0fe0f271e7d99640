"""Vectors of an index by another pooling of the encoder's states."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis.probes.model import encoder as encoders
from tamis.probes.pooling import POOLINGS
from tamis.retrieval.index.models import QuestionModels, load_encoder
from tamis.service.api.index import index_settings


class NamedEncoder:
    """Notes which folder it was loaded from and which pooling was asked for."""

    def __init__(self, folder, pooling="mean"):
        self.folder, self.pooling = Path(folder), pooling

    @classmethod
    def from_folder(cls, folder, device="auto"):
        return cls(folder)

    def with_pooling(self, name):
        return NamedEncoder(self.folder, name)


@pytest.fixture(autouse=True)
def no_model(monkeypatch):
    monkeypatch.setattr(encoders, "Encoder", NamedEncoder)


def test_every_pooling_can_be_named_and_the_mean_needs_no_name():
    for name in POOLINGS.names():
        due = "minilm-l6" + ("" if name == "mean" else f":{name}")
        assert index_settings(model=False, vectors=f"minilm:{name}").vectors == due
    assert index_settings(model=False, vectors="minilm").vectors == "minilm-l6"


def test_unknown_vectors_and_poolings_are_refused():
    with pytest.raises(BadInput, match="no vectors 'glove'"):
        index_settings(model=False, vectors="glove")
    with pytest.raises(BadInput, match="there are: all_layers"):
        index_settings(model=False, vectors="minilm:median")


def test_chunks_and_questions_are_encoded_with_the_pooling_of_the_manifest(tmp_path):
    assert load_encoder("minilm-l6:ditto", None, tmp_path).pooling == "ditto"
    models = QuestionModels(None, tmp_path, None)
    assert models.encoder("minilm-l6:last").pooling == "last"
    assert QuestionModels(None, str(tmp_path), None).encoder("minilm-l6").pooling == "mean"
    assert models.encoder("minilm-l6:last").folder == tmp_path
