"""AttentionPredictor (arXiv 2502.04077, §4): a small network predicts which blocks come next.

The attention of the rows before, max-pooled over 16 keys, is an image of rows and blocks. Two
convolutions, a mean over rows and a last convolution of width 1 (4,833 weights for all heads) give
every block of the next row a score. The best blocks are read, the first and the last 64 keys
always; every eighth row of a question reads all keys. A prediction reads no key.

    [8 rows, N/16] -> conv 3x3, 16 -> ReLU -> conv 3x3, 32 -> ReLU -> mean over rows -> conv 1x1, 1

Departures: rows of one question are the steps of decoding; the history has 8 rows in place of 64,
since a question has about 20; the network is fitted on the training queries of the same keys, 60
steps of Adam on the squared error; the paper fits it once on other texts.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from tamis_lab.methods.kv_search.contract import SelectorInfo, block_members, geometric_steps
from tamis_lab.methods.kv_search.shared_selector import (
    Setting,
    SharedSelectorClass,
    best_hits_of_heads,
    prepare_heads,
    question_rows,
)
from tamis_lab.methods.kv_search.types import KeyHits

BLOCK, HISTORY, STRIDE = 16, 8, 8
ALWAYS = 64 // BLOCK
"""Blocks at each end that are always read."""
STEPS, BATCH, TRAINING_ROWS, RATE = 60, 16, 128, 1e-2


class Predicted:
    """Reads the blocks that a network predicts from the rows before."""

    info: ClassVar[SelectorInfo] = SelectorInfo(
        "blocks predicted from the rows before by a small network",
        "AttentionPredictor, 2502.04077",
        "keys read whole",
        needs="rows",
    )

    def __init__(self, keys: Tensor, train: Tensor, setting: Setting) -> None:
        self._keys = keys
        self.efforts = geometric_steps(min(100, keys.shape[1]), keys.shape[1])
        self.network = fit_predictor(pooled_rows(train[:, :TRAINING_ROWS], keys))

    def search(self, queries: Tensor, k: int, effort: int, questions: Tensor) -> KeyHits:
        """The best keys of the predicted blocks, as many as hold `effort` keys."""
        queries = prepare_heads(queries, self._keys, k, effort, questions)
        S, N, _ = self._keys.shape
        count = min(max(effort, k), N)
        ids: list[list[Tensor]] = [[] for _ in range(S)]
        read = 0
        for rows in question_rows(questions):
            history = self._keys.new_zeros(S, HISTORY, -(-N // BLOCK))
            for number, row in enumerate(range(rows.stop)[rows]):
                logits = torch.einsum("sd,snd->sn", queries[:, row], self._keys)
                if number % STRIDE:
                    chosen = self._predicted_keys(history, count)
                    logits = mask_others(logits, chosen)
                    read += int((chosen >= 0).sum())
                else:
                    read += S * N
                for own, found in zip(ids, logits.topk(count).indices, strict=True):
                    own.append(found)
                weights = pool_max(logits.softmax(1))
                history = torch.cat((history[:, 1:], weights[:, None]), 1)
        return best_hits_of_heads(self._keys, queries, list(map(torch.stack, ids)), k, read)

    def _predicted_keys(self, history: Tensor, count: int) -> Tensor:
        """The keys of the best blocks that hold at least `count` keys: `[S, C]`, -1 for none."""
        scores = predict(self.network, history)
        scores[:, :ALWAYS] = scores[:, -ALWAYS:] = torch.inf
        blocks = scores.shape[1]
        # the last block may be short, so one more than the keys fill
        number = min(blocks, max(2 * ALWAYS, -(-count // BLOCK) + 1))
        best = scores.topk(number).indices
        return block_members(best, BLOCK, self._keys.shape[1])


def new_network() -> nn.Sequential:
    """The layers before the mean over rows, and the last one: 4,833 weights."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 1, 1),
    )


def predict(network: nn.Sequential, history: Tensor) -> Tensor:
    """The score of every block in the next row: `[S, T, B]` to `[S, B]`."""
    with torch.no_grad():
        return _apply(network, history)


def _apply(network: nn.Sequential, history: Tensor) -> Tensor:
    features = network[:-1](history[:, None] * history.shape[-1])
    found: Tensor = network[-1](features.mean(2, keepdim=True))[:, 0, 0]
    return found


def fit_predictor(rows: Tensor) -> nn.Sequential:
    """A network fitted to predict each row's blocks from the eight rows before.

    Args:
        rows: pooled attention of consecutive rows, `[S, T, B]`; the same rows and seed give the
            same network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = new_network().to(rows.device)
        places = torch.randint(1, max(2, rows.shape[1]), (STEPS, BATCH))
        heads = torch.randint(0, len(rows), (STEPS, BATCH))
    if rows.shape[1] < 2:
        return network
    padded = torch.nn.functional.pad(rows, (0, 0, HISTORY, 0))
    solver = torch.optim.Adam(network.parameters(), lr=RATE)
    with torch.enable_grad():
        for at, head in zip(places.tolist(), heads.tolist(), strict=True):
            pairs = list(zip(head, at, strict=True))
            history = torch.stack([padded[h, t : t + HISTORY] for h, t in pairs])
            due = torch.stack([rows[h, t] for h, t in pairs]) * rows.shape[2]
            solver.zero_grad()
            (_apply(network, history) - due).square().mean().backward()  # type: ignore[no-untyped-call]
            solver.step()
    return network


def pooled_rows(queries: Tensor, keys: Tensor) -> Tensor:
    """The attention of `[S, T, D]` queries, max-pooled over blocks: `[S, T, B]`."""
    pairs = zip(queries, keys, strict=True)
    return torch.stack([pool_max((rows @ own.T).softmax(1)) for rows, own in pairs])


def pool_max(weights: Tensor) -> Tensor:
    """The maximum of each block of 16 keys: `[..., N]` to `[..., B]`."""
    short = -weights.shape[-1] % BLOCK
    padded = torch.nn.functional.pad(weights, (0, short))
    return padded.view(*weights.shape[:-1], -1, BLOCK).amax(-1)


def mask_others(logits: Tensor, chosen: Tensor) -> Tensor:
    """Logits `[S, N]` of the chosen keys `[S, C]` alone, -inf elsewhere; -1 stands for none."""
    kept = torch.full_like(logits, -torch.inf)
    ids = torch.where(chosen < 0, chosen[:, :1], chosen)
    return kept.scatter(1, ids, logits.gather(1, ids))


Selector: SharedSelectorClass = Predicted
