"""The input of every peer: the same question, documents, sentences and budget.

A set is a file of labelled records. `NAME@TOKENS` fills each context with passages of the set's
other records, under other titles, up to so many tokens. Sets of single short passages get five
distractors. Cases are in an order that only the seed determines, so the first ten of twenty are the
first ten of forty.
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

from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.segment import units_of
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.evidence.tally import find_set_file
from tamis_lab.datasets.records import (
    Record,
    add_distractors,
    are_single_passages,
    gold_spans,
    load_records,
    passages_of,
    record_id,
)

WARM_UP_DOCS = 3
_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class PeerCase:
    """One question with its context and budget, and what is searched for in the kept text.

    Attributes:
        set, id: which record. gold: sentences that answer. answers: any of which counts.
        request: what is sent to the peer.
    """

    set: str
    id: str
    gold: tuple[str, ...]
    answers: tuple[str, ...]
    request: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Tokens of the context by the proxy's tokenizer, without special tokens."""
        return int(self.request["context_tokens"])

    @property
    def budget_tokens(self) -> int:
        """How many tokens may be kept."""
        return int(self.request["budget_tokens"])

    def warm_up_request(self) -> dict[str, Any]:
        """The request with the first documents only, which is enough to warm a peer up."""
        docs = self.request["docs"][:WARM_UP_DOCS]
        share = sum(len(doc["text"]) for doc in docs) / max(1, len(self.request["context"]))
        return self.request | {
            "docs": docs,
            "context": _join_documents(docs),
            "context_tokens": max(1, int(share * self.tokens)),
            "budget_tokens": max(1, int(share * self.budget_tokens)),
        }

    def digest(self) -> str:
        """A digest of everything in the request."""
        return hashlib.sha256(json.dumps(self.request, sort_keys=True).encode()).hexdigest()[:12]


def load_peer_cases(
    name: str, folder: Path, count: int, budget: float, counter: TextTokenizer, seed: int = 0
) -> list[PeerCase]:
    """The first `count` cases of a set.

    Args:
        name: of a file in the folder, or `NAME@TOKENS`.
        budget: up to 1 a share of the context's tokens, rounded down; above 1 whole tokens.

    Raises:
        BadInput: no such set, no record with a gold sentence, or passages with too few tokens.
    """
    base, sign, tokens = name.partition("@")
    if sign and not tokens.isdecimal():
        raise BadInput(f"set {name!r}: write NAME@TOKENS, such as hotpotqa@4500")
    path = find_set_file(folder, base)
    records = load_records(path)
    records = add_distractors(records, seed=seed) if are_single_passages(records) else records
    answerable = [record for record in records if gold_spans(record)]
    if not answerable:
        raise BadInput(f"{path} has no record with gold sentences; there is nothing to find")
    answerable.sort(key=lambda r: hashlib.sha256(f"{seed}:{r['id']}".encode()).digest())
    first = answerable[:count]
    if sign:
        first = [_fill_context(record, records, int(tokens), counter, seed) for record in first]
    other_questions = [answerable[(i + 1) % len(answerable)]["question"] for i in range(len(first))]
    return [
        _build_case(name, record, other, budget, counter)
        for record, other in zip(first, other_questions, strict=True)
    ]


def interleave_sets(by_set: Mapping[str, Sequence[PeerCase]]) -> list[PeerCase]:
    """The first case of every set, then the second: an interrupted run has cases of each set."""
    return [case for turn in zip_longest(*by_set.values()) for case in turn if case is not None]


def _fill_context(
    record: Record, pool: Sequence[Record], tokens: int, counter: TextTokenizer, seed: int
) -> Record:
    """The record with as many passages of other records as fit into so many tokens, shuffled."""
    generator = random.Random(f"{seed}:{record_id(record)}:{tokens}")
    docs, titles = list(record["docs"]), {doc.get("title") for doc in record["docs"]}
    total = counter.count(_join_documents(docs))
    for other in generator.sample(pool, len(pool)):
        for doc in other["docs"]:
            if doc.get("title") in titles:
                continue
            total += counter.count(_join_documents([doc]) + _SEPARATOR)
            if total > tokens:
                return {**record, "docs": generator.sample(docs, len(docs))}
            docs.append({**doc, "gold": []})
            titles.add(doc.get("title"))
    raise BadInput(
        f"all passages of the set have {total:,} tokens and {tokens:,} are wanted; ask for fewer"
    )


def _join_documents(docs: Sequence[Record]) -> str:
    """The text of all documents under their titles, with blank lines between them."""
    return _SEPARATOR.join(
        f"{doc['title']}\n{doc['text']}" if doc.get("title") else doc["text"] for doc in docs
    )


def _build_case(
    name: str, record: Record, other_question: str, budget: float, counter: TextTokenizer
) -> PeerCase:
    docs, passages = record["docs"], passages_of(record)
    sentences: list[list[list[int]]] = [[] for _ in docs]
    units = units_of(passages, str(record.get("lang") or "en"))
    costs = counter.count_many([passages[u.passage].text[slice(*u.visible)] for u in units])
    for unit, cost in zip(units, costs, strict=True):
        sentences[unit.passage].append([*unit.visible, cost])
    context = _join_documents(docs)
    tokens = counter.count(context)
    limit = Budget(ratio=budget) if budget <= 1 else Budget(max_tokens=int(budget))
    request = {
        "question": record["question"],
        "other_question": other_question,
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
    return PeerCase(name, record_id(record), gold, answers, request)
