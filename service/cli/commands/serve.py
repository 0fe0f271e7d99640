"""`tamis serve` runs the HTTP service, with a flag for every setting; `tamis keys` makes its keys.

A key is shown once and stored as a hash.
"""

from __future__ import annotations

import gc
import socket
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import typer

from tamis.compressors.options import Option
from tamis.probes.errors import BadInput
from tamis.probes.extras import needing
from tamis.service.cli.display.output import print_note, report_errors
from tamis.service.cli.options.typer_options import takes_options, typer_parameter, with_parameters
from tamis.service.http.runtime.memory import limit_heaps
from tamis.service.http.runtime.settings import KNOBS, LOCAL_HOSTS, Settings, variable

EPILOG = """
**Examples**

`tamis serve` listens on http://127.0.0.1:8080; the page is at `/`, the documentation at `/docs`

`curl localhost:8080/v1/compress -H "content-type: application/json" -d '{"question": "How are keys
rotated?", "documents": ["..."], "max_tokens": 500}'`

`tamis keys new ada --file keys.txt`, then `tamis serve --host 0.0.0.0 --keys-file keys.txt`

`tamis serve --engine ray --replicas 4` serves with four copies on Ray Serve

`TAMIS_PORT=9000 TAMIS_CACHE_BYTES=2000000000 tamis serve`: each flag is a variable, too
"""
_NEEDS_SERVICE = "{name} is not installed: pip install 'tamis[service]'"


@report_errors()
def serve(**flags: Any) -> None:
    """Serve compression and reranking over HTTP, to the clients of Cohere, Jina, Voyage and TEI."""
    with needing(_NEEDS_SERVICE):
        from tamis.service.http.runtime.environment import load_settings

        settings = load_settings(flags)
        limit_heaps()
        gc.disable()  # imports make little garbage; `Server.startup` ends this
        check_public(settings)
        check_free(settings.host, settings.port)
        if settings.engine == "ray":
            from tamis.service.http.ray_server import run_on_ray

            serving = partial(run_on_ray, settings)
        else:
            from tamis.service.http.runtime.state import begin_loading

            loading = begin_loading(settings)  # while the rest is imported
            from tamis.service.http.server import run

            serving = partial(run, settings, loading)
    serving()


def check_public(settings: Settings) -> None:
    """Refuses to serve a network without a key by mistake.

    Raises:
        BadInput: the address is not local, there is no key, and `allow_public` is not set.
    """
    keyless = not settings.api_keys and settings.keys_file is None
    if settings.host not in LOCAL_HOSTS and keyless and not settings.allow_public:
        raise BadInput(
            f"{settings.host} can be reached from outside and there is no API key; make one with "
            "`tamis keys new NAME --file keys.txt` and give --keys-file, or say --allow-public"
        )


def check_free(host: str, port: int) -> None:
    """Checks that the address is free, before a model is loaded for nothing.

    Raises:
        BadInput: it cannot be listened on.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise BadInput(
            f"{host}:{port} cannot be listened on ({error.strerror}); "
            "choose another with --host and --port"
        ) from error


def _flag_of(knob: Option) -> Option:
    """A setting as a flag: None if it is not given, since a variable may say it."""
    default = "" if knob.default in (None, ()) else f" Default: {_default_text(knob.default)}."
    kind = list[str] if knob.kind == tuple[str, ...] else knob.kind
    metavar = "|".join(knob.all_choices()) or {Path: "PATH", int: "N", float: "X"}.get(kind, "TEXT")
    return replace(
        knob,
        help=f"{knob.help}{default} [{variable(knob.name)}]",
        kind=kind,
        default=None,
        metavar=None if kind is bool else metavar,
    )


def _default_text(default: Any) -> str:
    return {True: "yes", False: "no"}[default] if isinstance(default, bool) else f"{default}"


command = with_parameters(serve, [typer_parameter(_flag_of(knob)) for knob in KNOBS])


KEYS_EPILOG = """
**Examples**

`tamis keys new ada --file keys.txt` prints a key once and adds its hash to the file

`tamis keys new batch --file keys.txt --limit 60/minute`
"""
keys_app = typer.Typer(
    help="Make API keys for `tamis serve --keys-file`.", no_args_is_help=True, epilog=KEYS_EPILOG
)


@keys_app.callback()
def keys() -> None:
    """The root command; its help is on `keys_app`."""


@keys_app.command("new", epilog=KEYS_EPILOG)
@takes_options(
    name=Option("Whose key it is; it stands in logs and meters.", is_argument=True),
    file=Option("Add the hash to this file."),
    limit=Option("The most requests, such as 60/minute."),
)
def new(name: str, file: Path | None = None, limit: str | None = None) -> None:
    """Make a key: it is printed once, and only its hash is kept."""
    with needing(_NEEDS_SERVICE):
        from tamis.service.http.middleware.auth import new_key, read_keys
    if file is not None and file.exists() and name in {key.name for key in read_keys(file)}:
        raise BadInput(f"{file} has a key called {name!r}; choose another name, or remove its line")
    secret, key = new_key(name, limit)
    if file is None:
        print_note(f"# add this line to the keys file: {key.to_line()}")
    else:
        _append_line(file, key.to_line())
        print_note(f"the hash of {name}'s key is in {file}; the key itself is shown only now")
    typer.echo(secret)


def _append_line(file: Path, line: str) -> None:
    try:
        before = file.read_text("utf-8") if file.exists() else ""
        joint = "" if not before or before.endswith("\n") else "\n"
        with file.open("a", encoding="utf-8") as out:
            out.write(f"{joint}{line}\n")
    except OSError as error:
        raise BadInput(f"{file} cannot be written ({error.strerror}); name another file") from error
