"""What products leave behind in a process that runs for long."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tamis.probes.attention.linear_kernels import can_fuse

LENGTHS = """
import random, torch
from tamis.probes.attention.linear_kernels import Product, pack_weight

def resident_mb():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1e3

torch.set_num_threads(1)
product = Product(pack_weight(torch.randn(192, 192).bfloat16()), None)
states, chance = torch.randn(1000, 192).bfloat16(), random.Random(0)
lengths = chance.sample(range(1, 1000), 900)
with torch.inference_mode():
    for length in lengths[:300]:
        product(states[:length])
    before = resident_mb()
    for length in lengths[300:]:
        product(states[:length])
print(resident_mb() - before)
"""


@pytest.mark.skipif(
    not can_fuse(torch.empty(1, dtype=torch.bfloat16)),
    reason="this processor does not multiply bf16 in blocks",
)
def test_batches_of_ever_new_lengths_do_not_fill_the_memory():
    """Six hundred more lengths; kept, their primitives would take some 300 MB."""
    done = subprocess.run(
        [sys.executable, "-c", LENGTHS],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
        env={name: value for name, value in os.environ.items() if "CACHE_CAPACITY" not in name},
    )
    assert float(done.stdout) < 80
