"""Error bodies of each dialect."""

from __future__ import annotations

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """An error: its message, type, the field if there is one, and a code for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """An error in OpenAI's format; `detail`, its message, is what Xinference's client reads."""

    error: ErrorDetail
    detail: str


class TeiError(BaseModel):
    """An error in TEI's format."""

    error: str
    error_type: str


class CohereError(BaseModel):
    """An error in Cohere's format."""

    message: str
