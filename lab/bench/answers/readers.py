"""Models that answer questions: a local model folder, or any OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, MissingExtra
from tamis.probes.hub import zoo
from tamis_lab.bench.answers.quality import AnswerReader

_TIMEOUT_S = 120.0


class ServerReader:
    """A server that is queried by `POST {url}/chat/completions` with greedy decoding."""

    def __init__(self, url: str, model: str, api_key: str | None) -> None:
        try:
            import httpx
        except ImportError as error:
            raise MissingExtra('readers by URL need httpx: pip install "tamis[service]"') from error
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._http = httpx.Client(timeout=_TIMEOUT_S, headers=headers)
        self._http_error = httpx.HTTPError
        base = url.rstrip("/")
        self.url = base if base.endswith("/chat/completions") else f"{base}/chat/completions"
        self.model, self.identity = model, f"{self.url} {model}"

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The answer of the server's model.

        Raises:
            BadInput: the server cannot be reached, refuses, or does not implement the protocol.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "max_tokens": max_tokens,
            "temperature": 0,
        }
        try:
            response = self._http.post(self.url, json=body)
            response.raise_for_status()
            content: Any = response.json()["choices"][0]["message"]["content"]
        except (self._http_error, ValueError, LookupError, TypeError) as error:
            raise BadInput(
                f"{self.url} gave no answer ({error}); give the base URL of an OpenAI-compatible "
                "server, such as http://localhost:8000/v1, and its --reader-model"
            ) from error
        return str(content or "")


class LocalReader:
    """A model folder, or a model of the zoo, on this machine."""

    def __init__(self, model: str) -> None:
        from tamis_lab.bench.answers.generate import Generator

        folder = zoo.model_folder(model)
        self._generator = Generator.from_folder(folder)
        self.identity = str(Path(folder).resolve())

    def answer(self, messages: Sequence[Mapping[str, str]], max_tokens: int) -> str:
        """The model's answer."""
        return self._generator.answer(messages, max_tokens)


def load_reader(source: str, model: str, api_key: str | None) -> AnswerReader:
    """The reader at a URL, in a folder, or with a name of the zoo.

    Args:
        model, api_key: for a server only.
    """
    if source.startswith(("http://", "https://")):
        return ServerReader(source, model, api_key)
    return LocalReader(source)
