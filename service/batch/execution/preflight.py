"""Checks of a job that would fail for every row, made before any row is read."""

from __future__ import annotations

from pathlib import Path

from tamis.compressors.method import check_scores
from tamis.compressors.pipeline.compression import (
    check_granularity,
    check_threshold,
    is_unanswerable,
    no_coverage_error,
)
from tamis.compressors.registry import build_method, method_class, method_info
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis.service.api.lazy_method import LazyMethod
from tamis.service.batch.job import BatchJob


def check_job(job: BatchJob) -> None:
    """Refuses a method that does not compress, and rules that would fail for every row.

    Whether a probe gives probabilities is known only once its model is loaded: the rows check that.

    Raises:
        BadInput: the error that the first row would have.
    """
    check_scores(method_info(job.method), job.method)
    method = LazyMethod(job.method, job.proxy, Path(job.root) if job.root else None, **job.options)
    check_granularity(job.rules.granularity, method, job.method)
    _check_probabilities(job)


def _check_probabilities(job: BatchJob) -> None:
    """Refuses a threshold or coverage of a method that gives no probabilities."""
    budget = job.budget
    if budget.coverage is not None and not method_class(job.method).promises_coverage:
        raise no_coverage_error(job.method)
    needs_probabilities = budget.threshold is not None or job.rules.unanswerable != "best_effort"
    if needs_probabilities and method_info(job.method).needs == "nothing":
        passages = (Passage("It is so. It was not."),)
        scores = build_method(job.method, **job.options).scores(
            "Is it?", passages, units_of(passages)
        )
        check_threshold(budget, scores, job.method)
        is_unanswerable(scores, job.rules, job.method)
