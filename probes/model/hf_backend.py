"""Decoders that transformers loads and runs, while tamis records their attention.

An attention function registered with transformers under the name `tamis` runs plain SDPA and, when
a recorder is set, records the requested rows of softmax in fp32, see `attention.recorder`. It is
used for every decoder that `forward` does not support, for training, and for callers' own models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging as hf_logging

from tamis.probes.attention.packed import attention_function
from tamis.probes.attention.recorder import (
    AttentionInput,
    Recorder,
    StopForward,
    causal_mask,
    current_recorder,
    group_rows,
    softmax_rows,
)
from tamis.probes.errors import BadModelFile, ProxyUnsupported, wrap_load_errors
from tamis.probes.model.decoder import Decoder, Norm

ATTENTION = "tamis"
"""The name of the attention function: load a model with `attn_implementation=ATTENTION`."""


def read_config(folder: Path) -> Any:
    """The configuration of the model in a folder.

    Raises:
        BadModelFile: transformers cannot read it.
    """
    with wrap_load_errors(folder):
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def load_model(folder: Path, layers: int, dtype: torch.dtype) -> Any:
    """Loads the first layers of a model, without its language-model head.

    Raises:
        BadModelFile: it cannot be read, or tensors are missing.
    """
    with wrap_load_errors(folder), quiet_loading():
        model, found = AutoModel.from_pretrained(
            folder,
            dtype=dtype,
            num_hidden_layers=layers,
            attn_implementation=ATTENTION,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    # transformers fills a missing tensor with random numbers and only warns
    if missing := sorted(found["missing_keys"]):
        raise BadModelFile(
            f"{folder} lacks {len(missing)} tensors, the first is {missing[0]}; fetch it again"
        )
    return model


def adopt_decoder(decoder: Decoder) -> Any:
    """The decoder as a class of transformers, sharing its weights and modules.

    Raises:
        ProxyUnsupported: there is a hook on a module that is not taken over.
    """
    values = decoder.config.to_dict()
    layers = values["num_hidden_layers"]
    whole = values | {"num_hidden_layers": len(values.get("layer_types") or range(layers))}
    config = type(AutoConfig.for_model(values["model_type"])).from_dict(whole)
    config.num_hidden_layers = layers
    config._attn_implementation = ATTENTION
    config.dtype = (
        None  # else transformers changes torch's default dtype meanwhile, for all threads
    )
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    weight = decoder.embed_tokens.weight
    model.config.dtype = weight.dtype
    model.rotary_emb = type(model.rotary_emb)(config=config).to(weight.device)
    _move_parts(decoder, model)
    if missing := [name for name, part in model.named_parameters() if part.is_meta]:
        raise ProxyUnsupported(f"the decoder has no {missing[0]} for transformers to run")
    return model.eval()


def _move_parts(ours: nn.Module, theirs: nn.Module) -> None:
    """Puts our leaf modules in place of theirs; of a norm only the weight, in their class."""
    _refuse_hooks(ours)
    for name, child in ours.named_children():
        if name == "rotary_emb":
            continue  # theirs was built from the configuration
        target = getattr(theirs, name)
        if isinstance(child, Norm):
            _refuse_hooks(child)
            target.weight = child.weight
        elif next(target.children(), None) is None:
            setattr(theirs, name, child)
        else:
            _move_parts(child, target)


def _refuse_hooks(module: nn.Module) -> None:
    if module._forward_hooks or module._forward_pre_hooks:
        raise ProxyUnsupported(
            f"a hook on {type(module).__name__} of proxy.body never runs; put it on proxy.model"
        )


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention in the signature of transformers, which also records the recorder's rows.

    `query [B, H, Nq, d]`, `key` and `value [B, Hkv, Nk, d]`, all rotated; returns `[B, Nq, H, d]`.
    """
    _refuse_unsupported(module, kwargs)
    recorder = current_recorder()
    scale = scaling if scaling is not None else 1 / math.sqrt(query.shape[-1])
    if recorder is None or recorder.lengths is None:
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scale, **kwargs
        )
        if recorder is not None:
            _record_padded(recorder, module.layer_idx, query, key, attention_mask, scale)
        return out, None
    given = AttentionInput(module.layer_idx, query, key, value, scale, sliding_window)
    return attention_function(recorder)(given), None


def _refuse_unsupported(module: Any, kwargs: dict[str, Any]) -> None:
    """Refuses attention that is not a plain causal softmax of query times key."""
    reasons = {
        "caps its attention logits": kwargs.get("softcap") is not None,
        "adds sinks to its softmax": kwargs.get("s_aux") is not None,
        "adds a bias to its attention logits": kwargs.get("position_bias") is not None,
        "lets tokens see what follows them": kwargs.get(
            "is_causal", getattr(module, "is_causal", True)
        )
        is False,
    }
    if why := [reason for reason, holds in reasons.items() if holds]:
        raise ProxyUnsupported(
            f"{type(module).__name__} {' and '.join(why)}; "
            "choose a decoder such as Llama, Qwen or Gemma 3"
        )


def _record_padded(
    recorder: Recorder, layer: int, query: Tensor, key: Tensor, mask: Tensor | None, scale: float
) -> None:
    """Records rows of a padded batch; the given mask already covers padding and window."""
    if layer not in recorder.layers:
        return
    past = key.shape[2] - query.shape[2]
    for b, (start, stop) in enumerate(recorder.row_spans):
        if mask is None:
            allowed = causal_mask(start + past, stop + past, key.shape[2], None, query.device)
        else:
            allowed = mask[b if mask.shape[0] > 1 else 0, 0, start:stop, : key.shape[2]]
        weights = softmax_rows(query[b, :, start:stop], key[b], allowed, scale)
        recorder.weights[b].append(group_rows(weights, recorder.groups, recorder.sentences_of(b)))
    if layer == recorder.stop_after:
        raise StopForward


def _make_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask function that goes with `attend`: SDPA's, or None for packed sequences."""
    recorder = current_recorder()
    if recorder is not None and recorder.lengths is not None:
        return None
    mask: Tensor | None = sdpa_mask(*args, **kwargs)
    return mask


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silences transformers' progress bars and reports, as of layers left out, inside the block."""
    before = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    bars = hf_logging.is_progress_bar_enabled()
    hf_logging.disable_progress_bar()
    try:
        yield
    finally:
        hf_logging.set_verbosity(before)
        if bars:
            hf_logging.enable_progress_bar()


AttentionInterface.register(ATTENTION, attend)
AttentionMaskInterface.register(ATTENTION, _make_mask)
