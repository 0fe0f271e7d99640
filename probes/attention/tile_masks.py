"""What the tokens of a tile of cached prompts must not attend to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tamis.probes.attention.kv_layers import (
    StoredKVLayer,
    count_columns,
    count_tokens,
    placement_of,
)

_NEVER_SEEN = 1 << 30  # a position that no token attends to


class TileMasks:
    """Masks the logits of tiles of cached prompts, made once where they are the same.

    Args:
        opening_tokens: of the template. device: of the model.
    """

    def __init__(self, opening_tokens: int, device: torch.device) -> None:
        self._opening, self._device = opening_tokens, device
        self._causal: dict[int, Tensor] = {}

    def apply(
        self,
        logits: Tensor,
        kept: Sequence[StoredKVLayer],
        window: int | None,
        window_masks: dict[int, Tensor],
    ) -> None:
        """Sets to -inf what a token must not attend to: later tokens, padding, outside a window.

        Args:
            logits: `[T, H, R, C]`, changed in place.
            kept: the layer of each of the T passages.
            window_masks: of this tile, by window; masks that every layer shares are added.
        """
        R, start = logits.shape[2], self._opening + logits.shape[2]
        if window is not None:
            if window not in window_masks:
                window_masks[window] = self._window_mask(kept, R, window)
            group = logits.shape[1] // window_masks[window].shape[1]
            logits.add_(window_masks[window].repeat_interleave(group, 1))
            if any(placement_of(layer) for layer in kept):
                del window_masks[window]  # other layers have other columns
        else:
            logits[..., self._opening : start].masked_fill_(self._causal_mask(R), -torch.inf)
        for prompt, layer in zip(logits, kept, strict=True):
            stop = start + count_columns(layer)
            if window is None and stop < prompt.shape[-1]:
                prompt[..., stop:] = -torch.inf
            if (placement := placement_of(layer)) is not None:
                group = len(prompt) // len(placement.bias)
                prompt[..., start:stop] += placement.bias.repeat_interleave(group, 0)[:, None]

    def _window_mask(self, kept: Sequence[StoredKVLayer], R: int, window: int) -> Tensor:
        """0 where a token sees a column within a window, else -inf: `[T, 1 or Hkv, R, C]`."""
        h, columns = self._opening, max(count_columns(layer) for layer in kept)
        masks = []
        for layer in kept:
            placement, length = placement_of(layer), count_tokens([layer])
            own = torch.arange(length)[None] if placement is None else placement.positions.cpu()
            padding = own.new_full((len(own), columns - own.shape[1]), _NEVER_SEEN)
            new = h + length + torch.arange(R)
            before = torch.cat((torch.arange(h), new)).expand(len(own), -1)
            column, row = torch.cat((before, h + own, padding), 1)[:, None], new[:, None]
            hidden = (column > row) | (column <= row - window)
            masks.append(torch.zeros(hidden.shape).masked_fill_(hidden, -torch.inf))
        heads = max(map(len, masks))
        return torch.stack([mask.expand(heads, -1, -1) for mask in masks]).to(self._device)

    def _causal_mask(self, R: int) -> Tensor:
        """True where the column's token comes after the row's: `[R, R]`."""
        if R not in self._causal:
            self._causal[R] = torch.ones(R, R, dtype=torch.bool, device=self._device).triu(1)
        return self._causal[R]
