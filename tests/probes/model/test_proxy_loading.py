"""A proxy from a folder or from a model in memory: what is loaded, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tamis.probes.errors import BadInput, BadModelFile, ProxyMissing, ProxyUnsupported
from tamis.probes.model.loading import attention_shape, choose_device, choose_dtype
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.attention.eager_kit import assert_close, everywhere
from tests.probes.model.proxy_kit import WANT, assert_same_signals, eager_weights, prompts
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


@everywhere
def test_layers_cut_off_on_disk_leave_the_others_as_they_were(kind: str, tmp_path: Path) -> None:
    folder = tiny.save(kind, tmp_path / kind)
    want = Want((0, 1), WANT.rows)
    cut = Proxy.from_folder(folder, layers=2, dtype="fp32", device="cpu")
    whole = Proxy.from_folder(folder, dtype=torch.float32, device="cpu")
    assert (len(cut.model.layers), len(whole.model.layers)) == (2, tiny.LAYERS)
    assert cut.card == whole.card
    assert (cut.card.name, cut.card.layers, cut.card.heads) == (kind, tiny.LAYERS, tiny.HEADS)
    asked = prompts(cut)
    assert_same_signals(list(cut.read(asked, want)), list(whole.read(asked, want)))
    assert_same_signals(
        list(cut.read_cached(asked, list(cut.compute_kv(asked, want)), want)),
        list(whole.read(asked, want)),
    )
    assert_close(
        next(iter(cut.read(asked, want))).weights,
        eager_weights(cut, tiny.model(kind, "eager"), asked[0], (0, 1)),
    )


def test_a_layer_beyond_the_proxy_is_an_error_that_names_the_numbers(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(tiny.save("llama", tmp_path), layers=2, dtype="fp32", device="cpu")
    for layer, way_out in ((2, "load it with layers=3"), (9, "choose a deeper proxy")):
        with pytest.raises(BadInput, match=rf"layer {layer} is wanted .* 2 layers; .*{way_out}"):
            list(proxy.read(prompts(proxy), Want((0, layer))))


@pytest.mark.parametrize("headless", [True, False])
def test_a_model_with_or_without_head_and_a_transformers_tokenizer_make_a_proxy(
    headless: bool,
) -> None:
    model = tiny.model("qwen3", "sdpa")
    fast = PreTrainedTokenizerFast(tokenizer_object=tiny.tokenizer())
    proxy = Proxy.from_model(model.model if headless else model, fast, name="mine", revision="r1")
    assert (proxy.card.name, proxy.card.revision, proxy.layout.template.name) == (
        "mine",
        "r1",
        "chatml",
    )
    asked = prompts(proxy)
    assert_same_signals(list(proxy.read(asked, WANT)), list(tiny.proxy("qwen3").read(asked, WANT)))


def test_a_tokenizer_without_offsets_is_refused() -> None:
    with pytest.raises(ProxyUnsupported, match="offsets"):
        Proxy.from_model(tiny.model("llama"), object())


def test_a_model_that_caps_its_logits_is_refused_loaded_or_on_disk(tmp_path: Path) -> None:
    with pytest.raises(ProxyUnsupported, match="gemma2 caps its attention logits"):
        Proxy.from_model(tiny.model("gemma2", "eager"), tiny.tokenizer())
    tiny.model("gemma2", "eager").save_pretrained(tmp_path)
    tiny.tokenizer().save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(ProxyUnsupported, match="gemma2 caps its attention logits"):
        Proxy.from_folder(tmp_path, dtype="fp32", device="cpu")


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"use_bidirectional_attention": True}, "what follows"),
        ({"layer_types": ["linear_attention", "full_attention"] * 2}, "do not attend by softmax"),
    ],
)
def test_a_config_that_is_more_than_causal_softmax_is_refused(
    settings: dict[str, Any], why: str
) -> None:
    config = tiny.model("gemma3").config
    config.__dict__.update(settings)
    with pytest.raises(ProxyUnsupported, match=why):
        attention_shape(config)


def test_an_encoder_is_refused() -> None:
    encoder = BertModel(BertConfig(vocab_size=tiny.VOCAB, hidden_size=64, num_attention_heads=4))
    with pytest.raises(ProxyUnsupported, match="BertModel lets tokens see what follows"):
        Proxy.from_model(encoder, tiny.tokenizer())


def test_a_missing_folder_is_proxy_missing(tmp_path: Path) -> None:
    with pytest.raises(ProxyMissing, match=r"no config\.json"):
        Proxy.from_folder(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save("llama", tmp_path_factory.mktemp("whole"))


def replace_by_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def truncate_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def remove_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.k_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def reshape_tensor(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.self_attn.k_proj.weight"] = torch.zeros(3, 3)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def garble_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def set_unknown_type(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "not-a-model"}))


@pytest.mark.parametrize(
    "damage",
    [
        replace_by_pickle,
        truncate_weights,
        remove_tensor,
        reshape_tensor,
        without_tokenizer,
        garble_config,
        set_unknown_type,
    ],
)
def test_a_damaged_or_foreign_folder_is_a_bad_model_file(
    whole: Path, tmp_path: Path, damage: Any
) -> None:
    folder = shutil.copytree(whole, tmp_path / "model")
    damage(folder)
    with pytest.raises(BadModelFile, match="model"):
        Proxy.from_folder(folder, dtype="fp32", device="cpu")


def test_a_revision_changes_with_the_weights_and_not_with_the_folder(
    whole: Path, tmp_path: Path
) -> None:
    def revision(folder: Path) -> str:
        return Proxy.from_folder(folder, layers=1, dtype="fp32", device="cpu").card.revision

    moved = shutil.copytree(whole, tmp_path / "moved")
    assert revision(moved) == revision(whole)
    tensors = load_file(moved / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, moved / "model.safetensors", {"format": "pt"})
    assert revision(moved) != revision(whole)


@pytest.mark.parametrize("layers", [0, -1])
def test_less_than_one_layer_is_bad_input(whole: Path, layers: int) -> None:
    with pytest.raises(BadInput, match=f"layers is {layers}"):
        Proxy.from_folder(whole, layers=layers)


def test_more_layers_than_there_are_load_them_all(whole: Path) -> None:
    assert Proxy.from_folder(whole, layers=99, dtype="fp32", device="cpu").depth == tiny.LAYERS


@pytest.mark.parametrize("name", ["fp8", "float", "nn", "", "FP32"])
def test_an_unknown_dtype_is_bad_input_that_names_the_choices(name: str) -> None:
    with pytest.raises(BadInput, match=r"give auto or one of bf16, .*fp16, fp32"):
        choose_dtype(name, torch.device("cpu"))


def test_dtypes_go_by_their_names_and_auto_is_one_of_them() -> None:
    cpu = torch.device("cpu")
    assert choose_dtype("bf16", cpu) is choose_dtype("bfloat16", cpu) is torch.bfloat16
    assert choose_dtype("fp32", cpu) is choose_dtype(torch.float32, cpu) is torch.float32
    assert choose_dtype("auto", cpu) in {torch.float32, torch.bfloat16}


def test_an_unknown_device_is_bad_input() -> None:
    with pytest.raises(BadInput, match="device is 'gpu'"):
        choose_device("gpu")
