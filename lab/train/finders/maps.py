"""MAPS: which heads copy, from the weights alone: does W_V W_O map a token to itself?

Source: Elhelo & Geva 2024 (arXiv 2412.11965, §3): with E' the embeddings (in layers above the first
with the first feed-forward layer added) and U the unembedding, norms folded in,

    M_h = E' W_V^{g(h)} W_O^h Uᵀ,   score = share of tokens s that are among the top k of row s

for the relation "copying". It tells what a head writes, not where it looks.

Departures: copying alone, k = 1, of 100 frequent words: the first tokens of the vocabulary that
begin a word of three letters or more, which byte-pair vocabularies list by frequency; suppression
(`sign=-1`) by the same with -M. Models that tie their output to their embeddings only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import rms_norm, silu

from tamis.compressors.options import option
from tamis.probes.errors import BadInput
from tamis_lab.datasets.records import Record
from tamis_lab.methods.window_attention.edited_pass import unembedding
from tamis_lab.methods.window_attention.row_sums import output_weights
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress

WORDS, TOP = 100, 1


class Maps(HeadFinder):
    """Heads that write the token they read."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "whether a head writes the token it reads, from the weights alone", "arXiv 2412.11965"
    )

    words: int = option(WORDS, "How many tokens are tried.", ge=1)
    top: int = option(TOP, "The rank down to which a token counts as written.", ge=1)
    sign: Literal[1, -1] = option(1, "-1 finds heads that suppress the token they read.")

    @torch.inference_mode()
    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """A single case: `[1, L, H]`."""
        body, rows = self.reader.body, unembedding(self.reader)
        tokens = frequent_words(self.reader, self.words)
        states = rows[tokens].float()
        first = body.layers[0]
        fed = _feed_forward(first.mlp, _norm(states, first.post_attention_layernorm))
        read_out = (rows.float() * body.norm.weight.float()).to(rows.dtype)
        found = []
        for number, layer in enumerate(body.layers):
            given = _norm(states + fed if number else states, layer.input_layernorm)
            attn = layer.self_attn
            values = (given @ attn.v_proj.weight.detach().float().T).view(
                len(tokens), -1, attn.head_dim
            )
            by_head = output_weights(layer)
            values = values.transpose(0, 1).repeat_interleave(len(by_head) // values.shape[1], 0)
            written = self.sign * values @ by_head.transpose(1, 2)  # [H, S, D]
            found.append(
                torch.stack([copied_share(w, read_out, tokens, self.top) for w in written])
            )
            report(number + 1, len(body.layers))
        return torch.stack(found)[None]


def copied_share(written: Tensor, rows: Tensor, tokens: Sequence[int], top: int) -> Tensor:
    """The share of tokens that are among the `top` of their own row of M: a number.

    Args:
        written: what a head writes for each token, `[S, D]`. rows: unembedding, `[V, D]`.
    """
    logits = written.to(rows.dtype) @ rows.T
    own = logits.gather(1, torch.tensor(tokens)[:, None])
    return ((logits > own).sum(1) < top).float().mean()


def frequent_words(reader: Any, count: int) -> list[int]:
    """The first tokens of the vocabulary that begin a word of three letters or more.

    Raises:
        BadInput: there are fewer.
    """
    text, found = reader.layout.tokenizer.token_text, []
    for token in range(int(reader.config.vocab_size)):
        shown = text(token)
        if shown[:1] == " " and len(shown) > 3 and shown[1:].isalpha():
            found.append(token)
        if len(found) == count:
            return found
    raise BadInput(
        f"{reader.card.name} has {len(found)} tokens that begin a word; give words=N below that"
    )


def _norm(states: Tensor, module: Any) -> Tensor:
    weight = module.weight.float()
    return rms_norm(states, weight.shape, weight, float(module.variance_epsilon))


def _feed_forward(mlp: Any, states: Tensor) -> Tensor:
    gate, up, down = (
        getattr(mlp, name).weight.detach().float() for name in ("gate_proj", "up_proj", "down_proj")
    )
    result: Tensor = (silu(states @ gate.T) * (states @ up.T)) @ down.T
    return result


Finder = Maps
