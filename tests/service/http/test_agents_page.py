"""docs/how-to/conversations.md: the request that it shows does what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import fences
from tests.service.http.app_kit import served

PAGE = Path(__file__).parents[3] / "docs/how-to/conversations.md"


@pytest.mark.parametrize("part", ["/v1/retrieve/", "retrieval_tags"])
def test_the_requests_of_the_page_get_what_they_assert(part):
    shown = fences.blocks(PAGE.read_text("utf-8"), "python no-run")
    (example,) = (body for body in shown if part in body)
    with served(method="lexical", retrieve_bytes=1_000_000) as service:
        code = example.replace("http://localhost:8080", service.url)
        exec(compile(code, PAGE.name, "exec"), {})
