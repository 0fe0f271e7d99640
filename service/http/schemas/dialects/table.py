"""The table of dialects: which paths there are, and whose requests each of them takes.

A dialect is a row in a file of its own; here it is listed at the paths that its clients call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from tamis.service.http.runtime.errors import ErrorFormat
from tamis.service.http.schemas.compress import Compression, CompressionList, CompressRequest
from tamis.service.http.schemas.dialects.base import CompressCall, Dialect
from tamis.service.http.schemas.dialects.cohere import COHERE
from tamis.service.http.schemas.dialects.compressing import OPENSEARCH, TOKEN_COMPANY
from tamis.service.http.schemas.dialects.tei import TEI, TEI_PREDICT
from tamis.service.http.schemas.dialects.vendors import (
    DEEPINFRA,
    FIREWORKS,
    JINA,
    LIBRECHAT,
    NIM,
    SGLANG,
    VLLM_SCORE,
    VOYAGE,
)
from tamis.service.http.schemas.messages import CCR, MessagesAnswer, MessagesRequest

REFUSED = "refused"
"""In place of where warnings are: fields that are not known are refused."""
TAMIS = Dialect(
    name="tamis",
    request=CompressRequest,
    answer=Compression | CompressionList,
    to_call=lambda body, _: CompressCall([body], any_model=False),
    to_answer=lambda body, found, _: (
        found[0] if body.questions is None else CompressionList(data=found)
    ),
    warnings=REFUSED,
    keeps=lambda _: True,
)
HEADROOM = Dialect(
    name="Headroom",
    request=MessagesRequest,
    answer=MessagesAnswer,
    to_call=lambda body, _: body,
    to_answer=lambda _, found, __: found,
    key="messages",
    # beside documents, too, which it then refuses by name; null is no list of messages
    claims=lambda body: (
        body.get("messages") is not None or not {"documents", "input"} & body.keys()
    ),
    warnings="`warnings`",
    keeps=lambda body: body.config.mode != CCR,  # whose originals have to be kept each time
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Paths that take the same dialects.

    Attributes:
        name: of its operations in the OpenAPI document.
        paths: each with its summary; `{model:path}` is a model.
        dialects: the most general first. Of those that claim a body the last one takes it.
        description: for the OpenAPI document.
        statuses: of errors, beside those that every route has.
    """

    name: str
    paths: Mapping[str, str]
    dialects: tuple[Dialect, ...]
    description: str
    statuses: tuple[int, ...] = ()

    def dialect_of(self, body: Any) -> Dialect:
        """The dialect of a body, by its keys."""
        keys = body if isinstance(body, dict) else {}
        return next(row for row in reversed(self.dialects) if _claims(row, keys))


def _claims(row: Dialect, body: Mapping[str, Any]) -> bool:
    has_key = row.key is None or row.key in body
    return has_key and (row.claims is None or row.claims(body))


_MODEL_STATUSES = (404,)
"""A model in a path may hold slashes, but no line break: such a path is not found."""
_V1 = (JINA, VOYAGE, SGLANG, LIBRECHAT)
_PAIRED = {"queries", "text_1", "data_1"}
ENDPOINTS = (
    Endpoint(
        "compress",
        {"/v1/compress": "Keep the sentences that answer, verbatim, within a token budget"},
        (TAMIS, HEADROOM, TOKEN_COMPANY),
        "Compresses documents for one question, or for each of many.\n\n"
        "A body with `messages` has the tool results of a conversation compressed, one with "
        "`input` a\nsingle text; each is answered in its own shape.",
        (404,),
    ),
    Endpoint(
        "rerank_v2",
        {"/v2/rerank": "Rerank, as Cohere v2; with relevant_spans"},
        (COHERE,),
        "Sorts documents; with `relevant_spans`, says which parts of each answer.",
    ),
    Endpoint(
        "rerank_v1",
        {
            "/v1/rerank": (
                "Rerank, as Jina, Cohere v1, vLLM, SGLang, infinity, Voyage and LibreChat"
            ),
            "/v1/reranking": "As /v1/rerank, for clients of llama.cpp",
            "/v1/reranks": "As /v1/rerank, for clients of DashScope",
            "/reranks": "As /v1/rerank, for clients of DashScope",
            "/compatible-api/v1/reranks": "As /v1/rerank, for clients of DashScope",
            "/infinity/rerank": "As /v1/rerank, for clients of infinity",
            "/infinity/v1/rerank": "As /v1/rerank, for clients of infinity",
        },
        _V1,
        "Sorts documents; Voyage's requests have `top_k`, `truncation` or one of its models.",
    ),
    Endpoint(
        "rerank",
        {
            "/rerank": "Rerank, as TEI, and as /v1/rerank",
            "/reranking": "As /rerank, as llama.cpp calls it",
        },
        (*_V1, TEI),
        "Sorts documents; TEI's requests have `texts`, and its answer is a bare list.",
    ),
    Endpoint(
        "ranking",
        {"/v1/ranking": "Rerank, as NVIDIA NIM"},
        (NIM,),
        "Sorts passages; scores are logits, so that their sigmoid is the score of other dialects.",
    ),
    Endpoint(
        "retrieval_reranking",
        {"/v1/retrieval/{model:path}/reranking": ("As /v1/ranking, with the model in the path")},
        (NIM,),
        "As `/v1/ranking`; the path names the model where the body does not.",
        _MODEL_STATUSES,
    ),
    # before DeepInfra's, whose path would take this one for a model
    Endpoint(
        "fireworks_rerank",
        {"/inference/v1/rerank": "Rerank, as Fireworks"},
        (FIREWORKS,),
        "Sorts documents.",
    ),
    Endpoint(
        "deepinfra_inference",
        {
            "/v1/inference/{model:path}": "One score per pair, as DeepInfra",
            "/inference/{model:path}": "As /v1/inference/{model}",
        },
        (DEEPINFRA,),
        "Scores each document for its query, independently of the others.",
        _MODEL_STATUSES,
    ),
    Endpoint(
        "score",
        {"/score": "One score per pair, as vLLM", "/v1/score": "As /score"},
        (VLLM_SCORE,),
        "Scores each pair independently of the other pairs of the call.",
    ),
    Endpoint(
        "invocations",
        {"/invocations": "Rerank or score, as vLLM on SageMaker"},
        (*_V1, replace(VLLM_SCORE, claims=lambda body: bool(_PAIRED & body.keys()))),
        "Sorts documents for a `query`; scores the pairs of `queries`, `text_1` or `data_1`.",
    ),
    Endpoint(
        "predict",
        {"/predict": "One score per pair, as TEI"},
        (TEI_PREDICT,),
        "Scores pairs of a query and a text, independently of one another.",
    ),
    Endpoint(
        "highlight",
        {"/v1/highlight": "The sentences that answer, as a remote model of OpenSearch"},
        (OPENSEARCH,),
        "The spans of sentences whose probability is at least `threshold`, .5 if absent.",
        (404,),
    ),
)
DIALECTS = tuple(dict.fromkeys(row for endpoint in ENDPOINTS for row in endpoint.dialects))
_BY_PATH = {path: endpoint for endpoint in ENDPOINTS for path in endpoint.paths}


def error_format(path: str, body: Any = None) -> ErrorFormat:
    """The format of the errors of a request.

    Of a path that several dialects share, the body decides; a request that is refused before its
    body is read gets that of the last of them.
    """
    if (endpoint := _BY_PATH.get(path)) is None:
        return "openai"
    row = endpoint.dialect_of(body) if isinstance(body, dict) else endpoint.dialects[-1]
    return row.errors
