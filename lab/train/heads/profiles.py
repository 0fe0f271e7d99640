"""Profiles of heads: every head's score, found on labelled questions.

records ─ documents shuffled ─► prompt ─► reading [·, L, H] on disk ─► mean, bootstrap ─► profile
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.options import check_options_of
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import HeadProfile, HeadScoring
from tamis.probes.probing.linear import LinearProbe
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    describe_file,
    name_distinctly,
)
from tamis_lab.methods.head_scores import check_temperature, contrast_score, probe_weights
from tamis_lab.train.heads.bootstrap import stability
from tamis_lab.train.heads.cases import PROMPT_TOKENS
from tamis_lab.train.heads.finder import FINDERS
from tamis_lab.train.heads.head_readings import HeadReadings

TEMPERATURE = 0.01
SIZES = (4, 8, 16, 32)
"""Numbers of best heads that the stability is measured for."""


def head_scores(
    reading: Mapping[str, Tensor], by: HeadScoring, temperature: float
) -> Tensor | None:
    """One record's score of every head, `[L, H]`; None where it tells no heads apart."""
    if by != "contrast":
        return reading.get(by)
    gold = reading["gold"].tolist()
    if len(gold) == len(reading["masses"]):
        return None
    return contrast_score(reading["masses"], gold, temperature)


def read_head_scores(
    readings: HeadReadings,
    files: Sequence[RecordFile],
    by: HeadScoring,
    report: ReportProgress,
    temperature: float,
) -> Iterator[tuple[RecordFile, Tensor]]:
    """The scores of every record that gives any, file by file."""
    for file in files:
        records = answerable_records(file)
        for i, record in enumerate(records, 1):
            found = head_scores(readings.get_or_read(record, by), by, temperature)
            if found is not None:
                yield file, found
            report(file.name, i, len(records))


def find_heads(
    reader: Any,
    by: HeadScoring,
    files: Sequence[RecordFile],
    cache: Path,
    report: ReportProgress = lambda name, done, total: None,
    most_tokens: int = PROMPT_TOKENS,
    temperature: float = TEMPERATURE,
) -> HeadProfile:
    """Scores every head of a proxy on labelled questions.

    Args:
        reader: the proxy, loaded whole. most_tokens: of a prompt's documents; more distractors than
            fit are left out, gold ones never.
        temperature: of `contrast`.

    Raises:
        BadInput: a temperature of 0 or below, or no record serves: `copy` needs answers, `contrast`
            a document that is not gold.
    """
    if by == "contrast":
        check_temperature(temperature)
    files = name_distinctly(files)
    readings = HeadReadings(cache, reader, most_tokens)
    found = list(read_head_scores(readings, files, by, report, temperature))
    if not found:
        raise BadInput(
            f"no record of {', '.join(str(s.path) for s in files)} tells heads apart by {by}; "
            "copy needs answers inside gold sentences, contrast documents that are not gold within "
            f"the {most_tokens} tokens that a prompt holds (--prompt-tokens)"
        )
    cases = torch.stack([scores for _, scores in found])
    used = {id(file): sum(of is file for of, _ in found) for file in files}
    settings: dict[str, Any] = {"prompt_tokens": most_tokens}
    if by == "contrast":
        settings["temperature"] = temperature
    data = [describe_file(file, used[id(file)]) for file in files]
    return _profile_from_cases(reader, by, cases, data, settings)


def profile_from_probe(reader: Any, probe: LinearProbe) -> HeadProfile:
    """The heads that a fitted probe weighs most; nothing is read.

    Raises:
        ProbeMismatch: it was fitted for another model, revision or template.
    """
    probe.check(reader.card, reader.layout.template.name)
    scores = probe_weights(probe, reader.card.layers)
    settings = {"probe": probe.card.method, "layers_read": probe.card.layers}
    return HeadProfile(
        **_model_fields(reader),
        by="probe",
        scores=_round_rows(scores),
        data=tuple(probe.card.trained_on),
        settings=settings,
    )


def _profile_from_cases(
    reader: Any,
    by: HeadScoring,
    cases: Tensor,
    data: Sequence[dict[str, Any]],
    settings: dict[str, Any],
) -> HeadProfile:
    """The mean of cases `[C, L, H]`, and how stable its best heads are."""
    return HeadProfile(
        **_model_fields(reader),
        by=by,
        scores=_round_rows(cases.double().mean(0)),
        cases=len(cases),
        stability=stability(cases, SIZES),
        data=tuple(data),
        settings=settings,
    )


def _model_fields(reader: Any) -> dict[str, Any]:
    card = reader.card
    return {
        "model": card.name,
        "revision": card.revision,
        "template": reader.layout.template.name,
        "layers": card.layers,
        "heads": card.heads,
    }


def _round_rows(scores: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(value, 6) for value in row) for row in scores.tolist())


def find_heads_by_file(
    reader: Any,
    by: HeadScoring,
    files: Sequence[RecordFile],
    options: Mapping[str, Any],
    report: ReportProgress = lambda name, done, total: None,
) -> HeadProfile:
    """Scores every head of a proxy by a file of `finders/`.

    Args:
        reader: the proxy, loaded whole. options: the finder's own.

    Raises:
        UnknownMethod: no such finder. BadInput: an option that it does not have, or no records
            where it needs some.
    """
    kind = FINDERS.load(by)
    check_options_of(kind, by, options)
    if kind.info.reads_records and not files:
        raise BadInput(f"{by} reads labelled questions; give --data FILE")
    files = name_distinctly(files) if kind.info.reads_records else []
    records = [answerable_records(file) for file in files]
    cases = kind(reader, **options).find(
        [record for rows in records for record in rows],
        lambda done, total: report(by, done, total),
    )
    data = [describe_file(file, len(rows)) for file, rows in zip(files, records, strict=True)]
    return _profile_from_cases(reader, by, cases, data, dict(options))
