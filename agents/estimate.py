"""What requests of a log cost with and without tamis, by the code that the service runs.

log › units (conversations; a RAG request alone) › a sample, if reading all takes too long ›
shortened prompts › bills of both › totals with their intervals

Requests of a log are recognised by their shapes; their prompts have parts that repeat.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import math
import random
import re
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import IO, Any, Literal, NamedTuple, TypeGuard

import numpy as np
from pydantic import ValidationError

from tamis.compressors.rules import BUDGETS, Budget
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.tokens import TextTokenizer
from tamis.service.batch.job import BatchJob
from tamis.service.batch.rows import InputRow, request_of
from tamis.service.files.streams import open_unpacked, read_lines
from tamis.service.http.conversation.billing import MESSAGE_TOKENS, Prices, texts_in
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.conversation.texts import message_texts
from tamis.service.http.middleware.request_log import RequestLogEntry
from tamis.service.http.routes.compress import SharedDocuments, compress_question
from tamis.service.http.runtime.errors import first_validation_error
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.schemas.compress import CompressRequest
from tamis.service.http.schemas.json import loads
from tamis.service.http.schemas.messages import MessagesConfig
from tamis_agents.gateway.providers import read_turns, without_breakpoints
from tamis_agents.gateway.shortening import ChatOptions, ChatShortener, ChatTurns

JsonObject = dict[str, Any]
Kind = Literal["chat", "agent", "RAG"]
KINDS: tuple[Kind, ...] = ("chat", "agent", "RAG")
_WRAPPERS = ("request", "body")
_QUESTIONS, _DOCUMENTS = ("question", "query", "questions"), ("documents", "contexts", "context")
_OF_RESPONSES = {"instructions", "max_output_tokens", "previous_response_id", "reasoning", "tools"}
"""Tell a Responses body whose `input` is a text from one of embeddings."""
_RESULTS = ('"function_call_output"', '"functionResponse"')
_GZIP = b"\x1f\x8b"
_SHOWN_KEYS = 8


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """A request; by its own shape an agent's if it has results of tools.

    Attributes:
        usage: tokens of the prompt, and of these from the cache, as the provider counted them.
    """

    kind: Kind
    body: JsonObject
    usage: tuple[int, int] | None = None


@dataclass(slots=True)
class RequestLog:
    """A log as it was read.

    Attributes:
        unknown: the places of lines that were passed over, by what they are.
    """

    requests: list[LoggedRequest] = field(default_factory=list)
    unknown: dict[str, list[str]] = field(default_factory=dict)


def read_log(names: Sequence[str]) -> RequestLog:
    """Reads files of JSON Lines, packed or not; `-` is standard input, gzipped or not.

    Raises:
        BadInput: a file cannot be read or is named twice, or there is no request in any.
    """
    log = RequestLog()
    if twice := next((name for place, name in enumerate(names) if name in names[:place]), None):
        raise BadInput(f"{twice} is named twice and its requests would be doubled; once is enough")
    for name in names:
        with _open(name) as stream:
            for number, (_, line) in enumerate(read_lines(stream), 1):
                if line is not None and not line.strip():
                    continue
                found = _parse_line(line or b"")
                if isinstance(found, str):
                    log.unknown.setdefault(found, []).append(f"{name}, line {number:,}")
                else:
                    log.requests.append(found)
    if not log.requests:
        seen = "; ".join(f"{places[0]} is {what}" for what, places in log.unknown.items())
        raise BadInput(
            f"{', '.join(names)} has no request of a known shape: {seen or 'it is empty':.400}. "
            "A line is a request; `tamis estimate --help` lists the shapes"
        )
    return log


def _open(name: str) -> IO[bytes]:
    if "://" in name:
        raise BadInput(f"{name} is an address; give files of this machine, or `-`")
    if name != "-":
        return open_unpacked(name)
    data = sys.stdin.buffer.read()
    try:
        return io.BytesIO(gzip.decompress(data) if data.startswith(_GZIP) else data)
    except (OSError, EOFError, zlib.error) as error:
        raise BadInput(f"standard input is damaged ({error}); send it whole") from error


def _parse_line(line: bytes) -> LoggedRequest | str:
    """The request of a line, or what the line is instead."""
    try:
        body = row = loads(line)
    except ValueError:
        return "no JSON that a service reads"
    while isinstance(body, dict):
        if (kind := _kind_of(body)) is not None:
            return LoggedRequest(kind, body, _usage_in(row))
        inner = [body[name] for name in _WRAPPERS if isinstance(body.get(name), dict)]
        if not inner:
            shown = f"an object with {', '.join(list(body)[:_SHOWN_KEYS]) or 'no keys':.200}"
            blank = [name for name in (*_QUESTIONS, *_DOCUMENTS) if name in body and not body[name]]
            return f"{shown}, of which {', '.join(blank)} is empty" if blank else shown
        body = inner[0]
    return f"JSON of type {type(body).__name__}"


def _kind_of(body: JsonObject) -> Kind | None:
    """The kind of a request by its own shape; None for no known one."""
    if _are_objects(messages := body.get("messages")):
        known = [m if isinstance(m.get("role"), str) else {**m, "role": ""} for m in messages]
        has_results = any(text.call is not None for text in message_texts(known)[0])
        return "agent" if has_results else "chat"
    turns = body.get("contents") or body.get("input")
    if _are_objects(turns) or (isinstance(turns, str) and _OF_RESPONSES & set(body)):
        written = json.dumps(turns)  # quotation marks inside of texts are escaped
        return "agent" if any(mark in written for mark in _RESULTS) else "chat"
    # `top_n` is of a ranking, whose answer is no prompt yet
    is_rag = any(map(body.get, _QUESTIONS)) and any(map(body.get, _DOCUMENTS))
    return "RAG" if is_rag and "top_n" not in body else None


def _are_objects(given: Any) -> TypeGuard[list[JsonObject]]:
    return isinstance(given, list) and bool(given) and all(isinstance(one, dict) for one in given)


def _usage_in(row: JsonObject) -> tuple[int, int] | None:
    """What the provider counted, in the shapes of OpenAI and Anthropic."""
    answer = _object(row, "response")
    given = _object(row, "usage") or _object(answer, "usage")
    given = given or _object(_object(answer, "body"), "usage")
    details = _object(given, "prompt_tokens_details") or _object(given, "input_tokens_details")
    numbers = {k: n for k, n in (given | details).items() if type(n) is int and n > 0}
    read = numbers.get("cache_read_input_tokens", 0)
    # Anthropic's input_tokens are those beside the cache; prompt_tokens are all
    beside = read + numbers.get("cache_creation_input_tokens", 0)
    total = numbers.get("prompt_tokens") or numbers.get("input_tokens", 0) + beside
    return (total, min(total, read or numbers.get("cached_tokens", 0))) if total else None


def _object(given: JsonObject, name: str) -> JsonObject:
    found = given.get(name)
    return found if isinstance(found, dict) else {}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt in parts: tools, system, and a message each.

    Attributes:
        prefixes: a hash of all up to the end of each part; markers of the cache do not count.
        tokens: of each part.
        opening: how many parts there are up to the first that is no system's; requests that have
            these in common are a conversation.
    """

    prefixes: tuple[bytes, ...]
    tokens: tuple[int, ...]
    opening: int = 1

    def shared_parts(self, seen: set[bytes]) -> int:
        """How many of the first parts another prompt began with, too."""
        found = (n for n in range(len(self.prefixes), 0, -1) if self.prefixes[n - 1] in seen)
        return next(found, 0)


class PromptCounter:
    """Counts prompts; a part that many of them have is counted once."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._known: dict[bytes, int] = {}

    def count(self, texts: Iterable[str]) -> int:
        """The tokens of texts together."""
        return sum(self._tokenizer.count_many(list(texts)))

    def prompt(self, body: JsonObject) -> Prompt:
        """The prompt of a chat's body, whatever its dialect."""
        offered = {name: body[name] for name in ("tools", "functions") if body.get(name)}
        parts = [{"model": body.get("model"), **offered}, *_turns(body)]
        tokens, prefixes, running = list[int](), list[bytes](), hashlib.sha256()
        for place, part in enumerate(parts):
            written = json.dumps(without_breakpoints(part), sort_keys=True).encode()
            running.update(written + b"\n")
            prefixes.append(running.digest())
            if (key := hashlib.sha256(written).digest()) not in self._known:
                texts = texts_in(part) if place else [json.dumps(offered)] if offered else []
                self._known[key] = self.count(texts) + MESSAGE_TOKENS * bool(place)
            tokens.append(self._known[key])
        roles = [part.get("role") for part in parts[1:]]
        opening = (n for n, role in enumerate(roles, 2) if role not in ("system", "developer"))
        return Prompt(tuple(prefixes), tuple(tokens), next(opening, len(parts)))


def _turns(body: JsonObject) -> Iterator[JsonObject]:
    """The system's text, then the messages, as `ChatTurns` numbers them."""
    system = body.get("system") or body.get("instructions") or body.get("systemInstruction")
    if system or isinstance(body.get("system"), str | list):
        yield {"role": "system", "content": system}
    given: Any = next((body[n] for n in ("messages", "input", "contents") if body.get(n)), [])
    yield from [{"role": "user", "content": given}] if isinstance(given, str) else given


BY_WORDS = "lexical"
"""The method where the model would take too long."""
LEAST_UNITS = 20
"""A sample has so many of a kind: the interval of fewer says little."""
FIGURES = (
    *("requests", "tokens", "cost", "tokens_after", "cost_after"),
    *("shortened", "passed_on", "dearer", "misses"),
)
_PILOT_SHARE = 0.1
"""The speed is measured on the first requests in this share of the time limit."""
_REQUEST_TOKENS = 100
"""What a request costs beside what is read, in tokens."""
_KEPT_SHARE = 0.12
"""What a passage costs that was read for another question and kept."""
_STEPS, _DRAWS, _SEED = 50, 1000, 0
_SAMPLE = "The quick brown fox jumps over the lazy dog. " * 20
_CLOSED, _MOST_TAGS = re.compile(r"</([A-Za-z_][A-Za-z0-9_.-]{0,63})\s*>"), 8
_LEAST_TOKENS: int = MessagesConfig.model_fields["min_tokens_to_compress"].default
Progress = Callable[[str, int], AbstractContextManager[Callable[..., None]]]
"""Opens a bar for so many of something; what it gives is called for each that is done."""


@dataclass(frozen=True, slots=True)
class Choices:
    """How requests are shortened, and how long that may take here.

    Attributes:
        compresses_cached, tags: as of `serve --upstream`.
        time_limit_s: for reading; then a sample is read.
    """

    budget: Budget
    method: str
    tokenizer: str
    compresses_cached: bool
    tags: RetrievalTags
    time_limit_s: float


class Bill(NamedTuple):
    """The tokens of a prompt, those of them that are cached, in how many parts, and the cost."""

    tokens: int
    cached: int
    shared: int
    cost: float


@dataclass(slots=True)
class Unit:
    """Requests that are sampled together: a conversation, or one RAG request.

    Attributes:
        prompts: as they are; of RAG the question and the documents.
        work: about how many tokens each makes the proxy read that it has not read before.
    """

    kind: Kind
    requests: list[LoggedRequest] = field(default_factory=list)
    prompts: list[Prompt] = field(default_factory=list)
    work: list[int] = field(default_factory=list)


def bills(prompts: Sequence[Prompt], prices: Prices) -> list[Bill]:
    """What each prompt of a conversation costs; what one before it had is read from the cache."""
    seen, found = set[bytes](), []
    new = prices.price if len(prompts) == 1 else prices.write
    for prompt in prompts:
        tokens, shared = sum(prompt.tokens), prompt.shared_parts(seen)
        cached = sum(prompt.tokens[:shared])
        cached = cached if cached >= prices.least else 0
        cost = ((tokens - cached) * new + cached * prices.cached) / 1e6
        found.append(Bill(tokens, cached, shared, cost))
        seen.update(prompt.prefixes)
    return found


class Shortened(NamedTuple):
    """A request's prompt as it would be sent, how long that took, and what went wrong."""

    prompt: Prompt
    seconds: float
    fault: str | None


@dataclass(slots=True)
class Estimate:
    """What was found.

    Attributes:
        rows: the `FIGURES` of each kind of request, and of all, with the 95 % `interval` of
            `cost_after` where that is extrapolated. `passed_on` are requests that are sent as they
            came, `dearer` those that cost more than before, `misses` those that share less with
            the ones before than they did.
        method: that shortened here; another than the one asked for where that takes too long.
        reading_s: of all requests, with the method that was asked for, on this machine.
        units, sampled: conversations and RAG requests, and how many of them were shortened here.
        faults: how many requests something went wrong with, by what it was.
        usage: `requests` that have it, the `scale` from our tokens to the provider's, how far ours
            are `off` (lowest, all, highest), and tokens `cached`, by the provider and by us.
        tags: tokens of texts of users and systems in chats that stand between tags which were not
            named, by the tag.
    """

    rows: list[dict[str, Any]]
    method: str
    reading_s: float
    units: int
    sampled: int
    faults: dict[str, int]
    usage: dict[str, Any] | None
    tags: dict[str, int] = field(default_factory=dict)


class DryRun:
    """Shortens requests in this process as a service would, and keeps what they became."""

    def __init__(self, state: ServiceState, choices: Choices, prices: Prices) -> None:
        self.state, self.choices, self.prices = state, choices, prices
        self.counter = PromptCounter(state.methods.counter(choices.tokenizer))
        self._shortener = ChatShortener(choices.tags)
        self.tags: Counter[str] = Counter()
        self._tagged: dict[str, tuple[str, int]] = {}
        self._known: dict[tuple[int, str], Shortened] = {}
        self._spent: dict[str, tuple[int, float]] = {}

    def speed(self, method: str) -> float:
        """How much work was done in a second so far."""
        work, seconds = self._spent.get(method, (1, 1.0))
        return work / max(seconds, 1e-9)

    def shorten(self, runner: asyncio.Runner, unit: Unit, place: int, method: str) -> Shortened:
        """What becomes of a request; the second time it is looked up."""
        request, prompt, fault = unit.requests[place], unit.prompts[place], None
        if (found := self._known.get((id(request), method))) is not None:
            return found
        began, limit_s = time.perf_counter(), self.state.settings.upstream_compress_s
        try:
            work = self._rag if request.kind == "RAG" else self._chat
            prompt = runner.run(work(request.body, prompt, method))
        except TamisError as error:
            fault = f"sent as it came: {error}"
        except ValueError as error:  # its words may be the caller's
            fault = f"sent as it came, for the service cannot read it ({type(error).__name__})"
        seconds = time.perf_counter() - began
        if fault is not None:
            unit.work[place] = 0  # nobody reads it
        if request.kind != "RAG" and seconds >= limit_s:
            fault = f"took longer than --upstream-compress-s ({limit_s:g} s)"
        done, spent = self._spent.get(method, (0, 0.0))
        self._spent[method] = done + unit.work[place], spent + seconds
        self._known[id(request), method] = Shortened(prompt, seconds, fault)
        return self._known[id(request), method]

    async def warm_up(self, method: str) -> None:
        """Loads what the first request would, before anything is timed."""
        self.state.methods.scorer(method)
        body = {"question": "What?", "documents": [_SAMPLE], "ratio": 0.2, "method": method}
        await self._rag(body, Prompt((), ()), self.choices.method)

    async def _chat(self, body: JsonObject, prompt: Prompt, method: str) -> Prompt:
        options = ChatOptions(
            self.choices.budget.ratio,
            method,
            self.choices.compresses_cached,
            prices=self.prices,
            cache_s=math.inf,  # the log has no times
        )
        sent, entry = json.dumps(body).encode(), RequestLogEntry("estimate", "openai")
        short = await self._shortener.shorten(self.state, sent, options, entry)
        short.note_sent()
        return prompt if short.body is sent else self.counter.prompt(json.loads(short.body))

    async def _rag(self, body: JsonObject, prompt: Prompt, method: str) -> Prompt:
        call, texts = self._compress_request(body).with_extracted_texts(), list[str]()
        if method != self.choices.method:
            call = call.model_copy(update={"method": method})
        for question in call.all_questions():
            asked, entry = call.full_question(question), RequestLogEntry("estimate", "openai")
            limits, shared = self.state.executor.limits(), SharedDocuments()
            given = self.state, call, question, asked, entry, limits, shared
            found = await compress_question(*given)
            whole = found.status == "passthrough"
            texts += [asked, *(call.texts() if whole else [found.text or ""])]
        return replace(prompt, tokens=(self.counter.count(texts),))

    def _compress_request(self, body: JsonObject) -> CompressRequest:
        """A body of `/v1/compress`, with the budget that was chosen if it has none; else a row."""
        budget, more = self.choices.budget, {"tokenizer": self.choices.tokenizer}
        try:
            call = CompressRequest.model_validate(body)
        except ValidationError as error:
            if any({*fault["loc"][:1]} & {*BUDGETS} for fault in error.errors()):
                raise first_validation_error(error.errors())[0] from None  # so would the service
            documents = body.get("documents") or body.get("contexts") or body.get("context")
            row = request_of(InputRow(1, value={**body, "documents": documents}), BatchJob(budget))
            texts = [{"text": one.text, "title": one.title} for one in row.passages]
            call = CompressRequest.model_validate({"question": row.question, "documents": texts})
        if call.adaptive or any(getattr(call, name) is not None for name in BUDGETS):
            return call
        return call.model_copy(update={name: getattr(budget, name) for name in BUDGETS} | more)

    def units(self, requests: Sequence[LoggedRequest], done: Callable[[], None]) -> list[Unit]:
        """Conversations and RAG requests, in the order of their first lines."""
        found, read = dict[bytes, Unit](), set[bytes | str]()
        for place, request in enumerate(requests):
            if request.kind == "RAG":
                asked, texts = self._rag_texts(request.body)
                sizes = {text: self.counter.count([text]) for text in texts}
                tokens = self.counter.count(asked) + len(asked) * sum(map(sizes.__getitem__, texts))
                prompt = Prompt((str(place).encode(),), (tokens,))
                new = sum(size for text, size in sizes.items() if text not in read)
                work = new + round((tokens - new) * _KEPT_SHARE)
                read.update(texts)
            else:
                prompt = self.counter.prompt(request.body)
                work = self._read_chat(request.body, read)
            unit = found.setdefault(prompt.prefixes[prompt.opening - 1], Unit(request.kind))
            unit.requests.append(request)
            unit.prompts.append(prompt)
            unit.work.append(work + _REQUEST_TOKENS)
            unit.kind = "agent" if request.kind == "agent" else unit.kind
            done()
        return list(found.values())

    def _rag_texts(self, body: JsonObject) -> tuple[list[str], list[str]]:
        """Its questions, and its documents' texts."""
        try:
            call = self._compress_request(body).with_extracted_texts()
            return [call.full_question(one) for one in call.all_questions()], call.texts()
        except (TamisError, ValueError):
            return list(texts_in(body)), []

    def _read_chat(self, body: JsonObject, read: set[bytes | str]) -> int:
        """The tokens of messages to shorten that no request before had; notes unnamed tags."""
        try:
            turns = ChatTurns(read_turns(body), self.choices.tags)
        except BadInput:
            return 0
        total = 0
        for place in turns.changeable(self.choices.compresses_cached, []):
            text = "\n".join(texts_in(turns.messages[place]))
            if text not in read:
                read.add(text)
                tokens = self.counter.count([text])
                total += tokens if tokens >= _LEAST_TOKENS else 0
        for text in turns.prompts:
            if text not in self._tagged:
                self._tagged[text] = self._largest_element(text)
            name, tokens = self._tagged[text]
            if tokens >= _LEAST_TOKENS:
                self.tags[name] += tokens
        return total

    def _largest_element(self, text: str) -> tuple[str, int]:
        """The tag that has most of a text, of those that nobody named, and its tokens."""
        names = list(dict.fromkeys(reversed(_CLOSED.findall(text))))  # outer ones end last
        sizes = [("", 0)]
        for name in names[:_MOST_TAGS]:
            found = RetrievalTags([name]).parse(text).stretches
            if name not in self.choices.tags.names:
                sizes.append((name, self.counter.count(text[s.start : s.stop] for s in found)))
        return max(sizes, key=lambda size: size[1])


def estimate(
    requests: Sequence[LoggedRequest],
    state: ServiceState,
    choices: Choices,
    prices: Prices,
    progress: Progress,
) -> Estimate:
    """What a log costs with and without tamis; nothing is sent anywhere.

    Args:
        state: of a service in this process.

    Raises:
        UnknownMethod: there is no such method. UnknownTokenizer: no such tokenizer.
    """
    run, faults = DryRun(state, choices, prices), Counter[str]()
    with progress("counting", len(requests)) as done:
        units = run.units(requests, done)
    wholes, samples = ({kind: list[list[float]]() for kind in KINDS} for _ in range(2))
    for unit in units:
        wholes[unit.kind].append(_sums(bills(unit.prompts, prices)))
    with asyncio.Runner() as runner:
        chosen, method = _choose(run, runner, units)
        with progress("shortening", sum(len(unit.requests) for unit in chosen)) as done:
            for unit in chosen:
                short = list[Shortened]()
                for place in range(len(unit.requests)):
                    short.append(run.shorten(runner, unit, place, method))
                    done()
                faults.update(one.fault for one in short if one.fault)
                after = bills([one.prompt for one in short], prices)
                samples[unit.kind].append(_figures(bills(unit.prompts, prices), after))
    usage = _compare_usage(units, prices)
    rows = rows_of(wholes, samples, usage["scale"] if usage else 1.0)
    reading_s = sum(sum(unit.work) for unit in units) / run.speed(choices.method)
    return Estimate(rows, method, reading_s, len(units), len(chosen), faults, usage, dict(run.tags))


def _sums(of: Sequence[Bill]) -> list[float]:
    return [len(of), sum(bill.tokens for bill in of), sum(bill.cost for bill in of)]


def _figures(before: Sequence[Bill], after: Sequence[Bill]) -> list[float]:
    """All `FIGURES` of a unit."""
    pairs = list(zip(before, after, strict=True))
    return [
        *_sums(before),
        *_sums(after)[1:],
        sum(a.tokens < b.tokens for b, a in pairs),
        sum(a.tokens == b.tokens for b, a in pairs),
        sum(a.cost > b.cost * (1 + 1e-9) for b, a in pairs),
        sum(a.shared < b.shared for b, a in pairs),
    ]


def _choose(run: DryRun, runner: asyncio.Runner, units: Sequence[Unit]) -> tuple[list[Unit], str]:
    """The units that can be shortened in the time limit, and the method that does it."""
    limit_s = run.choices.time_limit_s
    for method in dict.fromkeys((run.choices.method, BY_WORDS)):
        runner.run(run.warm_up(method))
        left_s = limit_s
        for unit in units:
            for place in range(len(unit.requests)):
                if left_s >= (1 - _PILOT_SHARE) * limit_s:
                    left_s -= run.shorten(runner, unit, place, method).seconds
        if (chosen := sample(units, left_s * run.speed(method))) is not None:
            return chosen, method
    return _spread(units, 0), method


def sample(units: Sequence[Unit], most_work: float) -> list[Unit] | None:
    """The largest sample of so much work; None where that has too few units to say anything."""
    samples = (_spread(units, steps) for steps in range(_STEPS, -1, -1))
    return next((s for s in samples if sum(sum(u.work) for u in s) <= most_work), None)


def _spread(units: Sequence[Unit], steps: int) -> list[Unit]:
    """So many `_STEPS`ths of the units of each kind, evenly spread, `LEAST_UNITS` at least."""
    start, chosen = random.Random(_SEED).random(), list[Unit]()
    for kind in KINDS:
        own = [unit for unit in units if unit.kind == kind]
        count = max(-(-steps * len(own) // _STEPS), min(LEAST_UNITS, len(own)))
        chosen += [own[int((start + i) * len(own) / count)] for i in range(count)]
    return chosen


def rows_of(
    wholes: Mapping[Kind, Sequence[Sequence[float]]],
    samples: Mapping[Kind, Sequence[Sequence[float]]],
    scale: float,
) -> list[dict[str, Any]]:
    """A row a kind, and their sum; what a sample saves is taken for a share of the whole.

    The interval is the bootstrap's (percentiles) of the ratio of costs, over units.

    Args:
        wholes: by kind, of each unit the first three `FIGURES`.
        samples: of each unit of the sample all of them.
    """
    rng, rows = np.random.default_rng(_SEED), list[dict[str, Any]]()
    total: Any = 0.0
    for kind in KINDS:
        if not wholes[kind]:
            continue
        whole, found = np.array(wholes[kind]).sum(0), np.array(samples[kind])
        times = np.ones((_DRAWS + 1, len(found)))
        if len(found) < len(wholes[kind]):
            times[1:] = rng.multinomial(len(found), times[0] / len(found), _DRAWS)
        sums = times @ found
        shares = sums[:, 3:5] / np.maximum(sums[:, 1:3], 1e-12)
        counts = sums[:, 5:] / sums[:, :1] * whole[0]
        figures = np.hstack([np.tile(whole, (len(sums), 1)), shares * whole[1:], counts])
        figures[:, 1:5] *= scale
        rows.append(_row(kind, figures))
        total = total + figures
    return [*rows, _row("all", total)]


def _row(kind: str, figures: Any) -> dict[str, Any]:
    """A row of its figures: first as they are, then as each draw of the bootstrap has them."""
    after = figures[1:, FIGURES.index("cost_after")]
    interval = np.percentile(after, (2.5, 97.5)).tolist() if np.ptp(after) else None
    return {
        "kind": kind,
        **dict(zip(FIGURES, figures[0].tolist(), strict=True)),
        "interval": interval,
    }


def _compare_usage(units: Sequence[Unit], prices: Prices) -> dict[str, Any] | None:
    """How far our counts are from those of the provider; None where the log has none."""
    pairs = [
        (bill, request.usage)
        for unit in units
        for bill, request in zip(bills(unit.prompts, prices), unit.requests, strict=True)
        if request.usage is not None and bill.tokens
    ]
    if not pairs:
        return None
    scale = sum(tokens for _, (tokens, _) in pairs) / sum(bill.tokens for bill, _ in pairs)
    off = [bill.tokens / tokens - 1 for bill, (tokens, _) in pairs]
    ours = round(sum(bill.cached for bill, _ in pairs) * scale)
    cached = sum(cached for _, (_, cached) in pairs), ours
    spread = min(off), 1 / scale - 1, max(off)
    return {"requests": len(pairs), "scale": scale, "off": spread, "cached": cached}
