"""Labelled questions to the default method's probe, judged on articles it never saw.

records ─ read (cached) ─► features ─ fit ─► first step ─ out of fold ─► second step ─► calibration
                              └ a fifth of the articles is held out for the figures on the card
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tamis.compressors._reading import WINDOW_TOKENS
from tamis.compressors._words import HOP_FEATURES, Lexicon, hop_features
from tamis.compressors.question_rows import QuestionRows, first_features, lone_features
from tamis.probes.errors import BadInput
from tamis.probes.fit import (
    Calibration,
    Question,
    auc,
    brier_skill,
    calibrated,
    listwise,
    logistic,
    reliability,
)
from tamis.probes.linear import LinearProbe, ProbeCard
from tamis.probes.proxy import Proxy
from tamis.service.bench.looks import Keeping, Looks
from tamis.service.bench.records import (
    Record,
    annotated_units,
    gold_spans,
    labels,
    load,
    lone,
    passages_of,
    with_distractors,
)

FOLDS = 5
Fit = Callable[[Sequence[Question], float], tuple[Tensor, float]]
LOSSES: dict[str, Fit] = {"listwise": listwise, "logistic": logistic}
Report = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Source:
    """One training file and how many of its questions to use."""

    path: Path
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """One labelled question, read: what is known of each unit, and which units are gold."""

    source: str
    fold: int
    record: Record
    first: Tensor
    lone: Tensor
    lexicon: Lexicon
    gold: Tensor
    tokens: tuple[int, ...]


def records_of(source: Source) -> list[Record]:
    """The answerable records of a file with gold sentences; lone passages get distractors.

    Raises:
        BadInput: no record of the file has a gold sentence.
    """
    rows = [r for r in load(source.path) if r.get("answerable", True) and gold_spans(r)]
    if not rows:
        raise BadInput(
            f"{source.path} has no answerable record with gold sentences; nothing can be learnt"
        )
    if lone(rows):
        rows = with_distractors(rows)
    if source.limit and source.limit < len(rows):
        rows = [rows[i] for i in sorted(random.Random(0).sample(range(len(rows)), source.limit))]
    return rows


def fold_of(record: Record) -> int:
    """A number below `FOLDS` that all questions on one article share."""
    title = next((record["docs"][d].get("title") for d, _, _ in gold_spans(record)), None)
    key = (title or record["id"]).replace("_", " ").casefold()
    return hashlib.sha256(key.encode()).digest()[0] % FOLDS


def read_cases(
    method: QuestionRows, sources: Sequence[Source], cache: Path, report: Report
) -> Iterator[Case]:
    """Reads every record of every source, or finds what was read before."""
    looks = Looks(cache, look_key(method))
    for source in sources:
        records = records_of(source)
        name = source.path.name.split(".")[0]
        for i, record in enumerate(records, 1):
            passages, units = passages_of(record), annotated_units(record)
            gold = torch.tensor(labels(record, units))
            if gold.any() and not gold.all():
                look = looks.get(record["question"], passages, units, method.look)
                lexicon = Lexicon(record["question"], passages, units)
                first = first_features(look, record["question"], lexicon)
                yield Case(
                    name,
                    fold_of(record),
                    record,
                    first,
                    lone_features(look),
                    lexicon,
                    gold,
                    look.tokens,
                )
            report(name, i, len(records))


def look_key(method: Any) -> str:
    """What a stored reading depends on, beside the case itself."""
    card, template = method.reader.card, method.reader.layout.template.name
    kind = type(method).__name__
    window = getattr(method, "window_tokens", getattr(method, "chunk_tokens", WINDOW_TOKENS))
    layers = getattr(method, "layers", card.layers)
    dtype = str(getattr(method.reader, "proxy", method.reader).dtype).removeprefix("torch.")
    version = f" {reading=}" if (reading := getattr(method, "reading", None)) else ""
    return f"{kind} {card.name} {card.revision} {dtype} {template} {layers=} {window=}{version}"


def train(
    proxy: Proxy,
    sources: Sequence[Source],
    cache: Path,
    layers: int,
    report: Report,
    loss: str = "listwise",
    l2: float = 0.01,
) -> tuple[LinearProbe, list[Case]]:
    """Fits a probe for a proxy on all folds but the first, which the figures on its card come from.

    Raises:
        BadInput: an unknown loss, or files without enough to learn from.
    """
    if loss not in LOSSES:
        raise BadInput(f"there is no loss {loss!r}; there are {sorted(LOSSES)}")
    method = QuestionRows(Keeping(proxy), probe=None)
    method.layers = layers
    cases = list(read_cases(method, sources, cache, report))
    fitted = [case for case in cases if case.fold]
    if len({case.fold for case in fitted}) < 2 or len(fitted) == len(cases):
        raise BadInput(
            f"{len(cases)} questions on too few articles: the fit needs articles to hold out; "
            "give more data"
        )
    weights = _weights(fitted, LOSSES[loss], l2)
    card = ProbeCard(
        method="question_rows",
        model=proxy.card.name,
        revision=proxy.card.revision,
        template=proxy.layout.template.name,
        layers=layers,
        heads=proxy.card.heads,
        rows=("question_mean",),
        trained_on=tuple(described(source, _used(source, cases)) for source in sources),
    )
    probe = LinearProbe(weights, card)
    held = [case for case in cases if not case.fold]
    figures = {"loss": loss, "l2": l2, "fitted": len(fitted), "held_out": figures_of(probe, held)}
    return LinearProbe(weights, ProbeCard(**_fields(card) | {"figures": figures})), cases


def _weights(cases: Sequence[Case], fit: Fit, l2: float) -> dict[str, Tensor]:
    """Both steps and their calibrations, each later one fitted on scores out of fold."""
    gold = [case.gold for case in cases]
    first, z = _out_of_fold(cases, [Question(c.first, c.gold) for c in cases], fit, l2)
    second = [_second(case, scores) for case, scores in zip(cases, z, strict=True)]
    hop, z = _out_of_fold(cases, second, listwise, 1e-3)
    alone, z_alone = _out_of_fold(cases, [Question(c.lone, c.gold) for c in cases], logistic, 1e-3)
    return {
        "first": first,
        "hop": hop,
        "calibration": _vector(calibrated(z, gold)),
        "alone": alone,
        "alone_calibration": _vector(calibrated(z_alone, gold, absolute=True)),
    }


def _second(case: Case, first: Tensor) -> Question:
    return Question(torch.from_numpy(hop_features(case.lexicon, first.double().numpy())), case.gold)


def _out_of_fold(
    cases: Sequence[Case], questions: Sequence[Question], fit: Fit, l2: float
) -> tuple[Tensor, list[Tensor]]:
    """Weights from all questions; each question's scores by weights that never saw its article."""
    scores: dict[int, Tensor] = {}
    for fold in {case.fold for case in cases}:
        w, bias = fit([q for q, c in zip(questions, cases, strict=True) if c.fold != fold], l2)
        for i, (question, case) in enumerate(zip(questions, cases, strict=True)):
            if case.fold == fold:
                scores[i] = question.features @ w + bias
    w, bias = fit(questions, l2)
    # with the centring of the fits a fold, so that absolute scores mean the same everywhere
    return w, [scores[i] - bias for i in range(len(cases))]


def _vector(calibration: Calibration) -> Tensor:
    return torch.tensor([calibration.a, calibration.b, calibration.c, calibration.d])


def figures_of(
    probe: LinearProbe, cases: Sequence[Case], shares: Sequence[float] = (0.1, 0.2)
) -> dict[str, Any]:
    """What a probe reaches on cases: evidence at a share of the tokens, AUC, calibration."""
    p = [probabilities(probe, case) for case in cases]
    flat, gold = torch.cat(p).double().numpy(), torch.cat([c.gold for c in cases]).double().numpy()
    group = np.repeat(np.arange(len(cases)), [len(c.gold) for c in cases])
    skill = brier_skill(flat, gold, group)
    return {
        "questions": len(cases),
        "units": len(flat),
        "auc": round(auc(flat, gold), 4),
        "brier_skill": [round(x, 4) for x in skill],
        "reliability": [
            {k: round(v, 4) for k, v in row.items()} for row in reliability(flat, gold)
        ],
        "evidence": {
            name: {str(share): evidence(p, cases, share, name) for share in shares}
            for name in sorted({case.source for case in cases})
        },
    }


def probabilities(probe: LinearProbe, case: Case) -> Tensor:
    """The second step's probabilities of one case."""
    z = case.first @ probe.get("first", (case.first.shape[1],))
    second = _second(case, z).features @ probe.get("hop", (len(HOP_FEATURES),))
    return Calibration(*probe.get("calibration", (4,)).tolist())(second)


def recalibrated(probe: LinearProbe, cases: Sequence[Case]) -> LinearProbe:
    """The same weights with probabilities fitted to these cases."""
    z = [case.first @ probe.get("first", (case.first.shape[1],)) for case in cases]
    second = [_second(case, first) for case, first in zip(cases, z, strict=True)]
    hop = probe.get("hop", (len(HOP_FEATURES),))
    gold = [case.gold for case in cases]
    alone = [case.lone @ probe.get("alone", (case.lone.shape[1],)) for case in cases]
    weights = dict(probe.weights) | {
        "calibration": _vector(calibrated([q.features @ hop for q in second], gold)),
        "alone_calibration": _vector(calibrated(alone, gold, absolute=True)),
    }
    figures = dict(probe.card.figures) | {"recalibrated_on": len(cases)}
    return LinearProbe(weights, ProbeCard(**_fields(probe.card) | {"figures": figures}))


def evidence(p: Sequence[Tensor], cases: Sequence[Case], share: float, source: str) -> list[float]:
    """Share of gold units kept, of questions with all of it, at a share of tokens; questions."""
    kept = total = whole = questions = 0
    for scores, case in zip(p, cases, strict=True):
        if case.source != source:
            continue
        chosen = _filled(scores, case.tokens, share)
        hits = sum(bool(g) for g in case.gold[chosen])
        kept, total = kept + hits, total + int(case.gold.sum())
        whole, questions = whole + (hits == int(case.gold.sum())), questions + 1
    return [round(kept / max(1, total), 4), round(whole / max(1, questions), 4), questions]


def _filled(scores: Tensor, tokens: Sequence[int], share: float) -> list[int]:
    room, chosen = int(share * sum(tokens) + 1e-9), []
    for unit in scores.argsort(descending=True, stable=True).tolist():
        if tokens[unit] <= room:
            room -= tokens[unit]
            chosen.append(unit)
    return chosen


def described(source: Source, questions: int | None) -> dict[str, Any]:
    """A training file for a probe's card: its name, its hash, and how many questions were used."""
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    return {"name": source.path.name.split(".")[0], "sha256": digest, "questions": questions}


def _used(source: Source, cases: Sequence[Case]) -> int:
    return sum(case.source == source.path.name.split(".")[0] for case in cases)


def _fields(card: ProbeCard) -> dict[str, Any]:
    return {name: getattr(card, name) for name in card.__dataclass_fields__}
