"""docs/life_of_a_request.md against a request that is followed through the code."""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tamis.compressors.registry import layers_needed, load_proxy
from tests.import_graph import FOLDERS
from tests.service.http.app_kit import NEEDLE, QUESTION, Running, served, wait_until

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/life_of_a_request.md"
ELSEWHERE = {
    *("probes/model/hf_backend.py", "probes/model/encoder.py"),
    *("compressors/features/second_step.py", "probes/probing/gated.py"),
}
"""Named for another way: models that run in transformers, machines with a sentence encoder, and
probes that judge a sentence by what surrounds it; this one's has a second step of links alone."""
DOCUMENTS = [
    f"The wall is blue. {NEEDLE} Rooms are painted in spring.",
    "Cheese ripens for a year. Caves are cool.",
    "The market is held on Tuesdays. Bread is cheap.",
    "Ships came in spring. The port closed.",
]
SUPERVISOR, IDLE = "tamis-supervisor", "service/http/runtime/memory.py"
"""A thread and a task that wake by the clock whether there are requests or not."""
MOST_FILES = 60
MOST_FRAMES = 10
"""Files of ours that run, the passage cache included, and frames of ours at the queue. Ten of the
files cut the question into sentences; those of the documents were cut by the request before."""


class Trace:
    """Files of ours in the order in which they first ran, in all threads; frames at the queue."""

    def __init__(self) -> None:
        self.files: list[str] = []
        self.frames_at_queue = 0
        self.running = False

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self.running or (file := own_file(frame)) is None:
            return
        if threading.current_thread().name == SUPERVISOR or file == IDLE:
            return
        if file not in self.files:
            self.files.append(file)
        if file == "service/engine/queue.py" and frame.f_code.co_name == "put":
            self.frames_at_queue = max(self.frames_at_queue, own_frames(frame))

    def begin(self) -> None:
        """Begins once nothing of ours has run for a while: the request before has threads left."""
        self.running = True
        wait_until(lambda: not self._ran_within(0.2))
        self.frames_at_queue = 0

    def _ran_within(self, seconds: float) -> bool:
        self.files.clear()
        time.sleep(seconds)
        return bool(self.files)


def own_file(frame: FrameType) -> str | None:
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(ROOT):
        return None
    file = path.relative_to(ROOT).as_posix()
    return file if file.split("/")[0] in FOLDERS else None


def own_frames(frame: FrameType | None) -> int:
    count = 0
    while frame is not None:
        count += own_file(frame) is not None
        frame = frame.f_back
    return count


@contextmanager
def traced() -> Iterator[Trace]:
    trace = Trace()
    threading.setprofile(trace)
    sys.setprofile(trace)
    try:
        yield trace
    finally:
        threading.setprofile(None)
        sys.setprofile(None)


def compress(service: Running, question: str, max_tokens: int = 12) -> str:
    body = {"question": question, "documents": DOCUMENTS, "max_tokens": max_tokens}
    answer = service.post("/v1/compress", **body)
    assert answer.status_code == 200, answer.text
    return answer.json()["text"]


@pytest.fixture(scope="module")
def trace(proxy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """Of a request to a service on whose machine no sentence encoder is installed."""
    proxy = load_proxy(proxy_folder, layers_needed("question_rows"))
    with traced() as trace, served(proxy, home=tmp_path_factory.mktemp("home")) as service:
        compress(service, "What is painted?")  # builds what is built once
        trace.begin()
        assert compress(service, QUESTION) == NEEDLE
        trace.running = False
    return trace


@pytest.mark.model
def test_a_request_runs_through_the_files_of_the_page_in_their_order(trace: Trace):
    files = "|".join(FOLDERS)
    named = re.findall(rf"`((?:{files})/[\w/]+\.py)`", PAGE.read_text("utf-8"))
    named = [file for file in dict.fromkeys(named) if file not in ELSEWHERE]
    assert len(named) > 20
    assert [file for file in named if file not in trace.files] == []
    assert sorted(named, key=trace.files.index) == named


@pytest.mark.model
def test_it_runs_through_no_more_files_and_frames_than_it_did(trace: Trace):
    assert len(trace.files) <= MOST_FILES, trace.files
    assert 0 < trace.frames_at_queue <= MOST_FRAMES


def test_a_context_that_fits_is_served_while_the_queue_is_full():
    """It is not queued, so there is nothing to refuse; one that needs the model gets 429."""
    from tests.service.http.app_kit import pointing

    gate = threading.Event()
    reader = pointing()
    read = reader.read

    def slow(prompts: Any, want: Any) -> Any:
        gate.wait(30)
        return read(prompts, want)

    reader.read = slow
    with served(reader, max_requests=1, warmup=False) as service:
        first = threading.Thread(target=compress, args=(service, QUESTION, 60))
        first.start()
        try:
            wait_until(lambda: service.service_state.engine.queue_load().requests == 1)
            fits = service.post(
                "/v1/compress", question=QUESTION, documents=DOCUMENTS, max_tokens=10_000
            )
            refused = service.post(
                "/v1/compress", question=QUESTION, documents=DOCUMENTS, max_tokens=60
            )
        finally:
            gate.set()
            first.join(30)
    assert (fits.status_code, fits.json()["status"]) == (200, "passthrough")
    assert fits.json()["text"] == "\n\n".join(DOCUMENTS)
    assert refused.status_code == 429
    assert int(refused.headers["Retry-After"]) >= 1
