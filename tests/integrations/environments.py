"""Tests of tamis inside other projects, each in an environment of its own with pinned versions.

    python tests/integrations/environments.py            # all of them: `make test-integrations`
    python tests/integrations/environments.py NAME ...   # some

An environment is a file NAME.txt here: requirements for pip, and one comment `# tests: FILE ...`
that names what runs in it. It stands in .venv/integrations/NAME and is made anew when its file has
changed. What it does not pin (torch, pytest, tamis itself) comes from the environment that this
script runs in.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
HOMES = ROOT / ".venv/integrations"


def names() -> list[str]:
    """The environments there are."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


def tests(name: str) -> list[str]:
    """The files that run in an environment."""
    lines = (HERE / f"{name}.txt").read_text("utf-8").splitlines()
    (said,) = (line for line in lines if line.startswith("# tests:"))
    return said.removeprefix("# tests:").split()


def made(name: str) -> Path:
    """The Python of an environment; the environment is made if it is not there as it should be."""
    home, wanted = HOMES / name, HERE / f"{name}.txt"
    python, stamp = home / "bin/python", home / "made-of"
    state = hashlib.sha256(wanted.read_bytes() + sys.version.encode()).hexdigest()
    if stamp.exists() and stamp.read_text("utf-8") == state:
        return python
    shutil.rmtree(home, ignore_errors=True)
    venv.create(home, with_pip=True)
    _lean_on_this(python)
    _run(python, "-m", "pip", "install", "--quiet", "--requirement", str(wanted))
    stamp.write_text(state, "utf-8")
    return python


def _lean_on_this(python: Path) -> None:
    """Packages of the environment this script runs in are found behind the new one's own."""
    ours = sysconfig.get_path("purelib")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    lean = f"import site; site.addsitedir({ours!r})\n"
    (Path(done.stdout.strip()) / "lean.pth").write_text(lean, "utf-8")


def _run(python: Path, *words: str, **variables: str) -> None:
    subprocess.run([python, *words], cwd=ROOT, check=True, env=os.environ | variables)


def main(wanted: list[str]) -> int:
    """Runs the tests of each environment; the number of those in which some failed."""
    if unknown := sorted(set(wanted) - set(names())):
        sys.exit(f"there is no environment {unknown}; there are: {', '.join(names())}")
    failed = 0
    for name in wanted or names():
        sys.stdout.write(f"== {name}: {(HERE / f'{name}.txt').relative_to(ROOT)}\n")
        sys.stdout.flush()
        try:
            _run(made(name), "-m", "pytest", "-q", *tests(name), TAMIS_INTEGRATION=name)
        except subprocess.CalledProcessError as error:
            sys.stdout.write(f"{name}: {error}\n")
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
