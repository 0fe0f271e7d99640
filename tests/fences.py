"""The fenced blocks of a page, by their tags, and the curl commands in them, which are run."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from typing import Any

import httpx
import pytest

from tamis.service.cli.main import run

BLOCK = re.compile(r"^```(?P<tag>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN_AT = "localhost:8080"


def tags(text: str) -> set[str]:
    """All tags of a page; a block without one has the empty tag."""
    return {found["tag"] for found in BLOCK.finditer(text)}


def blocks(text: str, tag: str) -> list[str]:
    """The bodies of the blocks with a tag."""
    return [found["body"] for found in BLOCK.finditer(text) if found["tag"] == tag]


def run_request(command: str, service: str) -> Any:
    """A service's answer to a curl command of a page; without curl, its arguments are read here."""
    assert SHOWN_AT in command
    local = command.replace(SHOWN_AT, service.removeprefix("http://"))
    if shutil.which("curl"):
        done = subprocess.run(["bash", "-c", local], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)
    program, silent, url, header_flag, header, data_flag, data = shlex.split(local)
    assert (program, silent, header_flag, data_flag) == ("curl", "-s", "-H", "-d")
    name, _, value = header.partition(": ")
    return httpx.post(f"http://{url}", content=data, headers={name: value}, timeout=600).json()


def run_commands(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> str:
    """What the commands of tamis in a line of a page print, run one by one in this process.

    A process of its own for each would load torch anew. Each has to end with exit code 0, and the
    last has to print something.
    """
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `run` sets another
    for command in line.split("&&"):
        program, *words = shlex.split(command)
        assert program == "tamis"
        monkeypatch.setattr(sys, "argv", [program, *words])
        with pytest.raises(SystemExit) as end:
            run()
        printed = capsys.readouterr()
        assert not end.value.code, (command, printed)
    assert printed.out, line
    return printed.out + printed.err
