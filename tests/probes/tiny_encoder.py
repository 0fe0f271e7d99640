"""A random BERT of two layers with a word-piece tokenizer, written as a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel

MARKS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
SIZE = 16


def write_encoder(folder: Path, words: Sequence[str], positions: int = 512, seed: int = 3) -> Path:
    """Writes one that knows these words; wide weights, so that a wrong mask shows."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(MARKS) + len(words),
        hidden_size=SIZE,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=positions,
        initializer_range=0.5,
    )
    BertModel(config).save_pretrained(folder)
    pieces = {word: i for i, word in enumerate([*MARKS, *words])}
    tokenizer = Tokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(MARKS)
    # the published file truncates and pads to 128; neither may have any effect
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=7)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder
