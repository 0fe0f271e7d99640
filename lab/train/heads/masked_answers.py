"""What a model's own answer loses when sentences of its context are left out.

Source: ContextCite (Cohen-Wang et al. 2024, arXiv 2409.00729, §3) and, for heads, AT2 (arXiv
2504.13752, §3). The model answers; sentences s are left out at random, v_s in {0, 1} with chance
1/2, m times, and each time the logit of the answer's probability is taken. No label is read: any
text with a question will do.

Departures: sentences left out are gone from the prompt, not masked in it; answers of 8 tokens, the
likeliest one each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.prompt import token_spans
from tamis.text.units.segment import segment
from tamis_lab.datasets.records import Record
from tamis_lab.methods.window_attention.edited_pass import final_states, token_losses, unembedding

TOKENS, MASKS, ANSWER_TOKENS = 400, 16, 8
_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Sentences:
    """The sentences at the beginning of a record's documents.

    Attributes:
        ids: tokens up to the last sentence's end. spans: the tokens of each of S sentences, which
            together are all of them: what stands behind a sentence belongs to it.
        places: of each its document and its half-open code points there.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    places: tuple[tuple[int, int, int], ...]


def check_masks(masks: int, tokens: int) -> None:
    """Checks how many masks and tokens are asked for.

    Raises:
        BadInput: fewer than 4 masks or 16 tokens.
    """
    if masks < 4 or tokens < 16:
        raise BadInput(f"masks is {masks} and tokens {tokens}; give at least 4 and 16")


def first_sentences(reader: Any, record: Record, most_tokens: int) -> Sentences:
    """Whole sentences of a record's documents, up to so many tokens."""
    places, starts, start = [], [], 0
    for d, doc in enumerate(record["docs"]):
        for piece in segment(text := str(doc["text"])):
            places.append((d, *piece.visible))
            starts.append(start + piece.start)
        start += len(text) + len(_BETWEEN)
    encoded = reader.layout.tokenizer.encode(_BETWEEN.join(str(d["text"]) for d in record["docs"]))
    pieces = list(zip(starts, [*starts[1:], start], strict=True))
    spans = [span for span in token_spans(encoded, pieces) if span[1] <= most_tokens]
    stop = spans[-1][1] if spans else 0
    return Sentences(tuple(encoded.ids[:stop]), tuple(spans), tuple(places[: len(spans)]))


def logits_under_masks(
    reader: Any, question: str, sentences: Sentences, masks: int, chance: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Which sentences stood in each prompt, `[M, S]` of 0 and 1, and the answer's logits, `[M]`.

    Args:
        reader: a proxy that was loaded whole. masks: M.
    """
    asked = reader.layout.question_tokens(question).ids
    with torch.no_grad():
        answer = own_answer(reader, sentences.ids, asked)
        kept = torch.randint(2, (masks, len(sentences.spans)), generator=chance)
        logits = [
            answer_logit(
                reader,
                [
                    i
                    for span, stands in zip(sentences.spans, row, strict=True)
                    if stands
                    for i in sentences.ids[slice(*span)]
                ],
                asked,
                answer,
            )
            for row in kept.tolist()
        ]
    return kept.float(), torch.tensor(logits)


def own_answer(reader: Any, ids: Sequence[int], asked: Sequence[int]) -> list[int]:
    """The likeliest tokens behind the whole prompt."""
    rows = unembedding(reader)
    prompt, answer = [*reader.layout.opening, *ids, *asked], list[int]()
    for _ in range(ANSWER_TOKENS):
        state = final_states(reader, [*prompt, *answer])[-1]
        answer.append(int((state.to(rows.dtype) @ rows.T).argmax()))
    return answer


def answer_logit(
    reader: Any, ids: Sequence[int], asked: Sequence[int], answer: Sequence[int]
) -> float:
    """The logit of an answer's probability behind some text and the question."""
    prompt = [*reader.layout.opening, *ids, *asked, *answer]
    last = len(answer) + 1
    states = final_states(reader, prompt)[-last:]
    log_p = -token_losses(states, unembedding(reader), prompt[-last:]).double().sum()
    return float(log_p - torch.log(-torch.expm1(log_p.clamp_max(-1e-9))))
