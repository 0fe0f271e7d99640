"""Does a language model still answer? Each question with no, the whole, and compressed context.

record ─► contexts: none, full, method at each share and order ─► reader ─► exact match, F1

Answers are kept in a file, one per line, so that an interrupted run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tamis.probes.errors import BadInput
from tamis_lab.datasets.records import Record, add_distractors, are_single_passages, record_id
from tamis_lab.datasets.statistics import paired_bootstrap

ORIGINAL = "original"
SYSTEM = (
    "Answer the question in as few words as possible. Use the context if there is one. "
    "Give the answer alone, no sentence around it."
)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
QuestionProgress = Callable[[int, int], None]
"""Called with the number of records that are done, and of all."""


class AnswerReader(Protocol):
    """A model that answers chat messages; `identity` names it in the keys of kept answers."""

    identity: str

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The next message, of at most `max_tokens`."""
        ...


class ContextBuilder(Protocol):
    """A function that compresses a record's documents to a share of their tokens."""

    def __call__(self, record: Record, share: float, **order: str) -> tuple[str, int, int]:
        """The context, its tokens, and those of all documents; `order` is that of the passages."""
        ...


@dataclass(frozen=True, slots=True)
class ContextCondition:
    """One kind of context for every question.

    Attributes:
        share: of the tokens; 0 for no context at all. order: of the passages in the context.
    """

    name: str
    share: float
    order: str = ORIGINAL


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """What is compared.

    Attributes:
        method: of compression.
        shares: of the tokens. orders: of the kept passages; every share is tried in every order.
        max_tokens: of an answer.
    """

    method: str
    shares: tuple[float, ...]
    max_tokens: int = 32
    orders: tuple[str, ...] = (ORIGINAL,)

    def conditions(self) -> list[ContextCondition]:
        """`none`, `full`, and the method at each share, in each order."""
        return [
            ContextCondition("none", 0.0),
            ContextCondition("full", 1.0),
            *(
                ContextCondition(f"{self.method} {share:g}{_order_suffix(order)}", share, order)
                for share in self.shares
                for order in self.orders
            ),
        ]


def _order_suffix(order: str) -> str:
    return "" if order == ORIGINAL else f" {order}"


def normalise_answer(answer: str) -> list[str]:
    """Words of an answer as SQuAD compares them: without case, punctuation and articles."""
    plain = _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION))
    return plain.split()


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """1 if the answer is one of the true ones (Rajpurkar et al. 2016, §6.1)."""
    return float(any(normalise_answer(answer) == normalise_answer(truth) for truth in truths))


def f1(answer: str, truths: Sequence[str]) -> float:
    """The best overlap of words with a true answer (Rajpurkar et al. 2016, §6.1)."""
    words = normalise_answer(answer)
    return max((_word_f1(words, normalise_answer(truth)) for truth in truths), default=0.0)


def _word_f1(answer: Sequence[str], truth: Sequence[str]) -> float:
    shared = sum((Counter(answer) & Counter(truth)).values())
    if not shared:
        return float(not answer and not truth)
    return 2 * shared / (len(answer) + len(truth))


def chat_messages(question: str, context: str) -> list[dict[str, str]]:
    """The messages of one request; without a context, they hold the question alone."""
    prompt = f"Question: {question}"
    content = f"Context:\n{context}\n\n{prompt}" if context else prompt
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def usable_records(records: Sequence[Record], limit: int | None) -> list[Record]:
    """Records with answers to compare with; single passages get distractors.

    Raises:
        BadInput: no record has an answer, or one has answers that are not texts, or no documents.
    """
    for record in records:
        answers = record.get("answers") or []
        if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
            name = record_id(record)
            raise BadInput(f"record {name} has the 'answers' {answers!r:.60}; give a list of texts")
        if answers and not any(doc["text"].strip() for doc in record["docs"]):
            raise BadInput(f"record {record_id(record)} has no text in 'docs'; there is no context")
    rows = [r for r in records if r.get("answerable", True) and r.get("answers")]
    if not rows:
        raise BadInput("no record has 'answers' (a list of texts); there is nothing to compare")
    rows = add_distractors(rows) if are_single_passages(rows) else rows
    return rows[:limit]


def answer_records(
    records: Sequence[Record],
    build_context: ContextBuilder,
    reader: AnswerReader,
    settings: AnswerSettings,
    path: Path,
    report: QuestionProgress,
) -> list[dict[str, Any]]:
    """Queries the reader with every record under every condition, and returns a row for each.

    Args:
        path: the file of answers; those that it has are not generated again.
    """
    answers = dict(_load_answers(path))
    rows = []
    written = path.read_bytes() if path.is_file() else b""
    with path.open("a", encoding="utf8") as file:
        if written and not written.endswith(b"\n"):  # torn by a run that was killed
            file.write("\n")
        for i, record in enumerate(records, 1):
            for condition in settings.conditions():
                context, tokens, tokens_in = _condition_context(record, condition, build_context)
                messages = chat_messages(record["question"], context)
                key = _answer_key(reader.identity, messages, settings.max_tokens)
                if key not in answers:
                    answers[key] = reader.answer(messages, settings.max_tokens)
                    file.write(json.dumps({"key": key, "answer": answers[key]}) + "\n")
                    file.flush()
                rows.append(_answer_row(record, condition.name, answers[key], tokens / tokens_in))
            report(i, len(records))
    return rows


def _condition_context(
    record: Record, condition: ContextCondition, build_context: ContextBuilder
) -> tuple[str, int, int]:
    if not condition.share:
        return "", 0, 1
    order = {} if condition.order == ORIGINAL else {"order": condition.order}
    return build_context(record, condition.share, **order)


def _answer_key(reader: str, messages: Any, max_tokens: int) -> str:
    return hashlib.sha256(json.dumps([reader, messages, max_tokens]).encode()).hexdigest()[:24]


def _load_answers(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        return
    for line in path.read_text("utf8").splitlines():
        try:
            row = json.loads(line)
            yield row["key"], row["answer"]
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a run that was killed


def _answer_row(record: Record, condition: str, answer: str, share: float) -> dict[str, Any]:
    truths = record["answers"]
    return {
        "id": record_id(record),
        "condition": condition,
        "answer": answer,
        "exact_match": exact_match(answer, truths),
        "f1": f1(answer, truths),
        "share": share,
    }


def answer_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each condition exact match, F1, tokens kept, and the F1 above the whole context's."""
    by_condition: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_condition.setdefault(row["condition"], []).append(row)
    full = [row["f1"] for row in by_condition["full"]]
    return {name: _condition_figures(own, full) for name, own in by_condition.items()}


def _condition_figures(rows: Sequence[Mapping[str, Any]], full: Sequence[float]) -> dict[str, Any]:
    n = len(rows)
    difference, low, high = paired_bootstrap([row["f1"] for row in rows], full, [1.0] * n)
    return {
        "questions": n,
        "exact_match": sum(row["exact_match"] for row in rows) / n,
        "f1": sum(row["f1"] for row in rows) / n,
        "share_of_tokens": sum(row["share"] for row in rows) / n,
        "f1_less_full": {"difference": difference, "low": low, "high": high},
    }
