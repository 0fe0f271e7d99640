"""`tamis lab bench selectors`: how many keys a search reads to find what a question attends to.

`tamis lab bench selectors`: from input files to rows of figures.

The text whose keys selectors search, and the questions they search for.

The data that selectors are compared on: keys of a real text, query states of real questions.

The text is read in windows, each alone after the template's opening, so that keys have the same
positions in every window. Questions have positions after a whole window, but attend to none
(`probes.model.query_states`). States are captured once and written to disk in shards of several
windows, so that an interrupted run is resumed, and a longer text continues a shorter one.

How far attention over the keys that were found is from attention over all keys.

Measures how many keys each selector has to read to find those that a query attends to.
"""

from __future__ import annotations

import hashlib
import io
import re
import statistics
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.text import Text
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.probes.hub.cache_dir import cache_home
from tamis.probes.hub.zoo import load_proxy
from tamis.probes.model.proxy import Proxy
from tamis.probes.model.query_states import question_states
from tamis.probes.prompt import PassageTokens, Prompt, QuestionTokens
from tamis.probes.signal import Want
from tamis.service.cli.display.output import report_errors
from tamis.service.files.command_inputs import InputOptions, gather_inputs
from tamis.service.files.streams import read_json_lines
from tamis.text.units.segment import segment
from tamis_lab.bench.study import Study, environment_facts, table, timed
from tamis_lab.datasets.records import load_records, read_text, take_evenly
from tamis_lab.datasets.statistics import rank_correlations
from tamis_lab.methods.kv_search import registry as selector_registry
from tamis_lab.methods.kv_search.exact import ExactIndex
from tamis_lab.methods.kv_search.shared_selector import Setting, SharedSelector
from tamis_lab.methods.kv_search.types import KeyHits
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

EPILOG = """
**What is measured**

The proxy reads the text in windows; keys of a few of its heads that look back are indexed,
separators left out. Questions that no index has seen are asked, and every selector is given just
the effort that finds 95 % of the 100 keys with the largest logits. The table says how many keys
that took, how long, and how far attention over what was read is from attention over all keys; a
second table compares selectors that may read the same share of keys.

**Examples**

`tamis lab bench selectors` searches the example pages, or ../shared/data where it is

`tamis lab bench selectors --tokens 32000,128000 --json > selectors.json`

`tamis lab bench selectors --text docs/ --train asked.txt --test new.txt --plot recall.png`

`tamis lab bench selectors --selectors attention_graph,hnsw --heads 14.3,18.6`
"""
HEADS = "14.3,15.6,17.3,18.6"
"""Of the default proxy: the best single retrieval heads by gold sentences found."""
SHARED_DATA = Path("../shared/data")
EXAMPLES = Path("examples")


Paths = list[Path] | None


@report_errors()
def selectors(
    tokens: Annotated[
        str, typer.Option(help="Lengths of text, with commas, in tokens of the proxy.")
    ] = "32000",
    names: Annotated[
        str | None,
        typer.Option("--selectors", help="Names, with commas. Default: all.", show_default=False),
    ] = None,
    text: Annotated[
        Paths,
        typer.Option(
            help="Files, folders or labelled .jsonl records to index; repeatable.",
            show_default=False,
        ),
    ] = None,
    train: Annotated[
        Paths,
        typer.Option(
            help="Questions that an index may learn from, one per line or .jsonl; repeatable.",
            show_default=False,
        ),
    ] = None,
    test: Annotated[
        Paths, typer.Option(help="Other questions, to search for.", show_default=False)
    ] = None,
    heads: Annotated[str, typer.Option(help="Layer and query head, with commas.")] = HEADS,
    recall: Annotated[float, typer.Option(help="What every selector has to reach.")] = 0.95,
    queries: Annotated[int, typer.Option(min=1, help="Test queries a head.")] = 400,
    window: Annotated[int, typer.Option(min=1, help="Tokens the proxy reads at once.")] = 2048,
    as_json: shared.Json = False,
    plot: shared.Plot = None,
    proxy: shared.ProxyName = DEFAULT_PROXY,
    cache: Annotated[
        Path | None, typer.Option(help="Where keys are kept. Default: the user's cache.")
    ] = None,
) -> None:
    """Compare ways to find the keys that a question attends to."""
    chosen = shared.parse_list(names, "selectors") if names else selector_registry.SELECTORS.names()
    for name in chosen:
        selector_registry.SELECTORS.check(name)
    read, lengths = (
        parse_heads(shared.parse_list(heads, "heads")),
        tuple(shared.parse_sizes(tokens)),
    )
    settings = SelectorSettings(lengths, tuple(chosen), read, window, queries, recall)
    material = _find_material(text, train, test)
    study = Study(as_json, plot)
    model = load_proxy(proxy, layers=1 + max(layer for layer, _ in read))
    folder = cache or cache_home() / "keys"
    with study.bars():
        report = SelectorRun(model, material, settings, folder).report(study.advance)
    for note in report["notes"]:
        typer.echo(f"tamis: {note}", err=True)
    study.publish({"proxy": proxy} | report, lambda: _tables(report), lambda: _charts(report))


_COLUMNS = {
    "tokens": ",",
    "recall_at_100": ".3f",
    "attention_mass": ".3f",
    "mass_read": ".3f",
    "output_error": ".3f",
    "error_read": ".3f",
    "unit_rho": ".2f",
    "share_of_keys_read": ".2%",
    "ms": ".2f",
    "times_faster_than_exact": ".1f",
    "build_s": ".1f",
}


def _tables(report: Mapping[str, Any]) -> Iterator[Any]:
    """Every selector at the recall asked for, then their errors at fixed shares of keys read."""
    heads = ("recall@100", "mass", "mass read", "error", "error read", "unit ρ", "keys read", "ms")
    yield table(
        "",
        ("selector", "tokens", *heads, "× exact", "build s"),
        (
            [
                Text(row["selector"], "" if row["reached"] else "dim"),
                *("" if row[n] is None else format(row[n], form) for n, form in _COLUMNS.items()),
            ]
            for row in report["rows"]
        ),
    )
    yield table(
        "output error (recall@100) by keys read at most",
        ("selector", "tokens", *(f"{budget:.0%}" for budget in BUDGETS)),
        (
            [
                row["selector"],
                f"{row['tokens']:,}",
                *(
                    f"{at['output_error']:.3f} ({at['recall_at_100']:.2f})" if at else "-"
                    for at in row["budgets"]
                ),
            ]
            for row in report["rows"]
        ),
    )
    yield (
        f"Means over heads {', '.join(report['heads'])}; {report['test_queries']} queries each, "
        f"effort just enough for a recall of {report['recall']:g} (dim: not reached). "
        f"ms: a query, in batches of 16, {environment_facts()['threads']} threads. × exact: times "
        "faster. mass: attention over all keys that the 100 found hold; mass read: what all keys "
        "of the blocks read hold. error: of the attention output over the 100, relative to its "
        "length; error read: over what mass read counts. unit ρ: rank correlation of the "
        "sentences by attention over the same, in the passage that a question attends to most."
    )


def _charts(report: Mapping[str, Any]) -> list[Chart]:
    """A chart a length: recall against keys read, a line a selector, by the first head."""
    rows = report["rows"]
    found = []
    for tokens in sorted({row["tokens"] for row in rows}):
        lines = {}
        for row in (row for row in rows if row["tokens"] == tokens):
            curve = row["heads"][0]["curve"]
            shares = [100 * point["share_of_keys_read"] for point in curve]
            lines[row["selector"]] = (shares, [point["recall_at_100"] for point in curve])
        title = f"{tokens:,} tokens, head {report['heads'][0]}"
        found.append(Chart(title, lines, "keys read (%)", "recall@100", logs="x"))
    return found


StepListener = Callable[[str, int, int], object]
"""Called with the name of a stage, how much of it has just been done, and its total."""


def _find_material(text: Paths, train: Paths, test: Paths) -> SelectorInputs:
    """The files that were named, else labelled records beside the repository, else its examples.

    Raises:
        BadInput: only some of the three were named, or there is nothing to read.
    """

    given = [bool(text), bool(train), bool(test)]
    if all(given):
        return SelectorInputs(tuple(text or ()), tuple(train or ()), tuple(test or ()))
    if any(given):
        raise BadInput("--text, --train and --test belong together: questions must fit the text")
    if (dev := SHARED_DATA / "dev").is_dir():
        sets = ("hotpotqa", "2wikimultihopqa", "nq_oracle", "squad2")
        return SelectorInputs(
            tuple(dev / f"{name}.jsonl.gz" for name in ("hotpotqa", "covid_qa", "2wikimultihopqa")),
            tuple(SHARED_DATA / "train" / f"{name}.jsonl.gz" for name in sets),
            (dev / "hotpotqa.jsonl.gz",),
        )
    if EXAMPLES.is_dir():
        own = Path(__file__).parent / "questions"
        pages = (EXAMPLES / "fastapi-docs", EXAMPLES / "postgresql-docs")
        return SelectorInputs(pages, (own / "train.txt",), (own / "test.txt",))
    raise BadInput("there is no examples/ here; name --text, --train and --test")


MAX_QUESTIONS = {"training": 600, "test": 150}
"""At most so many are used, at even distances; each gives about 20 query states."""


@dataclass(frozen=True, slots=True)
class SelectorSettings:
    """What is measured.

    Attributes:
        tokens: lengths of text, in tokens of the proxy. selectors: by name.
        heads: layer and query head of each. window: tokens that the proxy reads at once.
        queries: how many test queries a head, at even distances.
        recall: that every selector has to reach.
    """

    tokens: tuple[int, ...]
    selectors: tuple[str, ...]
    heads: tuple[Head, ...]
    window: int = 2048
    queries: int = 400
    recall: float = 0.95

    def __post_init__(self) -> None:
        if not 0 < self.recall <= 1:
            raise BadInput(f"recall is {self.recall}; give a share above 0, up to 1")
        if low := [n for n in (*self.tokens, self.window, self.queries) if n < 1]:
            raise BadInput(f"tokens, window and queries are positive; got {low}")


@dataclass(frozen=True, slots=True)
class CapturedStates:
    """Keys and query states by head.

    Attributes:
        content: which tokens of the text have a letter or a digit: `[N]` bool.
        passages, units: the passage and the unit of each token, `[N]`.
        questions: the question of each test row.
    """

    kv: dict[Head, tuple[Tensor, Tensor]]
    train: dict[Head, Tensor]
    test: dict[Head, Tensor]
    content: Tensor
    passages: Tensor
    units: Tensor
    questions: Tensor


class SelectorRun:
    """Captures the states of a proxy once, then measures every selector at every length of text."""

    def __init__(
        self, proxy: Proxy, inputs: SelectorInputs, settings: SelectorSettings, cache: Path
    ) -> None:
        self.proxy, self.inputs, self.settings = proxy, inputs, settings
        self.capture = StateCapture(proxy, settings.heads, settings.window, cache)
        self.notes: list[str] = []
        if odd := [f"{layer}.{head}" for layer, head in settings.heads if head >= proxy.card.heads]:
            raise BadInput(
                f"there is no head {', '.join(odd)}: the heads of a layer of {proxy.card.name} "
                f"are 0 to {proxy.card.heads - 1}"
            )

    def report(self, on_step: StepListener) -> dict[str, Any]:
        """Rows of figures, and everything that they depend on."""
        captured = self.capture_states(on_step)
        lengths = self._text_lengths(len(captured.content))
        rows = [row for tokens in lengths for row in self._rows(captured, tokens, on_step)]
        return {
            "rows": rows,
            "recall": self.settings.recall,
            "heads": [f"{layer}.{head}" for layer, head in self.settings.heads],
            "window": self.settings.window,
            "train_queries": len(next(iter(captured.train.values()))),
            "test_queries": min(self.settings.queries, len(captured.questions)),
            "text": [str(path) for path in self.inputs.text],
            "notes": self.notes,
        }

    def capture_states(self, on_step: StepListener) -> CapturedStates:
        """Keys of as much text as the longest length needs, and query states of all questions."""
        text, layout = load_text(self.inputs.text), self.proxy.layout
        encoded = layout.tokenizer.encode(text)
        ids = encoded.ids[: max(self.settings.tokens)]
        train, _ = self._question_states("training", self.inputs.train, on_step)
        test, questions = self._question_states("test", self.inputs.test, on_step)
        kv = self.capture.read_kv(ids, lambda n: on_step("tokens of text", n, len(ids)))
        offsets = encoded.offsets[: len(ids)]
        content = content_mask([text[a:b] for a, b in offsets])
        breaks = [at.end() for at in re.finditer(DOCUMENT_SEPARATOR, text)]
        passages = torch.tensor([bisect_right(breaks, start) for start, _ in offsets])
        starts = [piece.start for piece in segment(text[: offsets[-1][1]])]
        units = torch.tensor([bisect_right(starts, start) for start, _ in offsets])
        return CapturedStates(kv, train, test, content, passages, units, questions)

    def _question_states(
        self, kind: str, paths: Sequence[Path], on_step: StepListener
    ) -> tuple[dict[Head, Tensor], Tensor]:
        questions = take_evenly(load_questions(paths), MAX_QUESTIONS[kind])
        asks = [self.proxy.layout.question_tokens(question) for question in questions]
        counts = torch.tensor([ask.rows for ask in asks])
        states = self.capture.read_queries(
            asks, lambda n: on_step(f"{kind} questions", n, len(asks))
        )
        return states, torch.arange(len(asks)).repeat_interleave(counts)

    def _text_lengths(self, available: int) -> list[int]:
        """The requested lengths, none longer than the text; a note for each that is."""
        for tokens in self.settings.tokens:
            if tokens > available:
                self.notes.append(
                    f"the text has {available:,} tokens and {tokens:,} were asked for; "
                    "give more with --text, --train and --test"
                )
        return sorted({min(tokens, available) for tokens in self.settings.tokens})

    def _rows(
        self, captured: CapturedStates, tokens: int, on_step: StepListener
    ) -> Iterator[dict[str, Any]]:
        cases = sorted(self._cases(captured, tokens), key=lambda case: case.head)
        content = captured.content[:tokens]
        owners = captured.passages[:tokens][content]
        units = UnitSpans.from_numbers(captured.units[:tokens][content], owners)
        references = [exact_reference(case, units) for case in cases]
        passages = passage_spans(owners)
        for name in self.settings.selectors:
            # selectors that share a choice search all heads at once, the others each for itself
            shares = bool(selector_registry.SELECTORS.load(name).info.needs)
            size, heads = len(cases) if shares else 1, []
            for start in range(0, len(cases), size):
                part = slice(start, start + size)
                group = HeadGroup(name, cases[part], references[part], passages)
                heads += measure_group(group, self.settings.recall)
                on_step(f"{name} at {tokens:,} tokens", size, len(cases))
            yield selector_row(name, tokens, self.settings.recall, heads)

    def _cases(self, captured: CapturedStates, tokens: int) -> Iterator[SelectorCase]:
        content = captured.content[:tokens]
        if not content.any():
            raise BadInput(
                f"none of the first {tokens:,} tokens of the text has a letter or a digit; "
                "give more text, or another"
            )
        rows = whole_questions(captured.questions, self.settings.queries)
        for layer, head in self.settings.heads:
            kv = captured.kv[layer, self.capture.key_head(head)]
            keys, values = (part[:tokens][content].float() for part in kv)
            yield SelectorCase(
                (layer, head),
                keys,
                captured.train[layer, head],
                captured.test[layer, head][rows],
                values,
                captured.questions[rows],
            )


def passage_spans(passages: Tensor) -> Tensor:
    """The half-open span of keys of each passage, `[P, 2]`, from the passage of each key."""
    ends = torch.unique_consecutive(passages, return_counts=True)[1].cumsum(0)
    return torch.stack((torch.cat((ends.new_zeros(1), ends[:-1])), ends), 1)


def whole_questions(questions: Tensor, max_rows: int) -> Tensor:
    """At most so many rows, of whole questions at even distances; the last one may be cut."""
    names = torch.unique_consecutive(questions)
    number = max(1, -(-max_rows * len(names) // len(questions)))
    chosen = take_evenly(names.tolist(), number)
    return torch.isin(questions, torch.tensor(chosen)).nonzero()[:max_rows, 0]


def parse_heads(names: Sequence[str]) -> tuple[Head, ...]:
    """Heads from names such as `14.3`, which is query head 3 of layer 14.

    Raises:
        BadInput: a name has another form, or a head is given twice.
    """
    heads = []
    for name in names:
        layer, dot, head = name.partition(".")
        if not (dot and layer.isdecimal() and head.isdecimal()):
            raise BadInput(f"{name!r} is no head; write layer and head with a dot, such as 14.3")
        heads.append((int(layer), int(head)))
    if len(set(heads)) < len(heads):
        raise BadInput(f"a head is given twice in {', '.join(names)}")
    return tuple(heads)


DOCUMENT_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class SelectorInputs:
    """Paths of the text to index, of questions an index may learn from, and of test questions."""

    text: tuple[Path, ...]
    train: tuple[Path, ...]
    test: tuple[Path, ...]


def load_text(paths: Sequence[Path]) -> str:
    """The text of all documents in order, each once.

    Args:
        paths: labelled records (.jsonl, .jsonl.gz), text files (.gz or not) and folders of them.

    Raises:
        BadInput: a path cannot be read, or there is no text.
    """
    documents = dict.fromkeys(text for path in paths for text in _read_documents(path))
    text = DOCUMENT_SEPARATOR.join(documents)
    if not text.strip():
        raise BadInput(f"there is no text in {', '.join(map(str, paths)) or 'no paths'}")
    return text


def load_questions(paths: Sequence[Path]) -> list[str]:
    """All questions, each once: of labelled records, or the lines of a text file.

    Raises:
        BadInput: a path cannot be read, or there is no question.
    """
    questions = dict.fromkeys(q for path in paths for q in _read_questions(path) if q.strip())
    if not questions:
        raise BadInput(f"there are no questions in {', '.join(map(str, paths)) or 'no paths'}")
    return list(questions)


def _read_documents(path: Path) -> Iterator[str]:
    if _is_records(path):
        for record in load_records(path):
            for doc in record["docs"]:
                yield f"{doc['title']}\n{doc['text']}" if doc.get("title") else doc["text"]
    elif path.suffix == ".gz":
        yield read_text(path)
    else:
        found = gather_inputs([str(path)], io.BytesIO(), InputOptions())
        yield from (passage.text for passage in found.passages)


def _read_questions(path: Path) -> Iterator[str]:
    if _is_records(path):
        for number, record in read_json_lines(path):
            if not isinstance(record.get("question"), str):
                raise BadInput(f"{path}, line {number}: a record without a 'question'")
            yield record["question"]
        return
    yield from read_text(path).splitlines()


def _is_records(path: Path) -> bool:
    return path.name.removesuffix(".gz").endswith(".jsonl")


SHARD_WINDOWS = 8
SHARD_QUESTIONS = 64
Head = tuple[int, int]
"""Layer and query head."""


@dataclass(frozen=True, slots=True)
class SelectorCase:
    """One query head: the keys it attends to, and query states.

    Attributes:
        head: layer and query head.
        keys: `[N, d]`, rotated, of tokens with a letter or a digit; separators are left out.
        train: `[T, d]` query states that an index may learn from.
        test: `[Q, d]` query states of other questions. Both are scaled: q · k is the logit.
        values: `[N, d]` of the same tokens. questions: `[Q]`, the question of each test row.
    """

    head: Head
    keys: Tensor
    train: Tensor
    test: Tensor
    values: Tensor
    questions: Tensor


@dataclass(frozen=True, slots=True)
class StateCapture:
    """Captures keys and query states of some heads, or loads those that an earlier run captured.

    Attributes:
        proxy: with all layers of `heads`. window: tokens in a window. folder: of the shards.
    """

    proxy: Proxy
    heads: tuple[Head, ...]
    window: int
    folder: Path

    @property
    def layers(self) -> tuple[int, ...]:
        """Layers of the heads, ascending."""
        return tuple(sorted({layer for layer, _ in self.heads}))

    def key_head(self, head: int) -> int:
        """The key head that a query head reads (grouped-query attention)."""
        config = self.proxy.body.config
        return head * int(config.num_key_value_heads) // int(config.num_attention_heads)

    def read_kv(
        self, ids: Sequence[int], on_step: Callable[[int], object]
    ) -> dict[Head, tuple[Tensor, Tensor]]:
        """Keys and values of every token, `[N, d]` each, for each (layer, key head).

        Args:
            on_step: called after each shard with its number of tokens.
        """
        size, heads = self.window * SHARD_WINDOWS, self._key_heads()
        shards = []
        for start in range(0, len(ids), size):
            part = list(ids[start : start + size])
            capture = partial(self._capture_kv, part)
            shards.append(self._load_or_capture("kv", part, heads, capture))
            on_step(len(part))
        return {head: (kv[0], kv[1]) for head, kv in _join_shards(shards, dim=1).items()}

    def read_queries(
        self, asks: Sequence[QuestionTokens], on_step: Callable[[int], object]
    ) -> dict[Head, Tensor]:
        """Query states of every row of every question, `[rows, d]` for each (layer, query head).

        Args:
            on_step: called after each shard with its number of questions.
        """
        shards = []
        for start in range(0, len(asks), SHARD_QUESTIONS):
            part = list(asks[start : start + SHARD_QUESTIONS])
            ids = [token for ask in part for token in (-ask.first_row, *ask.ids)]
            capture = partial(self._capture_queries, part)
            shards.append(self._load_or_capture("queries", ids, self.heads, capture))
            on_step(len(part))
        return _join_shards(shards)

    def _capture_kv(self, ids: Sequence[int]) -> dict[str, Tensor]:
        starts, question = range(0, len(ids), self.window), QuestionTokens((), 0)
        texts = (tuple(ids[start : start + self.window]) for start in starts)
        prompts = [Prompt(PassageTokens(text, 0, ()), question) for text in texts]
        heads = self._key_heads()
        opening = len(self.proxy.layout.opening)
        parts: dict[str, list[Tensor]] = {}
        for window in self.proxy.compute_kv(prompts, Want(self.layers)):
            for layer, head in heads:
                kv = torch.stack((window[layer].keys[head], window[layer].values[head]))
                parts.setdefault(f"{layer}.{head}", []).append(kv[:, opening:].cpu())
        return {name: torch.cat(part, 1) for name, part in parts.items()}

    def _capture_queries(self, asks: Sequence[QuestionTokens]) -> dict[str, Tensor]:
        states = list(question_states(self.proxy, asks, self.layers, self.window))
        return {
            f"{layer}.{head}": torch.cat([s[self.layers.index(layer), head] for s in states])
            for layer, head in self.heads
        }

    def _key_heads(self) -> tuple[Head, ...]:
        return tuple(sorted({(layer, self.key_head(head)) for layer, head in self.heads}))

    def _load_or_capture(
        self,
        kind: str,
        ids: Sequence[int],
        heads: Sequence[Head],
        capture: Callable[[], dict[str, Tensor]],
    ) -> dict[str, Tensor]:
        """A shard from disk if it has these heads; otherwise they are captured and added to it."""
        path = self.folder / f"{kind}-{self._shard_name(ids)}.safetensors"
        names = {f"{layer}.{head}" for layer, head in heads}
        shard = _load_shard(path)
        if not names <= set(shard):
            shard |= {name: tensor.contiguous() for name, tensor in capture().items()}
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as temporary:
                save_file(shard, temporary)
        return {name: shard[name] for name in sorted(names)}

    def _shard_name(self, ids: Sequence[int]) -> str:
        """A digest of everything that the states depend on, beside the head."""
        card, template = self.proxy.card, self.proxy.layout.template
        facts = (card.revision, template, self.proxy.arithmetic, self.window, tuple(ids))
        return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def _load_shard(path: Path) -> dict[str, Tensor]:
    """The tensors of a shard by head; none if the file is missing or damaged."""
    try:
        return load_file(path) if path.is_file() else {}
    except (SafetensorError, OSError):
        return {}


def _join_shards(shards: Sequence[dict[str, Tensor]], dim: int = 0) -> dict[Head, Tensor]:
    if not shards:
        raise BadInput("there is nothing to read: the text or the questions are empty")
    heads = {name: tuple(map(int, name.split("."))) for name in shards[0]}
    return {
        (layer, head): torch.cat([s[name] for s in shards], dim)
        for name, (layer, head) in heads.items()
    }


def content_mask(texts: Sequence[str]) -> Tensor:
    """Which tokens have a letter or a digit: `[N]` bool.

    Full stops, commas and line breaks attract the attention of every question, as sinks do, but
    have no content. The sinks themselves are in the template's opening, not in the text.
    """
    return torch.tensor([any(char.isalnum() for char in text) for text in texts])


LEAST_UNITS = 3
"""Units of a passage, from which on their order is compared."""


@dataclass(frozen=True, slots=True)
class UnitSpans:
    """The units that keys belong to.

    Attributes:
        owner: the number of each key's unit, `[N]`, ascending from 0 without a gap.
        passages: the units of each passage, half-open: `[P, 2]`.
    """

    owner: Tensor
    passages: Tensor

    @classmethod
    def from_numbers(cls, units: Tensor, passages: Tensor) -> UnitSpans:
        """From the unit and the passage of each key, both ascending: `[N]` each."""
        both = torch.stack((passages, units), 1)
        first, owner = torch.unique_consecutive(both, dim=0, return_inverse=True)
        counts = torch.unique_consecutive(first[:, 0], return_counts=True)[1]
        ends = counts.cumsum(0)
        return cls(owner, torch.stack((ends - counts, ends), 1))

    def sums(self, weights: Tensor, ids: Tensor | None = None) -> Tensor:
        """The weight of each unit's keys: `[Q, C]` to `[Q, U]`.

        Args:
            ids: of the keys, `[Q, C]`, -1 for none; None for all keys in order.
        """
        found = weights.new_zeros(len(weights), int(self.owner[-1]) + 1)
        if ids is None:
            return found.index_add(1, self.owner, weights)
        return found.scatter_add(1, self.owner[ids.clamp_min(0)], weights)

    def masses(self, sums: Tensor, questions: Tensor) -> Tensor:
        """The mean weight of each unit's keys by the mean row of each question: `[B, U]`.

        Args:
            sums: `[Q, U]`. questions: the question of each row, `[Q]`.
        """
        asked = torch.unique_consecutive(questions, return_inverse=True)[1]
        rows = sums / asked.bincount()[asked][:, None]
        found = sums.new_zeros(int(asked.max()) + 1, sums.shape[1]).index_add(0, asked, rows)
        return found / self.owner.bincount()

    def rank_correlation(self, masses: Tensor, exact: Tensor) -> float | None:
        """Spearman's rank correlation of the units of the passage that each question attends to
        most, the mean over questions; None where no such passage has three units.

        Args:
            masses, exact: `[B, U]`.
        """
        found = []
        for own, due in zip(masses, exact, strict=True):
            sums = [float(due[a:b].sum()) for a, b in self.passages.tolist()]
            start, stop = self.passages[sums.index(max(sums))].tolist()
            if stop - start >= LEAST_UNITS:
                found += rank_correlations(own[None, start:stop], due[None, start:stop])
        return sum(found) / len(found) if found else None


def hit_weights(hits: KeyHits) -> Tensor:
    """The softmax over the hits, 0 where there was none: `[Q, k]`."""
    return hits.scores.softmax(1).masked_fill(hits.ids < 0, 0)


def best_of(hits: KeyHits, k: int) -> KeyHits:
    """The best k hits alone."""
    return KeyHits(hits.scores[:, :k], hits.ids[:, :k], hits.keys_read, hits.mass)


def output_error(hits: KeyHits, values: Tensor, exact: Tensor) -> float:
    """The distance of attention over the hits from that over all keys, relative to its length.

    Where a selector says what mass its keys have, the rest goes to the mean of all values.

    Args:
        values: `[N, d]`. exact: `[Q, d]`.
    """
    weights = exact.new_zeros(len(exact), len(values))
    weights.scatter_add_(1, hits.ids.clamp_min(0), hit_weights(hits))
    outputs = weights @ values
    if hits.mass is not None:
        mass = hits.mass[:, None]
        outputs = mass * outputs + (1 - mass) * values.mean(0)
    error = (outputs - exact).norm(dim=1) / exact.norm(dim=1).clamp_min(1e-6)
    return float(error.mean())


TOP_K = 100
BATCH_ROWS = 16
"""Queries of one timed search: about as many as one question has rows."""
BATCHES, PASSES = 10, 3
NARROWING_STEPS = 3
BUDGETS = (0.01, 0.02, 0.05, 0.1, 0.2)
"""Shares of the keys that may be read, at which selectors are compared."""


@dataclass(frozen=True, slots=True)
class ExactReference:
    """Exact attention of a case's test queries.

    Attributes:
        exact: the exact index.
        ids: `[Q, K]`, the keys with the largest logits; all keys where there are fewer.
        lse: `[Q]`, log-sum-exp of all logits. outputs: `[Q, d]`, the values that attention reads.
        units: what keys belong to. unit_masses: their mean attention by question, `[B, U]`.
    """

    exact: ExactIndex
    ids: Tensor
    lse: Tensor
    outputs: Tensor
    units: UnitSpans
    unit_masses: Tensor


@dataclass(frozen=True, slots=True)
class EffortPoint:
    """The result of a selector at one effort.

    Attributes:
        recall_at_100: share of the 100 keys with the largest logits that the search found.
        attention_mass: share of the softmax over all keys that the found keys have, at most 100.
        mass_read: the same of all keys of the blocks read, for selectors that read whole blocks.
        output_error: of attention over the keys found, at most 100, see `fidelity`: comparable for
            all selectors. error_read: the same over what `mass_read` counts.
        unit_rho: rank correlation of units by attention over what `mass_read` counts, within the
            passage that a question attends to most; None where none has three units.
        share_of_keys_read: keys read for a query, as a share of all keys.
    """

    effort: int
    recall_at_100: float
    attention_mass: float
    mass_read: float
    output_error: float
    error_read: float
    unit_rho: float | None
    share_of_keys_read: float


@dataclass(frozen=True, slots=True)
class HeadMeasurement:
    """One selector on one head, at the cheapest effort that reached the recall, else the largest.

    Attributes:
        head: as `layer.head`. point: at that effort. curve: every effort tried, ascending.
        budgets: at the largest effort within each of `BUDGETS`; None where the smallest exceeds it.
        ms: of a query, in batches of 16. exact_ms: the same for exact search, in alternation.
        build_s: seconds that building the index took.
    """

    head: str
    point: EffortPoint
    curve: tuple[EffortPoint, ...]
    budgets: tuple[EffortPoint | None, ...]
    ms: float
    exact_ms: float
    build_s: float


def exact_reference(case: SelectorCase, units: UnitSpans) -> ExactReference:
    """Exact search over the keys of a case."""
    exact = ExactIndex(case.keys)
    lse, outputs, sums = [], [], []
    for rows in torch.split(case.test, max(1, 2**24 // len(case.keys))):
        logits = rows @ case.keys.T
        weights = logits.softmax(1)
        lse.append(logits.logsumexp(1))
        outputs.append(weights @ case.values)
        sums.append(units.sums(weights))
    ids = exact.search(case.test, min(TOP_K, len(case.keys))).ids
    masses = units.masses(torch.cat(sums), case.questions)
    return ExactReference(exact, ids, torch.cat(lse), torch.cat(outputs), units, masses)


@dataclass(frozen=True, slots=True)
class HeadGroup:
    """A selector and the heads that it searches at once: one, or all for one that shares a choice.

    Attributes:
        cases: in order of layer, with the same questions. passages: `[P, 2]` spans of keys.
    """

    name: str
    cases: Sequence[SelectorCase]
    references: Sequence[ExactReference]
    passages: Tensor

    def build(self) -> SharedSelector:
        """The selector over the keys of all cases."""
        values = torch.stack([case.values for case in self.cases])
        setting = Setting(values, self.passages, tuple(case.head[0] for case in self.cases))
        keys = torch.stack([case.keys for case in self.cases])
        train = torch.stack([case.train for case in self.cases])
        return selector_registry.build_shared_selector(self.name, keys, train, setting)

    def queries(self) -> Tensor:
        """`[S, Q, d]` test queries."""
        return torch.stack([case.test for case in self.cases])


def measure_group(group: HeadGroup, recall: float) -> list[HeadMeasurement]:
    """Builds a selector, finds the cheapest effort of mean recall `recall`, and times it.

    Beside it the largest effort within each of `BUDGETS` is found.
    """
    selector, ms, _ = timed(group.build)
    build_s = ms / 1e3 / len(group.cases)
    queries, questions = group.queries(), group.cases[0].questions
    reads_blocks = selector_registry.SELECTORS.load(group.name).info.reads_blocks
    points: dict[int, list[EffortPoint]] = {}

    def try_effort(effort: int) -> list[EffortPoint]:
        if effort not in points:
            k = len(group.cases[0].keys) if reads_blocks else TOP_K
            hits = selector.search(queries, k, effort, questions)
            heads = zip(split_heads(hits), group.cases, group.references, strict=True)
            points[effort] = [effort_point(effort, *head) for head in heads]
        return points[effort]

    def reaches_recall(effort: int) -> bool:
        return statistics.fmean(p.recall_at_100 for p in try_effort(effort)) >= recall

    def exceeds(budget: float, effort: int) -> bool:
        return statistics.fmean(p.share_of_keys_read for p in try_effort(effort)) > budget

    best = cheapest_effort(selector.efforts, reaches_recall)
    within = [largest_effort(selector.efforts, partial(exceeds, budget)) for budget in BUDGETS]
    ms, exact_ms = time_searches(selector, best, group)
    return [
        HeadMeasurement(
            "{}.{}".format(*case.head),
            try_effort(best)[head],
            tuple(points[effort][head] for effort in sorted(points)),
            tuple(try_effort(effort)[head] if effort else None for effort in within),
            ms,
            exact_ms,
            build_s,
        )
        for head, case in enumerate(group.cases)
    ]


def split_heads(hits: KeyHits) -> list[KeyHits]:
    """The hits of each head, with an equal part of the keys read."""
    S = len(hits.ids)
    masses = [None] * S if hits.mass is None else list(hits.mass)
    heads = zip(hits.scores, hits.ids, masses, strict=True)
    return [KeyHits(scores, ids, hits.keys_read // S, mass) for scores, ids, mass in heads]


def largest_effort(efforts: Sequence[int], is_too_much: Callable[[int], bool]) -> int | None:
    """The largest of the efforts that is not too much; None if the smallest is."""
    fitting = None
    for effort in efforts:
        if is_too_much(effort):
            break
        fitting = effort
    return fitting


def cheapest_effort(efforts: Sequence[int], is_enough: Callable[[int], bool]) -> int:
    """The smallest effort that is enough, else the largest.

    The efforts are tried in order; the interval below the first that is enough is then bisected
    `NARROWING_STEPS` times.
    """
    below = 0
    for effort in efforts:
        if is_enough(effort):
            break
        below = effort
    else:
        return below
    for _ in range(NARROWING_STEPS if below else 0):
        middle = (below + effort) // 2
        if middle in (below, effort):
            break
        below, effort = (below, middle) if is_enough(middle) else (middle, effort)
    return effort


def effort_point(
    effort: int, hits: KeyHits, case: SelectorCase, reference: ExactReference
) -> EffortPoint:
    """Recall, attention mass and keys read of one search, compared with exact search."""
    best = best_of(hits, TOP_K)
    found = (best.ids[:, :, None] == reference.ids[:, None, :]).any(2)
    mass = (best.scores.logsumexp(1) - reference.lse).exp()
    sums = reference.units.sums(hit_weights(hits), hits.ids)
    masses = reference.units.masses(sums, case.questions)
    read = (hits.scores.logsumexp(1) - reference.lse).exp()
    return EffortPoint(
        effort,
        float(found.sum(1).float().mean()) / reference.ids.shape[1],
        float(mass.mean()),
        float(read.mean()),
        output_error(best, case.values, reference.outputs),
        output_error(hits, case.values, reference.outputs),
        reference.units.rank_correlation(masses, reference.unit_masses),
        hits.keys_read / (len(case.test) * len(case.keys)),
    )


def time_searches(selector: SharedSelector, effort: int, group: HeadGroup) -> tuple[float, float]:
    """Milliseconds a query and head of a selector and of exact search, in alternation: medians."""
    queries, questions, S = group.queries(), group.cases[0].questions, len(group.cases)
    starts = range(0, max(1, queries.shape[1] - BATCH_ROWS + 1), BATCH_ROWS)[:BATCHES]
    selector_ms, exact_ms = [], []
    for start in list(starts) * PASSES:
        rows = slice(start, start + BATCH_ROWS)
        batch, own = queries[:, rows], questions[rows]
        count = S * batch.shape[1]
        selector_ms.append(timed(partial(selector.search, batch, TOP_K, effort, own))[1] / count)
        exact = [
            timed(partial(reference.exact.search, head, TOP_K))[1]
            for reference, head in zip(group.references, batch, strict=True)
        ]
        exact_ms.append(sum(exact) / count)
    return statistics.median(selector_ms), statistics.median(exact_ms)


def selector_row(
    name: str, tokens: int, recall: float, heads: Sequence[HeadMeasurement]
) -> dict[str, Any]:
    """One row of the table: means over the heads, each at its own effort."""
    points = [head.point for head in heads]
    budgets = zip(*(head.budgets for head in heads), strict=True)

    def mean(values: Iterator[float]) -> float:
        return statistics.fmean(values)

    return {
        "selector": name,
        "tokens": tokens,
        "recall_at_100": mean(p.recall_at_100 for p in points),
        "attention_mass": mean(p.attention_mass for p in points),
        "mass_read": mean(p.mass_read for p in points),
        "output_error": mean(p.output_error for p in points),
        "error_read": mean(p.error_read for p in points),
        "unit_rho": mean_of_known(p.unit_rho for p in points),
        "share_of_keys_read": mean(p.share_of_keys_read for p in points),
        "ms": mean(head.ms for head in heads),
        "times_faster_than_exact": mean(head.exact_ms / head.ms for head in heads),
        "budgets": [budget_row(*pair) for pair in zip(BUDGETS, budgets, strict=True)],
        "build_s": mean(head.build_s for head in heads),
        "reached": all(p.recall_at_100 >= recall for p in points),
        "heads": [asdict(head) for head in heads],
    }


def budget_row(
    budget: float, points: Sequence[EffortPoint | None]
) -> dict[str, float | None] | None:
    """Means over the heads within a budget; None where a head's smallest effort exceeds it."""
    fitting = [point for point in points if point is not None]
    if len(fitting) < len(points):
        return None
    names = ("recall_at_100", "mass_read", "output_error", "error_read", "share_of_keys_read")
    means = {name: statistics.fmean(getattr(p, name) for p in fitting) for name in names}
    return {"budget": budget, **means, "unit_rho": mean_of_known(p.unit_rho for p in fitting)}


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
