"""docs/service.md and docs/settings.md say what the service does: their tables are the code's.

`python -m tests.service.http.test_docs_pages` writes them anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel
from pydantic.json_schema import SkipJsonSchema

from tamis.probes.kv_cache.cache import CacheStats
from tamis.service.http.runtime.errors import INTERNAL, TABLE
from tamis.service.http.runtime.originals import OriginalStats
from tamis.service.http.runtime.result_cache import ResultCacheStats
from tamis.service.http.runtime.settings import KNOBS, flag, variable
from tamis.service.http.runtime.telemetry import GAUGES, Metrics
from tamis.service.http.schemas.about import TokenizeRequest
from tamis.service.http.schemas.base import UNDECLARED, LenientRequest, NoEffect, StrictRequest
from tamis.service.http.schemas.compress import CompressBatch
from tamis.service.http.schemas.dialects.base import IN_HEADER
from tamis.service.http.schemas.dialects.table import ENDPOINTS, REFUSED
from tamis.service.http.schemas.expand import ExpandRequest
from tamis.service.http.schemas.explain import ExplainRequest
from tamis.service.http.schemas.messages import NOT_WITH_MESSAGES
from tamis.service.http.schemas.search import RankToolsRequest, SearchRequest

DOCS = Path(__file__).parents[3] / "docs"
OWN: tuple[tuple[str, str, type[BaseModel], str], ...] = (
    ("tamis", "`/v1/explain`", ExplainRequest, REFUSED),
    ("tamis", "`/v1/compress/batch`", CompressBatch, REFUSED),
    ("tamis", "`/v1/expand`", ExpandRequest, REFUSED),
    ("tamis", "`/v1/search`", SearchRequest, REFUSED),
    ("tamis", "`/v1/tools/rank`", RankToolsRequest, REFUSED),
    ("vLLM and TEI", "`/tokenize`", TokenizeRequest, IN_HEADER),
)
"""Requests at paths that are not in the table of dialects."""


def settings() -> list[str]:
    lines = ["| flag | variable | default | what it is |", "|---|---|---|---|"]
    for knob in KNOBS:
        default = "" if knob.default in (None, ()) else f"`{knob.default}`"
        lines.append(f"| `{flag(knob.name)}` | `{variable(knob.name)}` | {default} | {knob.help} |")
    return lines


def codes() -> list[str]:
    lines = ["| status | code | TEI's `error_type` | when |", "|---|---|---|---|"]
    rows = {(f.status, f.code, f.tei, f.summary) for f in (*TABLE.values(), INTERNAL)}
    return [*lines, *(f"| {s} | `{c}` | `{t}` | {w} |" for s, c, t, w in sorted(rows))]


def metrics_table() -> list[str]:
    lines = ["| meter | kind | what it is |", "|---|---|---|"]
    metrics = Metrics()
    for name in GAUGES:
        metrics.add_gauge(name, float)
    metrics.add_store("cache", CacheStats)
    metrics.add_store("originals", OriginalStats)
    metrics.add_store("results", ResultCacheStats)
    for family in sorted(metrics.registry.collect(), key=lambda f: f.name):
        total = "_total" if family.type == "counter" else ""
        lines.append(f"| `{family.name}{total}` | {family.type} | {family.documentation} |")
    return lines


def requests() -> Iterator[tuple[str, str, type[BaseModel], str]]:
    """Whose each request is, where it comes, its schema, and where its warnings are."""
    for endpoint in ENDPOINTS:
        path = next(iter(endpoint.paths)).replace(":path", "")
        for row in endpoint.dialects:
            where = f"`{path}`" + (f" with `{row.key}`" if row.key else "")
            yield row.name, where, row.request, row.warnings
    yield from OWN


def rows() -> dict[tuple[str, type[BaseModel]], tuple[str, str]]:
    """The requests and their parts, each where it comes first, with where its warnings are."""
    found: dict[tuple[str, type[BaseModel]], tuple[str, str]] = {}
    for name, where, schema, warnings in requests():
        found.setdefault((name, schema), (where, warnings))
        seen = {one for _, one in found}
        for place, part in parts_of(schema):
            if part not in seen:
                found[name, part] = (place, warnings)
    return found


def parts_of(schema: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The requests that are parts of a request, each with its field."""
    for name, field in schema.model_fields.items():
        for many, part in models_in(field.annotation):
            yield f"`{field.alias or name}{'[]' * many}`", part
            yield from parts_of(part)


def models_in(annotation: Any, many: bool = False) -> Iterator[tuple[bool, type[BaseModel]]]:
    if isinstance(annotation, type) and issubclass(annotation, LenientRequest | StrictRequest):
        yield many, annotation
    for inner in get_args(annotation):
        yield from models_in(inner, many or getattr(annotation, "__origin__", None) is list)


def fields_table() -> list[str]:
    lines = ["| request | obeyed | without effect, in warnings | asks for nothing | other fields |"]
    lines.append("|---|---|---|---|---|")
    for (name, schema), (where, warnings) in rows().items():
        groups: tuple[list[str], ...] = [], [], []
        for key, field in schema.model_fields.items():
            if any(isinstance(one, SkipJsonSchema) for one in field.metadata):
                continue
            mark = NoEffect.of(field)
            groups[0 if mark is None else 1 if mark.warns else 2].append(field.alias or key)
        lists = (", ".join(f"`{one}`" for one in group) for group in groups)
        lines.append(f"| {name}: {where} | {' | '.join(lists)} | {others(schema, warnings)} |")
    return lines


def others(schema: type[BaseModel], warnings: str) -> str:
    """What becomes of fields that a request does not declare."""
    if issubclass(schema, StrictRequest):
        return REFUSED
    if "_field_warnings" in vars(schema):
        return "returned unchanged"
    return f"named in {warnings}"


def reasons_table() -> list[str]:
    reasons = {(name, why) for name, why in UNDECLARED.items()}
    for _, schema in rows():
        for name, field in schema.model_fields.items():
            if mark := NoEffect.of(field):
                reasons.add((name, mark.why))
    lines = [f"| `{name}` | {why} |" for name, why in sorted(reasons)]
    return ["| field | why it has no effect |", "|---|---|", *lines]


def refused_table() -> list[str]:
    rows = [f"| `{name}` | {reason} |" for name, reason in NOT_WITH_MESSAGES.items()]
    return ["| beside `messages` | |", "|---|---|", *rows]


TABLES = {
    "settings": settings,
    "codes": codes,
    "meters": metrics_table,
    "fields": fields_table,
    "reasons": reasons_table,
    "refused": refused_table,
}


def page_of(name: str) -> Path:
    return DOCS / ("settings.md" if name == "settings" else "service.md")


def part(name: str) -> re.Pattern[str]:
    return re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_table_of_the_code(name):
    (found,) = part(name).finditer(page_of(name).read_text("utf-8"))
    assert found[0].splitlines()[1:-1] == TABLES[name]()


if __name__ == "__main__":
    for name, table in TABLES.items():
        page, made = page_of(name), "\n".join(table()) + "\n"
        text = page.read_text("utf-8")
        page.write_text(part(name).sub(lambda m, made=made: m[1] + made + m[2], text), "utf-8")
