"""The second layer: authentication; a body is not read before its key was checked."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.service.engine.errors import Refused, Unauthorized
from tamis.service.http.middleware.request_log import error_response, log_entry_of
from tamis.service.http.runtime.api_keys import Keyring

OPEN_PATHS = frozenset(
    (
        *("/", "/livez", "/readyz", "/health", "/ping", "/version", "/metrics"),
        *("/openapi.json", "/docs", "/v1/cluster/auth"),
    )
)
"""Paths that need no key: health checks, metrics, whether keys are needed, and the web page, which
asks for a key itself."""
DOCS_ASSETS = "/docs-assets"
_OPEN_FOLDERS = ("/assets/", f"{DOCS_ASSETS}/")


class AuthMiddleware:
    """ASGI middleware: checks API keys and their rate limits."""

    def __init__(self, app: ASGIApp, keyring: Keyring) -> None:
        self.app, self.keyring = app, keyring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it."""
        if scope["type"] != "http" or _is_open(scope):
            await self.app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        try:
            if len(given) > 1:  # a gateway in front may have checked the other one
                raise Unauthorized("two Authorization headers were sent; send one")
            entry = log_entry_of(scope)
            entry.key = self.keyring.owner(b"".join(given).decode("latin-1"))
            self.keyring.charge(entry.key)
        except Refused as error:
            await error_response(scope, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"]
    return path in OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
