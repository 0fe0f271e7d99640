"""Which texts of a conversation may be shortened, for which question, and to how many tokens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tamis.compressors.tools.steps import Superseded
from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.service.http.conversation.tagged import RetrievalTags, Stretch, TaggedText
from tamis.service.http.conversation.texts import (
    MessageText,
    access_of,
    is_retrieve_tool,
    matches_any,
    message_texts,
    registered_tools,
    retrieve_tool_of,
)
from tamis.service.http.schemas.messages import CCR, MessagesRequest

DEFAULT_SHARE = 0.4
"""The share of tokens that is kept where a request gives no budget."""
ACKNOWLEDGEMENT_TOKENS = 250
"""A result of a tool that writes is left alone up to this size, whatever the request allows."""
QUESTION_CHARS = 2000
"""The most characters that are read of a user's message as the question: it is read anew with every
window. A `question` is read whole."""
_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A text that may be shortened, and its tokens.

    Attributes:
        stretches: of retrieved context between tags, which alone may be shortened; empty where all
            of the text may. fixed_tokens: of what stays in any case.
    """

    text: MessageText
    tokens: int
    stretches: tuple[Stretch, ...] = ()
    fixed_tokens: int = 0

    @property
    def free_tokens(self) -> int:
        """The tokens of what may be shortened."""
        return self.tokens - self.fixed_tokens

    @property
    def parts(self) -> tuple[Stretch, ...]:
        """The spans that may be shortened."""
        return self.stretches or (Stretch(0, len(self.text.text), 1),)

    @property
    def passages(self) -> list[str]:
        """The texts of the spans that may be shortened."""
        text = self.text.text
        return [text[part.start : part.stop] for part in self.parts]


def is_prompt(text: MessageText) -> bool:
    """Whether it is of a user or a system, and no result of a tool."""
    return text.call is None and text.role in ("user", *_SYSTEM_ROLES)


@dataclass(frozen=True, slots=True)
class Limits:
    """How many tokens may stay.

    Attributes:
        tokens: that are aimed at, of all candidates together.
        most: that the request allows; more is an error. None where it gave no number of tokens.
    """

    tokens: int
    most: int | None = None


class Conversation:
    """The texts of a request with `messages`, and what is to become of them.

    Attributes:
        messages: copies, in which texts are replaced.
        candidates: the texts that may be shortened. tokens_before: of all texts.
        needless: results that a later step made needless, which are no candidates any more, and
            why. marker_tokens: of what stands in their places.
        retrieve_tool: the registered tool that gives back what was left out.
        question: of the user, with instruction and history; None where nobody asks anything.
    """

    def __init__(self, body: MessagesRequest, counter: TextTokenizer) -> None:
        self.body = body
        self.warnings: list[str] = []
        self.messages = [message.original() for message in body.messages]
        self.tools = registered_tools(body.tools)
        self.texts, cached = message_texts(self.messages)
        tokens = counter.count_many([text.text for text in self.texts])
        self.tokens_before = sum(tokens)
        self._first = 0 if body.config.compress_cached else cached
        tags = RetrievalTags(body.config.retrieval_tags or ())
        self._tagged = [tags.parse(t.text) if is_prompt(t) else None for t in self.texts]
        self._asks = max((t.message for t, text in self._asked_texts() if text.strip()), default=-1)
        self.candidates = [
            candidate
            for i, (text, count) in enumerate(zip(self.texts, tokens, strict=True))
            if i >= self._first and self._may_be_changed(text)
            if (candidate := self._candidate(text, count, self._tagged[i], counter)) is not None
        ]
        self.candidate_tokens = sum(candidate.free_tokens for candidate in self.candidates)
        self.needless = list[tuple[Candidate, Superseded]]()
        self.marker_tokens = 0
        self.retrieve_tool = retrieve_tool_of(self.tools, body.config.retrieve_tool)
        self.question = self._question()
        self.warnings += self._config_warnings()

    def leave_out(self, candidate: Candidate, why: Superseded, tokens: int) -> None:
        """Takes a result that a later step made needless from the candidates.

        Args:
            tokens: of its marker.
        """
        self.candidates.remove(candidate)
        self.candidate_tokens -= candidate.free_tokens
        self.needless.append((candidate, why))
        self.marker_tokens += tokens

    def limits(self) -> Limits:
        """How many tokens of the candidates may stay; of `most` markers of needless results, too.

        Raises:
            BadInput: the rest of the messages already exceeds the budget.
        """
        if not self.candidates and not self.needless:
            return Limits(0)
        given = [most for most in (self._budget_left(), self.body.max_tokens) if most is not None]
        share = self.body.share
        if share is None and not given:
            share = DEFAULT_SHARE
        most = min(given, default=None)
        tokens = self.candidate_tokens if most is None else max(0, most - self.marker_tokens)
        if share is not None:
            # 0.1 * 30 is 3.0000000000000004: whole tokens, so a hair's breadth is forgiven
            tokens = min(tokens, max(1, math.floor(share * self.candidate_tokens + 1e-9)))
        return Limits(tokens, most)

    def _budget_left(self) -> int | None:
        """What `token_budget` leaves for the candidates."""
        budget = self.body.token_budget
        if budget is None:
            return None
        gone = sum(candidate.tokens for candidate, _ in self.needless)
        fixed = self.tokens_before - self.candidate_tokens - gone
        if budget <= fixed:
            raise BadInput(
                f"token_budget is {budget:,} and the messages that stay as they are take "
                f"{fixed:,}; raise it, or allow more in config"
            )
        return budget - fixed

    def _may_be_changed(self, text: MessageText) -> bool:
        """Whether it is neither among the first messages nor among the last that stay."""
        config = self.body.config
        is_recent = text.message >= len(self.messages) - config.protect_recent
        return not is_recent and text.message >= config.frozen_message_count

    def _candidate(
        self, text: MessageText, tokens: int, tagged: TaggedText | None, counter: TextTokenizer
    ) -> Candidate | None:
        """A text as a candidate; None where it stays."""
        if tagged is not None and tagged.fault is not None:
            self.warnings.append(f"{text.pointer} stays whole: {tagged.fault}")
            return None
        candidate = Candidate(text, tokens)
        if tagged is not None and tagged.stretches:
            free = counter.count_many([text.text[s.start : s.stop] for s in tagged.stretches])
            candidate = Candidate(text, tokens, tagged.stretches, tokens - sum(free))
            is_free = candidate.free_tokens >= max(1, self.body.config.min_tokens_to_compress)
            return candidate if is_free else None
        return candidate if self._may_be_shortened(text, tokens) else None

    def _may_be_shortened(self, text: MessageText, tokens: int) -> bool:
        config = self.body.config
        if tokens < config.min_tokens_to_compress or not tokens:
            return False
        if text.call is not None:
            output = ToolOutput(text.text, text.call.name, text.call.arguments)
            return not (output.is_settled or self._is_left_alone(text.call.name, tokens))
        if text.role in _SYSTEM_ROLES:
            return config.compress_system_messages
        is_user = text.role == "user" and text.message != self._asks
        return is_user and config.compress_user_messages

    def _is_left_alone(self, tool: str | None, tokens: int) -> bool:
        """Whether the results of a tool stay: by its name, or because they are what was asked back
        or acknowledge what was written."""
        config = self.body.config
        if matches_any(tool, config.exclude_tools or ()):
            return True
        if is_retrieve_tool(tool, config.retrieve_tool):
            return True
        return tokens <= ACKNOWLEDGEMENT_TOKENS and access_of(tool, self.tools) == "write"

    def _asked_texts(self) -> Iterator[tuple[MessageText, str]]:
        """The texts of users, each with what of it is outside of retrieved context."""
        for text, tagged in zip(self.texts, self._tagged, strict=True):
            if text.role == "user" and tagged is not None:
                yield text, tagged.outside

    def _question(self) -> str | None:
        body = self.body
        asked = body.question if body.question is not None else self._last_user_text()
        lines = [body.instruction or "", *body.history, asked]
        return "\n".join(line for line in lines if line.strip()) or None

    def _last_user_text(self) -> str:
        asked = [text for t, text in self._asked_texts() if t.message == self._asks]
        text = "\n".join(part for part in asked if part.strip())
        if len(text) <= QUESTION_CHARS:
            return text
        if not self.candidates:
            return ""  # nothing is compressed, so nothing is asked
        self.warnings.append(
            f"the last message of the user has {len(text):,} characters; its first and last "
            f"{QUESTION_CHARS // 2:,} were read as the question: give question to ask another"
        )
        return f"{text[: QUESTION_CHARS // 2]}\n{text[-(QUESTION_CHARS // 2) :]}"

    def _config_warnings(self) -> list[str]:
        config, found, budget = self.body.config, list[str](), self.body.token_budget
        if not self.candidates:
            found.append("no text was free and long enough to compress")
            if budget is not None and budget < self.tokens_before:
                found.append(
                    f"token_budget is {budget:,} and the messages take {self.tokens_before:,}: "
                    "they stay as they are, for config allows nothing else"
                )
        if config.mode not in (None, "", CCR):
            found.append(
                f"config.mode has no effect: it is {config.mode!r:.80}, and {CCR} is known"
            )
        if config.retrieve_tool and self.retrieve_tool is None:
            found.append(
                f"config.retrieve_tool is {config.retrieve_tool!r:.80} and tools has none of that "
                "name, so no omission names it"
            )
        return found
