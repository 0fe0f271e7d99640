"""The cross-encoder in training: a BERT with low-rank adapters beside its frozen projections.

It computes what `probes/model/cross_encoder.py` does, with gradients. Biases, norms and the vectors
of the two segments are learnt whole, projections by adapters; word vectors stay.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, layer_norm, normalize

from tamis.probes.model.encoder import pad_rows
from tamis_lab.train.lora.lowrank import FrozenLinear, LowRankLinear

QUESTION_TOKENS, PASSAGE_TOKENS = 64, 120
"""What is read of each in training; longer ones are read whole where it is used."""
BATCH_TOKENS = 4096
SCALE = 2.0
"""The factor of an adapter's product."""
_PRODUCTS = (
    "attention.self.query",
    "attention.self.key",
    "attention.self.value",
    "attention.output.dense",
    "intermediate.dense",
    "output.dense",
)
_NORMS = ("attention.output.LayerNorm", "output.LayerNorm")


class _Projection(nn.Module):
    def __init__(self, weight: Tensor, bias: Tensor, rank: int, draw: torch.Generator) -> None:
        super().__init__()
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight.bfloat16(), requires_grad=False)
        self.product = LowRankLinear(FrozenLinear(layer), rank, SCALE, draw)
        self.bias = nn.Parameter(bias.float())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.product(x)
        return found + self.bias.to(x.dtype)


class CrossStudent(nn.Module):
    """Question and passage to log odds, from an encoder in a folder."""

    def __init__(self, folder: Path, rank: int = 48, seed: int = 0) -> None:
        super().__init__()
        config = json.loads((folder / "config.json").read_text("utf-8"))
        found = load_file(folder / "model.safetensors")
        weights = {name.removeprefix("bert."): t.float() for name, t in found.items()}
        self.heads, self.eps = config["num_attention_heads"], config["layer_norm_eps"]
        self.layers, self.rank = config["num_hidden_layers"], rank
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()
        draw = torch.Generator().manual_seed(seed)
        self.words = weights["embeddings.word_embeddings.weight"]
        self.positions = weights["embeddings.position_embeddings.weight"]
        self.projections, self.whole = nn.ModuleDict(), nn.ParameterDict()
        segments = weights["embeddings.token_type_embeddings.weight"]
        self._learn("embeddings.token_type_embeddings.weight", segments[:1].repeat(2, 1))
        norms = ["embeddings.LayerNorm"]
        for layer in range(self.layers):
            norms += [f"encoder.layer.{layer}.{norm}" for norm in _NORMS]
            for product in _PRODUCTS:
                name = f"encoder.layer.{layer}.{product}"
                pair = weights[f"{name}.weight"], weights[f"{name}.bias"]
                self.projections[_key(name)] = _Projection(*pair, rank, draw)
        for norm in norms:
            self._learn(f"{norm}.weight", weights[f"{norm}.weight"])
            self._learn(f"{norm}.bias", weights[f"{norm}.bias"])
        for part in ("cosine", "interaction", "intercept"):
            self._learn(f"head.{part}", torch.zeros(()))
        self._learn("head.first", torch.zeros(config["hidden_size"]))

    def encode(self, text: str, most: int) -> list[int]:
        """The first word pieces of a text."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids[:most]

    def score(self, pairs: Sequence[tuple[list[int], list[int]]]) -> Tensor:
        """The log odds of pairs of word pieces, `[N]`; pairs of like length are read together."""
        values, order = list[Tensor](), list[int]()
        for batch in _batches(pairs):
            cosine, interaction, first = self.read([pairs[i] for i in batch])
            by = self.whole
            total = by["head-cosine"] * cosine + by["head-interaction"] * interaction
            values.append(total + first @ by["head-first"] + by["head-intercept"])
            order += batch
        return torch.cat(values)[torch.tensor(order).argsort()]

    def read(self, pairs: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
        """Cosine and late interaction, `[B]` each, and the states of [CLS], `[B, D]`."""
        marks: list[Any] = [self.tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]")]
        first, last = marks
        rows = [[first, *asked, last, *read, last] for asked, read in pairs]
        ids, mask = pad_rows(rows)
        place = torch.arange(ids.shape[1])
        ends = torch.tensor([[len(row)] for row in rows])
        begins = torch.tensor([[len(asked) + 2] for asked, _ in pairs])
        states = self._states(ids, mask, (place >= begins) & mask).float()
        question = (place >= 1) & (place < begins - 1)
        passage = (place >= begins) & (place < ends - 1)
        means = [normalize((states * of[..., None]).sum(1), dim=-1) for of in (question, passage)]
        unit = normalize(states, dim=-1)
        alike = (unit @ unit.transpose(1, 2)).masked_fill(~passage[:, None], -1.0).amax(-1)
        interaction = (alike * question).sum(1) / question.sum(1).clamp_min(1)
        return (means[0] * means[1]).sum(-1), interaction, states[:, 0]

    @torch.no_grad()
    def begin_with(self, pairs: Sequence[tuple[list[int], list[int]]], targets: Tensor) -> None:
        """Fits the weights of cosine and interaction to targets `[N]`, before any step."""
        rows = torch.ones(len(pairs), 3)
        for batch in _batches(pairs):
            cosine, interaction, _ = self.read([pairs[i] for i in batch])
            rows[batch, 0], rows[batch, 1] = cosine, interaction
        fitted = torch.linalg.lstsq(rows, targets[:, None]).solution[:, 0]
        for part, value in zip(("cosine", "interaction", "intercept"), fitted, strict=True):
            self.whole[f"head-{part}"].copy_(value)

    def tensors(self) -> dict[str, Tensor]:
        """What was learnt, by the names of `CrossEncoder.from_folder`."""
        found = {name.replace("-", "."): value for name, value in self.whole.items()}
        for key, module in self.projections.items():
            name, projection = key.replace("-", "."), cast("_Projection", module)
            found[f"{name}.weight.a"] = projection.product.a
            found[f"{name}.weight.b"] = projection.product.b
            found[f"{name}.bias"] = projection.bias
        return {name: tensor.detach().float().contiguous() for name, tensor in found.items()}

    def _learn(self, name: str, value: Tensor) -> None:
        self.whole[_key(name)] = nn.Parameter(value.clone())

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight, bias = (self.whole[_key(f"{name}.{end}")].to(x.dtype) for end in ("weight", "bias"))
        return layer_norm(x, x.shape[-1:], weight, bias, self.eps)

    def _states(self, ids: Tensor, mask: Tensor, second: Tensor) -> Tensor:
        segments = self.whole[_key("embeddings.token_type_embeddings.weight")]
        x = embedding(ids, self.words) + self.positions[: ids.shape[1]]
        x = self._norm(x + embedding(second.long(), segments), "embeddings.LayerNorm").bfloat16()
        hidden = torch.zeros(mask.shape).masked_fill(~mask, -1e4).bfloat16()[:, None, None]
        for layer in range(self.layers):
            x = self._layer(x, hidden, f"encoder.layer.{layer}")
        return x

    def _layer(self, x: Tensor, hidden: Tensor, name: str) -> Tensor:
        def product(part: str, x: Tensor) -> Tensor:
            found: Tensor = self.projections[_key(f"{name}.{part}")](x)
            return found

        split = (*x.shape[:2], self.heads, -1)
        query, key, value = (
            product(f"attention.self.{part}", x).view(split).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        # plain products: the backward pass of torch's fused attention takes four times as long
        logits = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2) + hidden
        mixed = (logits.softmax(-1) @ value).transpose(1, 2).flatten(2)
        x = self._norm(product("attention.output.dense", mixed) + x, f"{name}.{_NORMS[0]}")
        grown = gelu(product("intermediate.dense", x))
        return self._norm(product("output.dense", grown) + x, f"{name}.{_NORMS[1]}")


def _key(name: str) -> str:
    return name.replace(".", "-")  # names of modules have no dots


def _batches(pairs: Sequence[tuple[list[int], list[int]]]) -> list[list[int]]:
    """The places of pairs, the longest first, in batches of at most `BATCH_TOKENS` with padding."""
    sizes = [len(asked) + len(read) + 3 for asked, read in pairs]
    order, found = sorted(range(len(pairs)), key=lambda i: -sizes[i]), list[list[int]]()
    while order:
        count = max(1, BATCH_TOKENS // sizes[order[0]])
        found.append(order[:count])
        order = order[count:]
    return found
