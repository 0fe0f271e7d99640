"""The GPU script, rehearsed on the processor: it runs whole, and its two sides agree."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tamis_lab.bench.speed import gpu
from tests.probes.tiny import one_thread  # noqa: F401

RUN = [sys.executable, "-m", "tamis_lab.bench.speed.gpu"]


def test_both_sides_read_the_same_and_every_cell_is_there(monkeypatch):
    monkeypatch.setattr("tamis_lab.bench.speed.timing._MATRIX_SIZE", 64)
    words = "--device cpu --dtype fp32 --layers 2 --rounds 1 --tokens 200 --passage-tokens 60 100"
    found = gpu.measure_gpu(gpu.argument_parser().parse_args(words.split()))
    assert found["agree"] < 1e-5
    assert list(found["cells"]) == ["200/60", "200/100"]
    for cell in found["cells"].values():
        assert list(cell) == ["ours", "transformers", "warm"]
        assert all(side["ms_least"] <= side["ms_p50"] for side in cell.values())
        assert all(side["share_of_limit"] > 0 for side in cell.values())
    json.dumps(found)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_message_has_the_way_to_rehearse():
    done = subprocess.run(RUN, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert "--device cpu" in done.stderr
    assert "Traceback" not in done.stderr
