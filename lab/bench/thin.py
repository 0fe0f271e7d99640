"""`bench thin`: what kept passages can lose, and in how few bytes they keep the evidence.

The figures of `tamis lab bench thin`: one row a candidate, each set apart, and the verdict.

`tamis lab bench thin`: from record files to rows of figures.

All candidates over one reading of each passage, each asked and scored as a user would be.

record ─ windows ─► exact entries (read once, kept on disk)
candidate ─ entries ─► thinned ─ asked ─► features ─ shipped probe ─► scores ─► gold kept

The rows of `bench thin`: a policy at a share, with or without stand-ins, or a storage.
"""

from __future__ import annotations

import copy
import re
import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.features.second_step import isolated_features
from tamis.compressors.methods.question_rows import QuestionRows, pool_question_rows
from tamis.compressors.reading.windows import Reading, split_windows
from tamis.probes.attention.coded_layer import CodedKVLayer, decode_layers
from tamis.probes.attention.kv_layers import KVLayers
from tamis.probes.attention.recorder import KVLayer
from tamis.probes.attention.thin_layer import Placement, ThinKVLayer
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.kv_cache.codec import shipped_codec
from tamis.probes.kv_cache.storage import layer_bytes, store_layers, thin_layer
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.prompt import Prompt, Template
from tamis.probes.signal import Signal, Want
from tamis.service.api.compress import counter_of
from tamis.service.cli.display.output import report_errors
from tamis.text.types import Passage, Unit
from tamis_lab.bench.depth import loss_cells, losses, pool_tallies
from tamis_lab.bench.evidence import EvidenceTally, load_gold_records, tally_sets
from tamis_lab.bench.panel import Panel
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import RecordFile, ReportProgress
from tamis_lab.datasets.records import passages_of, request_units
from tamis_lab.datasets.score_sources import TimedScores
from tamis_lab.datasets.statistics import DRAWS, rank_correlations
from tamis_lab.methods.kv_thinning.contract import (
    SPANS,
    EvictionClass,
    EvictionPlan,
    by_key_head,
    ragged_plan,
)
from tamis_lab.methods.kv_thinning.passage_rows import PassageRows
from tamis_lab.methods.kv_thinning.thinning import stand_in_count, thin_layers, unit_of_tokens
from tamis_lab.methods.registry import EVICTIONS
from tamis_lab.options import shared

EPILOG = """
**Examples**

`tamis lab bench thin --judge dev/hotpotqa.jsonl.gz:40 --bank train/hotpotqa.jsonl.gz`

`tamis lab bench thin --judge dev/xquad_en.jsonl.gz:200 --bank train/squad2.jsonl.gz
--policies int8,thin,k3v2,kvcompose,sage:asked --shares 0.5,0.25 --stand-ins kvcompose`

Each passage is read once, exactly, and kept on disk in the readings folder; every row is made from
that. Rows are eviction policies at a share of all key-value pairs, `sage:asked`, which knows the
question, storages (`exact`, `int8`, `thin`) and bits of keys and values, such as `k3v2`. Lost is
what the dense pass keeps more, in points with a 95 % interval, all sets together. A row is harmless
if the upper end is at most 1 point. Times are of the processor, a passage (fill) or request (warm).
"""


@report_errors()
def thin(
    judge: Annotated[
        list[str],
        typer.Option("--judge", help="Labelled JSONL, maybe as FILE:LIMIT. Repeatable."),
    ],
    bank: Annotated[
        str, typer.Option("--bank", help="Likewise, other questions: 8 that policies may ask.")
    ],
    policies: Annotated[
        str | None, typer.Option(help="With commas; by default all, and int8 and thin.")
    ] = None,
    shares: Annotated[
        str, typer.Option(help="Of key-value pairs, with commas.")
    ] = "0.5,0.25,0.125",
    stand_ins: Annotated[
        str | None, typer.Option("--stand-ins", help="Policies to try with stand-ins, too.")
    ] = None,
    budgets: shared.Budgets = "0.1,0.2",
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
    cache: shared.ReadingsFolder = None,
    as_json: shared.Json = False,
) -> None:
    """What passages lose that are kept in part or in few bits: attention, evidence, bytes, time."""
    study = Study(as_json)
    files = [shared.parse_record_file(name) for name in judge]
    source = shared.parse_record_file(bank)
    if source.path in {file.path for file in files}:
        raise BadInput(f"--bank and --judge both name {source.path}; the bank needs others")
    names = shared.parse_list(policies, "policies") if policies else _all_policies()
    with_stand_ins = shared.parse_list(stand_ins, "stand-ins") if stand_ins else ()
    candidates = parse_candidates(names, shared.parse_budgets(shares), with_stand_ins)
    plan = ThinPlan(
        tuple(candidates),
        tuple(shared.parse_budgets(budgets)),
        source,
        shared.readings_folder(cache),
        seed,
    )
    with study.bars():
        found = measure_thin(files, plan, proxy, study)
    study.publish({"seed": seed} | found, lambda: [_table(found), found["verdict"]])


def _table(found: Mapping[str, Any]) -> Table:
    sets = ", ".join(f"{name} {count}" for name, count in found["questions"].items())
    measures = ("mass", "output_error", "unit_rho", "unit_rho_p5")
    costs = ("bytes_exact", "bytes_int8", "fill_ms", "warm_ms")
    lost = (f"lost at {float(budget):g}" for budget in found["rows"][0]["budgets"])
    heads = ("mass", "output error", "unit rho", "5 %", *lost, "bytes", "int8", "fill ms")
    return table(
        f"{sets} questions, {found['tokens']:,} tokens",
        ("kept", *heads, "warm ms", "harmless"),
        (
            [
                row["candidate"],
                *(f"{row[name]:.3f}" for name in measures),
                *loss_cells(row["budgets"], with_kept=False),
                *(f"{row[name]:,.0f}" for name in costs),
                "yes" if row["harmless"] else "no",
            ]
            for row in found["rows"]
        ),
    )


def _all_policies() -> Sequence[str]:

    return ["int8", "thin", *EVICTIONS.names(), "sage:asked"]


HARMLESS = 0.01
"""The share of gold sentences that a harmless candidate may lose, at the interval's upper end."""
WITHIN = 0.005
"""The share that it may lose on every set, as measured."""


def thin_figures(
    tallies: Mapping[str, EvidenceTally],
    candidates: Sequence[Candidate],
    measures: Mapping[str, Measures],
    seed: int = 0,
    draws: int = DRAWS,
) -> list[dict[str, Any]]:
    """One row per candidate, as JSON."""
    pooled, rows = pool_tallies(tallies), []
    for candidate in candidates:
        name, own = candidate.name, measures[candidate.name]
        budgets = losses(pooled, DENSE, name, seed, draws)
        sets = {of: losses(counts, DENSE, name, seed, draws) for of, counts in tallies.items()}
        rows.append(
            {
                "candidate": name,
                "policy": candidate.policy,
                "share": candidate.share,
                "stand_in": candidate.stand_in,
                "mass": statistics.fmean(own.mass),
                "output_error": statistics.fmean(own.output_error),
                "unit_rho": statistics.fmean(own.unit_rho) if own.unit_rho else 1.0,
                "unit_rho_p5": float(np.percentile(own.unit_rho, 5)) if own.unit_rho else 1.0,
                "bytes_exact": own.bytes_exact / own.tokens,
                "bytes_int8": own.bytes_int8 / own.tokens,
                "fill_ms": statistics.fmean(own.fill_ms),
                "warm_ms": statistics.fmean(own.warm_ms),
                "budgets": budgets,
                "sets": sets,
                "harmless": all(cell["high"] <= HARMLESS for cell in budgets.values()),
                "within": all(
                    cell["lost"] <= WITHIN for cells in sets.values() for cell in cells.values()
                ),
            }
        )
    return rows


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """The smallest entry that loses at most `WITHIN` on every set, in a line."""
    fitting = [
        (min(row["bytes_exact"], row["bytes_int8"]), row["candidate"])
        for row in rows
        if row["within"]
    ]
    if not fitting:
        return f"No candidate loses at most {WITHIN:g} of the evidence on every set."
    size, name = min(fitting)
    return (
        f"The smallest entry that loses at most {WITHIN:g} of the evidence on every set: {name}, "
        f"{size:,.0f} bytes a token."
    )


BANK_QUESTIONS = 8
CALIBRATION_PASSAGES = 2
_DISK_BYTES = 64 << 30
_MEMORY_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class ThinPlan:
    """What is measured.

    Attributes:
        bank: records to take bank questions from, and calibration passages; none of the judged.
        folder: of readings and of exact entries; both are kept between runs.
    """

    candidates: tuple[Candidate, ...]
    budgets: tuple[float, ...]
    bank: RecordFile
    folder: Path
    seed: int = 0


def measure_thin(
    files: Sequence[RecordFile], plan: ThinPlan, proxy_name: str, study: Study
) -> dict[str, Any]:
    """Figures of every candidate over every set.

    Raises:
        BadInput: a file has no gold sentences. ProxyMissing: the model is not on this machine.
    """

    layers = registry.layers_needed("question_rows", proxy_name)
    proxy = registry.load_proxy(proxy_name, layers)
    cache = PassageCache(_MEMORY_BYTES, plan.folder / "exact", max_disk_bytes=_DISK_BYTES)
    reader = CachedReader(proxy, cache)
    encoder = registry.DEFAULT_ENCODER
    method = registry.build_method("question_rows", proxy=reader, encoder=encoder, gate=False)
    if method.probe is None:
        raise BadInput(f"no probe ships for {proxy_name}; name a proxy that has one")
    rows = bank_rows(method, reader, plan, study.report)
    readings = CaseReadings(plan.folder, store_key(method))
    panel = ThinPanel(method, reader, readings, rows, plan.candidates)
    counter = counter_of("proxy", proxy_name)
    tallies = tally_sets(files, panel, plan.budgets, counter, plan.seed, study)
    found = thin_figures(tallies, plan.candidates, panel.measures, plan.seed)
    return {
        "rows": found,
        "verdict": verdict(found),
        "dtype": proxy.arithmetic,
        "questions": {name: len(counts.gold) for name, counts in tallies.items()},
        "gold": {name: sum(counts.gold) for name, counts in tallies.items()},
        "tokens": next(iter(panel.measures.values())).tokens,
    }


def bank_rows(
    method: QuestionRows, reader: CachedReader, plan: ThinPlan, report: ReportProgress
) -> PassageRows:
    """What policies are given: bank questions, sizes of key heads, and losses by span if needed."""
    records, _ = load_gold_records(plan.bank.path, plan.bank.limit, plan.seed)
    questions = [reader.layout.question_tokens(r["question"]) for r in records[:BANK_QUESTIONS]]
    rows = PassageRows(reader.proxy, method.layers, questions)
    assert method.probe is not None
    kv_heads = int(reader.proxy.config.num_key_value_heads)
    rows.sizes = key_head_sizes(method.probe, kv_heads)
    if any(candidate.policy == "moa" for candidate in plan.candidates):
        file = plan.folder / f"spans.{reader.card.name}.{plan.bank.name}.safetensors"
        rows.span_losses = _load_losses(file)
        if rows.span_losses is None:
            prompts = _calibration_prompts(reader, records)
            rows.span_losses = span_losses(method, reader, prompts, kv_heads, report)
            save_file({"losses": rows.span_losses}, file)
    return rows


def key_head_sizes(probe: LinearProbe, kv_heads: int) -> Tensor:
    """How much a probe weighs the query heads of each key head, the largest of them: `[L, Hkv]`.

    By the weights of a head's mean and maximum among the probe's features of a window alone.
    """
    layers, heads = probe.card.layers, probe.card.heads
    of_heads = probe.weights["alone"][: 2 * layers * heads].view(2, layers, heads)
    return by_key_head(of_heads.norm(dim=0), kv_heads).amax(-1)


def span_losses(
    method: QuestionRows,
    reader: CachedReader,
    prompts: Sequence[Prompt],
    kv_heads: int,
    report: ReportProgress,
) -> Tensor:
    """The mean squared change of unit scores when one key head keeps a span: `[L, Hkv, spans]`."""
    layers, want = method.layers, Want(tuple(range(method.layers)))
    losses = torch.zeros(layers, kv_heads, len(SPANS))
    list(reader.read(prompts, want))
    entries = [reader.cache.get(reader.key(prompt), layers) for prompt in prompts]

    def scores(kept: Any) -> list[Tensor]:
        signals = reader.proxy.read_cached(prompts, kept, want)
        return [_alone(method, s, p) for s, p in zip(signals, prompts, strict=True)]

    whole = scores(entries)
    for layer in range(layers):
        for head in range(kv_heads):
            for s, span in enumerate(SPANS):
                cut = [_cut_head(entry, layer, head, span) for entry in entries]
                changes = [
                    float((a - b).square().mean()) for a, b in zip(scores(cut), whole, strict=True)
                ]
                losses[layer, head, s] = sum(changes) / len(changes)
        report("heads cut for moa", layer + 1, layers)
    return losses


def _cut_head(entry: Any, layer: int, head: int, span: int) -> Any:
    """A passage of which one key head keeps its first tokens and its last `span`."""
    heads, tokens, _ = entry[0].keys.shape
    kept = torch.ones(len(entry), heads, tokens, dtype=torch.bool)
    kept[layer, head, 4 : max(4, tokens - span)] = False
    thinned = thin_layers(entry, ragged_plan(kept))
    # only that layer differs; the others stay as they are, which is quicker to ask
    return [thinned[n] if n == layer else one for n, one in enumerate(entry)]


def _alone(method: QuestionRows, signal: Any, prompt: Prompt) -> Tensor:
    """Scores of a window's units by the probe of a window alone: `[U]`."""

    spans = prompt.passage.unit_spans
    pooled = pool_question_rows(signal, spans).cpu()
    reading = Reading(pooled, tuple(b - a for a, b in spans), 1, 0, {})
    features = isolated_features(reading)
    assert method.probe is not None
    return features @ method.probe.weight("alone", (features.shape[1],))


def _calibration_prompts(reader: CachedReader, records: Sequence[Any]) -> list[Prompt]:
    """The longest window of each of the first records with its own question."""
    prompts = []
    for record in records[:CALIBRATION_PASSAGES]:
        windows = split_windows(reader.layout, passages_of(record), request_units(record))
        longest = max(windows, key=lambda window: len(window.tokens.ids))
        ask = reader.layout.question_tokens(record["question"])
        prompts.append(Prompt(longest.tokens, ask))
    return prompts


def _load_losses(file: Path) -> Tensor | None:
    if not file.is_file():
        return None
    return load_file(file)["losses"]


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


ORACLE = "asked"
"""`sage:asked` ranks by the question that is asked: the upper bound that no cache can reach."""
_BITS = re.compile(r"k([1-8])v([1-8])")
_ID_BYTES = 2
_INT8_VECTOR_EXTRA = 4


@dataclass(frozen=True, slots=True)
class ThinnedPassage:
    """A passage as a candidate keeps it.

    Attributes:
        layers: what is asked. plan: what it keeps; None for all tokens.
        bytes_exact, bytes_int8: of the entry, all extras included. fill_ms: CPU time of choosing.
    """

    layers: KVLayers
    plan: EvictionPlan | None
    bytes_exact: int
    bytes_int8: int
    fill_ms: float


@dataclass(frozen=True, slots=True)
class Candidate:
    """One row of the table.

    Attributes:
        policy: an eviction, `sage:asked`, `exact`, `int8`, `thin`, or bits such as `k3v2`.
        share: of key-value pairs that an eviction keeps. stand_in: whether the others get one.
    """

    policy: str
    share: float = 1.0
    stand_in: bool = False

    @property
    def name(self) -> str:
        """The row's name."""
        if self.share == 1:
            return self.policy
        return f"{self.policy} {self.share:g}{' +stand-ins' if self.stand_in else ''}"

    def thin(self, rows: PassageRows, prompt: Prompt, kept: Sequence[KVLayer]) -> ThinnedPassage:
        """What it keeps of a passage, from its exact layers."""
        clock = time.process_time()
        if self.policy in ("exact", "int8", "thin"):
            codec = shipped_codec(rows.proxy.card)
            stored = store_layers(kept, self.policy, codec=codec)  # type: ignore[arg-type]
            return _whole(stored, clock)
        if found := _BITS.fullmatch(self.policy):
            bits = int(found[1]), int(found[2])
            exact = [one for one in store_layers(kept, "exact") if isinstance(one, KVLayer)]
            return _whole([thin_layer(one, *bits) for one in exact], clock)
        ids, spans = prompt.passage.ids, _token_spans(prompt)
        plan = self._plan(rows, prompt, kept)
        layers = thin_layers(kept, plan, spans if self.stand_in else None)
        ms = (time.process_time() - clock) * 1e3 + rows.kept_ms
        return ThinnedPassage(layers, plan, *_entry_bytes(layers, len(ids)), ms)

    def _plan(self, rows: PassageRows, prompt: Prompt, kept: Sequence[KVLayer]) -> EvictionPlan:
        policy, _, oracle = self.policy.partition(":")
        eviction: EvictionClass = EVICTIONS.load(policy)
        ids = prompt.passage.ids
        if oracle:
            passage = rows.passage(ids, kept, "")
            asked = rows.asked_rows(ids, kept, [prompt.question])
            passage = type(passage)(passage.keys, passage.values, asked, seed=passage.seed)
        else:
            passage = rows.passage(ids, kept, eviction.info.needs)
        share = self.share
        if self.stand_in and not eviction.info.shares:
            units = stand_in_count(unit_of_tokens(_token_spans(prompt), len(ids)))
            share = max(share - units / len(ids), 1 / len(ids))  # stand-ins are paid for
        return eviction().keep(passage, share)


def parse_candidates(
    policies: Sequence[str], shares: Sequence[float], stand_ins: Sequence[str]
) -> list[Candidate]:
    """The rows of the table: `exact` first, each policy at each share, those named with stand-ins.

    Raises:
        UnknownMethod: no such policy. BadInput: an oracle of a policy that has none, or a share
            outside (0, 1).
    """
    if bad := [share for share in shares if not 0 < share < 1]:
        raise BadInput(f"shares are {bad}; give shares between 0 and 1")
    found = [Candidate("exact")]
    for policy in policies:
        if policy in ("exact", "int8", "thin") or _BITS.fullmatch(policy):
            found.append(Candidate(policy))
            continue
        name, _, oracle = policy.partition(":")
        if oracle and policy != f"sage:{ORACLE}":
            raise BadInput(f"policy is {policy!r}; only sage:{ORACLE} looks at the question")
        EVICTIONS.check(name)
        for share in shares:
            found.append(Candidate(policy, share))
            if policy in stand_ins:
                found.append(Candidate(policy, share, stand_in=True))
    return list(dict.fromkeys(found))


def kept_mask(plan: EvictionPlan, tokens: int) -> torch.Tensor:
    """Which tokens each head keeps: `[L, Hkv, N]` bool."""
    masks = []
    for ids in plan.ids:
        mask = torch.zeros(len(ids), tokens + 1, dtype=torch.bool)
        mask.scatter_(1, ids.where(ids >= 0, tokens), True)
        masks.append(mask[:, :tokens])
    return torch.stack(masks)


def _whole(layers: KVLayers, clock: float) -> ThinnedPassage:
    ms = (time.process_time() - clock) * 1e3
    size = sum(map(layer_bytes, layers))
    return ThinnedPassage(layers, None, size, size, ms)


def _entry_bytes(layers: Sequence[ThinKVLayer], tokens: int) -> tuple[int, int]:
    """Bytes of an entry in bf16 and in int8: vectors, ids, and the unit of each token.

    Padding is not counted: it would not be written. The last layer's values are not kept.
    """
    columns = [_columns(layer.placement) for layer in layers]
    vectors = 2 * sum(columns) - columns[-1]
    size = layers[0].keys.shape[2]
    extras = _ID_BYTES * (sum(columns) + tokens)
    return vectors * size * 2 + extras, vectors * (size + _INT8_VECTOR_EXTRA) + extras


def _columns(placement: Placement | None) -> int:
    return 0 if placement is None else int((~placement.bias.isneginf()).sum())


def _token_spans(prompt: Prompt) -> list[tuple[int, int]]:
    """Token spans of the units, counted from the title line's first token."""
    start = prompt.passage.title_tokens
    return [(start + a, start + b) for a, b in prompt.passage.unit_spans]
