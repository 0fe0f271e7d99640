"""What an error looks like, dialect by dialect."""

from __future__ import annotations

from pydantic import BaseModel


class ErrorDetail(BaseModel):
    """What went wrong: a sentence, its kind, the field if there is one, a code for programs."""

    message: str
    type: str
    param: str | None
    code: str


class ErrorBody(BaseModel):
    """An error, as OpenAI writes it."""

    error: ErrorDetail


class TeiError(BaseModel):
    """An error, as TEI writes it."""

    error: str
    error_type: str


class CohereError(BaseModel):
    """An error, as Cohere writes it."""

    message: str
