"""What is known of a document: attention to all of it and to its best unit, by head; its words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.bm25 import Collection
from tamis.compressors.reading.windows import Reading
from tamis.probes.segmentation.terms import stem, words
from tamis.probes.text import Passage, Unit

RANK_WORDS = ("bm25", "covered", "title_covered", "log_tokens")
_TINY = 1e-9


def rank_features(
    question: str, look: Reading, passages: Sequence[Passage], units: Sequence[Unit]
) -> Tensor:
    """One row a passage: `[P, 2·L·H + len(RANK_WORDS)]`, whatever `look` pooled beside the mean.

    The whole passage's attention, its best unit's, then what `RANK_WORDS` names.
    """
    place = torch.tensor([unit.passage for unit in units])
    tokens = torch.tensor(look.tokens, dtype=torch.float32)
    whole, best = masses(look, place, len(passages)), best_units(look, place, len(passages))
    length = torch.zeros(len(passages)).index_add(0, place, tokens).log1p()
    said = torch.from_numpy(said_of(question, passages))
    return torch.cat([whole, best, said, length[:, None]], 1)


def words_at(layers: int, heads: int) -> int:
    """The column of the first of `RANK_WORDS`."""
    return 2 * layers * heads


def masses(look: Reading, place: Tensor, passages: int) -> Tensor:
    """Log of the question rows' attention to all units of each passage, head by head: `[P, L·H]`.

    `look.features` begin with the log mean a token of each unit, `[U, L·H]`.
    """
    means = _means(look)
    tokens = torch.tensor(look.tokens, dtype=torch.float32)
    mass = torch.zeros(passages, means.shape[1])
    return mass.index_add(0, place, means.exp() * tokens[:, None]).clamp_min(_TINY).log()


def best_units(look: Reading, place: Tensor, passages: int) -> Tensor:
    """Log mean a token of the unit of each passage that a head looks at most: `[P, L·H]`.

    A passage without units has the least there is.
    """
    means = _means(look)
    least = torch.full((passages, means.shape[1]), math.log(_TINY))
    return least.scatter_reduce(0, place[:, None].expand_as(means), means, "amax")


def _means(look: Reading) -> Tensor:
    return look.features[:, : look.features.shape[1] // 2]


def said_of(question: str, passages: Sequence[Passage]) -> np.ndarray:
    """What the question's words say of each passage: `[P, 3]`, each from 0 to 1.

    BM25 as a share of what a text of these words alone could reach, rare words covered by title and
    text, and by the title; how rare a word is, the passages at hand tell.
    """
    asked = [stem(word) for word in words(question)]
    titles = [[stem(word) for word in words(p.title or "")] for p in passages]
    bodies = [
        [*title, *(stem(word) for word in words(p.text))]
        for title, p in zip(titles, passages, strict=True)
    ]
    held = Collection([" ".join(body) for body in bodies])
    idf = {term: held.idf(term) for term in asked}
    most = math.fsum(idf[t] * n for t, n in Counter(asked).items()) * (held.k1 + 1) + _TINY
    whole = math.fsum(idf.values()) + _TINY
    rows = [
        (
            score / most,
            math.fsum(idf[t] for t in sorted(set(body) & set(idf))) / whole,
            math.fsum(idf[t] for t in sorted(set(title) & set(idf))) / whole,
        )
        for score, body, title in zip(held.score(asked), bodies, titles, strict=True)
    ]
    return np.array(rows, dtype=np.float32).reshape(len(passages), 3)
