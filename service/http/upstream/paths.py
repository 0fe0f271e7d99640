"""Which paths and methods are sent on to the upstream service; all others are refused here."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from tamis.probes.errors import BadInput
from tamis.service.engine.errors import MethodNotAllowed, NotFound
from tamis.service.http.runtime.settings import flag, variable
from tamis.service.http.schemas.base import MAX_NAME_CHARS

CHAT_PATHS = ("/v1/chat/completions", "/v1/messages")
MODEL_CALLS = frozenset(
    (
        *CHAT_PATHS,
        *("/v1/messages/count_tokens", "/v1/completions", "/v1/responses", "/v1/embeddings"),
        *("/v1/moderations", "/v1/images/generations", "/v1/images/edits", "/v1/images/variations"),
        *("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/audio/translations"),
    )
)
"""Calls of a model: what they are asked is in the body, and with POST alone they are asked. What
reads, lists or deletes (files, batches, stored chats) reaches all that belongs to the key."""
_ANY_METHOD = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PREFIX = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)*")
_ROOT = "/v1/"
_MORE = (
    f"{flag('upstream_paths')} ({variable('upstream_paths')}) of the service names more that are"
)


class ForwardedPaths:
    """The paths that are sent on.

    Args:
        more: paths below `/v1/`, such as `files`; with all below them and with every method.

    Raises:
        BadInput: one of them is no path below `/v1/`.
    """

    def __init__(self, more: Iterable[str] = ()) -> None:
        self._prefixes = tuple(_parse_prefix(path) for path in more)

    def check(self, method: str, raw_path: str) -> None:
        """Checks a request.

        Args:
            raw_path: as it was sent, percent-encoded.

        Raises:
            NotFound: the path is not sent on. MethodNotAllowed: not with this method.
        """
        shown = f"{raw_path:.{MAX_NAME_CHARS}}"
        if fault := _path_fault(raw_path):
            raise NotFound(f"{shown} is not sent on to the upstream: {fault}")
        is_added = any(f"{raw_path}/".startswith(f"{prefix}/") for prefix in self._prefixes)
        if not is_added and raw_path not in MODEL_CALLS:
            raise NotFound(f"{shown} is not sent on to the upstream; {_MORE}")
        methods = _ANY_METHOD if is_added else ("POST",)
        if method not in methods:
            raise MethodNotAllowed(
                f"{shown} is sent on to the upstream with {', '.join(methods)}, not with "
                f"{method:.{MAX_NAME_CHARS}}; {_MORE}, with other methods, too"
            )


def _parse_prefix(given: str) -> str:
    path = given.strip("/").removeprefix("v1/")
    if not _PREFIX.fullmatch(path) or path == "v1":
        raise BadInput(
            f"upstream_paths has {given!r:.{MAX_NAME_CHARS}}; give paths below /v1/ in letters, "
            "digits and ._-, such as files,batches"
        )
    return _ROOT + path


def _path_fault(raw_path: str) -> str:
    """Why a server could read another path in this one; "" if none could."""
    data = raw_path.encode("latin-1", "replace")
    while (decoded := unquote_to_bytes(data)) != data:  # each pass makes it shorter
        data = decoded
    try:
        text = unicodedata.normalize("NFKC", data.decode("utf-8"))
    except UnicodeDecodeError:
        return "it is no UTF-8"
    if any(unicodedata.category(char) in ("Cc", "Cf", "Zl", "Zp") for char in text):
        return "it has control characters"
    if "\\" in text or text.count("/") != raw_path.count("/"):
        return "it has a slash that is encoded, or a backslash"
    if "%" in text:
        return "it has a percent sign that encodes nothing, or %u, which some servers decode"
    if "?" in text or "#" in text:
        return "it has a question mark or a number sign"
    segments = (segment.partition(";")[0].strip() for segment in text[1:].split("/"))
    if any(not segment.strip(".") for segment in segments):
        return "it has a segment that is empty or made of dots; leave out a slash at its end"
    return ""
