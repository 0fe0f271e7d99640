"""docs/service.md and docs/settings.md say what the service does: their tables are the code's.

`python -m tests.service.http.test_docs_pages` writes them anew.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tamis.probes.kv_cache.cache import CacheStats
from tamis.service.http.runtime.errors import INTERNAL, TABLE
from tamis.service.http.runtime.originals import OriginalStats
from tamis.service.http.runtime.result_cache import ResultCacheStats
from tamis.service.http.runtime.settings import KNOBS, flag, variable
from tamis.service.http.schemas.fields import NOT_WITH_MESSAGES, REASONS, REFUSED, REQUESTS
from tamis.service.http.telemetry.metrics import GAUGES, Metrics

DOCS = Path(__file__).parents[3] / "docs"


def settings() -> list[str]:
    lines = ["| flag | variable | default | what it is |", "|---|---|---|---|"]
    for knob in KNOBS:
        default = "" if knob.default in (None, ()) else f"`{knob.default}`"
        text = knob.metadata["help"]
        lines.append(f"| `{flag(knob.name)}` | `{variable(knob.name)}` | {default} | {text} |")
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
    metrics.add_cache_metrics(CacheStats)
    metrics.add_original_metrics(OriginalStats)
    metrics.add_result_cache_metrics(ResultCacheStats)
    for family in sorted(metrics.registry.collect(), key=lambda f: f.name):
        total = "_total" if family.type == "counter" else ""
        lines.append(f"| `{family.name}{total}` | {family.type} | {family.documentation} |")
    return lines


def fields_table() -> list[str]:
    lines = ["| request | obeyed | without effect, in warnings | asks for nothing | other fields |"]
    lines.append("|---|---|---|---|---|")
    for row in REQUESTS.values():
        names = (row.obeyed, row.warned, row.unused)
        lists = (", ".join(f"`{name}`" for name in group) for group in names)
        others = row.warnings
        if others != REFUSED and not others.startswith("returned"):
            others = f"named in {others}"
        lines.append(f"| {row.dialect} | {' | '.join(lists)} | {others} |")
    return lines


def reasons_table() -> list[str]:
    rows = [f"| `{name}` | {reason} |" for name, reason in sorted(REASONS.items())]
    return ["| field | why it has no effect |", "|---|---|", *rows]


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
