"""docs/how-to/agents.md: the request that it shows does what the page says."""

from __future__ import annotations

from pathlib import Path

from tests import fences
from tests.service.http.app_kit import served

PAGE = Path(__file__).parents[3] / "docs/how-to/agents.md"


def test_the_agent_of_the_page_gets_what_it_asserts():
    shown = fences.blocks(PAGE.read_text("utf-8"), "python no-run")
    (example,) = (body for body in shown if "/v1/retrieve/" in body)
    with served(method="lexical", retrieve_bytes=1_000_000) as service:
        code = example.replace("http://localhost:8080", service.url)
        exec(compile(code, PAGE.name, "exec"), {})
