"""A cross-encoder reads question and passage as one input, however pairs are batched and parted."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch.nn.functional import cosine_similarity, normalize
from transformers import BertForSequenceClassification, BertModel

from tamis.probes.card_file import write_weights_and_card
from tamis.probes.errors import BadModelFile
from tamis.probes.interruption import interruptible
from tamis.probes.model import cross_encoder
from tamis.probes.model.cross_encoder import CrossEncoder, CrossEncoderCard
from tests.probes.tiny_encoder import MARKS, SIZE, write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = [*MARKS, *"the sieve holds back what does not matter".split()]
SCALE = 2.0
QUESTION = "what holds back"
TEXTS = ["the sieve", "", "what does not matter", "holds " * 90, "the zebra", "back the sieve " * 9]
CHANGED = "encoder.layer.1.attention.self.key.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), WORDS[len(MARKS) :], seed=5)


def learnt_tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(6)
    return {
        f"{CHANGED}.a": torch.randn(3, SIZE),
        f"{CHANGED}.b": torch.randn(SIZE, 3),
        "encoder.layer.0.output.dense.bias": torch.randn(SIZE),
        "embeddings.token_type_embeddings.weight": torch.randn(2, SIZE),
        "head.cosine": torch.tensor(1.5),
        "head.interaction": torch.tensor(-2.5),
        "head.first": torch.randn(SIZE),
        "head.intercept": torch.tensor(0.25),
    }


def write_adapters(path, tensors):
    data = save(tensors)
    card = CrossEncoderCard("tiny", SCALE, weights_sha256=hashlib.sha256(data).hexdigest())
    write_weights_and_card(path, data, path.with_suffix(".json"), asdict(card))
    return path


@pytest.fixture
def adapters(tmp_path):
    return write_adapters(tmp_path / "cross.tiny.safetensors", learnt_tensors())


@pytest.fixture
def cross(folder, adapters, monkeypatch):
    monkeypatch.setattr(cross_encoder, "choose_dtype", lambda *_: torch.float32)
    return CrossEncoder.from_folder(folder, adapters, "cpu")


def score_by_hand(folder, asked: list[str], read: list[str]) -> float:
    """One pair at a time, in transformers, from the formula alone."""
    learnt = learnt_tensors()
    model = BertModel.from_pretrained(folder).eval()
    weights = {name: t for name, t in learnt.items() if name.startswith(("encoder", "embeddings"))}
    change = SCALE * weights.pop(f"{CHANGED}.b") @ weights.pop(f"{CHANGED}.a")
    weights[CHANGED] = load_file(folder / "model.safetensors")[CHANGED] + change
    model.load_state_dict(weights, strict=False)
    ids = [WORDS.index(w) if w in WORDS else 1 for w in ["[CLS]", *asked, "[SEP]", *read, "[SEP]"]]
    second = [0] * (len(asked) + 2) + [1] * (len(read) + 1)
    with torch.inference_mode():
        states = model(
            input_ids=torch.tensor([ids]), token_type_ids=torch.tensor([second])
        ).last_hidden_state[0]
    question, passage = states[1 : len(asked) + 1], states[len(asked) + 2 : -1]
    if not read:  # no token: the mean is zero, and nothing is as unlike
        cosine, interaction = torch.tensor(0.0), torch.tensor(-1.0)
    else:
        cosine = cosine_similarity(question.mean(0), passage.mean(0), dim=0)
        alike = normalize(question, dim=-1) @ normalize(passage, dim=-1).T
        interaction = alike.amax(1).mean()
    total = 1.5 * cosine - 2.5 * interaction + states[0] @ learnt["head.first"] + 0.25
    return float(total)


def test_scores_are_those_of_one_pair_at_a_time_in_transformers(cross, folder):
    expected = [score_by_hand(folder, QUESTION.split(), text.split()) for text in TEXTS]
    assert cross.score(QUESTION, TEXTS).tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 30, 10_000])
def test_how_pairs_are_batched_changes_nothing(cross, monkeypatch, batch_tokens):
    expected = cross.score(QUESTION, TEXTS)
    monkeypatch.setattr(cross_encoder, "_BATCH_TOKENS", batch_tokens)
    torch.testing.assert_close(cross.score(QUESTION, TEXTS), expected, atol=1e-4, rtol=0)


def test_the_best_window_of_a_long_text_counts(cross, monkeypatch):
    monkeypatch.setattr(cross_encoder, "_WINDOW_TOKENS", 26)
    monkeypatch.setattr(cross_encoder, "_PASSAGE_TOKENS", 4)
    windows = ["the sieve " * 10, "matter " * 20, "what does not matter"]
    (whole,) = cross.score(QUESTION, [" ".join(windows)]).tolist()
    assert whole == pytest.approx(max(cross.score(QUESTION, windows).tolist()), abs=1e-4)


def test_a_long_question_is_read_to_its_end(cross, monkeypatch):
    monkeypatch.setattr(cross_encoder, "QUESTION_TOKENS", 3)
    parts = [cross.score(part, TEXTS) for part in ("what holds back", "the sieve")]
    whole = cross.score("what holds back the sieve", TEXTS)
    torch.testing.assert_close(whole, torch.stack(parts).mean(0), atol=1e-4, rtol=0)


def test_a_pair_never_has_more_tokens_than_the_model_has_positions(cross):
    assert torch.isfinite(cross.score("what holds back " * 300, ["the sieve " * 700])).all()


def test_it_ends_between_batches_where_nobody_waits(cross, monkeypatch):
    looks = []

    def look():
        looks.append(0)
        if len(looks) == 3:
            raise TimeoutError

    monkeypatch.setattr(cross_encoder, "_BATCH_TOKENS", 1)
    with interruptible(look), pytest.raises(TimeoutError):
        cross.score(QUESTION, TEXTS)
    assert len(looks) == 3


@pytest.mark.parametrize("question", ["", "zebra"])
def test_any_question_has_finite_scores(cross, question):
    assert torch.isfinite(cross.score(question, TEXTS)).all()
    assert cross.score(question, []).tolist() == []


def test_a_published_one_scores_by_its_pooler_and_classifier(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cross_encoder, "choose_dtype", lambda *_: torch.float32)
    torch.manual_seed(7)
    model = BertForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    weights = {name.removeprefix("bert."): t for name, t in model.state_dict().items()}
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(folder / name, tmp_path)
    save_file({name: t.contiguous() for name, t in weights.items()}, tmp_path / "model.safetensors")
    ids = [[WORDS.index(w) if w in WORDS else 1 for w in text.split()] for text in TEXTS]
    asked = [WORDS.index(w) for w in QUESTION.split()]
    expected = []
    for read in ids:
        with torch.inference_mode():
            found = model(
                input_ids=torch.tensor([[2, *asked, 3, *read, 3]]),
                token_type_ids=torch.tensor([[0] * (len(asked) + 2) + [1] * (len(read) + 1)]),
            )
        expected.append(float(found.logits))
    scores = CrossEncoder.from_folder(tmp_path, device="cpu").score(QUESTION, TEXTS)
    assert scores.tolist() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("how", ["torn", "no head", "another encoder", "not there"])
def test_weights_that_do_not_fit_are_refused(folder, adapters, how):
    tensors = learnt_tensors()
    if how == "torn":
        adapters.write_bytes(adapters.read_bytes()[:-8])
    elif how == "no head":
        write_adapters(adapters, {k: v for k, v in tensors.items() if k != "head.first"})
    elif how == "another encoder":
        write_adapters(adapters, {**tensors, f"{CHANGED}.a": torch.ones(3, SIZE + 1)})
    else:
        adapters.unlink()
    with pytest.raises(BadModelFile):
        CrossEncoder.from_folder(folder, adapters, "cpu")
