"""A sentence encoder: texts to unit vectors, used by the embedding baseline only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModel

from tamis.probes.errors import BadModelFile, ProxyMissing
from tamis.probes.model.convert import quiet_transformers
from tamis.probes.model.loading import choose_device
from tamis.probes.tokens import TextTokenizer

WINDOW_TOKENS = 256
"""[CLS], 254 word pieces, [SEP]: the longest input all-MiniLM-L6-v2 was trained on."""

Window = tuple[int, list[int]]
"""The index of a text, and the ids of one window of it."""


class Encoder:
    """Mean-pooled text vectors of a BERT-like model (Reimers & Gurevych 2019, arXiv 1908.10084).

    One departure from sentence-transformers: a text longer than a window is read in windows of
    254 word pieces and the mean is taken over the tokens of all of them; nothing is cut off.
    Special tokens in a text are plain text.
    """

    def __init__(self, model: Any, tokenizer: Tokenizer, name: str = "encoder") -> None:
        first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
        if first is None or last is None:
            raise BadModelFile(
                f"{name}'s tokenizer has no [CLS] and [SEP]; give a BERT-like encoder"
            )
        self.model = model.eval()
        self.tokenizer = TextTokenizer(tokenizer, name)
        self._first, self._last = first, last

    @classmethod
    def from_folder(cls, folder: str | Path, device: str = "auto") -> Encoder:
        """Loads safetensors, `config.json` and `tokenizer.json` in fp32; nothing is fetched.

        Raises:
            ProxyMissing: no such folder. BadModelFile: it holds no readable encoder.
        """
        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise ProxyMissing(
                f"{folder} holds no config.json; get one with `tamis models pull minilm-l6`"
            )
        try:
            with quiet_transformers():
                model = AutoModel.from_pretrained(
                    folder, dtype=torch.float32, local_files_only=True, use_safetensors=True
                )
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # transformers raises whatever its readers raise
            raise BadModelFile(f"{folder} cannot be loaded as an encoder: {error}") from error
        return cls(model.to(choose_device(device)), tokenizer, folder.name)

    @property
    def dimensions(self) -> int:
        """The number of components of a vector."""
        return int(self.model.config.hidden_size)

    @property
    def window_tokens(self) -> int:
        """The longest input, [CLS] and [SEP] included."""
        return min(WINDOW_TOKENS, int(self.model.config.max_position_embeddings))

    def encode(self, texts: Sequence[str], batch_tokens: int = 4096) -> Tensor:
        """Vectors of unit length, fp32 on the CPU, `[N, D]`, in the order of the texts.

        How texts are batched changes only the last bits, because padding is masked everywhere.

        Args:
            texts: any strings; an empty one also has a vector.
            batch_tokens: the most tokens of a forward pass, padding included; at least one window.
        """
        sums = torch.zeros(len(texts), self.dimensions)
        counts = torch.zeros(len(texts), 1)
        windows = sorted(self._windows(texts), key=lambda window: len(window[1]), reverse=True)
        for batch in _batches(windows, batch_tokens):
            owners = torch.tensor([text for text, _ in batch])
            sums.index_add_(0, owners, self._sum_states([ids for _, ids in batch]))
            counts.index_add_(0, owners, torch.tensor([[float(len(ids))] for _, ids in batch]))
        return torch.nn.functional.normalize(sums / counts, dim=-1)

    def _windows(self, texts: Sequence[str]) -> Iterator[Window]:
        step = self.window_tokens - 2
        for text, encoded in enumerate(self.tokenizer.encode_many(texts)):
            for start in range(0, max(len(encoded), 1), step):
                yield text, [self._first, *encoded.ids[start : start + step], self._last]

    def _sum_states(self, rows: Sequence[list[int]]) -> Tensor:
        """The sum of each row's token states, `[B, D]`."""
        longest = max(map(len, rows))
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        device = self.model.device
        with torch.inference_mode():
            states = self.model(
                input_ids=ids.to(device), attention_mask=mask.to(device)
            ).last_hidden_state
            sums: Tensor = (states.float() * mask.to(device)[..., None]).sum(1).cpu()
        return sums


def _batches(windows: Sequence[Window], batch_tokens: int) -> Iterator[Sequence[Window]]:
    """Splits windows, sorted longest first: the first of a batch determines its padded length."""
    start = 0
    while start < len(windows):
        count = max(1, batch_tokens // len(windows[start][1]))
        yield windows[start : start + count]
        start += count
