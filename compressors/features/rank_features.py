"""Features of whole documents: attention to all of it and to its best unit, by head; its words."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tamis.compressors.features.bm25 import Collection
from tamis.compressors.reading.windows import Reading
from tamis.probes.segmentation.terms import cached_words, stem
from tamis.probes.text import Passage, Unit

RANK_WORDS = ("bm25", "covered", "title_covered", "log_tokens")
_TINY = 1e-9


def rank_features(
    question: str, reading: Reading, passages: Sequence[Passage], units: Sequence[Unit]
) -> Tensor:
    """One row per passage: `[P, 2·L·H + len(RANK_WORDS)]`.

    The attention to the whole passage, then to its best unit, then what `RANK_WORDS` names. Only
    the first half of `reading.features`, the log means, is used.
    """
    place = torch.tensor([unit.passage for unit in units])
    tokens = torch.tensor(reading.tokens, dtype=torch.float32)
    whole = passage_masses(reading, place, len(passages))
    best = best_unit_means(reading, place, len(passages))
    length = torch.zeros(len(passages)).index_add(0, place, tokens).log1p()
    shares = torch.from_numpy(word_shares(question, passages))
    return torch.cat([whole, best, shares, length[:, None]], 1)


def first_word_column(layers: int, heads: int) -> int:
    """The column of the first of `RANK_WORDS`."""
    return 2 * layers * heads


def passage_masses(reading: Reading, place: Tensor, passages: int) -> Tensor:
    """Log of the question rows' attention to all units of each passage, head by head: `[P, L·H]`.

    The first half of `reading.features` is the log of each unit's mean per token, `[U, L·H]`.
    """
    means = _log_means(reading)
    tokens = torch.tensor(reading.tokens, dtype=torch.float32)
    mass = torch.zeros(passages, means.shape[1])
    return mass.index_add(0, place, means.exp() * tokens[:, None]).clamp_min(_TINY).log()


def best_unit_means(reading: Reading, place: Tensor, passages: int) -> Tensor:
    """Of each passage, the log mean per token of the unit that a head attends to most: `[P, L·H]`.

    A passage without units has log(1e-9).
    """
    means = _log_means(reading)
    lowest = torch.full((passages, means.shape[1]), math.log(_TINY))
    return lowest.scatter_reduce(0, place[:, None].expand_as(means), means, "amax")


def _log_means(reading: Reading) -> Tensor:
    return reading.features[:, : reading.features.shape[1] // 2]


def word_shares(question: str, passages: Sequence[Passage]) -> np.ndarray:
    """How much of the question's words each passage has: `[P, 3]`, each from 0 to 1.

    BM25 as a share of what a text of these words alone could reach; the share of the words, weighed
    by their idf among these passages, that title and text cover; the same for the title alone.
    """
    terms = [stem(word) for word in cached_words(question)]
    titles = [[stem(word) for word in cached_words(p.title or "")] for p in passages]
    bodies = [
        [*title, *(stem(word) for word in cached_words(p.text))]
        for title, p in zip(titles, passages, strict=True)
    ]
    collection = Collection.of_terms(bodies)
    idf = {term: collection.idf(term) for term in terms}
    most = math.fsum(idf[t] * n for t, n in Counter(terms).items()) * (collection.k1 + 1) + _TINY
    whole = math.fsum(idf.values()) + _TINY
    rows = [
        (
            score / most,
            math.fsum(idf[t] for t in sorted(set(body) & set(idf))) / whole,
            math.fsum(idf[t] for t in sorted(set(title) & set(idf))) / whole,
        )
        for score, body, title in zip(collection.score(terms), bodies, titles, strict=True)
    ]
    return np.array(rows, dtype=np.float32).reshape(len(passages), 3)
