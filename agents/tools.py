"""What `tamis mcp` offers to an agent: functions with tamis's own errors, and their server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import wraps
from importlib.metadata import version
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from pydantic import Field, ValidationError

from tamis.compressors.registry import DEFAULT, method_info
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.extras import needing
from tamis.probes.lru import LruCache
from tamis.service.agents.shortening import Shortening
from tamis.service.agents.store import OutputStore, some_lines
from tamis.service.api.arguments import suggest_name
from tamis.text.types import content_id, to_bytes

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

P = ParamSpec("P")
R = TypeVar("R")
_INSTRUCTIONS = (
    "tamis shortens long texts to what answers a question, verbatim. Markers say what was left "
    "out; retrieve gives it back by the id that they name."
)
NEEDS_MCP = "{name} is not installed: pip install 'mcp>=2'"
STORE_CHARS = 1 << 26
_MAX_FILE_BYTES = 1 << 25
_MAX_PATHS = 256
_SHOWN_OF_HITS = ("id", "document", "title", "start", "end", "score", "text")
_EXPECTED = {
    "string": "a text",
    "list": "a list of texts",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "greater_than_equal": "at least {ge:g}",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "at most {le:g}",
}
"""What an argument has to be, by pydantic's types of errors, or how these begin."""


Question = Annotated[str, Field(description="What you want to know, as a full question.")]
Documents = Annotated[list[str], Field(description="The texts.")]
Paths = Annotated[list[str], Field(description="Text files below the server's folder.")]
MaxTokens = Annotated[int, Field(ge=1, description="The most tokens to keep of all.")]
Limit = Annotated[int | None, Field(ge=1, description="The most tokens to keep.")]
Ratio = Annotated[float | None, Field(gt=0, le=1, description="The share to keep; .4 by default.")]
TopN = Annotated[int | None, Field(ge=1, description="How many; all by default.")]
K = Annotated[int, Field(ge=1, le=100, description="How many passages.")]


@dataclass(slots=True)
class AgentTools:
    """Compression, ranking, search, and what was left out.

    A tool's signature and docstring are what an agent is told of it.

    Attributes:
        method: scores sentences and documents. proxy: the model that it reads with.
        quality: `standard` or `fast`, as for `tamis.compress`.
        index: the folder of an index to search, if any.
        folder: files below it may be named instead of giving their text; None: no files.
    """

    method: str = DEFAULT
    proxy: str = "auto"
    index: Path | None = None
    folder: Path | None = None
    quality: str = "standard"
    _originals: LruCache[str] = field(default_factory=lambda: LruCache(STORE_CHARS))
    _pool: Any = None

    def compress(
        self,
        question: Question,
        documents: Documents | None = None,
        paths: Paths | None = None,
        max_tokens: MaxTokens = 500,
    ) -> str:
        """Keep the sentences of documents or files that answer a question, verbatim."""
        # each document that keeps something begins with its number or path, and an id for
        # `retrieve` where sentences were left out
        from tamis.compressors.pipeline.compression import per_passage
        from tamis.compressors.rules import DEFAULT_RULES
        from tamis.service.api.compress import compress, counter_of

        documents, paths = documents or [], paths or []
        if len(paths) > _MAX_PATHS:
            raise BadInput(f"{len(paths)} paths; give at most {_MAX_PATHS}, or search an index")
        names = [f"document {i}" for i in range(len(documents))] + paths
        texts = [*documents, *(self._read_page(path) for path in paths)]
        _check_documents(texts)
        tokenizer = "proxy" if method_info(self.method).needs_proxy else "estimate"
        result = compress(
            question,
            texts,
            max_tokens=max_tokens,
            method=self.method,
            proxy=self.proxy,
            quality=self.quality,
            tokenizer=tokenizer,
        )
        parts = [
            f"[{names[part.index]}{self._omission_note(texts[part.index], part.text)}]\n{part.text}"
            for part in per_passage(result, DEFAULT_RULES, counter_of("estimate"))
            if part.text
        ]
        return "\n\n".join(parts) or "[nothing in these documents answers the question]"

    def shorten(
        self,
        text: Annotated[str, Field(description="What a command printed.")] = "",
        path: Annotated[str, Field(description="Or a file with it.")] = "",
        question: Annotated[str, Field(description="What you want to know.")] = "",
        command: Annotated[str, Field(description="The command that printed it.")] = "",
        max_tokens: Limit = None,
        ratio: Ratio = None,
        lossless: Annotated[
            bool, Field(description="Leave nothing out; only write shorter. Without a limit.")
        ] = False,
    ) -> str:
        """Shorten logs, diffs, listings or JSON: errors first, whole lines, omissions marked."""
        if bool(text) == bool(path):
            raise BadInput("give text, or path, and not both")
        source = text or _decode(self._read_file(path), path)
        key = self.keep(source)
        [found] = Shortening(max_tokens, ratio, lossless=lossless).compress(
            [ToolOutput(source, command or None)],
            question or None,
            lambda omission: default_marker(omission, key),
        )
        return "\n".join([found.text, *(f"[{warning}]" for warning in found.warnings)])

    def rerank(
        self, question: Question, documents: Documents, top_n: TopN = None
    ) -> list[dict[str, Any]]:
        """Rank documents by how well they answer a question, best first."""
        from tamis.service.api.rerank import rerank

        _check_documents(documents)
        ranked = rerank(
            question,
            documents,
            top_n=top_n,
            method=self.method,
            proxy=self.proxy,
            quality=self.quality,
        )
        return [{"index": one.index, "score": round(one.score, 6)} for one in ranked.results]

    def search(self, question: Question, k: K = 5) -> list[dict[str, Any]]:
        """Find the passages of the index that answer a question."""
        from tamis.service.api.index import IndexPool, open_index

        if self.index is None:
            raise BadInput("there is no index here; start tamis mcp with --index FOLDER")
        if self._pool is None:
            self._pool = IndexPool(open_index(self.index))
        rows = [hit.as_json() for hit in self._pool.search(question, k)]
        shown = [{name: row[name] for name in _SHOWN_OF_HITS} for row in rows]
        return [row | {"score": round(row["score"], 6)} for row in shown]

    def retrieve(
        self,
        id: Annotated[str, Field(description="From a marker, 24 hex digits.")],
        lines: Annotated[str, Field(description="Only these, such as 12-47.")] = "",
        question: Annotated[str, Field(description="Only what this asks for.")] = "",
    ) -> str:
        """Give back what a marker says was left out: all, some lines, or what is asked for."""
        source = self._originals.peek(id.strip())
        if source is None:  # of `tamis run`, `pipe` or `hook`, then
            source = OutputStore().get(id).decode("utf-8", "replace")
        if lines:
            source = some_lines(source, lines)
        return self.shorten(source, question=question) if question else source

    def keep(self, text: str) -> str:
        key = content_id(to_bytes(text))
        self._originals.put(key, len(text), text)
        return key

    def _omission_note(self, text: str, kept: str) -> str:
        return "" if kept.strip() == text.strip() else f", shortened; id {self.keep(text)}"

    def _read_page(self, path: str) -> str:
        """The text of a file below the folder; of HTML, PDF and DOCX what it shows.

        Raises:
            BadInput: as `_read_file`; or it cannot be read so. MissingExtra: a PDF or DOCX, without
                the package for it.
        """
        from tamis.service.files.document_text import read_document

        return read_document(self._read_file(path), path).text

    def _read_file(self, path: str) -> bytes:
        """The content of a file below the folder.

        Raises:
            BadInput: there is no folder, or the path leads out of it; or no file.
        """
        if self.folder is None:
            raise BadInput("files may not be named here; start tamis mcp with --folder DIR")
        if "\0" in path:
            raise BadInput(f"{path!r:.80} is not a path; leave the NUL out")
        root = self.folder.resolve()
        file = (root / path).resolve()
        if not file.is_relative_to(root):
            raise BadInput(f"{path} is not below {root}; name a file that is")
        if not file.is_file() or file.stat().st_size > _MAX_FILE_BYTES:
            raise BadInput(f"{path} is no file of at most {_MAX_FILE_BYTES:,} bytes below {root}")
        try:
            return file.read_bytes()
        except OSError as error:
            raise BadInput(
                f"{path} cannot be read ({error.strerror}); check its permissions"
            ) from error


def _decode(data: bytes, path: str) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} cannot be read as UTF-8 ({error}); name a text file") from error


def _check_documents(texts: Sequence[str]) -> None:
    if not texts:
        raise BadInput("there are no documents; give at least one")


def mcp_server(tools: AgentTools) -> MCPServer[Any]:
    """The MCP server of the tools, by the official SDK; `search` only where there is an index.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    with needing(NEEDS_MCP):
        from mcp.server.mcpserver import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp.types import ToolAnnotations
    read_only = ToolAnnotations(read_only_hint=True, open_world_hint=False)
    known: dict[str, tuple[str, ...]] = {}

    class Server(MCPServer[Any]):
        """The SDK's server, which passes over arguments that a tool does not have.

        Of those that are wrong it prints what pydantic says.
        """

        async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
            names = known.get(name, tuple(arguments))
            if unknown := next((given for given in arguments if given not in names), None):
                meant = suggest_name(unknown, names, {})
                hint = f"did you mean {meant!r}?" if meant else f"it has {', '.join(names)}"
                raise ToolError(f"{name} has no argument {unknown!r:.80}: {hint}")
            try:
                return await super().call_tool(name, arguments, context)
            except ToolError as error:
                if not isinstance(wrong := error.__cause__, ValidationError):
                    raise
                raise ToolError(f"{name}: {_describe_wrong(wrong.errors())}") from error

    server = Server(
        "tamis", instructions=_INSTRUCTIONS, version=version("tamis"), log_level="WARNING"
    )

    def offer(tool: Callable[P, R], is_text: bool = False) -> None:
        # a text that is also a structured result is paid for twice
        structured = False if is_text else None
        call = _with_tool_errors(tool)
        known[call.__name__] = tuple(signature(tool).parameters)
        server.add_tool(call, annotations=read_only, structured_output=structured)

    offer(tools.compress, is_text=True)
    offer(tools.shorten, is_text=True)
    offer(tools.retrieve, is_text=True)
    offer(tools.rerank)
    if tools.index is not None:
        offer(tools.search)
    return server


def _describe_wrong(errors: Sequence[Any]) -> str:
    """The first argument that is wrong, with what to give, and how many more there are."""
    first, more = errors[0], len(errors) - 1
    field, *places = first["loc"]
    shown = f"{field}{''.join(f'[{place}]' for place in places)}"
    if first["type"] == "missing":
        text = f"there is no {shown}; give it"
    else:
        kind = first["type"] if first["type"] in _EXPECTED else first["type"].split("_")[0]
        expected = _EXPECTED.get(kind, "").format(**first.get("ctx", {}))
        way_out = f"give {expected}" if expected else first["msg"]
        text = f"{shown} is {first['input']!r:.80}; {way_out}"
    return f"{text} (and {more} more)" if more else text


def _with_tool_errors(tool: Callable[P, R]) -> Callable[P, R]:
    """The tool with tamis's own errors as errors that the model reads; others are bugs."""
    from mcp.server.mcpserver.exceptions import ToolError

    @wraps(tool)
    def call(*args: P.args, **given: P.kwargs) -> R:
        try:
            return tool(*args, **given)
        except (TamisError, OSError) as error:
            raise ToolError(str(error)) from error

    return call
