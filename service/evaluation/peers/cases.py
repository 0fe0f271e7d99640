"""What every peer is given: the same question, documents, sentences and budget.

A set is a file of labelled records. `NAME@TOKENS` adds passages of the set's other records to each,
under other titles, until the context has as many tokens. Sets of single short passages get five
distractors. Cases come in an order drawn with the seed, so the first ten of twenty are the first
ten of forty.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from tamis.compressors.types import Budget
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.segment import units_of
from tamis.probes.tokens import Tokens
from tamis.service.datasets.records import (
    Record,
    gold_spans,
    id_of,
    load,
    lone,
    passages_of,
    with_distractors,
)
from tamis.service.evaluation.evidence.evidence import file_of

WARMING_DOCS = 3
_BETWEEN = "\n\n"


@dataclass(frozen=True, slots=True)
class Case:
    """One question as every peer gets it, and what is looked for in what it keeps.

    Attributes:
        set, id: which one. gold: sentences that answer. answers: any of which counts.
        asked: what goes to the peer. tokens: of its context. budget_tokens: what it may keep.
    """

    set: str
    id: str
    gold: tuple[str, ...]
    answers: tuple[str, ...]
    asked: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Of the context, by the proxy's tokenizer, without special tokens."""
        return int(self.asked["context_tokens"])

    @property
    def budget_tokens(self) -> int:
        """How many may be kept."""
        return int(self.asked["budget_tokens"])

    def shorter(self) -> dict[str, Any]:
        """What goes to the peer, of the first documents alone: enough to warm it up."""
        docs = self.asked["docs"][:WARMING_DOCS]
        share = sum(len(doc["text"]) for doc in docs) / max(1, len(self.asked["context"]))
        return self.asked | {
            "docs": docs,
            "context": _context(docs),
            "context_tokens": max(1, int(share * self.tokens)),
            "budget_tokens": max(1, int(share * self.budget_tokens)),
        }

    def digest(self) -> str:
        """Changes with anything that a peer is given."""
        return hashlib.sha256(json.dumps(self.asked, sort_keys=True).encode()).hexdigest()[:12]


def cases_of(
    name: str, folder: Path, count: int, budget: float, counter: Tokens, seed: int = 0
) -> list[Case]:
    """The first cases of a set.

    Args:
        name: of a file in the folder, or `NAME@TOKENS`.
        budget: up to 1 a share of the context's tokens, rounded down; above 1 whole tokens.

    Raises:
        BadInput: no such set, no record with a gold sentence, or too few passages for the tokens.
    """
    base, sign, tokens = name.partition("@")
    if sign and not tokens.isdecimal():
        raise BadInput(f"set {name!r}: write NAME@TOKENS, such as hotpotqa@4500")
    path = file_of(folder, base)
    records = load(path)
    records = with_distractors(records, seed=seed) if lone(records) else records
    asked = [record for record in records if gold_spans(record)]
    if not asked:
        raise BadInput(f"{path} has no record with gold sentences; there is nothing to find")
    asked.sort(key=lambda r: hashlib.sha256(f"{seed}:{r['id']}".encode()).digest())
    taken = asked[:count]
    if sign:
        taken = [_longer(record, records, int(tokens), counter, seed) for record in taken]
    others = [asked[(i + 1) % len(asked)]["question"] for i in range(len(taken))]
    return [
        _case(name, record, other, budget, counter)
        for record, other in zip(taken, others, strict=True)
    ]


def interleaved(by_set: Mapping[str, Sequence[Case]]) -> list[Case]:
    """The first case of every set, then the second: a run cut short has some of each."""
    return [case for turn in zip_longest(*by_set.values()) for case in turn if case is not None]


def _longer(
    record: Record, pool: Sequence[Record], tokens: int, counter: Tokens, seed: int
) -> Record:
    """A record among so many passages of others that one more would be too many, shuffled."""
    chance = random.Random(f"{seed}:{id_of(record)}:{tokens}")
    docs, titles = list(record["docs"]), {doc.get("title") for doc in record["docs"]}
    total = counter.count(_context(docs))
    for other in chance.sample(pool, len(pool)):
        for doc in other["docs"]:
            if doc.get("title") in titles:
                continue
            total += counter.count(_context([doc]) + _BETWEEN)
            if total > tokens:
                return {**record, "docs": chance.sample(docs, len(docs))}
            docs.append({**doc, "gold": []})
            titles.add(doc.get("title"))
    raise BadInput(
        f"all passages of the set have {total:,} tokens and {tokens:,} are wanted; ask for fewer"
    )


def _context(docs: Sequence[Record]) -> str:
    """Documents under their titles, a blank line between them."""
    return _BETWEEN.join(
        f"{doc['title']}\n{doc['text']}" if doc.get("title") else doc["text"] for doc in docs
    )


def _case(name: str, record: Record, other: str, budget: float, counter: Tokens) -> Case:
    docs, passages = record["docs"], passages_of(record)
    sentences: list[list[list[int]]] = [[] for _ in docs]
    units = units_of(passages, str(record.get("lang") or "en"))
    costs = counter.count_many([passages[u.passage].text[slice(*u.visible)] for u in units])
    for unit, cost in zip(units, costs, strict=True):
        sentences[unit.passage].append([*unit.visible, cost])
    context = _context(docs)
    tokens = counter.count(context)
    limit = Budget(ratio=budget) if budget <= 1 else Budget(max_tokens=int(budget))
    asked = {
        "question": record["question"],
        "other_question": other,
        "context": context,
        "context_tokens": tokens,
        "budget_tokens": limit.tokens(tokens),
        "docs": [
            {"title": doc.get("title") or "", "text": doc["text"], "sentences": spans}
            for doc, spans in zip(docs, sentences, strict=True)
        ],
    }
    gold = tuple(docs[d]["text"][a:b] for d, a, b in gold_spans(record))
    answers = tuple(str(answer) for answer in record.get("answers") or ())
    return Case(name, id_of(record), gold, answers, asked)
