"""One pass over a window whose every row of attention is visited."""

from __future__ import annotations

from collections.abc import Sequence

from tamis.probes.attention.recorder import Recorder
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import Want
from tamis_lab.methods.window_attention.visitor import PassEdit, RowVisitor, VisitedAttention


def visit_window(
    proxy: Proxy,
    trunk: Sequence[int],
    branches: Sequence[Sequence[int]],
    layers: Sequence[int],
    visitors: Sequence[RowVisitor],
    edit: PassEdit | None = None,
) -> None:
    """Runs a trunk and its branches once; no branch sees another.

    Args:
        trunk: token ids from the prompt's first token on. branches: ids of what may follow it.
        layers: model layers whose rows are visited, ascending; deeper ones do not run.
        edit: a change to the pass, in every layer that runs.

    Raises:
        BadInput: a layer that the proxy was not loaded with, or a prompt beyond its context.
    """
    sequences = [trunk, *branches]
    attention = VisitedAttention(
        [len(ids) for ids in sequences], layers, visitors, edit, stop_after=max(layers)
    )
    recorder = Recorder(frozenset(), (), lengths=(), custom_attention=attention)
    starts = [0, *([len(trunk)] * len(branches))]
    proxy._forward(sequences, starts, recorder, Want(tuple(layers)))
