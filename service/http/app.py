"""The service as an ASGI app.

app = create_app(Settings(proxy="smollm2-135m"))     # uvicorn.run(app)

request ─ log entry ─ key ─ body ─ route ─ executor ─ thread ─ method ─ engine's queue ─ model
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.openapi.utils import get_openapi
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from tamis.compressors.reading.windows import Reader
from tamis.probes.errors import BadInput, TamisError
from tamis.probes.plugins import AGENTS, HTTP_GROUP, INSTALL, find_plugins
from tamis.service.engine.errors import Malformed, MethodNotAllowed, NotFound
from tamis.service.http.middleware.auth import (
    DOCS_ASSETS,
    OPEN_PATHS,
    AuthMiddleware,
    Keyring,
    parse_inline_keys,
)
from tamis.service.http.middleware.body_limits import (
    BodyLimitMiddleware,
    BodyRoom,
    FramingMiddleware,
)
from tamis.service.http.middleware.request_log import (
    REQUEST_ID_HEADER,
    RequestLogMiddleware,
    error_response,
)
from tamis.service.http.routes import about, base, compress, dialects, retrieve
from tamis.service.http.runtime.errors import first_validation_error
from tamis.service.http.runtime.memory import IdleMemory
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.state import ServiceState, proxy_choice
from tamis.service.http.runtime.telemetry import (
    Metrics,
    TraceContextMiddleware,
    create_logger,
    start_traces,
)
from tamis.service.http.schemas.base import MAX_NAME_CHARS
from tamis.service.http.schemas.dialects.table import DIALECTS

_SCHEME = "ApiKey"
_SCHEMA_REF = "#/components/schemas/"
_UNUSED_SCHEMAS = ("HTTPValidationError", "ValidationError")


def openapi_builder(app: FastAPI) -> Callable[[], dict[str, Any]]:
    """A function for `app.openapi` that builds the document once."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, summary=app.summary, routes=app.routes
            )
            app.openapi_schema = _add_known_names(
                _correct_document(made), getattr(app.state, "service_state", None)
            )
        return app.openapi_schema

    return openapi


def _correct_document(document: dict[str, Any]) -> dict[str, Any]:
    parts = document.setdefault("components", {})
    for name in _UNUSED_SCHEMAS:
        parts.get("schemas", {}).pop(name, None)
    parts["securitySchemes"] = {
        _SCHEME: {"type": "http", "scheme": "bearer", "description": "Where the service has keys."}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            # {} beside the scheme: a service without keys is open
            operation["security"] = [] if path in OPEN_PATHS else [{_SCHEME: []}, {}]
            responses = operation.get("responses", {})
            responses.setdefault("500", {"description": "A fault of the service."})
            if _refers_to_unused(responses.get("422")):  # FastAPI's own, of a path with a parameter
                del responses["422"]
    _replace_one_of(document)
    return document


def _refers_to_unused(response: Any) -> bool:
    """Whether a response has the form of a schema that the document leaves out."""
    schema = (response or {}).get("content", {}).get("application/json", {}).get("schema", {})
    return schema.get("$ref") in {f"{_SCHEMA_REF}{name}" for name in _UNUSED_SCHEMAS}


def _add_known_names(document: dict[str, Any], state: ServiceState | None) -> dict[str, Any]:
    """Adds the methods, tokenizers and indexes of this service as `enum`s of their fields."""
    if state is None:
        return document
    schemas = document["components"]["schemas"]
    # an input of a batch may have an unknown name: its own item of the answer has the error
    schemas["CompressInput"] = deepcopy(schemas["CompressRequest"])
    schemas["CompressBatch"]["properties"]["inputs"]["items"]["$ref"] = (
        f"{_SCHEMA_REF}CompressInput"
    )
    methods = state.methods
    names = {
        "model": ["default", methods.reader.card.name, *methods.names],
        "method": methods.names,
        "tokenizer": methods.tokenizer_names,
        "index": list(state.indexes),
    }
    for schema in ("CompressRequest", "MessagesRequest", "SearchRequest", "TokenizeRequest"):
        is_lenient = schema in ("MessagesRequest", "TokenizeRequest")
        for field, value in schemas[schema]["properties"].items():
            if field in names and not (is_lenient and field == "model"):
                strings = [part for part in value.get("anyOf", [value]) if part["type"] == "string"]
                for string in strings if names[field] else ():
                    string["enum"] = names[field]
    return document


def _replace_one_of(node: Any) -> None:
    """Replaces `oneOf` by `anyOf`: a body that fits two dialects is accepted."""
    if isinstance(node, dict):
        if "oneOf" in node:
            node["anyOf"] = node.pop("oneOf")
        for value in node.values():
            _replace_one_of(value)
    elif isinstance(node, list):
        for value in node:
            _replace_one_of(value)


_NO_TELEMETRY: Any = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own, since 0.160 or so: it would record what is wrong with a request in the words of
the request. Ours are `--traces`, `/metrics` and the log."""
_WEB_FOLDER = Path(__file__).parent / "web"
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The page loads its own scripts and styles, and talks to its own service alone."""


class Gateway(Protocol):
    """Stands before the routes and answers for paths that they do not have.

    It is the class that the entry point `upstream` of `tamis.http` names, made of the settings; it
    raises `BadInput` where it cannot follow them.

    Attributes:
        answer_headers: names of the headers that its answers may have.
    """

    answer_headers: Sequence[str]

    def layer(self, app: ASGIApp, room: BodyRoom) -> ASGIApp:
        """The app with this before it. What it holds of bodies is taken from `room`."""

    async def close(self) -> None:
        """Ends its connections, once all is served."""


def create_app(
    settings: Settings | None = None, reader: Reader | Future[Reader] | None = None
) -> FastAPI:
    """The service as an app; its model is loaded when the app starts, not before.

    Args:
        settings: by default those of the environment.
        reader: used instead of the settings' proxy, such as a `ScriptedReader`; or that, from
            `begin_loading`.

    Raises:
        BadInput: settings that cannot be followed.
    """
    if settings is None:
        from tamis.service.http.runtime.environment import load_settings

        settings = load_settings()
    metrics, log = Metrics(), create_logger(settings.log_format, settings.log_level)
    end_traces = start_traces(settings.traces)
    idle = IdleMemory()
    keyring, gateway = load_keyring(settings), open_gateway(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            choice = await asyncio.to_thread(proxy_choice, settings)
            cache_bytes = settings.cache_bytes_for(len(keyring.keys))
            served = replace(settings, proxy=choice.proxy, cache_bytes=cache_bytes)
            state = await asyncio.to_thread(ServiceState.start, served, metrics, reader)
        except TamisError as error:
            app.state.failure = error  # `server.run` raises it again
            raise
        app.state.service_state = state
        if choice.warning:
            log.warning("the choice of a proxy", warning=choice.warning)
        log.info(
            "ready",
            proxy=served.proxy,
            methods=len(state.methods.names),
            cache_bytes=served.cache_bytes,
        )
        giving_back = asyncio.create_task(idle.watch())
        yield
        giving_back.cancel()
        finished = await asyncio.to_thread(state.close)
        if gateway is not None:
            await gateway.close()
        await asyncio.to_thread(end_traces)
        log.info("closed", everything_served=finished)

    app = FastAPIOffline(
        static_url=DOCS_ASSETS,
        title="tamis",
        version=version("tamis"),
        summary="Context compression and reranking by reading a small model's attention",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,  # a redirect would carry the Host header, which the caller chose
        separate_input_output_schemas=False,
        telemetry=_NO_TELEMETRY,
    )
    for part in (dialects, compress, retrieve, about):
        app.include_router(part.routes)
    app.get("/docs", include_in_schema=False)(_docs_page)
    _mount_web_page(app)
    _add_error_handlers(app)
    app.openapi = openapi_builder(app)  # type: ignore[method-assign]
    room = BodyRoom()
    # the middleware that is added last is the outermost
    app.add_middleware(
        BodyLimitMiddleware,
        max_bytes=settings.max_body_bytes,
        timeout_s=settings.body_timeout_s,
        room=room,
    )
    if gateway is not None:
        app.add_middleware(gateway.layer, room=room)
    is_open = bool(keyring.keys) or settings.allow_public
    app.add_middleware(
        AuthMiddleware, keyring=keyring, hosts=() if is_open else settings.local_hosts
    )
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=[
                REQUEST_ID_HEADER.decode(),
                "Retry-After",
                *base.PASSTHROUGH_HEADERS,
                *base.WARNINGS_HEADERS,
                dialects.CACHE_HEADER,
                *(name for row in DIALECTS for name in row.headers),
                *(gateway.answer_headers if gateway is not None else ()),
            ],
        )
    app.add_middleware(FramingMiddleware)
    if settings.traces != "off":
        app.add_middleware(TraceContextMiddleware)
    app.add_middleware(RequestLogMiddleware, metrics=metrics, log=log, idle=idle)
    return app


def open_gateway(settings: Settings) -> Gateway | None:
    """What forwards chats to the upstream; None where the settings name none.

    Raises:
        BadInput: no package is installed that forwards, or it cannot follow the settings.
        BrokenPlugin: that package cannot be loaded.
    """
    if settings.upstream is None:
        return None
    plugin = find_plugins(HTTP_GROUP).get("upstream")
    if plugin is None:
        raise BadInput(f"what forwards to an upstream comes with {AGENTS}: {INSTALL[AGENTS]}")
    opened: Gateway = plugin.load()(settings)
    return opened


def load_keyring(settings: Settings) -> Keyring:
    """The keys of the settings: those of the keys file and those given in plain.

    Raises:
        BadInput: see `Keyring` and `parse_inline_keys`.
    """
    return Keyring(parse_inline_keys(settings.api_keys), settings.rate_limit, settings.keys_file)


async def _docs_page(request: Request) -> Response:
    """Swagger UI. FastAPI keeps endpoints for good: one made for an app would hold its model."""
    root = request.scope.get("root_path", "")
    assets = f"{root}{DOCS_ASSETS}"
    return get_swagger_ui_html(
        openapi_url=f"{root}{request.app.openapi_url}",
        title="tamis - Swagger UI",
        swagger_js_url=f"{assets}/swagger-ui-bundle.js",
        swagger_css_url=f"{assets}/swagger-ui.css",
        swagger_favicon_url=f"{assets}/favicon.png",
    )


def _mount_web_page(app: FastAPI) -> None:
    """Serves the web page, where it is installed."""
    if not (_WEB_FOLDER / "index.html").is_file():
        return

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(_WEB_FOLDER / "index.html", headers=_PAGE_HEADERS)

    if (_WEB_FOLDER / "assets").is_dir():
        app.mount("/assets", StaticFiles(directory=_WEB_FOLDER / "assets"), name="assets")


_UNION_TAGS = {"body", "pair", "pairs", *(row.name for row in DIALECTS)}
"""Parts of an error's location that name our unions, not fields of the request."""


def _add_error_handlers(app: FastAPI) -> None:
    """Answers every error in the dialect of its request."""

    @app.exception_handler(TamisError)
    async def handle_tamis_error(request: Request, error: TamisError) -> Response:
        return error_response(request.scope, error)

    @app.exception_handler(RequestValidationError)
    async def handle_validation_error(request: Request, error: RequestValidationError) -> Response:
        found, param = first_validation_error(error.errors(), _UNION_TAGS)
        return error_response(request.scope, found, param)

    @app.exception_handler(HTTPException)
    async def handle_http_error(request: Request, error: HTTPException) -> Response:
        answer = error_response(request.scope, _to_tamis_error(error, request))
        answer.headers.update(error.headers or {})
        return answer


def _to_tamis_error(error: HTTPException, request: Request) -> Exception:
    path = request.url.path
    if error.status_code == 404:
        hint = "leave out the slash at its end; " if path.endswith("/") else ""
        return NotFound(
            f"there is nothing at {path:.{MAX_NAME_CHARS}}; {hint}GET /openapi.json lists what "
            "there is"
        )
    if error.status_code == 405:
        return MethodNotAllowed(f"{path:.{MAX_NAME_CHARS}} does not take {request.method}")
    return Malformed(str(error.detail))
