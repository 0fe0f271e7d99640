"""What the service says of itself: `/v1/models`, `/info`, `/tokenize`, and whether it is well."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import RootModel

from tamis.service.http.schemas.base import LenientRequest, Text, Response


class Model(Response):
    """One thing that `model` may be."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["tamis"] = "tamis"
    kind: str
    summary: str
    default: bool


class Models(Response):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[Model]


class Limits(Response):
    """What one request may have, and the service as a whole."""

    max_body_bytes: int
    max_documents: int
    max_request_tokens: int
    max_query_chars: int
    max_inputs: int
    queue_tokens: int
    max_requests: int
    timeout_s: float


class Info(Response):
    """What runs here; the first fields are TEI's, null where there is no such thing or number."""

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
    """Whether it can serve."""

    status: Literal["ok", "unready"]
    reason: str | None = None
    queue_tokens: int
    queue_fraction: float


class Alive(Response):
    """It runs."""

    status: Literal["ok"] = "ok"


class Version(Response):
    """Which tamis."""

    version: str


class TokenizeRequest(LenientRequest):
    """`prompt` as vLLM has it, or `inputs` as TEI has it."""

    prompt: Text | None = None
    inputs: Text | list[Text] | None = None
    tokenizer: Text = "proxy"
    model: Text | None = None


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
