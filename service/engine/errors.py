"""Why a request is not served, whoever asks: HTTP, a thread of the library, a test."""

from __future__ import annotations

from tamis.probes.errors import TamisError


class Refused(TamisError):
    """A request that is not served; `retry_after_s` says when to come back, where that helps."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Malformed(Refused):
    """No JSON, or JSON that RFC 8259 does not know."""


class EmptyInput(Refused):
    """A list without anything in it, where a dialect has a status of its own for that."""


class Unauthorized(Refused):
    """No key, or a key that nobody was given."""


class NotFound(Refused):
    """No such path, model or index."""


class MethodNotAllowed(Refused):
    """The path is there and the verb is not."""


class SlowBody(Refused):
    """The body did not arrive in time."""


class TooLarge(Refused):
    """More bytes or tokens than one request may have."""


class WrongMediaType(Refused):
    """A body that is neither plain nor gzipped JSON."""


class Overloaded(Refused):
    """The queue is full."""


class RateLimited(Refused):
    """The key has used up its share."""


class ClientDisconnected(Refused):
    """The client hung up; nobody reads the answer."""


class OutOfTime(Refused):
    """The answer would come too late."""


class WorkerDied(Refused):
    """The thread that owned the model died with this request in its hands."""


class Unavailable(Refused):
    """The model cannot be loaded, or the service is on its way out."""
