"""All candidates over one reading of each passage, each asked and scored as a user would be.

record ─ windows ─► exact entries (read once, kept on disk)
candidate ─ entries ─► thinned ─ asked ─► features ─ shipped probe ─► scores ─► gold kept
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.attention.coded_layer import CodedKVLayer, decode_layers
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.thin_layer import ThinKVLayer
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage, Unit
from tamis_lab.bench.evidence.panel import Panel
from tamis_lab.bench.thin.candidates import Candidate, ThinnedPassage, kept_mask
from tamis_lab.datasets.reading_store import CaseReadings
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.datasets.statistics import rank_correlations
from tamis_lab.methods.kv_thinning.passage_rows import PassageRows

DENSE = "dense"
"""The row that all others are compared with: passages read with the question, nothing kept."""
MIN_UNITS = 3


@dataclass(slots=True)
class Measures:
    """What is noted of one candidate, passage by passage or request by request."""

    mass: list[float] = field(default_factory=list)
    output_error: list[float] = field(default_factory=list)
    unit_rho: list[float] = field(default_factory=list)
    fill_ms: list[float] = field(default_factory=list)
    warm_ms: list[float] = field(default_factory=list)
    tokens: int = 0
    bytes_exact: int = 0
    bytes_int8: int = 0


class ThinPanel(Panel):
    """Scores every candidate on each case, and measures what it keeps."""

    def __init__(
        self,
        method: QuestionRows,
        reader: CachedReader,
        readings: CaseReadings,
        rows: PassageRows,
        candidates: Sequence[Candidate],
    ) -> None:
        """A panel over one method.

        Args:
            method: reads by `reader`, whose cache is exact and on disk.
            readings: of the dense pass, kept between runs.
        """
        super().__init__([DENSE, *(each.name for each in candidates)], {})
        self.method, self.reader, self.readings = method, reader, readings
        self.rows, self.candidates = rows, candidates
        self.measures = {each.name: Measures() for each in candidates}

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> dict[str, TimedScores]:
        """Every candidate's scores of one case."""
        method, case = self.method, (question, passages, units)
        reading = self.readings.get_or_read(*case, method.read)
        scores = method.score_reading(reading, *case)
        found = {DENSE: TimedScores(scores, sum(reading.timings_ms.values()), True)}
        for candidate in self.candidates:
            measures = self.measures[candidate.name]
            own = copy.copy(method)
            own.reader = _ThinReader(self.reader, self.rows, candidate, measures)
            clock = time.process_time()
            thinned = own.score_reading(own.read(*case), *case)
            ms = (time.process_time() - clock) * 1e3
            if len(units) >= MIN_UNITS:
                measures.unit_rho += rank_correlations(
                    [scores.values], [thinned.values], of_constant=1.0
                )
            found[candidate.name] = TimedScores(thinned, ms)
        return found


class _ThinReader:
    """Asks passages as a candidate keeps them; notes what that is worth."""

    def __init__(
        self, reader: CachedReader, rows: PassageRows, candidate: Candidate, measures: Measures
    ) -> None:
        self.exact, self.rows, self.candidate, self.measures = reader, rows, candidate, measures
        self.proxy = reader.proxy
        self.card, self.layout = reader.card, reader.layout

    def with_template(self, template: Template) -> _ThinReader:
        """Not used: the method that is measured has one template."""
        raise NotImplementedError

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """Like the proxy, from what the candidate keeps."""
        exact = [self._exact_entry(prompt, want) for prompt in prompts]
        pairs = list(zip(prompts, exact, strict=True))
        thinned = [self.candidate.thin(self.rows, prompt, kept) for prompt, kept in pairs]
        clock = time.process_time()
        signals = list(self.proxy.read_cached(prompts, [each.layers for each in thinned], want))
        self.measures.warm_ms.append((time.process_time() - clock) * 1e3)
        for (prompt, kept), each in zip(pairs, thinned, strict=True):
            self._measure(prompt, kept, each)
        yield from signals

    def _exact_entry(self, prompt: Prompt, want: Want) -> list[KVLayer]:
        """The passage's exact layers: from the cache, or read for it now."""
        cache, key = self.exact.cache, self.exact.key(prompt)
        entry = cache.get(key, want.depth)
        if entry is None:
            list(self.exact.read([prompt], want))
            entry = cache.get(key, want.depth)
        assert entry is not None
        return [layer for layer in entry if isinstance(layer, KVLayer)]

    def _measure(self, prompt: Prompt, kept: Sequence[KVLayer], thinned: ThinnedPassage) -> None:
        measures, ids = self.measures, prompt.passage.ids
        measures.tokens += len(ids)
        measures.bytes_exact += thinned.bytes_exact
        measures.bytes_int8 += thinned.bytes_int8
        measures.fill_ms.append(thinned.fill_ms)
        states = self.rows.queries([prompt.question], len(ids))[: len(kept) - 1]
        mass, error = compare_attention(states, kept, thinned)
        measures.mass.append(mass)
        measures.output_error.append(error)


def compare_attention(
    queries: Tensor, kept: Sequence[KVLayer], thinned: ThinnedPassage
) -> tuple[float, float]:
    """The mass of the passage's attention that is kept, and the relative error of outputs.

    Over the passage alone, of question states that have not seen it, in all layers but the last,
    whose values nothing uses. The mass of a stand-in, or of rounded keys, counts as kept.

    Args:
        queries: `[L - 1, H, R, d]` rotated and scaled.
    """
    masses, errors = [], []
    tokens = kept[0].keys.shape[1]
    mask = None if thinned.plan is None else kept_mask(thinned.plan, tokens)
    for layer, (query, exact, own) in enumerate(zip(queries, kept, thinned.layers, strict=False)):
        group = len(query) // exact.keys.shape[0]
        weights, out = _attend(query, *_dense(exact), None)
        bias = own.placement.bias if isinstance(own, ThinKVLayer) and own.placement else None
        _, less = _attend(query, *_dense(own), bias)
        norm = out.norm(dim=-1).clamp_min(1e-6)
        errors.append(float(((less - out).norm(dim=-1) / norm).mean()))
        if mask is None:
            masses.append(1.0)
            continue
        alive = mask[layer].repeat_interleave(group, 0)[:, None]
        masses.append(float((weights * alive).sum(-1).mean()))
    return sum(masses) / len(masses), sum(errors) / len(errors)


def _attend(
    query: Tensor, keys: Tensor, values: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weights `[H, R, C]` and outputs `[H, R, d]`; a head without columns puts out zeros."""
    group = len(query) // len(keys)
    logits = query.float() @ keys.repeat_interleave(group, 0).transpose(1, 2)
    if bias is not None:
        logits = logits + bias.repeat_interleave(group, 0)[:, None]
    weights = logits.softmax(-1).nan_to_num(0.0)
    return weights, weights @ values.repeat_interleave(group, 0)


def _dense(layer: Any) -> tuple[Tensor, Tensor]:
    """Keys and values of a layer in fp32, whatever they are kept as."""
    if isinstance(layer, CodedKVLayer):
        (layer,) = decode_layers([layer], torch.float32)
    parts = []
    for part in (layer.keys, layer.values):
        if not isinstance(part, Tensor):
            target = torch.empty(part.shape)
            part.dequantize_into(target)
            part = target
        parts.append(part.float())
    return parts[0], parts[1]
