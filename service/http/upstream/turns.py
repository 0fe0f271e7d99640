"""The messages of a chat that may be changed, and for each the conversation that asks for it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from tamis.service.http.conversation.candidates import is_prompt
from tamis.service.http.conversation.tagged import RetrievalTags
from tamis.service.http.conversation.texts import message_texts

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """A request with `messages` in which one message alone may be changed.

    Attributes:
        place: the index of that message in it.
    """

    body: JsonObject
    place: int


class ChatTurns:
    """The messages of a chat; Anthropic's field `system` counts as the first.

    Args:
        chat: the body of a request, whose `messages` are objects.
        tags: between which texts of users and systems have retrieved context.
    """

    def __init__(self, chat: JsonObject, tags: RetrievalTags) -> None:
        given: list[JsonObject] = chat["messages"]
        has_system = isinstance(chat.get("system"), str | list)
        first = [{"role": "system", "content": chat["system"]}] if has_system else []
        self.messages, self.tags, self._offset = [*first, *given], tags, len(first)
        known = [m if isinstance(m.get("role"), str) else {**m, "role": ""} for m in self.messages]
        self._texts, self._cached = message_texts(known)
        self._prompts = [(t, tags.parse(t.text)) for t in self._texts if is_prompt(t)]
        self._with_results = {text.message for text in self._texts if text.call is not None}
        self._asking = sorted(self._turns_of_users())

    def pointer(self, index: int, path: str) -> str:
        """The place of a text in the chat's body, by its path from the message."""
        if index < self._offset:
            return "/system" + path.removeprefix("/content")
        return f"/messages/{index - self._offset}{path}"

    def changeable(self, compresses_cached: bool, warnings: list[str]) -> list[int]:
        """The indexes of messages with results of tools or retrieved context to shorten.

        Args:
            compresses_cached: also before the last `cache_control`.
            warnings: gets those of tags that cannot be followed.
        """
        first = 0 if compresses_cached else self._cached
        # a message that has a breakpoint in it stays whole, so that one rule covers all of it
        frozen = {text.message for text in self._texts[:first]}
        found = self._with_results | set(self._with_context(frozen, warnings))
        return sorted(found - frozen)

    def request_body(self, index: int, ratio: float | None) -> TurnRequest:
        """A conversation of the question, the calls and one message, which alone may be changed.

        Args:
            ratio: the share of tokens to keep; None: the service's default.
        """
        before, after = self._around(index)
        kept = [*before, self.messages[index], *after]
        config: JsonObject = {
            "compress_cached": True,
            "frozen_message_count": len(before),
            "protect_recent": len(after),
        }
        body: JsonObject = {"messages": kept, "config": config}
        if index in self._with_results:
            body["language"] = "en"
        if self.tags.names:
            config["retrieval_tags"] = sorted(self.tags.names)
        return TurnRequest(body if ratio is None else {**body, "ratio": ratio}, len(before))

    def _with_context(self, frozen: Collection[int], warnings: list[str]) -> Iterator[int]:
        """The messages with retrieved context, frozen ones aside, the same one more than once."""
        for text, tagged in self._prompts:
            if text.message in frozen:
                continue
            if tagged.fault is not None:
                path = text.pointer.removeprefix(f"/messages/{text.message}")
                place = self.pointer(text.message, path)
                warnings.append(f"{place} stays whole: {tagged.fault}")
            elif tagged.stretches:
                yield text.message

    def _around(self, index: int) -> tuple[list[JsonObject], list[JsonObject]]:
        """The messages before and behind one that say what is asked."""
        at = bisect_left(self._asking, index)
        before = [self.messages[i] for i in self._asking[:at][-1:]]
        if index in self._with_results:
            return [*before, *self._last_call(index)], []
        is_system = self.messages[index].get("role") != "user"
        stop = len(self.messages) if is_system else self._next_answer(index)
        behind = [i for i in self._asking[at:] if index < i < stop][-1:]
        if behind:
            return [], [self.messages[behind[0]]]
        return ([] if index in self._asking[at : at + 1] else before), []

    def _last_call(self, index: int) -> list[JsonObject]:
        called = range(index - 1, -1, -1)
        return [m for m in map(self.messages.__getitem__, called) if _is_answer(m)][:1]

    def _next_answer(self, index: int) -> int:
        """The index of the model's next answer: what comes later does not touch a turn."""
        later = range(index + 1, len(self.messages))
        return next((i for i in later if _is_answer(self.messages[i])), len(self.messages))

    def _turns_of_users(self) -> set[int]:
        """The messages of users that ask, and are not results of tools that are sent as theirs."""
        return {
            text.message
            for text, tagged in self._prompts
            if text.role == "user" and tagged.outside.strip()
        }


def _is_answer(message: JsonObject) -> bool:
    return message.get("role") == "assistant"
