"""`tamis lab bench prefill`: patterns of sparse prefill on long prompts, beside the dense pass.

The comparison of patterns: prompts of every length, every pattern at every share.

What a pattern loses on one prompt, beside the dense pass.

density     blocks multiplied, as a share of the dense pass's
coverage    of sampled rows, the share of dense attention on keys that were multiplied: the mean
            over rows, and the least row, each mean over heads and layers
hidden      error of the states that enter the deepest layer, relative to their length
unit ρ      Spearman's rank correlation of the units' mean attention in each head, ties averaged
kept        gold sentences kept at shares of the tokens, by the mean of the best heads
ms          processor time, the dense pass beside it in the same process
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.table import Table
from torch import Tensor

from tamis.compressors import registry
from tamis.compressors.reading.windows import split_windows
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head
from tamis.probes.prompt import Layout, PassageTokens
from tamis.probes.signal import pool_tokens
from tamis.service.cli.display.output import report_errors
from tamis_lab.bench.readings import profile_heads
from tamis_lab.bench.study import Study, table
from tamis_lab.datasets.record_files import RecordFile, ReportProgress, answerable_records
from tamis_lab.datasets.records import Record, gold_labels, passages_of, request_units
from tamis_lab.datasets.statistics import paired_bootstrap, rank_correlations
from tamis_lab.methods.patterns.echo import layer_similarity
from tamis_lab.methods.patterns.parallel import segments_of
from tamis_lab.methods.prefill.contract import BLOCK, Pattern, PromptShape, Sight, sampled_weights
from tamis_lab.methods.prefill.prefill_pass import Prefilled
from tamis_lab.methods.prefill.prefill_pass import prefill as run_prefill
from tamis_lab.methods.registry import PATTERNS
from tamis_lab.options import shared
from tamis_lab.options.figures import Chart
from tamis_lab.train.probe.figures import fill_token_share

EPILOG = """
**What is measured**

Every prompt holds the passages of one question, then those of others until the length is reached,
shuffled. Each pattern runs it at each share; the dense pass runs beside it in the same process.
density: blocks of 64 tokens multiplied. coverage, least: dense attention on multiplied keys, mean
and least row. hidden: error of the states that enter the deepest layer. unit rho: rank correlation
of the units' attention, mean over heads, and the 5th percentile. gold: gold sentences kept by the
mean of eight heads, in brackets the 95 % interval of the lead over the dense pass.

**Examples**

`tamis lab bench prefill --data hotpotqa.jsonl.gz --tokens 512,2048 --prompts 8,4 --json`

`tamis lab bench prefill --data mine.jsonl --patterns sample,flexprefill --shares 0.5,0.25,0.125`

`tamis lab kinds --kind pattern` lists the patterns with their papers; a new one is a file in
`lab/methods/patterns/`.
"""


@report_errors()
def prefill(
    data: Annotated[str, typer.Option("--data", help="Labelled JSONL, as FILE or FILE:LIMIT.")],
    names: Annotated[
        str | None,
        typer.Option("--patterns", help="Names, with commas. Default: all.", show_default=False),
    ] = None,
    tokens: Annotated[str, typer.Option(help="Lengths of prompts, with commas.")] = "512,2048,8000",
    prompts: Annotated[
        str, typer.Option(help="Prompts of each length, with commas; one number for all.")
    ] = "8",
    shares: Annotated[str, typer.Option(help="Of the dense pass, with commas.")] = "0.5,0.25,0.125",
    budgets: shared.Budgets = "0.1,0.2",
    layers: Annotated[
        int | None, typer.Option(min=2, help="Run the first N layers; default two thirds.")
    ] = None,
    as_json: shared.Json = False,
    plot: shared.Plot = None,
    seed: shared.Seed = 0,
    proxy: shared.ProxyName = shared.SHARP,
) -> None:
    """Compare patterns of sparse prefill: blocks, attention, evidence and time.

    The plot shows how alike the question's rows of two layers are.
    """
    study = Study(as_json, plot)
    chosen = shared.parse_list(names, "patterns") if names else PATTERNS.names()
    for name in chosen:
        PATTERNS.check(name)
    lengths, file = shared.parse_sizes(tokens), shared.parse_record_file(data)
    reader = registry.load_proxy(proxy, layers)
    plan = PrefillPlan(
        tuple(chosen),
        tuple(lengths),
        _counts(prompts, len(lengths)),
        tuple(shared.parse_budgets(shares)),
        tuple(shared.parse_budgets(budgets)),
        layers or max(2, reader.card.layers * 2 // 3),
        seed,
    )
    with study.bars():
        figures = compare_patterns(reader, file, plan, study.report)
    similar = "cosine of the question's rows, mean over heads"
    study.publish(
        {"proxy": proxy, "layers": plan.layers} | figures,
        lambda: [pattern_table(figures["rows"], length) for length in lengths],
        lambda: [Chart(similar, x="layer", y="layer", cells=figures["similarity"])],
    )


def pattern_table(rows: Sequence[Mapping[str, Any]], tokens: int) -> Table:
    """The rows of one length of prompts."""
    own = [row for row in rows if row["tokens"] == tokens]
    shares = list(own[0]["kept"])
    heads = ("pattern", "share", "density", "coverage", "least", "hidden", "unit ρ", "5th")
    names = ("density", "coverage", "least_coverage", "hidden_error", "unit_rho", "unit_rho_5th")
    return table(
        f"{tokens:,} tokens, {own[0]['prompts']} prompts",
        (*heads, *(f"gold {float(share):.0%}" for share in shares), "ms", "× dense"),
        (
            [
                row["pattern"],
                f"{row['share']:g}",
                *("" if row[name] is None else f"{row[name]:.3f}" for name in names),
                *(_gold(row, share) for share in shares),
                f"{row['ms']:.0f}",
                f"{row['ms_dense'] / max(row['ms'], 1e-9):.2f}",
            ]
            for row in own
        ),
    )


def _gold(row: Mapping[str, Any], share: str) -> str:
    """Per cent of gold kept, and the interval of the lead over the dense pass, in points."""
    _, low, high = row["ahead_of_dense"][share]
    lead = f" [{100 * low:+.0f}, {100 * high:+.0f}]" if low or high else ""
    return f"{100 * row['kept'][share]:.0f}{lead}"


def _counts(given: str, lengths: int) -> tuple[int, ...]:
    """How many prompts of each length.

    Raises:
        BadInput: not a number for each length, nor one for all.
    """
    words = [word.strip() for word in given.split(",")]
    if not all(word.isdecimal() and int(word) for word in words) or len(words) not in (1, lengths):
        raise BadInput(
            f"prompts is {given!r}; give one number from 1 on, or {lengths} with commas, one for "
            "each length"
        )
    counts = [int(word) for word in words]
    return tuple(counts * lengths if len(counts) == 1 else counts)


CALIBRATION, CALIBRATION_TOKENS = 4, 512
"""How many prompts of how many tokens the similarity of layers is measured on, from the last record
on, so that they are other than the judged ones where there are enough records."""
DENSE = "dense"


@dataclass(frozen=True, slots=True)
class PrefillPlan:
    """What is compared.

    Attributes:
        tokens: lengths of prompts. prompts: how many of each. shares: that patterns are built with.
        budgets: shares of the tokens at which gold is counted.
    """

    patterns: tuple[str, ...]
    tokens: tuple[int, ...]
    prompts: tuple[int, ...]
    shares: tuple[float, ...]
    budgets: tuple[float, ...]
    layers: int
    seed: int


def compare_patterns(
    proxy: Any, file: RecordFile, plan: PrefillPlan, report: ReportProgress
) -> dict[str, Any]:
    """The table as JSON: `rows`, and the `similarity` of layers, `[L, L]`.

    Raises:
        UnknownMethod: no such pattern. BadInput: too few records, or no profile of heads.
    """
    classes = {name: PATTERNS.load(name) for name in plan.patterns}
    builder = PromptBuilder(proxy.layout, answerable_records(file), plan.layers, plan.seed)
    prompts = {
        length: builder.build_many(length, count)
        for length, count in zip(plan.tokens, plan.prompts, strict=True)
    }
    similarity = measure_similarity(proxy, builder, min(CALIBRATION_TOKENS, *plan.tokens), report)
    made = {
        (name, share): kind(share, similarity)
        for name, kind in classes.items()
        for share in plan.shares
    }
    heads = ranking_heads(proxy, plan.layers)
    rows = []
    for length, of in prompts.items():
        step = partial(report, f"{length:,} tokens")
        figures = _measure_all(proxy, of, made, heads, plan.budgets, step)
        golds = [int(prompt.gold.sum()) for prompt in of]
        rows += [
            {"tokens": length, "pattern": name, "share": share}
            | summarise(found, figures[DENSE, 1.0], golds, plan)
            for (name, share), found in figures.items()
        ]
    return {"rows": rows, "similarity": [[round(x, 4) for x in row] for row in similarity.tolist()]}


def _measure_all(
    proxy: Any,
    prompts: Sequence[LongPrompt],
    made: Mapping[tuple[str, float], Pattern],
    heads: Sequence[Head],
    budgets: Sequence[float],
    report: Callable[[int, int], None],
) -> dict[tuple[str, float], list[PromptFigures]]:
    """The figures of the dense pass and of every pattern on every prompt."""
    found: dict[tuple[str, float], list[PromptFigures]] = {(DENSE, 1.0): []}
    found |= {key: [] for key in made}
    for done, prompt in enumerate(prompts, 1):
        dense = dense_reference(proxy, prompt)
        for key, pattern in [((DENSE, 1.0), None), *made.items()]:
            found[key].append(measure_pattern(proxy, prompt, pattern, dense, heads, budgets))
        report(done, len(prompts))
    return found


def summarise(
    found: Sequence[PromptFigures],
    dense: Sequence[PromptFigures],
    golds: Sequence[int],
    plan: PrefillPlan,
) -> dict[str, Any]:
    """Means over prompts of one pattern's figures.

    Args:
        golds: gold units of each prompt.
    """
    rhos = [rho for one in found for rho in one.unit_rhos]
    kept = {
        f"{share:g}": round(sum(one.kept[share] for one in found) / sum(golds), 4)
        for share in plan.budgets
    }
    ahead = {
        f"{share:g}": [
            round(x, 4)
            for x in paired_bootstrap(
                [one.kept[share] for one in found],
                [one.kept[share] for one in dense],
                golds,
                seed=plan.seed,
            )
        ]
        for share in plan.budgets
    }
    return {
        "prompts": len(found),
        "density": _mean([one.density for one in found]),
        "coverage": _mean([one.coverage for one in found]),
        "least_coverage": _mean([one.least_coverage for one in found]),
        "hidden_error": _mean([one.hidden_error for one in found]),
        "unit_rho": _mean(rhos) if rhos else None,
        "unit_rho_5th": round(float(np.percentile(rhos, 5)), 4) if rhos else None,
        "kept": kept,
        "ahead_of_dense": ahead,
        "ms": _mean([one.ms for one in found]),
        "ms_dense": _mean([one.ms for one in dense]),
    }


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 4)


def measure_similarity(
    proxy: Any, builder: PromptBuilder, tokens: int, report: ReportProgress
) -> Tensor:
    """How alike the question's rows of two layers are, over the last records: `[L, L]`."""
    sums: list[Tensor] = []
    for number in reversed(range(len(builder.records))):
        prompt = builder.build(number, tokens)
        if prompt is not None:
            sums.append(layer_similarity(run_prefill(proxy, prompt.ids, prompt.shape).rows))
            report("similarity", len(sums), CALIBRATION)
        if len(sums) == CALIBRATION:
            break
    if not sums:
        raise BadInput(f"no question has gold that fits into {tokens:,} tokens; ask for more")
    return torch.stack(sums).mean(0)


def ranking_heads(proxy: Any, layers: int) -> tuple[Head, ...]:
    """The best heads of the contrast profile that ships; all heads for a proxy without one."""
    every = tuple((layer, h) for layer in range(layers) for h in range(proxy.card.heads))
    return profile_heads(proxy.card.name, layers) or every


SAMPLED_ROWS = 32


@dataclass(frozen=True, slots=True)
class DenseReference:
    """The dense pass over one prompt.

    Attributes:
        sampled: positions of the sampled rows, `[S]`. weights: their softmax, `[H, S, n]` fp16, of
            every layer but the deepest. ms: processor time of the pass.
    """

    result: Prefilled
    sampled: Tensor
    weights: tuple[Tensor, ...]
    masses: tuple[Tensor, ...]
    ms: float


@dataclass(frozen=True, slots=True)
class PromptFigures:
    """The figures of one pattern on one prompt; see the module.

    Attributes:
        unit_rhos: of every head of layers with rows of their own. kept: gold units kept by share.
    """

    density: float
    coverage: float
    least_coverage: float
    hidden_error: float
    unit_rhos: tuple[float, ...]
    kept: dict[float, int]
    ms: float


class _RowSampler(Sight):
    """Leaves nothing out, and keeps some rows of every layer; its own time is counted."""

    def __init__(self, rows: Tensor) -> None:
        self._rows = rows
        self.weights: list[Tensor] = []
        self.seconds = 0.0

    def blocks(self, layer: int, queries: Tensor, keys: Tensor) -> Tensor | None:
        clock = time.process_time()
        self.weights.append(sampled_weights(queries, keys, self._rows).half())
        self.seconds += time.process_time() - clock
        return None


def dense_reference(proxy: Any, prompt: LongPrompt) -> DenseReference:
    """Runs the dense pass."""
    shape = prompt.shape
    rows = torch.linspace(0, shape.tokens - 1, min(SAMPLED_ROWS, shape.tokens)).round().long()
    sampler = _RowSampler(rows)
    clock = time.process_time()
    result = run_prefill(proxy, prompt.ids, shape, sampler)
    spent = time.process_time() - clock - sampler.seconds
    masses = tuple(unit_masses(layer, shape.units) for layer in result.rows)
    return DenseReference(result, rows, tuple(sampler.weights), masses, spent * 1e3)


def measure_pattern(
    proxy: Any,
    prompt: LongPrompt,
    pattern: Pattern | None,
    dense: DenseReference,
    heads: Sequence[Head],
    budgets: Sequence[float],
) -> PromptFigures:
    """The figures of a pattern; None for those of the dense pass.

    Args:
        heads: whose mean ranks the units; those of layers without rows of their own do not count.
    """
    clock = time.process_time()
    result = dense.result
    if pattern is not None:
        with proxy.device:
            sight = pattern.start(prompt.shape)
        result = run_prefill(proxy, prompt.ids, prompt.shape, sight)
    ms = (time.process_time() - clock) * 1e3 if pattern else dense.ms
    seen, least = coverage(result, dense, prompt)
    return PromptFigures(
        result.density,
        seen,
        least,
        hidden_error(result, dense.result),
        unit_rhos(result, dense, prompt.shape.units),
        kept_gold(result, prompt, heads, budgets),
        ms,
    )


def unit_masses(rows: Tensor, units: Tensor) -> Tensor:
    """The mean weight of each unit's tokens by the mean row: `[H, R, n]` to `[H, U]`."""
    return pool_tokens(rows.mean(1), units.tolist(), "mean").T


def unit_rhos(result: Prefilled, dense: DenseReference, units: Tensor) -> tuple[float, ...]:
    """Rank correlation of unit masses with the dense pass's, of every head with rows of its own.

    Empty for fewer than three units.
    """
    if len(units) < 3:
        return ()
    found: list[float] = []
    for rows, own, masses in zip(result.rows, result.own, dense.masses, strict=True):
        if own:
            found += rank_correlations(unit_masses(rows, units), masses)
    return tuple(found)


def coverage(result: Prefilled, dense: DenseReference, prompt: LongPrompt) -> tuple[float, float]:
    """The share of dense attention on keys that were multiplied: mean row, and least row."""
    means, leasts = [], []
    apart = segments_of(prompt.shape) if result.apart else None
    for layer, weights in enumerate(dense.weights):
        visible = visible_keys(result, layer, dense.sampled, prompt.shape.tokens, apart)
        came = torch.isin(dense.sampled, result.alive[layer])
        grouped = weights.float().view(len(visible), -1, *weights.shape[1:])
        mass = (grouped * visible[:, None]).sum(-1).flatten(0, 1)[:, came]
        means.append(float(mass.mean()))
        leasts.append(float(mass.min(1).values.mean()))
    return sum(means) / len(means), sum(leasts) / len(leasts)


def visible_keys(
    result: Prefilled, layer: int, rows: Tensor, tokens: int, apart: Tensor | None
) -> Tensor:
    """Which keys some rows were multiplied with: `[Hkv or 1, S, n]` bool."""
    seen, alive = result.seen[layer], result.alive[layer]
    came = torch.zeros(tokens, dtype=torch.bool)
    came[alive] = True
    if seen is None:
        visible = came.expand(1, len(rows), -1)
    else:
        at = torch.arange(tokens) // BLOCK
        visible = seen[:, rows // BLOCK][:, :, at]
    if apart is not None:
        own, other = apart[rows][:, None], apart
        visible = visible & ((own == other) | (own < 0) | (other < 0))
    return visible


def hidden_error(result: Prefilled, dense: Prefilled) -> float:
    """The error of the states that enter the deepest layer, relative, mean over its tokens."""
    due = dense.states[result.alive[-1]].float()
    off = (result.states.float() - due).norm(dim=1)
    return float((off / due.norm(dim=1).clamp_min(1e-6)).mean())


def kept_gold(
    result: Prefilled, prompt: LongPrompt, heads: Sequence[Head], budgets: Sequence[float]
) -> dict[float, int]:
    """Gold units kept at shares of the tokens, ranked by the mean attention of some heads."""
    chosen = [(layer, head) for layer, head in heads if result.own[layer]]
    layers = {layer: unit_masses(result.rows[layer], prompt.shape.units) for layer, _ in chosen}
    masses = [layers[layer][head] for layer, head in chosen]
    scores = torch.stack(masses).mean(0) if masses else torch.zeros(len(prompt.gold))
    tokens = prompt.unit_tokens
    return {
        share: int(prompt.gold[fill_token_share(scores, tokens, share)].sum()) for share in budgets
    }


MISSES = 20
"""Passages in a row that are too long for what is left before a prompt counts as full."""


@dataclass(frozen=True, slots=True)
class LongPrompt:
    """One question behind many passages.

    Attributes:
        ids: of opening, passages and question. gold: which units answer it, `[U]` bool.
    """

    ids: tuple[int, ...]
    shape: PromptShape
    gold: Tensor

    @property
    def unit_tokens(self) -> list[int]:
        """The number of tokens of each unit."""
        return [stop - start for start, stop in self.shape.units.tolist()]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A passage as tokens, and which of its units are gold."""

    tokens: PassageTokens
    gold: tuple[bool, ...]


class PromptBuilder:
    """Builds long prompts of the questions of some records."""

    def __init__(self, layout: Layout, records: Sequence[Record], layers: int, seed: int) -> None:
        """Passages of all records may stand beside those of one.

        Args:
            layers: that a pass runs.
        """
        self._layout, self._layers, self._seed = layout, layers, seed
        self._line = layout.tokenizer.encode("\n").ids
        self.records = list(records)
        self._pieces: dict[int, list[_Piece]] = {}

    def build(self, number: int, tokens: int) -> LongPrompt | None:
        """The prompt of one record with at most so many tokens; None where its gold needs more.

        Its passages with gold come first, then its others, then those of other records, and all
        are shuffled.
        """
        record, draw = self.records[number], random.Random(f"{self._seed}:{number}:{tokens}")
        asked = self._layout.question_tokens(record["question"])
        left = tokens - len(self._layout.opening) - len(asked.ids)
        own = self._pieces_of(number)
        chosen = [piece for piece in own if any(piece.gold)]
        left -= sum(self._cost(piece) for piece in chosen)
        if not chosen or left < 0:
            return None
        misses = 0
        for piece in self._fillers(number, own, draw):
            if self._cost(piece) <= left:
                chosen.append(piece)
                left -= self._cost(piece)
                misses = 0
            elif (misses := misses + 1) == MISSES:
                break
        draw.shuffle(chosen)
        return self._join(chosen, asked.ids, asked.first_row)

    def build_many(self, tokens: int, count: int) -> list[LongPrompt]:
        """The prompts of the first `count` records whose gold fits.

        Raises:
            BadInput: there are fewer.
        """
        found: list[LongPrompt] = []
        for number in range(len(self.records)):
            if len(found) == count:
                break
            prompt = self.build(number, tokens)
            found += [] if prompt is None else [prompt]
        if len(found) < count:
            raise BadInput(
                f"{len(found)} questions have gold that fits into {tokens:,} tokens and {count} "
                "are wanted; give more records, or ask for fewer"
            )
        return found

    def _fillers(self, number: int, own: Sequence[_Piece], draw: random.Random) -> Iterator[_Piece]:
        """Passages without gold: the record's, then those of others in a drawn order."""
        yield from (piece for piece in own if not any(piece.gold))
        others = [n for n in range(len(self.records)) if n != number]
        draw.shuffle(others)
        seen = {piece.tokens.ids for piece in own}
        for other in others:
            for piece in self._pieces_of(other):
                if piece.tokens.ids not in seen:
                    seen.add(piece.tokens.ids)
                    yield _Piece(piece.tokens, (False,) * len(piece.gold))

    def _pieces_of(self, number: int) -> list[_Piece]:
        if number not in self._pieces:
            record = self.records[number]
            units = request_units(record)
            labels = gold_labels(record, units)
            windows = split_windows(self._layout, passages_of(record), units, 1 << 30, True)
            self._pieces[number] = [
                _Piece(window.tokens, tuple(labels[window.first : window.stop]))
                for window in windows
            ]
        return self._pieces[number]

    def _cost(self, piece: _Piece) -> int:
        """The tokens of a passage with the line break after it."""
        return len(piece.tokens.ids) + len(self._line)

    def _join(self, pieces: Sequence[_Piece], asked: Sequence[int], first_row: int) -> LongPrompt:
        ids = list(self._layout.opening)
        passages: list[tuple[int, int]] = []
        units: list[tuple[int, int]] = []
        gold: list[bool] = []
        for piece in pieces:
            start = len(ids)
            ids += piece.tokens.ids
            first = start + piece.tokens.title_tokens
            units += [(first + a, first + b) for a, b in piece.tokens.unit_spans]
            gold += piece.gold
            if piece is not pieces[-1]:
                ids += self._line
            passages.append((start, len(ids)))
        ids += asked
        shape = PromptShape(
            len(ids),
            len(asked) - first_row,
            self._layers,
            torch.tensor(passages),
            torch.tensor(units),
        )
        return LongPrompt(tuple(ids), shape, torch.tensor(gold))
