"""Damaged bytes on disk: an index with keys, kept passages, the weights of a probe.

One bit or byte is changed anywhere in any file, or the file is cut short. The damaged file is named
and never served: a search answers as before, or its error names the file.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

from tamis.probes.errors import BadIndex, BadInput, BadModelFile
from tamis.probes.kv_cache.cache import PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.linear import LinearProbe
from tamis.retrieval.approximate import segment_search
from tamis.retrieval.index.models import ChunkModels
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.service.api.kept_chunks import ChunkKeeper
from tests.chaos.promise import FaultOutcome
from tests.probes import tiny
from tests.probes.kv_cache.cache_kit import fill_folder
from tests.probes.probing.test_linear import CARD, WEIGHTS
from tests.retrieval.index.corpora import make_documents
from tests.retrieval.keys.test_encoder import recipe_for

QUESTION = "word1 word2"


def damage(whole: bytes, draw: random.Random) -> bytes:
    """A file's bytes with one bit or byte changed, or its end missing."""
    if draw.random() < 0.1:
        return whole[: draw.randrange(len(whole))]
    at, change = draw.randrange(len(whole)), draw.choice([1 << draw.randrange(8), 0xFF])
    return whole[:at] + bytes([whole[at] ^ change]) + whole[at + 1 :]


def damage_files(
    files: list[Path], times: int, draw: random.Random, holds: Callable[[Path], bool]
) -> FaultOutcome:
    """Damages one file at a time and restores it; all files in turn."""
    survived, seen = 0, set()
    for turn in range(times):
        file = files[turn % len(files)]
        whole = file.read_bytes()
        if not whole:
            continue
        file.write_bytes(damage(whole, draw))
        good = holds(file)
        survived += good
        seen.add(file.name)
        file.write_bytes(whole)
    return FaultOutcome(times, survived, times - survived, f"{len(seen)} files")


def versioned_proxy() -> Proxy:
    """A tiny decoder with a revision, so that its cache entries differ from other models'."""
    made = tiny.proxy()
    made.card = replace(made.card, name="tiny", revision="r1")
    return made


def index_with_keys(home: Path) -> Proxy:
    """An index of words, keys and kept chunks, in two segments with deletions, one with a graph.

    Returns:
        The proxy that read it.
    """
    proxy = versioned_proxy()
    recipe = recipe_for(proxy)
    keeper = ChunkKeeper(proxy, proxy.depth, "en")
    readers = ChunkModels(KeyEncoder(proxy, recipe), None, ["word1?"], keeper)
    settings = IndexSettings(keys=recipe.as_json(), kv={"model": "tiny"})
    with (
        mock.patch.object(segment_search, "AUTO_KEYS", 100),
        create_index(home, settings, readers) as writer,
    ):
        writer.put(make_documents(12))
        writer.finish()
    with open_writer(home, readers) as writer:
        writer.put(make_documents(16, seed=1)[12:])
        writer.delete(["d3"])
    return proxy


def index(folder: Path, times: int, draw: random.Random) -> FaultOutcome:
    """An index with keys."""
    home = folder / "index"
    proxy = index_with_keys(home)

    def search() -> list[tuple[str, str, float]]:
        hits = CorpusIndex.open(home, proxy=proxy).search(QUESTION, 50)
        return [(hit.id, hit.text, hit.score) for hit in hits]

    expected = search()

    def holds(file: Path) -> bool:
        try:
            named = any(file.name in fault for fault in CorpusIndex.open(home).verify())
        except (BadIndex, BadInput) as error:
            named = file.name in str(error)
        try:
            return named and search() == expected
        except (BadIndex, BadInput):
            return named

    files = [path for path in sorted(home.rglob("*")) if path.is_file() and path.name != "lock"]
    return damage_files(files, times, draw, holds)


def cache(folder: Path, times: int, draw: random.Random) -> FaultOutcome:
    """Kept passages: a damaged entry is named, dropped and read anew."""
    fill_folder(folder)
    files = sorted(folder.rglob("*.safetensors"))

    def holds(file: Path) -> bool:
        kept = PassageCache(folder=folder)
        named = [fault.file for fault in kept.verify()] == [file]
        return named and kept.get(file.stem, 1) is None and not file.exists()

    return damage_files(files, times, draw, holds)


def probe(folder: Path, times: int, draw: random.Random) -> FaultOutcome:
    """The weights of a probe. Its card has no checksum: see tests/chaos/test_parsers.py."""
    path = folder / "sentinel.m.safetensors"
    LinearProbe(WEIGHTS, CARD).save(path)

    def holds(_: Path) -> bool:
        try:
            LinearProbe.load(path)
        except BadModelFile:
            return True
        return False

    return damage_files([path], times, draw, holds)
