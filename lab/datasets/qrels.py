"""Queries with the candidates of a first stage, and which documents are relevant.

A query is `{"qid", "query", "qrels": {docid: grade}, "candidates": {system: [[docid, score], …]}}`
with the best first, a document of the corpus `{"docid", "title", "text"}`: JSON, one per line.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.service.files.streams import read_json_lines
from tamis.text.types import Passage
from tamis_lab.datasets.records import Record


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One query with relevance judgements.

    Attributes:
        qrels: grade of each relevant document, above 0.
        candidates: document and first-stage score, best first.
    """

    qid: str
    text: str
    qrels: Mapping[str, float]
    candidates: tuple[tuple[str, float], ...]


def load_queries(path: Path, system: str | None = None) -> tuple[list[JudgedQuery], str]:
    """Reads the queries of a file and the name of the first stage that ranked their candidates.

    Args:
        system: the first stage; None for the only one in the file.

    Raises:
        BadInput: no such file, a row that is not a query, a first stage that is missing, or several
            to choose from.
    """
    rows = list(read_json_lines(path))
    if not rows:
        raise BadInput(f"{path} holds no query; give one JSON object a line")
    first_stage = system or _only_first_stage(rows[0][1], path)
    queries = [_parse_query(row, path, number, first_stage) for number, row in rows]
    if len({query.qid for query in queries}) < len(queries):
        raise BadInput(f"{path} has {len(queries)} queries, some with the same 'qid'; number them")
    return queries, first_stage


def _only_first_stage(row: Record, path: Path) -> str:
    systems = sorted(row.get("candidates") or {})
    if len(systems) != 1:
        raise BadInput(
            f"{path}: candidates of {systems or 'no first stage'}; choose one with --first"
        )
    return str(systems[0])


def _parse_query(row: Record, path: Path, number: int, system: str) -> JudgedQuery:
    try:
        qrels = {str(d): float(g) for d, g in row["qrels"].items() if float(g) > 0}
        found = tuple((str(d), float(s)) for d, s in row["candidates"][system])
        if not all(map(math.isfinite, (*qrels.values(), *(score for _, score in found)))):
            raise ValueError("a grade or score is not finite")
        text, qid = row["query"], str(row["qid"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise BadInput(
            f"{path}, row {number} is no query with candidates of {system} ({error!r}); needed are "
            "'qid', 'query', 'qrels' {docid: grade}, 'candidates' {system: [[docid, score], ...]}"
        ) from error
    if not isinstance(text, str) or not text.strip() or not qrels:
        raise BadInput(f"{path}, row {number}: the query is empty, or nothing is relevant to it")
    if len({docid for docid, _ in found}) < len(found):
        raise BadInput(f"{path}, row {number}: a document is twice among the candidates")
    return JudgedQuery(qid, text, qrels, found)


def load_corpus(path: Path, wanted: Sequence[str]) -> dict[str, Passage]:
    """The wanted documents of a corpus.

    Raises:
        BadInput: no such file, a row that is not a document, or a document that is missing or
            repeated.
    """
    wanted_ids, found = set(wanted), {}
    for number, row in read_json_lines(path):
        if not isinstance(row.get("text"), str) or "docid" not in row:
            raise BadInput(f"{path}, row {number}: 'docid' and 'text' are needed")
        if (docid := str(row["docid"])) in wanted_ids:
            if docid in found:
                raise BadInput(f"{path}, row {number}: document {docid!r} is there twice; keep one")
            found[docid] = _parse_passage(docid, row)
    if missing := sorted(wanted_ids - set(found)):
        raise BadInput(
            f"{len(missing)} candidates are not in {path}, such as {missing[0]!r}; "
            "give the corpus that they were found in"
        )
    return found


def _parse_passage(docid: str, row: Mapping[str, Any]) -> Passage:
    title = row.get("title")
    titled = isinstance(title, str | int | float) and not isinstance(title, bool)
    return Passage(row["text"], docid, str(title) or None if titled else None)
