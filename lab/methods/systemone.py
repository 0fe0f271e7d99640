"""A decision model behind a URL ("System One") scores units: one pass over a passage.

    POST URL   {"model": …, "state": text, "questions": {id: {"type": "noul", "instructions": …}}}
    answer     {"answers": {id: {"type": "noul", "noul": 0.93}}, "usage": {"input_tokens": …}}

`noul` is the probability that the answer to the instructions is yes. A passage is sent as numbered
units, with a question for each of them; its probability is the unit's score. Departures: none, for
nobody has published how to score sentences by it; wording and sizes are ours.
"""

from __future__ import annotations

import json
import math
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from tamis.compressors.features.bm25 import visible_texts
from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.options import option
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.http_client import opener_without_redirects
from tamis.probes.interruption import check_interruption
from tamis.text.types import Passage, Unit

_MOST_ANSWER_BYTES = 1 << 24


class DecisionFailed(TamisError):
    """A decision model behind a URL gave no answer, or one that is not of the protocol."""


@dataclass(frozen=True, slots=True)
class Decisions:
    """The probability of yes for each question, by its id, and the tokens that were read."""

    probabilities: dict[str, float]
    tokens_read: int


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
        self._opener = opener_without_redirects()

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


_MOST_UNITS, _MOST_CHARS = 64, 16_000
"""Of one call: units that are asked about, and characters of text."""


class SystemOne(ScoringMethod):
    """Probabilities of a decision model, for units and for whole passages."""

    info: ClassVar[MethodInfo] = MethodInfo(
        "a decision model behind a URL, one question a unit (option url)",
        "System One's protocol, /v1/systemone",
        research=True,
    )

    url: str | None = option(None, "Of the endpoint, such as http://localhost:8000/v1/systemone.")
    model: str = option("default", "The decision model's name there.")
    api_key: str | None = option(None, "Sent as a bearer token.", is_secret=True)
    timeout_s: float = option(60.0, "Seconds that one call may take.")
    reader: Any = None
    """A `DecisionClient`, or what decides like one, in place of the options."""

    def setup(self) -> None:
        """Makes the client, unless one is given.

        Raises:
            BadInput: there is no URL, or it is none of HTTP.
        """
        if self.reader is None and self.url is None:
            raise BadInput(
                "systemone asks a decision model and has no address of one; give the option url, "
                "such as http://localhost:8000/v1/systemone"
            )
        if self.reader is None:
            self.reader = DecisionClient(str(self.url), self.model, self.api_key, self.timeout_s)

    @classmethod
    def ships_for(cls, model: str) -> bool:
        """No: tamis has no decision model."""
        return False

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The probability that each unit helps to answer; a passage ranks by its best unit.

        Raises:
            DecisionFailed: the decision model gave no answer.
        """
        clock = time.perf_counter()
        texts = visible_texts(passages, units)
        values, tokens, calls = [0.0] * len(units), 0, 0
        for group in _groups(units, texts):
            check_interruption()
            title = passages[units[group[0]].passage].title
            instructions = {
                str(u): f"Does sentence [{n}] help to answer the question?"
                for n, u in enumerate(group, 1)
            }
            state = _state(question, title, _number_lines([texts[u] for u in group]))
            found = self.reader.decide(state, instructions)
            calls, tokens = calls + 1, tokens + found.tokens_read
            for u in group:
                values[u] = found.probabilities[str(u)]
        return Scores(
            tuple(values),
            best_unit_scores(values, units, len(passages)),
            calibrated=True,
            windows=calls,
            tokens_read=tokens,
            timings_ms={"read": (time.perf_counter() - clock) * 1e3},
        )

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """The probability that each passage answers, by one question a passage.

        Raises:
            DecisionFailed: the decision model gave no answer.
        """
        clock = time.perf_counter()
        values, tokens = list[float](), 0
        for passage in passages:
            check_interruption()
            state = _state(question, passage.title, passage.text)
            found = self.reader.decide(state, {"0": "Does the text answer the question?"})
            values.append(found.probabilities["0"])
            tokens += found.tokens_read
        return Ranks(
            tuple(values),
            calibrated=True,
            windows=len(values),
            tokens_read=tokens,
            timings_ms={"read": (time.perf_counter() - clock) * 1e3},
        )


def _groups(units: Sequence[Unit], texts: Sequence[str]) -> Iterator[list[int]]:
    """Runs of units of one passage that are asked about in one call."""
    group, chars = list[int](), 0
    for u, unit in enumerate(units):
        is_full = len(group) == _MOST_UNITS or chars + len(texts[u]) > _MOST_CHARS
        if group and (is_full or unit.passage != units[group[0]].passage):
            yield group
            group, chars = [], 0
        group.append(u)
        chars += len(texts[u])
    if group:
        yield group


def _number_lines(texts: Sequence[str]) -> str:
    return "\n".join(f"[{number}] {text}" for number, text in enumerate(texts, 1))


def _state(question: str, title: str | None, text: str) -> str:
    """What the decision model reads."""
    return "\n".join([f"Question: {question}", "", *([title] if title else []), text])
