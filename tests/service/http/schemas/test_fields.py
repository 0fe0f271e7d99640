"""What a field does not do is said on the field: the warnings, and the page's table of fields."""

from __future__ import annotations

import importlib
import json
import pkgutil

import pytest

from tamis.service.http import schemas
from tamis.service.http.schemas.base import (
    MAX_HEADER_CHARS,
    MAX_UNKNOWN_FIELDS,
    LenientRequest,
    StrictRequest,
    warnings_header,
)
from tamis.service.http.schemas.dialects.tei import TeiRequest
from tamis.service.http.schemas.dialects.vendors import DeepinfraRequest, JinaRequest, NimRequest
from tests.service.http.test_docs_pages import rows

BASES = ("RankRequest", "OptionFields", "TimedRequest")
"""Schemas that are only the parents of others."""


def request_schemas():
    for module in pkgutil.walk_packages(schemas.__path__, f"{schemas.__name__}."):
        importlib.import_module(module.name)
    waiting = [LenientRequest, StrictRequest]
    found = {}
    while waiting:
        children = waiting.pop().__subclasses__()
        waiting += children
        found |= {c.__name__: c for c in children if c.__module__.startswith(schemas.__name__)}
    return {name: schema for name, schema in found.items() if name not in BASES}


SCHEMAS = request_schemas()


def test_the_page_has_every_schema():
    """`test_docs_pages` writes its table from the table of dialects and the parts of requests."""
    assert {schema.__name__ for _, schema in rows()} == set(SCHEMAS)


def warnings_of(**fields):
    return JinaRequest.model_validate({"query": "q", "documents": ["a"], **fields}).field_warnings()


@pytest.mark.parametrize("value", [None, False, "", "false", "False", [], {}, "{}"], ids=repr)
def test_a_field_that_asks_for_nothing_is_not_named(value):
    assert warnings_of(metadata=value, anything=value) == []


@pytest.mark.parametrize("value", [0, 1, True, "true", ["a"], {"a": 1}], ids=repr)
def test_a_field_that_asks_for_something_is_named(value):
    assert warnings_of(anything=value) == ["anything has no effect: it is not known here"]


@pytest.mark.parametrize(
    ("schema", "field", "asked"),
    [
        (DeepinfraRequest, "documents", {"queries": ["port?"]}),
        (NimRequest, "passages", {"query": {"text": "port?"}}),
        (JinaRequest, "documents", {"query": "port?"}),
        (TeiRequest, "texts", {"query": "port?"}),
    ],
)
def test_fields_of_documents_that_are_not_read_are_named(schema, field, asked):
    document = {"text": "The port is 80.", "title": "T", "zzz": 1}
    given = schema.model_validate({**asked, field: [document]})
    assert given.field_warnings() == [
        "documents have fields that are not ranked (title, zzz); only their text is read"
    ]
    assert schema.model_validate({**asked, field: ["The port is 80."]}).field_warnings() == []


def test_many_and_long_names_are_cut():
    found = warnings_of(**{f"{i}{'x' * 500}": 1 for i in range(50)})
    assert len(found) == MAX_UNKNOWN_FIELDS + 1
    assert found[-1] == f"{50 - MAX_UNKNOWN_FIELDS} more fields have no effect"
    assert max(map(len, found)) < 150


def test_the_header_is_a_json_list_in_printable_ascii_of_a_bounded_size():
    warnings = ["é\r\nset-cookie: a\x7f\ud800", *["w" * 100] * 100]
    found = warnings_header(warnings)
    assert len(found) <= MAX_HEADER_CHARS
    assert all(0x20 <= ord(char) < 0x7F for char in found)
    assert json.loads(found) == warnings[: len(json.loads(found))]
