"""Documents of the rerank dialects: texts, or objects with a text or with fields to rank by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo
from pydantic_core import PydanticCustomError

from tamis.probes.segmentation.language import AUTO
from tamis.service.http.schemas.base import Language, Question, Text, TimedRequest, cut_name

MAX_RANK_FIELDS = 64
_SHOWN_NAMES = 5


class RankedObject(BaseModel):
    """A document as an object; Cohere ranks by the fields that `rank_fields` names."""

    model_config = ConfigDict(strict=True, extra="allow")

    text: Text | None = None

    def fields(self) -> dict[str, Any]:
        """All of its fields."""
        return {**(self.model_extra or {}), "text": self.text}


def _check_ranked_text(document: str | RankedObject, info: ValidationInfo) -> str | RankedObject:
    """Refuses a document without the text that it is ranked by."""
    if isinstance(document, RankedObject):
        names = info.data.get("rank_fields") or ["text"]
        if not _ranked_texts(document, names):
            shown = ", ".join(f"{name!r:.80}" for name in names[:_SHOWN_NAMES])
            raise PydanticCustomError("no_text", "it has no text in [{names}]", {"names": shown})
    return document


def _check_names(names: list[str]) -> list[str]:
    """Refuses a field that is named twice: each naming would repeat the text of every document."""
    if len(set(names)) < len(names):
        twice = next(name for i, name in enumerate(names) if name in names[:i])
        shown = {"name": f"{twice!r:.80}"}
        raise PydanticCustomError("repeated", "it has {name} twice; name each field once", shown)
    return names


RankFields = Annotated[
    list[Text],
    Field(fail_fast=True, max_length=MAX_RANK_FIELDS, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_names),
]
"""Names of the fields to rank by, each once."""
RankedDocument = Annotated[Text | RankedObject, AfterValidator(_check_ranked_text)]
"""A document that has text to rank by; `rank_fields` has to be declared before it."""


class RankRequest(TimedRequest):
    """A query and documents, ranked by their text or by some of their fields."""

    query: Question
    rank_fields: RankFields | None = None
    documents: Annotated[list[RankedDocument], Field(fail_fast=True)]
    language: Language = AUTO

    def texts(self) -> list[str]:
        """The text of each document that is ranked."""
        return texts_of(self.documents, self.rank_fields)

    def returned_texts(self) -> list[str]:
        """The text to return of each document: its own, or the ranked text where it has none."""
        ranked = self.texts()
        own = [getattr(document, "text", document) for document in self.documents]
        return [text if isinstance(text, str) else ranked[i] for i, text in enumerate(own)]

    def field_warnings(self) -> list[str]:
        """Warnings for ignored request fields and ignored document fields."""
        return [*super().field_warnings(), *document_warnings(self.documents, self.rank_fields)]


def texts_of(
    documents: Sequence[str | RankedObject], names: Sequence[str] | None = None
) -> list[str]:
    """The text that each document is ranked by: the fields of these names, by default `text`."""
    return [
        d if isinstance(d, str) else "\n".join(_ranked_texts(d, names or ["text"]))
        for d in documents
    ]


def document_warnings(
    documents: Sequence[str | RankedObject], names: Sequence[str] | None = None
) -> list[str]:
    """A warning where documents have fields that they are not ranked by."""
    objects = [d for d in documents if isinstance(d, RankedObject)]
    ranked = {*(names or ()), "text"}
    others = list(
        dict.fromkeys(name for d in objects for name in d.model_extra or () if name not in ranked)
    )
    if not others:
        return []
    shown = ", ".join(map(cut_name, others[:_SHOWN_NAMES]))
    return [f"documents have fields that are not ranked ({shown}); only their text is read"]


def _ranked_texts(document: RankedObject, names: Sequence[str]) -> list[str]:
    fields = document.fields()
    return [fields[name] for name in names if isinstance(fields.get(name), str)]
