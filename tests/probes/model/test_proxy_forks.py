"""A process that is forked reads with the parent's proxies, whatever the parent's threads do."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest

from tamis.probes.model import proxy as proxy_module
from tests.probes import tiny

FORKING = """
import os, signal, sys, threading
import torch
from tamis.probes.model import forward
from tests.probes import tiny
from tests.probes.model.proxy_kit import WANT, assert_same_signals, prompts

def multiply():  # with the threads of OpenMP
    wide = torch.ones(512, 512)
    return (wide @ wide).sum()

def hold(*_):
    if os.getpid() == parent and threading.current_thread() is reading:
        held.set()
        go_on.wait()

def hold_and_say(model, is_supported=forward.is_supported):
    hold()
    return is_supported(model)

parent, proxy = os.getpid(), tiny.proxy()
asked, product = prompts(proxy), multiply()
expected = list(proxy.read(asked, WANT))
held, go_on = threading.Event(), threading.Event()
if sys.argv[1] == "reads":
    proxy.model.layers[1].register_forward_pre_hook(hold)
else:
    proxy.forget_weights()
    forward.is_supported = hold_and_say
reading = threading.Thread(target=lambda: list(proxy.read(asked, WANT)))
if sys.argv[1] != "rests":
    reading.start()
    assert held.wait(60)
if not (pid := os.fork()):
    signal.alarm(60)  # one that waits for ever is killed
    status = 1
    try:
        assert_same_signals(list(proxy.read(asked, WANT)), expected)
        assert multiply() == product
        status = 0
    finally:
        os._exit(status)
status = os.waitpid(pid, 0)[1]
go_on.set()
sys.exit(status != 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
@pytest.mark.parametrize("thread", ["reads", "packs weights", "rests"])
def test_a_fork_reads_while_a_thread_of_the_parent(thread: str):
    done = subprocess.run(
        [sys.executable, "-c", FORKING, thread],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"OMP_NUM_THREADS": "2"},
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_known_of_a_proxy_for_forks_goes_with_it():
    gc.collect()
    before = len(proxy_module._locks)
    proxy = tiny.proxy()
    assert len(proxy_module._locks) > before
    del proxy
    gc.collect()
    assert len(proxy_module._locks) == before
