"""Recorded rows against transformers' eager attention, on four architectures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from tamis.probes.attention.recorder import Recorder, group_rows, softmax_rows, use_recorder
from tests.probes import tiny
from tests.probes.attention.eager_kit import ALL, BF16, FP32, assert_close, everywhere, pack, run
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here


def pair(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Any, Any]:
    """The same weights twice: read by tamis, and by the eager oracle."""
    return tiny.model(kind, dtype=dtype), tiny.model(kind, "eager", dtype)


@everywhere
def test_the_tiny_models_attend_unevenly_enough_to_tell_heads_and_rows_apart(kind: str) -> None:
    weights = tiny.eager(tiny.model(kind, "eager"), tiny.ids(30))[:, :, -1]
    for layer in weights:
        assert layer.amax() > 0.1  # uniform is 0.03
        assert torch.cdist(layer, layer).add(torch.eye(tiny.HEADS)).min() > 0.05


@everywhere
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_rows_of_a_plain_batch_equal_eagers(kind: str, dtype: torch.dtype, within: float) -> None:
    model, oracle = pair(kind, dtype)
    batch = [tiny.ids(25, 1), tiny.ids(25, 2)]
    spans = [(20, 25), (3, 9)]
    seen = run(model, Recorder(ALL, spans), input_ids=torch.tensor(batch))
    for ids, (start, stop), weights in zip(batch, spans, seen, strict=True):
        assert weights.dtype == torch.float32
        assert_close(weights, tiny.eager(oracle, ids)[:, :, start:stop], within)


@everywhere
def test_rows_of_a_left_padded_batch_equal_eagers_on_each_sequence_alone(kind: str) -> None:
    model, oracle = pair(kind)
    sequences = [tiny.ids(23, 1), tiny.ids(14, 2), tiny.ids(3, 3)]
    width = 23
    pads = [width - len(s) for s in sequences]
    mask = torch.tensor([[0] * pad + [1] * (width - pad) for pad in pads])
    seen = run(
        model,
        Recorder(ALL, [(width - 3, width)] * 3),
        input_ids=torch.tensor([[9] * pad + s for pad, s in zip(pads, sequences, strict=True)]),
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0),
    )
    for ids, pad, weights in zip(sequences, pads, seen, strict=True):
        assert not weights[..., :pad].any()
        assert_close(weights[..., pad:], tiny.eager(oracle, ids)[:, :, -3:])


@everywhere
@pytest.mark.parametrize(("dtype", "within"), [(torch.float32, FP32), (torch.bfloat16, BF16)])
def test_rows_of_packed_sequences_equal_eagers_on_each_sequence_alone(
    kind: str, dtype: torch.dtype, within: float
) -> None:
    model, oracle = pair(kind, dtype)
    sequences = [tiny.ids(n, n) for n in (5, 31, 1, 17)]
    spans = [(0, 5), (12, 31), (0, 1), (0, 5)]
    recorder = Recorder(ALL, spans, [len(s) for s in sequences])
    for ids, (start, stop), weights in zip(
        sequences, spans, pack(model, recorder, sequences, [0] * 4), strict=True
    ):
        assert_close(weights, tiny.eager(oracle, ids)[:, :, start:stop], within)


@everywhere
def test_rows_over_cached_keys_equal_eagers_over_a_cache_and_over_the_whole(kind: str) -> None:
    model, oracle = pair(kind)
    before = [tiny.ids(n, n) for n in (19, 4)]
    after = [tiny.ids(n, n) for n in (6, 11)]
    keeper = Recorder(frozenset(), [(0, 0)] * 2, [len(s) for s in before], keep_kv=True)
    with torch.inference_mode(), use_recorder(keeper):
        flat = [token for s in before for token in s]
        places = [i for s in before for i in range(len(s))]
        model(input_ids=torch.tensor([flat]), position_ids=torch.tensor([places]), use_cache=False)
    spans = [(0, len(s)) for s in after]
    asker = Recorder(ALL, spans, [len(s) for s in after], past_kv=keeper.kv_layers)
    seen = pack(model, asker, after, [len(s) for s in before])
    for old, new, weights in zip(before, after, seen, strict=True):
        assert_close(weights, tiny.eager(oracle, old + new)[:, :, len(old) :])
        assert_close(weights, cached_eager(oracle, old, new))


@torch.inference_mode()
def cached_eager(oracle: Any, old: list[int], new: list[int]) -> Tensor:
    """Weights of the new tokens over all, `[L, H, new, old + new]`, the old ones from a cache.

    Sliding caches drop old keys; their layers are padded with the zeros the window gives them.
    """
    cache = DynamicCache(config=oracle.config)
    oracle(input_ids=torch.tensor([old]), cache=cache, use_cache=True)
    out = oracle(input_ids=torch.tensor([new]), cache=cache, use_cache=True, output_attentions=True)
    keys = len(old) + len(new)
    pad = torch.nn.functional.pad
    return torch.stack([pad(a, (keys - a.shape[-1], 0)) for a in out.attentions])[:, 0]


@everywhere
def test_stored_keys_are_rotated_and_equal_the_cache_of_transformers(kind: str) -> None:
    model, oracle = pair(kind)
    ids = tiny.ids(tiny.WINDOW - 1)  # shorter than the window: a sliding cache still has them all
    recorder = Recorder(frozenset(), [(0, 0)], [len(ids)], keep_kv=True)
    cache = DynamicCache(config=oracle.config)
    with torch.inference_mode(), use_recorder(recorder):
        model(input_ids=torch.tensor([ids]), use_cache=False)
        oracle(input_ids=torch.tensor([ids]), cache=cache, use_cache=True)
    for ours, theirs in zip(recorder.kv_layers[0], cache.layers, strict=True):
        assert_close(ours.keys, theirs.keys[0])
        assert_close(ours.values, theirs.values[0])


@everywhere
def test_without_a_recorder_the_model_is_plain_sdpa(kind: str) -> None:
    ids = torch.tensor([tiny.ids(20, 1), tiny.ids(20, 2)])
    mask = torch.tensor([[1] * 20, [0] * 6 + [1] * 14])
    with torch.inference_mode():
        ours = tiny.model(kind)(input_ids=ids, attention_mask=mask).logits
        theirs = tiny.model(kind, "sdpa")(input_ids=ids, attention_mask=mask).logits
    assert torch.equal(ours, theirs)


@everywhere
def test_recording_does_not_change_what_the_model_computes(kind: str) -> None:
    model = tiny.model(kind)
    sequences = [tiny.ids(21, 1), tiny.ids(9, 2)]
    positions = torch.tensor([[*range(21), *range(9)]])
    recorder = Recorder(ALL, [(5, 21), (0, 9)], [21, 9])
    with torch.inference_mode():
        alone = [model(input_ids=torch.tensor([s])).logits[0] for s in sequences]
        with use_recorder(recorder):
            ids = torch.tensor([[*sequences[0], *sequences[1]]])
            packed = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0]
    torch.testing.assert_close(packed, torch.cat(alone), atol=1e-4, rtol=1e-4)


@everywhere
@pytest.mark.parametrize("packed", [True, False])
def test_a_later_token_does_not_change_earlier_rows(kind: str, packed: bool) -> None:
    model = tiny.model(kind)
    ids = tiny.ids(24)
    changed = [*ids[:-1], (ids[-1] + 1) % 256]
    one, two = (
        run(model, Recorder(ALL, [(0, 24)], [24] if packed else None), input_ids=torch.tensor([s]))[
            0
        ]
        for s in (ids, changed)
    )
    assert_close(one[:, :, :-1], two[:, :, :-1])
    assert not one.triu(1).any()
    assert (one[1:, :, -1] - two[1:, :, -1]).abs().max() > 1e-3


def test_sliding_layers_see_exactly_the_window_and_full_layers_see_all() -> None:
    weights = run(
        tiny.model("gemma3"), Recorder(ALL, [(0, 20)], [20]), input_ids=torch.tensor([tiny.ids(20)])
    )[0]
    sliding, full = weights[0, :, -1], weights[1, :, -1]
    assert not sliding[:, : 20 - tiny.WINDOW].any()
    assert sliding[:, 20 - tiny.WINDOW :].all()
    assert full.all()


def test_query_heads_go_with_their_key_heads_in_order() -> None:
    query = torch.randn(6, 3, 8, generator=torch.Generator().manual_seed(1))
    key = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    seen = torch.ones(3, 5, dtype=torch.bool)
    weights = softmax_rows(query, key, seen, 0.5)
    for head in range(6):  # heads 0 to 2 share key head 0, heads 3 to 5 key head 1
        assert_close(weights[head], (query[head] @ key[head // 3].T * 0.5).softmax(-1))


def test_row_groups_are_reduced_in_the_requested_order() -> None:
    # one head, three rows, two keys
    weights = torch.tensor([[[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]])
    assert torch.equal(group_rows(weights, ("question",)), weights)
    assert_close(group_rows(weights, ("question_mean",)), torch.tensor([[[0.5, 0.5]]]))
    assert torch.equal(group_rows(weights, ("last",)), torch.tensor([[[0.9, 0.1]]]))
    together = group_rows(weights, ("last", "question_mean", "question"))
    assert_close(together[0, :, 0], torch.tensor([0.9, 0.5, 0.2, 0.4, 0.9]))


def test_the_rows_of_each_sentence_are_averaged_and_one_sentence_is_all_rows() -> None:
    weights = torch.tensor([[[0.2, 0.8], [0.4, 0.6], [0.9, 0.1]]])
    found = group_rows(weights, ("sentence_means", "last"), ((0, 2), (1, 2)))
    assert_close(found[0, :, 0], torch.tensor([0.3, 0.4, 0.9]))
    whole = group_rows(weights, ("sentence_means",))
    assert torch.equal(whole, group_rows(weights, ("question_mean",)))
