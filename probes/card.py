"""Which model a reading is of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Card:
    """What a probe must match: which model, and how deep it is.

    Attributes:
        name: as users type it.
        revision: changes whenever the weights do.
        layers, heads: of the whole model, before any cut.
    """

    name: str
    revision: str
    layers: int
    heads: int
