"""`tamis.rank_tools`: which of many tool definitions a request needs, and whether any of them fits.

A tool is read by its name, split into words, its description, and the names and descriptions of its
parameters. It scores by how like the request a sentence encoder has it, beside the other tools, and
by the words of the request that it has: a logistic regression. Vectors of tools are kept, so that a
second request costs the encoding of what it asks.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tamis.compressors.features.rank_probe import WordIndex
from tamis.compressors.registry import DEFAULT_ENCODER, SMALL_RANK_ENCODER
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.probes.interruption import end_with_task
from tamis.probes.lru import LruCache
from tamis.probes.model.encoder import CachedEncoder, LazyEncoder
from tamis.text.inputs import check_list, check_question, is_number, is_whole
from tamis.text.language import AUTO, primary_subtag, resolve_language

TOP_N = 12
THRESHOLD = 0.5
"""The score from which on a tool fits."""
_KEPT_INDEXES = 1 << 25
_ENCODED_AT_ONCE = 16
_QUESTION_CHARS = 2000
_WORD_ENDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|[\W_]+")
_SCHEMAS = ("parameters", "input_schema", "inputSchema", "parametersJsonSchema")
_DECLARATIONS = ("functionDeclarations", "function_declarations")
_MAPS, _LISTS = ("properties", "$defs", "definitions"), ("anyOf", "oneOf", "allOf", "prefixItems")


@dataclass(frozen=True, slots=True)
class ToolWeights:
    """A logistic regression of whether a tool fits, `tamis lab bench tool-choice --fit`.

    It was fitted on the half of the tools of BFCL v4 and MetaTool that the figures are not of, so
    that the tool that was called comes first, and so that the best of a list is above a half where
    one was called, and below where none fits or the one that did was taken out.
    lab/log/tools.md#2026-11-29-choosing-tools

    Attributes:
        likeness: of the cosine of request and tool; without an encoder of BM25, as a share of what
            a text of the request's words alone could reach.
        mean: of the mean of that over all tools: what all are equally like says nothing.
        covered: of the share of the request's words that the tool has. named: that its name has.
    """

    intercept: float
    likeness: float
    mean: float
    covered: float
    named: float


ENGLISH = ToolWeights(-4.409, 17.774, -12.846, 7.575, 2.091)
"""With the encoder of English."""
MULTILINGUAL = ToolWeights(-26.171, 48.831, -20.014, 12.669, 12.127)
"""With the encoder of many languages, where a request is in another or the first is not there."""
WORDS = ToolWeights(-2.23, 15.174, -27.15, 15.184, 15.907)
"""Without an encoder."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool as it is read.

    Attributes:
        tool: the caller's own object. words: its name, split into words.
        text: its description, then a line a parameter.
    """

    tool: Any
    name: str
    words: str
    text: str

    @property
    def whole(self) -> str:
        """All that is read of it."""
        return f"{self.words}. {self.text}"


@dataclass(frozen=True, slots=True)
class RankedTool:
    """A tool and how well it fits, from 0 to 1.

    Attributes:
        index: its place among the tools that were given; declarations of Gemini count one by one.
        tool: the caller's own object.
    """

    index: int
    name: str
    score: float
    tool: Any


@dataclass(frozen=True, slots=True)
class RankedTools:
    """Tools, the one that fits best first.

    Attributes:
        fits: whether any of them fits what is asked.
        encoder: the model whose vectors were compared; None where words alone were.
    """

    results: tuple[RankedTool, ...]
    fits: bool
    encoder: str | None
    warnings: tuple[str, ...] = ()
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    @property
    def tools(self) -> list[Any]:
        """The caller's own objects, in rank order."""
        return [one.tool for one in self.results]


def rank_tools(
    question: str | Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]],
    *,
    top_n: int | None = TOP_N,
    threshold: float = THRESHOLD,
    language: str = AUTO,
    root: Path | None = None,
) -> RankedTools:
    """Ranks the definitions of tools by how well they fit what is asked.

    Nothing is fetched: without the sentence encoder (`tamis models pull minilm-l6`) the words alone
    are compared, which a warning says.

    Args:
        question: what is asked; of messages, the last turn of the user.
        tools: definitions as OpenAI, Anthropic, Gemini and the Model Context Protocol have them, or
            mappings with `name`, `description` and a JSON Schema of `parameters`.
        top_n: how many tools to return; None for all.
        threshold: the score from which on a tool fits, from 0 to 1.
        language: of the question, such as `de`; `auto` looks at it.
        root: the folder that models are kept in; by default models/ in the folder that TAMIS_HOME
            names, or in the user's cache.

    Raises:
        BadInput: nothing is asked, or a tool has no name or a schema that is none.
    """
    return shared_ranker(root).rank(
        asked_of(question), read_tools(tools), top_n=top_n, threshold=threshold, language=language
    )


@end_with_task
async def arank_tools(question: Any, tools: Sequence[Any], **arguments: Any) -> RankedTools:
    """`rank_tools` in a worker thread: the event loop stays free."""
    return await asyncio.to_thread(rank_tools, question, tools, **arguments)


def asked_of(question: Any) -> str:
    """The question, or the last turn of the user among messages.

    Raises:
        BadInput: there is none.
    """
    if not isinstance(question, str):
        check_list(question, "messages")
        turns = user_turns(question)
        if not turns:
            raise BadInput("no message of a user has text; give one, or the question as a text")
        question = turns[-1]
    check_question(question, "tools are ranked by what is asked")
    return str(question)


def user_turns(messages: Iterable[Any]) -> list[str]:
    """The text of each turn of the user that has any; results of tools are none.

    Raises:
        BadInput: a message is no mapping.
    """
    turns = []
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise BadInput(f"message {i} is of type {type(message).__name__}; give mappings")
        if message.get("role") != "user":
            continue
        content = message.get("content", message.get("parts"))
        parts = [content] if isinstance(content, str) else content or ()
        texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
        text = "\n".join(one for one in texts if isinstance(one, str))
        turns += [text] if text.strip() else []
    return turns


def read_tools(tools: Any) -> list[ToolDefinition]:
    """The definitions of tools, in any of the known shapes.

    Raises:
        BadInput: no list of tools, or one of them cannot be read; the message names it.
    """
    check_list(tools, "tools")
    return [one for i, tool in enumerate(tools) for one in _read_tool(tool, i)]


def _read_tool(tool: Any, place: int) -> Iterator[ToolDefinition]:
    if not isinstance(tool, Mapping):
        raise BadInput(f"tool {place} is of type {type(tool).__name__}; give mappings")
    declared = next((tool[key] for key in _DECLARATIONS if key in tool), None)
    if declared is not None:
        check_list(declared, "functionDeclarations")
        for one in declared:
            yield from _read_tool(one, place)
        return
    inner = tool.get("function", tool)
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(name, str) or not name.strip():
        raise BadInput(
            f"tool {place} has no name; give definitions with name, description and parameters "
            "(OpenAI's, Anthropic's, Gemini's or MCP's), and leave out tools of a provider's own"
        )
    shown = f"tool {place} ({name!r:.80})"
    description = inner.get("description") or ""
    if not isinstance(description, str):
        raise BadInput(f"the description of {shown} is of type {type(description).__name__}")
    schema: Any = next((inner[key] for key in _SCHEMAS if inner.get(key) is not None), {})
    if not isinstance(schema, Mapping):
        raise BadInput(
            f"the parameters of {shown} are of type {type(schema).__name__}; give a JSON Schema"
        )
    lines = [f"{_split_name(key)}: {text}" for key, text in _parameters(schema)]
    yield ToolDefinition(tool, name, _split_name(name), "\n".join([description, *lines]))


def _parameters(schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and description of each parameter, nested ones after the one that they are of."""
    stack: list[tuple[str | None, Any]] = [(None, schema)]
    seen = set[int]()
    while stack:
        name, node = stack.pop()
        if not isinstance(node, Mapping) or id(node) in seen:
            continue
        seen.add(id(node))
        if name is not None:
            text = node.get("description")
            yield name, text if isinstance(text, str) else ""
        inner: list[tuple[str | None, Any]] = []
        for key in _MAPS:
            if isinstance(members := node.get(key), Mapping):
                inner += [(str(n) if key == "properties" else None, m) for n, m in members.items()]
        for key in _LISTS:
            inner += [(None, m) for m in node.get(key) or () if isinstance(node[key], list)]
        inner += [(None, node.get(key)) for key in ("items", "additionalProperties")]
        stack += reversed(inner)


def _split_name(name: str) -> str:
    """A name as words: `getUserById`, `get_user-by.id` are `get User By Id`, `get user by id`."""
    return " ".join(_WORD_ENDS.sub(" ", name).split())


def choose_tools(
    rank: Callable[[str], Sequence[tuple[int, float]]],
    turns: Sequence[str],
    names: Sequence[str],
    top_n: int = TOP_N,
    pinned: Iterable[str] = (),
) -> list[int]:
    """The tools that a conversation is sent with: indexes, in the caller's order.

    Those of the user's first turn, `top_n` of them. A later turn adds what fits it, as many at
    most, and only where nothing that is there fits. So the choice depends on the turns so far alone
    and loses no tool, and a provider's cache of the prompt holds for as long as the conversation
    stays with what its tools are for. Without a turn that has text, all.

    Args:
        rank: indexes and scores of all tools for a question, best first.
        turns: of the user, the oldest first; of long ones both ends are read.
        names: of the tools. pinned: those that stay in any case.
    """
    chosen, half = set[int](), _QUESTION_CHARS // 2
    for turn in filter(str.strip, turns):
        asked = turn if len(turn) <= _QUESTION_CHARS else f"{turn[:half]}\n{turn[-half:]}"
        ranked = rank(asked)
        fitting = {index for index, score in ranked if score >= THRESHOLD}
        if not chosen:
            chosen.update(index for index, _ in ranked[:top_n])
        elif not chosen & fitting:
            chosen.update(index for index, _ in ranked[:top_n] if index in fitting)
    kept = set(pinned)
    return [i for i, name in enumerate(names) if not chosen or i in chosen or name in kept]


class ToolRanker:
    """Ranks tools; threads may share it. What it read of tools is kept.

    Args:
        english: a sentence encoder of English texts, or None.
        multilingual: one of many languages, or None.
    """

    def __init__(self, english: Any | None, multilingual: Any | None) -> None:
        self._english = None if english is None else CachedEncoder(english)
        self._multilingual = None if multilingual is None else CachedEncoder(multilingual)
        self._indexes = LruCache[WordIndex](_KEPT_INDEXES)

    def rank(
        self,
        question: str,
        tools: Sequence[ToolDefinition],
        *,
        top_n: int | None = TOP_N,
        threshold: float = THRESHOLD,
        language: str = AUTO,
    ) -> RankedTools:
        """As `rank_tools`, of tools that were read."""
        if top_n is not None and not (is_whole(top_n) and top_n >= 1):
            raise BadInput(f"top_n is {top_n!r:.80}; give a whole number from 1 on, or None")
        if not (is_number(threshold) and 0 <= threshold <= 1):
            raise BadInput(f"threshold is {threshold!r:.80}; give a number from 0 to 1")
        clock = time.perf_counter()
        encoder, weights, name = self._choose(question, language)
        likeness, covered, named = self.features(question, tools, encoder).T
        mean = likeness.mean() if tools else 0.0
        logits = weights.intercept + weights.mean * mean + weights.likeness * likeness
        logits += weights.covered * covered + weights.named * named
        scores = 1 / (1 + np.exp(-logits))
        order = np.argsort(-scores, kind="stable")[:top_n].tolist()
        found = [RankedTool(i, tools[i].name, float(scores[i]), tools[i].tool) for i in order]
        warnings = () if name else (_NO_ENCODER,)
        timings = {"rank": (time.perf_counter() - clock) * 1e3}
        fits = bool(found) and found[0].score >= threshold
        return RankedTools(tuple(found), fits, name, warnings, timings)

    def choose(
        self,
        turns: Sequence[str],
        tools: Sequence[ToolDefinition],
        top_n: int = TOP_N,
        pinned: Iterable[str] = (),
    ) -> list[int]:
        """As `choose_tools`, of tools that were read."""

        def rank(question: str) -> list[tuple[int, float]]:
            return [
                (one.index, one.score) for one in self.rank(question, tools, top_n=None).results
            ]

        return choose_tools(rank, turns, [tool.name for tool in tools], top_n, pinned)

    def _choose(
        self, question: str, language: str
    ) -> tuple[CachedEncoder | None, ToolWeights, str | None]:
        """The encoder for a question, with its weights and name."""
        is_english = primary_subtag(resolve_language(language, question, [])) == "en"
        if self._english and (is_english or self._multilingual is None):
            return self._english, ENGLISH, DEFAULT_ENCODER
        if self._multilingual:
            return self._multilingual, MULTILINGUAL, SMALL_RANK_ENCODER
        return None, WORDS, None

    def features(
        self, question: str, tools: Sequence[ToolDefinition], encoder: CachedEncoder | None
    ) -> np.ndarray:
        """What `ToolWeights` weighs of each tool: likeness, words covered and named, `[T, 3]`."""
        key = tuple((tool.words, tool.text) for tool in tools)
        index = self._indexes.get(
            key,
            lambda: WordIndex(key),
            lambda _: 4 * sum(len(words) + len(text) for words, text in key),
        )
        found = index.shares(question).astype(np.float64)
        if encoder is not None and tools:
            # a few at a time: what was encoded stays where the time is over before the end
            whole = [tool.whole for tool in tools]
            by_length = sorted(whole, key=len)
            for start in range(0, len(whole), _ENCODED_AT_ONCE):
                encoder.encode(by_length[start : start + _ENCODED_AT_ONCE])
            cosines = encoder.encode(whole) @ encoder.encode([question])[0]
            found[:, 0] = cosines.double().numpy()
        return found


_NO_ENCODER = (
    f"there is no sentence encoder on this machine, so words alone were compared; get one with "
    f"`tamis models pull {DEFAULT_ENCODER}`"
)


@lru_cache(maxsize=4)
def shared_ranker(root: Path | None = None) -> ToolRanker:
    """The ranker of this process, with the encoders that are installed; they are loaded when used.

    Args:
        root: the folder that models are kept in.
    """
    return ToolRanker(*(_installed(name, root) for name in (DEFAULT_ENCODER, SMALL_RANK_ENCODER)))


def _installed(name: str, root: Path | None) -> LazyEncoder | None:
    from tamis.probes.hub.zoo import locate

    try:
        return LazyEncoder(locate(name, root))
    except ProxyMissing:
        return None
