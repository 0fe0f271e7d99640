"""Other compressors' packages, each in a process and an environment of its own.

    peers.toml ─ select ─► Peer ─ process ─► an output and a limit in, the kept text and ms out

A peer's option `markers` is a pattern: what it matches stands for what was left out. One that knows
no budget (`budget = false`) is asked once an output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import BadInput
from tamis_lab.bench.peers.process import PeerProcess
from tamis_lab.bench.peers.registry import PEERS_FOLDER, Peer, PeerFailed, PeerRegistry
from tamis_lab.bench.tools.compressors import Shortened
from tamis_lab.bench.tools.records import LabelledOutput

TOOL_PEERS_FOLDER = PEERS_FOLDER / "tools"
TIMEOUT_S = 120.0


class PackageCompressor:
    """A package behind an adapter."""

    def __init__(self, process: PeerProcess, markers: str, has_budget: bool = True) -> None:
        self.process, self.markers = process, re.compile(markers or r"(?!)")
        self.has_budget, self._is_warm = has_budget, False

    def shorten(self, labelled: LabelledOutput, limits: Sequence[int]) -> list[Shortened]:
        """One call a limit, and before the first a call that is not timed.

        Raises:
            PeerFailed: its process does not start.
        """
        if not self._is_warm:
            self.process.start()
            with suppress(PeerFailed):
                self.process.run_case(_request(labelled, limits[0]))
            self._is_warm = True
        if not self.has_budget:
            return [self._shorten(labelled, limits[0])] * len(limits)
        return [self._shorten(labelled, limit) for limit in limits]

    def _shorten(self, labelled: LabelledOutput, limit: int) -> Shortened:
        try:
            answer = self.process.run_case(_request(labelled, limit))
        except PeerFailed as error:
            return Shortened("", 0.0, error=str(error))
        if "error" in answer:
            return Shortened("", 0.0, error=str(answer["error"]))
        return Shortened(str(answer["text"]), float(answer["ms"]), self._is_marker)

    def _is_marker(self, line: str) -> bool:
        return bool(self.markers.search(line))


def _request(labelled: LabelledOutput, limit: int) -> dict[str, object]:
    return {
        "question": labelled.question,
        "name": labelled.output.name,
        "arguments": labelled.output.arguments,
        "context": labelled.text,
        "budget_tokens": limit,
    }


def installed_packages(folder: Path) -> tuple[PeerRegistry, list[Peer], list[str]]:
    """The packages of a folder that can run here, and for the others what they lack.

    Raises:
        BadInput: there is no list of peers.
    """
    registry = PeerRegistry.load(folder)
    lacks = {name: registry.missing_requirement(of, {}) for name, of in registry.peers.items()}
    ready = [peer for name, peer in registry.peers.items() if lacks[name] is None]
    return registry, ready, [lack for lack in lacks.values() if lack]


def package_compressor(
    registry: PeerRegistry, peer: Peer, log: Path, proxy: str = DEFAULT_PROXY
) -> PackageCompressor:
    """The compressor of a peer; its process starts with the first output.

    Args:
        log: for what it prints. proxy: by zoo name or folder; its tokenizer counts the budget.

    Raises:
        BadInput: it has no adapter.
    """
    if not peer.adapter.is_file():
        raise BadInput(f"{peer.name}: there is no adapter {peer.adapter}")
    options = {"proxy": proxy, **peer.options}
    markers, has_budget = str(options.pop("markers", "")), bool(options.pop("budget", True))
    python = registry.python_path(peer)
    process = PeerProcess(python, peer.adapter, options, 1, log, TIMEOUT_S)
    return PackageCompressor(process, markers, has_budget)
