"""Tiny random decoders and a tiny tokenizer, built in memory: the real code paths at no cost.

Weights are drawn wide, so that attention is far from uniform and a wrong row, head or mask shows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from tamis.probes.model.hf_backend import ATTENTION
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import TEMPLATES, Template

LAYERS, HEADS, KV_HEADS, VOCAB, WINDOW, CONTEXT = 4, 4, 2, 300, 8, 1024
SPECIAL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
ARCHITECTURES = ("llama", "qwen2", "qwen3", "gemma3")

# the merges make tokens that straddle words and sentences, as real vocabularies have them
_MERGES = (("Ġ", "t"), ("h", "e"), ("Ġt", "he"), (".", "Ġ"), ("i", "n"), ("Ġ", "a"))
_KINDS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {"head_dim": 16}),
    "gemma3": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        {
            "head_dim": 16,
            "query_pre_attn_scalar": 20,  # not head_dim: the scale has to be taken from the model
            "sliding_window": WINDOW,
            "layer_types": ["sliding_attention", "full_attention"] * 2,
        },
    ),
    "gemma2": (Gemma2Config, Gemma2ForCausalLM, {"head_dim": 16, "attn_logit_softcapping": 50.0}),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """One thread: handing such small matrices to others takes longer than to multiply them.

    On two busy cores the tests of the proxy took 160 s with two threads and 10 s with one.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def model(
    kind: str,
    attention: str = ATTENTION,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Any:
    """A random causal LM of that architecture; the same weights at every call."""
    make_config, make_model, extra = _KINDS[kind]
    settings = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.12,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": None,
        "tie_word_embeddings": True,
        "attn_implementation": attention,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        made = make_model(make_config(**{**settings, **extra, **config}))
    return made.to(dtype).eval()


def tokenizer() -> Tokenizer:
    """Byte-level BPE of every byte and a few merges, with ChatML's special tokens added."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *("".join(pair) for pair in _MERGES)]
    made = Tokenizer(models.BPE(vocab={w: i for i, w in enumerate(words)}, merges=list(_MERGES)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return made


def proxy(
    kind: str = "llama",
    *,
    dtype: torch.dtype = torch.float32,
    batch_tokens: int | None = None,
    template: Template = TEMPLATES["chatml"],
) -> Proxy:
    """A proxy over the tiny model of that architecture."""
    return Proxy.from_model(
        model(kind, dtype=dtype),
        tokenizer(),
        name=f"tiny-{kind}",
        template=template,
        batch_tokens=batch_tokens,
    )


def save(kind: str, folder: Path) -> Path:
    """The tiny model and tokenizer as a folder on disk."""
    model(kind).save_pretrained(folder)
    tokenizer().save(str(folder / "tokenizer.json"))
    return folder


@torch.inference_mode()
def eager(oracle: Any, ids: list[int], **inputs: Any) -> torch.Tensor:
    """Every attention weight of one sequence, from transformers' eager code: `[L, H, N, N]`."""
    out = oracle(input_ids=torch.tensor([ids]), output_attentions=True, use_cache=False, **inputs)
    return torch.stack(out.attentions)[:, 0].float()


def ids(length: int, seed: int = 0) -> list[int]:
    """Random token ids, special ones aside."""
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (length,), generator=draw).tolist()
