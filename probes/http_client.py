"""Requests over the standard library alone, for what starts too often to import httpx."""

from __future__ import annotations

from typing import Any
from urllib.request import BaseHandler, HTTPRedirectHandler, OpenerDirector, build_opener


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(self, *args: Any) -> None:
        return None


def opener_without_redirects(*handlers: BaseHandler) -> OpenerDirector:
    """An opener that answers a redirect with an error.

    To follow it would carry the API key and the texts to another address.
    """
    return build_opener(_NoRedirects(), *handlers)
