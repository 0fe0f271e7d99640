"""Tables as psql, sqlite3 and column print them, of rows that are made here."""

from __future__ import annotations

import csv
import io
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.tests.tool_outputs.kit import Workshop, bash, headers
from lab.tests.tool_outputs.words import CITIES, nouns, person, sentence

TOOLS = {"psql": "psql --version", "sqlite3": "sqlite3 --version", "column": "column --version"}
WHOLE = {"rule": "lines"}
ROWS = headers("rows", r"^ *(id|node) +\|? *\w+")
Rows = list[dict[str, object]]


def make(shop: Workshop) -> None:
    """Nine tables of psql, four of sqlite3, five of column."""
    with cluster() as command:
        for i in range(9):
            _add_psql(shop, command, i)
    for i in range(4):
        _add_sqlite(shop, i)
    for i in range(5):
        _add_column(shop, i)


def stock(rng: random.Random, count: int, i: int) -> tuple[Rows, str, str]:
    """Rows of a warehouse, the question, and the pattern of the row that answers it."""
    rows: Rows = [
        {
            "id": n + 1,
            "article": f"{rng.choice(nouns(rng, 9))}-{rng.randint(100, 999)}",
            "city": rng.choice(CITIES),
            "keeper": person(rng),
            "stock": rng.randint(5, 900),
            "state": "available",
            "note": sentence(rng, 4),
        }
        for n in range(count)
    ]
    odd = rows[rng.randrange(count)]
    odd["article"] = f"beacon-{2000 + i}"
    if i % 3 == 0:
        return rows, f"In which city is beacon-{2000 + i}?", f"beacon-{2000 + i}"
    if i % 3 == 1:
        odd["state"] = "quarantined"
        return rows, "Which article is quarantined?", "quarantined"
    odd["stock"] = -17
    return rows, "Which article has a stock of -17?", "-17 "


@contextmanager
def cluster() -> Iterator[str]:
    """A command that runs psql against a server of its own, which is stopped at the end."""
    home = Path(tempfile.mkdtemp(prefix="cluster-"))
    shutil.chown(home, "postgres")
    (binaries,) = list(Path("/usr/lib/postgresql").glob("*/bin"))[:1] or [Path("/usr/bin")]
    control = f"{binaries}/pg_ctl -D {home}/data -w -l {home}/log"
    shop = Workshop("cluster", home / "shop", [], 0)

    def as_postgres(command: str) -> str:
        return shop.run(f'su postgres -s /bin/bash -c "{command}"', home)

    as_postgres(f"{binaries}/initdb -D {home}/data")
    as_postgres(f"{control} -o '-k {home} -h \\\"\\\"' start")
    try:
        yield f"psql -h {home} -U postgres -X -q"
    finally:
        as_postgres(f"{control} -m fast stop")
        shutil.rmtree(home, ignore_errors=True)


def _comma_separated(rows: Rows) -> str:
    page = io.StringIO()
    writer = csv.DictWriter(page, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return page.getvalue()


def _add_psql(shop: Workshop, psql: str, i: int) -> None:
    rows, asks, ends = stock(shop.rng(f"psql {i}"), 70 + 12 * i, i)
    columns = "id int, article text, city text, keeper text, stock int, state text, note text"
    files = {
        "stock.csv": _comma_separated(rows),
        "load.sql": f"drop table if exists stock;\ncreate table stock ({columns});\n"
        "\\copy stock from stock.csv csv header\n",
    }
    folder = shop.project(f"psql{i}", files)
    shop.run(f"{psql} -f load.sql", folder)
    query = ("select * from stock", "select id, article, city, stock, state from stock")[i % 2]
    text = shop.run(f'{psql} -P pager=off -c "{query}"', folder)
    call = bash(f'psql -c "{query}"') if i % 3 else ("query", {"sql": query})
    shop.add(call, asks, text, [ends], (), (WHOLE, ROWS))


def _add_sqlite(shop: Workshop, i: int) -> None:
    rows, asks, ends = stock(shop.rng(f"sqlite {i}"), 90, i)
    folder = shop.project(f"sqlite{i}", {"stock.csv": _comma_separated(rows)})
    query = "select id, article, city, stock, state, note from stock"
    load = ".import --csv stock.csv stock"
    text = shop.run(f"sqlite3 -column -header :memory: '{load}' '{query}'", folder)
    shop.add(bash(f'sqlite3 -column shop.db "{query}"'), asks, text, [ends], (), (WHOLE, ROWS))


def _add_column(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"column {i}")
    lines = ["NODE ROLE ZONE CPU MEMORY STATE AGE"]
    for n in range(90 + 10 * i):
        share, zone = f"{rng.randint(3, 70)}%", rng.choice(("eu-1a", "eu-1b", "us-2c"))
        age = f"{rng.randint(2, 90)}d"
        lines.append(
            f"{rng.choice(nouns(rng, 9))}-{n:03} worker {zone} {share} {share} Ready {age}"
        )
    at = rng.randint(20, 80)
    words = lines[at].split()
    asks, words[5] = (
        ("Which node is not ready?", "NotReady"),
        ("Is a node cordoned?", "SchedulingDisabled,Cordoned"),
    )[i % 2]
    lines[at] = " ".join(words)
    folder = shop.project(f"column{i}", {"nodes.txt": "\n".join(lines) + "\n"})
    text = shop.run("column -t nodes.txt", folder)
    rule = headers("rows", r"^NODE +ROLE")
    shop.add(bash("column -t nodes.txt"), asks, text, [words[5]], (), (WHOLE, rule))
