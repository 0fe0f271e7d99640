"""The second layer: API keys and rate limits; a body is not read before its key was checked.

A key is 32 random bytes, so it cannot be recovered from its plain SHA-256; only the hash is kept,
in memory and in the file. A file has one line for each key:

    name sha256:0123... 600/minute
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

from limits import RateLimitItem, parse
from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.probes.errors import BadInput
from tamis.service.engine.errors import ForeignHost, RateLimited, Refused, Unauthorized
from tamis.service.http.middleware.request_log import ANONYMOUS, error_response, log_entry_of
from tamis.service.http.runtime.settings import flag, variable
from tamis.service.http.schemas.base import MAX_NAME_CHARS

_PORT = re.compile(r":\d*$")
_HASH_PREFIX = "sha256:"


@dataclass(frozen=True, slots=True)
class Key:
    """A key: its owner's name, its hash, its rate limit; None is the service's own limit."""

    name: str
    digest: str
    limit: str | None = None

    def to_line(self) -> str:
        """The key's line in a keys file."""
        return " ".join(
            part for part in (self.name, _HASH_PREFIX + self.digest, self.limit) if part
        )


def new_key(name: str, limit: str | None = None) -> tuple[str, Key]:
    """A new key: the secret, to be shown once, and its `Key`, which holds only the hash.

    Raises:
        BadInput: a name with white space, or a limit that cannot be parsed.
    """
    if not name or any(c.isspace() or c in ":#" for c in name):
        raise BadInput(f"the name is {name!r}; give one without white space, ':' and '#'")
    if limit is not None:
        _parse_limit(limit)
    secret = f"tamis_{secrets.token_urlsafe(32)}"
    return secret, Key(name, key_digest(secret), limit)


def key_digest(secret: str) -> str:
    """The SHA-256 of a secret, in hex."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(file: Path) -> list[Key]:
    """The keys of a keys file.

    Raises:
        BadInput: it cannot be read; names the line that is wrong.
    """
    try:
        lines = file.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"the keys file {file} cannot be read: {error}") from error
    numbered = ((i, line.split()) for i, line in enumerate(lines, 1))
    return [
        _parse_key_line(file, i, parts) for i, parts in numbered if parts and parts[0][0] != "#"
    ]


def _parse_key_line(file: Path, number: int, parts: list[str]) -> Key:
    hashed = parts[1].removeprefix(_HASH_PREFIX) if len(parts) > 1 else ""
    if len(parts) not in (2, 3) or len(hashed) != 64 or _HASH_PREFIX + hashed != parts[1]:
        raise BadInput(
            f"{file}, line {number} is no key: a line is `name sha256:HEX [limit]`; "
            "make one with `tamis keys new NAME`"
        )
    if len(parts) == 3:
        _parse_limit(parts[2])
    return Key(parts[0], hashed, parts[2] if len(parts) == 3 else None)


def parse_inline_keys(texts: Iterable[str]) -> list[Key]:
    """Keys given in plain as `name:key`; only their hashes are kept.

    Raises:
        BadInput: a key has no name, or is short enough to be guessed.
    """
    found = []
    for text in texts:
        name, colon, secret = text.partition(":")
        if not (colon and name) or len(secret) < 16:
            raise BadInput(
                "a key is given as name:key with at least 16 characters of key; "
                "make one with `tamis keys new NAME`"
            )
        found.append(Key(name, key_digest(secret)))
    return found


class Keyring:
    """The keys of a service; a file that changes is read again at the next request.

    Args:
        keys: given in plain, beside those of the file.
        limit: the rate limit of keys that have none of their own.
        file: a keys file. One that cannot be read, or has no key, leaves those that were read.

    Raises:
        BadInput: the file is no keys file or has no key, which would leave the service open; or a
            name stands twice.
    """

    def __init__(
        self, keys: Iterable[Key] = (), limit: str | None = None, file: Path | None = None
    ) -> None:
        self._given, self._default = list(keys), _parse_limit(limit) if limit else None
        self._file, self._written_ns = file, 0
        self._set_keys()
        # `limits` counts by the clock on the wall: where that jumped back, callers were locked out
        self._served = defaultdict[str, deque[float]](deque)

    def _set_keys(self) -> None:
        written = read_keys(self._file) if self._file else []
        if self._file and not written:
            raise BadInput(
                f"the keys file {self._file} holds no key, so anybody could come in; make one "
                f"with `tamis keys new NAME --file {self._file}`, or leave --keys-file out"
            )
        keys = [*written, *self._given]
        names = Counter(key.name for key in keys)
        if repeated := sorted(name for name, times in names.items() if times > 1):
            raise BadInput(f"more than one key is called {repeated}; give each a name of its own")
        self._limits = {key.name: _parse_limit(key.limit) for key in keys if key.limit}
        self.keys = keys

    def _read_again(self) -> None:
        """Takes the keys of a file that has changed, so that one can be added or revoked."""
        before = self._written_ns
        try:
            self._written_ns = self._file.stat().st_mtime_ns if self._file else 0
            if self._written_ns != before:
                self._set_keys()
        except (BadInput, OSError) as error:
            warnings.warn(f"{error}; the keys that were read before stay", stacklevel=2)

    def owner(self, authorization: str | None) -> str:
        """The name of the key's owner; compares with every key in constant time.

        Raises:
            Unauthorized: the key is missing or unknown.
        """
        self._read_again()
        if not self.keys:
            return ANONYMOUS
        scheme, _, secret = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not secret.strip():
            raise Unauthorized("give an API key: `Authorization: Bearer KEY`")
        digest = key_digest(secret.strip())
        found = [key.name for key in self.keys if hmac.compare_digest(key.digest, digest)]
        if not found:
            raise Unauthorized("the API key is not known here")
        return found[0]

    def charge(self, name: str) -> None:
        """Counts a request of a key.

        Raises:
            RateLimited: with the seconds until the next request is allowed.
        """
        limit = self._limits.get(name, self._default)
        if limit is None:
            return
        served, now = self._served[name], time.monotonic()
        while served and served[0] <= now - limit.get_expiry():
            served.popleft()
        if len(served) >= limit.amount:
            wait_s = served[0] + limit.get_expiry() - now
            raise RateLimited(f"{name} may send {limit}", wait_s)
        served.append(now)


def _parse_limit(text: str) -> RateLimitItem:
    try:
        return parse(text)
    except ValueError as error:
        raise BadInput(f"the limit {text!r} cannot be read ({error}); write 600/minute") from error


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
    """ASGI middleware: checks API keys and their rate limits, and the host that is named.

    Args:
        hosts: those that are served; none: all. A page of another site may have its own name point
            to this machine, and its visitor's browser then takes the service for a part of it.
    """

    def __init__(self, app: ASGIApp, keyring: Keyring, hosts: Collection[str] = ()) -> None:
        self.app, self.keyring, self.hosts = app, keyring, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request, or refuses it."""
        try:
            if scope["type"] == "http":
                self._check_host(scope)
                self._check_key(scope)
        except Refused as error:
            await error_response(scope, error)(scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _check_host(self, scope: Scope) -> None:
        given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        shown = ", ".join(given)
        if self.hosts and (len(given) != 1 or _PORT.sub("", shown).lower() not in self.hosts):
            raise ForeignHost(
                f"the request is for the host {shown!r:.{MAX_NAME_CHARS}}, and without keys this "
                f"service answers to {', '.join(self.hosts)} alone; give it keys "
                f"({flag('keys_file')}), or say {flag('allow_public')} ({variable('allow_public')})"
            )

    def _check_key(self, scope: Scope) -> None:
        if _is_open(scope):
            return
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if not given and self.keyring.keys:
            given = [b"Bearer " + key for key in _vendor_keys(scope)]
        if len(given) > 1:  # a gateway in front may have checked the other one
            raise Unauthorized("the request has two API keys; send one")
        entry = log_entry_of(scope)
        entry.key = self.keyring.owner(b"".join(given).decode("latin-1"))
        self.keyring.charge(entry.key)


def key_header_of(scope: Scope) -> bytes:
    """The header in which the API that a request is for takes its key.

    Paths such as `/v1/files` are of several; Anthropic's clients name a version of theirs.
    """
    path, names = f"{scope['path']}/", {name for name, _ in scope["headers"]}
    if path.startswith("/v1beta/models/"):
        return b"x-goog-api-key"
    is_anthropic = path.startswith("/v1/messages/") or b"anthropic-version" in names
    return b"x-api-key" if is_anthropic else b"authorization"


def _vendor_keys(scope: Scope) -> list[bytes]:
    """The keys where Anthropic's and Gemini's clients send theirs, in place of `Authorization`."""
    own = key_header_of(scope)
    given = [value for name, value in scope["headers"] if name == own]
    if given or own != b"x-goog-api-key":
        return given
    query = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
    return [value.encode() for name, value in query if name == "key"]


def _is_open(scope: Scope) -> bool:
    path: str = scope["path"]
    return path in OPEN_PATHS or path.startswith(_OPEN_FOLDERS)
