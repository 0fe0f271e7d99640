"""GGUF to safetensors: the same weights, the same tokens, nothing printed."""

from __future__ import annotations

import json

import gguf
import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers.utils import logging as hf_logging

from tamis.probes.errors import BadModelFile
from tamis.probes.model.convert import convert_gguf
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
