"""Adapters in servers that load an application once, try it, and fork their workers from it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.scripted import ScriptedReader
from tests.service.http.app_kit import served
from tests.service.integrations.adapter_kit import PIN

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
WORKERS = 4
FORKING = f"""
import asyncio, os, signal, sys
from langchain_core.documents import Document
from tamis.langchain import TamisCompressor

where = {{"base_url": sys.argv[1]}} if len(sys.argv) > 1 else {{"tokenizer": "estimate"}}
compressor = TamisCompressor(ratio=0.7, method="lexical", on_error="fail", **where)

def ask(name):
    texts = [f"Pin {{name}} is in barn {{name}}.", "Hay lies here, and more hay lies there."]
    documents, question = [Document(text) for text in texts], f"Where is pin {{name}}?"
    for found in (
        compressor.compress_documents(documents, question),
        asyncio.run(compressor.acompress_documents(documents, question)),
    ):
        assert [one.page_content for one in found] == texts[:1], (name, found)

ask("of the parent")
begin, go = os.pipe()
workers = []
for number in range({WORKERS}):
    if not (pid := os.fork()):
        signal.alarm(60)  # one that waits for ever is killed
        status = 1
        try:
            os.close(go)
            os.read(begin, 1)
            for round in range(20):
                ask(f"{{number}} of round {{round}}")
            status = 0
        except BaseException as error:
            sys.stderr.write(f"{{type(error).__name__}}: {{error}}\\n")
        os._exit(status)
    workers.append(pid)
os.close(go)  # all begin at once
sys.exit(sum(os.waitpid(pid, 0)[1] != 0 for pid in workers))
"""


def run_forking(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", FORKING, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, env=environment, check=False
    )


def test_workers_forked_after_a_call_have_threads_of_their_own():
    done = run_forking()
    assert done.returncode == 0, done.stderr


def test_workers_forked_after_a_call_have_connections_of_their_own():
    with served(ScriptedReader.from_needles(PIN)) as service:
        done = run_forking(service.url)
    assert done.returncode == 0, done.stderr
