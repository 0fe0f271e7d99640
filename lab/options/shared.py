"""Options that the commands of the lab share, and what their values stand for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tamis.probes.errors import BadInput
from tamis.service.api.languages import SHARP as SHARP  # benches measure the default of users

if TYPE_CHECKING:
    from tamis.compressors.methods.question_rows import QuestionRows
    from tamis.compressors.rules import Budget
    from tamis.probes.probing.linear import LinearProbe
    from tamis_lab.datasets.record_files import RecordFile

DEFAULT_DATA = Path("../shared/data/dev")
RECORDS = """
**Labelled records** are JSON Lines, optionally gzipped: one line per question, spans half-open in
code points, `gold` the places among `sents` of the sentences that answer it

`{"id": "1", "question": "How are keys rotated?", "docs": [{"title": "Keys", "text": "Keys are
rotated every 90 days. Rooms are painted in spring.", "sents": [[0, 31], [32, 60]], "gold": [0]}]}`

Documents that many questions share may stand in `NAME_docs.jsonl` beside `NAME.jsonl`, as
`{"doc_id", "title", "text", "sents"}`; a record then has `{"ref": DOC_ID, "gold": [...]}` instead.
"""

Records = Annotated[Path, typer.Argument(help="Labelled records, JSON Lines, optionally gzipped.")]
Data = Annotated[
    list[str],
    typer.Option(
        "--data", help="Labelled JSONL, maybe as FILE:LIMIT to use LIMIT questions. Repeatable."
    ),
]
SetsFolder = Annotated[
    Path | None,
    typer.Option(
        "--data", help=f"Folder with the sets. Default: {DEFAULT_DATA}.", show_default=False
    ),
]
Sets = Annotated[str, typer.Option("--sets", help="Names of files, with commas.")]
FilledSets = Annotated[
    str,
    typer.Option("--sets", help="Files of records; NAME@TOKENS fills contexts up with others."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="At most so many of a set.")]
Methods = Annotated[
    str, typer.Option("--methods", "--method", help="Names of methods, with commas.")
]
Budgets = Annotated[str, typer.Option(help="Up to 1 a share, above whole tokens.")]
Layers = Annotated[
    int | None, typer.Option(min=1, help="Read the first N layers; default two thirds.")
]
Seed = Annotated[int, typer.Option(help="Of whatever is drawn: distractors, orders, intervals.")]
ProxyName = Annotated[
    str, typer.Option("--proxy", help="A zoo name, a folder, or a hub id on this machine.")
]
ReadingsFolder = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Where readings are kept; another run then takes seconds. Default: the user's cache.",
    ),
]
Results = Annotated[
    Path | None,
    typer.Option(
        "--results", "--out", help="Rows, as JSON Lines; a run that was cut short goes on."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print all figures as JSON, not as tables.")]
Plot = Annotated[
    Path | None, typer.Option("--plot", "--png", help="Also draw it: .png, .svg or .pdf.")
]
ProbeFile = Annotated[
    Path | None,
    typer.Argument(
        help="A probe's .safetensors; by default the one that ships.", show_default=False
    ),
]

OwnProbe = Annotated[
    Path | None,
    typer.Option(
        "--probe",
        help="Of the proxy, by tamis lab probe train; by default the one that ships.",
        show_default=False,
    ),
]


def parse_list(given: str, what: str) -> list[str]:
    """Names from a list with commas, each once; `what` names them in a message.

    Raises:
        BadInput: the list is empty.
    """
    names = list(dict.fromkeys(word.strip() for word in given.split(",") if word.strip()))
    if not names:
        raise BadInput(f"{what} is {given!r}; name at least one")
    return names


def parse_numbers(given: str, what: str) -> list[float]:
    """Numbers from a list with commas; `what` names them in a message.

    Raises:
        BadInput: one is not a number.
    """
    try:
        return [float(word) for word in parse_list(given, what)]
    except ValueError as error:
        raise BadInput(f"{what} is {given!r}; give numbers with commas, such as 0.1,0.2") from error


def parse_shares(given: str, what: str) -> list[float]:
    """Shares from a list with commas.

    Raises:
        BadInput: one is not a number above 0 and up to 1.
    """
    found = parse_numbers(given, what)
    if wrong := [share for share in found if not 0 < share <= 1]:
        raise BadInput(f"{what} has {wrong[0]:g}; a share is above 0 and at most 1")
    return found


def parse_budgets(given: str) -> list[float]:
    """Budgets from a list with commas.

    Raises:
        BadInput: one is not a number, or not a budget.
    """
    found = parse_numbers(given, "budgets")
    for budget in found:
        budget_of(budget)
    return found


def parse_sizes(given: str, what: str = "tokens") -> list[int]:
    """Whole numbers of at least 1 from a list with commas; `what` names them in a message.

    Raises:
        BadInput: one is not such a number.
    """
    words = [word.replace("_", "") for word in parse_list(given, what)]
    if wrong := [word for word in words if not word.isdecimal() or int(word) < 1]:
        raise BadInput(f"{what} has {wrong[0]!r}; give whole numbers of at least 1, with commas")
    return [int(word) for word in words]


def budget_of(keep: float) -> Budget:
    """The budget of a share of the tokens (up to 1) or of whole tokens (above 1).

    Raises:
        BadInput: it is neither.
    """
    from tamis.compressors.rules import Budget

    if keep <= 1:
        return Budget(ratio=keep)
    if not float(keep).is_integer():
        raise BadInput(
            f"keep is {keep}; give a share above 0 and up to 1, or a whole number of tokens"
        )
    return Budget(max_tokens=int(keep))


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


def find_sets(data: Path | None, names: Sequence[str]) -> dict[str, Path]:
    """The files of sets by name, in `data` or in the folder beside the project.

    Raises:
        BadInput: there is no such folder, or no file of that name.
    """
    folder = data_folder(data)
    return {name: find_set_file(folder, name) for name in names}


def find_set_file(folder: Path, name: str) -> Path:
    """The file of a set.

    Raises:
        BadInput: there is none; the message names the sets of the folder.
    """
    for ending in (".jsonl.gz", ".jsonl"):
        if (path := folder / f"{name}{ending}").is_file():
            return path
    names = sorted({path.name.split(".jsonl")[0] for path in folder.glob("*.jsonl*")})
    raise BadInput(f"there is no set {name!r} in {folder}; there are: {', '.join(names) or 'none'}")


def parse_filled_set(name: str) -> tuple[str, int | None]:
    """The name and the tokens of `NAME@TOKENS`; no tokens where there is no `@`.

    Raises:
        BadInput: what follows the `@` is not a number.
    """
    base, sign, tokens = name.partition("@")
    if sign and not tokens.isdecimal():
        raise BadInput(f"set {name!r}: write NAME@TOKENS, such as hotpotqa@4500")
    return base, int(tokens) if sign else None


def parse_record_file(name: str) -> RecordFile:
    """A file of labelled records from `FILE` or `FILE:LIMIT`.

    Raises:
        BadInput: the limit is below 1.
    """
    from tamis_lab.datasets.record_files import RecordFile

    path, _, limit = name.rpartition(":")
    if not path or not limit.removeprefix("-").isdecimal():
        return RecordFile(Path(name))
    if int(limit) < 1:
        raise BadInput(f"--data is {name!r}; use at least 1 question, or leave :LIMIT out for all")
    return RecordFile(Path(path), int(limit))


def named_or_shipped_probe(path: Path | None, method: str, proxy: str) -> LinearProbe:
    """The probe in a file, or the one that ships for a method and a proxy.

    Raises:
        BadInput: there is neither.
    """
    from tamis.compressors.features.shipped_probes import shipped_probe
    from tamis.probes.probing.linear import LinearProbe

    found = LinearProbe.load(path) if path else shipped_probe(method, proxy)
    if found is None:
        raise BadInput(
            f"no probe for {method} and {proxy} ships; name a file, or fit one: tamis "
            "lab probe train"
        )
    return found


def default_method(probe: Path | None, proxy: str) -> tuple[QuestionRows, LinearProbe]:
    """A probe, in a file or the one that ships, and the default method, which reads every window.

    Raises:
        BadInput: there is neither. ProbeMismatch: the probe is for another proxy.
    """
    from tamis.compressors.methods.question_rows import QuestionRows
    from tamis.compressors.registry import load_proxy
    from tamis_lab.datasets.reading_store import cached_reader

    found = named_or_shipped_probe(probe, "question_rows", proxy)
    reader = cached_reader(load_proxy(proxy, found.card.layers))
    return QuestionRows(reader, found, gate=False), found


def readings_folder(cache: Path | None) -> Path:
    """The folder of stored readings: `cache`, or one in the user's cache."""
    if cache is not None:
        return cache
    from tamis.probes.hub.cache_dir import cache_home

    return cache_home() / "readings"
