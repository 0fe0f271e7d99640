"""ls and find over trees of a few hundred files."""

from __future__ import annotations

import os
import random
from pathlib import Path

from lab.tests.tool_outputs.kit import Workshop, bash, headers
from lab.tests.tool_outputs.words import actions, nouns

TOOLS = {"ls": "ls --version", "find": "find --version"}
WHOLE = {"rule": "lines"}
ENTRIES = headers("entries", r"^\.?/?[^ ]*:$")
ENDINGS = ("py", "json", "csv", "md", "sql", "yaml", "parquet", "log")


def tree(folder: Path, rng: random.Random, tops: int, each: int) -> None:
    """Folders two levels deep with empty files."""
    for top in nouns(rng, tops):
        for under in ("", *nouns(rng, 2)):
            home = folder / top / under
            home.mkdir(parents=True, exist_ok=True)
            for name in actions(rng, each):
                path = home / f"{name}.{rng.choice(ENDINGS)}"
                path.write_bytes(b"x" * rng.randint(10, 90_000))
                os.utime(path, (rng.randint(17, 19) * 10**8,) * 2)


def make(shop: Workshop) -> None:
    """Nine runs of ls, and six of find."""
    for i in range(9):
        _add_ls(shop, i)
    for i in range(6):
        _add_find(shop, i)


def _plant_file(shop: Workshop, name: str, each: int) -> tuple[Path, str, str]:
    """A tree with one file more; its folder, and the file's folder and name."""
    rng = shop.rng(name)
    folder = shop.project(name)
    tree(folder, rng, 7, each)
    homes = sorted(path for path in folder.rglob("*") if path.is_dir())
    home = rng.choice(homes)
    wanted = f"{rng.choice(nouns(rng, 9))}_{rng.randint(100, 999)}"
    return folder, str(home.relative_to(folder)), wanted


def _add_ls(shop: Workshop, i: int) -> None:
    folder, home, wanted = _plant_file(shop, f"ls{i}", 12 + i)
    asks, name = (
        (f"Where is the certificate of {wanted}?", f"{wanted}.pem"),
        (f"Is there a migration for {wanted}, and in which folder?", f"0042_{wanted}.migration"),
        ("Is a core dump left anywhere?", f"core.{wanted[-3:]}"),
    )[i % 3]
    (folder / home / name).write_bytes(b"x" * 77)
    os.utime(folder / home / name, (1_795_000_000,) * 2)
    command = ("ls -R", "ls -lR --time-style=long-iso", "ls -1R .")[i % 3]
    text = shop.run(command, folder)
    gold = [rf"(^| ){name.replace('.', chr(92) + '.')}$", rf"^\./{home}:$"]
    shop.add(bash(command), asks, text, gold, (), (WHOLE, ENTRIES))


def _add_find(shop: Workshop, i: int) -> None:
    folder, home, wanted = _plant_file(shop, f"find{i}", 12 + i)
    name = f"{wanted}.{('lock', 'pem', 'bak')[i % 3]}"
    (folder / home / name).write_bytes(b"x" * (500_000 if i % 2 else 5))
    os.utime(folder / home / name, (1_795_000_000,) * 2)
    command = ("find . -type f", "find . -type f -size -2000k -printf '%s %p\\n'")[i % 2]
    text = shop.run(command, folder)
    asks = (f"Where is the {name.rpartition('.')[2]} file of {wanted}?", f"How large is {name}?")
    shop.add(bash(command), asks[i % 2], text, [rf"{home}/{name}$"])
