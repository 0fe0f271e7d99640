"""Decoders read without transformers, against transformers over the same folders."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tamis.probes.errors import BadModelFile, ProxyUnsupported
from tamis.probes.model import hf_backend
from tamis.probes.model.decoder import Decoder, read_config
from tamis.probes.model.forward import is_supported
from tamis.probes.model.proxy import Proxy
from tests.probes import tiny
from tests.probes.model.decoder_kit import save_decoder, transformers_proxy
from tests.probes.model.forward_kit import OURS, readings
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 1e4,
    "factor": 8.0,
    "high_freq_factor": 4.0,
    "low_freq_factor": 1.0,
    "original_max_position_embeddings": 512,
}
SLIDING = {"use_sliding_window": True, "sliding_window": tiny.WINDOW, "max_window_layers": 2}


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        *((kind, {}) for kind in OURS),
        ("llama", {"mlp_bias": True, "attention_bias": True}),
        ("qwen3", {"attention_bias": True, "head_dim": 32}),
        ("llama", {"num_key_value_heads": tiny.HEADS, "rope_parameters": {"rope_theta": 5e5}}),
        ("llama", {"sharded": True}),
    ],
)
def test_a_folder_is_read_as_transformers_reads_it(
    kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_decoder(tmp_path, kind, **config)
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    assert isinstance(proxy.body, Decoder)
    other = transformers_proxy(folder, tiny.LAYERS)
    assert is_supported(other.body), "both go through our pass: what differs is who read the folder"
    for one, two in zip(readings(proxy), readings(other), strict=True):
        assert torch.equal(one, two)


def edit_config(folder: Path, **settings: Any) -> Path:
    """The folder with other words in its configuration; None takes one away."""
    file = folder / "config.json"
    config = json.loads(file.read_text()) | settings
    file.write_text(json.dumps({name: value for name, value in config.items() if value != "gone"}))
    return folder


@pytest.mark.parametrize(
    ("settings", "ours"),
    [
        ({"rope_theta": 5e5, "rope_scaling": None}, True),
        ({"rope_theta": 1e6, "head_dim": "gone"}, True),
        ({"rope_theta": 1e4, "rope_scaling": {"rope_type": "linear", "factor": 4.0}}, False),
        ({"rope_theta": 1e4, "rope_scaling": {**LLAMA3, "rope_theta": 1e4}}, False),
        ({}, False),
    ],
    ids=["theta", "no head size", "linear", "llama3", "no theta"],
)
def test_a_configuration_as_older_releases_wrote_it(
    settings: dict[str, Any], ours: bool, tmp_path: Path
) -> None:
    folder = edit_config(save_decoder(tmp_path, "llama"), rope_parameters="gone", **settings)
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    assert isinstance(proxy.body, Decoder) is ours
    for one, two in zip(
        readings(proxy), readings(transformers_proxy(folder, tiny.LAYERS)), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_a_theta_beside_the_parameters_does_not_count(tmp_path: Path) -> None:
    folder = edit_config(
        save_decoder(tmp_path, "llama", rope_parameters={"rope_theta": 5e5}), rope_theta=10.0
    )
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    for one, two in zip(
        readings(proxy), readings(transformers_proxy(folder, tiny.LAYERS)), strict=True
    ):
        torch.testing.assert_close(one, two)


@pytest.mark.parametrize(
    "settings",
    [
        {"use_sliding_window": True},
        {"layer_types": ["sliding_attention", *["full_attention"] * 3]},
        {"layer_types": ["full_attention"]},
        {"quantization_config": {"quant_method": "fp8"}},
        {"is_causal": False},
        {"use_bidirectional_attention": True},
        {"attn_logit_softcapping": 30.0},
        {"partial_rotary_factor": 0.5},
        {"pretraining_tp": 2},
        {"hidden_act": "gelu"},
        {"model_type": "mistral"},
        {"num_hidden_layers": 3.5},
        {"num_hidden_layers": True},
        {"max_position_embeddings": 1024.5},
        {"rms_norm_eps": 0},
        {"head_dim": 0},
        {"rope_parameters": ["rope_theta"]},
        {"rope_parameters": {"rope_theta": 10**400}},
        {"layer_types": 5},
        {"layer_types": [["full_attention"]]},
        {"model_type": ["llama"]},
        {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default", "factor": 2.0}},
    ],
    ids=str,
)
def test_what_a_configuration_may_say_that_is_not_for_us(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_decoder(tmp_path, "llama")
    assert read_config(folder) is not None
    assert read_config(edit_config(folder, **settings)) is None


def test_qwen3_without_a_head_size_is_left_to_transformers(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "qwen3")
    assert read_config(folder) is not None
    assert read_config(edit_config(folder, head_dim="gone")) is None


def test_a_checkpoint_without_a_head_and_without_its_prefix(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "llama")
    file = folder / "model.safetensors"
    bare = {name.removeprefix("model."): weight for name, weight in load_file(file).items()}
    before = list(readings(Proxy.from_folder(folder, dtype="fp32", device="cpu")))
    save_file(bare, file, {"format": "pt"})
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    assert isinstance(proxy.body, Decoder)
    assert all(map(torch.equal, readings(proxy), before))


def test_a_tensor_that_is_there_twice_leaves_the_folder_to_transformers(tmp_path: Path) -> None:
    file = save_decoder(tmp_path, "llama") / "model.safetensors"
    name = "model.layers.0.self_attn.q_proj.weight"
    weights = load_file(file)
    save_file({**weights, name.removeprefix("model."): weights[name] + 1}, file, {"format": "pt"})
    assert not isinstance(Proxy.from_folder(tmp_path, device="cpu").body, Decoder)


def test_a_whole_file_goes_before_an_index(tmp_path: Path) -> None:
    folder = save_decoder(tmp_path, "llama")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "nowhere"}}')
    assert isinstance(Proxy.from_folder(folder, device="cpu").body, Decoder)


def test_a_reading_in_bf16_is_that_of_transformers_files(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(save_decoder(tmp_path, "qwen3"), dtype="bf16", device="cpu")
    other = transformers_proxy(tmp_path, tiny.LAYERS, torch.bfloat16)
    assert all(map(torch.equal, readings(proxy), readings(other)))


def test_a_cut_model_in_bf16_has_the_first_layers_in_bf16_and_angles_in_fp32(
    tmp_path: Path,
) -> None:
    proxy = Proxy.from_folder(save_decoder(tmp_path, "qwen3"), layers=2, dtype="bf16", device="cpu")
    other = hf_backend.load_model(tmp_path, 2, torch.bfloat16)
    assert (proxy.depth, len(proxy.body.layers), proxy.card.layers) == (2, 2, tiny.LAYERS)
    assert proxy.dtype == torch.bfloat16
    assert torch.equal(proxy.body.rotary_emb.inv_freq, other.rotary_emb.inv_freq)
    assert torch.equal(proxy.body.norm.weight, other.norm.weight)


@pytest.mark.parametrize(
    ("kind", "config"),
    [
        ("llama", {"rope_parameters": LLAMA3}),
        ("qwen2", SLIDING),
        ("llama", {"hidden_act": "gelu"}),
        ("gemma3", {}),
    ],
)
def test_another_kind_is_left_to_transformers(
    kind: str, config: dict[str, Any], tmp_path: Path
) -> None:
    folder = save_decoder(tmp_path, kind, **config)
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    assert not isinstance(proxy.body, Decoder)
    for one, two in zip(
        readings(proxy), readings(transformers_proxy(folder, tiny.LAYERS)), strict=True
    ):
        torch.testing.assert_close(one, two)


def test_a_part_that_is_not_known_leaves_the_folder_to_transformers(tmp_path: Path) -> None:
    file = save_decoder(tmp_path, "llama") / "model.safetensors"
    weights = load_file(file)
    save_file({**weights, "model.layers.0.self_attn.sinks": torch.zeros(4)}, file, {"format": "pt"})
    assert not isinstance(Proxy.from_folder(tmp_path, device="cpu").body, Decoder)


def test_a_missing_tensor_and_a_wrong_shape_are_named(tmp_path: Path) -> None:
    file = save_decoder(tmp_path, "llama") / "model.safetensors"
    weights = load_file(file)
    gone = weights.pop("model.layers.1.mlp.up_proj.weight")
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(
        BadModelFile, match=r"lacks 1 tensors, the first is layers\.1\.mlp\.up_proj"
    ):
        Proxy.from_folder(tmp_path, device="cpu")
    save_file(
        {**weights, "model.layers.1.mlp.up_proj.weight": gone[:-1].clone()}, file, {"format": "pt"}
    )
    with pytest.raises(BadModelFile):
        Proxy.from_folder(tmp_path, device="cpu")


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden_size": 64.5},
        {"intermediate_size": -1},
        {"num_attention_heads": 0},
        {"head_dim": "x"},
    ],
)
def test_sizes_that_are_none_are_one_clear_error(settings: dict[str, Any], tmp_path: Path) -> None:
    file = save_decoder(tmp_path, "llama") / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    with pytest.raises((BadModelFile, ProxyUnsupported)):
        Proxy.from_folder(tmp_path, device="cpu")


def test_a_configuration_that_leaves_something_out_is_left_to_transformers(tmp_path: Path) -> None:
    file = save_decoder(tmp_path, "llama") / "config.json"
    config = json.loads(file.read_text())
    del config["num_key_value_heads"], config["rms_norm_eps"]
    file.write_text(json.dumps({**config, "num_attention_heads": tiny.KV_HEADS}))
    with pytest.raises(BadModelFile):
        Proxy.from_folder(tmp_path, device="cpu")


FIRST = """
import sys, tamis
short = tamis.compress("Who fixed it?", ["Rain fell. Anna fixed it. Hay lies here."], max_tokens=6)
heavy = {"transformers", "torch._dynamo", "sklearn", "scipy"} & sys.modules.keys()
print(short.text, sorted(heavy))
"""


@pytest.mark.model
def test_the_default_method_answers_without_importing_what_takes_seconds(
    proxy_folder: Path,
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FIRST], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.stdout == "Anna fixed it. []\n", done.stdout + done.stderr
