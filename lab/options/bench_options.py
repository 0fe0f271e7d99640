"""Options that the commands of `tamis lab bench` share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tamis.probes.errors import BadInput
from tamis.service.api.languages import SHARP as SHARP  # benches measure the default of users

DEFAULT_DATA = Path("../shared/data/dev")
RECORDS = """
**Labelled records** are JSON Lines, optionally gzipped: one line per question, spans half-open in
code points, `gold` the places among `sents` of the sentences that answer it

`{"id": "1", "question": "How are keys rotated?", "docs": [{"title": "Keys", "text": "Keys are
rotated every 90 days. Rooms are painted in spring.", "sents": [[0, 31], [32, 60]], "gold": [0]}]}`

Documents that many questions share may stand in `NAME_docs.jsonl` beside `NAME.jsonl`, as
`{"doc_id", "title", "text", "sents"}`; a record then has `{"ref": DOC_ID, "gold": [...]}` instead.
"""

ProxyName = Annotated[str, typer.Option("--proxy", help="A zoo name, or a folder.")]
Budgets = Annotated[str, typer.Option(help="Up to 1 a share, above whole tokens.")]
Seed = Annotated[int, typer.Option(help="Of distractors and intervals.")]
ReadingsFolder = Annotated[
    Path | None, typer.Option(help="Where readings are kept. Default: the user's cache.")
]


def parse_budgets(given: str) -> list[float]:
    """Budgets from a list with commas.

    Raises:
        BadInput: one is not a number, or not a budget.
    """
    from tamis_lab.bench.evidence.run import budget_of

    try:
        found = [float(word) for word in parse_list(given, "budgets")]
    except ValueError as error:
        raise BadInput(
            f"budgets is {given!r}; give numbers with commas, such as 0.05,0.1"
        ) from error
    for budget in found:
        budget_of(budget)
    return found


def parse_list(given: str, what: str) -> list[str]:
    """Names from a list with commas, each once; `what` names them in a message.

    Raises:
        BadInput: the list is empty.
    """
    names = list(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not names:
        raise BadInput(f"{what} is {given!r}; name at least one")
    return names


def parse_options(given: Sequence[str], example: str) -> dict[str, Any]:
    """Options by name from `NAME=VALUE` each; a value is JSON, else text.

    Raises:
        BadInput: one has no name or no value; the message shows the example.
    """
    from tamis_lab.bench.evidence.panel import parse_value

    found = {}
    for word in given:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise BadInput(f"--option is {word!r}; give NAME=VALUE, such as {example}")
        found[name] = parse_value(value)
    return found


def find_sets(data: Path | None, names: list[str]) -> dict[str, Path]:
    """The files of sets by name, in `data` or in the folder beside the project.

    Raises:
        BadInput: there is no such folder, or no file of that name.
    """
    from tamis_lab.bench.evidence.tally import find_set_file

    folder = data_folder(data)
    return {name: find_set_file(folder, name) for name in names}


def data_folder(data: Path | None) -> Path:
    """The folder of labelled records: `data`, or the one beside the project.

    Raises:
        BadInput: it does not exist.
    """
    folder = data or DEFAULT_DATA
    if not folder.is_dir():
        raise BadInput(
            f"there is no folder {folder}; give --data with a folder of labelled .jsonl files"
        )
    return folder


def parse_sizes(given: str, what: str = "tokens") -> list[int]:
    """Whole numbers of at least 1 from a list with commas; `what` names them in a message.

    Raises:
        BadInput: one is not such a number.
    """
    words = parse_list(given, what)
    if wrong := [word for word in words if not word.isdecimal() or int(word) < 1]:
        raise BadInput(f"{what} has {wrong[0]!r}; give whole numbers of at least 1, with commas")
    return [int(word) for word in words]
