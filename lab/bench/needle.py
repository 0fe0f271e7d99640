"""`tamis lab bench needle`: finds a sentence at every depth of haystacks of every length.

A needle sentence at every depth of haystacks of every length: is it kept?

    text ─ passages ─┬─ needle at a depth ─► method ─► rank of the needle, kept within the budget?
                     └─ the same in every cell: a window that was read is not read again

Methods that read each window alone read the haystack once, and then only the needle's window at
each depth and length; methods that read passages together read everything in every cell.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from tamis.compressors import registry
from tamis.compressors.method import Scorer
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.rules import DEFAULT_RULES, Budget
from tamis.compressors.selection.select import select
from tamis.probes.errors import BadInput
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens, Template
from tamis.probes.signal import Signal, Want
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tamis_lab.bench.panel import BLENDS, parse_method_spec, source_names
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.reading_store import SignalReadings
from tamis_lab.datasets.records import read_text
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

BOOKS = Path("../shared/data/haystack")
EPILOG = """
**Examples**

`tamis lab bench needle --text book.txt --tokens 4000,16000,64000 --plot needle.png`

`tamis lab bench needle --text book.txt --methods question_rows,lexical,infiniretri --depths
0,0.5,1`

`tamis lab bench needle --text book.txt --needle "The key is under the mat." -q "Where is the key?"`

A needle that shares its words with the question is found by word search, too: see the line of
`lexical`.
"""


@report_errors()
def needle(
    text: Annotated[
        list[Path] | None,
        typer.Option(
            "--text",
            help="Prose, optionally gzipped; repeatable, for one long haystack. Default: the books "
            f"in {BOOKS}.",
            show_default=False,
        ),
    ] = None,
    tokens: Annotated[
        str, typer.Option(help="Lengths of the haystack, with commas.")
    ] = "4000,16000,64000",
    depths: Annotated[str, typer.Option(help="From 0 to 1, with commas.")] = "0,0.25,0.5,0.75,1",
    methods: shared.Methods = "question_rows,lexical",
    max_tokens: Annotated[int, typer.Option(min=1, help="Budget of the output.")] = 500,
    needle: Annotated[
        str | None, typer.Option(help="The sentence that is hidden.", show_default=False)
    ] = None,
    question: Annotated[
        str | None, typer.Option("--question", "-q", help="What asks for it.", show_default=False)
    ] = None,
    proxy: shared.ProxyName = shared.SHARP,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder to keep what was seen in, .4 kB a token: a run then goes on."),
    ] = None,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Hide a sentence at every depth of haystacks of every length, and look for it.

    Windows that are read alone are read once for all depths and lengths.
    """
    if (needle is None) != (question is None):
        raise BadInput("--needle and --question belong together; give both or neither")
    if any(given is not None and not given.strip() for given in (needle, question)):
        raise BadInput("--needle or --question is blank; give a sentence and what asks for it")
    study = Study(as_json, plot)
    lengths, places = shared.parse_sizes(tokens), shared.parse_numbers(depths, "depths")
    if wrong := [depth for depth in places if not 0 <= depth <= 1]:
        raise BadInput(f"depths has {wrong[0]:g}; give numbers from 0 to 1 with commas")
    names = shared.parse_list(methods, "methods")
    source_names(names)  # refuses an unknown method before anything is read
    counter = counter_of("proxy", proxy)
    haystack = Haystack.from_text(_read_books(text), counter, max(lengths))
    hidden = needle or NEEDLE, question or QUESTION
    found: dict[str, list[NeedleCell]] = {}
    with study.bars():
        for name in names:
            scorer, reader = build_with_memory(name, proxy, cache)
            cells = found.setdefault(name, [])
            for cell in sweep_needle(
                scorer, reader, haystack, lengths, places, max_tokens, counter, *hidden
            ):
                cells.append(cell)
                study.report(name, len(cells), len(lengths) * len(places))
    import resource  # not on Windows

    peak = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    report = {name: [asdict(cell) for cell in cells] for name, cells in found.items()}
    study.publish(
        {"peak_mb": peak, "methods": report},
        lambda: [each for found_by in found.items() for each in _rank_map(*found_by)],
        lambda: [_rank_chart(name, cells) for name, cells in found.items()],
    )


def _grid(cells: Sequence[NeedleCell]) -> tuple[list[str], dict[str, list[NeedleCell]]]:
    """Names of the lengths, and by the name of each depth its cells."""
    rows: dict[str, list[NeedleCell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.length):
        rows.setdefault(f"{cell.depth:.0%}", []).append(cell)
    return [f"{length:,}" for length in sorted({cell.length for cell in cells})], rows


def _rank_map(name: str, cells: Sequence[NeedleCell]) -> Iterator[Any]:
    """The map of one method: depths in rows, lengths in columns, ranks in the cells."""
    kept, tokens = sum(cell.kept for cell in cells), sum(cell.tokens_read for cell in cells)
    cost = f"{tokens:,} tokens read in {sum(cell.ms for cell in cells) / 1e3:,.0f} s"
    lengths, rows = _grid(cells)
    yield f"[bold]{name}[/bold]: kept in {kept} of {len(cells)} cells, {cost}"
    yield table(
        "",
        ("depth", *lengths),
        (
            [depth, *(Text(_mark(cell), "green" if cell.kept else "red") for cell in own)]
            for depth, own in rows.items()
        ),
    )


def _mark(cell: NeedleCell) -> str:
    return f"{cell.rank}" if cell.kept else f"{cell.rank} lost"


def _rank_chart(name: str, cells: Sequence[NeedleCell]) -> Chart:
    lengths, rows = _grid(cells)
    return Chart(
        f"{name}: rank of the needle",
        x="tokens of the haystack",
        y="depth of the needle",
        rows=list(rows),
        columns=lengths,
        cells=[[0.7 * cell.kept for cell in own] for own in rows.values()],
        marks=[[_mark(cell) for cell in own] for own in rows.values()],
    )


def build_with_memory(
    name: str, proxy: str, cache: Path | None
) -> tuple[Any, MemoizedReader | None]:
    """A method or a blend of methods, and the reader with a memory that it reads with, if any."""

    if name in BLENDS:
        parts = {part: build_with_memory(part, proxy, cache) for part in BLENDS[name]}
        reader = next((reader for _, reader in parts.values() if reader), None)
        return Fusion({part: scorer for part, (scorer, _) in parts.items()}, BLENDS[name]), reader
    method, options = parse_method_spec(name)
    if not registry.method_info(method).needs_proxy:
        return registry.build_method(method, **options), None
    depth = registry.layers_needed(method, proxy, **options)
    reader = MemoizedReader(registry.load_proxy(proxy, depth), cache)
    return registry.build_method(method, proxy=reader, **options), reader


def _read_books(paths: Sequence[Path] | None) -> str:
    files = list(paths or ()) or sorted(BOOKS.glob("*.txt.gz"))
    if not files:
        raise BadInput(f"there is no book in {BOOKS}; give --text with a file of prose")
    return "\n\n".join(read_text(path) for path in files)


PASSAGE_TOKENS = 400
NEEDLE = (
    "The best thing to do in San Francisco is eat a sandwich and sit in Dolores Park "
    "on a sunny day."
)
QUESTION = "What is the best thing to do in San Francisco?"
PromptKey = tuple[PassageTokens, QuestionTokens, Want]


class MemoizedReader:
    """A reader that keeps the signal of each prompt, so that no prompt is read twice.

    Attributes:
        tokens_read: tokens of the different prompts, whether read now or by an earlier run.
        ms_before: milliseconds that earlier runs took to read the prompts found on disk.
    """

    def __init__(self, reader: Any, folder: Path | None = None) -> None:
        """With a folder, signals are also kept on disk for later runs."""
        self.reader, self.card, self.layout = reader, reader.card, reader.layout
        self.tokens_read, self.ms_before, self.folder = 0, 0.0, folder
        self._store = SignalReadings(folder, reader) if folder else None
        self._signals: dict[PromptKey, Signal] = {}

    def with_template(self, template: Template) -> MemoizedReader:
        """A reader of the same model with another template; it shares no signals with this one."""
        return MemoizedReader(self.reader.with_template(template), self.folder)

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order."""
        keys = {(prompt.passage, prompt.question, want): prompt for prompt in prompts}
        new = {key: prompt for key, prompt in keys.items() if key not in self._signals}
        self.tokens_read += sum(map(len, new.values()))
        unread = {key: prompt for key, prompt in new.items() if not self._load_signal(key, prompt)}
        clock = time.perf_counter()
        for key, signal in zip(unread, self.reader.read(list(unread.values()), want), strict=True):
            ms, clock = (time.perf_counter() - clock) * 1e3, time.perf_counter()
            stored = (
                self._store.put(unread[key], want, signal, ms).signal if self._store else signal
            )
            self._signals[key] = stored
        yield from (self._signals[p.passage, p.question, want] for p in prompts)

    def _load_signal(self, key: PromptKey, prompt: Prompt) -> bool:
        """Loads the signal of a prompt that an earlier run read; False if there is none."""
        stored = self._store.get(prompt, key[2]) if self._store else None
        if stored is not None:
            self._signals[key] = stored.signal
            self.ms_before += stored.ms
        return stored is not None


@dataclass(frozen=True, slots=True)
class NeedleCell:
    """The result at one depth and length.

    Attributes:
        length: tokens of the haystack that were requested.
        depth: of the needle, from 0 to 1.
        tokens: of the haystack with the needle, as the budget counts them.
        rank: of the needle's unit among all units, from 1.
        kept: whether the needle is in the output.
        units: how many there are. ms: of scoring.
        tokens_read: how many tokens the model read for this cell alone.
    """

    length: int
    depth: float
    tokens: int
    rank: int
    kept: bool
    units: int
    ms: float
    tokens_read: int


@dataclass(frozen=True, slots=True)
class Haystack:
    """Passages of whole sentences, and the number of tokens in each."""

    passages: tuple[Passage, ...]
    tokens: tuple[int, ...]

    @classmethod
    def from_text(cls, text: str, counter: TextTokenizer, min_tokens: int) -> Haystack:
        """The beginning of a text, of at least `min_tokens`, in passages of about `PASSAGE_TOKENS`.

        Raises:
            BadInput: the text is shorter.
        """
        units = units_of([Passage(text)])
        sizes = counter.count_many([text[unit.start : unit.stop] for unit in units])
        passages, tokens, start, size = [], [], 0, 0
        for unit, own in zip(units, sizes, strict=True):
            if size and size + own > PASSAGE_TOKENS:
                passages.append(Passage(text[start : unit.start]))
                tokens.append(size)
                start, size = unit.start, 0
            if sum(tokens) >= min_tokens:
                return cls(tuple(passages), tuple(tokens))
            size += own
        if sum(tokens) + size < min_tokens:
            raise BadInput(
                f"the haystack has {sum(tokens) + size:,} tokens and {min_tokens:,} are wanted; "
                "give a longer --text, or several"
            )
        return cls((*passages, Passage(text[start:])), (*tokens, size))

    def first_passages(self, min_tokens: int) -> tuple[Passage, ...]:
        """The fewest first passages that have so many tokens, or all passages."""
        total = 0
        for p, size in enumerate(self.tokens):
            total += size
            if total >= min_tokens:
                return self.passages[: p + 1]
        return self.passages


def insert_needle(
    passages: Sequence[Passage], needle: str, depth: float
) -> tuple[list[Passage], int]:
    """Passages with the needle between two sentences at a depth, and the index of its passage."""
    index = min(int(depth * len(passages)), len(passages) - 1)
    text = passages[index].text
    starts = [unit.start for unit in units_of([passages[index]])] or [0]
    inner = depth * len(passages) - index
    at = len(text) if inner >= 1 else starts[min(int(inner * len(starts)), len(starts) - 1)]
    before = text[:at] + ("" if not at or text[:at][-1:].isspace() else " ")
    with_needle = Passage(f"{before}{needle} {text[at:]}")
    return [*passages[:index], with_needle, *passages[index + 1 :]], index


def sweep_needle(
    scorer: Scorer,
    reader: MemoizedReader | None,
    haystack: Haystack,
    sizes: Sequence[int],
    depths: Sequence[float],
    max_tokens: int,
    counter: TextTokenizer,
    needle: str = NEEDLE,
    question: str = QUESTION,
) -> Iterator[NeedleCell]:
    """Yields every depth of every length, the shortest length first.

    Args:
        reader: the scorer's reader, which counts what is read; None for a method without one.
        sizes: of the haystack, in tokens.
        max_tokens: budget of the output.
    """
    for size in sorted(sizes):
        for depth in depths:
            passages, index = insert_needle(haystack.first_passages(size), needle, depth)
            tokens_before, ms_before = _reading_cost(reader)
            rank, kept, units, ms = _score_cell(
                scorer, passages, index, needle, question, Budget(max_tokens), counter
            )
            tokens_read, ms_earlier = _reading_cost(reader)
            tokens = sum(counter.count_many([passage.text for passage in passages]))
            ms += ms_earlier - ms_before
            read = tokens_read - tokens_before
            yield NeedleCell(size, depth, tokens, rank, kept, units, ms, read)


def _reading_cost(reader: MemoizedReader | None) -> tuple[int, float]:
    """Tokens read so far, and the milliseconds that earlier runs took for some of them."""
    return (reader.tokens_read, reader.ms_before) if reader else (0, 0.0)


def _score_cell(
    scorer: Scorer,
    passages: Sequence[Passage],
    index: int,
    needle: str,
    question: str,
    budget: Budget,
    counter: TextTokenizer,
) -> tuple[int, bool, int, float]:
    """Rank of the needle's best unit, whether the whole needle is kept, units, milliseconds."""
    clock = time.perf_counter()
    units = units_of(passages)
    scores = scorer.scores(question, passages, units)
    ms = (time.perf_counter() - clock) * 1e3
    own = [u for u, unit in enumerate(units) if _overlaps_needle(unit, passages, index, needle)]
    best = max(scores.values[u] for u in own)
    rank = 1 + sum(value > best for value in scores.values)
    kept = select(passages, units, scores.values, scores.passages, budget, DEFAULT_RULES, counter)
    return rank, needle in kept.text, len(units), ms


def _overlaps_needle(unit: Unit, passages: Sequence[Passage], index: int, needle: str) -> bool:
    """Whether a unit shares a character with the needle, which is in the passage of this index."""
    if unit.passage != index:
        return False
    start = passages[index].text.index(needle)
    return unit.start < start + len(needle) and start < unit.stop
