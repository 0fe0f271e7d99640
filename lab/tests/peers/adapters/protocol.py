"""The protocol of adapters: they read a line for each case, and write a line with the kept text.

    in   {"settings": {...}}                  out  {"ready": {"package": "version", ...}}
    in   {"case": {...}}                      out  {"text", "ms", "cpu_ms", "peak_mib"} or {"error"}

A case is `{"question", "other_question", "context", "docs", "budget_tokens"}`; a document is
`{"title", "text", "sentences"}`, a sentence `[start, stop, tokens]`: offsets into the text, and its
tokens by the proxy's tokenizer. The context is all documents, each under its title, joined by
blank lines. Cases are read from standard input, answers are written to the file descriptor that
`PEER_ANSWERS` names: standard output is left to what packages print.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path


def serve(load, *packages):
    """Answers cases until the input ends.

    Args:
        load: called with the settings; returns `keep`, which takes a case and returns the text it
            keeps. If `keep` has an attribute `before`, it is called with each case before timing.
        packages: whose versions are reported.
    """
    answers = os.fdopen(int(os.environ["PEER_ANSWERS"]), "w", encoding="utf8")
    keep = load(json.loads(sys.stdin.readline())["settings"])
    _send(answers, {"ready": {name: version(name) for name in packages}})
    for line in sys.stdin:
        try:
            _send(answers, _run_timed(keep, json.loads(line)["case"]))
        except Exception as error:  # whatever a peer raises is its result on this case
            _send(answers, {"error": f"{type(error).__name__}: {error}"})


def _run_timed(keep, case):
    if before := getattr(keep, "before", None):
        before(case)
    clock, cpu = time.perf_counter(), time.process_time()
    text = keep(case)
    ms, cpu_ms = (time.perf_counter() - clock) * 1e3, (time.process_time() - cpu) * 1e3
    return {"text": text, "ms": ms, "cpu_ms": cpu_ms, "peak_mib": _peak_mib()}


def _peak_mib():
    """Peak memory of the process; `ru_maxrss` would include that of its parent."""
    lines = Path("/proc/self/status").read_text("utf8").splitlines()
    (peak,) = (line for line in lines if line.startswith("VmHWM:"))
    return int(peak.split()[1]) / 1024


def _send(answers, message):
    answers.write(json.dumps(message) + "\n")
    answers.flush()
