"""Health, version, metrics, models, `/info` and `/tokenize`."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Annotated, Any

from fastapi import Path, Request, Response
from fastapi.responses import PlainTextResponse

from tamis.compressors.registry import method_info, method_names
from tamis.probes.errors import BadInput
from tamis.probes.interruption import check_interruption
from tamis.probes.model.loading import choose_device, choose_dtype
from tamis.probes.tokens import TextTokenizer
from tamis.service.engine.errors import TooLarge
from tamis.service.engine.request import QueuedRequest
from tamis.service.http.routes.base import (
    WARNINGS_RESPONSES,
    add_warnings,
    check_limits,
    create_router,
    error_responses,
    json_response,
    log_entry,
    run_connected,
    service_state,
)
from tamis.service.http.runtime.errors import ErrorBody
from tamis.service.http.runtime.state import ServiceState
from tamis.service.http.runtime.telemetry import CONTENT_TYPE
from tamis.service.http.schemas import about as schemas
from tamis.service.http.schemas.json import JsonResponse

routes = create_router()
_WITHOUT_BODY = error_responses(post=False)
_STARTED_AT = int(time.time())
_RequestId = Annotated[str, Path(pattern=r"^[\x21-\x7e]{1,128}$")]
_UNREADY_RESPONSES: dict[int | str, dict[str, Any]] = {
    503: {"model": schemas.Health, "description": "The model is away, or the queue is full."}
}


@routes.head("/livez", include_in_schema=False)
@routes.get(
    "/livez",
    response_model=schemas.Alive,
    responses={503: {"model": ErrorBody, "description": "All threads for requests are stuck."}},
    summary="Whether it runs",
)
async def livez(request: Request) -> Response:
    """Answers as long as the process runs; 503 once a restart is the only remedy, since all threads
    that prepare requests are stuck."""
    service_state(request).executor.check_threads()
    return json_response(schemas.Alive())


@routes.head("/readyz", include_in_schema=False)
@routes.head("/health", include_in_schema=False)
@routes.head("/ping", include_in_schema=False)
@routes.get(
    "/readyz",
    response_model=schemas.Health,
    responses=_UNREADY_RESPONSES,
    summary="Whether it can serve",
)
@routes.get(
    "/health", response_model=schemas.Health, responses=_UNREADY_RESPONSES, summary="As /readyz"
)
@routes.get(
    "/ping", response_model=schemas.Health, responses=_UNREADY_RESPONSES, summary="As /readyz"
)
async def readyz(request: Request) -> Response:
    """Whether the model is loaded, the queue has room, and the service is not shutting down."""
    engine = service_state(request).engine
    load = engine.queue_load()
    full = load.tokens >= load.max_tokens
    ready = engine.ready and not full
    reason = None if ready else "draining" if engine.draining else "full" if full else "no model"
    health = schemas.Health(
        status="ok" if ready else "unready",
        reason=reason,
        queue_tokens=load.tokens,
        queue_fraction=round(load.tokens / load.max_tokens, 4),
    )
    return JsonResponse(health.model_dump(), 200 if ready else 503)


@routes.get("/version", response_model=schemas.Version, summary="Which tamis this is")
async def tamis_version() -> Response:
    """The version of the package."""
    return json_response(schemas.Version(version=version("tamis")))


@routes.get(
    "/metrics",
    response_class=PlainTextResponse,
    summary="Meters, for Prometheus",
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request) -> Response:
    """All metrics in the text format of Prometheus."""
    return Response(service_state(request).metrics.render(), media_type=CONTENT_TYPE)


@routes.get(
    "/models", response_model=schemas.Models, responses=_WITHOUT_BODY, summary="As /v1/models"
)
@routes.get(
    "/v1/models",
    response_model=schemas.Models,
    responses=_WITHOUT_BODY,
    summary="What model may be",
)
async def models(request: Request) -> Response:
    """`default`, and each method by its name; those of papers where the settings name them."""
    state = service_state(request)
    listed = {"default", state.settings.method, *state.settings.methods}
    listed.update(method_names(None, research=False))
    models = [one for one in _served_models(state) if one.id in listed]
    return json_response(schemas.Models(data=models))


@routes.get(
    "/v1/models/{uid}",
    response_model=schemas.ModelDetail,
    responses=error_responses(404, post=False),
    summary="One of the models",
)
async def model(uid: str, request: Request) -> Response:
    """The model of an id of `/v1/models`, as OpenAI and Xinference describe it."""
    state = service_state(request)
    method = state.methods.resolve_method(uid)
    found = next(one for one in _served_models(state) if one.id == method)
    named = found.model_copy(update={"id": uid})
    return json_response(schemas.ModelDetail(**dict(named), model_name=uid, model_uid=uid))


@routes.get(
    "/v1/cluster/auth", response_model=schemas.ClusterAuth, summary="Whether keys are needed"
)
async def cluster_auth(request: Request) -> Response:
    """For Xinference's clients, which send their key only if this says so."""
    settings = service_state(request).settings
    return json_response(schemas.ClusterAuth(auth=bool(settings.api_keys or settings.keys_file)))


def _served_models(state: ServiceState) -> list[schemas.Model]:
    default = state.settings.method
    listed = [
        schemas.Model(
            id=name,
            created=_STARTED_AT,
            kind=method_info(name).kind,
            summary=method_info(name).summary,
            default=name == default,
        )
        for name in state.methods.names
    ]
    first = listed[state.methods.names.index(default)].model_copy(update={"id": "default"})
    return [first, *listed]


@routes.get(
    "/info",
    response_model=schemas.Info,
    responses=_WITHOUT_BODY,
    summary="What runs here, and its limits",
)
async def about(request: Request) -> Response:
    """TEI's fields, the methods, and what one request may have."""
    return json_response(_service_info(service_state(request)))


def _service_info(state: ServiceState) -> schemas.Info:
    settings, methods, engine = state.settings, state.methods, state.engine
    dtype = choose_dtype(settings.dtype, choose_device(settings.device))
    return schemas.Info(
        model_id=methods.reader.card.name,
        model_sha=methods.reader.card.revision,
        model_dtype=str(dtype).removeprefix("torch."),
        served_model_name=methods.reader.card.name,
        model_type={"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
        max_concurrent_requests=settings.max_requests,
        max_input_length=settings.max_request_tokens,
        max_batch_tokens=engine.bounds.batch_tokens,
        max_client_batch_size=settings.max_documents,
        tokenization_workers=settings.max_requests,  # each request has its own thread
        version=version("tamis"),
        layers_loaded=state.layers,
        methods=methods.names,
        tokenizers=methods.tokenizer_names,
        indexes=list(state.indexes),
        limits=schemas.Limits(
            **{name: getattr(settings, name) for name in schemas.Limits.model_fields}
        ),
    )


@routes.get(
    "/v1/progress/{request_id}",
    response_model=schemas.Progress,
    responses=error_responses(422, post=False),
    summary="How far a request to /v1/explain has come",
)
async def progress(request_id: _RequestId, request: Request) -> Response:
    """Finds the request that the same API key sent with this `X-Request-Id`."""
    owner = log_entry(request).key
    found = service_state(request).running.find(owner, request_id)
    if found is None:
        return json_response(schemas.Progress(status="unknown", tokens=0, tokens_read=0))
    return json_response(
        schemas.Progress(
            status="reading" if found.tokens_read else "waiting",
            tokens=found.tokens_to_read,
            tokens_read=found.tokens_read,
        )
    )


@routes.post(
    "/tokenize",
    response_model=schemas.Tokenized | schemas.TeiTokenized,
    responses=WARNINGS_RESPONSES | error_responses(),
    summary="How the proxy, or a budget, counts",
)
async def tokenize(body: schemas.TokenizeRequest, request: Request) -> Response:
    """`prompt` is answered as vLLM does, `inputs` as TEI does. Special tokens are text."""
    state = service_state(request)
    if (body.prompt is None) == (body.inputs is None):
        raise BadInput("give prompt, or inputs")
    given = body.inputs if body.prompt is None else body.prompt
    texts = [given] if isinstance(given, str) else list(given or ())
    check_limits(state.settings, (), len(texts), sum(map(len, texts)))
    most = state.settings.max_request_tokens

    def work(_: QueuedRequest) -> Response:
        counter = state.methods.counter(body.tokenizer)  # which may have to be read first
        return _tokenize_answer(counter, texts, body.prompt is None, most)

    answer = await run_connected(request, work, body.timeout_ms)
    add_warnings(answer, body.field_warnings())
    return answer


def _tokenize_answer(counter: TextTokenizer, texts: list[str], is_tei: bool, most: int) -> Response:
    """The answer of `/tokenize`.

    Raises:
        TooLarge: more tokens than one request may have.
    """
    encodings, tokens = [], 0
    for text in texts:
        check_interruption()
        encodings.append(counter.encode(text))
        if (tokens := tokens + len(encodings[-1].ids)) > most:
            raise TooLarge(
                f"the texts have at least {tokens:,} tokens and {most:,} is the most; "
                "send them in parts"
            )
    if not is_tei:
        ids = encodings[0].ids
        return json_response(schemas.Tokenized(count=len(ids), max_model_len=most, tokens=ids))
    return json_response(
        schemas.TeiTokenized(
            [
                [
                    schemas.TeiToken(id=i, text=text[a:b], start=a, stop=b)
                    for i, (a, b) in zip(encoded.ids, encoded.offsets, strict=True)
                ]
                for text, encoded in zip(texts, encodings, strict=True)
            ]
        )
    )
