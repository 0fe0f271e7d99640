"""Peers whose processes are real, and cases that need no model: tokens are words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tamis.probes.tokens import Tokens
from tamis.service.evaluation.evidence.run import Results
from tamis.service.evaluation.peers.cases import cases_of
from tamis.service.evaluation.peers.peers import HOME, Field
from tamis.service.evaluation.peers.run import Surroundings
from tests.service.cli.cli_kit import word_tokenizer
from tests.service.evaluation.records import people

ODD = """
import os, sys, time
from protocol import serve

print("said while loading")  # must not get among the answers

def load(settings):
    if settings["does"] == "not load":
        raise RuntimeError("no such model here")
    def keep(case):
        print("said while working")
        if settings["does"] == "raise":
            raise KeyError("a word of mine")
        if settings["does"] == "die" and not os.path.exists(settings["scratch"]):
            open(settings["scratch"], "w").close()
            os._exit(3)
        if settings["does"] == "hang":
            time.sleep(60)
        return case["context"]
    return keep

serve(load, "tokenizers")
"""


def data(folder: Path) -> Path:
    """A folder with one set, `people`: a short passage each, so distractors are added."""
    rows = people()
    for row in rows:
        row["answers"] = ["Town Number"]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "people.jsonl").write_text(lines, "utf8")
    return folder


def proxy(folder: Path) -> Path:
    """A folder with a tokenizer that counts words, and no model."""
    home = folder / "proxy"
    home.mkdir(exist_ok=True)
    shutil.copy(word_tokenizer(folder), home / "tokenizer.json")
    return home


def counter(folder: Path) -> Tokens:
    return Tokens.from_file(proxy(folder) / "tokenizer.json")


def cases(folder: Path, count: int = 3, budget: float = 0.25, name: str = "people"):
    return cases_of(name, data(folder), count, budget, counter(folder))


def around(folder: Path, timeout_s: float = 60) -> Surroundings:
    return Surroundings(str(proxy(folder)), proxy(folder), {}, 1, timeout_s, folder)


def results(folder: Path, **settings: object) -> Results:
    return Results(folder / "rows.jsonl", settings, "key")


def odd(folder: Path, does: str) -> Field:
    """A list of one peer, which does what it should not, and of truncation beside it."""
    home = folder / "odd"
    shutil.copytree(HOME / "adapters", home / "adapters", dirs_exist_ok=True)
    (home / "adapters/odd.py").write_text(ODD, "utf8")
    (home / "peers.toml").write_text(
        f'''environments = "none"\nmake = "make it"\nreference = "truncation"
[peers.odd]\nadapter = "odd.py"\noptions = {{ does = "{does}" }}
[peers.truncation]\nadapter = "first_tokens.py"\n''',
        "utf8",
    )
    return Field.of(home)
