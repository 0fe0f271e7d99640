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
from torch import nn

from tamis.probes import hosted
from tamis.probes.capture import Want
from tamis.probes.decoder import Decoder
from tamis.probes.errors import BadModelFile, ProxyUnsupported
from tamis.probes.forward import known
from tamis.probes.prompt import TEMPLATES
from tamis.probes.proxy import Proxy
from tests.probes import tiny
from tests.probes.forward_kit import OURS, prompts, readings
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


def saved(folder: Path, kind: str, sharded: bool = False, **config: Any) -> Path:
    """A folder with a random model, in which norms and biases are random, too."""
    model = tiny.model(kind, **config)
    for name, weight in model.named_parameters():
        if "norm" in name or "bias" in name:
            nn.init.normal_(weight, 1.0 if "norm" in name else 0.0, 0.2)
    model.save_pretrained(folder, max_shard_size="100KB" if sharded else "1GB")
    tiny.tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def theirs(folder: Path, layers: int, dtype: torch.dtype = torch.float32) -> Proxy:
    """A proxy over what transformers reads of a folder."""
    model = hosted.load(folder, layers, dtype)
    return Proxy.from_model(model, tiny.tokenizer(), template=TEMPLATES["chatml"])


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
    folder = saved(tmp_path, kind, **config)
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    assert isinstance(proxy.body, Decoder)
    other = theirs(folder, tiny.LAYERS)
    assert known(other.body), "both go through our pass: what differs is who read the folder"
    for one, two in zip(readings(proxy), readings(other), strict=True):
        assert torch.equal(one, two)


def test_a_cut_model_in_bf16_has_the_first_layers_in_bf16_and_angles_in_fp32(
    tmp_path: Path,
) -> None:
    proxy = Proxy.from_folder(saved(tmp_path, "qwen3"), layers=2, dtype="bf16", device="cpu")
    other = hosted.load(tmp_path, 2, torch.bfloat16)
    assert (proxy.depth, len(proxy.body.layers), proxy.card.layers) == (2, 2, tiny.LAYERS)
    assert proxy.dtype == torch.bfloat16
    assert torch.equal(proxy.body.rotary_emb.inv_freq, other.rotary_emb.inv_freq)
    assert torch.equal(proxy.body.norm.weight, other.norm.weight)


@pytest.mark.parametrize("kind", OURS)
def test_whoever_asks_for_a_transformers_model_gets_one_around_the_same_weights(
    kind: str, tmp_path: Path
) -> None:
    proxy = Proxy.from_folder(saved(tmp_path, kind), layers=3, dtype="fp32", device="cpu")
    before = readings_of(proxy)
    weights = {weight.data_ptr() for weight in proxy.body.parameters()}
    model = proxy.model
    assert type(model).__module__.startswith("transformers.models.")
    assert model is proxy.model is proxy.body
    assert {weight.data_ptr() for weight in model.parameters()} == weights
    assert not any(part.is_meta for part in (*model.parameters(), *model.buffers()))
    ids = torch.tensor([tiny.ids(20)])
    expected = hosted.load(tmp_path, 3, torch.float32)(input_ids=ids, use_cache=False)
    got = model(input_ids=ids, use_cache=False)
    torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state)
    for one, two in zip(readings_of(proxy), before, strict=True):
        assert torch.equal(one, two)
    model.layers[0].mlp.up_proj = nn.Linear(64, 96, bias=False)
    assert not torch.equal(readings_of(proxy)[0], before[0]), "it is read as it now is"
    model.layers[0].register_forward_hook(lambda *_: None)
    assert not known(proxy.body), "what somebody hooks into, transformers runs"


def readings_of(proxy: Proxy) -> list[torch.Tensor]:
    """What three layers see, by one way of reading."""
    want = Want((0, 2), ("question",))
    return [signal.weights for signal in proxy.read(prompts(proxy), want)]


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
    folder = saved(tmp_path, kind, **config)
    proxy = Proxy.from_folder(folder, dtype="fp32", device="cpu")
    assert not isinstance(proxy.body, Decoder)
    for one, two in zip(readings(proxy), readings(theirs(folder, tiny.LAYERS)), strict=True):
        torch.testing.assert_close(one, two)


def test_a_part_that_is_not_known_leaves_the_folder_to_transformers(tmp_path: Path) -> None:
    file = saved(tmp_path, "llama") / "model.safetensors"
    weights = load_file(file)
    save_file({**weights, "model.layers.0.self_attn.sinks": torch.zeros(4)}, file, {"format": "pt"})
    assert not isinstance(Proxy.from_folder(tmp_path, device="cpu").body, Decoder)


def test_a_missing_tensor_and_a_wrong_shape_are_named(tmp_path: Path) -> None:
    file = saved(tmp_path, "llama") / "model.safetensors"
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
    "said",
    [
        {"hidden_size": 64.5},
        {"intermediate_size": -1},
        {"num_attention_heads": 0},
        {"head_dim": "x"},
    ],
)
def test_sizes_that_are_none_are_one_clear_error(said: dict[str, Any], tmp_path: Path) -> None:
    file = saved(tmp_path, "llama") / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **said}))
    with pytest.raises((BadModelFile, ProxyUnsupported)):
        Proxy.from_folder(tmp_path, device="cpu")


def test_a_configuration_that_leaves_something_out_is_left_to_transformers(tmp_path: Path) -> None:
    file = saved(tmp_path, "llama") / "config.json"
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
        [sys.executable, "-c", FIRST], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "Anna fixed it. []\n", done.stdout + done.stderr
