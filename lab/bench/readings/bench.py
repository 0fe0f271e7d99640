"""The comparison of readings: questions read once, figures of every set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tamis.probes.probing.heads import Head, HeadProfile
from tamis_lab.bench.readings.cases import (
    HEADS,
    CaseReader,
    ReadingCase,
    heads_within,
    profile_heads,
)
from tamis_lab.bench.readings.figures import (
    CALIBRATED,
    RAW,
    Scores,
    all_scores,
    answerability,
    entering_rows,
    head_scores,
    set_figures,
)
from tamis_lab.datasets.record_files import (
    RecordFile,
    ReportProgress,
    answerable_records,
    describe_file,
    name_distinctly,
    unanswerable_records,
)

PROFILES = ("contrast", "qr", "copy", "needle", "probe")


def compare_readings(
    reader: Any,
    names: Sequence[str],
    files: Sequence[RecordFile],
    judged: RecordFile | None,
    shares: Sequence[float],
    *,
    layers: int,
    folder: Path,
    timed: int,
    seed: int,
    report: ReportProgress,
    profiles: Sequence[Path] = (),
) -> dict[str, Any]:
    """The table of readings as JSON: `sets`, `answerability`, `cost_ms`, `entering`, `data`.

    Args:
        names: readings with their options; raw attention is added where it is missing.
        judged: a file with questions that have no answer; as many with one are read beside them.
        timed: on how many questions of the first file each reading is timed alone.
        profiles: files of `tamis lab heads find`, judged beside those that ship.

    Raises:
        UnknownMethod: no such reading. BadInput: too few articles to fit and judge on.
    """
    rows = list(dict.fromkeys((RAW, CALIBRATED, *names)))
    cases = CaseReader(reader, rows, layers, folder)
    named = name_distinctly([*files, *([judged] if judged else [])])
    sets = {
        file.name: list(cases.read(file, answerable_records(file), report))
        for file in named[: len(files)]
    }
    probed = []
    if judged:
        records = [*answerable_records(named[-1]), *unanswerable_records(named[-1])]
        probed = list(cases.read(named[-1], records, report))
    every = list(chain.from_iterable(sets.values()))
    scores = all_scores(every, [*every, *probed], rows, report)
    if CALIBRATED in rows and cases.heads is not None:
        best = best_heads(reader, layers, profiles)
        scores |= head_scores([*every, *probed], best, reader.card.heads)
    figures, start = {}, 0
    for name, of in sets.items():
        figures[name] = set_figures(of, _part(scores, start, start + len(of)), shares, seed)
        start += len(of)
    return {
        "sets": figures,
        "answerability": answerability(probed, _part(scores, start, None)) if probed else {},
        "cost_ms": mean_costs(cases, every[:timed]),
        "entering": entering_rows(figures),
        "data": [describe_file(file, file.limit) for file in named],
    }


def best_heads(reader: Any, layers: int, profiles: Sequence[Path]) -> dict[str, Sequence[Head]]:
    """The best heads of every profile that ships for a proxy, and of those in files.

    Raises:
        BadModelFile: a file is no profile. ProbeMismatch: it is of another model.
    """
    found: dict[str, Sequence[Head] | None] = {
        by: profile_heads(reader.card.name, layers, by) for by in PROFILES
    }
    for path in profiles:
        profile = HeadProfile.load(path)
        profile.check(reader.card, reader.layout.template.name)
        found[profile.by] = heads_within(profile, layers)
    return {by: heads for by, heads in found.items() if heads is not None and len(heads) == HEADS}


def mean_costs(cases: CaseReader, timed: Sequence[ReadingCase]) -> dict[str, float]:
    """Processor milliseconds per 1,000 tokens of each reading alone, the mean over cases."""
    costs = [cases.cost_ms(case) for case in timed]
    names = costs[0] if costs else ()
    return {name: round(sum(one[name] for one in costs) / len(costs), 1) for name in names}


def _part(
    scores: Mapping[str, Mapping[str, Scores]], start: int, stop: int | None
) -> dict[str, dict[str, Scores]]:
    return {
        name: {column: found[start:stop] for column, found in columns.items()}
        for name, columns in scores.items()
    }
