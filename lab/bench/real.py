"""`tamis lab bench real`: whole answers kept from documents that other people wrote and marked.

    {"id", "source": {"repo": ...}, "kind", "format", "text", "questions": [
        {"q", "answerable", "must": [TEXT or [TEXT, ...]], "gold": [[first line, last line]]}]}

An answer is whole when each text of `must`, or one of its alternatives, is in the output. A budget
is a multiple of the tokens of the lines that a person marked, by four characters each, and at least
60. Leads over the best free method come with the interval of the paired bootstrap over documents,
which are what was drawn; questions on one document are no independent ones. Of questions without an
answer it counts the share that is refused, and how well the answerability tells them (AUROC).

The folds are by repository, so that whatever is fitted on four of them is judged on texts of
authors that the fit has not seen; with `--fold` only its documents are asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import method_info
from tamis.compressors.rules import Budget
from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.kv_cache.cache import PassageCache
from tamis.service.api.arguments import read_documents
from tamis.service.api.compress import compress, counter_of
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.panel import BLENDS, build_panel, parse_method_spec
from tamis_lab.bench.study import Study, estimate, table
from tamis_lab.datasets.marked_documents import ways_of
from tamis_lab.datasets.score_sources import SourceScorer
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared
from tamis_lab.train.fit import auc

FREE = ("lexical", "embedding", "bm25+minilm")
"""Methods that need no proxy; a lead is over the best of those that are measured."""
FOLDS = 5
EPILOG = """
**Example**

`tamis lab bench real documents.jsonl.gz --methods question_rows,lexical --results rows.jsonl`

`tamis lab bench real documents.jsonl.gz --methods question_rows,question_rows:probe=mine`

**A row** is a document with its questions; `must` has the texts that an answer needs, each as a
text or a list of ways to write it, and `gold` the first and last line of each marked passage

`{"id": "1", "source": {"repo": "who/what"}, "text": "Keys are rotated every 90 days.", "questions":
[{"q": "How often are keys rotated?", "answerable": true, "must": ["90 days"], "gold": [[1, 1]]}]}`

The first column of each budget are the questions of which all is kept that a person needs. With
`--json` each question is listed; a run that was cut short goes on where `--results` names a file.
"""


@report_errors()
def real(
    documents: Annotated[
        Path, typer.Argument(help="Documents with questions, JSON Lines, optionally gzipped.")
    ],
    methods: shared.Methods = "question_rows,lexical,embedding,bm25+minilm",
    budgets: Annotated[
        str, typer.Option(help="Multiples of the marked lines' tokens, with commas.")
    ] = "2,3",
    fold: Annotated[
        int | None, typer.Option(min=1, max=FOLDS, help="Only the documents of one fold.")
    ] = None,
    limit: shared.Limit = None,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    results: shared.Results = None,
    as_json: shared.Json = False,
) -> None:
    """Count the whole answers kept from real documents, in folds by repository."""
    study = Study(as_json, results=results)
    names, multiples = (
        shared.parse_list(methods, "methods"),
        shared.parse_numbers(budgets, "budgets"),
    )
    asked = load_questions(documents, fold, limit)
    study.keep_rows({"documents": documents.name, "proxy": proxy})
    made = {name: compress_with(name, proxy, shared.readings_folder(cache)) for name in names}
    cases = {
        f"{question.key} {name} {multiple:g}": (question, name, multiple)
        for question in asked
        for name in names
        for multiple in (multiples if question.must else multiples[:1])
    }

    def measure(case: tuple[Question, str, float]) -> dict[str, Any]:
        question, name, multiple = case
        return measure_question(question, name, multiple, made[name])

    with study.bars():
        rows = study.rows(documents.name, cases, measure)
    figures = figures_of(rows, names)
    study.publish(
        {"questions": len(asked), "methods": figures, "rows": rows},
        lambda: [lead_table(figures), fold_table(figures), study.summary()],
    )


@dataclass(frozen=True, slots=True)
class Question:
    """A question on a document.

    Attributes:
        must: for each text that an answer needs, the ways it may be written; empty where the
            document leaves the question open.
        marked_tokens: of the lines that a person marked. fold: of its repository, from 1.
    """

    key: str
    question: str
    must: tuple[tuple[str, ...], ...]
    marked_tokens: int
    document: Mapping[str, Any]
    fold: int


def load_questions(path: Path, fold: int | None = None, limit: int | None = None) -> list[Question]:
    """The questions of a file, of at most `limit` documents.

    Raises:
        BadInput: the file cannot be read, a row is none of a document, or no question is left.
    """
    rows = [row for _, row in read_json_lines(path)]
    try:
        folds = folds_of([row["source"]["repo"] for row in rows])
        found = [
            _question(row, place, one, folds[row["source"]["repo"]])
            for row in rows[:limit]
            for place, one in enumerate(row["questions"])
        ]
    except (KeyError, TypeError) as error:
        raise BadInput(
            f"{path} has a row without {error}; a row is a document with id, source, text and "
            "questions, as `tamis lab bench real --help` says"
        ) from error
    if chosen := [one for one in found if fold in (None, one.fold)]:
        return chosen
    raise BadInput(f"{path} has {len(rows)} documents, and no question in fold {fold}")


def folds_of(repositories: Sequence[str]) -> dict[str, int]:
    """The fold of each repository: those with most documents first, each into the smallest."""
    sizes = dict.fromkeys(range(1, FOLDS + 1), 0)
    found: dict[str, int] = {}
    for name, count in sorted(Counter(repositories).items(), key=lambda one: (-one[1], one[0])):
        found[name] = min(sizes, key=lambda fold: (sizes[fold], fold))
        sizes[found[name]] += count
    return found


def _question(row: Mapping[str, Any], place: int, one: Mapping[str, Any], fold: int) -> Question:
    lines = row["text"].split("\n")
    marked = "\n".join("\n".join(lines[first - 1 : last]) for first, last in one["gold"])
    ways = ways_of(one["must"] if one["answerable"] else ())
    return Question(f"{row['id']}/{place}", one["q"], ways, len(marked) // 4, row, fold)


def compress_with(name: str, proxy: str, folder: Path) -> Callable[[str, Any, int], Compressed]:
    """What compresses as `tamis.compress` does, or with a blend of methods.

    Args:
        folder: where the readings of a blend are kept.
    """
    if name in BLENDS:
        counter, source = counter_of("proxy", proxy), build_panel([name], proxy, folder).panel
        scorer = SourceScorer(method_info("fusion"), source.source(name))
        blend = Compressor(scorer, name, counter)
        return lambda q, given, tokens: blend.compress(q, read_documents([given]), Budget(tokens))
    kept = PassageCache()
    method, options = parse_method_spec(name)
    if method_info(method).needs != "nothing":
        options["proxy"] = proxy
    return lambda q, given, tokens: compress(
        q, [given], max_tokens=tokens, method=method, cache=kept, **options
    )


def measure_question(
    question: Question, name: str, multiple: float, compress_one: Callable[[str, Any, int], Any]
) -> dict[str, Any]:
    """The row of one question: what of its answer is kept, and what is said of the document."""
    document = question.document
    given: Any = {"text": document["text"], "id": document["id"]}
    if document.get("format") == "html":
        given["format"] = "html"
    budget = max(60, round(multiple * question.marked_tokens)) if question.must else 100
    try:
        out = compress_one(question.question, given, budget)
        text, tokens, verdict, sure = out.text, out.tokens_out, out.verdict, out.answerability
    except BudgetTooSmall:
        text, tokens, verdict, sure = "", 0, None, None
    found = sum(any(way in text for way in ways) for ways in question.must)
    return {
        "document": document["id"],
        "fold": question.fold,
        "question": question.question,
        "kind": document.get("kind", ""),
        "format": document.get("format", ""),
        "method": name,
        "budget": multiple,
        "answerable": bool(question.must),
        "found": found,
        "needed": len(question.must),
        "tokens": tokens,
        "verdict": verdict,
        "answerability": sure,
    }


def figures_of(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """By method: whole answers by budget, with leads over the best free method; by fold, by format;
    and what is said of documents without an answer."""
    return {name: _method_figures(rows, name) for name in names}


def _method_figures(rows: Sequence[Mapping[str, Any]], name: str) -> dict[str, Any]:
    own = [row for row in rows if row["method"] == name]
    asked = [row for row in own if row["answerable"]]
    first = min(row["budget"] for row in own)
    told = [row for row in own if row["budget"] == first and row["answerability"] is not None]
    sides = [[row for row in told if row["answerable"] is yes] for yes in (True, False)]
    figures: dict[str, Any] = {
        "budgets": {
            f"{budget:g}": _budget_figures(rows, name, budget)
            for budget in sorted({row["budget"] for row in asked})
        },
        "folds": _shares(asked, "fold"),
        "formats": _shares(asked, "format"),
    }
    if all(sides):
        values = [row["answerability"] for row in told]
        refused = [[row["verdict"] == "unanswerable" for row in side] for side in sides]
        figures |= {
            "auroc": round(auc(np.array(values), np.array([r["answerable"] for r in told])), 4),
            "refused_wrongly": round(float(np.mean(refused[0])), 4),
            "refused_rightly": round(float(np.mean(refused[1])), 4),
        }
    return figures


def _is_whole(row: Mapping[str, Any]) -> bool:
    return bool(row["found"] == row["needed"])


def _shares(rows: Sequence[Mapping[str, Any]], column: str) -> dict[str, float]:
    """The share of whole answers for each value of a column, at the smallest budget."""
    least = min((row["budget"] for row in rows), default=0)
    groups: dict[str, list[bool]] = {}
    for row in rows:
        if row["budget"] == least:
            groups.setdefault(str(row[column]), []).append(_is_whole(row))
    return {name: round(float(np.mean(groups[name])), 4) for name in sorted(groups)}


def _budget_figures(rows: Sequence[Mapping[str, Any]], name: str, budget: float) -> dict[str, Any]:
    at_budget = [row for row in rows if row["answerable"] and row["budget"] == budget]
    by_method: dict[str, list[Mapping[str, Any]]] = {}
    for row in at_budget:
        by_method.setdefault(row["method"], []).append(row)
    own = by_method[name]
    whole = sum(map(_is_whole, own))
    figures: dict[str, Any] = {
        "whole": whole,
        "part": sum(0 < row["found"] < row["needed"] for row in own),
        "questions": len(own),
        "share": round(whole / len(own), 4),
        "tokens": round(float(np.mean([row["tokens"] for row in own])), 1),
    }
    free = [one for one in FREE if one in by_method and one != name]
    if free:
        best = max(free, key=lambda one: sum(map(_is_whole, by_method[one])))
        figures |= {"best_free": best} | _lead(own, by_method[best])
    return figures


def _lead(own: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The lead in whole answers, documents drawn with replacement."""
    sums: dict[str, list[int]] = {}
    for one, peer in zip(own, other, strict=True):
        of = sums.setdefault(one["document"], [0, 0, 0])
        of[0], of[1], of[2] = of[0] + _is_whole(one), of[1] + _is_whole(peer), of[2] + 1
    mine, theirs, questions = np.array(list(sums.values())).T
    return paired_interval(mine, theirs, questions, name="lead")


def lead_table(figures: Mapping[str, Any]) -> Table:
    """Methods and budgets, one row each."""
    rows: list[Sequence[str | Text]] = []
    for name, of in figures.items():
        told = [f"{of[key]:.3f}" if key in of else "" for key in _TOLD]
        rows.append([Text(name, "bold"), "", "", "", "", *told])
        rows += (
            [
                f"  {multiple} times",
                f"{row['whole']} of {row['questions']}",
                f"{row['share']:.3f}",
                f"{row['tokens']:.0f}",
                estimate(row, "lead") if "lead" in row else "",
                *("" for _ in _TOLD),
            ]
            for multiple, row in of["budgets"].items()
        )
    return table("Whole answers kept from real documents", (*_COLUMNS, *_TOLD.values()), rows)


def fold_table(figures: Mapping[str, Any]) -> Table:
    """Methods as rows, folds and formats as columns, at the smallest budget."""
    columns = [
        (group, key)
        for group in ("folds", "formats")
        for key in next(iter(figures.values()))[group]
    ]
    rows = [
        [name, *(f"{of[group][key]:.3f}" for group, key in columns)] for name, of in figures.items()
    ]
    names = [f"fold {key}" if group == "folds" else key for group, key in columns]
    return table("The same by fold and by format", ("method", *names), rows)


_COLUMNS = ("method, budget", "whole", "share", "tokens", "lead over the best free")
_TOLD = {"refused_wrongly": "wrongly", "refused_rightly": "rightly refused", "auroc": "AUROC"}
