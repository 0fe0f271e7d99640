"""One labelled record as a prompt, and the mass every head of a proxy gives to its gold."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tamis.compressors.reading.windows import Reader
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens, token_spans
from tamis.probes.signal import RowGroup, Want
from tamis_lab.datasets.records import Record, gold_spans, record_id
from tamis_lab.methods.head_scores import calibrated_mass, copy_score, document_masses

TokenSpan = tuple[int, int]
PROMPT_TOKENS = 1000


@dataclass(frozen=True, slots=True)
class HeadCase:
    """One record as tokens: documents end to end, a blank line between them.

    Attributes:
        documents: token spans of the D documents with their titles. gold: which of them answer.
        needles: token spans of the gold sentences. answer: of the shortest answer in one of them.
    """

    question: str
    ids: tuple[int, ...]
    documents: tuple[TokenSpan, ...]
    gold: tuple[int, ...]
    needles: tuple[TokenSpan, ...]
    answer: TokenSpan | None

    @property
    def answer_tokens(self) -> tuple[int, ...]:
        """The tokens of the answer; none without one."""
        return self.ids[slice(*self.answer)] if self.answer else ()

    @property
    def answer_needle(self) -> TokenSpan:
        """The gold sentence that the answer is in, where there is an answer."""
        assert self.answer is not None
        return next(n for n in self.needles if n[0] <= self.answer[0] < n[1])


def build_head_case(record: Record, reader: Reader, most_tokens: int = PROMPT_TOKENS) -> HeadCase:
    """The documents of a record in an order drawn by its id: gold ones, and others that fit."""
    chance = random.Random(record_id(record))
    encode = reader.layout.tokenizer.encode
    needed = sorted({d for d, _, _ in gold_spans(record)})
    sizes = [len(encode(_document_text(doc)).ids) + 2 for doc in record["docs"]]
    room = most_tokens - sum(sizes[d] for d in needed)
    picked = list(needed)
    for d in chance.sample(range(len(sizes)), len(sizes)):
        if d not in needed and sizes[d] <= room:
            picked.append(d)
            room -= sizes[d]
    chance.shuffle(picked)
    return _lay_out(record, picked, reader)


def answered_cases(
    records: Sequence[Record],
    reader: Reader,
    most_tokens: int,
    report: Callable[[int, int], None],
) -> Iterator[HeadCase]:
    """The cases of the records that have an answer inside a gold sentence.

    Args:
        report: called with how many records are done, and of how many.
    """
    for done, record in enumerate(records, 1):
        case = build_head_case(record, reader, most_tokens)
        report(done, len(records))
        if case.answer is not None:
            yield case


def _document_text(doc: Record) -> str:
    return f"{doc['title']}\n{doc['text']}" if doc.get("title") else str(doc["text"])


def _lay_out(record: Record, order: Sequence[int], reader: Reader) -> HeadCase:
    text, spans, starts = "", [], {}
    for d in order:
        text += "\n\n" if text else ""
        begin = len(text)
        text += _document_text(record["docs"][d])
        spans.append((begin, len(text)))
        starts[d] = len(text) - len(record["docs"][d]["text"])
    encoded = reader.layout.tokenizer.encode(text)
    gold = sorted((starts[d] + a, starts[d] + b) for d, a, b in gold_spans(record))
    answers = [
        (starts[d] + a, starts[d] + b) for d, a, b in record.get("answer_spans", ()) if d in starts
    ]
    inside = [s for s in answers if any(a <= s[0] and s[1] <= b for a, b in gold)]
    answer = min(inside, key=lambda s: s[1] - s[0], default=None)
    return HeadCase(
        record["question"],
        tuple(encoded.ids),
        tuple(token_spans(encoded, spans)),
        tuple(i for i, d in enumerate(order) if any(d == g for g, _, _ in gold_spans(record))),
        tuple(token_spans(encoded, gold)),
        token_spans(encoded, [answer])[0] if answer else None,
    )


def want_all_layers(reader: Reader, rows: RowGroup = "question") -> Want:
    """What to read: one row group in every layer."""
    return Want(tuple(range(reader.card.layers)), (rows,))


def read_document_masses(case: HeadCase, reader: Reader) -> dict[str, Tensor]:
    """`masses` on each document by all rows, and which of them are `gold`."""
    prompt = Prompt(PassageTokens(case.ids, 0, ()), reader.layout.question_tokens(case.question))
    (signal,) = reader.read([prompt], want_all_layers(reader))
    return {
        "masses": document_masses(signal, case.documents),
        "gold": torch.tensor(case.gold),
    }


def read_calibrated_mass(case: HeadCase, reader: Reader) -> dict[str, Tensor]:
    """`qr`: mass on the gold documents beyond what the question "N/A" draws."""
    read = PassageTokens(case.ids, 0, ())
    prompts = [Prompt(read, reader.layout.question_tokens(text)) for text in (case.question, "N/A")]
    signal, empty = reader.read(prompts, want_all_layers(reader))
    return {"qr": calibrated_mass(signal, empty, case.documents, case.gold)}


def read_copying(case: HeadCase, reader: Reader) -> dict[str, Tensor]:
    """Measures each head's copying while the answer is appended; empty without an answer.

    The prompt is cut before its last token, so that its question is among the signal's columns.
    """
    if case.answer is None:
        return {}
    ask = reader.layout.question_tokens(case.question)
    answer = case.answer_tokens
    before = (*case.ids, *ask.ids[:-1])
    prompt = Prompt(PassageTokens(before, 0, ()), QuestionTokens((ask.ids[-1], *answer[:-1]), 0))
    (signal,) = reader.read([prompt], want_all_layers(reader))
    return {"copy": copy_score(signal, before, answer, case.answer_needle)}
