"""A small HTTP client with retries, used by all importers."""

import logging
import random
import time
from dataclasses import dataclass, field

import requests

log = logging.getLogger(__name__)

RETRYABLE = {408, 425, 429, 500, 502, 503, 504}
MAX_BODY = 5 * 1024 * 1024


class UpstreamError(RuntimeError):
    """The other side answered with an error that a retry will not cure."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"upstream answered {status}: {body[:200]}")
        self.status = status


@dataclass
class RetryPolicy:
    """How often and how long to wait.

    The wait doubles with each attempt and has a random part of up to 30 %.
    """

    attempts: int = 4
    first_wait: float = 0.5
    max_wait: float = 20.0
    jitter: float = 0.3

    def wait(self, attempt: int) -> float:
        base = min(self.max_wait, self.first_wait * 2**attempt)
        return base * (1 + random.random() * self.jitter)


@dataclass
class Client:
    base_url: str
    token: str
    policy: RetryPolicy = field(default_factory=RetryPolicy)
    timeout: float = 10.0

    def get(self, path: str, **params):
        return self._send("GET", path, params=params)

    def post(self, path: str, payload: dict, idempotency_key: str | None = None):
        headers = {}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        return self._send("POST", path, json=payload, headers=headers)

    def _send(self, method: str, path: str, **kwargs):
        url = f"{self.base_url}/{path.lstrip('/')}"
        # a POST without a key must never be repeated
        may_retry = method == "GET" or "Idempotency-Key" in kwargs.get("headers", {})
        for attempt in range(self.policy.attempts):
            try:
                response = requests.request(
                    method, url, timeout=self.timeout,
                    auth=("importer", self.token), stream=True, **kwargs,
                )
            except requests.ConnectionError as error:
                if not may_retry:
                    raise
                log.warning("attempt %d failed: %s", attempt + 1, error)
                time.sleep(self.policy.wait(attempt))
                continue
            if response.status_code in RETRYABLE and may_retry:
                after = response.headers.get("Retry-After")
                time.sleep(float(after) if after else self.policy.wait(attempt))
                continue
            if response.status_code >= 400:
                raise UpstreamError(response.status_code, response.text)
            return self._read(response)
        raise UpstreamError(599, "no attempts left")

    def _read(self, response) -> dict:
        length = int(response.headers.get("Content-Length", 0))
        if length > MAX_BODY:
            raise ValueError(f"body of {length} bytes, at most {MAX_BODY} are read")
        return response.json()


def chunked(rows: list, size: int = 500):
    """Yields the rows in lists of at most `size`, the last may be shorter."""
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
