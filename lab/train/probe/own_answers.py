"""Labels that no one gave: the sentences that a proxy's own answer depends on.

    question, text ─ the proxy answers ─ sentences left out at random ─► logits of the answer
                                                                            │ ridge regression
            records whose gold are the sentences of most effect ◄── effect of each sentence

Source: ContextCite (Cohen-Wang et al. 2024, arXiv 2409.00729, §3). Departures: a ridge, not a
lasso, since passages have few sentences; fewer masks; and those of
`tamis_lab.train.heads.masked_answers`. AT2 (arXiv 2504.13752) fits heads to such effects at
once; here they become labels, so that words, second step and calibration are fitted as on labelled
questions.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis_lab.datasets.record_files import RecordFile, ReportProgress, sample_records
from tamis_lab.datasets.records import (
    DISTRACTORS,
    Record,
    are_single_passages,
    load_records,
    record_id,
)
from tamis_lab.datasets.result_file import ResultFile
from tamis_lab.train.heads.masked_answers import (
    Sentences,
    check_masks,
    first_sentences,
    logits_under_masks,
)

RIDGE = 1.0
"""Of effects, for sentences that stand or not in 0 and 1."""
LEAST_EFFECT = 1.0
"""Nats of the answer's logit that the best sentence must be worth; else the answer is not from the
text."""
LEAST_QUESTIONS = 10
"""With gold, that a probe is fitted on."""
GOLD_SHARE = 0.5
"""Of the best effect: sentences above it are gold."""
_LABELLED_FROM = "labelled_from"


def sentence_effects(kept: Tensor, logits: Tensor, ridge: float = RIDGE) -> Tensor:
    """What each sentence adds to the answer's logit: `[S]`.

    Args:
        kept: `[M, S]` of 0 and 1. logits: `[M]`.
    """
    x = (kept - kept.mean(0)).double()
    y = (logits - logits.mean()).double()
    effects: Tensor = torch.linalg.solve(x.T @ x + ridge * torch.eye(x.shape[1]).double(), x.T @ y)
    return effects.float()


def gold_sentences(effects: Tensor) -> list[int]:
    """The sentences that an answer depends on; none where it depends on no sentence much."""
    best = float(effects.max())
    if best < LEAST_EFFECT:
        return []
    return [s for s, effect in enumerate(effects.tolist()) if effect >= GOLD_SHARE * best]


def check_unlabelled(files: Sequence[RecordFile]) -> list[Record]:
    """The records to label, each once.

    Raises:
        BadInput: no such file, a record without an id, or fewer than a probe needs.
    """
    rows: dict[str, Record] = {}
    for file in files:
        for record in sample_records(load_records(file.path), file.limit):
            rows.setdefault(_key(record), record)
    if len(rows) < LEAST_QUESTIONS:
        raise BadInput(
            f"{len(rows)} questions are given, and a probe needs {LEAST_QUESTIONS} whose answers "
            "are in their text; give more"
        )
    texts = {doc["text"] for record in rows.values() for doc in record["docs"]}
    if are_single_passages(list(rows.values())) and len(texts) <= DISTRACTORS + 1:
        raise BadInput(
            f"the questions are about {len(texts)} passages, and {DISTRACTORS} others stand beside "
            "each; give more"
        )
    return list(rows.values())


def label_file(
    reader: Any,
    records: Sequence[Record],
    labels: Path,
    masks: int,
    tokens: int,
    report: ReportProgress,
) -> int:
    """Adds labelled records to a file, each as soon as it is done; returns how many have gold.

    A record that the file has is not asked again; one of which nothing could be said has no gold.

    Args:
        reader: a proxy that was loaded whole. masks: prompts with sentences left out, for each
            question. tokens: of a record's text that are read, whole sentences from its beginning.

    Raises:
        BadInput: too few masks or tokens, or a file that holds something else or other labels.
    """
    check_masks(masks, tokens)
    card = reader.card
    settings = {"model": card.name, "revision": card.revision, "masks": masks, "tokens": tokens}
    results = ResultFile(labels, settings, _LABELLED_FROM, "--labels")
    for number, record in enumerate(records, 1):
        if (key := _key(record)) not in results.done_keys:
            results.append(label_record(reader, record, masks, tokens) | {_LABELLED_FROM: key})
        report("answers", number, len(records))
    return sum(any(doc["gold"] for doc in row["docs"]) for row in load_records(labels))


def label_record(reader: Any, record: Record, masks: int, tokens: int) -> Record:
    """The record with what was read of its documents, and the sentences its answer depends on."""
    sentences = first_sentences(reader, record, tokens)
    gold: list[int] = []
    if len(sentences.spans) > 1:
        seed = random.Random(record_id(record)).getrandbits(63)  # the other records have no part
        chance = torch.Generator().manual_seed(seed)
        found = logits_under_masks(reader, record["question"], sentences, masks, chance)
        gold = gold_sentences(sentence_effects(*found))
    docs = list(_labelled_documents(record, sentences, gold))
    return {
        "id": record_id(record),
        "question": record["question"],
        "answerable": True,
        "docs": docs,
    }


def _labelled_documents(
    record: Record, sentences: Sentences, gold: Sequence[int]
) -> Iterator[Record]:
    """The documents up to the last sentence that was read."""
    for d, doc in enumerate(record["docs"]):
        mine = [s for s, place in enumerate(sentences.places) if place[0] == d]
        if mine:
            stop = sentences.places[mine[-1]][2]
            yield {
                "title": doc.get("title"),
                "text": doc["text"][:stop],
                "sents": [list(sentences.places[s][1:]) for s in mine],
                "gold": [i for i, s in enumerate(mine) if s in gold],
            }


def _key(record: Mapping[str, Any]) -> str:
    """What a label depends on beside the settings: id, question and texts."""
    texts = [str(doc["text"]) for doc in record["docs"]]
    parts = json.dumps([record_id(dict(record)), record["question"], texts])
    return hashlib.sha256(parts.encode()).hexdigest()
