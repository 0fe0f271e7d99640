"""Write-aware retrieval heads: what a head's look at the needle adds to the answer's logit.

Source: arXiv 2607.01002: with y the answer's token and u_y its unembedding row,

    c[h, j] = a[h, y - 1, j]·(u_yᵀ W_O^h v_j),   score = Σ_{j in needle} c - Σ_{j elsewhere} c

`copy` counts that a head looked at the token; this counts that looking raised the token's logit.

Departures: the mean over the tokens of the answer in the text, given and not generated; the needle
is the gold sentence that holds it; the last norm is folded into u_y by its weight alone; models
that tie their output to their embeddings only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.errors import BadInput
from tamis_lab.datasets.records import Record
from tamis_lab.methods.window_attention.edited_pass import unembedding
from tamis_lab.methods.window_attention.row_sums import LayerSums, output_weights
from tamis_lab.methods.window_attention.visited_pass import visit_window
from tamis_lab.methods.window_attention.visitor import RowBlock
from tamis_lab.train.heads.cases import PROMPT_TOKENS, answered_cases
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress


class Locos(HeadFinder):
    """Heads whose look at the needle raises the answer's logit."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "what looking at the needle adds to the answer's logit", "arXiv 2607.01002", True
    )

    prompt_tokens: int = option(PROMPT_TOKENS, "Tokens of a prompt's documents.")

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """One case a record with an answer in a gold sentence: `[C, L, H]`.

        Raises:
            BadInput: no record has one.
        """
        body = self.reader.body
        rows = unembedding(self.reader).float() * body.norm.weight.float()
        found = []
        for case in answered_cases(records, self.reader, self.prompt_tokens, report):
            ask = self.reader.layout.question_tokens(case.question)
            opening = self.reader.layout.opening
            answer, needle = case.answer_tokens, case.answer_needle
            at = (len(opening) + needle[0], len(opening) + needle[1])
            trunk = (*opening, *case.ids, *ask.ids[:-1])
            sums = WriteSum(body, rows[list(answer)], at, len(trunk))
            branch = (ask.ids[-1], *answer[:-1])
            visit_window(self.reader, trunk, [branch], range(self.reader.card.layers), [sums])
            found.append(sums.result())
        if not found:
            raise BadInput("no record has an answer inside a gold sentence; locos needs some")
        return torch.stack(found)


class WriteSum:
    """The needle's part of the answer's logits less everything else's: `[L, H]`."""

    def __init__(self, body: Any, rows: Tensor, needle: tuple[int, int], trunk: int) -> None:
        """`rows` are u_y of the tokens that the branch's rows predict: `[n, D]`."""
        self._body, self._rows, self._needle, self._trunk = body, rows, needle, trunk
        self._sums = LayerSums()

    def visit(self, block: RowBlock) -> None:
        """Adds the branch's rows, which come in one block or more, in order."""
        if block.branch != 0:
            return
        by_head = output_weights(self._body.layers[block.layer])
        first = block.first - self._trunk
        rows = self._rows[first : first + block.weights.shape[1]]
        written = write_scores(block.weights, block.values, rows @ by_head, self._needle)
        self._sums.add(block.layer, written / len(self._rows))

    def result(self) -> Tensor:
        """The mean over the answer's tokens: `[L, H]`."""
        return self._sums.stack()


def write_scores(
    weights: Tensor, values: Tensor, readout: Tensor, needle: tuple[int, int]
) -> Tensor:
    """Σ over the needle of a·(u·W_O v), less the same of all other tokens: `[H]`, rows summed.

    Args:
        weights: `[H, n, K]`. values: `[Hkv, K, d]`. readout: uᵀ W_O^h of each row, `[H, n, d]`.
    """
    values = values.repeat_interleave(len(weights) // len(values), 0)
    c = (weights * (readout @ values.transpose(1, 2))).sum(1)  # [H, K]
    inside = c[:, slice(*needle)].sum(1)
    return 2 * inside - c.sum(1)


Finder = Locos
