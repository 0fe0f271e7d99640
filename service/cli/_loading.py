"""Models for one run of the command line: looked up first, loaded only if they are asked.

The only place beside `tamis models pull` where anything is fetched: the default proxy, if it is
missing, after one line that says its size and where it comes from.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import typer

from tamis.compressors._method import Info, Scorer
from tamis.compressors._registry import DEFAULT_PROXY, build, info
from tamis.compressors._types import Scores
from tamis.probes import hub, zoo
from tamis.probes.errors import ProxyMissing
from tamis.probes.text import Passage, Unit
from tamis.probes.tokens import Tokens
from tamis.service import calls
from tamis.service.cli.models import _bar as bar
from tamis.service.cli.models import _origin as origin


class Late:
    """A method whose model is loaded when it first scores: a context that fits needs none.

    Raises:
        UnknownMethod: no such method.
    """

    info: ClassVar[Info] = Info("another method, loaded when it is first asked", "")

    def __init__(self, name: str, proxy: str, models: Path) -> None:
        self.needs_proxy = info(name).needs == "proxy"
        self.name, self.proxy, self.models = name, proxy, models
        self._method: Scorer | None = None

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """As the method behind; the timings also say how long it took to load."""
        clock = time.perf_counter()
        if self._method is None:
            self._method = build(self.name, proxy=self.proxy, root=self.models)
        load_ms = (time.perf_counter() - clock) * 1e3
        found = self._method.scores(question, passages, units)
        return replace(found, timings_ms={"load": load_ms, **found.timings_ms})


def ensure_default(method: Late, tokenizer: str, offline: bool) -> None:
    """Fetches the default proxy if it is needed and missing; no other model is ever fetched.

    Raises:
        ProxyMissing: it is not here, and `offline`. DownloadFailed: it could not be fetched.
    """
    needed = tokenizer == "proxy" or method.needs_proxy
    if method.proxy != DEFAULT_PROXY or not needed:
        return
    try:
        zoo.locate(DEFAULT_PROXY, method.models)
    except ProxyMissing:
        if offline:
            raise
        typer.echo(origin(DEFAULT_PROXY, None), err=True)
        with bar() as progress:
            zoo.pull(DEFAULT_PROXY, method.models, None, progress)


def counter_of(tokenizer: str, method: Late) -> Tokens:
    """The tokenizer that counts the budget; no weights are loaded for it.

    Raises:
        UnknownTokenizer: neither `proxy`, a file nor a folder. ProxyMissing: the proxy is not here.
    """
    if tokenizer != "proxy":
        return calls.counter_of(tokenizer)
    if method.proxy in zoo.ZOO:
        return Tokens.from_file(zoo.locate(method.proxy, method.models), method.proxy)
    folder = Path(method.proxy)
    if not folder.is_dir():
        folder = hub.snapshot(method.proxy, online=False)
    return Tokens.from_file(folder, method.proxy)
