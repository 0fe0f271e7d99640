"""A provider on a real socket, and a service of words before it."""

from __future__ import annotations

import pytest

from agents.tests.gateway.chat_server import chat_server
from tests.service.http.app_kit import served


@pytest.fixture(scope="module")
def upstream():
    with chat_server() as running:
        yield running


@pytest.fixture(scope="module")
def service(upstream):
    with served(upstream=f"{upstream.url}/v1", method="lexical") as running:
        yield running
