"""Queries with candidate lists, made of labelled records and a first stage over a corpus.

records ─ relevant documents, found in the corpus by their text ─┐
corpus  ─ BM25 over title and text ──────────────────────────────┴─► queries for `datasets.qrels`

BM25 (Robertson, Zaragoza 2009, §3) with Anserini's k1 = .9 and b = .4, as BEIR's baselines have it.
Departures: tamis's words and light English stems instead of Lucene's analyser.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tamis.compressors.features.bm25 import Collection
from tamis.probes.errors import BadInput
from tamis.text.terms import stem, words
from tamis_lab.datasets.records import Record, record_id

K1, B = 0.9, 0.4
STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with".split()
)
"""Lucene's English stop words."""


def index_terms(text: str) -> str:
    """Stems of a text without stop words, joined by spaces: `Collection` splits them again."""
    return " ".join(stem(word) for word in words(text) if word not in STOP_WORDS)


class FirstStage:
    """BM25 over whole documents, title and text as one field."""

    def __init__(self, corpus: Sequence[Mapping[str, Any]]) -> None:
        self.ids = [str(doc["docid"]) for doc in corpus]
        texts = [index_terms(f"{doc.get('title') or ''} {doc['text']}") for doc in corpus]
        collection = Collection(texts, K1, B)
        self.idf = collection.idf
        self._postings: dict[str, list[tuple[int, float]]] = {}
        for i, (bag, size) in enumerate(zip(collection.bags, collection.sizes, strict=True)):
            norm = K1 * (1 - B + B * size / collection.mean_size)
            for term, times in bag.items():
                self._postings.setdefault(term, []).append((i, times / (times + norm)))

    def search(self, text: str, most: int) -> list[tuple[str, float]]:
        """The best documents, best first; those that share no word with the text are left out."""
        scores = np.zeros(len(self.ids))
        for term in words(index_terms(text)):
            idf = self.idf(term)
            for i, share in self._postings.get(term, ()):
                scores[i] += idf * share
        order = np.argsort(-scores, kind="stable")[:most]
        return [(self.ids[i], round(float(scores[i]), 4)) for i in order if scores[i] > 0]


@dataclass(frozen=True, slots=True)
class HeldOutQueries:
    """What must not be learnt from: queries that will be measured on.

    Attributes:
        questions: their texts, case folded. relevant: documents relevant to one of them.
    """

    questions: frozenset[str] = frozenset()
    relevant: frozenset[str] = frozenset()

    def overlaps(self, question: str, relevant: Sequence[str]) -> bool:
        """Whether a question is one of these queries, or shares a relevant document with one."""
        return question.casefold() in self.questions or not self.relevant.isdisjoint(relevant)


@dataclass(slots=True)
class SkippedRecords:
    """How many records became no query, by reason.

    Attributes:
        not_in_corpus: their relevant documents are not in the corpus.
        held_out: they overlap with a query that is held out.
        not_found: their list holds no relevant document.
    """

    not_in_corpus: int = 0
    held_out: int = 0
    not_found: int = 0


def build_query_lists(
    records: Sequence[Record],
    corpus: Sequence[Mapping[str, Any]],
    held_out: HeldOutQueries,
    depth: int,
    cited: bool,
    report: Callable[[int], None] = lambda done: None,
) -> tuple[list[dict[str, Any]], SkippedRecords]:
    """A query for each record with a relevant document among the first `depth` of its list.

    Args:
        cited: every document of a record is relevant, not only those with gold sentences.

    Raises:
        BadInput: the corpus is empty, or no record gave a query.
    """
    if not corpus:
        raise BadInput("the corpus holds no document; there is nothing to search")
    by_text = {doc["text"].strip(): str(doc["docid"]) for doc in corpus}
    first_stage, skipped = FirstStage(corpus), SkippedRecords()
    found: list[dict[str, Any]] = []
    for done, record in enumerate(records, 1):
        found += _build_query(record, by_text, first_stage, held_out, depth, cited, skipped)
        report(done)
    if not found:
        raise BadInput(
            f"none of {len(records)} records gave a query: {skipped.not_in_corpus} have no "
            f"relevant document in the corpus, {skipped.held_out} touch what is held out, "
            f"{skipped.not_found} have none among the first {depth}; give the corpus that their "
            "documents come from"
        )
    return found, skipped


def _build_query(
    record: Record,
    by_text: Mapping[str, str],
    first_stage: FirstStage,
    held_out: HeldOutQueries,
    depth: int,
    cited: bool,
    skipped: SkippedRecords,
) -> Iterator[dict[str, Any]]:
    docs = [doc for doc in record["docs"] if cited or doc.get("gold")]
    relevant = [by_text[t] for doc in docs if (t := doc["text"].strip()) in by_text]
    if not relevant:
        skipped.not_in_corpus += 1
    elif held_out.overlaps(record["question"], relevant):
        skipped.held_out += 1
    else:
        found = first_stage.search(record["question"], depth)
        if set(relevant).isdisjoint(docid for docid, _ in found):
            skipped.not_found += 1
            return
        qrels = dict.fromkeys(relevant, 1)
        yield {
            "qid": record_id(record),
            "query": record["question"],
            "qrels": qrels,
            "candidates": {"bm25": found},
        }
