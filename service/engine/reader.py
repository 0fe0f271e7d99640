"""The reader that methods use in the service: it acts like a proxy and reads through the queue.

Below the queue, the model's own reader may keep passages, which makes prompts cheaper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from tamis.compressors.reading.long_range import CONTEXT_TOKENS
from tamis.compressors.reading.windows import Reader
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout, Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.engine.errors import OutOfTime, TooLarge
from tamis.service.engine.queue import RequestQueue
from tamis.service.engine.request import PromptJob, QueuedRequest, current_request

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import CachedReader, PassageCache


class EngineReader:
    """A `Reader` whose prompts are read together with those of other requests.

    It reads for the current request of its thread and holds no state of a request, so methods are
    built once over it.
    """

    def __init__(
        self,
        queue: RequestQueue,
        card: ModelCard,
        layout: Layout,
        max_request_tokens: int,
        tokens_to_read: Callable[[Prompt], int] = len,
        model: Any = None,
    ) -> None:
        """A reader over a queue.

        Args:
            tokens_to_read: tokens that reading a prompt costs.
            model: the model of the engine. Its attributes that methods use are copied: a reference
                would keep the model in memory after a restart has replaced it.
        """
        self.queue, self.card, self.layout = queue, card, layout
        self.max_request_tokens, self.tokens_to_read = max_request_tokens, tokens_to_read
        self.context_tokens: int = getattr(model, "context_tokens", CONTEXT_TOKENS)
        self.depth: int = getattr(model, "depth", card.layers)
        self.config: Any = getattr(model, "config", None)
        self._can_pause: bool = getattr(model, "can_pause", False)

    @property
    def can_pause(self) -> bool:
        """Whether prompts of the current request can be read in stages.

        A request with a deadline is not: what it has at the deadline are its first prompts, whole.
        """
        request = current_request()
        return self._can_pause and request is not None and request.deadline is None

    def with_template(self, template: Template) -> EngineReader:
        """A reader of the same engine with another prompt template."""
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order, as the model comes to it.

        Raises:
            TooLarge: more tokens than one request may have.
            Refused: the request was ended early. BadInput: the model cannot read a prompt.
        """
        if (request := current_request()) is None:
            raise BadInput(
                "the engine reads for requests; call it within QueuedRequest.as_current()"
            )
        if request.replaying:
            yield from _replay_signals(request, prompts)
            return
        self.check_size(sum(map(len, prompts)))
        answers: SimpleQueue[Signal | Exception] = SimpleQueue()
        template = self.layout.template
        jobs = [
            PromptJob(request, p, want, template, self._job_tokens(p, want), answers)
            for p in prompts
        ]
        request.tokens_to_read += sum(job.tokens for job in jobs)
        request.send_faults_to(answers)
        self.queue.put(request, jobs)
        for job in jobs:
            yield request.wait_for(job)

    def check_size(self, tokens: int) -> None:
        """Checks the tokens of a request, which a reading in stages hands over in parts.

        Raises:
            TooLarge: more than one request may have.
        """
        if tokens > self.max_request_tokens:
            raise TooLarge(
                f"the request has {tokens:,} tokens and at most {self.max_request_tokens:,} are "
                "read; send fewer or shorter documents"
            )

    def _job_tokens(self, prompt: Prompt, want: Want) -> int:
        """Tokens that a job costs; of a part of the layers, the same share of the tokens."""
        tokens = self.tokens_to_read(prompt)
        if prompt.paused is not None:
            tokens = len(prompt.paused.states)
        if want.pause or prompt.paused is not None:
            tokens = tokens * (want.depth - prompt.first_layer) // self.depth
        return max(1, tokens)


def _replay_signals(request: QueuedRequest, prompts: Sequence[Prompt]) -> Iterator[Signal]:
    """The signals that were read before the deadline.

    Raises:
        OutOfTime: a prompt that was not read then.
    """
    for prompt, (read, signal) in zip(prompts, request.completed, strict=False):
        if prompt != read:
            break
        yield signal
    else:
        if len(prompts) <= len(request.completed):
            return
    raise OutOfTime("this was not read in time")


class KeptPassages:
    """The passages that a service keeps, and what reading costs with them.

    Args:
        cache: None keeps nothing.
    """

    def __init__(self, cache: PassageCache | None) -> None:
        self.cache = cache
        self._reader: CachedReader | None = None

    def wrap(self, reader: Any) -> Reader:
        """A reader that uses the cache; one that cannot keep keys is returned unchanged."""
        if self.cache is None or not hasattr(reader, "read_with_kv"):
            unchanged: Reader = reader
            return unchanged
        from tamis.probes.kv_cache.cache import CachedReader

        self._reader = CachedReader(reader, self.cache)
        return self._reader

    def tokens_to_read(self, prompt: Prompt) -> int:
        """Tokens that reading a prompt costs: only the question's where the passage is kept."""
        if self.cache is None or self._reader is None:
            return len(prompt)
        is_kept = self.cache.holds(self._reader.key(prompt))
        return len(prompt.question.ids) if is_kept else len(prompt)
