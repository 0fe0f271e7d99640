"""tamis in pydantic-ai: a history processor that compacts what tools returned.

    agent = Agent(model, capabilities=[ProcessHistory(TamisHistoryProcessor(compact_at=60_000))])

Below `compact_at` the history stays as it is, to the byte, so that the provider's cache holds; from
there on it is brought to `compact_to` at once. pydantic-ai keeps the history that it was given, so
the next requests begin with the same bytes again. Only pydantic-ai-slim is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.compaction import MIN_KEEP_STEPS, StepCompaction
from tamis.service.agents.shortening import Shortening
from tamis.service.integrations.backend import log_errors
from tamis.text.inputs import is_whole

try:
    from pydantic_ai.messages import (
        ModelMessage,
        ModelRequest,
        ModelResponse,
        TextPart,
        ToolCallPart,
        ToolReturnPart,
        UserPromptPart,
    )
except ImportError as error:
    raise MissingExtra(f"{error.name} is not installed; pip install pydantic-ai-slim") from error

__all__ = ["TamisHistoryProcessor"]


class TamisHistoryProcessor:
    """Compacts the results of tools once the history is long; calls and their ids stay.

    Results that a later step made needless go first, then the older ones that have least to do with
    the last turns are shortened, and in need replaced by a marker. Markers name the id by which
    `tamis run --retrieve` or the tool `retrieve` of `tamis mcp` gives the whole result back.

    Args:
        compact_at: tokens of the history from which on it acts; estimated, within a tenth.
        compact_to: tokens that it is brought to, as far as older results have them; half of
            `compact_at` by default.
        min_keep_steps: so many of the last steps that call tools stay whole.
        exclude_tools: names or patterns of tools whose results stay, as mcp__*.
        base_url: of a tamis server; None is this process. api_key: of the server.
        on_error: `passthrough` leaves the history as it is and logs the error; `fail` raises it.
        fields: those of `Shortening`, such as `ratio`, `method`, `no_store`.

    Raises:
        BadInput: a number out of range, or of another type.
    """

    def __init__(
        self,
        *,
        compact_at: int = 50_000,
        compact_to: int | None = None,
        min_keep_steps: int = MIN_KEEP_STEPS,
        exclude_tools: Sequence[str] = (),
        base_url: str | None = None,
        api_key: str | None = None,
        on_error: str = "passthrough",
        **fields: Any,
    ) -> None:
        if not is_whole(compact_at) or not (compact_to is None or is_whole(compact_to)):
            raise BadInput(
                f"compact_at is {compact_at!r:.80} and compact_to {compact_to!r:.80}; give whole "
                "numbers of tokens"
            )
        target = compact_at // 2 if compact_to is None else compact_to
        if not 0 <= target < max(compact_at, 1):
            raise BadInput(
                f"compact_at is {compact_at:,} and compact_to {target:,}; compact to less, or a "
                "history would be compacted again at each request"
            )
        if on_error not in ("passthrough", "fail"):
            raise BadInput(f"on_error is {on_error!r:.80}; give passthrough or fail")
        self.compact_at, self.compact_to, self.on_error = compact_at, target, on_error
        shortening = Shortening(**fields, url=base_url, api_key=api_key)
        self._compaction = StepCompaction(shortening, min_keep_steps, exclude_tools)
        self._counter = estimating_tokenizer()

    def __call__(self, messages: list[ModelMessage]) -> list[ModelMessage]:
        """The history with shorter results; the messages given are not changed.

        Raises:
            TamisError, OSError: under `on_error="fail"`, what failed.
        """
        tokens = sum(self._counter.count_many([t for m in messages for t in _texts(m)]))
        if tokens < self.compact_at:
            return messages
        with log_errors(self.on_error, "the history is passed on as it is: %s"):
            return self._compact(messages, tokens - self.compact_to)
        return messages

    def _compact(self, messages: list[ModelMessage], excess: int) -> list[ModelMessage]:
        places, steps = list[tuple[int, int]](), list[ToolOutput]()
        calls, called, asked = dict[str, ToolCallPart](), list[int](), ""
        for at, message in enumerate(messages):
            for part_at, part in enumerate(message.parts):
                if isinstance(part, ToolCallPart):
                    calls[part.tool_call_id] = part
                    called.append(at)
                elif isinstance(part, UserPromptPart):
                    asked = "\n".join(_strings(part.content)) or asked
                elif isinstance(part, ToolReturnPart) and isinstance(part.content, str):
                    places.append((at, part_at))
                    steps.append(_step(part, calls.get(part.tool_call_id)))
        keep_last, question = self._compaction.last_steps(
            steps, [at for at, _ in places], list(dict.fromkeys(called)), [asked]
        )
        found = self._compaction.compact(
            steps, keep_last, question, excess, lambda _, text: self._counter.count(text)
        )
        new = {places[i]: text for i, text in found.items()}
        return [_with_texts(at, message, new) for at, message in enumerate(messages)]


def _step(part: ToolReturnPart[Any], call: ToolCallPart | None) -> ToolOutput:
    """A result with its call; what the tool itself printed may say that it failed, too."""
    is_error = True if part.outcome in ("failed", "retried") else None
    if call is None:
        return ToolOutput(str(part.content), is_error=is_error)
    return ToolOutput(str(part.content), part.tool_name, call.args_as_json_str(), is_error)


def _with_texts(at: int, message: ModelMessage, new: dict[tuple[int, int], str]) -> ModelMessage:
    if not isinstance(message, ModelRequest) or not any(place[0] == at for place in new):
        return message
    parts = [
        replace(part, content=new[at, i]) if (at, i) in new else part
        for i, part in enumerate(message.parts)
    ]
    return replace(message, parts=parts)


def _texts(message: ModelMessage) -> Iterator[str]:
    """What the model reads of a message."""
    for part in message.parts:
        if isinstance(part, ToolCallPart):
            yield part.args_as_json_str()
        elif isinstance(part, ToolReturnPart):
            yield part.model_response_str()
        elif isinstance(message, ModelResponse) and not isinstance(part, TextPart):
            continue  # thinking, files
        else:
            yield from _strings(getattr(part, "content", None))


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, list | tuple):
        yield from (one for one in content if isinstance(one, str))
