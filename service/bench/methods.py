"""Many methods over the same records, each model asked once for all of them.

question, passages, units ─► question_rows  (reading on disk) ─┐
                          ─► embedding (vectors in memory) ────┼─► fusion
                          ─► lexical ──────────────────────────┴─► bm25+minilm
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tamis.compressors import _registry as registry
from tamis.compressors.fusion import fused
from tamis.probes import zoo
from tamis.probes.text import Passage, Unit
from tamis.service.bench.looks import Keeping, Looks
from tamis.service.bench.sources import Filed, Remembered, Seen, Source, Stored, Timed, Vectors
from tamis.service.training import look_key

BLENDS = {
    "fusion": ("question_rows", "lexical", "embedding"),
    "bm25+minilm": ("lexical", "embedding"),
}
"""Methods made of others' scores, every weight 1; all else is a method of compressors/."""


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
            name: blended([seen[part] for part in BLENDS[name]], passages, units)
            if name in BLENDS
            else seen[name]
            for name in self.names
        }


def blended(parts: Sequence[Seen], passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
    """Scores fused with weights of 1, as `Fusion` does unless told otherwise."""
    scores = {str(i): part.scores for i, part in enumerate(parts)}
    total = fused(scores, dict.fromkeys(scores, 1.0), passages, units)
    return Seen(total, sum(part.ms for part in parts), any(part.cached for part in parts))


def sources_of(names: Sequence[str]) -> list[str]:
    """The methods that have to be built for these, parts of blends included, each once.

    Raises:
        UnknownMethod: neither a blend nor a method.
    """
    parts = [part for name in names for part in BLENDS.get(name, (name,))]
    for part in parts:
        registry.method_class(part)
    return list(dict.fromkeys(parts))


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

    @cache
    def reader(layers: int | None) -> Keeping:
        return Keeping(registry.load_proxy(proxy, layers))

    sources: dict[str, Source] = {}
    proxies: dict[int, dict[str, Any]] = {}
    for name in sources_of(names):
        needs = registry.info(name).needs
        if needs == "proxy":
            keeping = reader(registry.depth(name, proxy))
            sources[name] = _read(registry.build(name, proxy=keeping), keeping, folder)
            proxies[id(keeping)] = _facts(keeping)
        elif needs == "encoder":
            sources[name] = _embedded(name, folder)
        else:
            sources[name] = Timed(registry.build(name))
    return Models(tuple(proxies.values()), Panel(names, sources))


def _read(method: Any, keeping: Keeping, folder: Path) -> Source:
    """A method over a proxy; its readings are stored if it looks and judges apart."""
    if not hasattr(method, "look") or not hasattr(method, "judge"):
        return Timed(method)
    return Stored(method, Looks(folder, look_key(method)))


def _embedded(name: str, folder: Path) -> Source:
    """A method over the encoder: texts of other cases are not encoded again, nor is a case."""
    scorer: Any = registry.build(name)
    vectors = scorer.encoder = Vectors(scorer.encoder)
    encoder = registry.DEFAULT_ENCODER
    key = f"{name} {encoder} {zoo.ZOO[encoder].revision}"
    return Filed(Remembered(scorer, vectors), folder, key)


def _facts(keeping: Keeping) -> dict[str, Any]:
    """A proxy as JSON: a figure means nothing without it."""
    proxy = keeping.proxy
    return {
        "name": proxy.card.name,
        "revision": proxy.card.revision,
        "layers": proxy.depth,
        "dtype": str(proxy.dtype).removeprefix("torch."),
        "device": proxy.device.type,
        "template": proxy.layout.template.name,
    }
