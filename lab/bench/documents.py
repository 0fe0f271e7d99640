"""`bench documents`: answers kept from manuals as people have them, in four text formats.

Pages of manuals in several text formats, questions on them, and what retrieval brings for each.

    pages.jsonl.xz     package, path, format, text       one line a page and format
    questions.jsonl    id, package, path, question, answer: a sentence of the page, without markup

The answer is found in a text by its words, because each converter writes markup of its own.

The rule for whether a unit stops in mid-sentence, for tests and benchmarks.

It looks at the two sides of the cut alone, and knows nothing of how the cut was made:

    link or code   the cut is inside a Markdown link, its target or its title, or inline code
    abbreviation   what is kept ends with one that something follows: e.g., Dr.
    open word      it has three words or more and ends with one that ends no sentence: the, of, and
    lower case     it is prose without a stop, and what follows on the same or the next line is in
                   lower case and no code

A blank line, the end of the text, a mark of a list, a cell or another kind of block ends whatever
stands before it. Text without a stop before a capital is not judged: `Debian`, a title, a cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tamis.compressors.features.bm25 import Collection
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import method_info
from tamis.compressors.rules import WORTHLESS, Budget
from tamis.compressors.types import Compressed
from tamis.probes.errors import BadInput
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis.text.lines import (
    bare_line,
    count_words,
    ends_open,
    ends_with_abbreviation,
    has_function_word,
    has_stop,
    is_code,
    markup_spans,
)
from tamis.text.terms import words
from tamis.text.types import Passage, Piece, Unit
from tamis.text.units.segment import segment
from tamis_lab.bench.panel import build_panel
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.records import is_covered, take_evenly
from tamis_lab.datasets.score_sources import SourceScorer
from tamis_lab.options import shared

DEFAULT_MANUALS = Path("examples/manuals")
EPILOG = """
**Example**

`tamis lab bench documents --methods lexical,lead --limit 20`

Each question gets the six chunks of 4,000 characters of its manual that are most like it by BM25.
An answer is kept when 90 % of its visible characters are. Shares are of the answers that the chunks
hold. `tokens/answer` are the tokens of all outputs, by answer kept. Readings are kept, so a second
run only selects; `--json` names each answer that was not kept, with the ranks of its units.
"""


@report_errors()
def documents(
    data: Annotated[
        Path, typer.Option(help="Folder with pages.jsonl.xz and questions.jsonl.")
    ] = DEFAULT_MANUALS,
    methods: shared.Methods = "question_rows,lexical,embedding,lead",
    max_tokens: Annotated[int, typer.Option(min=1, help="Budget of each question.")] = 300,
    limit: shared.Limit = None,
    formats: Annotated[
        str, typer.Option(help="Converters whose texts are read, with commas.")
    ] = "get_text,markdownify,html2text,trafilatura",
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    as_json: shared.Json = False,
) -> None:
    """Count the answers kept from real manuals, and the units that stop in mid-sentence."""
    study = Study(as_json)
    pages, questions = load_pages(data), load_questions(data, limit)
    names, counter = shared.parse_list(methods, "methods"), counter_of("proxy", proxy)
    sources = build_panel(names, proxy, shared.readings_folder(cache)).panel.sources
    built = {
        name: Compressor(SourceScorer(method_info(name), source), name, counter)
        for name, source in sources.items()
    }
    found: dict[str, Any] = {}
    with study.bars():
        for form in shared.parse_list(formats, "formats"):
            cases = list(document_cases(pages, questions, form))
            texts = [page["text"] for page in pages if page["format"] == form]
            report = partial(study.report, form, total=len(cases))
            found[form] = {
                "segmentation": segmentation_figures(texts),
                "methods": method_figures(cases, built, max_tokens, report),
            }
    title = f"Answers kept from manuals at {max_tokens} tokens"
    study.publish({"formats": found}, lambda: [table(title, COLUMNS, _cells(found))])


def _cells(found: Mapping[str, Any]) -> Iterator[Sequence[str | Text]]:
    """Formats and methods, one row each."""
    for form, of in found.items():
        cut = of["segmentation"]
        share = f"{cut['mid_sentence']} ({cut['share']:.2%})"
        yield Text(form, "bold"), "", "", str(cut["units"]), share, ""
        for name, row in of["methods"].items():
            share = "" if row["share_kept"] is None else f" ({row['share_kept']:.2f})"
            yield (
                f"  {name}",
                f"{row['kept']} of {row['held']}{share}",
                str(row["tokens_an_answer"] or ""),
                *(str(row[column]) for column in ("units", "mid_sentence", "worthless")),
            )


COLUMNS = ("format, method", "kept", "tokens/answer", "units", "mid-sentence", "below floor")


CHUNK_CHARS = 4_000
CHUNKS = 6
_TARGET = re.compile(r"\]\((?:[^()]|\([^()]{0,80}\)){0,600}\)")
_TERM = re.compile(r"[a-z0-9]+")


@dataclass(frozen=True, slots=True)
class DocumentCase:
    """A question with the chunks that BM25 brings, and where its answer is in them.

    Attributes:
        answer: passage, start and stop; None where no chunk holds all of it.
    """

    id: str
    question: str
    passages: tuple[Passage, ...]
    answer: tuple[int, int, int] | None


def load_pages(folder: Path) -> list[dict[str, Any]]:
    """The pages of a folder.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    try:
        return [row for _, row in read_json_lines(folder / "pages.jsonl.xz")]
    except BadInput as error:
        raise BadInput(
            f"{error}; give --data with a folder that has pages.jsonl.xz and questions.jsonl, such "
            "as examples/manuals of the repository"
        ) from error


def load_questions(folder: Path, limit: int | None = None) -> list[dict[str, Any]]:
    """The questions of a folder, at most `limit`, from all over it.

    Raises:
        BadInput: there is no such file, or it cannot be read.
    """
    rows = [row for _, row in read_json_lines(folder / "questions.jsonl")]
    return take_evenly(rows, limit or len(rows))


def document_cases(
    pages: Sequence[dict[str, Any]], questions: Sequence[dict[str, Any]], form: str
) -> Iterator[DocumentCase]:
    """The cases of one format: of the package's pages, the chunks most like the question."""
    chunks: dict[str, list[Passage]] = {}
    for page in pages:
        if page["format"] == form:
            own = chunks.setdefault(page["package"], [])
            own += [Passage(text, page["path"]) for text in cut_chunks(page["text"])]
    for row in questions:
        own = chunks[row["package"]]
        scores = Collection([chunk.text for chunk in own]).score(words(row["question"]))
        best = sorted(range(len(own)), key=lambda i: (-scores[i], i))[:CHUNKS]
        passages = tuple(own[i] for i in sorted(best))
        yield DocumentCase(
            row["id"], row["question"], passages, _answer_span(passages, row["answer"])
        )


def cut_chunks(text: str, limit: int = CHUNK_CHARS) -> Iterator[str]:
    """Chunks of at most so many characters, cut at the ends of lines where there are any."""
    start = 0
    while start < len(text):
        stop = start + limit
        if stop < len(text):
            stop = text.rfind("\n", start + 1, stop) + 1 or stop
        if text[start:stop].strip():
            yield text[start:stop]
        start = stop


def find_answer(text: str, answer: str) -> tuple[int, int] | None:
    """The span of an answer, by its words; markup and targets of links do not count."""
    bare = _TARGET.sub(lambda match: "]" + " " * (len(match[0]) - 1), text)
    terms = list(_TERM.finditer(bare.lower()))
    wanted = _TERM.findall(_TARGET.sub("] ", answer).lower())
    shown = [term[0] for term in terms]
    for at in range(len(shown) - len(wanted) + 1):
        if shown[at] == wanted[0] and shown[at : at + len(wanted)] == wanted:
            return terms[at].start(), terms[at + len(wanted) - 1].end()
    return None


def _answer_span(passages: Sequence[Passage], answer: str) -> tuple[int, int, int] | None:
    for i, passage in enumerate(passages):
        if span := find_answer(passage.text, answer):
            return (i, *span)
    return None


@dataclass(slots=True)
class MethodCounts:
    """Sums over the questions of one method and format.

    Attributes:
        held: questions whose chunks hold the answer. kept: of these, those whose answer was kept.
        units, mid_sentence, worthless: of the kept units all, those that stop in mid-sentence, and
            those whose probability is below the floor.
        tokens: of all outputs.
        misses: for each answer that was not kept where it stands in the ranking.
    """

    held: int = 0
    kept: int = 0
    units: int = 0
    mid_sentence: int = 0
    worthless: int = 0
    tokens: int = 0
    questions: int = 0
    misses: list[dict[str, Any]] = field(default_factory=list)

    def add(self, case: DocumentCase, result: Compressed, calibrated: bool) -> None:
        """Adds one question."""
        self.questions += 1
        self.tokens += result.tokens_out
        self.units += len(result.kept)
        shown = {kept.unit for kept in result.kept}
        # a unit that is shown with the next one is not cut there
        self.mid_sentence += sum(u + 1 not in shown and _is_cut(result, u) for u in shown)
        self.worthless += calibrated * sum(kept.score < WORTHLESS for kept in result.kept)
        if case.answer is None:
            return
        self.held += 1
        passage, start, stop = case.answer
        spans = [(k.start, k.stop) for k in result.kept if k.passage == passage]
        if is_covered(case.passages[passage].text, spans, start, stop):
            self.kept += 1
        else:
            self.misses.append(_miss(case, result))

    def figures(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "questions": self.questions,
            "held": self.held,
            "kept": self.kept,
            "share_kept": round(self.kept / self.held, 4) if self.held else None,
            "units": self.units,
            "mid_sentence": self.mid_sentence,
            "worthless": self.worthless,
            "tokens": round(self.tokens / max(1, self.questions), 1),
            "tokens_an_answer": round(self.tokens / self.kept, 1) if self.kept else None,
            "misses": self.misses,
        }


def _miss(case: DocumentCase, result: Compressed) -> dict[str, Any]:
    """The units of an answer that was not kept whole.

    `ranks` are their places by score, the best is 1; `kept` says which of them were kept.
    """
    assert case.answer is not None
    passage, start, stop = case.answer
    units, shown = result.units, {kept.unit for kept in result.kept}
    own = [
        u
        for u, unit in enumerate(units)
        if unit.passage == passage and unit.start < stop and start < unit.stop
    ]
    order = sorted(range(len(units)), key=lambda u: (-result.scores[u], u))
    place = {u: rank for rank, u in enumerate(order, 1)}
    return {
        "id": case.id,
        "units": own,
        "ranks": [place[u] for u in own],
        "scores": [round(result.scores[u], 4) for u in own],
        "kept": [u in shown for u in own],
    }


def _is_cut(result: Compressed, u: int) -> bool:
    unit = result.units[u]
    if u + 1 == len(result.units) or result.units[u + 1].passage != unit.passage:
        return False
    return stops_mid_sentence(result.passages[unit.passage].text, result.units[u : u + 2], 0)


def segmentation_figures(texts: Iterable[str]) -> dict[str, Any]:
    """How many units some texts have, and how many of these stop in mid-sentence."""
    units = cut = 0
    for text in texts:
        pieces = segment(text)
        units += len(pieces)
        cut += sum(stops_mid_sentence(text, pieces, place) for place in range(len(pieces)))
    return {"units": units, "mid_sentence": cut, "share": round(cut / max(1, units), 5)}


def method_figures(
    cases: Sequence[DocumentCase],
    compressors: dict[str, Compressor],
    max_tokens: int,
    report: Callable[[int], None],
) -> dict[str, Any]:
    """Every method's figures on the cases of one format."""
    counts = {name: MethodCounts() for name in compressors}
    for done, case in enumerate(cases, 1):
        for name, compressor in compressors.items():
            result = compressor.compress(
                case.question, case.passages, Budget(max_tokens), language="en"
            )
            counts[name].add(case, result, result.answerability is not None)
        report(done)
    return {name: count.figures() for name, count in counts.items()}


_PROSE = ("sentence", "list_item", "entry", "html", "heading")
_GAP = re.compile(r"[^\S\n]*\n?[^\S\n]*")
_ITEM = re.compile(r"(?:[-+*•‣▪◦·–|:>]|\(?\d{1,3}[.)]|[\w.-]{1,30}:)\s|[|¶]")
_REACH = 700
_FEW_WORDS = 3


def stops_mid_sentence(text: str, pieces: Sequence[Piece | Unit], place: int) -> bool:
    """Whether the piece at a place of a segmented text stops in mid-sentence."""
    if place + 1 == len(pieces) or pieces[place].kind not in _PROSE:
        return False
    start, stop = pieces[place].visible
    if pieces[place + 1].kind in ("code", "table_header", "table_row"):
        return False
    return _is_inside_markup(text, stop) or _is_unfinished(text, start, stop)


def _is_inside_markup(text: str, stop: int) -> bool:
    """Whether an offset is inside a link or inline code of its paragraph."""
    first = text.rfind("\n\n", max(0, stop - _REACH), stop) + 2
    first = max(first, stop - _REACH) if first > 1 else max(0, stop - _REACH)
    last = text.find("\n\n", stop, stop + _REACH)
    last = min(len(text), stop + _REACH) if last < 0 else last
    return any(
        a < stop < b and text[stop:b].strip() != "" for a, b in markup_spans(text, first, last)
    )


def _is_unfinished(text: str, start: int, stop: int) -> bool:
    """Whether the text from start to stop goes on after it, by its last word or the next."""
    gap = _GAP.match(text, stop)
    after = text[gap.end() if gap else stop :][:200].partition("\n")[0]
    if not after.strip() or _ITEM.match(after) or is_code(bare_line(after)):
        return False
    line = text[max(start, stop - _REACH) : stop].rpartition("\n")[2]
    before = bare_line(line).rpartition("|")[2].strip()
    if ends_with_abbreviation(before):
        return True
    unit = bare_line(text[start:stop][-_REACH:])
    if has_stop(before) or is_code(before) or count_words(unit) < _FEW_WORDS:
        return False
    return ends_open(before) or (after[:1].islower() and has_function_word(f"{unit} {after}"))
