"""The first hour of a new user: what the README says, on a bare environment, with what it costs.

    make test-integrations      or      python -m tests.integrations.environments first-hour

`TORCH_INDEX` names an index of CPU builds of torch, as for `make`. Without it torch comes from
where pip is set up to look.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUESTION = "May allow_origins be a wildcard when allow_credentials is True?"
ANSWER = "allow_credentials"
MOST_MEGABYTES = 1_500
pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]


@dataclass
class FirstHour:
    """A bare environment, and what was done in it.

    Attributes:
        home: of its user. clone: the sources without what was built. seconds: of each command.
    """

    home: Path
    clone: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, *command: str | Path, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """A command of the environment, in no other's, timed."""
        path = f"{self.home / 'venv/bin'}:/usr/bin:/bin"
        kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "SSL_", "http"))}
        words = list(map(str, command))
        began = time.monotonic()
        done = subprocess.run(
            words,
            cwd=folder,
            capture_output=True,
            text=True,
            env=kept | {"PATH": path, "HOME": str(self.home)},
        )
        self.seconds[" ".join(words)] = time.monotonic() - began
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FirstHour]:
    home = tmp_path_factory.mktemp("first_hour")
    began = FirstHour(home, home / "clone")
    built = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "site", "tests")
    shutil.copytree(ROOT, began.clone, ignore=built)
    clock = time.monotonic()
    venv.create(home / "venv", with_pip=True)
    began.seconds["python3 -m venv"] = time.monotonic() - clock
    yield began
    for command, seconds in began.seconds.items():
        sys.stdout.write(f"{seconds:8.1f} s  {command}\n")


def install_lines() -> list[str]:
    """The commands of the README's first fence, without their comments."""
    [block] = re.findall(
        r"## Install.*?```bash no-run\n(.*?)```", (ROOT / "README.md").read_text(), re.S
    )
    return [line.split("#")[0].strip() for line in block.splitlines() if line.strip()]


def megabytes(folder: Path) -> float:
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(path.stat().st_size for path in files) / 1e6


def test_the_lines_of_the_readme_install_what_answers(hour: FirstHour, capsys) -> None:
    package, *then = install_lines()
    assert package == "pip install . ./agents"
    index = os.environ.get("TORCH_INDEX")
    hour.run("pip", "install", "torch", *(["--index-url", index] if index else []))
    sources = (hour.clone, hour.clone / "agents")
    hour.run("pip", "wheel", "--no-deps", "--wheel-dir", hour.home, *sources)
    hour.run("pip", "install", *hour.home.glob("tamis*.whl"))
    for line in then:
        done = hour.run(*line.split(), folder=hour.home)
    assert "ok" in done.stdout + done.stderr  # the verdict of `tamis doctor`, which comes last
    ask = ("-q", QUESTION, "--max-tokens", "300")
    first = hour.run("tamis", "compress", ROOT / "examples/fastapi-docs", *ask, folder=hour.home)
    assert ANSWER in first.stdout
    environment = megabytes(hour.home / "venv")
    model = megabytes(hour.home / ".cache/tamis")
    packages = len(list((hour.home / "venv").glob("lib/*/site-packages/*.dist-info")))
    answer_s = hour.seconds[list(hour.seconds)[-1]]
    with capsys.disabled():
        sys.stdout.write(
            f"\n{sum(hour.seconds.values()) / 60:.1f} minutes to the first answer; "
            f"{environment:,.0f} MB in {packages} packages, {model:,.0f} MB of model; "
            f"{answer_s:.1f} s for the first answer\n"
        )
    if index or not list((hour.home / "venv").glob("lib/*/site-packages/nvidia*")):
        assert environment < MOST_MEGABYTES


def test_a_clone_installs_and_imports_without_any_extra(hour: FirstHour) -> None:
    hour.run("pip", "install", "--no-deps", "--force-reinstall", hour.clone)
    code = (
        "import tamis; "
        "print(tamis.compress('Who?', ['Ada. Bob. Eve.'], max_tokens=3, method='lead').text)"
    )
    assert hour.run("python", "-c", code, folder=hour.home).stdout.strip() == "Ada."
