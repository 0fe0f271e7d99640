"""Makes the labelled outputs of `tamis lab bench tools` with real tools.

    python -m lab.tests.tool_outputs            # every kind
    python -m lab.tests.tool_outputs git npm    # some
    python -m lab.tests.tool_outputs --try git  # made and checked, not written

A kind is a file of kinds/. It names its programs in TOOLS, each with the command that prints its
version, and its `make` fills a workshop. Python tools are those of python-tools.txt, in an
environment of their own; those for JavaScript are installed by npm; all others must be on PATH:

    apt-get install golang-go ripgrep postgresql sqlite3 maven openjdk-17-jdk-headless junit4 \
      libmaven-compiler-plugin-java libmaven-resources-plugin-java libsurefire-java curl g++ make

The projects depend on the seed alone; what tools print about them also depends on their versions,
and durations on the machine.
"""

from __future__ import annotations

import argparse
import importlib
import json
import lzma
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lab.tests.tool_outputs.kit import Workshop
from tests.environments import ROOT, Environments

HERE = Path(__file__).parent
DATA = ROOT / "lab/bench/outputs"
JAVASCRIPT = ("typescript@5.9.3", "eslint@9.39.1", "@eslint/js@9.39.1")
SEED = 24


def kinds() -> list[str]:
    """The kinds there are."""
    return sorted(path.stem for path in (HERE / "kinds").glob("[a-z]*.py"))


def tool_folders() -> list[Path]:
    """The folders of the Python and the JavaScript programs, which are installed if need be."""
    python = Environments(HERE, ROOT / ".venv").made("python-tools")
    node = ROOT / ".venv/javascript-tools"
    if not (node / "node_modules/.bin/tsc").exists():
        node.mkdir(exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(node), *JAVASCRIPT]
        subprocess.run(command, check=True)
    # what this environment has, the one of the tools leans on: its programs are here
    return [python.parent, Path(sys.executable).parent, node / "node_modules/.bin"]


def make_kind(kind: str, bins: list[Path], root: Path) -> tuple[list[dict[str, Any]], Any]:
    """The outputs of a kind, and the versions of its tools."""
    module = importlib.import_module(f"lab.tests.tool_outputs.kinds.{kind}")
    shop = Workshop(kind, root, bins, SEED)
    module.make(shop)
    versions = {
        name: shop.run(command, root).strip().splitlines()[0]
        for name, command in module.TOOLS.items()
    }
    return [output.record() for output in shop.outputs], versions


def write_kind(kind: str, rows: list[dict[str, Any]], versions: Any) -> int:
    """Writes the outputs of a kind, the versions of its tools first; returns the file's bytes."""
    lines = [{"kind": kind, "seed": SEED, "tools": versions}, *rows]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
    DATA.mkdir(parents=True, exist_ok=True)
    (DATA / f"{kind}.jsonl.xz").write_bytes(packed)
    return len(packed)


def main() -> int:
    """Makes the kinds asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(kinds()))
    parser.add_argument("--try", dest="trial", action="store_true", help="write nothing")
    given = parser.parse_args()
    if unknown := set(given.kinds) - set(kinds()):
        parser.error(f"there is no kind {sorted(unknown)}; there are: {', '.join(kinds())}")
    bins = tool_folders()
    with tempfile.TemporaryDirectory(prefix="tool-outputs-") as root:
        for kind in given.kinds or kinds():
            rows, versions = make_kind(kind, bins, Path(root))
            size = 0 if given.trial else write_kind(kind, rows, versions)
            characters = sum(len(row["text"]) for row in rows)
            sys.stdout.write(f"{kind}: {len(rows)} outputs, {characters:,} -> {size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
