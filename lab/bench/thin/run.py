"""`tamis lab bench thin`: from record files to rows of figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.features.second_step import isolated_features
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import Reading, split_windows
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.probing.linear import LinearProbe
from tamis.probes.prompt import Prompt
from tamis.probes.segmentation.segment import units_of
from tamis.probes.signal import Want
from tamis_lab.bench.attention.depth import tally_cuts
from tamis_lab.bench.evidence.run import language_of
from tamis_lab.bench.evidence.tally import load_gold_records
from tamis_lab.bench.thin.candidates import Candidate
from tamis_lab.bench.thin.figures import thin_figures, verdict
from tamis_lab.bench.thin.panel import ThinPanel
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import RecordFile, ReportProgress
from tamis_lab.datasets.records import passages_of
from tamis_lab.methods.kv_thinning.contract import SPANS, by_key_head, ragged_plan
from tamis_lab.methods.kv_thinning.passage_rows import PassageRows
from tamis_lab.methods.kv_thinning.thinning import thin_layers

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
    files: Sequence[RecordFile], plan: ThinPlan, proxy_name: str, report: ReportProgress
) -> dict[str, Any]:
    """Figures of every candidate over every set.

    Raises:
        BadInput: a file has no gold sentences. ProxyMissing: the model is not on this machine.
    """
    from tamis.service.api.compress import counter_of

    layers = registry.layers_needed("question_rows", proxy_name)
    proxy = registry.load_proxy(proxy_name, layers)
    cache = PassageCache(_MEMORY_BYTES, plan.folder / "exact", max_disk_bytes=_DISK_BYTES)
    reader = CachedReader(proxy, cache)
    encoder = registry.DEFAULT_ENCODER
    method = registry.build_method("question_rows", proxy=reader, encoder=encoder, gate=False)
    if method.probe is None:
        raise BadInput(f"no probe ships for {proxy_name}; name a proxy that has one")
    rows = bank_rows(method, reader, plan, report)
    readings = CaseReadings(plan.folder, store_key(method))
    panel = ThinPanel(method, reader, readings, rows, plan.candidates)
    counter = counter_of("proxy", proxy_name)
    tallies = tally_cuts(files, panel, plan.budgets, counter, plan.seed, report)
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
        rows.span_losses = _stored(file)
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
    from tamis.compressors.methods.question_rows import pool_question_rows

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
        passages = passages_of(record)
        windows = split_windows(reader.layout, passages, units_of(passages, language_of(record)))
        longest = max(windows, key=lambda window: len(window.tokens.ids))
        ask = reader.layout.question_tokens(record["question"])
        prompts.append(Prompt(longest.tokens, ask))
    return prompts


def _stored(file: Path) -> Tensor | None:
    if not file.is_file():
        return None
    return load_file(file)["losses"]
