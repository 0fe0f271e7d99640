"""Does my LLM still answer? The same questions with the whole context, a compressed one, and none.

record ─► contexts: none, full, method at each share and order ─► reader ─► exact match, F1

Answers are kept in a file, one a line, so that a run that was cut short goes on.
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
from tamis.service.datasets.records import Record, id_of, lone, with_distractors
from tamis.service.datasets.statistics import paired_bootstrap

ORIGINAL = "original"
SYSTEM = (
    "Answer the question in as few words as possible. Use the context if there is one. "
    "Give the answer alone, no sentence around it."
)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
Report = Callable[[int, int], None]


class Answering(Protocol):
    """Whatever answers chat messages; `identity` says what it is, for the file of answers."""

    identity: str

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """What is said next."""
        ...


class Short(Protocol):
    """Makes the context of a record for a share of its tokens."""

    def __call__(self, record: Record, share: float, **order: str) -> tuple[str, int, int]:
        """The context, its tokens, and those of the whole; `order` says how passages stand."""
        ...


@dataclass(frozen=True, slots=True)
class Condition:
    """One context of every question.

    Attributes:
        share: of the tokens; 0 for no context at all. order: of the passages that are shown.
    """

    name: str
    share: float
    order: str = ORIGINAL


@dataclass(frozen=True, slots=True)
class Settings:
    """What is compared.

    Attributes:
        method: of compression. shares: of the tokens, each a condition.
        max_tokens: of an answer.
        orders: of what was kept; each share is asked in each.
    """

    method: str
    shares: tuple[float, ...]
    max_tokens: int = 32
    orders: tuple[str, ...] = (ORIGINAL,)

    def conditions(self) -> list[Condition]:
        """`none`, `full`, and the method at each share, in each order."""
        return [
            Condition("none", 0.0),
            Condition("full", 1.0),
            *(
                Condition(f"{self.method} {share:g}{_said(order)}", share, order)
                for share in self.shares
                for order in self.orders
            ),
        ]


def _said(order: str) -> str:
    return "" if order == ORIGINAL else f" {order}"


def normalised(answer: str) -> list[str]:
    """Words of an answer as SQuAD's evaluation compares them: no case, punctuation or articles."""
    plain = _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION))
    return plain.split()


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """1 if the answer is one of the true ones (Rajpurkar et al. 2016, §6.1)."""
    return float(any(normalised(answer) == normalised(truth) for truth in truths))


def f1(answer: str, truths: Sequence[str]) -> float:
    """The best overlap of words with a true answer (Rajpurkar et al. 2016, §6.1)."""
    return max((_overlap(normalised(answer), normalised(truth)) for truth in truths), default=0.0)


def _overlap(said: Sequence[str], true: Sequence[str]) -> float:
    shared = sum((Counter(said) & Counter(true)).values())
    if not shared:
        return float(not said and not true)
    return 2 * shared / (len(said) + len(true))


def messages(question: str, context: str) -> list[dict[str, str]]:
    """One turn for a reader; without a context the question stands alone."""
    asked = f"Question: {question}"
    content = f"Context:\n{context}\n\n{asked}" if context else asked
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def usable(records: Sequence[Record], limit: int | None) -> list[Record]:
    """Records with answers to compare with; lone passages get distractors.

    Raises:
        BadInput: none has one, one's are no list of texts, or it has no documents.
    """
    for record in records:
        given = record.get("answers") or []
        if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
            raise BadInput(
                f"record {id_of(record)} has the 'answers' {given!r:.60}; give a list of texts"
            )
        if given and not any(doc["text"].strip() for doc in record["docs"]):
            raise BadInput(f"record {id_of(record)} has no text in 'docs'; there is no context")
    rows = [r for r in records if r.get("answerable", True) and r.get("answers")]
    if not rows:
        raise BadInput("no record has 'answers' (a list of texts); there is nothing to compare")
    rows = with_distractors(rows) if lone(rows) else rows
    return rows[:limit]


def run(
    records: Sequence[Record],
    short: Short,
    reader: Answering,
    settings: Settings,
    kept: Path,
    report: Report,
) -> list[dict[str, Any]]:
    """Asks every record under every condition; answers that are in the file are not asked again."""
    known = dict(_known(kept))
    rows = []
    with kept.open("a", encoding="utf8") as file:
        for i, record in enumerate(records, 1):
            for condition in settings.conditions():
                context, tokens, whole = _context(record, condition, short)
                asked = messages(record["question"], context)
                name = _name(reader.identity, asked, settings.max_tokens)
                if name not in known:
                    known[name] = reader.answer(asked, settings.max_tokens)
                    file.write(json.dumps({"key": name, "answer": known[name]}) + "\n")
                    file.flush()
                rows.append(_row(record, condition.name, known[name], tokens, whole))
            report(i, len(records))
    return rows


def _context(record: Record, condition: Condition, short: Short) -> tuple[str, int, int]:
    if not condition.share:
        return "", 0, 1
    order = {} if condition.order == ORIGINAL else {"order": condition.order}
    return short(record, condition.share, **order)


def _name(reader: str, asked: Any, max_tokens: int) -> str:
    return hashlib.sha256(json.dumps([reader, asked, max_tokens]).encode()).hexdigest()[:24]


def _known(kept: Path) -> Iterator[tuple[str, str]]:
    if not kept.is_file():
        return
    for line in kept.read_text("utf8").splitlines():
        try:
            row = json.loads(line)
            yield row["key"], row["answer"]
        except (ValueError, KeyError, TypeError):
            continue  # the last line of a run that was killed


def _row(record: Record, condition: str, answer: str, tokens: int, whole: int) -> dict[str, Any]:
    truths = record["answers"]
    return {
        "id": id_of(record),
        "condition": condition,
        "answer": answer,
        "exact_match": exact_match(answer, truths),
        "f1": f1(answer, truths),
        "share": tokens / whole,
    }


def figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Per condition exact match, F1, tokens kept, and how far F1 is from the whole context's."""
    by: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by.setdefault(row["condition"], []).append(row)
    full = [row["f1"] for row in by["full"]]
    return {name: _figures(own, full) for name, own in by.items()}


def _figures(own: Sequence[Mapping[str, Any]], full: Sequence[float]) -> dict[str, Any]:
    n = len(own)
    difference, low, high = paired_bootstrap([row["f1"] for row in own], full, [1.0] * n)
    return {
        "questions": n,
        "exact_match": sum(row["exact_match"] for row in own) / n,
        "f1": sum(row["f1"] for row in own) / n,
        "share_of_tokens": sum(row["share"] for row in own) / n,
        "f1_less_full": {"difference": difference, "low": low, "high": high},
    }
