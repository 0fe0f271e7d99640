"""Readers that answer: a local model folder, or any OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.hub import zoo
from tamis.service.evaluation.answers.answers import Answering

_TIMEOUT_S = 120.0


class Served:
    """`POST {url}/chat/completions`, greedy."""

    def __init__(self, url: str, model: str, api_key: str | None) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra('readers by URL need httpx: pip install "tamis[service]"') from error
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(timeout=_TIMEOUT_S, headers=headers)
        self._broken = httpx.HTTPError
        base = url.rstrip("/")
        self.url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self.model, self.identity = model, f"{self.url} {model}"

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """What the server's model says.

        Raises:
            BadInput: the server cannot be reached, refuses, or does not speak the protocol.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        try:
            answer = self._http.post(self.url, json=body)
            answer.raise_for_status()
            said: Any = answer.json()["choices"][0]["message"]["content"]
        except (self._broken, ValueError, LookupError, TypeError) as error:
            raise BadInput(
                f"{self.url} gave no answer ({error}); give the base URL of an OpenAI-compatible "
                "server, such as http://localhost:8000/v1, and its --reader-model"
            ) from error
        return str(said or "")


class Local:
    """A model folder, or a model of the zoo."""

    def __init__(self, model: str) -> None:
        from tamis.probes.model.generate import Generator

        folder = zoo.folder_of(model)
        self._generator = Generator.from_folder(folder)
        self.identity = str(Path(folder).resolve())

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """What the model says."""
        return self._generator.answer(messages, max_tokens)


def reader_of(given: str, model: str, api_key: str | None) -> Answering:
    """A reader by URL, folder or zoo name."""
    if given.startswith(("http://", "https://")):
        return Served(given, model, api_key)
    return Local(given)
