"""Peers whose processes are real, and cases that need no model: tokens are words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tamis.probes.tokens import TextTokenizer
from tamis.service.evaluation.evidence.result_file import ResultFile
from tamis.service.evaluation.peers.cases import load_peer_cases
from tamis.service.evaluation.peers.registry import PEERS_FOLDER, PeerRegistry
from tamis.service.evaluation.peers.run import PeerRunSettings
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


def counter(folder: Path) -> TextTokenizer:
    return TextTokenizer.from_file(proxy(folder) / "tokenizer.json")


def cases(folder: Path, count: int = 3, budget: float = 0.25, name: str = "people"):
    return load_peer_cases(name, data(folder), count, budget, counter(folder))


def around(folder: Path, timeout_s: float = 60) -> PeerRunSettings:
    return PeerRunSettings(str(proxy(folder)), proxy(folder), {}, 1, timeout_s, folder)


def results(folder: Path, **settings: object) -> ResultFile:
    return ResultFile(folder / "rows.jsonl", settings, "key")


def odd(folder: Path, does: str) -> PeerRegistry:
    """A list of one peer, which does what it should not, and of truncation beside it."""
    home = folder / "odd"
    shutil.copytree(PEERS_FOLDER / "adapters", home / "adapters", dirs_exist_ok=True)
    (home / "adapters/odd.py").write_text(ODD, "utf8")
    (home / "peers.toml").write_text(
        f'''environments = "none"\nmake = "make it"\nreference = "truncation"
[peers.odd]\nadapter = "odd.py"\noptions = {{ does = "{does}" }}
[peers.truncation]\nadapter = "first_tokens.py"\n''',
        "utf8",
    )
    return PeerRegistry.load(home)
