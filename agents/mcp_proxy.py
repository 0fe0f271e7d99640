"""`tamis mcp --wrap`: an MCP server with another behind it, whose long results come shorter.

    agent ─ line ─► Wrapped.from_client ─ the same line ─► server
    agent ◄─ line ─ Wrapped.from_server ◄─ line ─ server

It works on messages of JSON-RPC: what it does not change passes as it came, byte for byte, whatever
it is (capabilities, notifications, progress, pictures, requests of the server, broken JSON). It
changes `tools/list`, to which it adds a tool, and results of `tools/call`. Where one cannot be
shortened, it passes whole.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.types import Omission, ToolOutput, shows_source
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.extras import needing
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.result_texts import replace_texts, result_texts
from tamis.service.agents.shortening import Shortening, token_limits
from tamis_agents.after import is_text_block
from tamis_agents.tools import NEEDS_MCP, AgentTools

logger = logging.getLogger("tamis")
Message = dict[str, Any]
OMITTED = "tamis/omitted"
"""In `_meta` of a result whose structured content was shortened: the id of all of it."""
_RETRIEVE = ("retrieve", "tamis_retrieve")
_ID = re.compile("[0-9a-f]{24}")
_QUESTIONS = ("question", "query", "prompt", "q", "search", "goal", "task")
_MODERN = "io.modelcontextprotocol/protocolVersion"
_CHUNK, _CONNECT_S = 1 << 16, 30.0


@dataclass(frozen=True, slots=True)
class _Call:
    """A request of the client that its answer is needed with."""

    method: str
    name: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    is_first_page: bool = True

    @property
    def gives_back(self) -> bool:
        """Whether it asks another tamis for what that left out."""
        return self.name in _RETRIEVE and bool(_ID.fullmatch(str(self.arguments.get("id"))))


@dataclass(slots=True)
class Wrapped:
    """What passes between a client and the server behind; threads may share it.

    Attributes:
        shortening: how results are shortened; `max_tokens` of all texts of one together, and of its
            structured content.
        tools: keeps what was left out.
        retrieve: the name that the added tool was last listed under; None before.
        listed: the server's tools, by name.
    """

    shortening: Shortening
    tools: AgentTools = field(default_factory=AgentTools)
    retrieve: str | None = None
    listed: dict[str, Message] = field(default_factory=dict)
    _calls: dict[str, _Call] = field(default_factory=dict)
    _tasks: dict[str, _Call] = field(default_factory=dict)

    def from_client(self, line: bytes) -> tuple[bytes, list[bytes]]:
        """The line for the server, maybe empty, and lines that are answered here."""
        found = _parse(line)
        messages = found if isinstance(found, list) else [found]
        try:
            answers = [self._answer(one) if isinstance(one, dict) else None for one in messages]
            own = [_line(answer) for answer in answers if answer is not None]
            left = [m for m, answer in zip(messages, answers, strict=True) if answer is None]
            return (line, []) if not own else (_line(left) if left else b"", own)
        except Exception as error:  # whatever is wrong with it, the server says so
            logger.warning("a message passes as it is: %s", error)
            return line, []

    def needs_work(self, line: bytes) -> bool:
        """Whether a line of the server may take time: it is long enough to be shortened."""
        return len(line) > (self.shortening.max_tokens or 0) and bool(self._calls)

    def from_server(self, line: bytes) -> bytes:
        """The line for the client."""
        found = _parse(line)
        messages = found if isinstance(found, list) else [found]
        try:
            changed = [self._changed(one) if isinstance(one, dict) else one for one in messages]
            if all(new is old for new, old in zip(changed, messages, strict=True)):
                return line
            return _line(changed if isinstance(found, list) else changed[0])
        except Exception as error:  # whatever is wrong with it, the agent gets its result
            logger.warning("a result passes as it is: %s", error)
            return line

    def _answer(self, message: Message) -> Message | None:
        """The answer to a call of the added tool; notes other requests, whose answers will come."""
        method, params = message.get("method"), message.get("params")
        params = params if isinstance(params, dict) else {}
        if method == "notifications/cancelled":
            self._calls.pop(json.dumps(params.get("requestId")), None)
        if "id" not in message or not isinstance(method, str):
            return None
        key = json.dumps(message["id"])
        if method == "tools/list":
            self._calls[key] = _Call(method, is_first_page=params.get("cursor") is None)
        elif method == "tasks/result" and (
            task := self._tasks.pop(str(params.get("taskId")), None)
        ):
            self._calls[key] = task
        elif method == "tools/call":
            name, given = str(params.get("name")), params.get("arguments")
            arguments = given if isinstance(given, dict) else {}
            if name == self.retrieve:
                found = self._retrieved(arguments)
                if _MODERN in (params.get("_meta") or {}):
                    found["resultType"] = "complete"
                return {"jsonrpc": "2.0", "id": message["id"], "result": found}
            self._calls[key] = _Call(method, name, arguments)
        return None

    def _retrieved(self, arguments: Mapping[str, Any]) -> Message:
        """The result of the added tool."""
        try:
            known = {"id", "lines", "question"}
            if "id" not in arguments or not known.issuperset(arguments):
                raise BadInput("give id, and maybe lines or question")
            if not all(isinstance(value, str) for value in arguments.values()):
                raise BadInput("id, lines and question are texts")
            text, is_error = self.tools.retrieve(**arguments), False
        except Exception as error:
            text, is_error = str(error), True
        return {"content": [{"type": "text", "text": text}], "isError": is_error}

    def _changed(self, message: Message) -> Message:
        """The message for the client; itself where nothing is changed."""
        if "method" in message or "id" not in message:
            return message
        call = self._calls.pop(json.dumps(message["id"]), None)
        result = message.get("result")
        if call is None or not isinstance(result, dict):
            return message
        changed = self._listed(call, result) if call.method == "tools/list" else None
        if call.method == "tools/call":
            if isinstance(task := result.get("task"), dict):
                self._tasks[str(task.get("taskId"))] = call
            elif not result.get("isError") and not call.gives_back:
                changed = self._shortened(call, result)
        return message if changed is None else message | {"result": changed}

    def _listed(self, call: _Call, result: Message) -> Message | None:
        """The list with the added tool on its last page; None where it is no list."""
        listed = result.get("tools")
        if not isinstance(listed, list):
            return None
        if call.is_first_page:
            self.listed.clear()
        self.listed |= {str(tool.get("name")): tool for tool in listed if isinstance(tool, dict)}
        if result.get("nextCursor") is not None:
            return None
        names = [*_RETRIEVE, *(f"{_RETRIEVE[-1]}_{i}" for i in range(len(self.listed)))]
        self.retrieve = next(name for name in names if name not in self.listed)
        return result | {"tools": [*listed, _retrieve_tool(self.retrieve)]}

    def _shortened(self, call: _Call, result: Message) -> Message | None:
        """The result with shorter texts and structured content; None where it is short enough."""
        new, content = dict(result), result.get("content")
        if isinstance(content, list):
            new["content"] = [dict(one) if is_text_block(one) else one for one in content]
            blocks = [one for one in new["content"] if is_text_block(one)]
            short_texts = self._texts(call, [block["text"] for block in blocks])
            for block, text in zip(blocks, short_texts, strict=True):
                block["text"] = text
        structured = result.get("structuredContent")
        if isinstance(structured, dict) and call.name in self.listed:
            whole = json.dumps(structured, ensure_ascii=False)
            short = self._structure(call, structured, whole)
            if short is not None:
                new["structuredContent"], key = short, self.tools.keep(whole)
                new["_meta"] = (result.get("_meta") or {}) | {OMITTED: key}
                if new.get("content") == content:  # nothing says yet that there is more
                    note = f"[… parts of the structured content omitted; id {key}]"
                    new["content"] = [*(content or ()), {"type": "text", "text": note}]
        return None if new == result else new

    def _texts(self, call: _Call, texts: Sequence[str]) -> list[str]:
        """Texts with as many tokens together as are kept, each with its own omissions."""
        counts = estimating_tokenizer().count_many(list(texts))
        limits, most = token_limits(counts, self.shortening), self.shortening.max_tokens
        if most is None or sum(counts) <= most:
            return list(texts)
        return [
            text if limit >= count else self._short(call, text, limit, set())
            for text, count, limit in zip(texts, counts, limits, strict=True)
        ]

    def _short(self, call: _Call, text: str, limit: int, markers: set[str]) -> str:
        """A text of at most so many tokens; whole where nothing of it would be left.

        Args:
            markers: gets the texts of omissions.
        """
        key = self.tools.keep(text)

        def marker(omission: Omission) -> str:
            shown = default_marker(omission, key)
            markers.add(shown)
            return shown

        arguments = json.dumps(call.arguments, ensure_ascii=False)
        asked = (call.arguments.get(name) for name in _QUESTIONS)
        question = next((one for one in asked if isinstance(one, str) and one.strip()), None)
        how = replace(self.shortening, max_tokens=max(1, limit), ratio=None, min_tokens=0)
        [found] = how.compress([ToolOutput(text, call.name, arguments)], question, marker)
        return found.text if shows_source(found, text) else text

    def _structure(self, call: _Call, value: Message, whole: str) -> Message | None:
        """Structured content that fits and is valid against the tool's schema; None for as it is.

        Tried in turn: long texts in it shortened; then elements and members left out, with markers
        in their places, or without where the schema allows no text there.
        """
        most, count = self.shortening.max_tokens, estimating_tokenizer().count
        if most is None or count(whole) <= most:
            return None
        holder = {"value": deepcopy(value)}
        leaves = result_texts(holder)
        replace_texts(leaves, self._texts(call, [leaf.text for leaf in leaves]))
        tried, text = [holder["value"]], json.dumps(holder["value"], ensure_ascii=False)
        if count(text) > most:
            markers = set[str]()
            short = json.loads(self._short(call, text, most, markers))
            tried = [short, _without(short, markers), *tried]
        is_valid = _validator(self.listed[call.name].get("outputSchema"))
        fitting = (one for one in tried if isinstance(one, dict) and is_valid(one))
        return next((one for one in fitting if len(_line(one)) < len(_line(value))), None)


def _parse(line: bytes) -> Any:
    """What a line says; None for what is no JSON."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def _without(value: Any, markers: set[str]) -> Any:
    """JSON without elements and members that are markers."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if one not in tuple(markers)}
        return {name: _without(one, markers) for name, one in kept.items()}
    if isinstance(value, list):
        return [_without(one, markers) for one in value if one not in tuple(markers)]
    return value


def _validator(schema: Any) -> Callable[[Any], bool]:
    """Whether a value is valid; without a schema, anything is. References go nowhere outside."""
    if not isinstance(schema, dict):
        return lambda value: True
    from jsonschema.validators import Draft202012Validator, validator_for
    from referencing import Registry

    kind: Any = validator_for(schema, default=Draft202012Validator)
    found = kind(schema, registry=Registry())
    return lambda value: bool(found.is_valid(value))


def _retrieve_tool(name: str) -> Message:
    hints = get_type_hints(AgentTools.retrieve, include_extras=True)
    texts = {key: hints[key].__metadata__[0].description for key in ("id", "lines", "question")}
    fields = {key: {"type": "string", "description": text} for key, text in texts.items()}
    return {
        "name": name,
        "description": "Give back what a marker such as [… lines 12-47 omitted; id …] says was "
        "left out of a result: all of it, some lines, or what is asked for.",
        "inputSchema": {"type": "object", "properties": fields, "required": ["id"]},
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
    }


class _Output:
    """Lines for the client, whole ones at a time. Those that take work are made in a thread."""

    def __init__(self, wrapped: Wrapped) -> None:
        self._wrapped, self._lock = wrapped, threading.Lock()
        self._file = sys.stdout.fileno()
        self._workers = ThreadPoolExecutor(2, "tamis-shorten")

    def write(self, line: bytes) -> None:
        with self._lock, suppress(BrokenPipeError):  # the client is gone, as its input tells
            _write_all(self._file, line)

    def show(self, line: bytes) -> None:
        """Writes a line of the server; a long one does not hold up those behind it."""
        if self._wrapped.needs_work(line):
            self._workers.submit(lambda: self.write(self._wrapped.from_server(line)))
        else:
            self.write(self._wrapped.from_server(line))

    def close(self) -> None:
        """Waits for the lines that are being made."""
        self._workers.shutdown()


def _lines(file: int) -> Iterator[bytes]:
    """The lines of a file descriptor, with their ends; the last one may have none."""
    with open(file, "rb", _CHUNK, closefd=False) as stream:
        yield from stream


def wrap_command(command: str, wrapped: Wrapped) -> int:
    """Serves a command's server over standard input and output. Its exit code.

    Raises:
        BadInput: the command cannot be started.
    """
    try:
        words = shlex.split(command)
        server = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    except (OSError, ValueError, IndexError) as error:
        raise BadInput(f"{command!r:.200} cannot be started ({error}); give a command") from error
    to_server, from_server = server.stdin, server.stdout
    assert to_server is not None
    assert from_server is not None
    output = _Output(wrapped)

    def read_client() -> None:
        with suppress(OSError):  # the server is gone, which its exit code tells
            for line in _lines(sys.stdin.fileno()):
                passed, answers = wrapped.from_client(line)
                for answer in answers:
                    output.write(answer)
                _write_all(to_server.fileno(), passed)
            to_server.close()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: server.send_signal(number))
    threading.Thread(target=read_client, daemon=True).start()
    for line in _lines(from_server.fileno()):
        output.show(line)
    output.close()
    code = server.wait()
    return code if code >= 0 else 128 - code


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def wrap_url(url: str, headers: Mapping[str, str], wrapped: Wrapped) -> None:
    """Serves a server over streamable HTTP to standard input and output, until the input ends.

    Args:
        headers: for every request, such as a key.

    Raises:
        MissingExtra: the SDK of the protocol is not installed.
        TamisError: the connection breaks off in the middle of an answer.
    """
    with needing(NEEDS_MCP):
        import mcp.client.streamable_http  # noqa: F401
    remote = _RemoteServer(url, wrapped, _Output(wrapped))
    try:
        asyncio.run(remote.serve(headers))
    except ExceptionGroup as group:  # of the transport's tasks
        raise TamisError(f"the connection to {url} broke off: {group.exceptions[0]}") from group


@dataclass(slots=True)
class _RemoteServer:
    """A server over streamable HTTP, by the transport of the official SDK.

    Attributes:
        version: of the protocol, once a handshake has agreed on it.
    """

    url: str
    wrapped: Wrapped
    output: _Output
    version: str = ""

    async def serve(self, headers: Mapping[str, str]) -> None:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        lines = _lines_of_client(asyncio.get_running_loop())
        timeout = httpx2.Timeout(_CONNECT_S, read=None)

        class Transport(httpx2.AsyncHTTPTransport):
            """Has an error of its own for each request that does not reach the server."""

            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                try:
                    return await super().handle_async_request(request)
                except httpx2.TransportError as error:
                    why = f"the server cannot be reached ({type(error).__name__})"
                    return httpx2.Response(503, json=_fault(-32000, why))

        async with (
            httpx2.AsyncClient(
                headers=dict(headers), timeout=timeout, transport=Transport()
            ) as http,
            streamable_http_client(self.url, http_client=http, max_sse_event_size=None) as (
                found,
                to,
            ),
        ):
            reading = asyncio.create_task(self._read(found))
            while (line := await lines.get()) is not None:
                await self._send(line, to)
            reading.cancel()
        self.output.close()

    async def _send(self, line: bytes, to: Any) -> None:
        from mcp.shared.message import ClientMessageMetadata, SessionMessage
        from mcp.types import jsonrpc_message_adapter

        passed, answers = self.wrapped.from_client(line)
        for answer in answers:
            self.output.write(answer)
        if not passed.strip():
            return
        try:
            message = jsonrpc_message_adapter.validate_json(passed, by_name=False)
            headers = _headers(json.loads(passed), self.version, self.wrapped.listed)
        except ValueError as error:
            self.output.write(_line(_fault(-32700, f"no message of JSON-RPC: {error}"[:300])))
        else:
            await to.send(SessionMessage(message, ClientMessageMetadata(headers=headers)))

    async def _read(self, found: Any) -> None:
        async for item in found:
            if isinstance(item, Exception):
                logger.warning("%s sent what is no message: %s", self.url, item)
                continue
            message = item.message.model_dump(mode="json", by_alias=True, exclude_unset=True)
            result = message.get("result")
            if isinstance(result, dict) and isinstance(result.get("protocolVersion"), str):
                self.version = result["protocolVersion"]
            await asyncio.to_thread(self.output.show, _line(message))


def _fault(code: int, why: str) -> Message:
    """An error that answers no known request."""
    return {"jsonrpc": "2.0", "id": None, "error": {"code": code, "message": why}}


def _lines_of_client(loop: asyncio.AbstractEventLoop) -> asyncio.Queue[bytes | None]:
    """The lines of standard input as they come, and None at its end."""
    lines = asyncio.Queue[bytes | None]()

    def read() -> None:
        for line in _lines(sys.stdin.fileno()):
            loop.call_soon_threadsafe(lines.put_nowait, line)
        loop.call_soon_threadsafe(lines.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _headers(message: Message, version: str, listed: Mapping[str, Message]) -> dict[str, str]:
    """The headers that a message has over HTTP beside its body, by the version it was agreed on.

    Args:
        version: of the handshake; messages of newer versions have their own.
        listed: the tools, which say what of their arguments stands in headers.
    """
    from mcp.shared import inbound

    method, params = str(message.get("method")), message.get("params") or {}
    modern = (params.get("_meta") or {}).get(_MODERN)
    if modern is None:
        return {inbound.MCP_PROTOCOL_VERSION_HEADER: version} if version else {}
    headers = {inbound.MCP_PROTOCOL_VERSION_HEADER: str(modern), inbound.MCP_METHOD_HEADER: method}
    if isinstance(name := params.get(inbound.NAME_BEARING_METHODS.get(method, "")), str):
        headers[inbound.MCP_NAME_HEADER] = inbound.encode_header_value(name)
        if method == "tools/call" and name in listed:
            shown = inbound.x_mcp_header_map(listed[name].get("inputSchema"))
            headers |= inbound.mcp_param_headers(shown, params.get("arguments") or {})
    return headers
