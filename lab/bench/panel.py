"""Several methods over the same records; each model runs once a case for all of them.

question, passages, units ─► question_rows  (reading on disk) ─┐
                          ─► embedding (vectors in memory) ────┼─► fusion
                          ─► lexical ──────────────────────────┴─► bm25+minilm
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tamis.compressors import registry
from tamis.compressors.method import check_scores
from tamis.compressors.methods.fusion import UNIT_WEIGHTS, fuse_scores
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader
from tamis.service.cli.options.typer_options import parse_value
from tamis.text.types import Passage, Unit
from tamis_lab.datasets.reading_store import (
    CaseReadings,
    ReadingScorer,
    StoreKey,
    cached_reader,
    code_sha256,
    store_key,
)
from tamis_lab.datasets.score_sources import (
    ScoreSource,
    StoredSource,
    TimedScores,
    TimedSource,
    TwoStepSource,
    encoder_source,
)

BLENDS = {
    "fusion": {
        "question_rows": UNIT_WEIGHTS["attention"],
        "lexical": UNIT_WEIGHTS["lexical"],
        "embedding": UNIT_WEIGHTS["embedding"],
    },
    "bm25+minilm": {"lexical": 1.0, "embedding": 1.0},
}
"""Methods whose scores are a weighted sum of other methods' scores. Any other name is a method of
`compressors.methods`, with options where wanted: `infiniretri:form=independent:heads=16`."""


class Panel:
    """The methods of a table, in the order of its rows."""

    def __init__(self, names: Sequence[str], sources: Mapping[str, ScoreSource]) -> None:
        """Names may be those of `BLENDS`; `sources` has the other names and the blends' parts."""
        self.names, self.sources = tuple(dict.fromkeys(names)), dict(sources)

    def source(self, name: str) -> ScoreSource:
        """A row of the table as a source."""
        if name not in BLENDS:
            return self.sources[name]
        return BlendSource({part: self.sources[part] for part in BLENDS[name]}, BLENDS[name])

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> dict[str, TimedScores]:
        """Every method's scores of one case; each source scores it once."""
        scored = {name: s.score_case(question, passages, units) for name, s in self.sources.items()}
        return {
            name: blend_scores(scored, BLENDS[name], passages, units)
            if name in BLENDS
            else scored[name]
            for name in self.names
        }


@dataclass(frozen=True, slots=True)
class BlendSource:
    """The weighted sum of some sources' scores."""

    sources: Mapping[str, ScoreSource]
    weights: Mapping[str, float]

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """Each source scores the case, and their scores are summed."""
        scored = {
            name: source.score_case(question, passages, units)
            for name, source in self.sources.items()
        }
        return blend_scores(scored, self.weights, passages, units)


def blend_scores(
    scored: Mapping[str, TimedScores],
    weights: Mapping[str, float],
    passages: Sequence[Passage],
    units: Sequence[Unit],
) -> TimedScores:
    """The weighted sum of some methods' scores, fused as `Fusion` fuses them."""
    parts = {name: scored[name] for name in weights}
    total = fuse_scores(
        {name: part.scores for name, part in parts.items()}, weights, passages, units
    )
    return TimedScores(
        total,
        sum(part.ms for part in parts.values()),
        any(part.cached for part in parts.values()),
    )


def source_names(names: Sequence[str]) -> list[str]:
    """The methods that must be built for these names, parts of blends included, each once.

    Raises:
        UnknownMethod: neither a blend nor a method. BadInput: a method of another kind, or an
            option that it does not have.
    """
    parts = [part for name in names for part in BLENDS.get(name, (name,))]
    for part in parts:
        name, options = parse_method_spec(part)
        registry.check_options(name, options)
        check_scores(registry.method_info(name), name)
    return list(dict.fromkeys(parts))


def code_hashes(names: Sequence[str]) -> dict[str, str]:
    """The SHA-256 of the file of every method that these names need, by the method's name."""
    blends = ["fusion"] if set(names) & set(BLENDS) else []
    used = sorted({parse_method_spec(part)[0] for part in [*source_names(names), *blends]})
    return {one: code_sha256(registry.method_class(one)) for one in used}


def parse_method_spec(spec: str) -> tuple[str, dict[str, Any]]:
    """The method's name and options in `name:option=value:…`; values are JSON, else text.

    Raises:
        BadInput: an option without a value.
    """
    name, *words = spec.split(":")
    options: dict[str, Any] = {}
    for word in words:
        option, sign, value = word.partition("=")
        if not sign:
            raise BadInput(f"{spec!r} has {word!r}; write {name}:option=value")
        options[option] = parse_value(value)
    return name, options


@dataclass(frozen=True, slots=True)
class BuiltPanel:
    """A panel, and facts about the proxies its methods read with, as `proxy_facts` gives them."""

    proxies: tuple[dict[str, Any], ...]
    panel: Panel


def build_panel(names: Sequence[str], proxy: str, folder: Path) -> BuiltPanel:
    """Builds methods and blends; each method loads only as many layers as it reads.

    Args:
        proxy: a zoo name or a folder.
        folder: where readings are kept between runs.

    Raises:
        UnknownMethod: no such method. ProxyMissing: a model is not on this machine.
    """
    parts = {name: parse_method_spec(name) for name in source_names(names)}
    depths = {
        registry.layers_needed(method, proxy, **options)
        for method, options in parts.values()
        if registry.method_info(method).needs_proxy
    }

    @cache
    def reader(layers: int | None) -> CachedReader:
        return cached_reader(registry.load_proxy(proxy, layers), len(depths))

    sources: dict[str, ScoreSource] = {}
    proxies: dict[int, dict[str, Any]] = {}
    for name, (method, options) in parts.items():
        info = registry.method_info(method)
        if info.needs_proxy:
            cached = reader(registry.layers_needed(method, proxy, **options))
            encoder = registry.DEFAULT_ENCODER
            built = registry.build_method(method, proxy=cached, encoder=encoder, **options)
            sources[name] = _proxy_source(built, cached, options, folder)
            proxies[id(cached)] = proxy_facts(cached)
        elif info.needs_encoder:
            kept_as = f"{name} {code_sha256(registry.method_class(method))}"
            sources[name] = encoder_source(folder, kept_as, method, **options)
        else:
            sources[name] = TimedSource(registry.build_method(method, **options))
    return BuiltPanel(tuple(proxies.values()), Panel(names, sources))


def _proxy_source(
    method: Any, reader: CachedReader, options: Mapping[str, Any], folder: Path
) -> ScoreSource:
    """A method over a proxy: its readings are kept on disk, or its scores if it has one step.

    Scores that an encoder has a part in are not kept: they also depend on whether it is installed.
    """
    if isinstance(method, ReadingScorer):
        return TwoStepSource(method, CaseReadings(folder, store_key(method)))
    if method.info.needs_encoder:
        return TimedSource(method)
    key = StoreKey.of_reader("scores", reader, _describe_options(type(method), options))
    return StoredSource(TimedSource(method), folder, key)


def _describe_options(method: type, options: Mapping[str, Any]) -> str:
    """A method's name, its code, and the values of all its options, defaults included."""
    parameters = inspect.signature(method).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    return f"{method.__name__} {code_sha256(method)} {defaults | dict(options)}"


def proxy_facts(reader: CachedReader) -> dict[str, Any]:
    """What identifies a proxy, as JSON, to be printed beside figures."""
    proxy = reader.proxy
    return {
        "name": proxy.card.name,
        "revision": proxy.card.revision,
        "layers": proxy.depth,
        "dtype": proxy.arithmetic.removeprefix("torch."),
        "device": proxy.device.type,
        "template": proxy.layout.template.name,
    }
