"""`tamis lab bench answers`: how well a language model answers from compressed contexts.

Does a language model still answer? Each question with no, the whole, and compressed context.

sets ─► records ─► contexts: none, full, methods at each budget and order ─► reader ─► F1 and others

Answers are kept in a file, one per line, so that an interrupted run can be resumed. The contexts of
one record are answered together: a local reader reads each by itself and then generates all answers
step by step at once, since one step costs a pass over all weights however many it is for.
"""

from __future__ import annotations

import hashlib
import json
import re
import statistics
import string
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.table import Table
from rich.text import Text

from tamis.compressors import registry
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.registry import DEFAULT_PROXY
from tamis.compressors.rules import PLAIN_ORDERS, Granularity, Rules
from tamis.probes.errors import BadInput, BudgetTooSmall, MissingExtra
from tamis.probes.hub import zoo
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.service.api.compress import compress, counter_of
from tamis.service.cli.display.output import report_errors
from tamis.service.files.streams import read_json_lines
from tamis_lab.bench.needle import build_with_memory
from tamis_lab.bench.panel import BLENDS, parse_method_spec
from tamis_lab.bench.study import Study, estimate, heading, table
from tamis_lab.datasets.record_files import file_sha256
from tamis_lab.datasets.records import Record, passages_of, record_id, sample_records
from tamis_lab.datasets.result_file import ResultFile, ResultRow
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

_CACHE_BYTES = 1 << 28
_WEAK_F1 = 50
"""F1, in per cent, below which a reader fails more often than not with the whole context."""
_LONG_ANSWER_WORDS = 8
_RELIANCE_TOKENS = 32
METHODS = "question_rows,lexical,embedding,bm25+minilm,lead"
ALL_SETS = "mean of sets"
EPILOG = """
**What is measured**

Each question is asked with no context, the whole one, and what each method keeps of it at each
budget. *F1* and *exact match* are those of SQuAD; *contains*: a true answer stands in what the
reader said. A set whose answers have more than eight words at the median is asked for a sentence or
two, any other for as few words as possible. Single passages get distractors; `NAME@TOKENS` fills
each context with passages of the set's other records. Intervals are over questions, paired.

**Examples**

`tamis lab bench answers --data mine/ --sets support --reader http://localhost:8000/v1
--reader-model my-llm`

`tamis lab bench answers --reader qwen2.5-coder-0.5b --sets hotpotqa@8000 --budgets 2000 --limit 50`

`tamis lab bench answers --budgets 0.5 --orders original,score,edges,attnrank`

`tamis lab bench answers --methods question_rows,ehpc:form=token:together=true` words, as published

`tamis lab bench answers --kept peers.jsonl` also reads what published compressors kept: the rows of
`tamis lab bench peers`

A record is a line `{"id", "question", "answers": ["..."], "docs": [{"title", "text", "sents",
"gold"}]}`. The reader is any OpenAI-compatible server, a model folder, or a model of the zoo, which
is a weak reader: its figures say so. A run that was cut short goes on.
"""


@report_errors()
def answers(
    data: shared.SetsFolder = None,
    sets: shared.FilledSets = "xquad_en,hotpotqa,2wikimultihopqa",
    reader: Annotated[
        str, typer.Option("--reader", help="A server's base URL, a model folder, or a zoo name.")
    ] = DEFAULT_PROXY,
    reader_model: Annotated[
        str, typer.Option("--reader-model", help="What the server calls its model.")
    ] = "default",
    api_key: Annotated[
        str | None,
        typer.Option("--api-key", envvar="OPENAI_API_KEY", help="For the server."),
    ] = None,
    methods: shared.Methods = METHODS,
    budgets: Annotated[
        str, typer.Option("--budgets", "--keep", help="Up to 1 a share, above whole tokens.")
    ] = "0.1,0.2",
    coverage: Annotated[
        str | None,
        typer.Option(help="Also what the first method keeps at this coverage, such as 0.9."),
    ] = None,
    orders: Annotated[
        str,
        typer.Option(help="In which the kept passages stand, with commas; see `tamis methods`."),
    ] = "original",
    native: Annotated[
        bool,
        typer.Option(
            help="Also go on from the keys and values of the tokens that EHPC chooses, at each "
            "share: of a local reader whose needle heads are known."
        ),
    ] = False,
    kept: Annotated[
        Path | None, typer.Option(help="Rows of `bench peers`, whose kept texts are read, too.")
    ] = None,
    limit: shared.Limit = 100,
    max_tokens: Annotated[
        int, typer.Option(min=1, help="Of an answer; three times as many for sentences.")
    ] = 32,
    results: Annotated[
        Path,
        typer.Option("--results", "--answers", help="Answers; a run that was cut short goes on."),
    ] = Path("answers.jsonl"),
    seed: shared.Seed = 0,
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """F1 of a reader with the whole context, compressed ones, and none."""
    study = Study(as_json, plot, results)
    settings = AnswerSettings(
        methods=tuple(shared.parse_list(methods, "--methods")),
        budgets=tuple(shared.parse_budgets(budgets)),
        coverages=tuple(shared.parse_shares(coverage, "--coverage") if coverage else ()),
        max_tokens=max_tokens,
        orders=_parse_orders(orders),
        native=native,
    )
    counter, asked = counter_of("proxy", DEFAULT_PROXY), {}
    for name in shared.parse_list(sets, "--sets"):
        base, tokens = shared.parse_filled_set(name)
        path = shared.find_set_file(shared.data_folder(data), base)
        asked[name] = sample_records(path, limit, is_usable, counter, tokens, seed)
        if not asked[name]:
            raise BadInput(f"no record of {path} has 'answers' (a list of texts); nothing to ask")
    texts = kept_texts(kept) if kept else {}
    answerer = load_reader(reader, reader_model, api_key)
    if native and not isinstance(answerer, LocalReader):
        raise BadInput("--native is of a reader in this process; give a folder or a zoo name")
    made = {"reader": answerer.identity, "max_tokens": max_tokens, "seed": seed}
    study.keep_rows(made | ({"kept": file_sha256(kept)} if kept else {}))
    build = ContextBuilder(settings.methods)
    with study.bars():
        rows = answer_records(asked, build, answerer, settings, study, texts)
    found = answer_figures(rows, settings.methods[0], seed)
    study.publish(
        {"reader": answerer.identity, "methods": list(settings.methods), "sets": found},
        lambda: [
            *(_table(name, of, answerer.identity, settings) for name, of in found.items()),
            reader_strength([*found.values()][-1]),
        ],
        lambda: _charts(found, answerer.identity, settings),
    )


def _table(name: str, found: Mapping[str, Any], reader: str, settings: AnswerSettings) -> Table:
    first = settings.methods[0]
    return table(
        f"{name}: {found['full']['questions']} questions, reader {reader.rsplit('/', 1)[-1]}",
        (
            *("context", "tokens", "share", "exact", "contains", "F1"),
            *("F1 less the whole context's", f"{first}'s lead"),
        ),
        (
            [
                Text(condition, "bold" if condition.startswith(first) else ""),
                f"{row['tokens']:,.0f}",
                f"{100 * row['share_of_tokens']:.0f} %",
                *(f"{100 * row[column]:.1f}" for column in ("exact_match", "contains", "f1")),
                estimate(row["f1_less_full"]),
                estimate(row["lead"]) if "lead" in row else "",
            ]
            for condition, row in found.items()
        ),
    )


def _charts(found: Mapping[str, Any], reader: str, settings: AnswerSettings) -> list[Chart]:
    """A chart a set: F1 against the tokens of the context, a line a method."""
    charts = []
    for name, of in found.items():
        lines = {
            method: [
                (row["tokens"], row["f1"])
                for budget in sorted(settings.budgets)
                if (row := of.get(f"{method} {heading(budget)}"))
            ]
            for method in settings.methods
        }
        lines |= {c: [(of[c]["tokens"], of[c]["f1"])] for c in ("none", "full")}
        lines |= {c: [(row["tokens"], row["f1"])] for c, row in of.items() if row.get("is_kept")}
        charts.append(
            Chart(
                f"{name}: {of['full']['questions']} questions, reader {reader.rsplit('/', 1)[-1]}",
                {label: tuple(zip(*points, strict=True)) for label, points in lines.items()},
                "tokens of the context",
                "F1 of the reader's answers",
            )
        )
    return charts


def is_usable(record: Record) -> bool:
    """Whether a record has answers to compare with; unanswerable ones have none.

    Raises:
        BadInput: it has answers that are not texts, or no text to answer from.
    """
    answers = record.get("answers") or []
    if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
        name = record_id(record)
        raise BadInput(f"record {name} has the 'answers' {answers!r:.60}; give a list of texts")
    if answers and not any(doc["text"].strip() for doc in record["docs"]):
        raise BadInput(f"record {record_id(record)} has no text in 'docs'; there is no context")
    return bool(answers) and bool(record.get("answerable", True))


def kept_texts(path: Path) -> dict[tuple[str, str], dict[str, str]]:
    """What other compressors kept, by set and record, and then by the compressor's name.

    Args:
        path: rows of `tamis lab bench peers`; rows with an error are passed over.

    Raises:
        BadInput: a line is no such row.
    """
    found: dict[tuple[str, str], dict[str, str]] = {}
    for number, row in read_json_lines(path):
        if "error" in row or "peer" not in row:
            continue  # the first line has the settings
        if not all(isinstance(row.get(name), str) for name in ("set", "case", "peer", "text")):
            raise BadInput(f"{path}, line {number}: no row of tamis lab bench peers")
        found.setdefault((row["set"], row["case"]), {})[row["peer"]] = row["text"]
    return found


@dataclass(frozen=True, slots=True)
class ContextCondition:
    """One kind of context for every question: none, all of it, or what a method keeps.

    Attributes:
        method: that compresses; empty for none and the whole.
        budget: up to 1 a share of the tokens, above 1 whole tokens.
        coverage: in place of a budget.
        order: of the kept passages.
        is_native: whether the reader goes on from kept keys and values.
    """

    name: str
    method: str = ""
    budget: float | None = None
    coverage: float | None = None
    order: str = "original"
    is_native: bool = False


NONE, FULL = ContextCondition("none"), ContextCondition("full")


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """What is compared.

    Attributes:
        methods: of compression; the first is compared with the others.
        budgets: up to 1 a share of the tokens, above 1 whole tokens.
        coverages: of the first method.
        max_tokens: of an answer in a few words.
        orders: of the kept passages; every budget is tried in every order.
        native: whether the reader also goes on from kept keys and values, at each share.
    """

    methods: tuple[str, ...]
    budgets: tuple[float, ...]
    coverages: tuple[float, ...] = ()
    max_tokens: int = 32
    orders: tuple[str, ...] = ("original",)
    native: bool = False

    def conditions(self) -> Iterator[ContextCondition]:
        """No context, the whole one, and every method at each budget, in each order."""
        yield NONE
        yield FULL
        for method in self.methods:
            for budget in self.budgets:
                for order in self.orders:
                    suffix = "" if order == "original" else f" {order}"
                    name = f"{method} {heading(budget)}{suffix}"
                    yield ContextCondition(name, method, budget, order=order)
        for coverage in self.coverages:
            name = f"{self.methods[0]} coverage {coverage:g}"
            yield ContextCondition(name, self.methods[0], coverage=coverage)
        if self.native:
            for budget in self.budgets:
                yield ContextCondition(f"native {heading(budget)}", "", budget, is_native=True)


def _parse_orders(given: str) -> tuple[str, ...]:
    """Known orders from a list with commas.

    Raises:
        BadInput: one is unknown, or the list is empty.
    """
    known = sorted({*PLAIN_ORDERS, *registry.method_names("ordering")})
    found = tuple(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not found or set(found) - set(known):
        raise BadInput(f"--orders is {given!r}; there are: {', '.join(known)}")
    return found


class ContextBuilder:
    """Compresses records as a caller would: with titles, in the proxy's tokens."""

    def __init__(self, methods: Sequence[str]) -> None:
        """Takes names of methods, with options, or of sums that benchmarks compare with.

        Raises:
            UnknownMethod: there is no such method. BadInput: it has no such option.
        """
        self._methods: dict[str, tuple[Any, dict[str, Any]]] = {}
        for name in methods:
            if name in BLENDS:
                self._methods[name] = build_with_memory(name, DEFAULT_PROXY, None)[0], {}
                continue
            method, options = parse_method_spec(name)
            registry.check_options(method, options)
            self._methods[name] = method, options
        self._cache = PassageCache(max_bytes=_CACHE_BYTES)  # a record is read once for all budgets

    def __call__(self, record: Record, condition: ContextCondition) -> tuple[str, int]:
        """The context of a record under a condition, and its tokens; empty if nothing fits."""
        if condition == NONE:
            return "", 0
        options: dict[str, Any]
        if condition == FULL:
            method, limits, options = "lead", {"ratio": 1.0}, {}
        else:
            method, options = self._methods[condition.method]
            limits = _limits(condition)
        # what the token form scores are words: sentences of it would be another method
        granularity: Granularity = "token" if options.get("form") == "token" else "sentence"
        try:
            found = compress(
                record["question"],
                passages_of(record),
                method=method,
                rules=Rules(titles=True, order=condition.order, granularity=granularity),
                cache=self._cache,
                **options,
                **limits,  # type: ignore[arg-type]
            )
        except BudgetTooSmall:
            return "", 0
        return found.text, found.tokens_out


def _limits(condition: ContextCondition) -> dict[str, float]:
    if condition.budget is None:
        return {"coverage": condition.coverage or 0.0}
    return (
        {"ratio": condition.budget}
        if condition.budget <= 1
        else {"max_tokens": int(condition.budget)}
    )


def answer_records(
    sets: Mapping[str, Sequence[Record]],
    build_context: Any,
    reader: AnswerReader,
    settings: AnswerSettings,
    study: Study,
    texts: Mapping[tuple[str, str], Mapping[str, str]] | None = None,
) -> list[ResultRow]:
    """Asks the reader about every record under every condition; a row for each.

    A row is kept by the record with its question and text, and by the condition. Sets take turns.

    Args:
        build_context: makes the context of a record under a condition, and counts its tokens.
        texts: what other compressors kept, by set and record; see `kept_texts`.
    """
    cases: dict[str, tuple[str, str]] = {}
    groups: dict[str, _RecordCase] = {}
    conditions = {one.name: one for one in settings.conditions()}
    styles = {name: answer_style(records, settings.max_tokens) for name, records in sets.items()}
    turns = zip_longest(*([(name, row) for row in records] for name, records in sets.items()))
    for name, record in (one for turn in turns for one in turn if one is not None):
        at = f"{name}/{record_id(record)}/{_digest(record)}"
        others = (texts or {}).get((name, record_id(record)), {})
        groups[at] = _RecordCase(name, record, styles[name], others)
        for condition in (*conditions, *others):
            cases[f"{at}/{condition}"] = (at, condition)
    done: dict[str, ResultRow] = {}

    def answer(case: tuple[str, str]) -> ResultRow:
        at, condition = case
        if f"{at}/{condition}" not in done:
            every = (*conditions, *groups[at].texts)
            due = [c for c in every if not study.has_row(f"{at}/{c}")]
            rows = _answer_record(groups[at], due, build_context, reader, conditions)
            done.update({f"{at}/{row['condition']}": row for row in rows})
        return done.pop(f"{at}/{condition}")

    return study.rows("answers", cases, answer)


@dataclass(frozen=True, slots=True)
class _RecordCase:
    set: str
    record: Record
    style: AnswerStyle
    texts: Mapping[str, str]


def _answer_record(
    case: _RecordCase,
    due: Sequence[str],
    build_context: Any,
    reader: AnswerReader,
    conditions: Mapping[str, ContextCondition],
) -> Iterator[ResultRow]:
    """The rows of a record under the conditions that are due; equal contexts are read once."""
    record, question = case.record, case.record["question"]
    whole, tokens_in = build_context(record, FULL)
    counter = counter_of("proxy", DEFAULT_PROXY)
    contexts = {FULL.name: (whole, tokens_in)}
    for name in due:
        if name in case.texts:
            contexts[name] = case.texts[name], counter.count(case.texts[name])
        elif name != FULL.name and not conditions[name].is_native:
            contexts[name] = build_context(record, conditions[name])
    prompts = {
        name: chat_messages(question, contexts[name][0], case.style.system)
        for name in due
        if name in contexts
    }
    distinct = {json.dumps(prompt): prompt for prompt in prompts.values()}
    said = dict(
        zip(distinct, reader.answer_all([*distinct.values()], case.style.max_tokens), strict=True)
    )
    for name in due:
        if name in prompts:
            text, tokens = said[json.dumps(prompts[name])], contexts[name][1]
        else:
            assert isinstance(reader, LocalReader)
            text, share = reader.answer_natively(
                question, whole, conditions[name].budget or 1.0, case.style
            )
            tokens = round(share * tokens_in)
        yield {
            "set": case.set,
            "id": record_id(record),
            "condition": name,
            "answer": text,
            "tokens": tokens,
            "share": tokens / max(1, tokens_in),
            "is_kept": name in case.texts,
            **judge(text, record["answers"]),
        }


def _digest(record: Record) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def answer_figures(
    rows: Sequence[Mapping[str, Any]], first: str, seed: int = 0
) -> dict[str, dict[str, dict[str, Any]]]:
    """By set, and last in the mean of several sets, the figures of each condition.

    Args:
        first: the method that the others are compared with, at the same budget and order.

    Returns:
        For each condition `exact_match`, `contains`, `f1` and `share_of_tokens` in [0, 1],
        `tokens`, and the intervals of the F1 above the whole context's, and of the first method's
        lead.
    """
    by_set: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_set.setdefault(row["set"], []).append(row)
    found = {name: _set_figures(own, first, seed) for name, own in by_set.items()}
    return found | ({ALL_SETS: _set_figures(rows, first, seed)} if len(found) > 1 else {})


def _set_figures(
    rows: Sequence[Mapping[str, Any]], first: str, seed: int
) -> dict[str, dict[str, Any]]:
    """The figures of each condition; questions of different sets weigh so that sets are equal."""
    by_condition: dict[str, dict[tuple[str, str], Mapping[str, Any]]] = {}
    for row in rows:
        by_condition.setdefault(row["condition"], {})[row["set"], row["id"]] = row
    found: dict[str, dict[str, Any]] = {}
    for name, own in by_condition.items():
        sizes = Counter(of for of, _ in own)
        weights = {key: 1 / sizes[key[0]] / len(sizes) for key in own}
        method, _, budget = name.partition(" ")
        found[name] = {
            "questions": len(own),
            "is_kept": any(row["is_kept"] for row in own.values()),
            **{
                column: sum(weight * own[key][of] for key, weight in weights.items())
                for column, of in _COLUMNS.items()
            },
            "f1_less_full": _f1_difference(own, by_condition["full"], weights, seed),
        }
        rival = by_condition.get(f"{first} {budget}")
        if rival and method != first:
            found[name]["lead"] = _f1_difference(rival, own, weights, seed)
    return found


_COLUMNS = {
    "exact_match": "exact_match",
    "contains": "contains",
    "f1": "f1",
    "tokens": "tokens",
    "share_of_tokens": "share",
}
"""Figures of a condition, and the column of its rows that each is the mean of."""


def _f1_difference(
    a: Mapping[tuple[str, str], Mapping[str, Any]],
    b: Mapping[tuple[str, str], Mapping[str, Any]],
    weights: Mapping[tuple[str, str], float],
    seed: int,
) -> dict[str, float]:
    """The F1 of one condition less another's, over the questions that have a weight."""
    first, second = (
        [weight * rows[key]["f1"] for key, weight in weights.items()] for rows in (a, b)
    )
    return paired_interval(first, second, [*weights.values()], seed=seed)


def reader_strength(found: Mapping[str, Any]) -> str:
    """How well the reader's figures can distinguish contexts."""
    full, none = (100 * found[name]["f1"] for name in ("full", "none"))
    summary = f"F1 with the whole context {full:.0f}, without any {none:.0f}."
    if full >= _WEAK_F1:
        return summary
    return (
        f"{summary} A weak reader: it misses most answers that lie before it, so contexts differ "
        "less than they would for a better one."
    )


SHORT = (
    "Answer the question in as few words as possible. Use the context if there is one. "
    "Give the answer alone, no sentence around it."
)
LONG = "Answer the question in one or two sentences. Use the context if there is one."
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation) | dict.fromkeys(
    map(ord, "“”‘’。，、？！：；（）《》「」¿¡"), " "
)
_WORDS = re.compile(
    r"[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]|[^\s\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff]+"
)


@dataclass(frozen=True, slots=True)
class AnswerStyle:
    """What a set's questions ask for: `system`, the prompt, and the tokens of an answer."""

    system: str
    max_tokens: int


def answer_style(records: Sequence[Record], max_tokens: int) -> AnswerStyle:
    """A few words, or a sentence or two with three times the tokens, as the true answers are."""
    words = statistics.median(len(normalise_answer(record["answers"][0])) for record in records)
    if words > _LONG_ANSWER_WORDS:
        return AnswerStyle(LONG, 3 * max_tokens)
    return AnswerStyle(SHORT, max_tokens)


class AnswerReader(Protocol):
    """A model that answers chat messages; `identity` names it in the keys of kept answers."""

    identity: str

    def answer_all(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int
    ) -> list[str]:
        """The next message of each chat, of at most `max_tokens`."""
        ...


def normalise_answer(answer: str) -> list[str]:
    """Words of an answer as SQuAD compares them: without case, punctuation and articles.

    Departure: each Han, kana or Thai character is a word, since these are written without spaces.
    """
    plain = _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION))
    return _WORDS.findall(plain)


def judge(answer: str, truths: Sequence[str]) -> dict[str, float]:
    """`exact_match`, `f1`, and `contains`: whether a true answer stands in what was said."""
    said = f" {' '.join(normalise_answer(answer))} "
    true = [f" {' '.join(normalise_answer(truth))} " for truth in truths]
    return {
        "exact_match": exact_match(answer, truths),
        "f1": f1(answer, truths),
        "contains": float(any(one in said for one in true if one.strip())),
    }


def exact_match(answer: str, truths: Sequence[str]) -> float:
    """1 if the answer is one of the true ones (Rajpurkar et al. 2016, §6.1)."""
    return float(any(normalise_answer(answer) == normalise_answer(truth) for truth in truths))


def f1(answer: str, truths: Sequence[str]) -> float:
    """The best overlap of words with a true answer (Rajpurkar et al. 2016, §6.1)."""
    words = normalise_answer(answer)
    return max((_word_f1(words, normalise_answer(truth)) for truth in truths), default=0.0)


def _word_f1(answer: Sequence[str], truth: Sequence[str]) -> float:
    shared = sum((Counter(answer) & Counter(truth)).values())
    if not shared:
        return float(not answer and not truth)
    return 2 * shared / (len(answer) + len(truth))


def chat_messages(question: str, context: str, system: str = SHORT) -> list[dict[str, str]]:
    """The messages of one request; without a context, they hold the question alone."""
    prompt = f"Question: {question}"
    content = f"Context:\n{context}\n\n{prompt}" if context else prompt
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


_TIMEOUT_S = 120.0
_REQUESTS_AT_A_TIME = 4


class ServerReader:
    """A server that is queried by `POST {url}/chat/completions` with greedy decoding."""

    def __init__(self, url: str, model: str, api_key: str | None) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra('readers by URL need httpx: pip install "tamis[service]"') from error
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(timeout=_TIMEOUT_S, headers=headers)
        self._http_error = httpx.HTTPError
        base = url.rstrip("/")
        self.url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self.model, self.identity = model, f"{self.url} {model}"

    def answer_all(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int
    ) -> list[str]:
        """The answers of the server's model, a few requests at a time.

        Raises:
            BadInput: as `answer`.
        """
        with ThreadPoolExecutor(_REQUESTS_AT_A_TIME) as pool:
            return list(pool.map(lambda prompt: self.answer(prompt, max_tokens), prompts))

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The answer of the server's model.

        Raises:
            BadInput: the server cannot be reached, refuses, or does not implement the protocol.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        try:
            response = self._http.post(self.url, json=body)
            response.raise_for_status()
            content: Any = response.json()["choices"][0]["message"]["content"]
        except (self._http_error, ValueError, LookupError, TypeError) as error:
            raise BadInput(
                f"{self.url} gave no answer ({error}); give the base URL of an OpenAI-compatible "
                "server, such as http://localhost:8000/v1, and its --reader-model"
            ) from error
        return str(content or "")


class LocalReader:
    """A model folder, or a model of the zoo, on this machine."""

    def __init__(self, model: str) -> None:
        from tamis_lab.bench.generate import Generator

        folder = zoo.model_folder(model)
        self._generator, self._model = Generator.from_folder(folder), model
        self._chooser: EHPC | None = None
        self.identity = str(Path(folder).resolve())

    def answer_all(
        self, prompts: Sequence[Sequence[Mapping[str, str]]], max_tokens: int
    ) -> list[str]:
        """The model's answers."""
        return self._generator.answer_all(prompts, max_tokens)

    def answer_natively(
        self, question: str, context: str, share: float, style: AnswerStyle
    ) -> tuple[str, float]:
        """The answer from the kept keys and values of a share of the context's tokens.

        Native inference of EHPC (arXiv 2501.12959). Departures: the tokens are chosen from a prompt
        of the context and the question alone; keys and values stay as they were read, where the
        paper's early exit reads the chosen tokens anew.

        Returns:
            The answer, and the share of the context's tokens that stayed.
        """
        if self._chooser is None:
            self._chooser = registry.build_method("ehpc", proxy=self._model, form="token")
        counted = self._chooser.reader.layout.tokenizer.count(context)
        spans = self._chooser.tokens(question, context, max(1, round(share * counted)))
        messages = chat_messages(question, context, style.system)
        return self._generator.answer_from_kept(messages, context, spans, style.max_tokens)


def load_reader(source: str, model: str, api_key: str | None) -> AnswerReader:
    """The reader at a URL, in a folder, or with a name of the zoo.

    Args:
        model, api_key: for a server only.
    """
    if source.startswith(("http://", "https://")):
        return ServerReader(source, model, api_key)
    return LocalReader(source)


class ContextReliance:
    """Whether a proxy answers questions with their context and not without (Sentinel, §3).

    One document: exact match with it, and none without. Several: an F1 of .5, and at most .2.
    Departure: the proxy is asked by the prompt for answers in a few words.
    """

    def __init__(self, proxy: Proxy, cache: Path) -> None:
        """Opens what was answered before.

        Raises:
            BadInput: the proxy does not know ChatML.
        """
        self._reader = LocalReader(proxy.card.name)
        cache.mkdir(parents=True, exist_ok=True)
        path = cache / f"answers.{Path(proxy.card.name).name}.jsonl"
        settings = {"model": proxy.card.name, "revision": proxy.card.revision}
        self._kept = ResultFile(path, settings, "key", "--cache")
        self._found = {row["key"]: bool(row["relies"]) for row in self._kept.rows()}

    def __call__(self, records: Sequence[Record]) -> list[bool]:
        """Whether each of some questions relies on its context.

        Their answers grow together; what is answered wrongly with its context is not asked without.
        """
        fresh = {_digest(r): r for r in records if is_usable(r)}
        fresh = {key: record for key, record in fresh.items() if key not in self._found}
        given = self._answer(fresh, with_context=True)
        right = {key: fresh[key] for key, text in given.items() if _score(text, fresh[key])[0]}
        without = self._answer(right, with_context=False)
        for key, text in given.items():
            relies = key in right and not _score(without[key], right[key])[1]
            row = {"key": key, "given": text, "without": without.get(key), "relies": relies}
            self._kept.append(row)
            self._found[key] = relies
        return [is_usable(record) and self._found[_digest(record)] for record in records]

    def _answer(self, records: Mapping[str, Record], with_context: bool) -> dict[str, str]:
        """An answer to each question, by its key."""
        prompts = []
        for record in records.values():
            context = "\n\n".join(doc["text"] for doc in record["docs"]) if with_context else ""
            prompts.append(chat_messages(record["question"], context))
        return dict(zip(records, self._reader.answer_all(prompts, _RELIANCE_TOKENS), strict=True))


def _score(answer: str, record: Record) -> tuple[bool, bool]:
    """Whether an answer is right, and whether it is too near to be a mere miss."""
    if len(record["docs"]) == 1:
        is_right = exact_match(answer, record["answers"]) == 1.0
        return is_right, is_right
    score = f1(answer, record["answers"])
    return score >= 0.5, score > 0.2
