"""Tool results shortened by a running service, over the standard library alone.

A hook starts for every call of a tool, and httpx takes longer to import than BM25 takes to score.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request

from tamis.compressors.tools.types import ToolOutput
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.http_client import opener_without_redirects

_LOCAL = ("127.0.0.1", "::1", "localhost")


def check_address(name: str, url: str) -> str:
    """The host of the address of a service.

    Raises:
        BadInput: it has another scheme than http or https, or no host.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadInput(f"{name} is {url!r}; give an address such as http://localhost:8080")
    return parts.hostname


_EXCERPT_BYTES = 200


class ServiceRefused(TamisError):
    """The service refused a request, or answered what is no answer to it."""


@dataclass(frozen=True, slots=True)
class RemoteService:
    """A running service: its address, the key if it has keys, and how long to wait for it."""

    url: str
    api_key: str | None
    timeout_s: float

    def shorten(
        self,
        outputs: Sequence[ToolOutput],
        question: str | None,
        warn: Callable[[str], object] = lambda warning: None,
        **fields: Any,
    ) -> list[str]:
        """The texts of the outputs as `POST /v1/compress` with `messages` returns them.

        Args:
            warn: gets each warning of the answer.
            fields: of the request; those that are None are left to the service.

        Raises:
            ServiceRefused: with the service's message. OSError: it cannot be reached.
        """
        answer = self._post("/v1/compress", request_body(outputs, question, **fields))
        messages = [m for m in answer.get("messages") or () if isinstance(m, dict)]
        contents: list[Any] = [m.get("content") for m in messages if m.get("role") == "tool"]
        if len(contents) != len(outputs) or not all(isinstance(text, str) for text in contents):
            raise ServiceRefused(f"{self.url} returned other texts than it was sent")
        for warning in map(str, answer.get("warnings") or ()):
            # of fields that are sent in any case, the user knows nothing
            if not warning.startswith(tuple(f"{name} has no effect" for name in fields)):
                warn(warning)
        return [
            output.text if output.text.strip() and not content.strip() else content
            for output, content in zip(outputs, contents, strict=True)
        ]

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = self.url.rstrip("/")
        host = check_address("url", url)
        headers = {"content-type": "application/json"}
        if self.api_key:
            headers["authorization"] = f"Bearer {self.api_key}"
        request = Request(url + path, json.dumps(body).encode("ascii"), headers)
        # a proxy that the environment names is for the network, not for this machine
        opener = opener_without_redirects(*[ProxyHandler({})] * (host in _LOCAL))
        try:
            with opener.open(request, timeout=self.timeout_s) as response:
                answer = json.loads(response.read())
        except HTTPError as error:
            raise ServiceRefused(
                f"{url} answered {error.code}: {_message(error.read())}"
            ) from error
        except ValueError as error:
            raise ServiceRefused(f"{url} answered with what is no JSON ({error})") from error
        if not isinstance(answer, dict):
            raise ServiceRefused(f"{url} answered with what is no object; is it a tamis service?")
        return answer


def request_body(
    outputs: Sequence[ToolOutput], question: str | None, **fields: Any
) -> dict[str, Any]:
    """The request: a conversation of the question, the calls, and what they returned."""
    asked = [{"role": "user", "content": question}] if question else []
    calls = [
        {
            "id": f"call_{i}",
            "type": "function",
            "function": {"name": output.name or "tool", "arguments": output.arguments or "{}"},
        }
        for i, output in enumerate(outputs)
    ]
    results = [
        {"role": "tool", "tool_call_id": f"call_{i}", "content": output.text}
        for i, output in enumerate(outputs)
    ]
    given = {name: value for name, value in fields.items() if value is not None}
    return {"messages": [*asked, {"role": "assistant", "tool_calls": calls}, *results], **given}


def _message(body: bytes) -> str:
    """The message of an error, or the beginning of its body."""
    try:
        return str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return repr(body[:_EXCERPT_BYTES].decode("utf-8", "replace"))
