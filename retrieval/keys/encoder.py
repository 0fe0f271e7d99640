"""Encodes chunks as keys and questions as queries of a few attention heads of a proxy.

Idea: a head that finds the answer attends from a question's tokens to the answer's by the inner
product of query and key (RetrievalAttention, arXiv 2409.10516, searches exactly those keys). Here
the passages are not in the prompt, so the following differs; each was measured, see
lab/log/retrieval-and-selectors.md#2026-11-24-the-corpus-index:

1. rotary positions are removed: rotated keys and queries found the passage half as often;
2. a question is read alone, behind the template's opening; its tokens' queries are centred, because
   what all questions have in common is the same for every passage and outweighs the rest;
3. keys are centred and brought to unit length: a few long ones would be found by every question;
4. a chunk scores by the mean over the question's tokens of the best key, head by head (late
   interaction as in ColBERT, arXiv 2004.12832). A mean of a chunk's keys found far less.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from tamis.probes.attention.kv_layers import ExactKVLayers
from tamis.probes.attention.rope import remove_rotation
from tamis.probes.errors import ProbeMismatch
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis.retrieval.keys.late_interaction import SCALE
from tamis.retrieval.keys.recipe import KeyRecipe

WINDOW_TOKENS = 512
Keys = NDArray[np.int8]


class KeyEncoder:
    """Encodes chunks and questions with one proxy, by one recipe."""

    def __init__(self, proxy: Proxy, recipe: KeyRecipe) -> None:
        given = (proxy.card.name, proxy.card.revision, proxy.layout.template.name)
        wanted = (recipe.model, recipe.revision, recipe.template)
        if given != wanted:
            raise ProbeMismatch(
                f"the keys are those of {wanted[0]} ({wanted[1][:12]}, template {wanted[2]}) and "
                f"this proxy is {given[0]} ({given[1][:12]}, template {given[2]}); load that one"
            )
        depth, heads = recipe.layers[-1] + 1, 1 + max(head for _, head in recipe.heads)
        if depth > proxy.card.layers or heads > proxy.card.heads:
            raise ProbeMismatch(
                f"the recipe looks at layer {depth - 1} and head {heads - 1}, and {given[0]} has "
                f"{proxy.card.layers} layers of {proxy.card.heads} heads; fit one with "
                "`tamis lab fit-recipe`"
            )
        self.proxy, self.recipe = proxy, recipe
        self._key_means = torch.tensor(recipe.key_means)
        self._query_means = torch.tensor(recipe.query_means)
        self._weights = torch.tensor(recipe.weights)

    def encode_chunks(self, texts: Sequence[str], titles: Sequence[str | None]) -> Iterator[Keys]:
        """The keys of each text, of its title line and its tokens: `[N, H·d]` int8 a text.

        A text longer than a window is read in windows, each under the title; no token is left out.
        """
        tokenizer = self.proxy.layout.tokenizer
        lines = tokenizer.encode_many([f"{title}\n" if title else "" for title in titles])
        windows, owners = [], []
        for t, (line, encoded) in enumerate(zip(lines, tokenizer.encode_many(texts), strict=True)):
            for first in range(0, max(1, len(encoded)), WINDOW_TOKENS):
                ids = (*line.ids, *encoded.ids[first : first + WINDOW_TOKENS])
                windows.append(PassageTokens(ids, len(line), ()))
                owners.append(t)
        yield from _join_windows(owners, self._window_keys(windows))

    def encode_question(self, question: str) -> NDArray[np.float32]:
        """The queries of a question's tokens, `[R, H·d]` fp32, centred and weighted."""
        layout = self.proxy.layout
        tokens = layout.question_tokens(question)
        own = len(layout.tokenizer.encode(f" {question}"))
        layers = self.recipe.layers
        states = next(iter(question_states(self.proxy, [tokens], layers, passage_tokens=0)))
        start = len(layout.opening) + tokens.first_row
        positions, heads = torch.arange(start, start + own), []
        for layer, head in self.recipe.heads:
            rotated = states[layers.index(layer), head : head + 1, :own]
            heads.append(remove_rotation(self.proxy.body, layer, rotated, positions)[0])
        queries = torch.stack(heads).cpu() - self._query_means[:, None]
        weighted = queries * self._weights[:, None, None]
        return np.ascontiguousarray(weighted.transpose(0, 1).flatten(1).numpy())

    def _window_keys(self, windows: Sequence[PassageTokens]) -> Iterator[Keys]:
        prompts = [Prompt(window, QuestionTokens((), 0)) for window in windows]
        kv = self.proxy.compute_kv(prompts, Want(self.recipe.layers))
        pairs = zip(windows, kv, strict=True)
        yield from (self.window_keys(window, layers) for window, layers in pairs)

    def window_keys(self, window: PassageTokens, layers: ExactKVLayers) -> Keys:
        """The keys of a window that was read, of its title line and its tokens: `[N, H·d]` int8.

        Args:
            layers: exact, the opening's keys first; at least those of the recipe.
        """
        # [0, start) opening   [start, stop) title line and text, which both answer questions
        start = len(self.proxy.layout.opening)
        stop = start + len(window.ids)
        positions, heads = torch.arange(start, stop), []
        for layer, query_head in self.recipe.heads:
            keys = layers[layer].keys[:, start:stop]
            own = query_head * keys.shape[0] // self.proxy.card.heads  # several queries share a key
            heads.append(remove_rotation(self.proxy.body, layer, keys[own : own + 1], positions)[0])
        unit = torch.nn.functional.normalize(
            torch.stack(heads).cpu() - self._key_means[:, None], dim=-1
        )
        rounded = (unit * SCALE).round().to(torch.int8)
        return np.ascontiguousarray(rounded.transpose(0, 1).flatten(1).numpy())


def _join_windows(owners: Sequence[int], windows: Iterator[Keys]) -> Iterator[Keys]:
    """Joins the windows of each text; `owners` has the number of each window's text, ascending."""
    own: list[Keys] = []
    for i, keys in enumerate(windows):
        own.append(keys)
        if i + 1 == len(owners) or owners[i + 1] != owners[i]:
            yield np.concatenate(own)
            own = []
