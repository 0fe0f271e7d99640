"""`tamis lab bench everyday`: whole answers kept from short documents that everybody has.

A support chat, a FAQ, a runbook, a changelog, an invoice, mail, configuration, code, a log: short
texts in which the answer is more than the sentence that repeats the question's words.

    examples/everyday/*               the documents
    examples/everyday/questions.jsonl file, question, answer: the smallest texts that together
                                      answer by themselves; half: tuning, or check

    examples/everyday/more            114 longer documents, in the same shape; 74 of them were
                                      measured once before anything was fitted: halves blind,
                                      blind2 and blind3

    lab/bench/questions/installed.jsonl   questions on documentation of installed packages, by
                                      place (`datasets/installed.py`): `--data` takes the file

An answer is whole when all of its texts are in the output, and part when some are. A line dangles
that is a heading, ends in a colon or asks, where nothing that follows it is kept; a comment of a
file of settings, or of code in a fence, is no heading. Padding are the
kept units that hold nothing of the answer. A question with an empty answer is one that its document
leaves open: its context should be refused, and that of no other question.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from tamis.text.lines import is_prose
from tamis_lab.bench.panel import BLENDS, build_panel
from tamis_lab.bench.study import Study, heading, table
from tamis_lab.datasets.installed import installed_rows
from tamis_lab.datasets.score_sources import SourceScorer
from tamis_lab.options import shared

if TYPE_CHECKING:
    from tamis_lab.bench.answers import AnswerReader

DEFAULT_FOLDER = Path("examples/everyday")
EPILOG = """
**Example**

`tamis lab bench everyday --data examples/everyday/more --pool 12 --budgets 200`

With `--json` each question is listed with what was kept of its answer at each budget.
"""


@report_errors()
def everyday(
    data: Annotated[
        Path,
        typer.Option(help="Folder with the documents and questions.jsonl, or a file of questions."),
    ] = DEFAULT_FOLDER,
    methods: shared.Methods = "question_rows,lexical,embedding,bm25+minilm",
    budgets: Annotated[str, typer.Option(help="Tokens, with commas.")] = "60,100,150",
    half: Annotated[
        str | None,
        typer.Option(
            help="Only the questions of one half: tuning, check, blind, blind2 or blind3."
        ),
    ] = None,
    pool: Annotated[
        int, typer.Option(help="Documents of a context: the question's own, and others.", min=1)
    ] = 1,
    proxy: shared.ProxyName = shared.SHARP,
    reader: Annotated[
        str | None,
        typer.Option(help="A model's folder or name: check the questions with it, and no method."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="At most so many questions, evenly spaced.", min=1)
    ] = None,
    cache: shared.ReadingsFolder = None,
    results: Annotated[
        Path | None,
        typer.Option(help="What the reader said, as JSON Lines; a run that was cut short goes on."),
    ] = None,
    as_json: shared.Json = False,
) -> None:
    """Count the whole answers kept from everyday documents, and what is kept in vain."""
    study = Study(as_json, results=results)
    limits = shared.parse_sizes(budgets)
    asked = load_questions(data, half, pool)
    if limit is not None:
        asked = asked[:: -(-len(asked) // limit)]
    if reader is not None:
        check_questions(study, asked, reader)
        return
    names, counter = shared.parse_list(methods, "methods"), counter_of("proxy", proxy)
    panel = build_panel(names, proxy, shared.readings_folder(cache)).panel
    found: dict[str, dict[int, list[KeptAnswer]]] = {}
    with study.bars():
        for name in panel.names:
            scorer = SourceScorer(
                method_info("fusion" if name in BLENDS else name), panel.source(name)
            )
            compressor = Compressor(scorer, name, counter)
            found[name] = {
                size: [keep_answer(compressor, row, size, counter) for row in asked]
                for size in limits
            }
            study.report(name, 1, 1)
    figures = {
        name: {str(size): sum_up(kept) for size, kept in of.items()} for name, of in found.items()
    }
    rows = {
        name: {str(size): [asdict(one) for one in kept] for size, kept in of.items()}
        for name, of in found.items()
    }
    study.publish(
        {"questions": len(asked), "methods": figures, "answers": rows},
        lambda: [table(f"{len(asked)} questions on everyday documents", COLUMNS, _cells(figures))],
    )


def check_questions(study: Study, asked: Sequence[Mapping[str, Any]], reader: str) -> None:
    """Counts the questions that a reader answers from the answer alone and not from the rest."""
    from tamis_lab.bench.answers import load_reader

    model = load_reader(reader, "", None)
    study.keep_rows({"reader": model.identity, "max_tokens": _READER_TOKENS})
    cases = {f"{row['file']}/{row['question']}": row for row in asked if row["answer"]}
    due = [row for key, row in cases.items() if not study.has_row(key)]
    answers = _answers(model, due)

    def check(row: Mapping[str, Any]) -> dict[str, Any]:
        said = next(answers)
        found = [is_from(one, "\n".join(row["answer"]), row["question"]) for one in said]
        shown = {name: value for name, value in row.items() if name != "texts"}
        return {**shown, "said": said, "from_answer": found[0], "from_rest": found[1]}

    with study.bars():
        rows = study.rows(reader, cases, check)
    figures = {
        "questions": len(rows),
        "from_answer": sum(row["from_answer"] for row in rows),
        "from_rest": sum(row["from_rest"] for row in rows),
        "sound": sum(row["from_answer"] and not row["from_rest"] for row in rows),
    }
    study.publish(
        figures | {"rows": rows},
        lambda: [
            table(
                "questions, and those that a reader can tell",
                tuple(figures),
                [[*map(str, figures.values())]],
            )
        ],
    )


def _answers(model: AnswerReader, rows: Sequence[Mapping[str, Any]]) -> Iterator[list[str]]:
    """The two answers to each row's prompts; those of several rows grow together."""
    for start in range(0, len(rows), _TOGETHER):
        prompts = [prompt for row in rows[start : start + _TOGETHER] for prompt in _prompts(row)]
        said = model.answer_all(prompts, _READER_TOKENS)
        yield from (said[i : i + 2] for i in range(0, len(said), 2))


def _prompts(row: Mapping[str, Any]) -> list[list[dict[str, str]]]:
    """A question asked of its answer alone, and of the document without it."""
    from tamis_lab.bench.answers import chat_messages

    text = row["texts"][row["at"]]
    for part in row["answer"]:
        text = text.replace(part, "")
    return [chat_messages(row["question"], context) for context in ("\n".join(row["answer"]), text)]


def is_from(said: str, answer: str, question: str) -> bool:
    """Whether half of the words that something says beyond the question are of an answer."""
    from tamis_lab.bench.answers import normalise_answer

    known = set(normalise_answer(question))
    words = [word for word in normalise_answer(said) if word not in known]
    there = set(normalise_answer(answer))
    return bool(words) and 2 * sum(word in there for word in words) >= len(words)


_READER_TOKENS = 32
_TOGETHER = 12
"""Questions that are answered at once."""
COLUMNS = (
    *("method, budget", "whole", "part", "none", "dangling", "padding", "tokens"),
    *("refused", "wrongly"),
)


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
        padding: tokens of kept units that hold nothing of the answer. tokens: of the output.
        verdict: on the context.
    """

    file: str
    question: str
    kept: int
    parts: int
    dangling: tuple[str, ...]
    padding: int
    tokens: int
    text: str
    verdict: str | None = None


def load_questions(folder: Path, half: str | None = None, pool: int = 1) -> list[dict[str, Any]]:
    """The questions of a folder, each with its `texts`: its document at place `at`, and others.

    Those of a file of questions are on documentation that is installed here, and alone.

    Raises:
        BadInput: there is no such file, no question of that half, or an answer is not in its text.
    """
    if folder.is_file():
        if pool > 1:
            raise BadInput(f"{folder} has questions on parts of documents; leave --pool out")
        here, _ = installed_rows(row for _, row in read_json_lines(folder))
        return [{**row, "texts": [row["text"]], "at": 0} for row in _of_half(here, half)]
    try:
        rows = [row for _, row in read_json_lines(folder / "questions.jsonl")]
        texts = {row["file"]: (folder / row["file"]).read_text("utf-8") for row in rows}
    except (BadInput, OSError) as error:
        raise BadInput(
            f"{error}; give --data with a folder that has questions.jsonl and the files that it "
            "names, such as examples/everyday of the repository"
        ) from error
    if pool > len(texts):
        raise BadInput(f"pool is {pool} and {folder} has {len(texts)} documents; give fewer")
    chosen = _of_half(rows, half)
    for row in chosen:
        text = texts[row["file"]]
        if lost := [part for part in row["answer"] if part not in text]:
            raise BadInput(f"{row['file']} does not have {lost[0]!r}; give texts as they stand")
    names = list(texts)
    return [{**row, **_pool_of(names, texts, row["file"], pool)} for row in chosen]


def _of_half(rows: Sequence[dict[str, Any]], half: str | None) -> list[dict[str, Any]]:
    chosen = [row for row in rows if half in (None, row.get("half"))]
    if not chosen:
        halves = ", ".join(sorted({row.get("half", "none") for row in rows}))
        raise BadInput(f"half is {half!r}, and {len(rows)} questions are of {halves}; give one")
    return chosen


def _pool_of(names: list[str], texts: Mapping[str, str], name: str, pool: int) -> dict[str, Any]:
    """A document among those that follow it in the folder, at a place that differs from one to the
    next."""
    first = names.index(name)
    at = first % pool
    places = [(first - at + k) % len(names) for k in range(pool)]
    return {"texts": [texts[names[place]] for place in places], "at": at}


def keep_answer(
    compressor: Compressor, row: Mapping[str, Any], limit: int, counter: TextTokenizer
) -> KeptAnswer:
    """Compresses the documents of a question."""
    file, question, answer = row["file"], row["question"], row["answer"]
    try:
        out = compressor.compress(question, row["texts"], Budget(limit))
    except BudgetTooSmall:
        return KeptAnswer(file, question, 0, len(answer), (), 0, 0, "")
    other = [
        text
        for kept in out.kept
        for text in [out.passages[kept.passage].text[kept.start : kept.stop]]
        if kept.passage != row["at"] or not any(part in text or text in part for part in answer)
    ]
    return KeptAnswer(
        file,
        question,
        sum(part in out.text for part in answer),
        len(answer),
        tuple(
            line
            for place, text in enumerate(row["texts"])
            for line in dangling_lines(text, *kept_lines(out, place))
        ),
        counter.count("\n".join(other)),
        out.tokens_out,
        out.text,
        out.verdict,
    )


def kept_lines(out: Compressed, place: int = 0) -> tuple[set[int], set[int]]:
    """The lines of a text whose ends some kept unit has, and those of which any part is kept."""
    text = out.passages[place].text
    ends: set[int] = set()
    touched: set[int] = set()
    for kept in out.kept:
        if kept.passage != place:
            continue
        last = text.count("\n", 0, kept.stop)
        lines = range(text.count("\n", 0, kept.start), last)
        ends.update(lines)
        touched.update(lines, [last])
        if not text[kept.stop :].partition("\n")[0].strip():
            ends.add(last)
    return ends, touched


_HEADING, _COMMENT = re.compile(r" {0,3}(#{1,6}) "), re.compile(r"#\s")
_LEADS = re.compile(r"[:?][*_\s]*$")
_ITEM = re.compile(r"\s*(?:[-*+•–]|\(?(?:\d{1,3}|[a-z])[.)])\s")


def dangling_lines(text: str, kept: set[int], touched: set[int]) -> Iterator[str]:
    """The kept lines that head, introduce or ask, where nothing of what follows is kept.

    Below a heading is all up to the next of its level, below another lead-in the next block of
    lines; below the lead-in of a list all of its items, though blank lines part them.

    Args:
        kept: the lines whose ends are kept. touched: those of which any part is.
    """
    lines = text.split("\n")
    levels = _heading_levels(lines)
    for at in sorted(kept):
        line = lines[at].strip()
        introduces = _LEADS.search(line) is not None and not _COMMENT.match(line)
        if not levels[at] and not introduces:
            continue
        below = list(_lines_below(lines, at, levels))
        if below and not touched.intersection(below):
            yield line


def _lines_below(lines: Sequence[str], at: int, levels: Sequence[int]) -> Iterator[int]:
    level, begun, listed = levels[at], False, False
    for below in range(at + 1, len(lines)):
        line = lines[below]
        if levels[below] and (not level or levels[below] <= level):
            return
        if line.strip() and not levels[below]:
            if begun and not level and not lines[below - 1].strip():
                if not (listed and (_ITEM.match(line) or line[0].isspace())):
                    return
            listed = listed or (not begun and _ITEM.match(line) is not None)
            yield below
            begun = True


def _heading_levels(lines: Sequence[str]) -> list[int]:
    """The level of each line that is a heading, else 0.

    Lines with `#` are comments inside a fence; so are all of them where most that have a line right
    below them stand above what is neither prose nor an item, a table or a fence.
    """
    levels, fenced = [0] * len(lines), False
    for at, line in enumerate(lines):
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        found = None if fenced else _HEADING.match(line)
        levels[at] = len(found[1]) if found else 0
    right_below = [
        lines[at + 1]
        for at in range(len(lines) - 1)
        if levels[at] and lines[at + 1].strip() and not levels[at + 1]
    ]
    settings = sum(
        not (_ITEM.match(line) or line.lstrip()[:1] in "|`~>" or is_prose(line.strip()))
        for line in right_below
    )
    return [0] * len(lines) if 2 * settings > len(right_below) else levels


def sum_up(answers: Sequence[KeptAnswer]) -> dict[str, float]:
    """The figures of one method at one budget; of questions that are left open only `refused`."""
    asked = [one for one in answers if one.parts]
    whole = sum(one.kept == one.parts for one in asked)
    none = sum(not one.kept for one in asked)
    refused = [one for one in answers if one.verdict == "unanswerable"]
    return {
        "whole": whole,
        "part": len(asked) - whole - none,
        "none": none,
        "dangling": sum(len(one.dangling) for one in asked),
        "padding": round(sum(one.padding for one in asked) / max(1, len(asked)), 1),
        "tokens": round(sum(one.tokens for one in asked) / max(1, len(asked)), 1),
        "refused": sum(not one.parts for one in refused),
        "wrongly": sum(one.parts > 0 for one in refused),
    }
