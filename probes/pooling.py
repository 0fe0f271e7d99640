"""The contract of a pooling of token states, and the poolings: a file each in `poolings/`.

A vector is Σ_i w_i·s_i / Σ_i w_i over a text's tokens, brought to unit length: s_i is the mean of
token i's states in some layers, w_i its weight. Poolings differ in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tamis.probes.folder_registry import EntryInfo, FolderRegistry
from tamis.probes.plugins import INSTALL, LAB, POOLINGS_GROUP

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_POOLING = "mean"


class Pooling:
    """A pooling; subclasses override what they change of the plain mean of the last layer."""

    info: ClassVar[EntryInfo]

    def layers(self, count: int) -> tuple[int, ...]:
        """The states that are averaged: 0 is the embeddings, `count` the last layer."""
        return (count,)

    def head(self, layers: int, heads: int) -> tuple[int, int] | None:
        """The layer and head whose attention of each token to itself `weights` is given."""
        return None

    def weights(self, mask: Tensor, diagonal: Tensor | None) -> Tensor:
        """The weight of each token, 0 or more: `[B, n]` fp32.

        Args:
            mask: `[B, n]`, false for padding. diagonal: attention of the head's tokens to
                themselves, `[B, n]`; None unless `head` names one.
        """
        return mask.float()


POOLINGS: FolderRegistry[type[Pooling], EntryInfo] = FolderRegistry(
    "pooling",
    "tamis/probes/poolings",
    EntryInfo,
    POOLINGS_GROUP,
    elsewhere=dict.fromkeys(("all_layers", "ditto", "weighted_mean"), INSTALL[LAB]),
)
