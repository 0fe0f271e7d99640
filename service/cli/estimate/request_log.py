"""The requests of a log, recognised by their shapes, and their prompts in parts that repeat."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Literal, TypeGuard

from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.files.streams import open_unpacked, read_lines
from tamis.service.http.conversation.billing import MESSAGE_TOKENS, texts_in
from tamis.service.http.conversation.providers import without_breakpoints
from tamis.service.http.conversation.texts import message_texts
from tamis.service.http.schemas.json import loads

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
