"""Peers with real processes, and cases that need no model, because tokens are words."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lab.tests.bench.records import people
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.peer_process import PEERS_FOLDER, PeerRegistry
from tamis_lab.bench.peers import PeerRunSettings, load_peer_cases
from tamis_lab.bench.study import Study
from tests.service.cli.cli_kit import word_tokenizer

FAULTY_ADAPTER = """
import os, sys, time
from protocol import serve

print("printed while loading")  # must not get among the answers

def load(settings):
    if settings["fault"] == "not load":
        raise RuntimeError("no such model here")
    def keep(case):
        print("printed while working")
        if settings["fault"] == "raise":
            raise KeyError("a word of mine")
        if settings["fault"] == "die" and not os.path.exists(settings["scratch"]):
            open(settings["scratch"], "w").close()
            os._exit(3)
        if settings["fault"] == "hang":
            time.sleep(60)
        return case["context"]
    return keep

serve(load, "tokenizers")
"""


def people_folder(folder: Path) -> Path:
    """A folder with one set, `people`: a short passage each, so distractors are added."""
    rows = people()
    for row in rows:
        row["answers"] = ["Town Number"]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "people.jsonl").write_text(lines, "utf8")
    return folder


def tokenizer_folder(folder: Path) -> Path:
    """A folder with a tokenizer that counts words, and no model."""
    proxy = folder / "proxy"
    proxy.mkdir(exist_ok=True)
    shutil.copy(word_tokenizer(folder), proxy / "tokenizer.json")
    return proxy


def counter(folder: Path) -> TextTokenizer:
    return TextTokenizer.from_file(tokenizer_folder(folder) / "tokenizer.json")


def people_cases(folder: Path, count: int = 3, budget: float = 0.25, name: str = "people"):
    return load_peer_cases(name, people_folder(folder), count, budget, counter(folder))


def run_settings(folder: Path, timeout_s: float = 60) -> PeerRunSettings:
    return PeerRunSettings(
        str(tokenizer_folder(folder)), tokenizer_folder(folder), {}, 1, timeout_s, folder
    )


def study_of(folder: Path, **settings: object) -> Study:
    study = Study(results=folder / "rows.jsonl")
    study.keep_rows(settings)
    return study


def faulty_registry(folder: Path, fault: str) -> PeerRegistry:
    """A registry of a peer with a fault, and of truncation."""
    peers_folder = folder / "odd"
    shutil.copytree(PEERS_FOLDER / "adapters", peers_folder / "adapters", dirs_exist_ok=True)
    (peers_folder / "adapters/odd.py").write_text(FAULTY_ADAPTER, "utf8")
    (peers_folder / "peers.toml").write_text(
        f'''environments = "none"\nmake = "make it"\nreference = "truncation"
[peers.odd]\nadapter = "odd.py"\noptions = {{ fault = "{fault}" }}
[peers.truncation]\nadapter = "first_tokens.py"\n''',
        "utf8",
    )
    return PeerRegistry.load(peers_folder)
