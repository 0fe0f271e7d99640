"""Runs every peer on every case, and writes one line per result; an interrupted run is resumed.

The processes of all peers run at the same time and take turns case by case, so that load on the
machine affects all of them; each case starts with another peer. Before its first case, each peer
has a short call that is not timed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.peers.cases import PeerCase
from tamis_lab.bench.peers.process import PeerProcess
from tamis_lab.bench.peers.registry import Peer, PeerFailed, PeerRegistry
from tamis_lab.bench.peers.text_evidence import find_evidence
from tamis_lab.datasets.result_file import ResultFile

PeerRow = dict[str, Any]
PeerListener = Callable[[str], object]
"""Called with the name of the peer that runs next."""
_ANSWER_TYPES = {"ms": float, "cpu_ms": float, "peak_mib": float, "text": str}


@dataclass(frozen=True, slots=True)
class PeerRunSettings:
    """Settings of the peers' processes.

    Attributes:
        proxy: the proxy of all peers, by zoo name or folder.
        proxy_folder: the folder of its model.
        weights: folders of the peers that have a model of their own.
        threads: of each process. timeout_s: of one case. log_folder: for what processes print.
    """

    proxy: str
    proxy_folder: Path
    weights: Mapping[str, Path]
    threads: int
    timeout_s: float
    log_folder: Path


def row_key(case: PeerCase, peer: Peer) -> str:
    """The key of a row, which depends on everything in the request."""
    return f"{case.set}/{case.id}/{peer.name}/{case.digest()}"


def create_process(registry: PeerRegistry, peer: Peer, settings: PeerRunSettings) -> PeerProcess:
    """The process of a peer, not yet started.

    Raises:
        BadInput: the peer has no adapter.
    """
    if not peer.adapter.is_file():
        raise BadInput(f"{peer.name}: there is no adapter {peer.adapter}")
    adapter_settings = {
        "model": settings.proxy,
        "proxy": str(settings.proxy_folder),
        "scratch": str(settings.log_folder / f"{peer.name}-proxy"),
        **peer.options,
    }
    if peer.name in settings.weights:
        adapter_settings["weights"] = str(settings.weights[peer.name])
    return PeerProcess(
        registry.python_path(peer),
        peer.adapter,
        adapter_settings,
        settings.threads,
        settings.log_folder / f"{peer.name}.log",
        settings.timeout_s,
    )


def run_peers(
    cases: Sequence[PeerCase],
    peers: Sequence[Peer],
    registry: PeerRegistry,
    settings: PeerRunSettings,
    results: ResultFile,
    counter: TextTokenizer,
    on_peer: PeerListener = lambda name: None,
    minutes: float | None = None,
) -> Iterator[PeerRow]:
    """Yields the rows that the file does not have; each is written before it is yielded.

    Args:
        on_peer: called before each case of a peer. minutes: after which no case is started.

    Raises:
        PeerFailed: a peer does not start. If one fails later, the row has its error.
    """
    pairs = ((case, peer) for case in cases for peer in peers)
    missing = [pair for pair in pairs if row_key(*pair) not in results.done_keys]
    deadline = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
    processes: dict[str, PeerProcess] = {}
    with ExitStack() as stack:
        for of_case in _alternate_peers(missing):
            if time.monotonic() >= deadline:
                return
            for case, peer in of_case:
                on_peer(peer.name)
                if peer.name not in processes:
                    process = stack.enter_context(create_process(registry, peer, settings))
                    processes[peer.name] = process
                    _warm_up(process, case)
                row = result_row(case, peer, processes[peer.name], counter)
                results.append(row)
                yield row


def _alternate_peers(
    pairs: Sequence[tuple[PeerCase, Peer]],
) -> Iterator[Sequence[tuple[PeerCase, Peer]]]:
    """The pairs of each case, starting with another peer than those of the case before."""
    by_case: dict[tuple[str, str], list[tuple[PeerCase, Peer]]] = {}
    for case, peer in pairs:
        by_case.setdefault((case.set, case.id), []).append((case, peer))
    for turn, of_case in enumerate(by_case.values()):
        start = turn % len(of_case)
        yield (*of_case[start:], *of_case[:start])


def _warm_up(process: PeerProcess, case: PeerCase) -> None:
    """Loads the peer's models, and makes one short call that is not timed."""
    try:
        process.start()
    except PeerFailed as error:
        raise PeerFailed(f"{error}; leave it out with --peers, or mend it") from error
    # a peer that fails here fails in its first timed case, too, and the row has the error
    with suppress(PeerFailed):
        process.run_case(case.warm_up_request())


def result_row(case: PeerCase, peer: Peer, process: PeerProcess, counter: TextTokenizer) -> PeerRow:
    """One row: the kept text, its costs and the evidence in it; or the error."""
    row: PeerRow = {
        "key": row_key(case, peer),
        "set": case.set,
        "case": case.id,
        "peer": peer.name,
        "tokens_in": case.tokens,
        "budget_tokens": case.budget_tokens,
    }
    try:
        answer = process.run_case(case.request)
        if "error" in answer:
            return row | {"error": str(answer["error"])}
        cost = {name: kind(answer[name]) for name, kind in _ANSWER_TYPES.items()}
    except (PeerFailed, LookupError, TypeError, ValueError) as error:
        return row | {"error": f"{type(error).__name__}: {error}"}
    kept = cost["text"]
    evidence = find_evidence(kept, case.gold, case.answers, case.request["context"])
    facts = {"tokens_out": counter.count(kept), "versions": process.versions}
    return row | facts | cost | evidence
