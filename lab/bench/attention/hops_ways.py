"""The ways of reading that are compared for multi-hop questions, and the weights of each.

    alone    the default: passages alone, and a second step over words, which reads no tokens
    again1   passages alone, then again with the default's best unit appended to the question
    again2   likewise with the best two units
    packs    neighbouring passages in one prompt of up to 512 tokens
    whole    all passages in one prompt
    shared   alone, and the log of each unit's share of a head's mass over all units
    shares   alone, and those shares without the log

Under a softmax over the units of one question, a log share carries no more information than the log
mass and the length of the unit, because all units have the same divisor. The share itself does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from tamis.compressors.features.second_step import first_features
from tamis.compressors.features.words import Lexicon, hop_features
from tamis.compressors.reading.windows import Reading, document_tokens_left
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.text import Passage, Unit
from tamis_lab.bench.attention.hops_readings import (
    PassagePacks,
    PassagesAlone,
    append_features,
    count_joined_tokens,
    join_readings,
    log_shares,
)
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.records import Record, passages_of
from tamis_lab.train.probe.answerability import CrossFitWeights

REFERENCE_WAY = "alone"
SURVIVOR_COUNTS = {"again1": 1, "again2": 2}
WAYS = (REFERENCE_WAY, *SURVIVOR_COUNTS, "packs", "whole", "shared", "shares")
NO_FOLD = -1
"""The fold of a question that is not for training: weights of all training questions score it."""
CaseInput = tuple[str, Sequence[Passage], Sequence[Unit]]
"""Question, passages, units."""


def order_ways(names: Sequence[str]) -> list[str]:
    """Ways in the order in which they must be fitted, the reference included.

    Raises:
        BadInput: a way is unknown.
    """
    if unknown := [name for name in names if name not in WAYS]:
        raise BadInput(f"there is no way {unknown[0]!r} to read; there are: {', '.join(WAYS)}")
    return [way for way in WAYS if way in names or way == REFERENCE_WAY]


@dataclass(frozen=True, slots=True)
class WayWeights:
    """The weights of both steps of a probe, cross-fitted over folds of articles."""

    first: CrossFitWeights
    hop: CrossFitWeights

    def scores(self, reading: Reading, case: CaseInput, fold: int = NO_FOLD) -> Tensor:
        """The second step's scores `[U]`, by weights fitted without the questions of the fold."""
        lexicon = Lexicon(*case)
        z = self.first.scores(first_features(reading, case[0], lexicon), fold)
        second = torch.from_numpy(hop_features(lexicon, z.double().numpy()))
        return self.hop.scores(second, fold)


class WayReader:
    """Reads a case in any of the ways; readings are kept on disk.

    Attributes:
        first_pass: weights of `alone`, which choose the survivors of a first reading.
    """

    def __init__(self, reader: CachedReader, layers: int, folder: Path) -> None:
        self.reader, self.alone = reader, PassagesAlone(reader, layers, folder)
        proxy = reader.proxy
        self.packs, self.whole = (
            PassagePacks(proxy, layers),
            PassagePacks(proxy, layers, proxy.context_tokens),
        )
        self._packs, self._whole = (
            CaseReadings(folder, store_key(method, "hops")) for method in (self.packs, self.whole)
        )
        self.first_pass: WayWeights | None = None

    def read(self, way: str, case: CaseInput, fold: int = NO_FOLD) -> Reading:
        """One way's reading of a case, features `[U, F]`; F depends on the way.

        `again1` and `again2` need `first_pass`; `fold` is that of a training question, whose
        survivors are chosen by weights fitted without its fold.
        """
        if way == "packs":
            return self._packs.get_or_read(*case, self.packs.read)
        if way == "whole":
            return self._whole.get_or_read(*case, self.whole.read)
        first = self.alone.read(*case)
        if way in SURVIVOR_COUNTS:
            return self._read_again(first, case, SURVIVOR_COUNTS[way], fold)
        if way == REFERENCE_WAY:
            return first
        logs = log_shares(first)
        return append_features(first, logs if way == "shared" else logs.exp())

    def _read_again(self, first: Reading, case: CaseInput, count: int, fold: int) -> Reading:
        """A second reading, with the best units of the first one appended to the question."""
        assert self.first_pass is not None
        clock = time.perf_counter()
        best = self.first_pass.scores(first, case, fold).argsort(descending=True, stable=True)
        longer = extend_question(case, best[:count].tolist())
        choosing_ms = (time.perf_counter() - clock) * 1e3
        return join_readings(first, self.alone.read_again(longer, *case[1:]), choosing_ms)

    def fits_one_prompt(self, record: Record) -> bool:
        """Whether all passages of a record fit into one prompt."""
        layout, max_tokens = self.reader.layout, self.whole.window_tokens
        room = document_tokens_left(
            self.reader, layout.question_tokens(record["question"]), max_tokens
        )
        return count_joined_tokens(layout, passages_of(record)) <= room


def extend_question(case: CaseInput, survivors: Sequence[int]) -> str:
    """The question followed by the text of some units, which are given by index."""
    question, passages, units = case
    texts = (passages[units[u].passage].text[slice(*units[u].visible)] for u in survivors)
    return " ".join((question, *texts))
