"""The methods of ordering, built over one proxy when they are first asked for."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tamis.compressors.registry import build, depth, info, names
from tamis.compressors.selection.order import Orderer, Orderers
from tamis.probes.errors import BadInput
from tamis.probes.text import Passage
from tamis.service.api.model_pool import shared


class LateOrder:
    """An ordering method whose model is loaded when it first orders.

    Threads may share it; the model is loaded once.

    Raises:
        BadInput: no ordering method has this name.
    """

    def __init__(self, name: str, proxy: Any, root: Path | None = None) -> None:
        if name not in (there := names("ordering")):
            raise BadInput(f"order is {name!r}; give {', '.join(sorted({*there, 'score'}))}")
        self.name, self.proxy, self.root = name, proxy, root
        self._method: Orderer | None = None
        self._loading = threading.Lock()

    def order(
        self, question: str, passages: Sequence[Passage], scores: Sequence[float]
    ) -> tuple[int, ...]:
        """As the method behind."""
        return self._loaded().order(question, passages, scores)

    def _loaded(self) -> Orderer:
        with self._loading:
            if self._method is None:
                # the profile of the proxy that reads, where one ships
                of = {"model": _name(self.proxy)} if self.name == "attnrank" else {}
                made = build(self.name, proxy=self._reader(), root=self.root, **of)
                self._method = cast(Orderer, made)
            return self._method

    def _reader(self) -> Any:
        """The proxy, loaded where the method reads with one."""
        if info(self.name).needs != "proxy" or not isinstance(self.proxy, str | Path):
            return self.proxy
        return shared(self.proxy, depth(self.name, self.proxy), self.root)


def orderers(proxy: Any, root: Path | None = None) -> Orderers:
    """Ordering methods over one proxy, by name, each built once."""
    made: dict[str, LateOrder] = {}

    def by_name(name: str) -> Orderer:
        if name not in made:
            made[name] = LateOrder(name, proxy, root)
        return made[name]

    return by_name


def _name(proxy: Any) -> str:
    return str(proxy) if isinstance(proxy, str | Path) else str(proxy.card.name)
