"""`/v1/retrieve/{hash}`: a text as it was before `/v1/compress` shortened it, in Headroom's shape.

The text is given back whole, some of its lines, or the lines that answer. `/v1/search` finds
passages of an index that was opened at start-up, `/v1/tools/rank` the tools that a request needs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Annotated, Any

from fastapi import Path, Query, Request, Response

from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.selection.select import merge_spans
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.ask_context import check_reading
from tamis.service.api.rank_tools import ToolDefinition, read_tools
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import (
    check_limits,
    create_router,
    error_responses,
    json_response,
    log_entry,
    run_connected,
    service_state,
)
from tamis.service.http.runtime.originals import Original
from tamis.service.http.schemas.base import MOST_MS, TWO_NAMES
from tamis.service.http.schemas.messages import RetrievedOriginal
from tamis.service.http.schemas.search import (
    RankedToolAnswer,
    RankedToolsAnswer,
    RankToolsRequest,
    SearchAnswer,
    SearchHit,
    SearchRequest,
)
from tamis.text.lines import split_at_line_feeds
from tamis.text.types import ID_DIGITS

routes = create_router()


_Hash = Annotated[str, Path(pattern=f"^[a-f0-9]{{{ID_DIGITS}}}$")]
_Asked = Annotated[str | None, Query(description="Only the lines that have words of it.")]
_OldName = Annotated[str | None, Query(include_in_schema=False)]
_Lines = Annotated[
    str | None, Query(description="Only these lines, such as 12-47.", pattern=r"^[0-9]+(-[0-9]+)?$")
]
_MaxTokens = Annotated[
    int | None,
    Query(ge=1, le=2**31, description="Of the lines that answer question; 1000 if absent."),
]
_Timeout = Annotated[
    int | None, Query(ge=1, le=MOST_MS, description="Milliseconds that the answer may take.")
]


@routes.get(
    "/v1/retrieve/{hash}",
    response_model=RetrievedOriginal,
    responses=error_responses(404, 408, 422, 504, post=False),
    summary="What was left out of a conversation",
)
async def retrieve_original(
    hash: _Hash,
    request: Request,
    question: _Asked = None,
    lines: _Lines = None,
    max_tokens: _MaxTokens = None,
    timeout_ms: _Timeout = None,
    query: _OldName = None,
) -> Response:
    """The original of a hash of `ccr_hashes`, for the API key that compressed it.

    Originals are kept where the service was started with `--retrieve-bytes`, of requests with
    `config.mode: "ccr"` and of chats that go to an upstream, for `--retrieve-s` seconds.
    """
    state, owner = service_state(request), log_entry(request).key
    if None not in (question, query) and question != query:
        raise BadInput(TWO_NAMES.format(old="query", name="question"))
    question = query if question is None else question
    check_limits(state.settings, [question or ""], 0)
    original = state.originals.get(owner, hash)
    counter = state.methods.counter("proxy")

    def work(_: QueuedRequest) -> Response:
        return json_response(retrieve(hash, original, question, lines, max_tokens, counter))

    return await run_connected(request, work, timeout_ms)


QUESTION_TOKENS = 1000
"""The most tokens of the lines that answer a question, where a request does not say."""
_RANGE = re.compile(r"([1-9][0-9]{0,8})(?:-([1-9][0-9]{0,8}))?")
Spans = list[tuple[int, int]]


def retrieve(
    digest: str,
    original: Original,
    question: str | None,
    lines: str | None,
    max_tokens: int | None,
    counter: TextTokenizer,
) -> RetrievedOriginal:
    """The text of a hash, or what was asked for of it.

    Args:
        question: words that the wanted lines have.
        lines: a range of lines such as `12-47`.
        max_tokens: of the lines that answer the question.

    Raises:
        BadInput: a question and a range, a range that is none or lies beyond the text, or a limit
            without a question.
    """
    if question is not None and lines is not None:
        raise BadInput("question and lines were given; give one of them")
    if question is None and max_tokens is not None:
        raise BadInput("max_tokens is for the lines that answer a question; give that, or lines")
    text, warnings = original.text, list[str]()
    starts = _line_starts(text)
    if lines is not None:
        spans: Spans = [_line_span(lines, starts)]
        shown = text[slice(*spans[0])]
    elif question is not None and question.strip():
        most = QUESTION_TOKENS if max_tokens is None else max_tokens
        shown, spans, warnings = _answering_lines(text, original.tool_name, question, most, counter)
    else:
        shown, spans = text, [(0, len(text))]
    return RetrievedOriginal(
        hash=digest,
        original_content=shown,
        original_tokens=original.tokens,
        original_item_count=original.lines,
        compressed_item_count=original.lines_shown,
        tool_name=original.tool_name,
        retrieval_count=original.retrievals,
        lines=_line_ranges(spans, starts),
        warnings=warnings,
    )


def _answering_lines(
    text: str, tool: str | None, question: str, most: int, counter: TextTokenizer
) -> tuple[str, Spans, list[str]]:
    """The lines that have words of a question, the best first until there is no room for more."""
    prepared = prepare_tool_outputs([ToolOutput(text, tool)], question, counter)
    values = Lexical().scores(question, prepared.passages, prepared.units).values
    units = prepared.units
    order = sorted((i for i, value in enumerate(values) if value > 0), key=lambda i: -values[i])
    tokens = counter.count_many([text[units[i].start : units[i].stop] for i in order])
    left, chosen = most, list[int]()
    for i, count in zip(order, tokens, strict=True):
        if count <= left:
            left -= count
            chosen.append(i)
    if spans := merge_spans((units[i].start, units[i].stop) for i in chosen):
        return _join_spans(text, spans), spans, []
    (found,) = prepared.select([0.0] * len(prepared.units), [most], default_marker)
    why = f"no line has a word of the question within {most:,} tokens; this is what matters most"
    return found.text, list(found.kept), [why]


def _join_spans(text: str, spans: Spans) -> str:
    """Spans of a text, each on lines of its own."""
    parts = [text[start:stop] for start, stop in spans]
    return "".join(part if part.endswith("\n") else f"{part}\n" for part in parts[:-1]) + parts[-1]


def _line_starts(text: str) -> list[int]:
    """Where each line starts, and the end of the text."""
    return list(accumulate(map(len, split_at_line_feeds(text)), initial=0))


def _line_span(given: str, starts: Sequence[int]) -> tuple[int, int]:
    """The span of a range of lines.

    Raises:
        BadInput: it is no range, or lies beyond the text.
    """
    found = _RANGE.fullmatch(given)
    if found is None:
        raise BadInput(f"lines is {given!r:.80}; give a range from 1 on such as 12-47, or one line")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise BadInput(f"lines is {given}, which ends before it begins; give {last}-{first}")
    if last > len(starts) - 1:
        raise BadInput(f"lines is {given} and the text has {len(starts) - 1} lines, from 1 on")
    return starts[first - 1], starts[last]


def _line_ranges(spans: Spans, starts: Sequence[int]) -> list[list[int]]:
    """The lines that each span touches, from 1 and inclusive."""
    ranges, at = list[list[int]](), 0
    bounds = list(pairwise(starts))
    for start, stop in spans:
        while at < len(bounds) and bounds[at][1] <= start:
            at += 1
        first = at
        while at < len(bounds) and bounds[at][0] < stop:
            at += 1
        if at > first:
            ranges.append([first + 1, at])
            at -= 1  # the next span may begin on the line where this one ends
    return ranges


@routes.post(
    "/v1/search",
    response_model=SearchAnswer,
    responses=error_responses(404, 501),
    summary="Find passages in an index",
)
async def search(body: SearchRequest, request: Request) -> Response:
    """The passages of an index that match the question best.

    A search is admitted like other requests, and ends at `timeout_ms`: it has no answer before.
    """
    state = service_state(request)
    name, index = state.find_index(body.index)
    check_limits(state.settings, [body.question], 0)

    def work(_: QueuedRequest) -> Response:
        how: dict[str, Any] = {"where": body.where, "by": body.by, "search": body.search}
        if body.read is None:
            check_reading("passages", body.selector, body.keys)
            hits = index.search(body.question, body.k, **how)
        else:
            read = {"selector": body.selector, "keys": body.keys, "root": state.methods.root}
            hits = index.rank_retrieved(body.question, body.k, **how, **read)
        data = [SearchHit(**hit.as_json()) for hit in hits]
        return json_response(SearchAnswer(index=name, data=data, keys_read=hits.keys_read))

    return await run_connected(request, work, body.timeout_ms)


@routes.post(
    "/v1/tools/rank",
    response_model=RankedToolsAnswer,
    responses=error_responses(),
    summary="Choose among many tools",
)
async def rank_tools(body: RankToolsRequest, request: Request) -> Response:
    """The tools that fit what is asked, best first, and whether any of them does.

    They are read by name, description and parameters. No proxy reads, and what was read of a tool
    is kept. A request is admitted like others, and has no answer before its end.
    """
    state = service_state(request)

    def read() -> tuple[str, list[ToolDefinition]]:
        return body.asked, read_tools(body.tools)

    asked, tools = await state.executor.run_off_loop(read)
    check_limits(state.settings, [asked], len(tools), sum(len(tool.whole) for tool in tools))

    def work(_: QueuedRequest) -> Response:
        found = state.methods.tool_ranker().rank(
            asked, tools, top_n=body.top_n, threshold=body.threshold, language=body.language
        )
        ranked = [
            RankedToolAnswer(index=r.index, name=r.name, score=r.score) for r in found.results
        ]
        return json_response(
            RankedToolsAnswer(
                data=ranked, fits=found.fits, encoder=found.encoder, warnings=list(found.warnings)
            )
        )

    return await run_connected(request, work, body.timeout_ms)
