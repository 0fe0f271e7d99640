"""`tamis lab bench hops`: compares ways of reading on questions that chain facts.

Multi-hop questions, whose facts must be chained: what does each way of reading gain?

    training ─ read in each way ─► features ─ cross-fit ─► weights ─┐
    judged ─── read in each way ─► features ────────────────────────┴► scores ─► gold kept

Every way (see below) has the word features and the second step of the default method, and
weights fitted to it on the same questions. A second reading depends on the units that survive the
first. For a training question, survivors are chosen by weights that were not fitted on its article,
so that they are as good as those of a judged question.

The ways of reading that are compared for multi-hop questions, and the weights of each.

    alone    the default: passages alone, and a second step over words, which reads no tokens
    again1   passages alone, then again with the default's best unit appended to the question
    again2   likewise with the best two units
    packs    neighbouring passages in one prompt of up to 512 tokens
    whole    all passages in one prompt
    shared   alone, and the log of each unit's share of a head's mass over all units
    shares   alone, and those shares without the log

Under a softmax over the units of one question, a log share carries no more information than the log
mass and the length of the unit, because all units have the same divisor. The share itself does.

Ways to read the passages of a question: alone, in packs, all in one prompt, and a second time.

alone    [title, passage 1] question     [title, passage 2] question     …
packs    [title, passage 1, blank line, title, passage 2, …] question    up to 512 tokens each
whole    the same, limited by the proxy's context only
again    as alone, with a longer question; the cached keys of the passages are used again
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.table import Table
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.features.second_step import first_features
from tamis.compressors.features.words import Lexicon, hop_features
from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.question_rows import QuestionRows, pool_question_rows
from tamis.compressors.reading.windows import (
    WINDOW_TOKENS,
    Reader,
    Reading,
    Window,
    document_tokens_left,
    split_windows,
)
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.prompt import Layout, PassageTokens, Prompt, token_batches
from tamis.probes.signal import Want
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage, Unit
from tamis_lab.bench.evidence import evidence_figures, load_gold_records, tally_evidence
from tamis_lab.bench.panel import Panel, proxy_facts
from tamis_lab.bench.study import Study, ends, table
from tamis_lab.datasets.reading_store import CaseReadings, cached_reader, store_key
from tamis_lab.datasets.record_files import (
    RecordFile,
    answerable_records,
    describe_file,
    file_sha256,
    fold_of,
)
from tamis_lab.datasets.records import Record, annotated_units, gold_labels, passages_of
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.options import shared
from tamis_lab.train.probe.answerability import CrossFitWeights
from tamis_lab.train.probe.fitting import fit_ordering
from tamis_lab.train.probe.labelled_readings import LabelledReading, label_reading

EPILOG = """
**Examples**

`tamis lab bench hops --train hotpotqa.jsonl.gz:100 --train squad2.jsonl.gz:60 --judge
dev.jsonl:100`

`tamis lab bench hops --train mine.jsonl:200 --judge held.jsonl --ways again1,again2 --json`

Every way has a probe of its own, fitted on the same training questions. What survives the first
reading of a training question is said by weights that never saw its article. Readings are kept, so
that a run which was cut short goes on. One thread; ms are of the run that read.
"""


@report_errors()
def hops(
    train: Annotated[
        list[str], typer.Option("--train", metavar="FILE[:LIMIT]", help="To fit on; repeatable.")
    ],
    judge: Annotated[
        list[str], typer.Option("--judge", metavar="FILE[:LIMIT]", help="To judge by; repeatable.")
    ],
    ways: Annotated[
        str, typer.Option(help="Compared with `alone`; with commas.")
    ] = "again1,again2,packs,whole,shared,shares",
    budgets: shared.Budgets = "0.1,0.2",
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    as_json: shared.Json = False,
) -> None:
    """Read passages alone, twice, in packs, or all at once: evidence kept, ms, tokens read.

    Sets of single short passages get distractors, as in `tamis lab bench evidence`.
    """
    study = Study(as_json)
    names, shares = order_ways(shared.parse_list(ways, "ways")), shared.parse_budgets(budgets)
    fit_on, judge_by = _parse_files(train, judge)
    layers = registry.layers_needed(registry.DEFAULT, proxy)
    reader = cached_reader(registry.load_proxy(proxy, layers))
    way_reader = WayReader(reader, layers or reader.card.layers, shared.readings_folder(cache))
    counter = counter_of("proxy", proxy)
    with one_thread(), study.bars():
        figures = compare_ways(way_reader, names, fit_on, judge_by, shares, counter, study, seed)
        study.publish(
            {"proxy": proxy_facts(reader)} | figures,
            lambda: [_table(name, of) for name, of in figures["sets"].items()],
        )


def _table(name: str, found: Mapping[str, Any]) -> Table:
    """A row per way: gold kept, questions with all of it, the gain over `alone`, and costs."""
    omitted = f", {found['too_long']} left out as too long" if found["too_long"] else ""
    budgets = found["ways"][REFERENCE_WAY]["budgets"]
    heads = (f"{budget} {kind}" for budget in budgets for kind in ("gold", "all"))
    rows = []
    for way, of in found["ways"].items():
        cells = [_cell(c, kind) for c in of["budgets"].values() for kind in ("gold", "all_gold")]
        rows.append([way, *cells, f"{of['median_ms']:.0f}", f"{of['mean_tokens_read']:.0f}"])
    title = (
        f"{name}: {found['questions']} questions{omitted}; per cent of gold sentences kept, and of "
        f"questions that keep all; in brackets the 95 % interval of the gain over `{REFERENCE_WAY}`"
    )
    return table(title, ("way", *heads, "ms", "tokens read"), rows)


def _cell(cell: Mapping[str, Any], kind: str) -> str:
    over, shown = cell.get(f"{kind}_over_{REFERENCE_WAY}"), f"{100 * cell[f'{kind}_kept']:.1f}"
    return f"{shown} {ends(over, '+.1f')}" if over else shown


def way_figures(
    ways: WayReader,
    weights: Mapping[str, WayWeights],
    records: Sequence[Record],
    budgets: Sequence[float],
    counter: TextTokenizer,
    study: Study | None = None,
    name: str = "judge",
    seed: int = 0,
) -> dict[str, Any]:
    """Figures of every way over one set, with the gain over the reference way."""
    sources = {way: WaySource(ways, way, of) for way, of in weights.items()}
    panel = Panel(list(sources), sources)
    counts = tally_evidence(records, panel, budgets, counter, 0, study, name)
    figures = evidence_figures(counts, seed)
    return {
        "questions": figures["records"],
        "gold_sentences": figures["gold_sentences"],
        "mean_tokens_in": figures["mean_tokens_in"],
        "ways": {
            way: {
                "median_ms": of["median_ms"],
                "mean_tokens_read": sum(sources[way].tokens_read) / len(records),
                "budgets": {
                    budget: _gain_over_reference(cell) for budget, cell in of["budgets"].items()
                },
            }
            for way, of in figures["methods"].items()
        },
    }


def _parse_files(
    train: Sequence[str], judge: Sequence[str]
) -> tuple[list[RecordFile], list[RecordFile]]:
    """The files to fit on, and those to evaluate on.

    Raises:
        BadInput: a file or a name is given twice.
    """
    fit_on, judge_by = (
        [shared.parse_record_file(name) for name in train],
        [shared.parse_record_file(name) for name in judge],
    )
    _check_unique([str(source.path.resolve()) for source in (*fit_on, *judge_by)])
    for sources in (fit_on, judge_by):
        _check_unique([source.name for source in sources])
    return fit_on, judge_by


def _check_unique(names: Sequence[str]) -> None:
    if repeated := [name for name in names if names.count(name) > 1]:
        raise BadInput(
            f"{repeated[0]} is given {names.count(repeated[0])} times; figures are by name, and "
            "what weights were fitted on says nothing about them: give each file once"
        )


class WaySource:
    """The score source of one way with its weights.

    Attributes:
        tokens_read: one number for each question scored.
    """

    def __init__(self, ways: WayReader, way: str, weights: WayWeights) -> None:
        self.ways, self.way, self.weights = ways, way, weights
        self.tokens_read: list[int] = []

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """Scores of every unit, and the milliseconds of reading and scoring."""
        case = question, passages, units
        reading = self.ways.read(self.way, case)
        self.tokens_read.append(reading.tokens_read)
        clock = time.perf_counter()
        values = tuple(self.weights.scores(reading, case).tolist())
        scoring_ms = (time.perf_counter() - clock) * 1e3
        passage_scores = best_unit_scores(values, units, len(passages))
        ms = sum(reading.timings_ms.values()) + scoring_ms
        return TimedScores(Scores(values, passage_scores), ms)


def compare_ways(
    ways: WayReader,
    names: Sequence[str],
    train: Sequence[RecordFile],
    judge: Sequence[RecordFile],
    budgets: Sequence[float],
    counter: TextTokenizer,
    study: Study,
    seed: int = 0,
) -> dict[str, Any]:
    """Fits every way on the training files and judges it by the other files.

    Where `whole` is among the ways, contexts that do not fit into one prompt are left out for all.

    Args:
        names: of ways, as `order_ways` returns them.
        budgets: up to 1 a share of the tokens, above 1 whole tokens.

    Raises:
        BadInput: nothing can be fitted or judged.
    """
    train_records = {file: answerable_records(file) for file in train}
    judge_records = {file: load_gold_records(file.path, file.limit, seed)[0] for file in judge}
    fit_on, judged = (
        readable_records(ways, records, "whole" in names)
        for records in (train_records, judge_records)
    )
    weights = fit_ways(ways, names, [row for rows in fit_on.values() for row in rows], study)
    sets = {}
    for file, rows in judged.items():
        name = f"judge, {file.name}"
        figures = way_figures(ways, weights, rows, budgets, counter, study, name, seed)
        sets[file.name] = {**figures, **_count_too_long(judge_records, judged, file)}
        sets[file.name]["sha256"] = file_sha256(file.path)
    fit_files = [
        describe_file(file, len(rows)) | _count_too_long(train_records, fit_on, file)
        for file, rows in fit_on.items()
    ]
    return {"train": fit_files, "sets": sets}


def _count_too_long(
    records: Mapping[RecordFile, Sequence[Record]],
    readable: Mapping[RecordFile, Sequence[Record]],
    file: RecordFile,
) -> dict[str, int]:
    return {"too_long": len(records[file]) - len(readable[file])}


def readable_records(
    ways: WayReader, files: Mapping[RecordFile, list[Record]], at_once: bool
) -> dict[RecordFile, list[Record]]:
    """The records that all ways can read.

    Args:
        at_once: whether `whole`, which reads all passages in one prompt, is among the ways.

    Raises:
        BadInput: no record of a file is left.
    """
    if not at_once:
        return dict(files)
    readable = {file: list(filter(ways.fits_one_prompt, rows)) for file, rows in files.items()}
    for file, rows in readable.items():
        if not rows:
            raise BadInput(
                f"none of the {len(files[file])} contexts of {file.path} fits into one prompt "
                f"of {ways.whole.window_tokens} tokens; leave out the way 'whole'"
            )
    return readable


def fit_ways(
    ways: WayReader, names: Sequence[str], train: Sequence[Record], study: Study
) -> dict[str, WayWeights]:
    """Fits the weights of every way on the same questions.

    Raises:
        BadInput: the questions are on one article, or no unit of any is gold.
    """
    weights: dict[str, WayWeights] = {}
    for way in names:
        cases = []
        for done, record in enumerate(train, 1):
            cases += training_case(ways, way, record)
            study.report(f"train, {way}", done, len(train))
        if len({case.fold for case in cases}) < 2:
            raise BadInput(
                f"{len(cases)} training questions are on too few articles: some have to be scored "
                "by weights that never saw theirs; give more questions"
            )
        _, *steps = fit_ordering(cases)
        weights[way] = WayWeights(*steps)
        if way == REFERENCE_WAY:
            ways.first_pass = weights[way]
    return weights


def training_case(ways: WayReader, way: str, record: Record) -> list[LabelledReading]:
    """One way's reading of a training question; none if all of its units are gold, or none is."""
    units = annotated_units(record)
    gold = torch.tensor(gold_labels(record, units))
    if not gold.any() or gold.all():
        return []
    reading = ways.read(way, (record["question"], passages_of(record), units), fold_of(record))
    return [label_reading(way, way, record, units, reading, gold)]


def _gain_over_reference(cell: Mapping[str, Any]) -> dict[str, Any]:
    """The cell with the lead of the reference turned into the way's gain over the reference."""
    gain = dict(cell)
    for ahead, over in (("reference_gold_ahead", "gold"), ("reference_all_ahead", "all_gold")):
        if (lead := gain.pop(ahead, None)) is not None:
            ends = {"low": 0 - lead["high"], "high": 0 - lead["low"]}  # 0 - 0.0 is 0.0, not -0.0
            gain[f"{over}_over_{REFERENCE_WAY}"] = {"difference": 0 - lead["difference"], **ends}
    return gain


REFERENCE_WAY = "alone"
SURVIVOR_COUNTS = {"again1": 1, "again2": 2}
WAYS = (REFERENCE_WAY, *SURVIVOR_COUNTS, "packs", "whole", "shared", "shares")
NO_FOLD = -1
"""The fold of a question that is not for training: weights of all training questions score it."""
CaseInput = tuple[str, Sequence[Passage], Sequence[Unit]]
"""Question, passages, units."""


def order_ways(names: Sequence[str]) -> list[str]:
    """Ways in the order in which they must be fitted, the reference included.

    Raises:
        BadInput: a way is unknown.
    """
    if unknown := [name for name in names if name not in WAYS]:
        raise BadInput(f"there is no way {unknown[0]!r} to read; there are: {', '.join(WAYS)}")
    return [way for way in WAYS if way in names or way == REFERENCE_WAY]


@dataclass(frozen=True, slots=True)
class WayWeights:
    """The weights of both steps of a probe, cross-fitted over folds of articles."""

    first: CrossFitWeights
    hop: CrossFitWeights

    def scores(self, reading: Reading, case: CaseInput, fold: int = NO_FOLD) -> Tensor:
        """The second step's scores `[U]`, by weights fitted without the questions of the fold."""
        lexicon = Lexicon(*case)
        z = self.first.scores(first_features(reading, case[0], lexicon), fold)
        second = torch.from_numpy(hop_features(lexicon, z.double().numpy()))
        return self.hop.scores(second, fold)


class WayReader:
    """Reads a case in any of the ways; readings are kept on disk.

    Attributes:
        first_pass: weights of `alone`, which choose the survivors of a first reading.
    """

    def __init__(self, reader: CachedReader, layers: int, folder: Path) -> None:
        self.reader, self.alone = reader, PassagesAlone(reader, layers, folder)
        proxy = reader.proxy
        self.packs, self.whole = (
            PassagePacks(proxy, layers),
            PassagePacks(proxy, layers, proxy.context_tokens),
        )
        self._packs, self._whole = (
            CaseReadings(folder, store_key(method, "hops")) for method in (self.packs, self.whole)
        )
        self.first_pass: WayWeights | None = None

    def read(self, way: str, case: CaseInput, fold: int = NO_FOLD) -> Reading:
        """One way's reading of a case, features `[U, F]`; F depends on the way.

        `again1` and `again2` need `first_pass`; `fold` is that of a training question, whose
        survivors are chosen by weights fitted without its fold.
        """
        if way == "packs":
            return self._packs.get_or_read(*case, self.packs.read)
        if way == "whole":
            return self._whole.get_or_read(*case, self.whole.read)
        first = self.alone.read(*case)
        if way in SURVIVOR_COUNTS:
            return self._read_again(first, case, SURVIVOR_COUNTS[way], fold)
        if way == REFERENCE_WAY:
            return first
        logs = log_shares(first)
        return append_features(first, logs if way == "shared" else logs.exp())

    def _read_again(self, first: Reading, case: CaseInput, count: int, fold: int) -> Reading:
        """A second reading, with the best units of the first one appended to the question."""
        assert self.first_pass is not None
        clock = time.perf_counter()
        best = self.first_pass.scores(first, case, fold).argsort(descending=True, stable=True)
        longer = extend_question(case, best[:count].tolist())
        choosing_ms = (time.perf_counter() - clock) * 1e3
        return join_readings(first, self.alone.read_again(longer, *case[1:]), choosing_ms)

    def fits_one_prompt(self, record: Record) -> bool:
        """Whether all passages of a record fit into one prompt."""
        layout, max_tokens = self.reader.layout, self.whole.window_tokens
        room = document_tokens_left(
            self.reader, layout.question_tokens(record["question"]), max_tokens
        )
        return count_joined_tokens(layout, passages_of(record)) <= room


def extend_question(case: CaseInput, survivors: Sequence[int]) -> str:
    """The question followed by the text of some units, which are given by index."""
    question, passages, units = case
    texts = (passages[units[u].passage].text[slice(*units[u].visible)] for u in survivors)
    return " ".join((question, *texts))


_SEPARATOR = "\n\n"


class PassagesAlone:
    """The reading of the default method, and a second one over passages that the first cached.

    Nothing is cached from one question to the next: a first reading always runs all tokens, a
    second one only those of its question, in a resumed run, too.
    """

    def __init__(self, reader: CachedReader, layers: int, folder: Path) -> None:
        self.reader = reader
        self.method = QuestionRows.for_fit(reader, layers)
        self._first, self._second = (
            CaseReadings(folder, store_key(self.method, f"hops {number}")) for number in (1, 2)
        )

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Features of the question's rows: `[U, 2·L·H]`."""
        return self._first.get_or_read(question, passages, units, self._read_cold)

    def read_again(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading:
        """The same for another question over passages already cached: `[U, 2·L·H]`."""
        return self._second.get_or_read(question, passages, units, self._read_warm)

    def _read_cold(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading:
        self.reader.cache.clear()
        return self.method.read(question, passages, units)

    def _read_warm(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading:
        self._cache_windows(passages, units)
        return self.method.read(question, passages, units)

    def _cache_windows(self, passages: Sequence[Passage], units: Sequence[Unit]) -> None:
        """Caches all windows, unless the first reading was made in this run and has done so."""
        layout, cache = self.reader.layout, self.reader.cache
        cut = split_windows(layout, passages, units, self.method.window_tokens)
        prompts = [Prompt(window.tokens, layout.question_tokens("")) for window in cut]
        keys = [self.reader.key(prompt) for prompt in prompts]
        if all(map(cache.holds, keys)):
            return
        cache.clear()
        want = Want(tuple(range(self.method.layers)))
        for key, kept in zip(keys, self.reader.proxy.compute_kv(prompts, want), strict=True):
            cache.put(key, kept, {})


class PassagePacks:
    """Neighbouring passages in one prompt, a blank line between them."""

    def __init__(self, reader: Reader, layers: int, window_tokens: int = WINDOW_TOKENS) -> None:
        """`window_tokens` is the largest number of tokens in a prompt, without the question."""
        self.reader, self.layers, self.window_tokens = reader, layers, window_tokens

    @property
    def reading_key(self) -> str:
        """What a reading depends on: the size of prompts, and the number of layers."""
        return f"{self.window_tokens} {self.layers}"

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Reading:
        """Features of the question's rows: `[U, 2·L·H]`."""
        clock = time.perf_counter()
        layout = self.reader.layout
        ask = layout.question_tokens(question)
        room = document_tokens_left(self.reader, ask, self.window_tokens)
        reads = list(pack_windows(layout, split_windows(layout, passages, units, room), room))
        prompts = [Prompt(read, ask) for read in reads]
        tokenised = time.perf_counter()
        want = Want(tuple(range(self.layers)), ("question_mean",))
        signals = zip(reads, self.reader.read(prompts, want), strict=True)
        features = torch.cat(
            [pool_question_rows(signal, read.unit_spans) for read, signal in signals]
        ).cpu()
        timings_ms = {
            "tokenize": (tokenised - clock) * 1e3,
            "read": (time.perf_counter() - tokenised) * 1e3,
        }
        sizes = tuple(b - a for read in reads for a, b in read.unit_spans)
        return Reading(features, sizes, len(prompts), sum(map(len, prompts)), timings_ms)


def pack_windows(layout: Layout, cut: Sequence[Window], max_tokens: int) -> Iterator[PassageTokens]:
    """Joins as many consecutive windows as fit into one text; titles belong to no unit."""
    between = tuple(layout.tokenizer.encode(_SEPARATOR).ids)
    wide = len(between)
    for pack in token_batches(cut, max_tokens + wide, lambda window: len(window.tokens.ids) + wide):
        ids: list[int] = []
        spans: list[tuple[int, int]] = []
        for window in pack:
            ids += between if ids else ()
            start = len(ids) + window.tokens.title_tokens
            spans += [(start + a, start + b) for a, b in window.tokens.unit_spans]
            ids += window.tokens.ids
        yield PassageTokens(tuple(ids), 0, tuple(spans))


def count_joined_tokens(layout: Layout, passages: Sequence[Passage]) -> int:
    """How many tokens all passages have in one prompt, with titles and blank lines."""
    titles = [f"{passage.title}\n" for passage in passages if passage.title]
    texts = [*titles, *(passage.text for passage in passages)]
    texts += [_SEPARATOR] * (len(passages) - 1)
    return sum(len(encoded.ids) for encoded in layout.tokenizer.encode_many(texts))


def log_shares(reading: Reading) -> Tensor:
    """The log of each unit's share of a head's mass over all units of the question: `[U, L·H]`.

    The first half of a reading's features is the log of the mean a token.
    """
    mean = reading.features[:, : reading.features.shape[1] // 2]
    mass = mean + torch.tensor(reading.tokens).clamp_min(1).log()[:, None]
    return mass.log_softmax(0)


def append_features(reading: Reading, more: Tensor) -> Reading:
    """The same reading with more features, at no cost in tokens."""
    return replace(reading, features=torch.cat([reading.features, more], 1))


def join_readings(first: Reading, second: Reading, between_ms: float) -> Reading:
    """Joins two readings: features concatenated, costs summed.

    `between_ms` is the time between the two readings.
    """
    return Reading(
        torch.cat([first.features, second.features], 1),
        first.tokens,
        first.windows + second.windows,
        first.tokens_read + second.tokens_read,
        {
            "first": sum(first.timings_ms.values()),
            "between": between_ms,
            "second": sum(second.timings_ms.values()),
        },
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Runs torch on one thread, so that times of ways that batch differently are comparable."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
