"""`tamis lab bench everyday`: whole answers kept from short documents that everybody has.

A support chat, a FAQ, a runbook, a changelog, an invoice, mail, configuration, code, a log: short
texts in which the answer is more than the sentence that repeats the question's words.

    examples/everyday/*               the documents
    examples/everyday/questions.jsonl file, question, answer: the smallest texts that together
                                      answer by themselves; half: tuning, or check

An answer is whole when all of its texts are in the output, and part when some are. A line dangles
that is a heading, ends in a colon or asks, where nothing that follows it is kept. Padding is what
is kept beside the lines of the answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import method_info
from tamis.compressors.rules import Budget
from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.panel import build_panel
from tamis_lab.bench.study import Study, heading, table
from tamis_lab.datasets.score_sources import SourceScorer
from tamis_lab.options import shared

DEFAULT_FOLDER = Path("examples/everyday")
EPILOG = """
**Example**

`tamis lab bench everyday --methods lexical --budgets 60,100`

With `--json` each question is listed with what was kept of its answer at each budget.
"""


@report_errors()
def everyday(
    data: Annotated[
        Path, typer.Option(help="Folder with the documents and questions.jsonl.")
    ] = DEFAULT_FOLDER,
    methods: shared.Methods = "question_rows,lexical,embedding",
    budgets: Annotated[str, typer.Option(help="Tokens, with commas.")] = "60,100,150",
    half: Annotated[
        str | None, typer.Option(help="Only the questions of one half: tuning, or check.")
    ] = None,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    as_json: shared.Json = False,
) -> None:
    """Count the whole answers kept from everyday documents, and what is kept in vain."""
    study = Study(as_json)
    limits = shared.parse_sizes(budgets)
    asked = load_questions(data, half)
    names, counter = shared.parse_list(methods, "methods"), counter_of("proxy", proxy)
    sources = build_panel(names, proxy, shared.readings_folder(cache)).panel.sources
    found: dict[str, dict[int, list[KeptAnswer]]] = {}
    with study.bars():
        for name, source in sources.items():
            scorer = SourceScorer(method_info(name), source)
            compressor = Compressor(scorer, name, counter)
            found[name] = {
                limit: [keep_answer(compressor, row, limit, counter) for row in asked]
                for limit in limits
            }
            study.report(name, 1, 1)
    figures = {
        name: {str(limit): sum_up(kept) for limit, kept in of.items()} for name, of in found.items()
    }
    rows = {
        name: {str(limit): [asdict(one) for one in kept] for limit, kept in of.items()}
        for name, of in found.items()
    }
    study.publish(
        {"questions": len(asked), "methods": figures, "answers": rows},
        lambda: [table(f"{len(asked)} questions on everyday documents", COLUMNS, _cells(figures))],
    )


COLUMNS = ("method, budget", "whole", "part", "none", "dangling", "padding", "tokens")


def _cells(figures: Mapping[str, Any]) -> Iterator[Sequence[str | Text]]:
    for name, of in figures.items():
        yield Text(name, "bold"), *("" for _ in COLUMNS[1:])
        for limit, row in of.items():
            yield f"  {heading(limit)}", *(f"{row[column]:g}" for column in COLUMNS[1:])


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """What was kept for one question.

    Attributes:
        kept, parts: how many texts of the answer were kept, and how many it has.
        dangling: the kept lines that lead to nothing that was kept.
        padding: tokens that are not of the answer's lines. tokens: of the output.
    """

    question: str
    kept: int
    parts: int
    dangling: tuple[str, ...]
    padding: int
    tokens: int
    text: str


def load_questions(folder: Path, half: str | None = None) -> list[dict[str, Any]]:
    """The questions of a folder, each with the `text` of its document.

    Raises:
        BadInput: there is no such file, no question of that half, or an answer is not in its text.
    """
    try:
        rows = [row for _, row in read_json_lines(folder / "questions.jsonl")]
        texts = {row["file"]: (folder / row["file"]).read_text("utf-8") for row in rows}
    except (BadInput, OSError) as error:
        raise BadInput(
            f"{error}; give --data with a folder that has questions.jsonl and the files that it "
            "names, such as examples/everyday of the repository"
        ) from error
    chosen = [{**row, "text": texts[row["file"]]} for row in rows if half in (None, row["half"])]
    if not chosen:
        halves = ", ".join(sorted({row["half"] for row in rows}))
        raise BadInput(f"half is {half!r}, and {len(rows)} questions are of {halves}; give one")
    for row in chosen:
        if lost := [part for part in row["answer"] if part not in row["text"]]:
            raise BadInput(f"{row['file']} does not have {lost[0]!r}; give texts as they stand")
    return chosen


def keep_answer(
    compressor: Compressor, row: Mapping[str, Any], limit: int, counter: TextTokenizer
) -> KeptAnswer:
    """Compresses a document for its question."""
    question, answer = row["question"], row["answer"]
    try:
        out = compressor.compress(question, [row["text"]], Budget(limit), language="en")
    except BudgetTooSmall:
        return KeptAnswer(question, 0, len(answer), (), 0, 0, "")
    lines = out.text.split("\n")
    other = [line for line in lines if not any(part in line or line in part for part in answer)]
    return KeptAnswer(
        question,
        sum(part in out.text for part in answer),
        len(answer),
        tuple(dangling_lines(row["text"], kept_lines(out))),
        counter.count("\n".join(other)),
        out.tokens_out,
        out.text,
    )


def kept_lines(out: Compressed) -> set[int]:
    """The lines of a single text whose ends some kept unit has, by their numbers from 0."""
    text = out.passages[0].text
    found: set[int] = set()
    for kept in out.kept:
        last = text.count("\n", 0, kept.stop)
        found.update(range(text.count("\n", 0, kept.start), last))
        if not text[kept.stop :].partition("\n")[0].strip():
            found.add(last)
    return found


_LEAD = re.compile(r"(?P<mark>#{1,6}(?= )|)(?:.*(?P<end>[:?])[*_\s]*$)?", re.DOTALL)


def dangling_lines(text: str, kept: set[int]) -> Iterator[str]:
    """The kept lines that head, introduce or ask, where no line of what follows is kept.

    Below a heading is all up to the next of its level, below another lead-in the next block of
    lines.
    """
    lines = text.split("\n")
    for at in sorted(kept):
        line = lines[at].strip()
        found = _LEAD.match(line)
        assert found is not None
        if not line or not (found["mark"] or found["end"]):
            continue
        below = list(_lines_below(lines, at, len(found["mark"])))
        if below and not kept.intersection(below):
            yield line


def _lines_below(lines: Sequence[str], at: int, level: int) -> Iterator[int]:
    begun = False
    for below in range(at + 1, len(lines)):
        line = lines[below].strip()
        mark = _LEAD.match(line)
        assert mark is not None
        if mark["mark"] and (not level or len(mark["mark"]) <= level):
            return
        if line and not mark["mark"]:
            yield below
            begun = True
        elif begun and not level:
            return


def sum_up(answers: Sequence[KeptAnswer]) -> dict[str, float]:
    """The figures of one method at one budget."""
    whole = sum(one.kept == one.parts for one in answers)
    none = sum(not one.kept for one in answers)
    return {
        "whole": whole,
        "part": len(answers) - whole - none,
        "none": none,
        "dangling": sum(len(one.dangling) for one in answers),
        "padding": round(sum(one.padding for one in answers) / len(answers), 1),
        "tokens": round(sum(one.tokens for one in answers) / len(answers), 1),
    }
