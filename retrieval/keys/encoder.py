"""Chunks and questions as a few look-back heads see them, to be compared without being read again.

Idea: a head that finds the answer attends from a question's tokens to the answer's by the inner
product of query and key (RetrievalAttention, arXiv 2409.10516, searches exactly those keys). Here
the passages are not in the prompt, so, each measured in LOG.md:

1. positions are taken off: rotated keys and queries found the passage half as often;
2. a question stands alone behind the template's opening; its tokens' queries are centred, because
   what all questions share is the same for every passage and drowns the rest;
3. keys are centred and brought to unit length: a few long ones would be found by every question;
4. a chunk scores by the mean over the question's tokens of the best key, head by head (late
   interaction as in ColBERT, arXiv 2004.12832). A mean of a chunk's keys found far less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tamis.probes.attention.rope import unrotated
from tamis.probes.errors import ProbeMismatch
from tamis.probes.model.proxy import Kept, Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import Ask, Prompt, Read
from tamis.probes.signal import Want
from tamis.retrieval.keys.late_interaction import SCALE
from tamis.retrieval.keys.recipe import KeyRecipe

WINDOW_TOKENS = 512
Keys = NDArray[np.int8]


class KeyEncoder:
    """Reads chunks and questions with one proxy, by one recipe."""

    def __init__(self, proxy: Proxy, recipe: KeyRecipe) -> None:
        card = (proxy.card.name, proxy.card.revision, proxy.layout.template.name)
        wanted = (recipe.model, recipe.revision, recipe.template)
        if card != wanted:
            raise ProbeMismatch(
                f"the keys are those of {wanted[0]} ({wanted[1][:12]}, template {wanted[2]}) and "
                f"this proxy is {card[0]} ({card[1][:12]}, template {card[2]}); load that one"
            )
        depth, heads = recipe.layers[-1] + 1, 1 + max(head for _, head in recipe.heads)
        if depth > proxy.card.layers or heads > proxy.card.heads:
            raise ProbeMismatch(
                f"the recipe looks at layer {depth - 1} and head {heads - 1}, and {card[0]} has "
                f"{proxy.card.layers} layers of {proxy.card.heads} heads; fit one with "
                "`tamis index fit`"
            )
        self.proxy, self.recipe = proxy, recipe
        self._key_means = torch.tensor(recipe.key_means)
        self._query_means = torch.tensor(recipe.query_means)
        self._weights = torch.tensor(recipe.weights)

    def keys(self, texts: Sequence[str], titles: Sequence[str | None]) -> Iterator[Keys]:
        """Of each text the keys of its title line and tokens, `[N, H·d]` int8.

        Texts beyond a window are read in windows, each under the title; no token is left out.
        """
        tokens = self.proxy.layout.tokens
        lines = tokens.encode_many([f"{title}\n" if title else "" for title in titles])
        reads, owners = [], []
        for t, (line, encoded) in enumerate(zip(lines, tokens.encode_many(texts), strict=True)):
            for at in range(0, max(1, len(encoded)), WINDOW_TOKENS):
                ids = (*line.ids, *encoded.ids[at : at + WINDOW_TOKENS])
                reads.append(Read(ids, len(line), ()))
                owners.append(t)
        yield from _by_owner(owners, self._window_keys(reads), len(texts))

    def question(self, question: str) -> NDArray[np.float32]:
        """The queries of a question's tokens, `[R, H·d]` fp32, centred and weighted."""
        layout = self.proxy.layout
        ask = layout.ask(question)
        own = len(layout.tokens.encode(f" {question}"))
        layers = self.recipe.layers
        states = next(iter(question_states(self.proxy, [ask], layers, room=0)))[:, :, :own]
        start = len(layout.head) + ask.rows
        at = torch.arange(start, start + own)
        found = [
            unrotated(self.proxy.body, layer, states[layers.index(layer), head : head + 1], at)[0]
            for layer, head in self.recipe.heads
        ]
        queries = torch.stack(found).cpu() - self._query_means[:, None]
        weighted = queries * self._weights[:, None, None]
        return np.ascontiguousarray(weighted.transpose(0, 1).flatten(1).numpy())

    def _window_keys(self, reads: Sequence[Read]) -> Iterator[Keys]:
        prompts = [Prompt(read, Ask((), 0)) for read in reads]
        kept = self.proxy.keep(prompts, Want(self.recipe.layers))
        yield from (self._keys(read, of) for read, of in zip(reads, kept, strict=True))

    def _keys(self, read: Read, kept: Kept) -> Keys:
        # [0, head) opening   [head, stop) title line and text, which both answer questions
        head = len(self.proxy.layout.head)
        start, stop = head, head + len(read.ids)
        at, found = torch.arange(start, stop), []
        for layer, number in self.recipe.heads:
            keys = kept[layer].keys[:, start:stop]
            own = number * keys.shape[0] // self.proxy.card.heads  # queries share key heads
            found.append(unrotated(self.proxy.body, layer, keys[own : own + 1], at)[0])
        unit = torch.nn.functional.normalize(
            torch.stack(found).cpu() - self._key_means[:, None], dim=-1
        )
        whole = (unit * SCALE).round().to(torch.int8)
        return np.ascontiguousarray(whole.transpose(0, 1).flatten(1).numpy())


def _by_owner(owners: Sequence[int], windows: Iterator[Keys], texts: int) -> Iterator[Keys]:
    """The windows of each text, joined."""
    held: list[Keys] = []
    for at, found in enumerate(windows):
        held.append(found)
        if at + 1 == len(owners) or owners[at + 1] != owners[at]:
            yield np.concatenate(held)
            held = []
