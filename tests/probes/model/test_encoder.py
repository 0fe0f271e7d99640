"""Sentence vectors: the mean over every token of a text, whatever it is batched with."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from transformers import BertModel

from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing
from tamis.probes.model.encoder import CachedEncoder, Encoder, LazyEncoder
from tamis.probes.pooling import POOLINGS
from tests.probes.tiny_encoder import MARKS, write_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = [*MARKS, *"the sieve holds back what does not matter [ ] sep".split()]
WINDOW = 12  # positions of the tiny model: 10 words and [CLS], [SEP]
TEXTS = ["the sieve", "", "what does not matter", "the " * 10, "holds " * 35, "zebra sieve"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_encoder(tmp_path_factory.mktemp("encoder"), WORDS[len(MARKS) :], WINDOW)


@pytest.fixture(scope="module")
def encoder(folder):
    return Encoder.from_folder(folder, device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def reference(folder):
    """The same weights in transformers."""
    return BertModel.from_pretrained(folder).eval()


def manual_vector(reference: BertModel, text: str) -> torch.Tensor:
    """One window at a time, no batch, no padding, no mask: the plain mean over all tokens."""
    ids = [WORDS.index(w) if w in WORDS else 1 for w in text.split()]
    states = []
    for start in range(0, max(len(ids), 1), WINDOW - 2):
        window = torch.tensor([[2, *ids[start : start + WINDOW - 2], 3]])
        with torch.inference_mode():
            states.append(reference(input_ids=window).last_hidden_state[0])
    mean = torch.cat(states).mean(0)
    return mean / mean.norm()


def test_vectors_are_the_mean_over_all_tokens_computed_by_hand(encoder, reference):
    expected = torch.stack([manual_vector(reference, text) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS), expected, atol=1e-5, rtol=0)


def test_vectors_have_unit_length_in_fp32_and_keep_the_order_of_the_texts(encoder):
    vectors = encoder.encode(TEXTS)
    assert (vectors.dtype, tuple(vectors.shape)) == (torch.float32, (len(TEXTS), 16))
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(TEXTS)))
    torch.testing.assert_close(encoder.encode(TEXTS[::-1]), vectors.flip(0), atol=1e-5, rtol=0)
    assert encoder.encode([]).shape == (0, 16)


@pytest.mark.parametrize("batch_tokens", [1, 13, 40, 100_000])
def test_what_a_text_is_batched_with_does_not_change_its_vector(encoder, batch_tokens, monkeypatch):
    alone = torch.cat([encoder.encode([text]) for text in TEXTS])
    monkeypatch.setattr("tamis.probes.model.encoder.BATCH_TOKENS", batch_tokens)
    # fp32 sums in another order: the last bits differ
    torch.testing.assert_close(encoder.encode(TEXTS), alone, atol=1e-5, rtol=0)


def test_no_forward_pass_exceeds_the_batch_limit(encoder, monkeypatch):
    sizes = []
    model = encoder.model

    class Counted:
        shape, device = model.shape, model.device
        project = staticmethod(model.project)

        def __call__(self, ids, mask):
            sizes.append(ids.numel())
            return model(ids, mask)

    monkeypatch.setattr(encoder, "model", Counted())
    monkeypatch.setattr("tamis.probes.model.encoder.BATCH_TOKENS", 40)
    encoder.encode(TEXTS * 5)
    assert max(sizes) <= 40
    assert len(sizes) < 30


def test_the_end_of_a_long_text_counts(encoder):
    long = "the " * 40
    same, other = encoder.encode([f"{long} sieve", f"{long} matter"])
    assert (same - other).abs().max() > 1e-4


def test_special_tokens_in_a_text_are_text(encoder):
    text, spelled = encoder.encode(["the [SEP] sieve", "the [ sep ] sieve"])
    torch.testing.assert_close(text, spelled)


def test_a_lone_surrogate_has_a_vector(encoder):
    assert torch.isfinite(encoder.encode(["the \ud800 sieve"])).all()


def test_folders_without_an_encoder_are_refused_with_the_way_out(folder, tmp_path):
    with pytest.raises(ProxyMissing, match="tamis models pull minilm-l6"):
        Encoder.from_folder(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "mpnet"}')
    with pytest.raises(BadModelFile, match="the model_type 'mpnet' and 'bert' is needed"):
        Encoder.from_folder(tmp_path)
    (tmp_path / "config.json").write_bytes((folder / "config.json").read_bytes())
    with pytest.raises(BadModelFile, match="cannot be loaded"):
        Encoder.from_folder(tmp_path)
    with pytest.raises(BadModelFile, match=r"\[CLS\]"):
        Encoder(None, Tokenizer(models.BPE()))


def pooled_by_hand(folder, text: str, name: str) -> torch.Tensor:
    """Σ w·s / Σ w of one short text, from all that transformers says of it."""
    model = BertModel.from_pretrained(folder, attn_implementation="eager").eval()
    ids = torch.tensor([[2, *(WORDS.index(w) for w in text.split()), 3]])
    with torch.inference_mode():
        out = model(input_ids=ids, output_hidden_states=True, output_attentions=True)
    states = [layer[0] for layer in out.hidden_states]  # the embeddings, then two layers
    n = len(states[0])
    diagonal = out.attentions[1][0, 1].diagonal()  # the last layer and head of this small model
    weights, chosen = {
        "mean": (torch.ones(n), states[2]),
        "last": (torch.eye(n)[-1], states[2]),
        "weighted_mean": (torch.arange(1, n + 1).float(), states[2]),
        "all_layers": (torch.ones(n), (states[1] + states[2]) / 2),
        "ditto": (diagonal, (states[1] + states[2]) / 2),
    }[name]
    vector = (weights[:, None] * chosen).sum(0) / weights.sum()
    return vector / vector.norm()


@pytest.mark.parametrize("name", POOLINGS.names())
def test_every_pooling_is_its_weighted_mean_computed_by_hand(encoder, folder, name, monkeypatch):
    texts = ["the sieve", "what does not matter", "holds"]
    expected = torch.stack([pooled_by_hand(folder, text, name) for text in texts])
    ours = encoder.with_pooling(name)
    torch.testing.assert_close(ours.encode(texts), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(ours.encode(TEXTS).norm(dim=-1), torch.ones(len(TEXTS)))
    alone = torch.cat([ours.encode([text]) for text in TEXTS])
    monkeypatch.setattr("tamis.probes.model.encoder.BATCH_TOKENS", 40)
    torch.testing.assert_close(ours.encode(TEXTS), alone, atol=1e-5, rtol=0)


def test_the_mean_is_what_an_encoder_pools_by_to_the_bit(encoder):
    assert torch.equal(encoder.with_pooling("mean").encode(TEXTS), encoder.encode(TEXTS))


def test_weights_of_a_single_token_leave_its_state():
    mask, diagonal = torch.tensor([[True, False]]), torch.tensor([[0.3, 0.9]])
    for name in POOLINGS.names():
        weights = POOLINGS.load(name)().weights(mask, diagonal)
        assert weights[0, 0] > 0
        assert weights[0, 1] == 0


def test_ditto_by_hand():
    """Weights .5, .25, .25 on (1, 0), (0, 1), (0, 1) meet in the middle; their scale is nothing."""
    states = torch.tensor([[1.0, 0], [0, 1], [0, 1]])
    for scale in (1, 7):
        weights = POOLINGS.load("ditto")().weights(
            torch.ones(1, 3).bool(), scale * torch.tensor([[0.5, 0.25, 0.25]])
        )[0]
        assert (weights @ states / weights.sum()).tolist() == [0.5, 0.5]


def test_an_unknown_pooling_is_refused_with_those_there_are(encoder):
    with pytest.raises(BadInput, match="all_layers, ditto, last, mean, weighted_mean"):
        encoder.with_pooling("best")


class OnePassage:
    """A source that keeps one passage's vectors, as the first encoder of that identity had them."""

    def __init__(self, encoder: Encoder, texts: list[str]) -> None:
        self.may_have_vectors = True
        self.known = (encoder.identity, texts)
        self.vectors = encoder.encode(texts)

    def find_vectors(self, encoder, texts):
        return self.vectors if (encoder, texts) == self.known else None


def count_encoded(encoder, monkeypatch) -> list[str]:
    encoded: list[str] = []
    monkeypatch.setattr(
        encoder, "encode", lambda texts: encoded.extend(texts) or Encoder.encode(encoder, texts)
    )
    return encoded


def test_a_passage_whose_vectors_are_kept_is_not_encoded(folder, monkeypatch):
    encoder = Encoder.from_folder(folder, device="cpu", dtype="fp32")
    source = OnePassage(encoder, TEXTS[:3])
    encoded = count_encoded(encoder, monkeypatch)
    cached = CachedEncoder(encoder, source=source)
    cached.recall(TEXTS[:3])
    cached.recall(TEXTS[3:5])  # not kept
    vectors = cached.encode(TEXTS[:5])
    assert encoded == TEXTS[3:5]
    assert torch.equal(vectors[:3], source.vectors)


def test_vectors_of_another_pooling_or_other_weights_are_not_recalled(
    folder, tmp_path, monkeypatch
):
    encoder = Encoder.from_folder(folder, device="cpu", dtype="fp32")
    source = OnePassage(encoder, TEXTS[:3])
    copied = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(copied / "model.safetensors")
    save_file({n: w + 1 for n, w in weights.items()}, copied / "model.safetensors")
    for other in (
        encoder.with_pooling("last"),
        Encoder.from_folder(copied, device="cpu", dtype="fp32"),
        Encoder(encoder.model, Tokenizer.from_file(str(folder / "tokenizer.json"))),
    ):
        encoded = count_encoded(other, monkeypatch)
        cached = CachedEncoder(other, source=source)
        cached.recall(TEXTS[:3])
        cached.encode(TEXTS[:3])
        assert encoded == TEXTS[:3]


def test_an_encoder_whose_files_changed_has_no_identity(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "copy")
    encoder = Encoder.from_folder(copied, device="cpu", dtype="fp32")
    same = Encoder.from_folder(copied, device="cpu", dtype="fp32").identity
    assert same == Encoder.from_folder(folder, device="cpu", dtype="fp32").identity is not None
    weights = load_file(copied / "model.safetensors")
    save_file({**weights, "more": torch.zeros(3)}, copied / "model.safetensors")
    assert encoder.identity is None
    (copied / "model.safetensors").unlink()
    assert encoder.identity is None


@pytest.mark.model
def test_the_real_encoder_puts_a_paraphrase_nearer_than_another_topic(encoder_folder):
    encoder = Encoder.from_folder(encoder_folder, device="cpu")
    exact = Encoder.from_folder(encoder_folder, device="cpu", dtype="fp32")
    texts = ["A man is eating food.", "Someone is having a meal.", "The stock market fell today."]
    first, near, far = encoder.encode(texts)
    assert (encoder.dimensions, encoder.window_tokens) == (384, 256)
    assert first @ near > 0.5 > 0.2 > first @ far
    fast, slow = encoder.encode(texts), exact.encode(texts)
    assert (fast @ fast.T - slow @ slow.T).abs().max() < 0.01


def test_an_interaction_is_the_mean_of_each_question_tokens_best_cosine(encoder, reference):
    """Window by window with transformers; the best window counts."""
    question = "the sieve holds"

    def windows(text):
        with torch.no_grad():
            for _, ids in encoder._windows([text], "passage"):
                yield reference(torch.tensor([ids])).last_hidden_state[0]

    def unit(states):
        return torch.nn.functional.normalize(states, dim=-1)

    (asked,) = windows(question)
    read = [list(windows(text)) for text in TEXTS]
    vectors = [max(unit(asked.mean(0)) @ unit(w.mean(0)) for w in text) for text in read]
    tokens = [max((unit(asked[1:-1]) @ unit(w).T).amax(1).mean() for w in text) for text in read]
    assert max(map(len, read)) > 1
    for found, slow in zip(encoder.interact(question, TEXTS), (vectors, tokens), strict=True):
        torch.testing.assert_close(found, torch.stack(slow), rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch_tokens", [1, 30])
def test_the_states_of_documents_are_the_same_in_any_batch(encoder, batch_tokens, monkeypatch):
    whole = encoder.document_states(TEXTS)
    assert max(map(len, whole)) > 1
    monkeypatch.setattr("tamis.probes.model.encoder.BATCH_TOKENS", batch_tokens)
    for few, due in zip(encoder.document_states(TEXTS), whole, strict=True):
        for one, other in zip(few, due, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-3)
    assert [len(part) for part in encoder.interact("the", [])] == [0, 0]


def test_documents_are_read_once_for_all_questions_and_no_more_is_kept_than_allowed(
    encoder, monkeypatch
):
    reads, read = [], encoder.document_states
    monkeypatch.setattr(
        encoder, "document_states", lambda texts: reads.append(texts) or read(texts)
    )
    kept = CachedEncoder(encoder)
    for question in ("the sieve", "holds back", ""):
        found = kept.interact(question, [*TEXTS, TEXTS[0]])
        for values, due in zip(found, encoder.interact(question, TEXTS), strict=True):
            assert values.tolist() == [*due.tolist(), due[0]]
    assert [sorted(texts) for texts in reads] == [sorted(TEXTS)] * 4  # once, and three by itself
    assert kept.repeats == 2 * len(TEXTS)
    little = CachedEncoder(encoder, max_bytes=1)
    little.interact("the sieve", TEXTS)
    assert little._states.total_cost <= 1


PROMPTS = {"query": "the sieve", "passage": "holds"}


@pytest.fixture
def encoder_with_prompts(folder, tmp_path):
    """The same model in a folder that names prompts."""
    place = shutil.copytree(folder, tmp_path / "encoder_with_prompts")
    (place / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    return Encoder.from_folder(place, device="cpu", dtype="fp32")


def test_a_model_trained_with_prompts_reads_them_before_every_window(
    encoder_with_prompts, reference
):
    """Texts of up to seven words are one window with the prompt of two, or of one."""
    texts = ["what does not matter", "back", "the sieve holds"]
    asked = manual_vector(reference, f"{PROMPTS['query']} {texts[1]}")
    read = [manual_vector(reference, f"{PROMPTS['passage']} {text}") for text in texts]
    cosines, _ = encoder_with_prompts.interact(texts[1], texts)
    torch.testing.assert_close(cosines, torch.stack(read) @ asked, atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder_with_prompts.encode([texts[1]])[0], asked, atol=1e-5, rtol=0)
    long = " ".join(["matter"] * 9 + ["back"])
    halves = [" ".join(["holds", *long.split()[a : a + 9]]) for a in (0, 9)]
    best = max(float(manual_vector(reference, half) @ asked) for half in halves)
    assert float(encoder_with_prompts.interact(texts[1], [long])[0][0]) == pytest.approx(
        best, abs=1e-5
    )


@pytest.mark.parametrize("content", ["{", "[]", '{"prompts": {"query": 1}}', '{"prompts": []}'])
def test_prompts_that_are_none_are_refused(folder, tmp_path, content):
    place = shutil.copytree(folder, tmp_path / "broken")
    (place / "config_sentence_transformers.json").write_text(content)
    with pytest.raises(BadModelFile, match=r"config_sentence_transformers\.json"):
        Encoder.from_folder(place, device="cpu", dtype="fp32")


def test_a_lazy_encoder_is_loaded_once_whoever_asks_first(folder, encoder, monkeypatch):
    loads, load = [], Encoder.from_folder
    monkeypatch.setattr(Encoder, "from_folder", lambda *a: loads.append(a) or load(*a, "fp32"))
    lazy = LazyEncoder(folder, "cpu")
    assert not loads
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: CachedEncoder(lazy).interact("the", TEXTS), range(8)))
    assert len(loads) == 1
    for both in found:
        for values, due in zip(both, encoder.interact("the", TEXTS), strict=True):
            torch.testing.assert_close(values, due)
