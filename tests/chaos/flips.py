"""Bytes that rot on disk: an index with keys, kept passages, a probe and its card.

One byte at a time is changed, a bit or the whole of it, anywhere in any file; then the file is
cut, or gone. What is damaged is named, and never served: a search answers as before, or says which
file it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tamis.probes.errors import BadIndex, BadInput, BadModelFile
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.linear import LinearProbe
from tamis.retrieval.index.sessions import create_index, open_writer
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import ChunkModels
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tests.chaos.promise import Told
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import filled
from tests.probes.probing.test_linear import CARD, WEIGHTS
from tests.retrieval.index.corpora import many
from tests.retrieval.keys.test_encoder import recipe_for

QUESTION = "word1 word2"


def damaged(whole: bytes, draw: random.Random) -> bytes:
    """A file as a bad disk gives it back: one bit or byte changed, or its end missing."""
    if draw.random() < 0.1:
        return whole[: draw.randrange(len(whole))]
    at, change = draw.randrange(len(whole)), draw.choice([1 << draw.randrange(8), 0xFF])
    return whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]


def rotten(
    files: list[Path], times: int, draw: random.Random, holds: Callable[[Path], bool]
) -> Told:
    """Damages one file at a time and puts it back; every file has its turn."""
    survived, seen = 0, set()
    for turn in range(times):
        file = files[turn % len(files)]
        whole = file.read_bytes()
        if not whole:
            continue
        file.write_bytes(damaged(whole, draw))
        good = holds(file)
        survived += good
        seen.add(file.name)
        file.write_bytes(whole)
    return Told(times, survived, times - survived, f"{len(seen)} files")


def versioned_proxy() -> Proxy:
    """A tiny decoder with a revision, so that what is kept of it can be told from others'."""
    made = tiny.proxy()
    made.card = replace(made.card, name="tiny", revision="r1")
    return made


def index_with_keys(home: Path) -> Proxy:
    """An index of words and keys, in two segments, with deletions; and the proxy that read it."""
    proxy = versioned_proxy()
    recipe = recipe_for(proxy)
    readers = ChunkModels(KeyEncoder(proxy, recipe))
    with create_index(home, IndexSettings(keys=recipe.as_json()), readers) as writer:
        writer.put(many(12))
        writer.finish()
    with open_writer(home, readers) as writer:
        writer.put(many(16, seed=1)[12:])
        writer.delete(["d3"])
    return proxy


def index(folder: Path, times: int, draw: random.Random) -> Told:
    """An index with keys."""
    home = folder / "index"
    proxy = index_with_keys(home)

    def found() -> list[tuple[str, str, float]]:
        hits = CorpusIndex.open(home, proxy=proxy).search(QUESTION, 50)
        return [(hit.id, hit.text, hit.score) for hit in hits]

    expected = found()

    def holds(file: Path) -> bool:
        try:
            named = any(file.name in fault for fault in CorpusIndex.open(home).verify())
        except (BadIndex, BadInput) as error:
            named = file.name in str(error)
        try:
            return named and found() == expected
        except (BadIndex, BadInput):
            return named

    files = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name != "lock"]
    return rotten(files, times, draw, holds)


def cache(folder: Path, times: int, draw: random.Random) -> Told:
    """Kept passages: a damaged entry is named, dropped and read anew."""
    filled(folder)
    files = sorted(folder.rglob("*.safetensors"))

    def holds(file: Path) -> bool:
        kept = PassageCache(folder=folder)
        named = [fault.file for fault in kept.verify()] == [file]
        return named and kept.get(file.stem, 1) is None and not file.exists()

    return rotten(files, times, draw, holds)


def probe(folder: Path, times: int, draw: random.Random) -> Told:
    """The weights of a probe. Its card has no checksum: see tests/chaos/test_parsers.py."""
    path = folder / "sentinel.m.safetensors"
    LinearProbe(WEIGHTS, CARD).save(path)

    def holds(_: Path) -> bool:
        try:
            LinearProbe.load(path)
        except BadModelFile:
            return True
        return False

    return rotten([path], times, draw, holds)
