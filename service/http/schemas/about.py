"""Schemas of `/v1/models`, `/info`, `/tokenize`, `/version` and the health checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import RootModel

from tamis.service.http.schemas.base import NoEffect, Response, Text, TimedRequest


class Model(Response):
    """One value that `model` may have."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["tamis"] = "tamis"
    kind: str
    summary: str
    default: bool


class Models(Response):
    """All values that `model` may have."""

    object: Literal["list"] = "list"
    data: list[Model]


class ModelDetail(Model):
    """One model; the last three fields are Xinference's."""

    model_type: Literal["rerank"] = "rerank"
    model_name: str
    model_uid: str


class ClusterAuth(Response):
    """Whether requests need a key; Xinference's clients ask this first, without one."""

    auth: bool


class Limits(Response):
    """Limits of one request, and of the service as a whole."""

    max_body_bytes: int
    max_documents: int
    max_request_tokens: int
    max_question_chars: int
    max_inputs: int
    queue_tokens: int
    max_requests: int
    timeout_s: float


class Info(Response):
    """The running service; the first fields are TEI's, null where tamis has no such value."""

    model_id: str
    model_sha: str
    model_dtype: str
    served_model_name: str
    model_type: dict[str, Any]
    max_concurrent_requests: int
    max_input_length: int
    max_batch_tokens: int
    max_batch_requests: int | None = None
    max_client_batch_size: int
    auto_truncate: bool = False
    tokenization_workers: int | None = None
    version: str
    sha: str | None = None
    docker_label: str | None = None
    layers_loaded: int | None
    methods: list[str]
    tokenizers: list[Text]
    indexes: list[Text]
    limits: Limits


class Health(Response):
    """Whether the service can serve."""

    status: Literal["ok", "unready"]
    reason: str | None = None
    queue_tokens: int
    queue_fraction: float


class Alive(Response):
    """The process runs."""

    status: Literal["ok"] = "ok"


class Version(Response):
    """The version of tamis."""

    version: str


class TokenizeRequest(TimedRequest):
    """`prompt` as in vLLM, or `inputs` as in TEI."""

    prompt: Text | None = None
    inputs: Text | list[Text] | None = None
    tokenizer: Text = "proxy"
    model: Annotated[Text | None, NoEffect("of `/tokenize`: tokenizer says who counts", False)] = (
        None
    )


class TeiToken(Response):
    """One token: `inputs[start:stop]`, in code points."""

    id: int
    text: Text
    special: bool = False
    start: int
    stop: int


class Tokenized(Response):
    """The tokens of a prompt."""

    count: int
    max_model_len: int
    tokens: list[int]


class TeiTokenized(RootModel[list[list[TeiToken]]]):
    """The tokens of each input."""


class Progress(Response):
    """How far a request has come.

    `unknown`: none of this id is being served, no longer or not yet. `waiting`: before the model.
    Tokens are of the proxy; a method may read in several steps, so `tokens` may still grow.
    """

    status: Literal["unknown", "waiting", "reading"]
    tokens: int
    tokens_read: int
