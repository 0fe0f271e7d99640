"""TidalDecode (arXiv 2410.05076, §4): positions chosen in one layer, read again in deeper ones.

Layers 0 and 1 are read whole; the first layer from 2 on and the first from 9 on are read whole,
too, and choose: deeper heads read only the keys with the largest logits in the first head of the
last layer that chose.

Departure: the first head of a layer chooses for all heads, where the paper chooses head by head.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from tamis_lab.methods.kv_search.contract import SelectorInfo, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
)
from tamis_lab.methods.kv_search.types import KeyHits

CHOOSING = (2, 9)


class Tidal:
    """Reads in deep layers what a layer above chose."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "keys of one layer, read again in deeper ones",
        "TidalDecode, 2410.05076",
        "keys read whole",
        needs="layers",
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys, self._layers = keys, setting.layers
        later = [[layer for layer in setting.layers if layer >= first] for first in CHOOSING]
        self._choosing = {min(layers) for layers in later if layers}
        self.efforts = geometric_steps(min(100, keys.shape[1]), keys.shape[1])

    def reads_whole(self, head: int) -> bool:
        """Whether a head is read whole: its layer chooses, or is above the first that does."""
        layer = self._layers[head]
        return layer < CHOOSING[0] or layer in self._choosing

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best keys, in deeper layers of the `effort` keys last chosen."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        N, count = self._keys.shape[1], min(max(effort, k), self._keys.shape[1])
        ids: list[Tensor] = []
        read, chosen_in = 0, -1
        chosen = torch.empty(0, dtype=torch.long)
        for head, (keys, rows) in enumerate(zip(self._keys, queries, strict=True)):
            layer = self._layers[head]
            if not self.reads_whole(head):
                ids.append(chosen)
                read += count * len(rows)
                continue
            own = (rows @ keys.T).topk(count).indices
            if layer != chosen_in:
                chosen, chosen_in = own, layer
            ids.append(own)
            read += N * len(rows)
        return best_hits_of_heads(self._keys, queries, ids, k, read)


Selector: SharedSelectorClass = Tidal
