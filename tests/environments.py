"""Environments with pinned versions of their own, each made of one file of requirements."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Environments:
    """Files NAME.txt of one folder, and where the environments they describe stand."""

    files: Path
    homes: Path

    def names(self) -> list[str]:
        """The environments there are."""
        return sorted(path.stem for path in self.files.glob("*.txt"))

    def pins(self, name: str) -> dict[tuple[str, str], str]:
        """The version of each package that an environment pins, by its origin and its name.

        The origin is `pip`; `npm`, of comments `# npm: PACKAGE@VERSION ...`; or `alone`, of
        comments `# alone: PACKAGE==VERSION ...`: by pip, without what the package requires.
        """
        lines = (self.files / f"{name}.txt").read_text("utf-8").splitlines()
        found = {}
        for line in lines:
            if line.startswith("# alone:"):
                pairs = (one.partition("==") for one in line.removeprefix("# alone:").split())
                found |= {("alone", package): version for package, _, version in pairs}
            elif line.startswith("# npm:"):
                pairs = (one.rpartition("@") for one in line.removeprefix("# npm:").split())
                found |= {("npm", package): version for package, _, version in pairs}
            elif "==" in line and not line.startswith("#"):
                package, _, version = line.partition("==")
                found["pip", package.partition("[")[0]] = version
        return found

    def made(self, name: str) -> Path:
        """The Python of an environment, which is made if it is not there as it should be."""
        home, wanted = self.homes / name, self.files / f"{name}.txt"
        python, stamp = home / "bin/python", home / "made-of"
        state = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
        if stamp.exists() and stamp.read_text("utf-8") == state:
            return python
        shutil.rmtree(home, ignore_errors=True)
        venv.create(home, with_pip=True)
        _lean_on_this(python)
        command = [python, "-m", "pip", "install", "--quiet", "--requirement", str(wanted)]
        subprocess.run(command, cwd=ROOT, check=True)
        if alone := [f"{p}=={v}" for (of, p), v in self.pins(name).items() if of == "alone"]:
            subprocess.run([*command[:-2], "--no-deps", *alone], cwd=ROOT, check=True)
        if packages := [f"{p}@{v}" for (of, p), v in self.pins(name).items() if of == "npm"]:
            quiet = ("--silent", "--no-audit", "--no-fund")
            subprocess.run(["npm", "install", *quiet, *packages], cwd=home, check=True)
        stamp.write_text(state, "utf-8")
        return python

    def each(self, wanted: Sequence[str], work: Callable[[str], object]) -> int:
        """Does the work for the environments wanted, or all; the number of those where it failed.

        Exits with a sentence where there is none of a name.
        """
        if unknown := sorted(set(wanted) - set(self.names())):
            sys.exit(f"there is no environment {unknown}; there are: {', '.join(self.names())}")
        failed = 0
        for name in wanted or self.names():
            sys.stdout.write(f"== {name}: {(self.files / f'{name}.txt').relative_to(ROOT)}\n")
            sys.stdout.flush()
            try:
                work(name)
            except subprocess.CalledProcessError as error:
                sys.stdout.write(f"{name}: {error}\n")
                failed += 1
        return failed


def _lean_on_this(python: Path) -> None:
    """Packages of the environment this script runs in are found behind the new one's own."""
    ours = sysconfig.get_path("purelib")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    lean = f"import site; site.addsitedir({ours!r})\n"
    (Path(done.stdout.strip()) / "lean.pth").write_text(lean, "utf-8")
