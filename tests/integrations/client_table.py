"""The table of clients and versions in docs/reference/clients.md, made from the environments.

    python -m tests.integrations.client_table    # writes it into the page

In each environment `test_pins.py` checks that these versions are what is installed and tried.
"""

from __future__ import annotations

import re

from tests.environments import ROOT
from tests.integrations.environments import INTEGRATIONS, tests

PAGE = ROOT / "docs/reference/clients.md"
MARKED = re.compile(r"(?<=<!-- clients -->\n).*?(?=<!-- end -->)", re.DOTALL)


def table() -> str:
    """A row a package: its version, the environment, what it is there for, and what tries it."""
    rows = ["| client | version | from | environment | tried by |", "|---|---|---|---|---|"]
    for name in INTEGRATIONS.names():
        trials = [path.rpartition("/")[2] for path in tests(name) if "test_pins" not in path]
        shown = ", ".join(f"`{trial}`" for trial in trials)
        for (origin, package), version in INTEGRATIONS.pins(name).items():
            origin = origin.replace("alone", "pip")
            rows.append(f"| `{package}` | {version} | {origin} | `{name}` | {shown} |")
    return "\n".join(rows) + "\n"


def table_in(page: str) -> str:
    """The table that a page has between its marks."""
    (found,) = MARKED.findall(page)
    return str(found)


if __name__ == "__main__":
    text = PAGE.read_text("utf-8")
    PAGE.write_text(MARKED.sub(lambda _: table(), text), "utf-8")
