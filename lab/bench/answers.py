"""`tamis lab bench answers`: how well a language model answers from compressed contexts.

Does a language model still answer? Each question with no, the whole, and compressed context.

record ─► contexts: none, full, method at each share and order ─► reader ─► exact match, F1

Answers are kept in a file, one per line, so that an interrupted run can be resumed.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.table import Table

from tamis.compressors import registry
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY
from tamis.compressors.rules import PLAIN_ORDERS, Rules
from tamis.probes.errors import BadInput, BudgetTooSmall, MissingExtra
from tamis.probes.hub import zoo
from tamis.probes.kv_cache.cache import PassageCache
from tamis.service.api.compress import compress
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.study import Study, estimate, table
from tamis_lab.datasets.records import (
    Record,
    add_distractors,
    are_single_passages,
    load_records,
    passages_of,
    record_id,
)
from tamis_lab.datasets.result_file import ResultRow
from tamis_lab.datasets.statistics import paired_interval
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart

_CACHE_BYTES = 1 << 28
_WEAK_F1 = 50
"""F1, in per cent, below which a reader fails more often than not with the whole context."""
EPILOG = """
**Examples**

`tamis lab bench answers records.jsonl.gz --reader smollm2-135m --limit 50`

`tamis lab bench answers records.jsonl.gz --keep 0.5 --orders original,score,edges,attnrank`

`tamis lab bench answers records.jsonl.gz --reader http://localhost:8000/v1 --reader-model my-llm
--keep 0.1,0.3 --plot answers.png`

A record is a line `{"id", "question", "answers": ["..."], "docs": [{"title", "text", "sents",
"gold"}]}`. The reader is any OpenAI-compatible server, a model folder, or a model of the zoo, which
is a weak reader: its figures say so. A run that was cut short goes on.
"""


@report_errors()
def answers(
    records: shared.Records,
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
    method: Annotated[str, typer.Option(help="How contexts are compressed.")] = DEFAULT,
    keep: Annotated[str, typer.Option(help="Shares of the tokens, with commas.")] = "0.1,0.2,0.5",
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
    limit: shared.Limit = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Of an answer.")] = 32,
    results: Annotated[
        Path,
        typer.Option("--results", "--answers", help="Answers; a run that was cut short goes on."),
    ] = Path("answers.jsonl"),
    plot: shared.Plot = None,
    as_json: shared.Json = False,
) -> None:
    """Exact match and F1 of a reader with the whole context, a compressed one, and none."""
    study = Study(as_json, plot, results)
    shares = tuple(shared.parse_shares(keep, "--keep"))
    settings = AnswerSettings(method, shares, max_tokens, _parse_orders(orders), native)
    rows = usable_records(load_records(records), limit)
    answerer = load_reader(reader, reader_model, api_key)
    if native and not isinstance(answerer, LocalReader):
        raise BadInput("--native is of a reader in this process; give a folder or a zoo name")
    study.keep_rows({"reader": answerer.identity, "max_tokens": max_tokens})
    build = _record_compressor(method)
    with study.bars():
        found = answer_figures(answer_records(rows, build, answerer, settings, study))
    study.publish(
        {"reader": answerer.identity, "method": method, "conditions": found},
        lambda: [_table(found, answerer.identity), reader_strength(found)],
        lambda: [_chart(found, answerer.identity)],
    )


def _table(found: Mapping[str, Any], reader: str) -> Table:
    return table(
        f"{found['full']['questions']} questions, reader {reader}",
        ("context", "tokens", "exact match", "F1", "F1 less the whole context's"),
        (
            [
                name,
                f"{100 * row['share_of_tokens']:.0f} %",
                f"{100 * row['exact_match']:.1f}",
                f"{100 * row['f1']:.1f}",
                estimate(row["f1_less_full"]),
            ]
            for name, row in found.items()
        ),
    )


def _chart(found: Mapping[str, Any], reader: str) -> Chart:
    """F1 and exact match against the share kept, from no context to the whole one."""
    plain = [row for name, row in found.items() if name.count(" ") <= 1 and NATIVE not in name]
    rows = sorted(plain, key=lambda row: float(row["share_of_tokens"]))
    shares = [row["share_of_tokens"] for row in rows]
    lines = {"F1": "f1", "exact match": "exact_match"}
    return Chart(
        f"{found['full']['questions']} questions, reader {reader.rsplit('/', 1)[-1]}",
        {label: (shares, [row[name] for row in rows]) for label, name in lines.items()},
        "share of tokens kept",
        "of the reader's answers",
    )


def answer_records(
    records: Sequence[Record],
    build_context: ContextBuilder,
    reader: AnswerReader,
    settings: AnswerSettings,
    study: Study,
) -> list[ResultRow]:
    """Queries the reader with every record under every condition; a row for each.

    A row is kept by the record with its question and text, and by the condition.
    """

    def answer(case: tuple[Record, ContextCondition]) -> ResultRow:
        record, condition = case
        context, tokens, tokens_in = _condition_context(record, condition, build_context)
        messages, truths = chat_messages(record["question"], context), record["answers"]
        if condition.name.startswith(NATIVE) and isinstance(reader, LocalReader):
            text, share = reader.answer_natively(
                record["question"], context, condition.share, settings.max_tokens
            )
        else:
            text, share = reader.answer(messages, settings.max_tokens), tokens / tokens_in
        return {
            "id": record_id(record),
            "condition": condition.name,
            "answer": text,
            "exact_match": exact_match(text, truths),
            "f1": f1(text, truths),
            "share": share,
        }

    cases = {
        f"{record_id(record)}/{_digest(record)}/{condition.name}": (record, condition)
        for record in records
        for condition in settings.conditions()
    }
    return study.rows("answers", cases, answer)


def _digest(record: Record) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()[:12]


def _condition_figures(rows: Sequence[Mapping[str, Any]], full: Sequence[float]) -> dict[str, Any]:
    n = len(rows)
    return {
        "questions": n,
        "exact_match": sum(row["exact_match"] for row in rows) / n,
        "f1": sum(row["f1"] for row in rows) / n,
        "share_of_tokens": sum(row["share"] for row in rows) / n,
        "f1_less_full": paired_interval([row["f1"] for row in rows], full, [1.0] * n),
    }


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


def _record_compressor(method: str) -> Any:
    """A function that compresses a record as a caller would: with titles, in the proxy's tokens.

    It returns the text, its tokens, and those of the whole context.
    """

    cache = PassageCache(max_bytes=_CACHE_BYTES)  # each record is compressed once per condition

    def compress_record(
        record: Mapping[str, Any], share: float, order: str = "original"
    ) -> tuple[str, int, int]:
        passages, rules = passages_of(dict(record)), Rules(titles=True, order=order)
        try:
            found = compress(
                record["question"],
                passages,
                ratio=share,
                method=method,
                rules=rules,
                cache=cache,
            )
        except BudgetTooSmall:
            return "", 0, 1
        return found.text, found.tokens_out, found.tokens_in

    return compress_record


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


ORIGINAL = "original"
NATIVE = "native"
SYSTEM = (
    "Answer the question in as few words as possible. Use the context if there is one. "
    "Give the answer alone, no sentence around it."
)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class AnswerReader(Protocol):
    """A model that answers chat messages; `identity` names it in the keys of kept answers."""

    identity: str

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The next message, of at most `max_tokens`."""
        ...


class ContextBuilder(Protocol):
    """A function that compresses a record's documents to a share of their tokens."""

    def __call__(self, record: Record, share: float, **order: str) -> tuple[str, int, int]:
        """The context, its tokens, and those of all documents; `order` is that of the passages."""
        ...


@dataclass(frozen=True, slots=True)
class ContextCondition:
    """One kind of context for every question.

    Attributes:
        share: of the tokens; 0 for no context at all. order: of the passages in the context.
    """

    name: str
    share: float
    order: str = ORIGINAL


@dataclass(frozen=True, slots=True)
class AnswerSettings:
    """What is compared.

    Attributes:
        method: of compression.
        shares: of the tokens. orders: of the kept passages; every share is tried in every order.
        max_tokens: of an answer.
        native: whether the reader also goes on from kept keys and values, at each share.
    """

    method: str
    shares: tuple[float, ...]
    max_tokens: int = 32
    orders: tuple[str, ...] = (ORIGINAL,)
    native: bool = False

    def conditions(self) -> list[ContextCondition]:
        """`none`, `full`, and the method at each share, in each order."""
        return [
            ContextCondition("none", 0.0),
            ContextCondition("full", 1.0),
            *(
                ContextCondition(f"{self.method} {share:g}{_order_suffix(order)}", share, order)
                for share in self.shares
                for order in self.orders
            ),
            *(
                ContextCondition(f"{NATIVE} {share:g}", share)
                for share in (self.shares if self.native else ())
            ),
        ]


def _order_suffix(order: str) -> str:
    return "" if order == ORIGINAL else f" {order}"


def normalise_answer(answer: str) -> list[str]:
    """Words of an answer as SQuAD compares them: without case, punctuation and articles."""
    plain = _ARTICLES.sub(" ", answer.lower().translate(_PUNCTUATION))
    return plain.split()


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


def chat_messages(question: str, context: str) -> list[dict[str, str]]:
    """The messages of one request; without a context, they hold the question alone."""
    prompt = f"Question: {question}"
    content = f"Context:\n{context}\n\n{prompt}" if context else prompt
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]


def usable_records(records: Sequence[Record], limit: int | None) -> list[Record]:
    """Records with answers to compare with; single passages get distractors.

    Raises:
        BadInput: no record has an answer, or one has answers that are not texts, or no documents.
    """
    for record in records:
        answers = record.get("answers") or []
        if not isinstance(answers, list) or not all(isinstance(text, str) for text in answers):
            name = record_id(record)
            raise BadInput(f"record {name} has the 'answers' {answers!r:.60}; give a list of texts")
        if answers and not any(doc["text"].strip() for doc in record["docs"]):
            raise BadInput(f"record {record_id(record)} has no text in 'docs'; there is no context")
    rows = [r for r in records if r.get("answerable", True) and r.get("answers")]
    if not rows:
        raise BadInput("no record has 'answers' (a list of texts); there is nothing to compare")
    rows = add_distractors(rows) if are_single_passages(rows) else rows
    return rows[:limit]


def _condition_context(
    record: Record, condition: ContextCondition, build_context: ContextBuilder
) -> tuple[str, int, int]:
    if not condition.share:
        return "", 0, 1
    if condition.name.startswith(NATIVE):
        return build_context(record, 1.0)
    order = {} if condition.order == ORIGINAL else {"order": condition.order}
    return build_context(record, condition.share, **order)


def answer_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each condition exact match, F1, tokens kept, and the F1 above the whole context's."""
    by_condition: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_condition.setdefault(row["condition"], []).append(row)
    full = [row["f1"] for row in by_condition["full"]]
    return {name: _condition_figures(own, full) for name, own in by_condition.items()}


_TIMEOUT_S = 120.0


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

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The model's answer."""
        return self._generator.answer(messages, max_tokens)

    def answer_natively(
        self, question: str, context: str, share: float, max_tokens: int
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
        messages = chat_messages(question, context)
        return self._generator.answer_from_kept(messages, context, spans, max_tokens)


def load_reader(source: str, model: str, api_key: str | None) -> AnswerReader:
    """The reader at a URL, in a folder, or with a name of the zoo.

    Args:
        model, api_key: for a server only.
    """
    if source.startswith(("http://", "https://")):
        return ServerReader(source, model, api_key)
    return LocalReader(source)
