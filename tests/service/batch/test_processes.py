"""Worker processes: each has a card of its own, as far as there are enough."""

from __future__ import annotations

from multiprocessing import get_context

import pytest
import torch

from tamis.compressors.rules import Budget
from tamis.service.batch import workers
from tamis.service.batch.job import BatchJob, RunOptions
from tests.pretend_device import PretendDevice


@pytest.mark.parametrize(("count", "cards"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (8, [0, 1, 2])])
def test_workers_take_the_cards_in_turn(count, cards, monkeypatch):
    """Torch puts a model that is loaded to `cuda` on the process's current card."""
    monkeypatch.setattr(workers, "PartWorker", lambda *_, **__: None)
    monkeypatch.setattr(workers, "_exit_with_parent", lambda: None)
    monkeypatch.setattr(torch, "set_num_threads", lambda cores: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    job = BatchJob(Budget(max_tokens=1), method="icr")
    started, taken = get_context("spawn").Value("i", 0), []
    for _ in cards:
        with PretendDevice("cuda", count=count):
            workers._start_worker(started, job, None, RunOptions((), ""), False)
            taken.append(torch.ones(1, device="cuda").device.index)
    assert taken == cards
