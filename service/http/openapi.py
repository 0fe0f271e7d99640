"""The OpenAPI document: FastAPI's, corrected where the service behaves otherwise."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from tamis.service.http.middleware.auth import OPEN_PATHS
from tamis.service.http.runtime.state import ServiceState

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
