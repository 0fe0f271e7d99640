"""A cross-encoder's score is that of transformers with the adapters added, whatever its batch."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import normalize
from transformers import BertModel

from tamis.probes.errors import BadModelFile, ProbeMismatch
from tamis.probes.model import cross_encoder
from tamis.probes.model.cross_encoder import CrossCard, CrossEncoder, CrossWeights
from tamis.probes.model.encoder import Encoder
from tamis.probes.model.loading import folder_revision
from tests.probes.model.test_encoder import WORDS
from tests.probes.model.test_encoder import folder as folder

pytestmark = pytest.mark.usefixtures("one_thread")

QUESTION = "what does the sieve matter"
TEXTS = ["the sieve", "", "holds back what does not matter", "sieve " * 30, "zebra [SEP] sep"]
RANK, WIDE = 3, 16


@pytest.fixture(scope="module")
def weights(folder):
    torch.manual_seed(5)
    shapes = {"attention.self.query": (16, 16), "intermediate.dense": (32, 16)}
    pairs = {
        f"encoder.layer.{n}.{name}": (torch.randn(RANK, i), torch.randn(o, RANK))
        for n in (0, 1)
        for name, (o, i) in shapes.items()
    }
    head = [torch.randn(2, WIDE), torch.randn(WIDE), torch.randn(3), torch.tensor([0.7, -0.2])]
    return CrossWeights(
        pairs, *head, card=CrossCard("tiny-cross", "tiny", folder_revision(folder), RANK, 0.3)
    )


@pytest.fixture(scope="module")
def cross(folder, weights):
    return Encoder.from_folder(folder, device="cpu", dtype="fp32").cross_encoder(weights)


@pytest.fixture(autouse=True)
def short_inputs(monkeypatch):
    """The tiny model has 12 positions."""
    monkeypatch.setattr(cross_encoder, "PAIR_TOKENS", 12)
    monkeypatch.setattr(cross_encoder, "QUESTION_TOKENS", 5)


@torch.no_grad()
def oracle(folder, weights, question, texts):
    """The same score by transformers, one pair of windows after the other."""
    model = BertModel.from_pretrained(folder).eval()
    modules = dict(model.named_modules())
    for name, (a, b) in weights.pairs.items():
        modules[name].weight += weights.card.scale * b @ a
    model.embeddings.token_type_embeddings.weight.copy_(weights.segments)
    ids = {word: i for i, word in enumerate(WORDS)}

    def tokens(text):
        words = text.lower().replace("[", " [ ").replace("]", " ] ").split()
        return [ids.get(word, ids["[UNK]"]) for word in words]

    def score(asked, read):
        head = [ids["[CLS]"], *asked, ids["[SEP]"]]
        row = torch.tensor([[*head, *read, ids["[SEP]"]]])
        kinds = torch.tensor([[0] * len(head) + [1] * (row.shape[1] - len(head))])
        states = model(row, token_type_ids=kinds).last_hidden_state[0]
        q, p = states[1 : len(head)], states[len(head) :]
        cosine = normalize(q.mean(0), dim=0) @ normalize(p.mean(0), dim=0)
        late = (normalize(q, dim=1) @ normalize(p, dim=1).T).amax(1).mean()
        return weights.parts @ torch.stack([cosine, late, torch.tensor(1.0)]) + (
            states[0] @ weights.state
        )

    def windows(words, size):
        return [words[i : i + size] for i in range(0, max(len(words), 1), size)]

    found = []
    for text in texts:
        parts = [
            max(score(asked, read) for read in windows(tokens(text), 12 - len(asked) - 3))
            for asked in windows(tokens(question), 5)
        ]
        found.append(weights.calibration @ torch.stack([sum(parts) / len(parts), torch.ones(())]))
    return torch.stack(found)


@pytest.mark.parametrize("question", [QUESTION, "the", "", "the sieve holds back " * 3])
@pytest.mark.parametrize("batch_tokens", [1, 40, 4096])
def test_a_score_is_that_of_transformers(folder, weights, cross, question, batch_tokens):
    found = cross.score(question, TEXTS, batch_tokens)
    torch.testing.assert_close(found, oracle(folder, weights, question, TEXTS), rtol=0, atol=2e-4)


def test_no_text_has_no_score(cross):
    assert cross.score(QUESTION, []).tolist() == []


def test_a_text_counts_by_its_best_window(cross):
    parts = ["sieve " * 4, "matter " * 4]
    alone = cross.score(QUESTION, parts)
    assert cross.score(QUESTION, ["".join(parts)]).item() == pytest.approx(alone.max().item())


def test_weights_survive_a_file_up_to_half_precision(weights, tmp_path):
    kept = weights.save(tmp_path / "cross.safetensors")
    assert kept.card == replace(weights.card, weights_sha256=kept.card.weights_sha256)
    for name, (a, b) in weights.pairs.items():
        torch.testing.assert_close(kept.pairs[name], (a.half().float(), b.half().float()))
    torch.testing.assert_close(kept.state, weights.state)


@pytest.mark.parametrize("lost", ["state", "encoder.layer.0.intermediate.dense.b"])
def test_a_file_that_lacks_a_part_is_refused(weights, tmp_path, lost):
    from safetensors.torch import load_file, save_file

    path = tmp_path / "cross.safetensors"
    weights.save(path)
    tensors = load_file(path)
    del tensors[lost]
    save_file(tensors, path)
    facts = json.loads(path.with_suffix(".json").read_text())
    with pytest.raises(BadModelFile, match="hashes differ"):
        CrossWeights.load(path)
    facts["weights_sha256"] = cross_encoder.hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(facts))
    with pytest.raises(BadModelFile, match=lost.rpartition(".")[2]):
        CrossWeights.load(path)


def test_another_encoder_is_refused(folder, weights):
    other = replace(weights, card=replace(weights.card, revision="0" * 16))
    with pytest.raises(ProbeMismatch, match="0000000000000000"):
        CrossEncoder.from_folder(folder, other)


def test_adapters_of_another_shape_are_refused(folder, weights):
    name = next(iter(weights.pairs))
    other = replace(weights, pairs={name: (torch.ones(1, 7), torch.ones(16, 1))})
    with pytest.raises(BadModelFile, match="query"):
        CrossEncoder.from_folder(folder, other)
