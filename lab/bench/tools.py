"""`tamis lab bench tools`: what is kept of the outputs of tools, and whether it is still valid.

Tool outputs in the terminal: a table a ratio, and the gold kept by kind of output.

Labelled outputs of tools: the text, the call that made it, and which lines matter.

A file holds one kind: JSON Lines, optionally packed with xz. A line is an output with its `text`,
the call's `name` and `arguments`, the user's `question` or null, `gold` (spans that answer it),
`errors` (spans that must never be lost) and `rules` (what must hold of whatever is left). Spans are
half-open, in code points. A line without `text` says who made the file.

Ways to shorten a tool's output to a number of tokens: tamis, what it did before, and plain ones.

output, limits ─► Shortened (text, its markers, ms), one a limit

Other compressors' packages, each in a process and an environment of its own.

    peers.toml ─ select ─► Peer ─ process ─► an output and a limit in, the kept text and ms out

A peer's option `markers` is a pattern: what it matches stands for what was left out. One that knows
no budget (`budget = false`) is asked once an output.

What scores the units of tools' outputs: any method of scoring, by name.

Every compressor at every ratio over the labelled outputs: one row each, with what was lost.

outputs ─ count tokens ─► limits ─ compressors ─► shown texts ─► rows ─► figures

What is kept of the labels, and which rules a shortened output breaks; read from text alone.

    source, labels, rules ─┐
    shown text, markers ───┴─► gold and errors lost, violations by rule

A line counts as kept where the shown text has it as a line, blanks at its ends aside; a JSON value
where it is found in the parsed text. So a compressor that writes JSON anew is not wronged, and one
that cuts lines is not favoured. Some write lines in another form (a table as CSV, hits under their
file): their words may be there all the same, which is counted apart.

Figures of a table from rows: labels kept, rules broken, time; by kind of output and over all.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, Protocol

import numpy as np
import typer
from rich.text import Text

from tamis.compressors import registry
from tamis.compressors.method import Scorer, check_scores
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import DEFAULT_PROXY
from tamis.compressors.rules import Budget
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import Omission, ToolOutput
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis.text.types import Passage, Unit
from tamis_lab.bench.panel import parse_method_spec
from tamis_lab.bench.peer_process import PEERS_FOLDER, Peer, PeerFailed, PeerProcess, PeerRegistry
from tamis_lab.bench.study import Study, ends, estimate, table
from tamis_lab.datasets.record_files import file_sha256
from tamis_lab.datasets.records import take_evenly
from tamis_lab.datasets.statistics import DRAWS, paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart, marks_by_row

EPILOG = """
**Examples**

`tamis lab bench tools`

`tamis lab bench tools --kinds pytest,git --ratio .3 --method lexical,question_rows
--results rows.jsonl`

**Labelled outputs** come with tamis: pytest, compilers, git, listings, searches, JSON, logs,
tables, pages. Yours are JSON Lines, a file a kind, given by --data; spans are half-open in code
points, `errors` must never be lost, and `rules` hold of whatever is left

`{"id": "1", "name": "bash", "arguments": "{\\"command\\": \\"make\\"}", "question": "What broke?",
"text": "cc a.c\\na.c:1: error: x\\n", "gold": [[7, 22]], "errors": [[7, 22]],
"rules": [{"rule": "lines"}]}`

Rules: `lines` (whole ones), `json`, `json_lines`, and any name with `headers`, patterns of lines
under which the others stay: `{"rule": "hunks", "headers": ["^diff --git ", "^@@ "]}`.
"""


OUTPUTS_FOLDER = Path(__file__).parent / "outputs"
"""The outputs that come with tamis."""


@report_errors()
def tools(
    ratio: Annotated[
        str, typer.Option("--ratio", help="Shares of an output's tokens, with commas.")
    ] = ".2,.3,.5",
    methods: shared.Methods = "lexical",
    against: Annotated[
        str | None,
        typer.Option(
            help="What to compare with, with commas: head_tail, bm25_lines, sentences (tamis "
            "for prose), and packages of peers/tools. Default: all that can run here.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Folder with labelled outputs of your own.")
    ] = None,
    kinds: Annotated[str | None, typer.Option(help="Kinds of outputs, with commas.")] = None,
    limit: shared.Limit = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    results: Annotated[
        Path | None,
        typer.Option("--results", "--rows", help="Rows; a run that was cut short goes on."),
    ] = None,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Shorten outputs of real tools, and see what is lost of the lines that matter.

    The first compressor is the one that the others are compared with.
    """
    study, ratios = Study(as_json, plot, results), shared.parse_shares(ratio, "ratio")
    files, counter = _find_files(data or OUTPUTS_FOLDER, kinds), counter_of("proxy", proxy)
    outputs = [row for kind, path in files.items() for row in load_outputs(path, kind, limit)]
    with ExitStack() as stack:
        compressors: dict[str, OutputCompressor] = {
            f"tamis {name}": ToolCompressor(build_scorer(name, proxy), counter)
            for name in shared.parse_list(methods, "method")
        }
        wanted = shared.parse_list(against, "against") if against is not None else None
        plain = {name: partial(make, counter) for name, make in PLAIN.items()}
        makers = compressor_makers(plain, wanted, proxy, stack)
        compressors |= {name: makers[name]() for name in wanted or makers}
        study.keep_rows(
            {"proxy": proxy, "sha256": {kind: file_sha256(path) for kind, path in files.items()}}
        )
        with study.bars():
            rows = tally_tools(outputs, compressors, ratios, counter, study)
    figures = tool_figures(rows, seed)
    facts = {kind: file_facts(path) | {"sha256": file_sha256(path)} for kind, path in files.items()}
    study.publish(
        {"seed": seed, "limit": limit, "proxy": proxy, "files": facts, "ratios": figures},
        lambda: [each for found in figures.items() for each in tool_tables(*found)],
        lambda: [_chart(*found) for found in figures.items()],
    )


def _find_files(folder: Path, kinds: str | None) -> dict[str, Path]:
    """The files of the kinds that are named, or of all."""
    files = find_kinds(folder)
    wanted = shared.parse_list(kinds, "kinds") if kinds else list(files)
    if unknown := [kind for kind in wanted if kind not in files]:
        raise BadInput(f"there is no kind {unknown[0]!r}; there are: {', '.join(files)}")
    return {kind: files[kind] for kind in wanted}


def compressor_makers(
    plain: Mapping[str, Callable[[], OutputCompressor]],
    wanted: Sequence[str] | None,
    proxy: str,
    stack: ExitStack,
) -> dict[str, Callable[[], OutputCompressor]]:
    """What makes each compressor that can run here; says on stderr which ones cannot.

    Args:
        wanted: names; None for all. Packages are looked for if any is wanted.
        stack: ends the processes of packages.

    Raises:
        BadInput: a name that there is not.
    """
    found = dict(plain)
    # only the sources of tamis have adapters of packages
    if TOOL_PEERS_FOLDER.is_dir() and (wanted is None or set(wanted) - set(found)):
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        registry, ready, lacks = installed_packages(TOOL_PEERS_FOLDER)

        def start(peer: Peer) -> OutputCompressor:
            package = package_compressor(registry, peer, logs / f"{peer.name}.log", proxy)
            stack.enter_context(package.process)
            return package

        found |= {peer.name: partial(start, peer) for peer in ready}
        for lack in lacks:
            typer.echo(f"left out: {lack}", err=True)
    if unknown := [name for name in wanted or () if name not in found]:
        raise BadInput(f"there is no compressor {unknown[0]!r} here; there are: {', '.join(found)}")
    return found


def tool_tables(ratio: str, figures: Mapping[str, Any]) -> Iterator[Any]:
    """Compressors at one ratio, the gold kept by kind of output, and what the figures are."""
    compressors, first = figures["compressors"], figures["reference"]
    heads = ("gold kept", "words", "all", "errors lost", "rules broken", "empty", "over", "tokens")
    yield table(
        f"{float(ratio):.0%} of the tokens, {figures['outputs']} outputs",
        ("compressor", *heads, "ms", "p95"),
        (
            [Text(name, "bold" if name == first else ""), *_cells(of)]
            for name, of in compressors.items()
        ),
    )
    rows: list[list[str | Text]] = []
    for kind, outputs in figures["kinds"].items():
        cells = [of["kinds"][kind] for of in compressors.values()]
        best = max(cell["gold_kept"]["value"] for cell in cells)
        rows.append([f"{kind} ({outputs})", *(_kind_cell(cell, best) for cell in cells)])
    yield table(f"Gold kept by kind at {float(ratio):.0%}", ("kind (outputs)", *compressors), rows)
    yield Text(
        f"Share of labelled lines kept [95 % interval]; below, how far {first} is ahead. "
        "words: the same with lines in another form that have all their words. all: outputs with "
        "all of their gold. over: outputs above the limit. tokens: share kept. By kind, in red: "
        "error lines lost.\n"
    )


def _cells(of: Mapping[str, Any]) -> list[Text]:
    broken = [f"{count} {rule}" for rule, count in of["violations"].items() if count]
    failed = f"\n{of['failed']} failed" if of["failed"] else ""
    kept = of["gold_kept"]
    gold = Text(f"{kept['value']:.3f} {ends(kept, '.2f', 1)}")
    if ahead := of.get("reference_ahead"):
        gold.append("\n").append(estimate(ahead, "value", "+.2f", 1))
    return [
        gold,
        Text(f"{of['gold_in_any_words']:.2f}"),
        Text(f"{of['all_gold_kept']:.2f}"),
        _count(of["errors_lost"], f" of {of['errors']}"),
        Text("\n".join(broken) or "0", "red" if broken else "green"),
        _count(of["empty"], failed),
        _count(of["over_limit"]),
        Text(f"{of['tokens_kept']:.3f}"),
        Text(f"{of['ms_p50']:.0f}"),
        Text(f"{of['ms_p95']:.0f}"),
    ]


def _count(number: int, rest: str = "") -> Text:
    return Text(f"{number}{rest}", "red" if number else "green")


def _kind_cell(of: Mapping[str, Any], best: float) -> Text:
    value = of["gold_kept"]["value"]
    text = Text(f"{value:.2f}", "green" if value == best else "")
    if of["errors_lost"]:
        text.append(f" -{of['errors_lost']}", "red")
    return text


def _chart(ratio: str, figures: Mapping[str, Any]) -> Chart:
    """A row a kind of output, a mark a compressor."""
    rows = ["all", *figures["kinds"]]
    kept = {
        name: [each["gold_kept"]["value"] for each in (of, *of["kinds"].values())]
        for name, of in figures["compressors"].items()
    }
    label = f"gold lines kept at {float(ratio):.0%} of the tokens"
    return Chart("", marks_by_row(rows, kept), label, rows=rows, shares="x")


def build_scorer(spec: str, proxy: str) -> Scorer:
    """A method, with options where wanted: `lexical`, `question_rows`, `infiniretri:heads=16`.

    Args:
        proxy: a zoo name or a folder, for methods that read with one.

    Raises:
        UnknownMethod: no such method. BadInput: one of another kind, or an unknown option.
        ProxyMissing: a model is not on this machine.
    """
    name, options = parse_method_spec(spec)
    registry.check_options(name, options)
    info = registry.method_info(name)
    check_scores(info, name)
    if info.needs_proxy:
        layers = registry.layers_needed(name, proxy, **options)
        options["proxy"] = registry.load_proxy(proxy, layers)
    if info.needs_encoder:
        options["encoder"] = registry.DEFAULT_ENCODER
    scorer: Scorer = registry.build_method(name, **options)
    return scorer


def tally_tools(
    outputs: Sequence[LabelledOutput],
    compressors: Mapping[str, OutputCompressor],
    ratios: Sequence[float],
    counter: TextTokenizer,
    study: Study | None = None,
) -> list[ToolRow]:
    """A row an output, compressor and ratio.

    Args:
        ratios: shares of an output's tokens by `counter`, above 0 and at most 1.
    """

    @lru_cache(maxsize=1)
    def shorten(at: int, name: str) -> tuple[int, list[int], list[Shortened]]:
        """An output is parsed and scored once for all ratios."""
        tokens = counter.count(outputs[at].text)
        limits = [Budget(ratio=ratio).tokens(tokens) or tokens for ratio in ratios]
        return tokens, limits, compressors[name].shorten(outputs[at], limits)

    def measure(case: tuple[int, str, int]) -> dict[str, Any]:
        at, name, place = case
        labelled, (tokens, limits, found) = outputs[at], shorten(at, name)
        of, limit = found[place], limits[place]
        gold_lost = tuple(lost_labels(labelled, of.text, labelled.gold))
        row = ToolRow(
            name,
            ratios[place],
            labelled.kind,
            labelled.id,
            tokens,
            limit,
            counter.count(of.text),
            len(labelled.gold),
            gold_lost,
            count_reworded(gold_lost, of.text),
            len(labelled.errors),
            tuple(lost_labels(labelled, of.text, labelled.errors)),
            {} if of.error else count_violations(labelled, of.text, of.is_marker),
            of.ms,
            of.text,
            of.error,
        )
        return asdict(row)

    cases = {
        f"{labelled.kind}/{labelled.id}/{name}/{ratio:g}": (at, name, place)
        for at, labelled in enumerate(outputs)
        for name in compressors
        for place, ratio in enumerate(ratios)
    }
    rows = (study or Study()).rows("outputs", cases, measure)
    return [ToolRow(**{name: row[name] for name in ToolRow.__slots__}) for row in rows]


def _lead(
    base: Sequence[ToolRow], own: Sequence[ToolRow], seed: int, draws: int
) -> dict[str, float]:
    """How much more of the gold the reference keeps, over the outputs that both have."""
    by_id = {(row.kind, row.id): row for row in base}
    pairs = [(by_id[row.kind, row.id], row) for row in own if (row.kind, row.id) in by_id]
    ours, theirs = (_gold_kept([pair[side] for pair in pairs]) for side in (0, 1))
    gold = [row.gold for row, _ in pairs]
    return paired_interval(ours, theirs, gold, draws, seed, name="value")


_ENDINGS = (".jsonl.xz", ".jsonl")
NOTHING_ASKED = "What happened?"
Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rule:
    """What must hold of a shortened output.

    Attributes:
        name: `lines`, `json`, `json_lines`, or that of a rule with headers.
        headers: patterns of header lines, outermost first, under which every line stays.
    """

    name: str
    headers: tuple[re.Pattern[str], ...] = ()


@dataclass(frozen=True, slots=True)
class LabelledOutput:
    """One output of a tool, as in the text above.

    Attributes:
        kind: the name of its file.
    """

    id: str
    kind: str
    output: ToolOutput
    question: str | None
    gold: tuple[Span, ...]
    errors: tuple[Span, ...]
    rules: tuple[Rule, ...]

    @property
    def text(self) -> str:
        """What the tool printed."""
        return self.output.text

    @property
    def asked(self) -> str:
        """The call with the question: what compressors that know nothing of tools are asked."""
        return (
            "\n".join(part for part in (self.output.call, self.question) if part) or NOTHING_ASKED
        )

    @property
    def is_json(self) -> bool:
        """Whether the whole text is one JSON value."""
        return any(rule.name == "json" for rule in self.rules)


def find_kinds(folder: Path) -> dict[str, Path]:
    """The files of a folder by kind, sorted.

    Raises:
        BadInput: there is no such folder, or no file in it.
    """
    files = sorted(folder.glob("*.jsonl*")) if folder.is_dir() else []
    found = {
        path.name.removesuffix(ending): path
        for path in files
        for ending in _ENDINGS
        if path.name.endswith(ending)
    }
    if not found:
        raise BadInput(
            f"{folder} has no labelled outputs; give --data with a folder of KIND.jsonl files"
        )
    return found


def load_outputs(path: Path, kind: str, limit: int | None = None) -> list[LabelledOutput]:
    """The outputs of a file, in its order; with a limit, at even distances.

    Raises:
        BadInput: it cannot be read, or a line is no labelled output.
    """
    rows = [
        _parse_output(row, kind, f"{path}, line {number}")
        for number, row in read_json_lines(path)
        if "text" in row
    ]
    if not rows:
        raise BadInput(f"{path} has no labelled output")
    return take_evenly(rows, limit or len(rows))


def file_facts(path: Path) -> dict[str, Any]:
    """What a file says of itself: the seed, and the versions of the tools that made it."""
    return next((row for _, row in read_json_lines(path) if "text" not in row), {})


def _parse_output(row: Mapping[str, Any], kind: str, place: str) -> LabelledOutput:
    try:
        text, name, arguments = (row.get(field) for field in ("text", "name", "arguments"))
        question = row.get("question")
        if not isinstance(text, str) or any(
            not isinstance(words, str | None) for words in (name, arguments, question)
        ):
            raise BadInput(f"{place}: text, name, arguments and question are strings")
        return LabelledOutput(
            str(row["id"]),
            kind,
            ToolOutput(text, name, arguments),
            question,
            _parse_spans(row["gold"], text, place),
            _parse_spans(row.get("errors", ()), text, place),
            tuple(_parse_rule(rule) for rule in row.get("rules", ())),
        )
    except (LookupError, TypeError, ValueError, re.error) as error:
        raise BadInput(f"{place} is no labelled output: {error!r}") from error


def _parse_spans(given: Sequence[Sequence[int]], text: str, place: str) -> tuple[Span, ...]:
    spans = tuple((int(start), int(stop)) for start, stop in given)
    if wrong := [span for span in spans if not 0 <= span[0] < span[1] <= len(text)]:
        raise BadInput(f"{place}: {list(wrong[0])} is no span of its {len(text)} code points")
    return spans


_PLAIN_RULES = ("lines", "json", "json_lines")


def _parse_rule(rule: Mapping[str, Any]) -> Rule:
    name, patterns = str(rule["rule"]), rule.get("headers", ())
    if not patterns and name not in _PLAIN_RULES:
        raise ValueError(f"rule {name!r} has no headers; without: {', '.join(_PLAIN_RULES)}")
    return Rule(name, tuple(re.compile(pattern) for pattern in patterns))


@dataclass(frozen=True, slots=True)
class Shortened:
    """A shortened output.

    Attributes:
        is_marker: whether a line, or a string in JSON, stands for what was left out.
        ms: what it took, from the text on.
        error: why there is no text.
    """

    text: str
    ms: float
    is_marker: IsMarker = lambda line: False
    error: str | None = None


class OutputCompressor(Protocol):
    """Whatever shortens the output of a tool."""

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """The output at each limit in tokens."""
        ...


class ToolCompressor:
    """tamis for tool outputs, with any scorer; a marker for each omission."""

    def __init__(self, scorer: Scorer, counter: TextTokenizer) -> None:
        self.scorer, self.counter = scorer, counter

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """Parsed and scored once, selected at each limit; each one's time has all of it."""
        clock = time.perf_counter()
        prepared = prepare_tool_outputs([labelled.output], labelled.question, self.counter)
        values = prepared.score(self.scorer)
        scored_ms = (time.perf_counter() - clock) * 1e3
        found = []
        for limit in limits:
            markers: set[str] = set()

            def mark(omission: Omission, into: set[str] = markers) -> str:
                text = default_marker(omission)
                into.update((text, json.dumps(text, ensure_ascii=False)))
                return text

            clock = time.perf_counter()
            (kept,) = prepared.select(values, [limit], mark)
            ms = scored_ms + (time.perf_counter() - clock) * 1e3
            found.append(Shortened(kept.text, ms, markers.__contains__))
        return found


class SentenceCompressor:
    """tamis for prose: an output is one passage, and the call with the question asks."""

    def __init__(self, scorer: Scorer, name: str, counter: TextTokenizer) -> None:
        self.compressor = Compressor(scorer, name, counter)

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """One compression a limit; nothing where no unit fits."""
        return [self._shorten(labelled, limit) for limit in limits]

    def _shorten(self, labelled: LabelledOutput, limit: int) -> Shortened:
        clock, text = time.perf_counter(), ""
        with suppress(BudgetTooSmall):
            passages = [Passage(labelled.text)]
            text = self.compressor.compress(labelled.asked, passages, Budget(limit)).text
        return Shortened(text, (time.perf_counter() - clock) * 1e3)


class LineCompressor:
    """Whole lines of a text, by some order, as many as fit; no markers."""

    def __init__(
        self,
        order: Callable[[LabelledOutput, Sequence[str]], list[int]],
        skips: bool,
        counter: TextTokenizer,
    ) -> None:
        """`order` gives the numbers of the lines, the first to be kept first.

        `skips`: whether lines are looked at behind the first that does not fit.
        """
        self.order, self.skips, self.counter = order, skips, counter

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """Ordered once, filled at each limit; the first tokens of the text where no line fits."""
        clock = time.perf_counter()
        lines = labelled.text.splitlines(keepends=True)
        costs, order = self.counter.count_many(lines), self.order(labelled, lines)
        ordered_ms = (time.perf_counter() - clock) * 1e3
        found = []
        for limit in limits:
            clock = time.perf_counter()
            kept = fill_lines(order, costs, limit, self.skips)
            text = "".join(lines[i] for i in kept) or self._first_tokens(labelled.text, limit)
            found.append(Shortened(text, ordered_ms + (time.perf_counter() - clock) * 1e3))
        return found

    def _first_tokens(self, text: str, limit: int) -> str:
        stop = len(text)
        while stop and self.counter.count(text[:stop]) > limit:
            stop = stop * 4 // 5
        return text[:stop]


def fill_lines(order: Sequence[int], costs: Sequence[int], limit: int, skips: bool) -> list[int]:
    """The first lines by an order that fit; `skips`: also those behind one that does not."""
    used, kept = 0, []
    for i in order:
        if used + costs[i] <= limit:
            used += costs[i]
            kept.append(i)
        elif not skips:
            break
    return sorted(kept)


def ends_first(labelled: LabelledOutput, lines: Sequence[Any]) -> list[int]:
    """The first line, the last, the second, the last but one: head and tail of the same size."""
    pairs = zip(range(len(lines)), reversed(range(len(lines))), strict=True)
    return list(dict.fromkeys(i for pair in pairs for i in pair))


def best_lines_first(labelled: LabelledOutput, lines: Sequence[str]) -> list[int]:
    """Lines by BM25 against the call and the question."""
    at, units = 0, []
    for line in lines:
        units.append(Unit(0, at, at + len(line), (at, at + len(line)), "entry"))
        at += len(line)
    passage = Passage(labelled.text)
    values = Lexical().scores(labelled.asked, [passage], units).values
    return sorted(range(len(lines)), key=lambda i: -values[i])


PLAIN: dict[str, Callable[[TextTokenizer], OutputCompressor]] = {
    "head_tail": lambda counter: LineCompressor(ends_first, False, counter),
    "bm25_lines": lambda counter: LineCompressor(best_lines_first, True, counter),
    "sentences": lambda counter: SentenceCompressor(Lexical(), "lexical", counter),
}
"""Compressors that every row of tamis is compared with, by name."""


TOOL_PEERS_FOLDER = PEERS_FOLDER / "tools"
TIMEOUT_S = 120.0


class PackageCompressor:
    """A package behind an adapter."""

    def __init__(self, process: PeerProcess, markers: str, has_budget: bool = True) -> None:
        self.process, self.markers = process, re.compile(markers or r"(?!)")
        self.has_budget, self._is_warm = has_budget, False

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """One call a limit, and before the first a call that is not timed.

        Raises:
            PeerFailed: its process does not start.
        """
        if not self._is_warm:
            self.process.start()
            with suppress(PeerFailed):
                self.process.run_case(_request(labelled, limits[0]))
            self._is_warm = True
        if not self.has_budget:
            return [self._shorten(labelled, limits[0])] * len(limits)
        return [self._shorten(labelled, limit) for limit in limits]

    def _shorten(self, labelled: LabelledOutput, limit: int) -> Shortened:
        try:
            answer = self.process.run_case(_request(labelled, limit))
        except PeerFailed as error:
            return Shortened("", 0.0, error=str(error))
        if "error" in answer:
            return Shortened("", 0.0, error=str(answer["error"]))
        return Shortened(str(answer["text"]), float(answer["ms"]), self._is_marker)

    def _is_marker(self, line: str) -> bool:
        return bool(self.markers.search(line))


def _request(labelled: LabelledOutput, limit: int) -> dict[str, object]:
    return {
        "question": labelled.question,
        "name": labelled.output.name,
        "arguments": labelled.output.arguments,
        "context": labelled.text,
        "budget_tokens": limit,
    }


def installed_packages(folder: Path) -> tuple[PeerRegistry, list[Peer], list[str]]:
    """The packages of a folder that can run here, and for the others what they lack.

    Raises:
        BadInput: there is no list of peers.
    """
    registry = PeerRegistry.load(folder)
    lacks = {name: registry.missing_requirement(of, {}) for name, of in registry.peers.items()}
    ready = [peer for name, peer in registry.peers.items() if lacks[name] is None]
    return registry, ready, [lack for lack in lacks.values() if lack]


def package_compressor(
    registry: PeerRegistry, peer: Peer, log: Path, proxy: str = DEFAULT_PROXY
) -> PackageCompressor:
    """The compressor of a peer; its process starts with the first output.

    Args:
        log: for what it prints. proxy: by zoo name or folder; its tokenizer counts the budget.

    Raises:
        BadInput: it has no adapter.
    """
    if not peer.adapter.is_file():
        raise BadInput(f"{peer.name}: there is no adapter {peer.adapter}")
    options = {"proxy": proxy, **peer.options}
    markers, has_budget = str(options.pop("markers", "")), bool(options.pop("budget", True))
    python = registry.python_path(peer)
    process = PeerProcess(python, peer.adapter, options, 1, log, TIMEOUT_S)
    return PackageCompressor(process, markers, has_budget)


@dataclass(frozen=True, slots=True)
class ToolRow:
    """What one compressor made of one output at one ratio.

    Attributes:
        gold, errors: how many are labelled. gold_lost, errors_lost: texts of those that are lost.
        gold_reworded: how many of the lost are there in other words.
        violations: by rule. error: why there is no text, all else is then lost.
        shown: the shortened output.
    """

    compressor: str
    ratio: float
    kind: str
    id: str
    tokens_in: int
    limit: int
    tokens_out: int
    gold: int
    gold_lost: tuple[str, ...]
    gold_reworded: int
    errors: int
    errors_lost: tuple[str, ...]
    violations: Mapping[str, int]
    ms: float
    shown: str
    error: str | None = None

    @property
    def is_faulty(self) -> bool:
        """Whether anything is wrong with it: a label lost, a rule broken, nothing left."""
        wrong = self.gold_lost or self.errors_lost or any(self.violations.values())
        return bool(wrong or not self.shown.strip() or self.tokens_out > self.limit or self.error)


IsMarker = Callable[[str], bool]
"""Whether a line, or a string of a JSON text, stands for what was left out."""


def lost_labels(output: LabelledOutput, shown: str, spans: Sequence[Span]) -> list[str]:
    """The texts of labelled spans that the shown text does not have."""
    lines = {line.strip() for line in shown.split("\n")}
    return [text for text in _texts(output, spans) if not _is_kept(output, text, shown, lines)]


def count_reworded(texts: Sequence[str], shown: str) -> int:
    """How many texts are in the shown one in other words: each word is there, half in one line."""
    lines = [_words(line) for line in shown.split("\n")] if texts else []
    everything = set().union(*lines)
    return sum(
        (words := _words(text)) <= everything
        and any(2 * len(words & line) >= len(words) for line in lines)
        for text in texts
    )


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text))


def _texts(output: LabelledOutput, spans: Sequence[Span]) -> list[str]:
    return [output.text[start:stop] for start, stop in spans]


def _is_kept(output: LabelledOutput, text: str, shown: str, lines: set[str]) -> bool:
    if output.is_json:
        return _has_value(shown, text)
    if "\n" in text or not _is_line(output.text, text):
        return text in shown
    return text.strip() in lines


def _is_line(source: str, text: str) -> bool:
    return f"\n{text}\n" in f"\n{source}\n"


def _has_value(shown: str, text: str) -> bool:
    try:
        parsed, wanted = json.loads(shown), json.loads(text)
    except ValueError:
        return text in shown
    return any(value == wanted for value in _values(parsed))


def _values(value: Any) -> Iterator[Any]:
    yield value
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inner:
        yield from _values(each)


def count_violations(output: LabelledOutput, shown: str, is_marker: IsMarker) -> dict[str, int]:
    """How often each rule of an output is broken by the shown text.

    `lines`: lines that are neither lines of the source nor markers. `json`: 1 if the text does not
    parse. `altered`: JSON values that are not in the source. `json_lines`: lines that do not parse.
    Rules with headers: lines of the source that stand under other headers.
    """
    counts: dict[str, int] = {}
    for rule in output.rules:
        if rule.name == "json":
            counts |= _json_violations(output.text, shown, is_marker)
        else:
            counts[rule.name] = _line_violations(rule, output.text, shown, is_marker)
    return counts


def _line_violations(rule: Rule, text: str, shown: str, is_marker: IsMarker) -> int:
    lines = [s for line in shown.split("\n") if (s := line.strip()) and not is_marker(s)]
    if rule.headers:
        return _misplaced_lines(rule, text, shown)
    if rule.name == "json_lines":
        return sum(not _parses(line) for line in lines)
    source = {line.strip() for line in text.split("\n")}
    return sum(line not in source for line in lines)


def _parses(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _misplaced_lines(rule: Rule, text: str, shown: str) -> int:
    """Lines of the source under headers that they do not have there; other lines are not judged."""
    source = set(headed_lines(text, rule.headers))
    known = {line for _, line in source}
    return sum(
        (path, line) not in source
        for path, line in headed_lines(shown, rule.headers)
        if line in known
    )


def headed_lines(
    text: str, headers: Sequence[re.Pattern[str]]
) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every line that is not blank, with the headers above it; a header has those of outer levels.

    Args:
        headers: patterns by level. A header ends the headers of its own level and within.
    """
    path = [""] * len(headers)
    for line in (line.rstrip() for line in text.split("\n")):
        level = next((i for i, header in enumerate(headers) if header.search(line)), None)
        if level is not None:
            path[level:] = [""] * (len(headers) - level)
            yield tuple(path), line
            path[level] = line
        elif line:
            yield tuple(path), line


def _json_violations(text: str, shown: str, is_marker: IsMarker) -> dict[str, int]:
    try:
        parsed = json.loads(shown)
    except ValueError:
        return {"json": 1, "altered": 0}
    return {"json": 0, "altered": int(not is_part(parsed, _source_value(text), is_marker))}


@cache
def _source_value(text: str) -> Any:
    return json.loads(text)


def is_part(shown: Any, source: Any, is_marker: IsMarker) -> bool:
    """Whether a JSON value is another one with elements or members left out, markers aside.

    A marker is a string, or a member whose value or name is one.
    """
    if isinstance(shown, str) and is_marker(shown):
        return True
    if isinstance(shown, dict) and isinstance(source, dict):
        return all(
            is_part(value, source[name], is_marker)
            if name in source
            else _is_note(value, is_marker)
            for name, value in shown.items()
        )
    if isinstance(shown, list) and isinstance(source, list):
        return _is_sublist(shown, source, is_marker)
    return bool(shown == source and type(shown) is type(source))


def _is_note(value: Any, is_marker: IsMarker) -> bool:
    return isinstance(value, str) and is_marker(value)


def _is_sublist(shown: Sequence[Any], source: Sequence[Any], is_marker: IsMarker) -> bool:
    left = iter(source)
    return all(
        _is_note(value, is_marker) or any(is_part(value, other, is_marker) for other in left)
        for value in shown
    )


def tool_figures(rows: Sequence[ToolRow], seed: int = 0, draws: int = DRAWS) -> dict[str, Any]:
    """By ratio: for each compressor the figures over all outputs, and by kind.

    The first compressor of the rows is the one that others are compared with, output by output.
    """
    return {
        f"{ratio:g}": _ratio_figures([row for row in rows if row.ratio == ratio], seed, draws)
        for ratio in dict.fromkeys(row.ratio for row in rows)
    }


def _ratio_figures(rows: Sequence[ToolRow], seed: int, draws: int) -> dict[str, Any]:
    by_name: dict[str, list[ToolRow]] = {}
    for row in rows:
        by_name.setdefault(row.compressor, []).append(row)
    reference, base = next(iter(by_name.items()))
    kinds = sorted({row.kind for row in rows})
    return {
        "reference": reference,
        "outputs": len(base),
        "kinds": {kind: sum(row.kind == kind for row in base) for kind in kinds},
        "compressors": {
            name: _summary(own, seed, draws)
            | ({} if name == reference else {"reference_ahead": _lead(base, own, seed, draws)})
            | {"kinds": {k: _summary([r for r in own if r.kind == k], seed, draws) for k in kinds}}
            for name, own in by_name.items()
        },
    }


def _summary(rows: Sequence[ToolRow], seed: int, draws: int) -> dict[str, Any]:
    gold, kept = [row.gold for row in rows], _gold_kept(rows)
    violations: Counter[str] = Counter()
    for row in rows:
        violations.update(row.violations)
    return {
        "gold": sum(gold),
        "gold_kept": paired_interval(kept, [0] * len(rows), gold, draws, seed, name="value"),
        "gold_in_any_words": (sum(kept) + sum(row.gold_reworded for row in rows)) / sum(gold),
        "all_gold_kept": statistics.fmean(not row.gold_lost for row in rows),
        "errors": sum(row.errors for row in rows),
        "errors_lost": sum(len(row.errors_lost) for row in rows),
        "outputs_with_lost_errors": sum(bool(row.errors_lost) for row in rows),
        "violations": dict(sorted(violations.items())),
        "outputs_with_violations": sum(any(row.violations.values()) for row in rows),
        "empty": sum(not row.shown.strip() for row in rows),
        "failed": sum(row.error is not None for row in rows),
        "over_limit": sum(row.tokens_out > row.limit for row in rows),
        "tokens_kept": sum(r.tokens_out for r in rows) / max(1, sum(r.tokens_in for r in rows)),
        "ms_p50": statistics.median(row.ms for row in rows),
        "ms_p95": float(np.percentile([row.ms for row in rows], 95)),
    }


def _gold_kept(rows: Sequence[ToolRow]) -> list[int]:
    return [row.gold - len(row.gold_lost) for row in rows]
