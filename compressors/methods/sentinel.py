"""Sentinel as published: the last prompt token's attention, every head, a logistic regression.

Source: "Sentinel: Decoding Context Utilization via Attention Probing", arXiv 2505.23277, §3 and
App. Plain prompt without chat template; the whole context in one prompt, in chunks of 1,024 tokens
that hold whole sentences; the last token's row, softmax over the whole prompt, rescaled to sum to 1
inside the context, averaged over the sentence's tokens (the released code; the third version's text
writes a sum); L·H features; logistic regression with balanced classes.

Departures: tamis's own sentences; template, titles, passages and question are tokenised apart, as
everywhere in tamis; documents are joined by a blank line, under their titles; training on the
project's data; the probe of the 0.5B was fitted as published, on 761 questions of SQuAD 2 that it
answers with their context and not without (of 2,315), that of gemma3-270m without that filter, on
985, that of the 135M by the recipe `like-cases`: every sentence of a question, in its own order, of
documents among distractors, where the paper takes one gold and one other sentence of a short
shuffled context; C is the one of five with the best cross-validated AUC; units are chosen by
tamis's selection, which fills the budget, where the paper stops at the first sentence that does not
fit. A model that needs its opening token (Gemma) gets it first. Layers with a sliding window
shorter than a chunk are features like all others: they attend to the chunk's end alone, and the
regression has to learn that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tamis.compressors.features.shipped_probes import choose_probe, load_probe, shipped_probe
from tamis.compressors.method import MethodInfo, TwoStepMethod
from tamis.compressors.options import option
from tamis.compressors.reading.joining import join_passages
from tamis.compressors.reading.windows import Reading, opening_token, read_windows
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.prompt import TEMPLATES, Template
from tamis.probes.signal import SharedRows, Signal, Spans, Want, pool_shared
from tamis.text.types import Passage, Unit

CHUNK_TOKENS = 1024
LEAST_AUC = 0.8
"""A probe is read without a warning where it reaches this on held-out sentences."""
WAY_OUT = "read with qwen2.5-coder-0.5b, of the paper's size: tamis models pull qwen2.5-coder-0.5b"


def pool_context_shares(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
    """Each sentence's mean share of the context's attention, head by head: `[U, L·H]`."""
    total = signal.weights.sum(-1, keepdim=True).clamp_min(1e-8)
    shares = Signal(signal.weights / total, signal.layers, signal.rows)
    return shares.pool(spans, "mean").flatten(1)


def pool_context_batch(rows: Sequence[SharedRows], spans: Sequence[Spans]) -> Tensor:
    """What `pool_context_shares` gives for each of many sequences of one batch, in few calls."""
    contexts: list[Spans] = [[(0, one.stop - one.start)] for one in rows]
    sums, _, widths = pool_shared([*rows, *rows], [*spans, *contexts])
    units = sum(map(len, spans))
    totals = [
        total.expand(len(some), *total.shape)
        for total, some in zip(sums[units:].clamp_min(1e-8), spans, strict=True)
    ]
    return (sums[:units] / widths[:units] / torch.cat(totals)).flatten(1)


def sentinel_template(own: Template) -> Template:
    """Sentinel's template, after the opening token that the proxy's own template begins with."""
    words = TEMPLATES["sentinel"]
    if not (token := opening_token(own)):
        return words
    return replace(words, name=f"{words.name}_opened", opening=token + words.opening)


class Sentinel(TwoStepMethod):
    """Scores units by Sentinel's logistic regression; the published method to beat."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "the last row of one prompt, every head, logistic regression",
        "Sentinel, arXiv 2505.23277",
        "proxy",
        research=True,
    )

    probe: LinearProbe = option(
        "auto",
        "A probe fitted for this proxy, or its file; auto is the one that ships.",
        takes=LinearProbe | Path | str,
    )
    chunk_tokens: int = option(CHUNK_TOKENS, "Tokens of a chunk, in whole sentences.", ge=1)

    def setup(self) -> None:
        """Reads with Sentinel's prompt template, and finds the probe.

        Raises:
            ProbeMismatch: the probe is for another model or revision.
            BadInput: there is no probe for this proxy.
        """
        self.reader = self.reader.with_template(sentinel_template(self.reader.layout.template))
        found = choose_probe("sentinel", self.reader, self.probe)
        if found is None:
            name = self.reader.card.name
            raise BadInput(
                f"sentinel has no probe for {name}; {WAY_OUT}; or fit one: "
                f"tamis lab probe train --method sentinel --proxy {name} --data FILE"
            )
        self.probe, auc = found, found.card.figures.get("held_out_auc", 1.0)
        weak = f"sentinel's probe for {found.card.model} has a held-out AUC of {auc:.2f}; {WAY_OUT}"
        self.warnings = (weak,) if auc < LEAST_AUC else ()

    @property
    def reading_key(self) -> str:
        """The version of the reading (2: the context joined, titles between), and its chunks."""
        return f"2 {self.chunk_tokens}"

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """All layers, unless the probe was fitted for fewer."""
        if (given := options.get("probe", cls.probe)) == "auto":
            return None
        probe = load_probe(given)
        return probe.card.layers if probe else None

    @classmethod
    def ships_for(cls, model: str) -> bool:
        """Whether a probe ships for the model."""
        return shipped_probe("sentinel", model) is not None

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Reads the joined context, chunk by chunk."""
        whole, moved = join_passages(passages, units)
        want = Want(tuple(range(self.reader.card.layers)), ("last",))
        return read_windows(
            self.reader,
            question,
            [whole],
            moved,
            want,
            pool_context_shares,
            self.chunk_tokens,
            include_gaps=True,
            pool_batch=pool_context_batch,
        )

    def score_reading(
        self, reading: Reading, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """The regression's outputs; they are not calibrated, since its classes were balanced."""
        values: Tensor = torch.zeros(0)
        if units:
            w = self.probe.weight("head", (reading.features.shape[1],))
            values = torch.sigmoid(reading.features @ w + self.probe.weight("bias", (1,)))
        return reading.scores(values, units, len(passages), warnings=self.warnings)


Method = Sentinel
