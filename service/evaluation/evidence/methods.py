"""Many methods over the same records, each model asked once for all of them.

question, passages, units ─► question_rows  (reading on disk) ─┐
                          ─► embedding (vectors in memory) ────┼─► fusion
                          ─► lexical ──────────────────────────┴─► bm25+minilm
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tamis.compressors import registry
from tamis.compressors.method import ReadingScorer
from tamis.compressors.methods.fusion import WEIGHTS, fuse_scores
from tamis.probes.errors import BadInput
from tamis.probes.hub import zoo
from tamis.probes.kv_cache.cache import CachedReader
from tamis.probes.text import Passage, Unit
from tamis.service.datasets.case_readings import Looks, keeping
from tamis.service.datasets.score_sources import (
    Filed,
    Remembered,
    Seen,
    Source,
    Stored,
    Timed,
    Vectors,
)
from tamis.service.training.probe import look_key

BLENDS = {
    "fusion": {
        "question_rows": WEIGHTS["attention"],
        "lexical": WEIGHTS["lexical"],
        "embedding": WEIGHTS["embedding"],
    },
    "bm25+minilm": {"lexical": 1.0, "embedding": 1.0},
}
"""Methods made of others' scores, with the weight of each; all else is a method of compressors/,
maybe with options, as `infiniretri:form=independent:heads=16`."""


class Panel:
    """The methods of a table, in its order."""

    def __init__(self, names: Sequence[str], sources: Mapping[str, Source]) -> None:
        """Names may be of `BLENDS`; `sources` has every other one, and the parts of the blends."""
        self.names, self.sources = tuple(dict.fromkeys(names)), dict(sources)

    def see(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> dict[str, Seen]:
        """Every method's scores of one case; no source is asked twice."""
        seen = {name: s.see(question, passages, units) for name, s in self.sources.items()}
        return {
            name: blended(seen, BLENDS[name], passages, units) if name in BLENDS else seen[name]
            for name in self.names
        }


def blended(
    seen: Mapping[str, Seen],
    weights: Mapping[str, float],
    passages: Sequence[Passage],
    units: Sequence[Unit],
) -> Seen:
    """Scores of some methods as one, fused as `Fusion` does."""
    parts = {name: seen[name] for name in weights}
    total = fuse_scores({name: part.scores for name, part in parts.items()}, weights, passages, units)
    return Seen(
        total,
        sum(part.ms for part in parts.values()),
        any(part.cached for part in parts.values()),
    )


def sources_of(names: Sequence[str]) -> list[str]:
    """The methods that have to be built for these, parts of blends included, each once.

    Raises:
        UnknownMethod: neither a blend nor a method. BadInput: a method of another kind, or an
            option that it does not have.
    """
    parts = [part for name in names for part in BLENDS.get(name, (name,))]
    for part in parts:
        name, options = spec(part)
        registry.check_options(name, options)
        if (kind := registry.method_info(name).kind) != "compression":
            raise BadInput(f"{name} is a method of {kind}; it scores no sentences to keep")
    return list(dict.fromkeys(parts))


def spec(given: str) -> tuple[str, dict[str, Any]]:
    """`name:option=value:…` as a method's name and its options; values are JSON, else text.

    Raises:
        BadInput: an option without a value.
    """
    name, *words = given.split(":")
    options: dict[str, Any] = {}
    for word in words:
        option, sign, value = word.partition("=")
        if not sign:
            raise BadInput(f"{given!r} has {word!r}; write {name}:option=value")
        try:
            options[option] = json.loads(value)
        except ValueError:
            options[option] = value
    return name, options


@dataclass(frozen=True, slots=True)
class Models:
    """What the methods were built over, for the record."""

    proxies: tuple[dict[str, Any], ...]
    panel: Panel


def assemble(names: Sequence[str], proxy: str, folder: Path) -> Models:
    """Builds the methods; each loads only as many layers as it reads.

    Args:
        proxy: a zoo name or a folder.
        folder: where readings are kept between runs.

    Raises:
        UnknownMethod: no such method. ProxyMissing: a model is not on this machine.
    """

    parts = {name: spec(name) for name in sources_of(names)}
    depths = {
        registry.layers_needed(method, proxy, **options)
        for method, options in parts.values()
        if registry.method_info(method).needs == "proxy"
    }

    @cache
    def reader(layers: int | None) -> CachedReader:
        return keeping(registry.load_proxy(proxy, layers), len(depths))

    sources: dict[str, Source] = {}
    proxies: dict[int, dict[str, Any]] = {}
    for name, (method, options) in parts.items():
        needs = registry.method_info(method).needs
        if needs == "proxy":
            made = reader(registry.layers_needed(method, proxy, **options))
            built = registry.build_method(method, proxy=made, **options)
            sources[name] = _read(built, folder)
            proxies[id(made)] = facts_of(made)
        elif needs == "encoder":
            sources[name] = _embedded(name, folder)
        else:
            sources[name] = Timed(registry.build_method(method, **options))
    return Models(tuple(proxies.values()), Panel(names, sources))


def _read(method: Any, folder: Path) -> Source:
    """A method over a proxy: what it saw is kept on disk, or what it said if it is one step."""
    if not isinstance(method, ReadingScorer):
        return Filed(Timed(method), folder, f"scores {look_key(method)}")
    return Stored(method, Looks(folder, look_key(method)))


def _embedded(name: str, folder: Path) -> Source:
    """A method over the encoder: texts of other cases are not encoded again, nor is a case."""
    scorer: Any = registry.build_method(name)
    vectors = scorer.encoder = Vectors(scorer.encoder)
    encoder = registry.DEFAULT_ENCODER
    key = f"{name} {encoder} {zoo.ZOO[encoder].revision}"
    return Filed(Remembered(scorer, vectors), folder, key)


def facts_of(reader: CachedReader) -> dict[str, Any]:
    """A proxy as JSON: a figure means nothing without it."""
    proxy = reader.proxy
    return {
        "name": proxy.card.name,
        "revision": proxy.card.revision,
        "layers": proxy.depth,
        "dtype": str(proxy.dtype).removeprefix("torch."),
        "device": proxy.device.type,
        "template": proxy.layout.template.name,
    }
