"""Worker processes: each has a card of its own, as far as there are enough."""

from __future__ import annotations

from multiprocessing import get_context

import pytest
import torch

from tamis.service.batch.execution import processes
from tests.pretend_device import PretendDevice


@pytest.mark.parametrize(("count", "cards"), [(1, [0, 0, 0]), (2, [0, 1, 0]), (8, [0, 1, 2])])
def test_workers_take_the_cards_in_turn(count, cards, monkeypatch):
    """Torch puts a model that is loaded to `cuda` on the process's current card."""
    monkeypatch.setattr(processes, "PartWorker", lambda *_, **__: None)
    monkeypatch.setattr(processes.BatchJob, "from_dict", lambda job: None)
    monkeypatch.setattr(processes, "_exit_with_parent", lambda: None)
    monkeypatch.setattr(processes, "_set_threads", lambda cores: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    started, taken = get_context("spawn").Value("i", 0), []
    for _ in cards:
        with PretendDevice("cuda", count=count):
            processes._start_worker(started, {"method": "icr"}, None, "", False, False, 1)
            taken.append(torch.ones(1, device="cuda").device.index)
    assert taken == cards
