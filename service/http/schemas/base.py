"""Shared by all dialects: text that is never altered, strict and lenient base models."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from tamis.probes.errors import BadInput
from tamis.service.api.arguments import suggest_name
from tamis.service.http.runtime.settings import KNOBS, flag
from tamis.text.language import LANGUAGE_CODE, check_language

WARNINGS_HEADER = "X-Tamis-Warnings"
MAX_NAME_CHARS, MAX_UNKNOWN_FIELDS, MAX_HEADER_CHARS = 80, 20, 4096
"""They bound a caller's name in a message, the fields that a warning names, and its header."""


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
        return check_language(_check_text(value)[:MAX_NAME_CHARS])
    except BadInput as error:
        raise PydanticCustomError("language", "{message}", {"message": str(error)}) from None


Language = Annotated[
    str,
    PlainValidator(_check_language),
    WithJsonSchema({"type": "string", "pattern": f"^({LANGUAGE_CODE.pattern})$"}),
]
Question = Annotated[
    str,
    PlainValidator(_check_question),
    WithJsonSchema({"type": "string", "pattern": r"\S", "minLength": 1}),
]


OLD_NAMES = {"query": "question", "queries": "questions"}
"""What clients called some fields of our own requests before, which is still accepted."""
TWO_NAMES = "{old} is the old name of {name}, and their values differ; give {name} alone"
_SYNONYMS = {
    "question": ("query", "prompt", "q"),
    "questions": ("queries", "prompts"),
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


def with_current_names(model: type[BaseModel], given: Any) -> Any:
    """A request with the fields that were given by an old name under that of today.

    Raises:
        PydanticCustomError: both names were given, and their values differ.
    """
    for old, name in OLD_NAMES.items():
        if not isinstance(given, dict) or old not in given or name not in model.model_fields:
            continue
        value, given = given[old], {key: one for key, one in given.items() if key != old}
        if given.get(name) is None:
            given[name] = value
        elif value is not None and value != given[name]:
            raise PydanticCustomError("two_names", TWO_NAMES, {"old": old, "name": name})
    return given


def with_example(**fields: Any) -> ConfigDict:
    """The configuration of a request that the documentation shows filled in like this."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class StrictRequest(BaseModel):
    """A request in our own dialect: unknown fields are refused, with a suggestion."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_fields(cls, given: Any) -> Any:
        given = with_current_names(cls, given)
        if isinstance(given, dict):
            for name in given:
                if name not in cls.model_fields and _field_with_alias(cls, name) is None:
                    hint = cls._hint_for(str(name))
                    shown = {"name": f"{name!r:.{MAX_NAME_CHARS}}", "hint": hint}
                    raise PydanticCustomError("unknown", "no field {name}; {hint}", shown)
        return given

    @classmethod
    def _hint_for(cls, name: str) -> str:
        """What was probably meant by a field that is not known, and where a setting is given."""
        if any(knob.name == name for knob in KNOBS):
            return f"it is a setting of the service: tamis serve {flag(name)}"
        if name == "messages":
            return "send messages to /v1/compress, in a request of their own"
        if meant := suggest_name(name, cls.model_fields, _SYNONYMS):
            return f"did you mean {(cls.model_fields[meant].alias or meant)!r}?"
        return "it is not known"


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Metadata of a field that does nothing here; fields without it do what they say.

    Attributes:
        why: the reason, for the warning and for the documentation.
        warns: whether a warning names the field; not if it asks for nothing, or for what is so.
    """

    why: str
    warns: bool = True

    @classmethod
    def of(cls, field: FieldInfo) -> NoEffect | None:
        """That of a field, or None where the field is obeyed."""
        return next((one for one in field.metadata if isinstance(one, cls)), None)


READ_WHOLE = "documents are read in windows, however long; nothing is cut off"
NOTHING_TRUNCATED = NoEffect("documents are read whole, so there is nothing to truncate", False)
NOTHING_RANDOM = NoEffect("nothing is drawn at random", False)
NOT_LOGGED = NoEffect("it is neither used nor logged", False)
UNDECLARED = {
    "max_tokens_per_doc": READ_WHOLE,
    "max_chunks_per_doc": READ_WHOLE,
    "truncate_prompt_tokens": READ_WHOLE,
    "max_length": READ_WHOLE,
    "max_tokens_per_query": "the query is read whole",
    "metadata": "documents are ranked by their text alone",
    "rank_fields": "documents are ranked by their text alone",
    "timeout": "the time that an answer may take is timeout_ms, in milliseconds",
    "return_len": "usage has the tokens of all documents",
    "return_token_strs": "ids are returned, not the texts of tokens",
    "add_special_tokens": "texts are counted without special tokens",
    "webhook": "answers are sent to the caller alone",
    "service_tier": "there is one tier; priority sets the order",
}
"""Fields that clients send and a request need not declare, each with why it has no effect."""


class LenientRequest(BaseModel):
    """A request in another service's dialect: fields without an effect here are named in warnings.

    A declared field that has none says so by `NoEffect`.
    """

    model_config = ConfigDict(strict=True, extra="allow")

    def field_warnings(self) -> list[str]:
        """One warning for each field of the request that has no effect, in their order.

        A field that is null, false or empty asks for nothing and is not named.
        """
        return list(dict.fromkeys(self._field_warnings("")))

    def _field_warnings(self, prefix: str) -> Iterator[str]:
        for name, field in type(self).model_fields.items():
            none = NoEffect.of(field)
            if none is not None and none.warns and not _asks_nothing(getattr(self, name)):
                yield f"{prefix}{name} has no effect: {none.why}"
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, LenientRequest):
                yield from value._field_warnings(f"{prefix}{name}.")
            for part in value if isinstance(value, list) else ():
                if isinstance(part, LenientRequest):
                    yield from part._field_warnings(f"{prefix}{name}[].")
        extra = self.model_extra or {}
        unknown = [name for name, value in extra.items() if not _asks_nothing(value)]
        for name in unknown[:MAX_UNKNOWN_FIELDS]:
            reason = UNDECLARED.get(name, "it is not known here")
            yield f"{prefix}{cut_name(name)} has no effect: {reason}"
        if len(unknown) > MAX_UNKNOWN_FIELDS:
            yield f"{len(unknown) - MAX_UNKNOWN_FIELDS} more fields have no effect"


def _asks_nothing(value: Any) -> bool:
    """Whether a field's value is null, false or empty, also as text."""
    if isinstance(value, str):
        return value.lower() in ("", "false", "{}", "[]", "null")
    return value is None or value is False or value in ([], {})


def cut_name(name: str) -> str:
    """A name for a message, cut where it is longer than `MAX_NAME_CHARS`."""
    return name if len(name) <= MAX_NAME_CHARS else f"{name[:MAX_NAME_CHARS]}…"


def warnings_header(warnings: Iterable[str]) -> str:
    """Warnings as the value of a header: a JSON list in ASCII, without those that do not fit."""
    fitting: list[str] = []
    for warning in warnings:
        if len(json.dumps([*fitting, warning])) > MAX_HEADER_CHARS:
            break
        fitting.append(warning)
    return json.dumps(fitting).replace("\x7f", "\\u007f")


def _read_number(value: Any) -> Any:
    """A whole number that was sent as text or with a fraction of zero; else the value itself."""
    if isinstance(value, str) and _DIGITS.fullmatch(value):
        return int(value)
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    return value


def _read_flag(value: Any) -> Any:
    """A flag that was sent as text; else the value itself."""
    return _FLAGS.get(value, value) if isinstance(value, str) else value


_DIGITS = re.compile(r"0|[1-9][0-9]{0,8}")
_FLAGS = {"true": True, "True": True, "false": False, "False": False}
LenientFlag = Annotated[
    bool,
    BeforeValidator(_read_flag),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"type": "string", "enum": list(_FLAGS)}]}),
]
"""A flag that some clients send as text."""


def _number_schema(least: int, most: int) -> WithJsonSchema:
    zero, digits = "0|" * (least == 0), len(str(most + 1)) - 1
    text = {"type": "string", "pattern": f"^({zero}[1-9][0-9]{{0,{digits - 1}}})$"}
    return WithJsonSchema({"anyOf": [{"type": "integer", "minimum": least, "maximum": most}, text]})


_MOST = 2**31
LenientCount = Annotated[
    int, Field(ge=1, le=_MOST), BeforeValidator(_read_number), _number_schema(1, _MOST)
]
"""A number from 1 on that some clients send as text ("2") or with a fraction (2.0)."""
LenientNumber = Annotated[
    int, Field(ge=0, le=_MOST), BeforeValidator(_read_number), _number_schema(0, _MOST)
]
"""The same from 0 on."""
MOST_MS = 3_600_000
Milliseconds = Annotated[
    int, Field(ge=1, le=MOST_MS), BeforeValidator(_read_number), _number_schema(1, MOST_MS)
]
"""How long an answer may take; an hour at most."""
Priority = Annotated[
    int, Field(ge=0, le=999), BeforeValidator(_read_number), _number_schema(0, 999)
]
"""0 is served first."""


class TimedRequest(LenientRequest):
    """A request that may say how long its answer may take, in milliseconds."""

    timeout_ms: Milliseconds | None = None


class Response(BaseModel):
    """Any answer of the service."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="null")


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


OffsetUnit = Literal["codepoint", "utf8", "utf16"]


class OffsetConverter:
    """Converts offsets in one text; a lone surrogate is three bytes, or one code unit."""

    def __init__(self, text: str, unit: OffsetUnit) -> None:
        self.unit, self._last = unit, len(text)
        self._at: NDArray[np.int64] | None = (
            None if unit == "codepoint" else _character_starts(text, unit)
        )

    def from_codepoints(self, index: int) -> int:
        """Converts an offset in code points to the caller's unit."""
        return index if self._at is None else int(self._at[index])

    def to_codepoints(self, offset: int) -> int:
        """Converts an offset in the caller's unit to code points.

        Raises:
            BadInput: it is beyond the text, or inside a character.
        """
        if self._at is None:
            if offset > self._last:
                raise BadInput(
                    f"the offset {offset} lies beyond the text, which ends at {self._last}"
                )
            return offset
        index = int(np.searchsorted(self._at, offset))
        if index == len(self._at) or self._at[index] != offset:
            raise BadInput(f"the offset {offset} is not where a character starts, in {self.unit}")
        return index


def _character_starts(text: str, unit: OffsetUnit) -> NDArray[np.int64]:
    """The offset of each character's start, and of the text's end: `[N + 1]`."""
    points = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    bounds: Sequence[int] = (0x80, 0x800, 0x10000) if unit == "utf8" else (0x10000,)
    widths = 1 + sum((points >= bound).astype(np.int64) for bound in bounds)
    return np.concatenate([[0], np.cumsum(widths)]).astype(np.int64)
