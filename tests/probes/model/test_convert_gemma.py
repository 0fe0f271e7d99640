"""A Gemma 3 GGUF file: norms about one, two rotary bases, sliding layers, SentencePiece."""

from __future__ import annotations

import json

import gguf
import pytest
import torch
from tokenizers import Tokenizer

from tamis.probes.model.convert import convert_gguf
from tamis.probes.model.loading import guess_template
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES, Layout
from tests.probes import tiny

pytestmark = pytest.mark.usefixtures("one_thread")

LAYERS, HEAD = 6, 16
KINDS = ["sliding_attention"] * 5 + ["full_attention"]
CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>"]
PIECES = ["▁the", "▁", "the", "世界", "。", "▁key"]


@pytest.fixture(scope="module")
def oracle():
    """The tiny Gemma 3 that the file below is written from; every sixth layer sees everything."""
    return tiny.model(
        "gemma3",
        attention="sdpa",
        num_hidden_layers=LAYERS,
        layer_types=KINDS,
        query_pre_attn_scalar=256,
    )


@pytest.fixture(scope="module")
def converted(oracle, tmp_path_factory):
    """The oracle as llama.cpp writes it, converted."""
    path, config = tmp_path_factory.mktemp("gguf") / "tiny.gguf", oracle.config
    writer = gguf.GGUFWriter(path, "gemma3")
    writer.add_block_count(LAYERS)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(1_000_000.0)
    writer.add_sliding_window(tiny.WINDOW)
    writer.add_vocab_size(tiny.VOCAB)
    add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.GEMMA3, LAYERS)
    for name, weight in oracle.state_dict().items():
        if name != "lm_head.weight":
            # llama.cpp keeps 1 + weight of every norm
            laid = weight + 1 if "norm" in name else weight
            writer.add_tensor(names.get_name(name, (".weight",)), laid.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    target = tmp_path_factory.mktemp("converted")
    convert_gguf(path, target)
    return target


def add_tokenizer(writer: gguf.GGUFWriter) -> None:
    kinds = gguf.TokenType
    turns = ["<start_of_turn>", "<end_of_turn>"]
    words = [*CONTROL, *turns, *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES]
    words += [f"<unused{i}>" for i in range(tiny.VOCAB - len(words))]
    types = [kinds.CONTROL] * (len(CONTROL) + 2) + [kinds.BYTE] * 256
    types += [kinds.NORMAL] * len(PIECES)
    types += [kinds.CONTROL] * (len(words) - len(types))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(words)
    writer.add_token_scores([-float(i) for i in range(len(words))])
    writer.add_token_types(types)
    writer.add_bos_token_id(2)
    writer.add_eos_token_id(1)
    writer.add_unk_token_id(3)
    writer.add_pad_token_id(0)
    writer.add_add_space_prefix(False)


def test_it_computes_what_the_oracle_does_beyond_the_window(oracle, converted):
    proxy = Proxy.from_folder(converted, dtype="fp32", device="cpu")
    ids = torch.tensor([tiny.ids(4 * tiny.WINDOW)])
    with torch.inference_mode():
        found = proxy.model(input_ids=ids).last_hidden_state
        expected = oracle.model(input_ids=ids).last_hidden_state
    # weights were rounded to bf16; norms off by one, or another window or base, are off by 0.5
    assert (found - expected).abs().mean() < 0.05


def test_the_configuration_has_both_rotary_bases_and_the_window(converted):
    config = json.loads((converted / "config.json").read_text())
    rope = config["rope_parameters"]
    assert config["layer_types"] == KINDS
    assert config["sliding_window"] == tiny.WINDOW
    assert rope["full_attention"]["rope_theta"] == 1_000_000
    assert rope["sliding_attention"]["rope_theta"] == 10_000


@pytest.mark.parametrize("text", ["the the", "世界。", "Schlüssel ß", "a  b\n\n c\t🙂", " the"])
def test_the_tokenizer_round_trips_and_its_offsets_cover_the_text(converted, text):
    found = Tokenizer.from_file(str(converted / "tokenizer.json"))
    encoded = found.encode(text, add_special_tokens=False)
    assert found.decode(encoded.ids) == text
    covered = {i for start, stop in encoded.offsets for i in range(start, stop)}
    assert covered == set(range(len(text)))


def test_its_template_begins_with_the_token_gemma_needs(converted):
    tokenizer = Tokenizer.from_file(str(converted / "tokenizer.json"))
    assert guess_template(tokenizer) == TEMPLATES["gemma"]
    assert Layout(tokenizer, TEMPLATES["gemma"]).opening[0] == tokenizer.token_to_id("<bos>")
