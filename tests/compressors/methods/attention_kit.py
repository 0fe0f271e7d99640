"""A question, and attention written out by hand, for the tests of methods that read attention."""

from __future__ import annotations

import torch

from tamis.probes.signal import Signal

QUESTION = "Where is the pin?"


def signal_of(*rows, layers=1) -> Signal:
    """`rows[h][r]` are the weights of a row of the last layer; those of layers below are 0."""
    weights = torch.tensor(rows).float()[None]
    below = torch.zeros(layers - 1, *weights.shape[1:])
    return Signal(torch.cat([below, weights]), tuple(range(layers)), ("question",))
