"""The mean of the last layer's states over all tokens: how all-MiniLM-L6-v2 was trained.

Source: Sentence-BERT (Reimers & Gurevych 2019, arXiv 1908.10084, §3). Departures: none.
"""

from __future__ import annotations

from typing import ClassVar

from tamis.probes import pooling
from tamis.probes.folder_registry import EntryInfo


class Mean(pooling.Pooling):
    """The plain mean."""

    info: ClassVar[EntryInfo] = EntryInfo("mean of the last layer", "arXiv 1908.10084")


Pooling = Mean
