"""Labelled questions to profiles of heads: what is read, kept on disk, and made of it.

records ─ documents shuffled ─► prompt ─► reading [·, L, H] on disk ─► mean, bootstrap ─► profile

Readings depend on the proxy and the record alone, so a second way to find heads may cost nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tamis.probes.errors import BadInput
from tamis.probes.probing.bootstrap import stability
from tamis.probes.probing.head_scores import check_temperature, contrast, probe_weights
from tamis.probes.probing.heads import By, HeadProfile
from tamis.probes.probing.linear import LinearProbe
from tamis.service.datasets.case_readings import part_of
from tamis.service.datasets.records import Record, id_of
from tamis.service.training.heads.cases import (
    PROMPT_TOKENS,
    Case,
    case_of,
    seen_by_question,
    seen_when_answered,
    seen_when_calibrated,
)
from tamis.service.training.heads.needle import needle_case, seen_by_needle
from tamis.service.training.probe import Source, described, distinct, records_of

Report = Callable[[str, int, int], None]
TEMPERATURE = 0.01
SIZES = (4, 8, 16, 32)
Build = Callable[[Record, Any, int], Case]
See = Callable[[Case, Any], dict[str, Tensor]]
READINGS: dict[str, tuple[Build, See]] = {
    "needle": (needle_case, seen_by_needle),
    "contrast": (case_of, seen_by_question),
    "qr": (case_of, seen_when_calibrated),
    "copy": (case_of, seen_when_answered),
}
"""How a record becomes a prompt, and what is seen of it; `probe` reads nothing."""
_READING = 2
"""Counts the changes of what is read: stored readings of an earlier one are not used."""


class Sights:
    """A folder of readings, one small safetensors file a case and kind of reading."""

    def __init__(self, folder: Path, reader: Any, most_tokens: int) -> None:
        self.reader, self.most_tokens = reader, most_tokens
        card, template = reader.card, reader.layout.template.name
        dtype = getattr(getattr(reader, "proxy", reader), "dtype", "fp32")
        key = f"{card} {template} {dtype} {most_tokens} {_READING}"
        self.folder = part_of(folder, key)

    def get(self, record: Record, by: By) -> dict[str, Tensor]:
        """The stored reading of a record, or a new one, stored; empty where nothing can be read."""
        build, see = READINGS[by]
        # the id draws what stands where, the spans say which answer is looked for
        drawn = [id_of(record), record["question"], record["docs"], record.get("answer_spans")]
        named = json.dumps([see.__name__, *drawn], sort_keys=True)
        path = self.folder / f"{hashlib.sha256(named.encode()).hexdigest()[:24]}.safetensors"
        if not path.is_file():
            case = build(record, self.reader, self.most_tokens)
            part = path.with_name(f"{path.name}.{os.getpid()}.part")
            save_file({k: v.contiguous() for k, v in see(case, self.reader).items()}, part)
            os.replace(part, path)
        return load_file(path)


def scores_of(sight: dict[str, Tensor], by: By, temperature: float) -> Tensor | None:
    """One case's score of every head, `[L, H]`; None where the case says nothing."""
    if by != "contrast":
        return sight.get(by)
    gold = sight["gold"].tolist()
    if len(gold) == len(sight["masses"]):
        return None
    return contrast(sight["masses"], gold, temperature)


def every_case(
    sights: Sights, sources: Sequence[Source], by: By, report: Report, temperature: float
) -> Iterator[tuple[Source, Tensor]]:
    """The scores of every case that has any, file by file."""
    for source in sources:
        records = records_of(source)
        for i, record in enumerate(records, 1):
            found = scores_of(sights.get(record, by), by, temperature)
            if found is not None:
                yield source, found
            report(source.name, i, len(records))


def find(
    reader: Any,
    by: By,
    sources: Sequence[Source],
    cache: Path,
    report: Report = lambda name, done, total: None,
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
    sources = distinct(sources)
    sights = Sights(cache, reader, most_tokens)
    found = list(every_case(sights, sources, by, report, temperature))
    if not found:
        raise BadInput(
            f"no record of {', '.join(str(s.path) for s in sources)} tells heads apart by {by}; "
            "copy needs answers inside gold sentences, contrast documents that are not gold within "
            f"the {most_tokens} tokens that a prompt holds (--prompt-tokens)"
        )
    cases = torch.stack([scores for _, scores in found])
    used = {id(source): sum(of is source for of, _ in found) for source in sources}
    settings: dict[str, Any] = {"prompt_tokens": most_tokens}
    return HeadProfile(
        **_whose(reader),
        by=by,
        scores=_rows(cases.double().mean(0)),
        cases=len(found),
        stability=stability(cases, SIZES),
        data=tuple(described(source, used[id(source)]) for source in sources),
        settings=settings | ({"temperature": temperature} if by == "contrast" else {}),
    )


def from_probe(reader: Any, probe: LinearProbe) -> HeadProfile:
    """The heads that a fitted probe weighs most; nothing is read.

    Raises:
        ProbeMismatch: it was fitted for another model, revision or template.
    """
    probe.check(reader.card, reader.layout.template.name)
    scores = probe_weights(probe, reader.card.layers)
    settings = {"probe": probe.card.method, "layers_read": probe.card.layers}
    return HeadProfile(
        **_whose(reader),
        by="probe",
        scores=_rows(scores),
        data=tuple(probe.card.trained_on),
        settings=settings,
    )


def _whose(reader: Any) -> dict[str, Any]:
    card = reader.card
    return {
        "model": card.name,
        "revision": card.revision,
        "template": reader.layout.template.name,
        "layers": card.layers,
        "heads": card.heads,
    }


def _rows(scores: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(value, 6) for value in row) for row in scores.tolist())
