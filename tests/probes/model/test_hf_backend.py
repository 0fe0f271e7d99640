"""A decoder of ours that becomes one of transformers, around the same weights."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import nn

from tamis.probes.attention.linear_kernels import unpack
from tamis.probes.errors import ProxyUnsupported
from tamis.probes.model import hf_backend
from tamis.probes.model.forward import is_supported
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.model.decoder_kit import save_decoder
from tests.probes.model.forward_kit import OURS, prompts
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


@pytest.mark.parametrize("kind", OURS)
def test_the_transformers_model_shares_the_weights(kind: str, tmp_path: Path) -> None:
    proxy = Proxy.from_folder(save_decoder(tmp_path, kind), layers=3, dtype="fp32", device="cpu")
    before = readings_of(proxy)
    weights = {weight.data_ptr() for weight in proxy.body.parameters()}
    model = proxy.model
    assert type(model).__module__.startswith("transformers.models.")
    assert model is proxy.model is proxy.body
    assert not model.training
    assert (model.dtype, model.config.dtype) == (torch.float32, torch.float32)
    assert model.config._attn_implementation == hf_backend.ATTENTION
    assert {weight.data_ptr() for weight in model.parameters()} == weights
    assert not any(part.is_meta for part in (*model.parameters(), *model.buffers()))
    ids = torch.tensor([tiny.ids(20)])
    expected = hf_backend.load_model(tmp_path, 3, torch.float32)(input_ids=ids, use_cache=False)
    got = model(input_ids=ids, use_cache=False)
    torch.testing.assert_close(got.last_hidden_state, expected.last_hidden_state)
    for one, two in zip(readings_of(proxy), before, strict=True):
        assert torch.equal(one, two)
    model.layers[0].mlp.up_proj = nn.Linear(64, 96, bias=False)
    assert not torch.equal(readings_of(proxy)[0], before[0]), "it is read as it now is"
    model.layers[0].register_forward_hook(lambda *_: None)
    assert not is_supported(proxy.body), "what somebody hooks into, transformers runs"


def test_conversion_to_transformers_needs_no_folder_and_keeps_torchs_default_dtype(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_decoder(tmp_path / "model", "qwen2", tie_word_embeddings=False)
    monkeypatch.chdir(tmp_path)
    proxy = Proxy.from_folder("model", dtype="bf16", device="cpu")
    expected = hf_backend.read_config(tmp_path / "model").to_dict()
    shutil.rmtree(tmp_path / "model")
    monkeypatch.setattr(torch, "set_default_dtype", lambda dtype: pytest.fail(f"{dtype} for all"))
    found = proxy.model.config.to_dict()
    own = {"_name_or_path", "dtype"}
    assert {k: v for k, v in found.items() if k not in own} == {
        k: v for k, v in expected.items() if k not in own
    }


def test_wrapped_projections_of_the_body_move_whole_and_other_hooks_are_refused(
    tmp_path: Path,
) -> None:
    proxy = Proxy.from_folder(save_decoder(tmp_path, "llama"), dtype="fp32", device="cpu")
    before = readings_of(proxy)
    unpack(proxy.body)
    for layer in proxy.body.layers[:2]:
        layer.self_attn.q_proj = nn.Sequential(layer.self_attn.q_proj)
    for one, two in zip(readings_of(proxy), before, strict=True):
        torch.testing.assert_close(one, two)
    hooked = Proxy.from_folder(tmp_path, dtype="fp32", device="cpu")
    hooked.body.layers[0].input_layernorm.register_forward_pre_hook(lambda *_: None)
    with pytest.raises(ProxyUnsupported, match=r"put it on proxy\.model"):
        readings_of(hooked)


def test_one_thread_converts_to_transformers_while_others_read(tmp_path: Path) -> None:
    proxy = Proxy.from_folder(save_decoder(tmp_path, "llama"), dtype="fp32", device="cpu")
    before = readings_of(proxy)
    with ThreadPoolExecutor(6) as pool:
        reads = [pool.submit(readings_of, proxy) for _ in range(8)]
        models = [pool.submit(lambda: proxy.model) for _ in range(4)]
        reads += [pool.submit(readings_of, proxy) for _ in range(8)]
    assert len({id(model.result()) for model in models}) == 1
    for read in reads:
        assert all(map(torch.equal, read.result(), before))


def readings_of(proxy: Proxy) -> list[torch.Tensor]:
    """What three layers see, by one way of reading."""
    want = Want((0, 2), ("question",))
    return [signal.weights for signal in proxy.read(prompts(proxy), want)]
