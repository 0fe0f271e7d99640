"""A pack in one kernel: what the kernel is given, and when it is asked. No GPU is needed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tamis.probes.attention import batched, packed
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


def attend_by_formula(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """What `varlen_attn` is documented to do, one token and head at a time."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
    assert max_q == max(cu_seq_q.diff().tolist())
    assert max_k == max(cu_seq_k.diff().tolist())
    assert all(part.is_contiguous() for part in (query, key, value))
    shared = query.shape[1] // key.shape[1]
    assert enable_gqa == (shared != 1)
    assert window_size[1] == 0, "causal"
    out = torch.empty_like(query)
    for s in range(len(cu_seq_q) - 1):
        (a, b), (c, d) = cu_seq_q[s : s + 2].tolist(), cu_seq_k[s : s + 2].tolist()
        for row in range(a, b):
            place = d - (b - row)  # the queries of a sequence are its last tokens
            first = c if window_size[0] < 0 else max(c, place - window_size[0])
            for head in range(query.shape[1]):
                k, v = (part[first : place + 1, head // shared] for part in (key, value))
                out[row, head] = (k @ query[row, head] * scale).softmax(-1) @ v
    return out


@pytest.mark.parametrize("kind", tiny.ARCHITECTURES)  # gemma3 has windows, llama shared keys
def test_a_pack_in_one_kernel_sees_what_its_sequences_see_one_by_one(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, calls = tiny.proxy(kind), []
    asked = [
        Prompt(proxy.layout.passage_tokens(text, []), proxy.layout.question_tokens("Who?"))
        for text in ("Cats sit on mats. ", "", "It rains. " * 3)
    ]
    want = Want((0, 2), ("question",))
    expected = list(proxy.read_with_kv(asked, want))

    def kernel(*args: Any, **named: Any) -> Tensor:
        calls.append(len(args[0]))
        return attend_by_formula(*args, **named)

    monkeypatch.setattr(batched, "is_used", lambda device: True)
    monkeypatch.setattr(batched, "has_varlen_kernel", lambda query: True)
    monkeypatch.setattr(batched, "varlen_kernel", lambda: kernel)
    found = list(proxy.read_with_kv(asked, want))
    for (ours, kept), (theirs, their_kept) in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.weights, theirs.weights, atol=1e-5, rtol=0)
        for one, other in zip(kept, their_kept, strict=True):
            torch.testing.assert_close(one.keys, other.keys, atol=1e-4, rtol=0)
            torch.testing.assert_close(one.values, other.values, atol=1e-4, rtol=0)
    assert calls == [sum(map(len, asked))] * 2, "one call a layer that runs whole, for all of them"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_a_gpu_the_sequences_go_one_by_one(dtype: torch.dtype) -> None:
    assert not batched.has_varlen_kernel(torch.empty(1, dtype=dtype))


@pytest.mark.parametrize(
    "length",
    [packed.KERNEL_BLOCK_KEYS - 20, packed.KERNEL_BLOCK_KEYS, packed.KERNEL_BLOCK_KEYS + 40],
)
def test_long_sequences_are_causal_after_cached_tokens(length: int) -> None:
    """Both sides of the length from which the kernel is told to be causal."""
    draw = torch.Generator().manual_seed(1)
    q = torch.randn(4, length, 16, generator=draw)
    k, v = (torch.randn(2, length + 9, 16, generator=draw) for _ in range(2))
    recorder = packs_recorder()
    seen = packed._attend_sequence(recorder, q, k, v, 0.25, None)
    logits = (q.view(2, 2, length, 16) @ k[:, None].transpose(2, 3)) * 0.25
    hidden = torch.ones(length, length + 9, dtype=torch.bool).triu(10)
    exact = logits.masked_fill(hidden, -torch.inf).softmax(-1) @ v[:, None]
    torch.testing.assert_close(
        seen, exact.view(4, length, 16).transpose(0, 1), atol=1e-5, rtol=1e-5
    )


def packs_recorder() -> Any:
    from tamis.probes.attention.recorder import Recorder

    return Recorder(frozenset(), [(0, 0)], lengths=[1])
