"""What methods read with in the service: it looks like a proxy, and the line is behind it."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from typing import Any

from tamis.compressors.reading.long_range import CONTEXT_TOKENS
from tamis.probes.card import Card
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout, Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.engine.errors import OutOfTime, TooLarge
from tamis.service.engine.queue import RequestQueue
from tamis.service.engine.request import PromptJob, QueuedRequest, current_request


class EngineReader:
    """A `Reader` whose prompts are read together with those of other requests.

    It reads for the ticket that its thread holds, and nothing of it is tied to a request: methods
    are built once over it.
    """

    def __init__(
        self,
        queue: RequestQueue,
        card: Card,
        layout: Layout,
        max_request_tokens: int,
        tokens_to_read: Callable[[Prompt], int] = len,
        model: Any = None,
    ) -> None:
        """A reader over a line.

        Args:
            size: tokens that reading a prompt costs.
            model: what the engine reads with. What methods ask of a proxy is copied from it; held
                on to, it would live on when another takes its place.
        """
        self.queue, self.card, self.layout = queue, card, layout
        self.max_request_tokens, self.tokens_to_read = max_request_tokens, tokens_to_read
        self.context_tokens: int = getattr(model, "context_tokens", CONTEXT_TOKENS)
        self.depth: int = getattr(model, "depth", card.layers)
        self.config: Any = getattr(model, "config", None)

    def with_template(self, template: Template) -> EngineReader:
        """The same engine, in other words."""
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order, as the model comes to it.

        Raises:
            TooLarge: more tokens than one request may have.
            Refused: the request ended before its time. BadInput: the model cannot read a prompt.
        """
        if (request := current_request()) is None:
            raise BadInput("the engine reads for requests; hold a ticket")
        if request.replaying:
            yield from _replay_signals(request, prompts)
            return
        tokens = sum(map(len, prompts))
        if tokens > self.max_request_tokens:
            raise TooLarge(
                f"the request has {tokens:,} tokens and at most {self.most_tokens:,} are read; "
                "send fewer or shorter documents"
            )
        answers: queue.SimpleQueue[Signal | Exception] = queue.SimpleQueue()
        template = self.layout.template
        jobs = [PromptJob(request, p, want, template, max(1, self.tokens_to_read(p)), answers) for p in prompts]
        request.send_faults_to(answers)
        self.queue.put(request, jobs)
        for job in jobs:
            yield request.wait_for(job)


def _replay_signals(request: QueuedRequest, prompts: Sequence[Prompt]) -> Iterator[Signal]:
    """What was read before time ran out, and no more."""
    for prompt, (read, signal) in zip(prompts, request.completed, strict=False):
        if prompt != read:
            break
        yield signal
    else:
        if len(prompts) <= len(request.completed):
            return
    raise OutOfTime("this was not read in time")
