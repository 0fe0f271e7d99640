"""AT2: heads whose attention foretells what the model's own answer loses without a sentence.

Source: Cohen-Wang et al. 2025 (arXiv 2504.13752, §3). The model answers; sentences s are left out
at random, v_s in {0, 1} with chance 1/2, m times; with a[l, h, s] the mass of a head on s,

    f(v) = logit p(answer | v),   g(v) = Σ_s v_s Σ_lh θ[l, h]·a[l, h, s]
    loss = -Pearson(f, g) over the m masks, mean over questions; score = θ

No label is read: any text with a question will do.

Departures: masses are those of the question's rows, as everywhere in tamis, not of the answer's;
they are divided by their standard deviation over all sentences, so that θ compares heads of any
mean mass; 16 masks a question instead of 32; an L2 penalty; and those of `masked_answers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from tamis.compressors.options import option
from tamis.probes.errors import BadInput
from tamis.probes.prompt import PassageTokens, Prompt
from tamis_lab.datasets.records import Record
from tamis_lab.methods.head_scores import document_masses
from tamis_lab.train.heads.cases import want_all_layers
from tamis_lab.train.heads.finder import FinderInfo, HeadFinder, Progress
from tamis_lab.train.heads.masked_answers import (
    MASKS,
    TOKENS,
    check_masks,
    first_sentences,
    logits_under_masks,
)

L2, STEPS = 1e-3, 300


@dataclass(frozen=True, slots=True)
class MaskedAnswers:
    """What leaving sentences out did to one answer.

    Attributes:
        masses: of each head on each of S sentences, `[F, S]` with F = L·H.
        kept: which sentences stood in each prompt, `[M, S]` of 0 and 1.
        logits: of the answer's probability, `[M]`.
    """

    masses: Tensor
    kept: Tensor
    logits: Tensor


class At2(HeadFinder):
    """Heads whose mass on a sentence says what the answer loses without it."""

    info: ClassVar[FinderInfo] = FinderInfo(
        "what the model's own answer loses without each sentence, foretold by a head's mass; "
        "reads no labels",
        "arXiv 2504.13752",
        True,
    )

    masks: int = option(MASKS, "Prompts with sentences left out, for each question.")
    tokens: int = option(
        TOKENS, "Tokens of a record's text that are read, whole sentences from its beginning."
    )

    def setup(self) -> None:
        """Refuses what estimates nothing.

        Raises:
            BadInput: fewer than 4 masks or 16 tokens.
        """
        check_masks(self.masks, self.tokens)

    def find(self, records: Sequence[Record], report: Progress) -> Tensor:
        """A single case, θ: `[1, L, H]`.

        Raises:
            BadInput: no record has two sentences or more, so nothing could be left out.
        """
        chance, found = torch.Generator().manual_seed(self.seed), []
        with torch.no_grad():
            for done, record in enumerate(records, 1):
                if (one := self._answers(record, chance)) is not None:
                    found.append(one)
                report(done, len(records))
        if not found:
            raise BadInput(
                "at2 leaves sentences out and sees what the answer loses: none of "
                f"{len(records)} records has two in its first {self.tokens} tokens"
            )
        card = self.reader.card
        return fit_effects(found).view(1, card.layers, card.heads)

    def _answers(self, record: Record, chance: torch.Generator) -> MaskedAnswers | None:
        """The answer's probability under masks; None where nothing can be left out."""
        sentences = first_sentences(self.reader, record, self.tokens)
        if len(sentences.spans) < 2:
            return None
        question = record["question"]
        ask = self.reader.layout.question_tokens(question)
        prompt = Prompt(PassageTokens(sentences.ids, 0, sentences.spans), ask)
        (signal,) = self.reader.read([prompt], want_all_layers(self.reader))
        masses = document_masses(signal, sentences.spans).flatten(1).T
        kept, logits = logits_under_masks(self.reader, question, sentences, self.masks, chance)
        return MaskedAnswers(masses, kept, logits)


def fit_effects(found: Sequence[MaskedAnswers], l2: float = L2, steps: int = STEPS) -> Tensor:
    """θ of each head: `[F]`, for masses divided by their standard deviation."""
    every = torch.cat([one.masses for one in found], 1)
    scale = every.std(1).clamp_min(1e-8)
    inputs = [(one.masses / scale[:, None] @ one.kept.T).T for one in found]  # [M, F] each
    inputs = [x - x.mean(0) for x in inputs]
    targets = [one.logits - one.logits.mean() for one in found]
    theta = torch.full((len(every),), 1 / len(every), requires_grad=True)
    solver = torch.optim.Adam([theta], lr=0.02)
    for _ in range(steps):
        solver.zero_grad()
        pearsons = [
            torch.nn.functional.cosine_similarity(x @ theta, y, dim=0)
            for x, y in zip(inputs, targets, strict=True)
        ]
        loss = l2 * theta.square().sum() - torch.stack(pearsons).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        solver.step()
    return theta.detach()


Finder = At2
