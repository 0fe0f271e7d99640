"""Query states against the logits of transformers' eager attention."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture for every test here

# softmax in fp32 of the same logits by another order of sums
FP32 = 1e-5
PASSAGE, ASK, ROWS = tiny.ids(12, 3), tiny.ids(7, 5), 2
# gemma3's window of 8 tokens would hide the passage from the question
FULL = ("llama", "qwen2", "qwen3")


def kept_keys(proxy: Any) -> list[Tensor]:
    prompt = Prompt(PassageTokens(tuple(PASSAGE), 0, ()), QuestionTokens((), 0))
    [kept] = proxy.compute_kv([prompt], Want(tuple(range(tiny.LAYERS))))
    return [layer.keys for layer in kept]


def logits(states: Tensor, keys: Tensor) -> Tensor:
    """`[H, R, N]`: each query head with the key head of its group."""
    group = states.shape[0] // keys.shape[0]
    return torch.einsum("hrd,hnd->hrn", states, keys.repeat_interleave(group, 0))


@pytest.mark.parametrize("kind", FULL)
def test_query_states_times_cached_keys_are_logits_of_a_question_blind_to_the_passage(
    kind,
):
    """Eager attention over opening, passage and question; the question does not see the passage."""
    proxy = tiny.proxy(kind)
    opening = list(proxy.layout.opening)
    ids = [*opening, *PASSAGE, *ASK]
    head, after = len(opening), len(opening) + len(PASSAGE)
    [states] = question_states(
        proxy, [QuestionTokens(tuple(ASK), ROWS)], tuple(range(tiny.LAYERS)), len(PASSAGE)
    )

    hidden = torch.ones(len(ids), len(ids)).tril().bool()
    hidden[after:, head:after] = False
    mask = torch.zeros(len(ids), len(ids)).masked_fill(~hidden, -torch.inf)[None, None]
    oracle = tiny.eager(tiny.model(kind, "eager"), ids, attention_mask=mask)  # [L, H, N, N]
    for layer, keys in enumerate(kept_keys(proxy)):
        found = logits(states[layer], keys[:, :head]).softmax(-1)
        theirs = oracle[layer][:, after + ROWS :, :head]
        torch.testing.assert_close(found, theirs / theirs.sum(-1, keepdim=True), atol=FP32, rtol=0)


@pytest.mark.parametrize("kind", FULL)
def test_in_the_first_layer_they_are_the_logits_over_the_passage_itself(kind):
    proxy = tiny.proxy(kind)
    ids = [*proxy.layout.opening, *PASSAGE, *ASK]
    seen = len(ids) - len(ASK)
    [states] = question_states(proxy, [QuestionTokens(tuple(ASK), ROWS)], (0,), len(PASSAGE))
    theirs = tiny.eager(tiny.model(kind, "eager"), ids)[0][:, seen + ROWS :, :seen]
    found = logits(states[0], kept_keys(proxy)[0]).softmax(-1)
    torch.testing.assert_close(found, theirs / theirs.sum(-1, keepdim=True), atol=FP32, rtol=0)


def test_questions_in_one_batch_do_not_see_each_other():
    proxy = tiny.proxy("llama")
    asks = [QuestionTokens(tuple(tiny.ids(n, n)), 1) for n in (5, 9, 4)]
    together = list(question_states(proxy, asks, (1, 3), 20))
    for ask, states in zip(asks, together, strict=True):
        [alone] = question_states(proxy, [ask], (1, 3), 20)
        torch.testing.assert_close(states, alone, atol=FP32, rtol=0)


def test_what_the_proxy_cannot_reach_is_refused():
    proxy = tiny.proxy("llama")
    ask = [QuestionTokens(tuple(ASK), ROWS)]
    with pytest.raises(BadInput, match="layer 9"):
        list(question_states(proxy, ask, (9,), 4))
    with pytest.raises(BadInput, match="takes 1024"):
        list(question_states(proxy, ask, (0,), tiny.CONTEXT))
    with pytest.raises(BadInput, match="passage_tokens is -1"):
        list(question_states(proxy, ask, (0,), -1))
