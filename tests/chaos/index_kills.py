"""Kills writers of an index with SIGKILL, at any moment, and checks what is left.

    python -m tests.chaos.index_kills --kills 200

A child puts, replaces, deletes, compacts and optimises small documents without end and reports
each commit; the parent kills it somewhere between its first commit and the last that it would make.
The index on disk must be in the state after all acknowledged changes, with or without the one under
way; every byte must match its checksum, and the next writer must get the lock. The index has keys,
and large segments a graph: what a search of keys finds must be chunks of that state, each once. It
also keeps its chunks as they were read: what is kept must be found for chunks of that state.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch

from tamis.retrieval.approximate import segment_search
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import IndexWriter, create_index, open_writer
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.service.api.kept_chunks import ChunkKeeper, KeptPassages
from tamis.text.types import CorpusDocument, Passage
from tests.probes import tiny
from tests.retrieval.keys.test_encoder import recipe_for

State = dict[str, str]
Change = tuple[str, list[CorpusDocument], list[str]]
LAST = 10_000
"""Changes of one child: more than it makes before it is killed, however fast the disk."""
SOON = 10
"""A child is killed a moment after it has acknowledged up to so many."""
KEPT_CHECKED = 3
"""Chunks that are read again after each kill, to find what is kept of them."""
GRAPH_KEYS = 200
"""Segments of this corpus that have so many keys get a graph."""


@cache
def models() -> ChunkModels:
    """A small model that reads the keys of chunks, and keeps them."""
    proxy = tiny.proxy("llama")
    proxy.card = replace(proxy.card, revision="r1")
    keys = KeyEncoder(proxy, recipe_for(proxy))
    return ChunkModels(keys, None, ["word1 number2?"], ChunkKeeper(proxy, proxy.depth, "en"))


def settings() -> IndexSettings:
    """An index of words and keys, that keeps its chunks."""
    recipe = models().keys.recipe.as_json()
    return IndexSettings(keys=json.loads(json.dumps(recipe)), kv={"model": "tiny"})


def change(number: int, state: State) -> Change:
    """The change of that number, made to that state: the same one for parent and child."""
    draw = random.Random(number)
    kind = draw.choice(["put", "put", "put", "delete", "compact", "optimise"])
    if kind == "delete" and state:
        return "delete", [], draw.sample(sorted(state), min(len(state), draw.randint(1, 3)))
    if kind in ("compact", "optimise"):
        return kind, [], []
    ids = draw.sample(range(30), draw.randint(1, 5))
    documents = [
        CorpusDocument(f"d{i}", f"word{i} number{number} " * draw.randint(1, 40)) for i in ids
    ]
    return "put", documents, []


def after(state: State, of: Change) -> State:
    """The state a change leads to: texts by id."""
    _, documents, gone = of
    kept = {doc: text for doc, text in state.items() if doc not in gone}
    return kept | {document.id: document.text for document in documents}


def apply(writer: IndexWriter, of: Change) -> None:
    """Makes a change to an index."""
    kind, documents, gone = of
    if kind == "put":
        writer.put(documents)
    elif kind == "delete":
        writer.delete(gone)
    elif kind == "optimise":
        writer.optimise("graph")
    else:
        writer.compact()


def on_disk(home: Path) -> State:
    """The texts that an index serves, every byte of it verified."""
    index = CorpusIndex.open(home, proxy=models().keys.proxy)
    faults = index.verify()
    assert not faults, faults
    question = " ".join(f"word{i}" for i in range(30))
    hits = index.search(f"word0 {question}", 10_000, by=["bm25"])
    by_keys = [hit.id for hit in index.search("word3 number7", 20, by=["keys"])]
    assert len(set(by_keys)) == len(by_keys)
    assert set(by_keys) <= {hit.id for hit in hits}
    kept, some = KeptPassages(index.segments), hits[:KEPT_CHECKED]
    passages = [Passage(h.text, title=h.title_line, pieces=h.pieces) for h in some]
    read_again = models().kv.keep_chunks(passages)
    assert all(kept.load(key) for windows in read_again for key, _ in windows)
    texts: dict[str, list[tuple[int, str]]] = {}
    for hit in hits:
        texts.setdefault(hit.doc, []).append((hit.start, hit.text))
    index.close()
    return {doc: "".join(text for _, text in sorted(parts)) for doc, parts in texts.items()}


def child(home: Path, first: int, state: State, say: Callable[[bytes], object]) -> None:
    """Makes changes and acknowledges each; the first writer builds."""
    opened = (
        open_writer(home, models())
        if (home / "manifest.json").exists()
        else create_index(home, settings(), models())
    )
    with opened as writer:
        say(b"o")
        for number in range(first, first + LAST):
            of = change(number, state)
            apply(writer, of)
            state = after(state, of)
            say(b"a")


def kill_once(home: Path, first: int, state: State, draw: random.Random) -> tuple[int, bool]:
    """Kills one child; how many changes it acknowledged, and whether it was still at work."""
    ears, mouth = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            child(home, first, state, lambda word: os.write(mouth, word))
        finally:
            os._exit(0)
    os.close(mouth)
    heard, wanted = b"", draw.randint(1, SOON)
    while heard.count(b"a") < wanted and (word := os.read(ears, 64)):
        heard += word
    _wait(ears, draw.random() * 0.15)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    while word := os.read(ears, 64):
        heard += word
    os.close(ears)
    acknowledged = heard.count(b"a")
    return acknowledged, acknowledged < LAST


def _wait(ears: int, seconds: float) -> None:
    """A moment, so that the kill falls anywhere inside a change."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        select.select([], [], [], left)


def run(home: Path, kills: int, seed: int = 0) -> dict[str, int]:
    """Kills so many writers; raises AssertionError at the first index that is not as it must be."""
    threads, keys = torch.get_num_threads(), segment_search.AUTO_KEYS
    torch.set_num_threads(1)  # OpenMP does not survive a fork
    segment_search.AUTO_KEYS = GRAPH_KEYS
    try:
        return _run(home, kills, seed)
    finally:
        torch.set_num_threads(threads)
        segment_search.AUTO_KEYS = keys


def _run(home: Path, kills: int, seed: int) -> dict[str, int]:
    draw, state, number, between, halfway = random.Random(seed), State(), 0, 0, 0
    graphs = 0
    for _ in range(kills):
        acknowledged, at_work = kill_once(home, number, state, draw)
        for n in range(number, number + acknowledged):
            state = after(state, change(n, state))
        number += acknowledged
        found = on_disk(home)
        graphs += "graph" in CorpusIndex.open(home).stats()["searches"]
        if found != state:  # the change under way was committed, and not acknowledged any more
            state = after(state, change(number, state))
            number += 1
            halfway += 1
            assert found == state, "the index is in a state that no change led to"
        between += at_work and acknowledged > 0
    with open_writer(home, models()) as writer:
        writer.compact()
    assert on_disk(home) == state
    return {
        "with_a_graph": graphs,
        "kills": kills,
        "between_first_and_last_commit": between,
        "commits": number,
        "committed_unacknowledged": halfway,
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    try:
        clock = time.monotonic()
        found = run(folder / "index", given.kills, given.seed)
        print(found, f"{time.monotonic() - clock:.0f} s")  # noqa: T201
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
