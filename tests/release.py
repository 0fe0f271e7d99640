"""Opens what `make dist` built, installs it where there is nothing, asks it: `make release-check`.

    python -m tests.release dist
    python -m tests.release dist --python python3.11 --python python3.13

Looked at: every file of the four folders is in the wheel and nothing else; the source distribution
builds the same wheel; in an empty environment of each Python the wheel installs, its dependencies
agree, and `tamis compress` answers. What is installed with it is listed with its licence in
dist/LICENCES.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("probes", "text", "compressors", "retrieval", "service")
FRONT = "service/front/"
NEEDLE = "Keys are rotated every 90 days."
LEFT_OUT = {"__pycache__"}
# asked in the environment itself: what is there, under which licence
LICENCES = """
import json
from importlib.metadata import distributions
def licence(meta):
    kinds = [c.split("::") for c in meta.get_all("Classifier", [])]
    named = [parts[-1].strip() for parts in kinds if parts[0].strip() == "License"]
    first = (meta.get("License") or "").strip().split("\\n")[0][:60]
    return meta.get("License-Expression") or "; ".join(named) or first or "not named"
found = {d.metadata["Name"]: (d.version, licence(d.metadata)) for d in distributions()}
print(json.dumps(dict(sorted(found.items(), key=lambda one: one[0].lower()))))
"""
NOT_ALLOWED = ("AGPL", "GPL-2", "GPL-3", "GNU General Public", "GPLv2", "GPLv3", "Non-Commercial")


class Broken(Exception):
    """What keeps this from being released."""


def wanted() -> set[str]:
    """The files of the four folders, under the names they install as."""
    files = [f for folder in FOLDERS for f in (ROOT / folder).rglob("*") if f.is_file()]
    names = [f.relative_to(ROOT).as_posix() for f in files if not LEFT_OUT & set(f.parts)]
    return {f"tamis/{name.removeprefix(FRONT)}" for name in names}


def check_wheel(wheel: Path) -> set[str]:
    """The members of a wheel.

    Raises:
        Broken: a file of the folders is missing, or something else is in it.
    """
    with zipfile.ZipFile(wheel) as archive:
        members = {name for name in archive.namelist() if not name.endswith("/")}
    ours = {name for name in members if ".dist-info/" not in name}
    if missing := wanted() - ours:
        raise Broken(f"{wheel.name} lacks {sorted(missing)}: see package-data in pyproject.toml")
    if odd := ours - wanted():
        raise Broken(f"{wheel.name} holds {sorted(odd)}, which no folder has")
    if not [name for name in members if name.endswith("licenses/LICENSE")]:
        raise Broken(f"{wheel.name} lacks the licence")
    return members


def check_source(source: Path, members: set[str], work: Path) -> None:
    """Builds the wheel anew out of the source distribution alone.

    Raises:
        Broken: it is another one.
    """
    with tarfile.open(source) as archive:
        archive.extractall(work, filter="data")
    (tree,) = work.iterdir()
    words = ["-m", "build", "--wheel", "--no-isolation", "--outdir", str(work / "again"), str(tree)]
    said([sys.executable, *words])
    (again,) = (work / "again").glob("*.whl")
    with zipfile.ZipFile(again) as archive:
        found = {name for name in archive.namelist() if not name.endswith("/")}
    if found != members:
        raise Broken(f"the wheel of {source.name} differs in {sorted(found ^ members)[:10]}")


def check_installed(wheel: Path, python: str, home: Path) -> dict[str, list[str]]:
    """Installs the wheel alone with one Python and asks it; what else is installed, with licences.

    Raises:
        Broken: it does not answer. CalledProcessError: it does not install.
    """
    said([python, "-m", "venv", str(home)])
    bare = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    binary = home / "bin"
    said([str(binary / "pip"), "install", "-q", str(wheel)], env=bare)
    said([str(binary / "pip"), "check"], env=bare)
    said([str(binary / "tamis"), "models", "pull", "smollm2-135m"], env=bare)
    asked = ["compress", "-q", "How are keys rotated?", "--max-tokens", "10"]
    text = f"{NEEDLE} Rooms are painted in spring."
    answer = said([str(binary / "tamis"), *asked], env=bare, cwd=home, text=text)
    if answer.strip() != NEEDLE:
        raise Broken(f"{python}: `tamis {' '.join(asked)}` printed {answer!r}")
    found: dict[str, list[str]] = json.loads(said([str(binary / "python"), "-c", LICENCES]))
    return found


def check_licences(found: dict[str, list[str]]) -> str:
    """The table of what is installed with tamis.

    Raises:
        Broken: a licence that would bind who uses it, or none.
    """
    refused = (*NOT_ALLOWED, "not named")
    bad = {name: how for name, (_, how) in found.items() if any(word in how for word in refused)}
    rows = [f"| {name} | {version} | {licence} |" for name, (version, licence) in found.items()]
    if bad:
        raise Broken(f"look at these licences before anything is released: {bad}")
    return "\n".join(["| package | version | licence |", "|---|---|---|", *rows, ""])


def said(words: Sequence[str], text: str | None = None, **how: object) -> str:
    """What a command printed; raises CalledProcessError if it fails."""
    done = subprocess.run(words, input=text, stdout=subprocess.PIPE, text=True, check=True, **how)
    return done.stdout


def tell(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)  # noqa: T201


def pythons() -> list[str]:
    """The Pythons of this machine that tamis is for."""
    names = [f"python3.{minor}" for minor in range(11, 14)]
    return [name for name in names if shutil.which(name)] or [sys.executable]


def main() -> int:
    """The command line."""
    words = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    words.add_argument("folder", type=Path, help="where `make dist` has put them")
    words.add_argument("--python", action="append", help="by default each of 3.11 to 3.13 here")
    given = words.parse_args()
    try:
        (wheel,) = given.folder.glob("tamis-*.whl")
        (source,) = given.folder.glob("tamis-*.tar.gz")
        members = check_wheel(wheel)
        tell(f"ok   {wheel.name}: {len(members)} files, every one of the folders")
        with tempfile.TemporaryDirectory() as work:
            check_source(source, members, Path(work))
        tell(f"ok   {source.name} builds the same wheel")
        for python in given.python or pythons():
            with tempfile.TemporaryDirectory() as home:
                found = check_installed(wheel, python, Path(home) / "empty")
            (given.folder / "LICENCES.md").write_text(check_licences(found), "utf-8")
            torch = found["torch"][0]
            tell(f"ok   {python}: installs with {len(found) - 1} others (torch {torch}), answers")
    except (Broken, subprocess.CalledProcessError, ValueError) as error:
        tell(f"FAIL {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
