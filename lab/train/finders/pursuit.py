"""Head Pursuit: which heads' outputs are made of the answer's unembedding rows.

Source: arXiv 2510.21518, §3: with H_h [n, D] a head's outputs at the last row of n prompts and a
dictionary of unembedding rows d_v of a concept, repeat k times:

    v* = argmax_v Σ_n |⟨residual_n, d_v⟩|; least squares on the chosen rows; new residual
    score = the share of H_h's squared length that is explained after k steps

(simultaneous orthogonal matching pursuit).

Departures: the concept is the first token of each prompt's answer, so that the score says which
heads write answers; rows have unit length; outputs are not centred; heads are scored, none scaled.
Models that tie their output to their embeddings only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.errors import BadInput
from tamis_lab.datasets.records import Record
from tamis_lab.methods.window_attention.edited_pass import unembedding
from tamis_lab.methods.window_attention.row_sums import output_weights
from tamis_lab.methods.window_attention.visited_pass import visit_window
from tamis_lab.methods.window_attention.visitor import RowBlock
from tamis_lab.train.heads.cases import PROMPT_TOKENS, answered_cases
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress

STEPS = 10


class Pursuit(HeadFinder):
    """Heads whose outputs are explained by few rows of the answers' tokens."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "share of a head's output that a few answer tokens explain", "arXiv 2510.21518", True
    )

    steps: int = option(STEPS, "Rows that are chosen.", ge=1)
    prompt_tokens: int = option(PROMPT_TOKENS, "Tokens of a prompt's documents.")

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """A single case of all records: `[1, L, H]`.

        Raises:
            BadInput: no record has an answer inside a gold sentence.
        """
        outputs, tokens = [], set()
        for case in answered_cases(records, self.reader, self.prompt_tokens, report):
            ask = self.reader.layout.question_tokens(case.question)
            last = LastOutput()
            trunk = (*self.reader.layout.opening, *case.ids, *ask.ids)
            visit_window(self.reader, trunk, [], range(self.reader.card.layers), [last])
            outputs.append(last.result())
            tokens.add(case.answer_tokens[0])
        if not outputs:
            raise BadInput("no record has an answer inside a gold sentence; pursuit needs some")
        rows = unembedding(self.reader).detach().float()[sorted(tokens)]
        stacked = torch.stack(outputs, 2)  # [L, H, n, d]
        scores = [
            torch.stack(
                [explained_share(o @ w.T, rows, self.steps) for o, w in zip(of, heads, strict=True)]
            )
            for of, heads in zip(stacked, map(output_weights, self.reader.body.layers), strict=True)
        ]
        return torch.stack(scores)[None]


class LastOutput:
    """What each head puts out at the trunk's last row, before W_O: `[L, H, d]`."""

    def __init__(self) -> None:
        self._layers: dict[int, Tensor] = {}

    def visit(self, block: RowBlock) -> None:
        """Keeps the last row of the last block."""
        values = block.values.repeat_interleave(len(block.weights) // len(block.values), 0)
        self._layers[block.layer] = (block.weights[:, -1:] @ values)[:, 0]

    def result(self) -> Tensor:
        """`[L, H, d]`."""
        return torch.stack(list(self._layers.values()))


def explained_share(outputs: Tensor, rows: Tensor, steps: int) -> Tensor:
    """The share of the squared length of outputs `[n, D]` that a few of the rows explain.

    Args:
        rows: the dictionary, `[V, D]`. steps: how many rows are chosen at most.
    """
    total = outputs.square().sum()
    if total == 0:
        return torch.zeros(())
    units = torch.nn.functional.normalize(rows, dim=1)
    chosen: list[int] = []
    residual = outputs
    for _ in range(min(steps, len(rows))):
        match = (residual @ units.T).abs().sum(0)
        match[chosen] = -1
        chosen.append(int(match.argmax()))
        basis = torch.linalg.qr(units[chosen].T).Q
        residual = outputs - outputs @ basis @ basis.T
    return 1 - residual.square().sum() / total


Finder = Pursuit
