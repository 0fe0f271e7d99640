"""Query states of a question without any passage, for searching an index of keys.

Keys of passages are indexed after rotation, each passage at the same positions after the template's
opening. To search all of them at once, a question's tokens take the positions that follow a passage
of `passage_tokens` tokens (as in parallel context windows, arXiv 2212.10947), and attend to the
opening and to each other. The inner product of a query state with an indexed key is then the logit
that this question would give it after any passage of that length, except that the question's hidden
states have not attended to the passage. In the first layer it is exact.
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
        proxy: loaded with at least the last of the layers.
        questions: question pieces, from `Layout.question_tokens`.
        layers: model layers, ascending.
        passage_tokens: the passage length after which the question is positioned.

    Raises:
        BadInput: a layer that the proxy was not loaded with, or positions beyond its context.
    """
    if passage_tokens < 0:
        raise BadInput(
            f"passage_tokens is {passage_tokens}; give the tokens of a passage, 0 or more"
        )
    want, start = Want(tuple(layers)), len(proxy.layout.opening) + passage_tokens
    for batch in token_batches(questions, proxy.batch_tokens, lambda question: len(question.ids)):
        recorder = Recorder(
            layers=frozenset(layers),
            row_spans=[(question.first_row, len(question.ids)) for question in batch],
            lengths=[len(question.ids) for question in batch],
            past_kv=[proxy.opening_kv()] * len(batch),
            record_queries=True,
            stop_after=max(layers),
        )
        starts = [start] * len(batch)
        proxy._forward([question.ids for question in batch], starts, recorder, want)
        yield from (torch.stack(states) for states in recorder.queries)
