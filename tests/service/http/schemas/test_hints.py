"""A field that is not known: the one that was meant is named, not the one spelt most like it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tamis.service.http.schemas.compress import CompressRequest, Document
from tamis.service.http.schemas.expand import ExpandRequest, Span
from tamis.service.http.schemas.search import SearchRequest


@pytest.mark.parametrize(
    ("model", "name", "meant"),
    [
        (CompressRequest, "q", "question"),
        (CompressRequest, "prompts", "questions"),
        (CompressRequest, "texts", "documents"),
        (CompressRequest, "passages", "documents"),
        (CompressRequest, "context", "documents"),
        (CompressRequest, "budget", "max_tokens"),
        (CompressRequest, "target_token", "max_tokens"),
        (CompressRequest, "rate", "ratio"),
        (CompressRequest, "top_k", "top_n"),
        (CompressRequest, "Query", "question"),
        (CompressRequest, "returns", "return"),
        (CompressRequest, "max_tokns", "max_tokens"),
        (Document, "page_content", "text"),
        (Document, "txt", "text"),
        (SearchRequest, "top_k", "k"),
        (SearchRequest, "prompt", "question"),
        (ExpandRequest, "texts", "documents"),
        (ExpandRequest, "neighbors", "neighbours"),
        (Span, "document", "index"),
    ],
)
def test_what_means_the_same_goes_before_what_looks_the_same(model, name, meant):
    with pytest.raises(ValidationError, match=f"no field '{name}'; did you mean '{meant}'"):
        model.model_validate({name: "x"})


@pytest.mark.parametrize(("name", "option"), [("quality", "--quality"), ("proxy", "--proxy")])
def test_a_setting_of_the_service_is_named_as_one(name, option):
    with pytest.raises(ValidationError, match=f"no field '{name}'; .* tamis serve {option}"):
        CompressRequest.model_validate({name: "best"})


def test_what_means_nothing_here_is_no_field_of_another():
    with pytest.raises(ValidationError, match="no field 'zzz'; it is not known"):
        CompressRequest.model_validate({"zzz": 1})
