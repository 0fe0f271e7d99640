"""The environments that peers run in, each with pinned versions of its own.

    python tests/peers/environments.py            # all of them: `make peers` runs this first
    python tests/peers/environments.py NAME ...   # some

An environment is a file NAME.txt here, requirements for pip. It stands in .venv/peers/NAME and is
made anew when its file has changed. What it does not pin, torch above all, comes from the
environment that this script runs in, so that every peer multiplies with the same library.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).parent
HOMES = HERE.parents[1] / ".venv/peers"


def names() -> list[str]:
    """The environments there are."""
    return sorted(path.stem for path in HERE.glob("*.txt"))


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
    command = [python, "-m", "pip", "install", "--quiet", "--requirement", str(wanted)]
    subprocess.run(command, check=True)
    stamp.write_text(state, "utf-8")
    return python


def _lean_on_this(python: Path) -> None:
    """Packages of the environment this script runs in are found behind the new one's own."""
    ours = sysconfig.get_path("purelib")
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    done = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)
    lean = f"import site; site.addsitedir({ours!r})\n"
    (Path(done.stdout.strip()) / "lean.pth").write_text(lean, "utf-8")


def main(wanted: list[str]) -> int:
    """Makes the environments; the number of those that could not be made."""
    if unknown := sorted(set(wanted) - set(names())):
        sys.exit(f"there is no environment {unknown}; there are: {', '.join(names())}")
    failed = 0
    for name in wanted or names():
        sys.stdout.write(f"== {name}: {HOMES / name}\n")
        sys.stdout.flush()
        try:
            made(name)
        except subprocess.CalledProcessError as error:
            sys.stdout.write(f"{name}: {error}\n")
            failed += 1
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
