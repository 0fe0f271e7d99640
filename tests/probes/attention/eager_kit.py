"""What comparisons with transformers' eager attention share: bounds, and recorded runs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tamis.probes.attention.recorder import Recorder, use_recorder
from tests.probes import tiny

# fp32 softmax of the same logits by another order of sums: a few units in the seventh digit
FP32 = 1e-5
# eager rounds logits and weights to bf16 (8 bits: 4e-3 near 1), in every layer below
BF16 = 2.5e-2

everywhere = pytest.mark.parametrize("kind", tiny.ARCHITECTURES)
ALL = frozenset(range(tiny.LAYERS))


def run(model: Any, recorder: Recorder, **inputs: Any) -> list[Tensor]:
    """Per sequence, the recorded `[L, H, R, N]`."""
    with torch.inference_mode(), use_recorder(recorder):
        model(use_cache=False, **inputs)
    return [torch.stack(layers) for layers in recorder.weights]


def pack(
    model: Any, recorder: Recorder, sequences: list[list[int]], starts: list[int]
) -> list[Tensor]:
    """Runs sequences end to end, each at its own positions."""
    positions = [a + i for a, s in zip(starts, sequences, strict=True) for i in range(len(s))]
    ids = [token for sequence in sequences for token in sequence]
    return run(
        model, recorder, input_ids=torch.tensor([ids]), position_ids=torch.tensor([positions])
    )


def assert_close(ours: Tensor, theirs: Tensor, within: float = FP32) -> None:
    torch.testing.assert_close(ours, theirs, atol=within, rtol=0)
