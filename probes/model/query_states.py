"""Query states of a question, as an index of keys wants them: without any passage.

Keys of a passage are kept after rotation, each passage at the same place behind the template's
opening. A question that is asked of all of them at once stands behind all of them at once: its
tokens take the positions that follow a passage of `room` tokens (as in parallel context windows,
arXiv 2212.10947), and see the opening and each other. So the inner product of a state with a kept
key is the logit that this question would give it behind any passage of that length, but for the
question's own hidden states, which have not seen the passage. In the first layer it is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from tamis.probes.attention.recorder import Recorder
from tamis.probes.errors import BadInput
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import QuestionTokens, token_batches
from tamis.probes.signal import Want


def question_states(
    proxy: Proxy, questions: Sequence[QuestionTokens], layers: Sequence[int], passage_tokens: int
) -> Iterator[Tensor]:
    """Per question the query states of its rows: `[L, H, R, d]` fp32, rotated and scaled.

    Args:
        proxy: reads as deep as the last layer.
        asks: questions, as `layout.ask` lays them out.
        layers: model layers, ascending.
        room: tokens of the passages that the question stands behind.

    Raises:
        BadInput: a layer that the proxy was not loaded with, or positions beyond its context.
    """
    if passage_tokens < 0:
        raise BadInput(f"room is {passage_tokens}; give the tokens of a passage, 0 or more")
    want, start = Want(tuple(layers)), len(proxy.layout.opening) + passage_tokens
    for batch in token_batches(questions, proxy.batch_tokens, lambda ask: len(ask.ids)):
        recorder = Recorder(
            layers=frozenset(layers),
            row_spans=[(ask.first_row, len(ask.ids)) for ask in batch],
            lengths=[len(ask.ids) for ask in batch],
            past_kv=[proxy.opening_kv()] * len(batch),
            record_queries=True,
            stop_after=max(layers),
        )
        proxy._forward([ask.ids for ask in batch], [start] * len(batch), recorder, want)
        yield from (torch.stack(states) for states in recorder.queries)
