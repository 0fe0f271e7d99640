"""What no row could be served with, found before any row is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from tamis.compressors.features.coverage import (
    check_threshold,
    check_unanswerable,
    is_unanswerable,
    no_coverage,
)
from tamis.compressors.registry import build_method, method_class, method_info
from tamis.compressors.selection.granularity import check_granularity
from tamis.compressors.selection.select import select
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis.service.api.lazy_method import LazyMethod
from tamis.service.batch.job import Job


def check(job: Job) -> None:
    """Refuses a method that keeps nothing, and rules that would fail row by row.

    Whether a probe gives probabilities is known only once its model is loaded: that stays with the
    rows.

    Raises:
        BadInput: as the first row would.
    """
    if (kind := method_info(job.method).kind) != "compression":
        raise BadInput(
            f"{job.method} is a method of {kind} and keeps no sentences; "
            "choose one of compression: see `tamis methods`"
        )
    check_unanswerable(job.rules)
    late = LazyMethod(job.method, job.proxy, Path(job.root) if job.root else None, **job.options)
    check_granularity(job.rules.granularity, late, job.method)
    # nothing is selected of nothing, and nothing counted; but the rules are checked
    select((), (), (), (), job.budget, job.rules, cast(Any, None), ())
    _check_promises(job)


def _check_promises(job: Job) -> None:
    """Probabilities, where the method has none to give."""
    budget = job.budget
    if budget.coverage is not None and not method_class(job.method).promises_coverage:
        raise no_coverage(job.method)
    asked = budget.threshold is not None or job.rules.unanswerable != "best_effort"
    if asked and method_info(job.method).needs == "nothing":
        passages = (Passage("It is so. It was not."),)
        scores = build_method(job.method, **job.options).scores(
            "Is it?", passages, units_of(passages)
        )
        check_threshold(budget, scores, job.method)
        is_unanswerable(scores, job.rules, job.method)
