"""The GPU script, rehearsed on the processor and on a card that is pretended: it runs whole."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch

from tamis.compressors.features.shipped_probes import shipped_probe
from tamis.compressors.registry import DEFAULT
from tamis_lab.bench import gpu
from tests.pretend_device import PretendDevice
from tests.probes.tiny import one_thread  # noqa: F401

RUN = [sys.executable, "-m", "tamis_lab.bench.gpu"]
REHEARSAL = "--dtype fp32 --shape tiny --tokens 200 --requests 1 3 --rounds 1"


def options_of(words: str) -> object:
    return gpu.argument_parser().parse_args(words.split())


def check_cells(report: dict) -> None:
    assert list(report["cells"]) == ["200/1", "200/3"]
    for cell in report["cells"].values():
        assert list(cell) == ["cold", "kept"]
        for way in cell.values():
            assert 0 < way["request_ms_p50"] <= way["request_ms_max"]
            assert way["read_ms_p50"] > 0
            assert way["tokens_per_s"] > way["requests_per_s"] > 0
    json.dumps(report)


def test_whole_requests_are_timed_on_the_processor():
    report = gpu.measure_gpu(options_of(f"--device cpu {REHEARSAL}"))
    assert (report["device"], report["weights"], report["agree"]) == ("cpu", "random", 0)
    check_cells(report)


def test_the_same_runs_on_a_card_and_agrees_with_the_processor():
    with PretendDevice("cuda"):
        report = gpu.measure_gpu(options_of(f"--device cuda {REHEARSAL}"))
    assert 0 < report["agree"] < 1e-5
    check_cells(report)


@pytest.mark.parametrize("shape", [name for name in gpu.SHAPES if name != "tiny"])
def test_random_weights_have_the_shape_that_the_probe_was_fitted_for(shape):
    card = shipped_probe(DEFAULT, shape).card
    sizes = gpu.SHAPES[shape]
    assert sizes["num_attention_heads"] == card.heads
    assert sizes["num_hidden_layers"] >= card.layers
    proxy = gpu.random_proxy(shape, torch.device("cpu"), torch.float32)
    assert (proxy.depth, proxy.card.revision) == (card.layers, card.revision)


def test_kept_passages_do_not_run_again():
    proxy, _ = gpu.load_proxy("tiny", torch.device("cpu"), torch.float32, True)
    text = gpu.WorkloadText(*gpu.example_text(), proxy.layout, 60)
    load = gpu._Load(text, proxy, 200, 2, gpu.PassageCache(1 << 30))
    try:
        load.run_round()
        before = load.cache.stats()
        load.run_round()
        after = load.cache.stats()
    finally:
        load.close()
    assert before.misses == after.misses > 0
    assert after.hits == before.hits + 2 * len(load.windows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_the_message_has_the_way_to_rehearse():
    done = subprocess.run(RUN, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no GPU" in done.stderr
    assert "no time was measured" in done.stderr
    assert "--device cpu" in done.stderr
    assert "Traceback" not in done.stderr
