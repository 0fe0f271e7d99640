"""Every method on scripted signals: what the laws are tried on.

A file in `compressors/methods/` is built with its defaults over a scripted proxy, whatever its name.
`VARIANTS` has the methods that need a probe or a head profile, and other forms of methods.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.features.words import HOP_FEATURES, WORD_FEATURES
from tamis.compressors.method import Scorer
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.embedding import Embedding
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.raw_attention import RawAttention
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.registry import method_class, method_info, method_names
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.probes.scripted import Scripted
from tamis.probes.segmentation.terms import words
from tests.laws.texts import NEEDLE

LAYERS, HEADS = 4, 2
CHUNK_TOKENS = 4096
SIZE = 64


class ScriptedEncoder:
    """An encoder without a model: hashed bags of words, as unit vectors; keeps what it reads."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `[T, SIZE]`; the same text has the same vector, always."""
        self.seen += texts
        return torch.nn.functional.normalize(torch.stack([_bag(text) for text in texts]), dim=-1)


def _bag(text: str) -> Tensor:
    """How often each of `SIZE` classes of words occurs; never all zero."""
    bag = torch.full((SIZE,), 1e-3)
    for word in words(text):
        bag[hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[0] % SIZE] += 1
    return bag


@dataclass(frozen=True, slots=True)
class Built:
    """A scorer and the models behind it."""

    scorer: Scorer
    models: tuple[Any, ...] = ()

    @property
    def calls(self) -> int:
        """How many prompts or texts its models have read."""
        return sum(len(model.seen) for model in self.models)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to build a method, and the laws that its kind must keep beside those for all.

    Attributes:
        alone: a unit's score depends on the question and its own passage alone.
        looks: it follows the script, so it must find what the script points at.
    """

    method: str
    make: Callable[[], Built]
    alone: bool = False
    looks: bool = False


def scripted() -> Scripted:
    """A reader that looks at the needle."""
    return Scripted.pointing_at(NEEDLE, layers=LAYERS, heads=HEADS)


def probe_for(
    reader: Any, method: str, weights: Mapping[str, Any], template: str | None = None
) -> LinearProbe:
    """A probe with these weights that fits the reader."""
    card = ProbeCard(
        method,
        reader.card.name,
        reader.card.revision,
        template or reader.layout.template.name,
        reader.card.layers,
        reader.card.heads,
        ("question_mean",),
    )
    return LinearProbe({name: torch.as_tensor(w).float() for name, w in weights.items()}, card)


def question_probe(reader: Any, seed: int = 0) -> LinearProbe:
    """Heads weigh more than words and the second step nudges: all parts act, the script decides."""
    draw = torch.Generator().manual_seed(seed)
    heads = 2 * reader.card.layers * reader.card.heads

    def small(size: int) -> Tensor:
        return 0.02 * torch.randn(size, generator=draw)

    look = 0.5 + torch.rand(heads, generator=draw)
    weights = {
        "first": torch.cat([look / heads, small(len(WORD_FEATURES))]),
        "hop": torch.cat([torch.ones(1), small(len(HOP_FEATURES) - 1)]),
        "calibration": [0.7, 0.1, -0.2, 0.3],
        "alone": torch.cat([look / heads, small(1)]),
        # the request's best and sum would let one passage move another's score
        "alone_calibration": [0.8, 0.0, 0.0, 0.2],
    }
    return probe_for(reader, "question_rows", weights)


def sentinel_probe(reader: Any) -> LinearProbe:
    """Every head counts the same."""
    weights = {"head": torch.ones(reader.card.layers * reader.card.heads), "bias": [-1.0]}
    return probe_for(reader, "sentinel", weights, "sentinel")


def _rows(trained: bool = True, isolated: bool = False) -> Built:
    reader = scripted()
    probe = question_probe(reader) if trained else None
    return Built(QuestionRows(reader, probe, isolated), (reader,))


def _sentinel() -> Built:
    reader = scripted()
    # one chunk for most contexts: shares are rescaled chunk by chunk, as published, so that in a
    # short last chunk any sentence stands out beside a needle in a full one
    return Built(Sentinel(reader, sentinel_probe(reader), CHUNK_TOKENS), (reader,))


def _embedding() -> Built:
    encoder = ScriptedEncoder()
    return Built(Embedding(encoder), (encoder,))


def _fusion() -> Built:
    built = {"attention": _rows(), "lexical": Built(Lexical()), "embedding": _embedding()}
    parts = {name: part.scorer for name, part in built.items()}
    models = tuple(model for part in built.values() for model in part.models)
    return Built(Fusion(parts, {"attention": 2.0}), models)


def head_profile(reader: Any, by: str = "needle") -> HeadProfile:
    """Later heads score higher, as they do follow the script closer."""
    card, template = reader.card, reader.layout.template.name
    scores = tuple(
        tuple(float(layer * card.heads + head) for head in range(card.heads))
        for layer in range(card.layers)
    )
    return HeadProfile(
        card.name, card.revision, template, card.layers, card.heads, by, scores, cases=1
    )


def _reading(make: Callable[[Scripted], Scorer]) -> Callable[[], Built]:
    """A method over the scripted reader, nothing else to build."""

    def build() -> Built:
        reader = scripted()
        return Built(make(reader), (reader,))

    return build


VARIANTS = {
    "question_rows": Way("question_rows", _rows, looks=True),
    "question_rows untrained": Way("question_rows", lambda: _rows(trained=False), True, True),
    "question_rows isolated": Way("question_rows", lambda: _rows(isolated=True), True, True),
    "sentinel": Way("sentinel", _sentinel, looks=True),
    "raw_attention": Way(
        "raw_attention", _reading(lambda r: RawAttention(r, window_tokens=CHUNK_TOKENS)), looks=True
    ),
    "ehpc": Way("ehpc", _reading(lambda r: EHPC(r, head_profile(r))), True, True),
    "ehpc by token": Way(
        "ehpc",
        _reading(lambda r: EHPC(r, head_profile(r), form="token")),
        True,
        True,
    ),
    "ehpc together": Way(
        "ehpc",
        _reading(lambda r: EHPC(r, head_profile(r), together=True, window_tokens=CHUNK_TOKENS)),
        looks=True,
    ),
    "infiniretri": Way(
        "infiniretri", _reading(lambda r: InfiniRetri(r, window_tokens=CHUNK_TOKENS)), looks=True
    ),
    "infiniretri independent": Way(
        "infiniretri",
        _reading(lambda r: InfiniRetri(r, "independent", window_tokens=CHUNK_TOKENS)),
        looks=True,
    ),
    "fusion": Way("fusion", _fusion, looks=True),
    "embedding": Way("embedding", _embedding, alone=True),
    "lexical": Way("lexical", lambda: Built(Lexical())),
    "lead": Way("lead", lambda: Built(Lead()), alone=True),
}


@dataclass(frozen=True, slots=True)
class ScriptedModels:
    """Scripted models for methods that are built by their class alone; keeps those it gave out."""

    given: list[Any]
    proxy_name: str = "scripted"

    def reader(self, layers: int | None) -> Any:
        """A reader that looks at the needle, whole."""
        self.given.append(scripted())
        return self.given[-1]

    def encoder(self) -> Any:
        """Hashed bags of words."""
        self.given.append(ScriptedEncoder())
        return self.given[-1]


def _by_name(name: str) -> Built:
    models = ScriptedModels([])
    scorer = method_class(name).build(models, {})
    return Built(scorer, tuple(models.given))


WAYS = {
    name: Way(name, partial(_by_name, name), looks=method_info(name).needs_proxy)
    for name in method_names()
} | VARIANTS
"""A method that reads with the proxy must find what the script points at."""
ALONE = [name for name, way in WAYS.items() if way.alone]
LOOKING = [name for name, way in WAYS.items() if way.looks]


@cache
def built(way: str) -> Built:
    """A method, built once for all laws."""
    return WAYS[way].make()
