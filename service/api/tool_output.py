"""`tamis.compress_tool_output`: what a tool printed, shortened for the agent that called it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tamis.compressors.method import check_scores
from tamis.compressors.registry import DEFAULT_PROXY, method_info
from tamis.compressors.rules import Budget
from tamis.compressors.tools.lossless import write_whole
from tamis.compressors.tools.markers import default_marker
from tamis.compressors.tools.prepare import prepare_tool_outputs
from tamis.compressors.tools.types import CompressedToolOutput, Marker, ToolOutput, shows_source
from tamis.probes.errors import BadInput
from tamis.probes.interruption import end_with_task
from tamis.probes.tokens import TextTokenizer
from tamis.service.api.compress import check_parts, compressor, counter_of
from tamis.service.api.languages import english_proxy
from tamis.text.language import AUTO

DEFAULT_METHOD = "lexical"
DEFAULT_RATIO = 0.4


def compress_tool_output(
    text: str,
    *,
    question: str | None = None,
    call: str | Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    ratio: float | None = None,
    method: str = DEFAULT_METHOD,
    tokenizer: str | Path | TextTokenizer = "proxy",
    proxy: Any = AUTO,
    marker: Marker = default_marker,
    lossless: bool = False,
    root: Path | None = None,
    **options: Any,
) -> CompressedToolOutput:
    """Shortens what a tool printed: errors and outcomes first, then what the call asks for.

    Whole lines, or elements and members of JSON, are kept verbatim, each with the header that it
    stands under; a marker says what was left out between them, and counts the failures in it. A
    failure that is longer than its share is cut within. JSON stays valid. A text that fits is
    returned as it is, and no model is used. One that fits with its repeated lines counted is
    written so, with nothing left out, below a header that says it.

    Args:
        text: what the tool printed; the format is recognised.
        question: the last thing that the user said, if anything.
        call: the call that made it: the name of the tool or the command line, or a mapping with
            `name` and `arguments` (a mapping, or JSON text). Without question and call alone what
            is said counts: failures, the first of a kind, both ends.
        max_tokens: the most tokens of output, markers included. ratio: the largest share of the
            input's tokens; 0.4 where neither is given. Less than a failure takes with its markers
            is exceeded, with a warning; a text of which nothing fits into its share stays whole.
        method: scores the lines that are no failures. `lexical` needs no model and takes
            milliseconds.
        tokenizer: counts the budget; as for `compress`.
        proxy: which model reads, for methods that read; `auto` is the one for English, whatever
            words a log has.
        marker: makes the text of an omission; by default `[… lines 12-47 omitted, 640 tokens]`.
        lossless: leave nothing out: the text is only written shorter, below a header that says how;
            `tamis.compressors.tools.lossless.restore` gives it back, without colours.
        root: the folder that models are kept in. options: the method's own.

    Raises:
        BadInput: not a text, a malformed call, or a budget out of range.
        UnknownMethod: no such method. ProxyMissing: the model is not on this machine.
    """
    output = tool_output(text, call)
    if question is not None and not isinstance(question, str):
        raise BadInput(f"the question is of type {type(question).__name__}; give a text, or None")
    if lossless and not (max_tokens is None and ratio is None):
        raise BadInput("lossless leaves nothing out, so it cannot keep to a budget; give one")
    if max_tokens is None and ratio is None:
        ratio = 1.0 if lossless else DEFAULT_RATIO
    budget = Budget(max_tokens, ratio)
    check_parts(method, proxy, None)
    check_scores(method_info(method), method)
    chosen = english_proxy(method) if proxy == AUTO else proxy
    counter = counter_of(tokenizer, DEFAULT_PROXY if proxy == AUTO else proxy, root)
    prepared = prepare_tool_outputs([output], question, counter)
    [tokens] = prepared.tokens_in
    if lossless:
        [whole] = prepared.select([0.0] * len(prepared.units), [tokens], marker)
        return write_whole(whole, counter)
    limit = budget.tokens(tokens)
    if limit is None or tokens <= limit:
        values = [0.0] * len(prepared.units)
    else:
        scorer = compressor(method, chosen, counter, root=root, **options).scorer
        values = prepared.score(scorer)
    [found] = prepared.select(values, [tokens if limit is None else limit], marker)
    if max_tokens is None and found.text != text and not shows_source(found, text):
        [whole] = prepared.select(values, [tokens], marker)
        return replace(whole, warnings=(f"nothing of it fits into {limit} tokens: it stays whole",))
    return found


@end_with_task
async def acompress_tool_output(text: str, **arguments: Any) -> CompressedToolOutput:
    """`compress_tool_output` in a worker thread: the event loop stays free."""
    return await asyncio.to_thread(compress_tool_output, text, **arguments)


def tool_output(text: Any, call: Any = None) -> ToolOutput:
    """A tool's output with its call, as callers give them.

    Raises:
        BadInput: not a text, or a call without a name.
    """
    if not isinstance(text, str):
        raise BadInput(f"the output is of type {type(text).__name__}; give a text")
    if call is None or isinstance(call, str):
        return ToolOutput(text, call)
    name, arguments = _fields_of(call)
    if not isinstance(name, str) or not (arguments is None or isinstance(arguments, str)):
        raise BadInput(
            f"call is {call!r:.80}; give the tool's name or a mapping with name and arguments"
        )
    return ToolOutput(text, name, arguments)


def _fields_of(call: Any) -> tuple[Any, Any]:
    """Name and arguments of a mapping; arguments that are no text are written as JSON."""
    if not isinstance(call, Mapping):
        return None, None
    if unknown := sorted(set(call) - {"name", "arguments"}):
        raise BadInput(f"call has no field {unknown[0]!r}; give name and arguments")
    arguments = call.get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False, default=str)
    return call.get("name"), arguments
