"""Reasons why a request is not served; independent of HTTP."""

from __future__ import annotations

import math

from tamis.probes.errors import TamisError


class Refused(TamisError):
    """A request is not served; the message says when to try again, where that helps.

    Attributes:
        retry_after_s: that time, and `retry_after` the whole seconds that are told.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        self.retry_after = None if retry_after_s is None else max(1, math.ceil(retry_after_s))
        told = "" if self.retry_after is None else f"; come back in {self.retry_after} s"
        super().__init__(f"{message}{told}")


class Malformed(Refused):
    """The body is not JSON by RFC 8259."""


class AmbiguousLength(Refused):
    """The length of the body is given in two ways."""


class EmptyInput(Refused):
    """An empty list, where a dialect has a status of its own for that."""


class Unauthorized(Refused):
    """The API key is missing or unknown."""


class ForeignOrigin(Refused):
    """A web page of another origin asks for what the service pays for."""


class ForeignHost(Refused):
    """The request names a host that this service does not answer to."""


class NotFound(Refused):
    """No such path, model or index."""


class MethodNotAllowed(Refused):
    """The path does not take this HTTP method."""


class SlowBody(Refused):
    """The body did not arrive in time."""


class TooLarge(Refused):
    """More bytes or tokens than one request may have."""


class TooLong(TooLarge):
    """Reading it takes longer than a request may take, even with nothing else to read."""


class WrongMediaType(Refused):
    """A body that is neither plain nor gzipped JSON."""


class Overloaded(Refused):
    """The queue is full."""


class RateLimited(Refused):
    """The API key has used up its rate limit."""


class ClientDisconnected(Refused):
    """The client disconnected; nobody reads the answer."""


class OutOfTime(Refused):
    """The answer would come later than the caller allowed."""


class LimitPassed(OutOfTime):
    """The answer would come later than the service allows."""


class WorkerDied(Refused):
    """The thread that owned the model died while it read for this request."""


class Unavailable(Refused):
    """The model cannot be loaded, or the service is shutting down."""


class UpstreamBusy(Refused):
    """All connections to the upstream service are in use."""
