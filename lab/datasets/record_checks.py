"""Checks of labelled records as they are loaded: every label must point into its document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput

Record = dict[str, Any]


def check_shape(record: Record, path: Path, number: int) -> None:
    """Checks for question and documents; documents without `sents` get none.

    Raises:
        BadInput: no question, or no documents.
    """
    docs = record.get("docs")
    if not isinstance(record.get("question"), str) or not isinstance(docs, list):
        raise BadInput(f"{path}, record {number}: 'question' (text) and 'docs' (a list) are needed")
    for d, doc in enumerate(docs):
        if not isinstance(doc, dict):
            raise BadInput(f"{path}, record {number}: document {d} has no 'text'")
        if "ref" not in doc:
            doc.setdefault("sents", [])


def check_document(doc: Record, path: Path, number: int) -> tuple[str, Record]:
    """The `doc_id` of a stored document, and the document.

    Raises:
        BadInput: it has no `doc_id`, or is not a document.
    """
    if not isinstance(name := doc.get("doc_id"), str):
        raise BadInput(f"{path}, document {number}: no 'doc_id'")
    if not are_valid([doc]):
        raise BadInput(f"{path}, document {number}: {_describe_fault(doc)}")
    return name, doc


def resolve_reference(doc: Record, stored: Mapping[str, Record], path: Path, number: int) -> Record:
    """The stored document that one refers to, or itself if it refers to none.

    Raises:
        BadInput: no such document is stored.
    """
    if "ref" not in doc:
        return doc
    if not isinstance(name := doc["ref"], str) or name not in stored:
        raise BadInput(
            f"{path}, record {number}: a document refers to {name!r:.60}, which is not in the "
            "file of documents beside it"
        )
    return stored[name] | {"gold": doc.get("gold", [])}


def check_labels(records: Sequence[Record], path: Path) -> None:
    """Checks sentences, gold and answers.

    Raises:
        BadInput: one of them is not within its document.
    """
    if are_valid([doc for record in records for doc in record["docs"]]):
        with_answers = [record for record in records if record.get("answer_spans", []) != []]
        if all(_are_spans(record["answer_spans"], record["docs"]) for record in with_answers):
            return
    for number, record in enumerate(records, 1):
        for d, doc in enumerate(record["docs"]):
            if not are_valid([doc]):
                raise BadInput(f"{path}, record {number}: document {d} {_describe_fault(doc)}")
        if not _are_spans(spans := record.get("answer_spans", []), record["docs"]):
            raise BadInput(
                f"{path}, record {number}: 'answer_spans' is {spans!r:.80}; give "
                "[document, start, stop] each, inside the document's text"
            )


def are_valid(docs: Sequence[Record]) -> bool:
    """Whether all documents are valid.

    It runs over every sentence of a file, so in few steps: it may not slow down loading.
    """
    total = 0  # sum of all offsets: stays an int only if every offset is one
    try:
        for doc in docs:
            text, sents, gold, title = doc["text"], doc["sents"], doc.get("gold"), doc.get("title")
            if type(text) is not str or type(sents) is not list:
                return False
            if title is not None and type(title) is not str:
                return False
            size = len(text)
            for a, b in sents:
                if not 0 <= a <= b <= size:
                    return False
                total += a + b
            if gold != [] and "gold" in doc and not _are_indexes(gold, len(sents)):
                return False
    except (KeyError, TypeError, ValueError):
        return False
    return type(total) is int


def _are_indexes(gold: Any, most: int) -> bool:
    return isinstance(gold, list) and all(type(i) is int and 0 <= i < most for i in gold)


def _are_spans(spans: Any, docs: Sequence[Record]) -> bool:
    try:
        return all(
            type(d) is type(a) is type(b) is int
            and 0 <= d < len(docs)
            and 0 <= a <= b <= len(docs[d]["text"])
            for d, a, b in spans
        )
    except (TypeError, ValueError):
        return False


def _describe_fault(doc: Record) -> str:
    """What is wrong with a document that is not valid, as the end of a sentence."""
    text, title, sents = doc.get("text"), doc.get("title"), doc.get("sents")
    if not isinstance(text, str):
        return f"has no 'text' but {text!r:.40}"
    if title is not None and not isinstance(title, str):
        return f"has the 'title' {title!r:.40}; give a text, or null"
    if not isinstance(sents, list) or not all(map(_is_offset_pair, sents)):
        return f"has the 'sents' {sents!r:.80}; give [start, stop] each"
    if outside := [pair for pair in sents if not 0 <= pair[0] <= pair[1] <= len(text)]:
        return f"has the sentence {outside[0]} outside its text of {len(text)} characters"
    return f"has the 'gold' {doc['gold']!r:.80}; give places among its {len(sents)} 'sents', from 0"


def _is_offset_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(type(place) is int for place in pair)
