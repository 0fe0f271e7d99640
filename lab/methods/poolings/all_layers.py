"""The mean over tokens and over all layers.

Source: Pooling and Attention (Tang & Yang 2024, arXiv 2409.02727, §4), whose trained form attends
to every layer's state by learnt latents. Departure: nothing is trained; layers count alike, the
embeddings aside.
"""

from __future__ import annotations

from typing import ClassVar

from tamis.probes import pooling
from tamis.probes.folder_registry import EntryInfo


class AllLayers(pooling.Pooling):
    """The mean over all layers."""

    info: ClassVar[EntryInfo] = EntryInfo("mean of all layers", "arXiv 2409.02727")

    def layers(self, count: int) -> tuple[int, ...]:
        """Every layer but the embeddings."""
        return tuple(range(1, count + 1))


Pooling = AllLayers
