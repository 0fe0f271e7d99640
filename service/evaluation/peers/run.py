"""Every peer over every case, side by side, a line a result, as far as it came the last time.

The peers of a run are all up at once and take turns case by case, so that a noisy machine is noisy
to all of them; each case begins with another peer. A short call that nobody times goes before the
first of each.
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
from tamis.probes.tokens import Tokens
from tamis.service.evaluation.evidence.run import Results
from tamis.service.evaluation.peers.cases import Case
from tamis.service.evaluation.peers.child import Child
from tamis.service.evaluation.peers.found import judged
from tamis.service.evaluation.peers.peers import Field, Peer, PeerFailed

Row = dict[str, Any]
Hear = Callable[[str], object]
_SPANS = {"ms": float, "cpu_ms": float, "peak_mib": float, "text": str}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the processes of peers are given beside the cases.

    Attributes:
        model: the proxy that all of them read with, by the name or folder it was given by.
        proxy: the folder it stands in.
        weights: folders of peers that bring a model of their own.
        threads: of each process. timeout_s: of one case. logs: a folder.
    """

    model: str
    proxy: Path
    weights: Mapping[str, Path]
    threads: int
    timeout_s: float
    logs: Path


def key(case: Case, peer: Peer) -> str:
    """Names a row: it changes with all that the peer is given."""
    return f"{case.set}/{case.id}/{peer.name}/{case.digest()}"


def child(field: Field, peer: Peer, around: Surroundings) -> Child:
    """The process of a peer, not yet started. BadInput: it cannot be one."""
    if not peer.adapter.is_file():
        raise BadInput(f"{peer.name}: there is no adapter {peer.adapter}")
    settings = {
        "model": around.model,
        "proxy": str(around.proxy),
        "scratch": str(around.logs / f"{peer.name}-proxy"),
        **peer.options,
    }
    if peer.name in around.weights:
        settings["weights"] = str(around.weights[peer.name])
    return Child(
        field.python(peer),
        peer.adapter,
        settings,
        around.threads,
        around.logs / f"{peer.name}.log",
        around.timeout_s,
    )


def run(
    cases: Sequence[Case],
    peers: Sequence[Peer],
    field: Field,
    around: Surroundings,
    results: Results,
    counter: Tokens,
    hear: Hear = lambda said: None,
    minutes: float | None = None,
) -> Iterator[Row]:
    """The rows that are not there yet; each is written before it is yielded.

    Args:
        hear: told which peer is at work. minutes: no case is begun after so long.

    Raises:
        PeerFailed: a peer does not come up. One that fails later has its error in the row.
    """
    due = [(case, peer) for case in cases for peer in peers if key(case, peer) not in results.done]
    end = time.monotonic() + 60 * (math.inf if minutes is None else minutes)
    up: dict[str, Child] = {}
    with ExitStack() as stack:
        for pairs in _in_turn(due):
            if time.monotonic() >= end:
                return
            for case, peer in pairs:
                hear(peer.name)
                if peer.name not in up:
                    up[peer.name] = stack.enter_context(child(field, peer, around))
                    _warm(up[peer.name], case)
                row = result_of(case, peer, up[peer.name], counter)
                results.append(row)
                yield row


def _in_turn(due: Sequence[tuple[Case, Peer]]) -> Iterator[Sequence[tuple[Case, Peer]]]:
    """Case by case, each beginning with the next peer."""
    by_case: dict[tuple[str, str], list[tuple[Case, Peer]]] = {}
    for case, peer in due:
        by_case.setdefault((case.set, case.id), []).append((case, peer))
    for turn, pairs in enumerate(by_case.values()):
        start = turn % len(pairs)
        yield (*pairs[start:], *pairs[:start])


def _warm(process: Child, case: Case) -> None:
    """Loads its models, and makes one short call that nobody times."""
    try:
        process.ready()
    except PeerFailed as error:
        raise PeerFailed(f"{error}; leave it out with --peers, or mend it") from error
    # a peer that cannot do this will say so when it is timed
    with suppress(PeerFailed):
        process.ask(case.shorter())


def result_of(case: Case, peer: Peer, process: Child, counter: Tokens) -> Row:
    """One row: what was kept, what it cost and what is in it; or the error."""
    row: Row = {
        "key": key(case, peer),
        "set": case.set,
        "case": case.id,
        "peer": peer.name,
        "tokens_in": case.tokens,
        "budget_tokens": case.budget_tokens,
    }
    try:
        answer = process.ask(case.asked)
        if "error" in answer:
            return row | {"error": str(answer["error"])}
        cost = {name: kind(answer[name]) for name, kind in _SPANS.items()}
    except (PeerFailed, LookupError, TypeError, ValueError) as error:
        return row | {"error": f"{type(error).__name__}: {error}"}
    kept = cost["text"]
    found = judged(kept, case.gold, case.answers, case.asked["context"])
    return row | {"tokens_out": counter.count(kept), "versions": process.versions} | cost | found
