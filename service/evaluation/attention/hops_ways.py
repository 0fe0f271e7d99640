"""The ways of reading that are compared where facts have to be chained, and the weights of each.

    alone    the default: passages alone, a second step over words, which reads nothing
    again1   passages alone, then asked again with the best unit of the default behind the question
    again2   likewise with the best two
    packs    neighbouring passages in one prompt of up to 512 tokens
    whole    all passages in one prompt
    shared   alone, and each head's mass shared out over all units, in logs
    shares   alone, and those shares as they are

Under a softmax over the units of one question a log share says no more than the log mass and the
length of the unit: what they are divided by is the same for all. The share itself says more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.features.words import Lexicon, hop_features
from tamis.compressors.methods.question_rows import first_features
from tamis.compressors.reading.long_range import document_tokens_left
from tamis.compressors.reading.windows import Reading
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.text import Passage, Unit
from tamis.service.datasets.case_readings import Looks
from tamis.service.datasets.records import Record, passages_of
from tamis.service.evaluation.attention.hops_readings import (
    Alone,
    Packs,
    both,
    log_shares,
    whole_tokens,
    widened,
)
from tamis.service.training.probe import look_key
from tamis.service.training.probe.absence import Folded

REFERENCE = "alone"
SURVIVORS = {"again1": 1, "again2": 2}
WAYS = (REFERENCE, *SURVIVORS, "packs", "whole", "shared", "shares")
NO_FOLD = -1
"""Of a question that no weights have seen: those of all training questions score it."""
Asked = tuple[str, Sequence[Passage], Sequence[Unit]]


def chosen(names: Sequence[str]) -> list[str]:
    """Ways in the order they have to go, the reference among them. BadInput: an unknown one."""
    if unknown := [name for name in names if name not in WAYS]:
        raise BadInput(f"there is no way {unknown[0]!r} to read; there are: {', '.join(WAYS)}")
    return [way for way in WAYS if way in names or way == REFERENCE]


@dataclass(frozen=True, slots=True)
class Weights:
    """Both steps of a probe, and what they are for questions they were fitted on."""

    first: Folded
    hop: Folded

    def scores(self, look: Reading, asked: Asked, fold: int = NO_FOLD) -> Tensor:
        """The second step's scores `[U]`, by weights that saw no question of the fold."""
        lexicon = Lexicon(*asked)
        z = self.first.scores(first_features(look, asked[0], lexicon), fold)
        second = torch.from_numpy(hop_features(lexicon, z.double().numpy()))
        return self.hop.scores(second, fold)


class Ways:
    """Reads a question in any of the ways, or finds what was read before."""

    def __init__(self, reader: CachedReader, layers: int, folder: Path) -> None:
        self.reader, self.alone = reader, Alone(reader, layers, folder)
        proxy = reader.proxy
        self.packs, self.whole = Packs(proxy, layers), Packs(proxy, layers, proxy.context_tokens)
        self._packs, self._whole = (
            Looks(folder, f"hops {look_key(method)}") for method in (self.packs, self.whole)
        )
        self.first_pass: Weights | None = None

    def read(self, way: str, asked: Asked, fold: int = NO_FOLD) -> Reading:
        """What one way sees of a question: `[U, F]`, F by the way.

        `again1` and `again2` need `first_pass`: weights of `alone`, which say what survives; `fold`
        is then that of a training question.
        """
        if way == "packs":
            return self._packs.get(*asked, self.packs.read)
        if way == "whole":
            return self._whole.get(*asked, self.whole.read)
        first = self.alone.read(*asked)
        if way in SURVIVORS:
            return self._again(first, asked, SURVIVORS[way], fold)
        if way == REFERENCE:
            return first
        logs = log_shares(first)
        return widened(first, logs if way == "shared" else logs.exp())

    def _again(self, first: Reading, asked: Asked, count: int, fold: int) -> Reading:
        """A second reading, with the first one's best units behind the question."""
        assert self.first_pass is not None
        clock = time.perf_counter()
        best = self.first_pass.scores(first, asked, fold).argsort(descending=True, stable=True)
        longer = extended(asked, best[:count].tolist())
        chosen_ms = (time.perf_counter() - clock) * 1e3
        return both(first, self.alone.again(longer, *asked[1:]), chosen_ms)

    def holds(self, record: Record) -> bool:
        """Whether all passages of a record fit into one prompt."""
        layout, most = self.reader.layout, self.whole.window_tokens
        room = document_tokens_left(self.reader, layout.ask(record["question"]), most)
        return whole_tokens(layout, passages_of(record)) <= room


def extended(asked: Asked, survivors: Sequence[int]) -> str:
    """The question with the text of some units behind it."""
    question, passages, units = asked
    found = (passages[units[u].passage].text[slice(*units[u].visible)] for u in survivors)
    return " ".join((question, *found))
