"""EmbeddingGemma's layers against transformers, and its published folder converted."""

from __future__ import annotations

import json
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers
from transformers import Gemma3TextConfig, Gemma3TextModel

from tamis.probes.errors import BadModelFile
from tamis.probes.model.convert import convert_zip
from tamis.probes.model.encoder import Encoder
from tamis.probes.model.gemma_encoder import GemmaEncoder

pytestmark = pytest.mark.usefixtures("one_thread")

PIECES = [
    "<pad>",
    "<eos>",
    "<bos>",
    "<unk>",
    "▁",
    "▁the",
    "▁key",
    "the",
    "key",
    ":",
    "ask",
    "▁ask",
    "a",
    "▁a",
]
PROMPTS = {"query": "ask: ", "document": "the: "}
WINDOW = 40


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A random model in the zip of a folder, as it is published, and the model in transformers."""
    place = tmp_path_factory.mktemp("gemma")
    torch.manual_seed(1)
    config = Gemma3TextConfig(
        vocab_size=len(PIECES),
        hidden_size=24,
        intermediate_size=24,
        num_hidden_layers=3,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        num_attention_heads=3,
        num_key_value_heads=1,
        head_dim=8,
        query_pre_attn_scalar=8,
        sliding_window=WINDOW,
        max_position_embeddings=64,
        use_bidirectional_attention=True,
        initializer_range=0.3,
    )
    model = Gemma3TextModel(config).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.copy_(weight.bfloat16())
            if "norm" in name:
                weight.copy_((torch.randn_like(weight) / 4).bfloat16())
    dense = [torch.randn(32, 24), torch.randn(24, 32)]
    words = Tokenizer(models.Unigram([(piece, -1.0) for piece in PIECES], 3))
    words.normalizer = normalizers.Replace(" ", "▁")
    words.add_special_tokens(PIECES[:3])
    words.save(str(place / "tokenizer.json"))
    facts = {
        **{k: v for k, v in config.to_dict().items() if k != "rope_parameters"},
        "sliding_window": WINDOW,  # transformers halves it when it reads the file
        "rope_theta": 1_000_000.0,
        "rope_local_base_freq": 10_000.0,
    }
    (place / "config.json").write_text(json.dumps(facts))
    (place / "config_sentence_transformers.json").write_text(json.dumps({"prompts": PROMPTS}))
    save_file(model.state_dict(), place / "model.safetensors")
    for name, weight in zip(("2_Dense", "3_Dense"), dense, strict=True):
        (place / name).mkdir()
        save_file({"linear.weight": weight}, place / name / "model.safetensors")
    path = tmp_path_factory.mktemp("zip") / "model.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(place.rglob("*")):
            archive.write(file, f"download/{file.relative_to(place)}")
    return path, model, dense


@pytest.fixture(scope="module")
def folder(published, tmp_path_factory):
    target = tmp_path_factory.mktemp("converted")
    convert_zip(published[0], target)
    return target


def states(model, ids: list[int]) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]


def test_states_are_those_of_transformers_whatever_a_row_is_padded_with(published, folder):
    model = published[1]
    own = GemmaEncoder.from_folder(folder, torch.float32)
    rows = [[2, 5, 8, 1], [2, *[5, 6, 7, 8, 9, 10, 11] * 2, 1]]
    width = max(map(len, rows))
    mask = torch.tensor([[n < len(row) for n in range(width)] for row in rows])
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    found = own(ids, mask)
    for row, got in zip(rows, found, strict=True):
        torch.testing.assert_close(got[: len(row)], states(model, row), rtol=1e-4, atol=1e-4)


def test_vectors_are_projected_means_with_the_prompt_before_each_text(published, folder):
    _, model, dense = published
    encoder = Encoder.from_folder(folder, device="cpu", dtype="fp32")
    texts, question = ["the key", "key: ask"], "ask key"
    words = encoder.tokenizer

    def by_hand(prompt: str, text: str) -> tuple[torch.Tensor, torch.Tensor]:
        found = states(model, [2, *words.encode(prompt + text).ids, 1])
        vector = dense[1] @ dense[0] @ found.mean(0)
        return vector / vector.norm(), found / found.norm(dim=-1, keepdim=True)

    vector, asked = by_hand(PROMPTS["query"], question)
    cosines, interactions = encoder.interact(question, texts)
    for text, cosine, interaction in zip(texts, cosines, interactions, strict=True):
        own, tokens = by_hand(PROMPTS["document"], text)
        assert cosine == pytest.approx(float(own @ vector), abs=1e-4)
        alike = (asked[1:-1] @ tokens.T).amax(1).mean()
        assert interaction == pytest.approx(float(alike), abs=1e-4)
    torch.testing.assert_close(encoder.encode([question])[0], vector, rtol=1e-3, atol=1e-4)
    assert encoder.window_tokens == WINDOW // 2 + 1


def test_bf16_gives_the_same_cosines(folder):
    fine, coarse = (Encoder.from_folder(folder, device="cpu", dtype=d) for d in ("fp32", "bf16"))
    texts = ["the key", "key: ask", "ask: the the key"]
    for a, b in zip(fine.interact("ask", texts), coarse.interact("ask", texts), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0.02)


@pytest.mark.parametrize("damage", ["cut", "no weights"])
def test_a_damaged_zip_is_named(published, tmp_path, damage):
    path = tmp_path / "model.zip"
    if damage == "cut":
        path.write_bytes(published[0].read_bytes()[:1000])
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("download/config.json", "{}")
    (tmp_path / "target").mkdir()
    with pytest.raises(BadModelFile, match=r"model.zip cannot be read"):
        convert_zip(path, tmp_path / "target")


@pytest.mark.parametrize("name", ["hidden_activation", "use_bidirectional_attention"])
def test_a_decoder_is_no_encoder(folder, name):
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(BadModelFile, match=name):
        GemmaEncoder({**config, name: None}, {})
