"""A decision model behind a URL ("System One"): many questions about one text, in one pass.

    POST URL   {"model": …, "state": text, "questions": {id: {"type": "noul", "instructions": …}}}
    answer     {"answers": {id: {"type": "noul", "noul": 0.93}}, "usage": {"input_tokens": …}}

`noul` is the probability that the answer to the instructions is yes.
"""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tamis.probes.errors import BadInput, DecisionFailed

_MOST_ANSWER_BYTES = 1 << 24


@dataclass(frozen=True, slots=True)
class Decisions:
    """The probability of yes for each question, by its id, and the tokens that were read."""

    probabilities: dict[str, float]
    tokens_read: int


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it would carry the API key and the texts to another address."""

    def redirect_request(self, *args: Any) -> None:
        return None


class DecisionClient:
    """Asks a decision model.

    Args:
        url: of the endpoint, such as `http://localhost:8000/v1/systemone`.
        model: its name there. api_key: sent as a bearer token.
        timeout_s: for one call.

    Raises:
        BadInput: the URL is none of HTTP.
    """

    def __init__(
        self, url: str, model: str, api_key: str | None = None, timeout_s: float = 60.0
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise BadInput(f"url is {url!r:.200}; give one such as http://host/v1/systemone")
        self.url, self.model, self.timeout_s = url, model, timeout_s
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._opener = urllib.request.build_opener(_NoRedirects())

    def decide(self, state: str, instructions: Mapping[str, str]) -> Decisions:
        """The probability of yes for each of the instructions, by their ids.

        Raises:
            DecisionFailed: no answer, or one that is not of the protocol.
        """
        questions = {name: {"type": "noul", "instructions": i} for name, i in instructions.items()}
        body = {"model": self.model, "state": state, "questions": questions}
        return _read_answer(self._post(json.dumps(body).encode()), list(instructions))

    def _post(self, body: bytes) -> Any:
        asked = urllib.request.Request(self.url, body, self._headers)
        try:
            with self._opener.open(asked, timeout=self.timeout_s) as answer:
                return json.loads(answer.read(_MOST_ANSWER_BYTES))
        except urllib.error.HTTPError as error:
            said = error.read(200).decode("utf-8", "replace")
            raise DecisionFailed(f"{self.url} answered {error.code}: {said}") from error
        except (OSError, ValueError) as error:
            raise DecisionFailed(f"{self.url} gave no answer ({error}); is it running?") from error


def _read_answer(answer: Any, names: list[str]) -> Decisions:
    try:
        found = {name: float(answer["answers"][name]["noul"]) for name in names}
        tokens = int((answer.get("usage") or {}).get("input_tokens") or 0)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DecisionFailed(
            f"the decision model's answer has no noul for every question ({error!r:.100})"
        ) from error
    if bad := [p for p in found.values() if not (math.isfinite(p) and 0 <= p <= 1)]:
        raise DecisionFailed(f"the decision model's answer has a probability of {bad[0]}")
    return Decisions(found, max(0, tokens))
