"""Shared by all dialects: text that is never altered, strict and lenient base models."""

from __future__ import annotations

import difflib
import math
import time
import uuid
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from tamis.probes.errors import BadInput
from tamis.probes.segmentation.language import LANGUAGE_CODE, check_language


def _check_text(value: Any) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("string_type", "Input should be a string")
    return value


Text = Annotated[str, PlainValidator(_check_text), WithJsonSchema({"type": "string"})]
"""Any string Python can hold; pydantic's own string type refuses lone surrogates."""


def _check_question(value: Any) -> str:
    if not _check_text(value).strip():
        raise PydanticCustomError("empty", "Input should be a question and is blank")
    return str(value)


def _check_short_text(value: Any) -> str:
    if len(_check_text(value)) > MAX_SHORT_CHARS:
        context = {"given": len(value), "most": MAX_SHORT_CHARS}
        message = "it has {given} characters, {most} is the most"
        raise PydanticCustomError("too_long", message, context)
    return str(value)


MAX_SHORT_CHARS = 256
ShortText = Annotated[
    str,
    PlainValidator(_check_short_text),
    WithJsonSchema({"type": "string", "maxLength": MAX_SHORT_CHARS}),
]
"""A short text that is repeated around the documents' texts."""


def _check_language(value: Any) -> str:
    try:
        return check_language(_check_text(value))
    except BadInput as error:
        raise PydanticCustomError("language", "{message}", {"message": str(error)}) from None


Language = Annotated[
    str,
    PlainValidator(_check_language),
    WithJsonSchema({"type": "string", "pattern": LANGUAGE_CODE.pattern}),
]
Question = Annotated[
    str,
    PlainValidator(_check_question),
    WithJsonSchema({"type": "string", "pattern": r"\S", "minLength": 1}),
]
Documents = Annotated[list[Text], Field(description="Texts, as they are.")]


_SYNONYMS = {
    "query": ("question", "prompt", "q"),
    "queries": ("questions", "prompts"),
    "documents": ("texts", "text", "document", "passages", "context", "contexts", "chunks", "docs"),
    "max_tokens": ("budget", "token_budget", "target_token", "target_tokens"),
    "ratio": ("rate", "target_ratio", "compression_ratio"),
    "top_n": ("top_k", "k"),
    "k": ("top_n", "top_k", "limit"),
    "model": ("model_name", "model_id"),
    "text": ("content", "page_content", "passage", "document"),
    "metadata": ("meta",),
    "index": ("document", "passage"),
    "start": ("begin", "from"),
    "end": ("stop", "to"),
    "neighbours": ("neighbors", "context_window", "window"),
    "spans": ("kept", "relevant_spans"),
}
"""Our fields, and the names they have elsewhere."""


class StrictRequest(BaseModel):
    """A request in our own dialect: unknown fields are refused, with a suggestion."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, given: Any) -> Any:
        if isinstance(given, dict):
            for name in given:
                if name not in cls.model_fields and _field_with_alias(cls, name) is None:
                    meant = _suggest_field(str(name), cls.model_fields)
                    meant = meant and (cls.model_fields[meant].alias or meant)
                    hint = f"did you mean {meant!r}?" if meant else "it is not known"
                    raise PydanticCustomError(
                        "unknown", "no field {name}; {hint}", {"name": repr(name), "hint": hint}
                    )
        return given


class LenientRequest(BaseModel):
    """A request in another service's dialect: fields without a meaning here are ignored."""

    model_config = ConfigDict(strict=True, extra="ignore")


class Response(BaseModel):
    """Any answer of the service."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


def _suggest_field(name: str, fields: Iterable[str]) -> str | None:
    """The field that was probably meant: a synonym, else the one spelt most like it."""
    known = list(fields)
    same = [field for field in known if name.lower() in _SYNONYMS.get(field, ())]
    return next(iter(same or difflib.get_close_matches(name, known, 1)), None)


def _field_with_alias(model: type[BaseModel], name: Any) -> str | None:
    return next((f for f, field in model.model_fields.items() if field.alias == name), None)


def new_id(prefix: str) -> str:
    """A new id, such as `cmp_…`."""
    return f"{prefix}_{uuid.uuid4().hex}"


def new_uuid() -> str:
    """A new id that is a plain UUID, as Cohere's are."""
    return str(uuid.uuid4())


def unix_seconds() -> int:
    """Seconds since 1970."""
    return int(time.time())


def to_probability(score: float, calibrated: bool = True) -> float:
    """A score in [0, 1], as the dialects promise; the order of scores is kept.

    An uncalibrated score goes through a sigmoid; -inf, the score of a document without text, is 0.
    """
    if calibrated:
        return min(1.0, max(0.0, score))
    return 1 / (1 + math.exp(-score)) if score > -700 else 0.0
