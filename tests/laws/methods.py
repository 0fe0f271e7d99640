"""Every method over scripted models: the subjects of the laws.

Each file in `compressors/methods/` is built with its defaults over a scripted proxy, whatever its
name and kind. `OWN_VARIANTS` has the methods that need a probe or a profile, and further forms.
Another package's methods take their place by `use_methods`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, get_args

import torch
from torch import Tensor

from tamis.compressors.features.second_step import (
    ENCODER,
    LINKS,
)
from tamis.compressors.features.words import HOP_FEATURES, WORD_FEATURES
from tamis.compressors.method import MethodKind as Kind
from tamis.compressors.method import Orderer, Ranker, Scorer
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.embedding import Embedding
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.registry import METHODS, method_class, method_info
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.text.terms import words
from tests.laws.texts import NEEDLE
from tests.scripted import ScriptedReader

LAYERS, HEADS = 4, 2
LEVELS, REQUEST_FEATURES, ENCODER_REQUEST_FEATURES = 8, 13, 2
CHUNK_TOKENS = 4096
SIZE = 64


class ScriptedEncoder:
    """An encoder without a model: hashed bags of words, as unit vectors; records what it reads."""

    def __init__(self) -> None:
        self.read_log: list[str] = []

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors `[T, SIZE]`; the same text has the same vector, always."""
        self.read_log += texts
        return torch.nn.functional.normalize(
            torch.stack([_bag_of_words(text) for text in texts]), dim=-1
        )

    def question_states(self, question: str) -> tuple[Tensor, Tensor]:
        """The vector of a question `[D]`, and the same as its one token `[1, D]`."""
        (vector,) = self.encode([question])
        return vector, vector[None]

    def document_states(self, texts: Sequence[str]) -> list[list[tuple[Tensor, Tensor]]]:
        """Likewise of each text, which is one window."""
        return [[(vector, vector[None].half())] for vector in self.encode(texts)] if texts else []


class ScriptedCrossEncoder:
    """A cross-encoder without a model: the cosine of bags of words; records what it reads."""

    def __init__(self) -> None:
        self.read_log: list[str] = []

    def score(self, question: str, texts: Sequence[str]) -> Tensor:
        """The log odds of each text, `[N]`."""
        self.read_log += texts
        asked = _bag_of_words(question)
        alike = [torch.cosine_similarity(_bag_of_words(text), asked, 0) for text in texts]
        return torch.tensor(alike)


def _bag_of_words(text: str) -> Tensor:
    """How often each of `SIZE` classes of words occurs; never all zero."""
    bag = torch.full((SIZE,), 1e-3)
    for word in words(text):
        bag[hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()[0] % SIZE] += 1
    return bag


@dataclass(frozen=True, slots=True)
class BuiltMethod:
    """A scorer and the models behind it."""

    scorer: Scorer
    models: tuple[Any, ...] = ()

    @property
    def calls(self) -> int:
        """How many prompts or texts its models have read."""
        return sum(len(model.read_log) for model in self.models)


@dataclass(frozen=True, slots=True)
class MethodVariant:
    """How to build a method, and which laws it must keep beside those for all.

    Attributes:
        isolated: a unit's score depends on the question and its own passage alone.
        follows_script: it must find what the script points at.
    """

    method: str
    build: Callable[[], BuiltMethod]
    isolated: bool = False
    follows_script: bool = False


def scripted_reader() -> ScriptedReader:
    """A reader that attends to the needle."""
    return ScriptedReader.from_needles(NEEDLE, layers=LAYERS, heads=HEADS)


def make_probe(
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


def question_probe(reader: Any, seed: int = 0, by_links: bool = False) -> LinearProbe:
    """A probe whose heads outweigh its words and second step: all act, and the script decides.

    Args:
        by_links: with the second step that probes had before units were judged by what surrounds
            them.
    """
    draw = torch.Generator().manual_seed(seed)
    heads = 2 * reader.card.layers * reader.card.heads

    def small(size: int) -> Tensor:
        return 0.02 * torch.randn(size, generator=draw)

    head_weights = 0.5 + torch.rand(heads, generator=draw)
    weights = {
        "first": torch.cat([head_weights / heads, small(len(WORD_FEATURES))]),
        "calibration": [0.7, 0.1, -0.2, 0.3],
        "alone": torch.cat([head_weights / heads, small(1)]),
        # the request's best and sum would let one passage move another's score
        "alone_calibration": [0.8, 0.0, 0.0, 0.2],
    }
    if by_links:
        weights["hop"] = torch.cat([torch.ones(1), small(len(HOP_FEATURES) - 1)])
    else:
        weights["single"] = torch.cat([head_weights / heads, small(len(WORD_FEATURES))])
        for prefix, extra in (("", 0), (ENCODER, 1)):
            requests = REQUEST_FEATURES + extra * ENCODER_REQUEST_FEATURES
            weights |= {
                f"{prefix}own": small(3 + extra),
                f"{prefix}links": small(len(LINKS)),
                f"{prefix}levels": small((2 + extra) * LEVELS + 1),
                f"{prefix}gates": small(2 * (requests + 1)).view(2, -1),
                f"{prefix}scale": small(requests + 1),
                f"{prefix}request": torch.stack([torch.zeros(requests), torch.ones(requests)]),
                f"{prefix}calibration": [0.7, 0.1, -0.2, 0.3],
            }
    return make_probe(reader, "question_rows", weights)


def sentinel_probe(reader: Any) -> LinearProbe:
    """A probe in which every head has the same weight."""
    weights = {"head": torch.ones(reader.card.layers * reader.card.heads), "bias": [-1.0]}
    return make_probe(reader, "sentinel", weights, "sentinel")


def _question_rows(
    trained: bool = True, isolated: bool = False, by_links: bool = False, with_encoder: bool = False
) -> BuiltMethod:
    reader = scripted_reader()
    probe = question_probe(reader, by_links=by_links) if trained else None
    models: tuple[Any, ...] = (reader, ScriptedEncoder()) if with_encoder else (reader,)
    return BuiltMethod(QuestionRows(reader, probe, isolated, encoder=(*models, None)[1]), models)


def _sentinel() -> BuiltMethod:
    reader = scripted_reader()
    # one chunk for most contexts: shares are rescaled chunk by chunk, as published, so that in a
    # short last chunk any sentence stands out beside a needle in a full one
    return BuiltMethod(Sentinel(reader, sentinel_probe(reader), CHUNK_TOKENS), (reader,))


def _embedding() -> BuiltMethod:
    encoder = ScriptedEncoder()
    return BuiltMethod(Embedding(encoder), (encoder,))


def _fusion() -> BuiltMethod:
    built = {
        "attention": _question_rows(),
        "lexical": BuiltMethod(Lexical()),
        "embedding": _embedding(),
    }
    parts = {name: part.scorer for name, part in built.items()}
    models = tuple(model for part in built.values() for model in part.models)
    return BuiltMethod(Fusion(parts, {"attention": 2.0}), models)


def head_profile(reader: Any, by: str = "needle") -> HeadProfile:
    """A profile in which later heads score higher, as they follow the script more closely."""
    card, template = reader.card, reader.layout.template.name
    scores = tuple(
        tuple(float(layer * card.heads + head) for head in range(card.heads))
        for layer in range(card.layers)
    )
    return HeadProfile(
        card.name, card.revision, template, card.layers, card.heads, by, scores, cases=1
    )


def over_scripted_reader(make: Callable[[ScriptedReader], Scorer]) -> Callable[[], BuiltMethod]:
    """A method over the scripted reader, nothing else to build."""

    def build() -> BuiltMethod:
        reader = scripted_reader()
        return BuiltMethod(make(reader), (reader,))

    return build


OWN_VARIANTS = {
    "question_rows": MethodVariant("question_rows", _question_rows, follows_script=True),
    "question_rows with an encoder": MethodVariant(
        "question_rows", lambda: _question_rows(with_encoder=True), follows_script=True
    ),
    "question_rows by links": MethodVariant(
        "question_rows", lambda: _question_rows(by_links=True), follows_script=True
    ),
    "question_rows untrained": MethodVariant(
        "question_rows", lambda: _question_rows(trained=False), True, True
    ),
    "question_rows isolated": MethodVariant(
        "question_rows", lambda: _question_rows(isolated=True), True, True
    ),
    "sentinel": MethodVariant("sentinel", _sentinel, follows_script=True),
    "ehpc": MethodVariant(
        "ehpc", over_scripted_reader(lambda r: EHPC(r, head_profile(r))), True, True
    ),
    "ehpc by token": MethodVariant(
        "ehpc",
        over_scripted_reader(lambda r: EHPC(r, head_profile(r), form="token")),
        True,
        True,
    ),
    "ehpc together": MethodVariant(
        "ehpc",
        over_scripted_reader(
            lambda r: EHPC(r, head_profile(r), together=True, window_tokens=CHUNK_TOKENS)
        ),
        follows_script=True,
    ),
    "infiniretri": MethodVariant(
        "infiniretri",
        over_scripted_reader(lambda r: InfiniRetri(r, window_tokens=CHUNK_TOKENS, heads=0)),
        follows_script=True,
    ),
    "infiniretri independent": MethodVariant(
        "infiniretri",
        over_scripted_reader(
            lambda r: InfiniRetri(r, "independent", window_tokens=CHUNK_TOKENS, heads=0)
        ),
        follows_script=True,
    ),
    "fusion": MethodVariant("fusion", _fusion, follows_script=True),
    "embedding": MethodVariant("embedding", _embedding, isolated=True),
    "lexical": MethodVariant("lexical", lambda: BuiltMethod(Lexical())),
    "lead": MethodVariant("lead", lambda: BuiltMethod(Lead()), isolated=True),
}


@dataclass(frozen=True, slots=True)
class ScriptedModels:
    """Scripted models for methods that are built by their class alone; records what it returned."""

    returned: list[Any]
    proxy_name: str = "scripted"

    def reader(self, layers: int | None) -> Any:
        """A reader that attends to the needle, with all its layers."""
        self.returned.append(scripted_reader())
        return self.returned[-1]

    def encoder(self) -> Any:
        """An encoder of hashed bags of words."""
        self.returned.append(ScriptedEncoder())
        return self.returned[-1]

    def rank_encoders(self) -> tuple[Any, ...]:
        """None is installed."""
        return ()

    def cross_encoder(self, name: str) -> Any:
        """One that counts the words of the question in a text."""
        self.returned.append(ScriptedCrossEncoder())
        return self.returned[-1]


def _build_by_class(name: str) -> tuple[Any, tuple[Any, ...]]:
    """A method of any kind with its defaults, and the scripted models that it took."""
    models = ScriptedModels([])
    method = method_class(name).build(models, {})
    return method, tuple(models.returned)


def _build_by_name(name: str) -> BuiltMethod:
    return BuiltMethod(*_build_by_class(name))


VARIANTS: dict[str, MethodVariant] = {}
"""Every method that scores; one that reads with the proxy must find what the script points at."""
ISOLATED_VARIANTS: list[str] = []
SCRIPT_FOLLOWERS: list[str] = []
RANKERS: list[str] = []
"""Every method that ranks passages: those of reranking and, by their `rank`, those that score."""
ORDERERS: list[str] = []
_OWN_RANKERS: dict[str, Callable[[], Ranker]] = {}
_OWN_ORDERERS: dict[str, Callable[[], Orderer]] = {}


def use_methods(
    names: Sequence[str],
    variants: Mapping[str, MethodVariant],
    rankers: Mapping[str, Callable[[], Ranker]] | None = None,
    orderers: Mapping[str, Callable[[], Orderer]] | None = None,
) -> None:
    """Makes some methods the subjects of the laws, in place of all others.

    Args:
        names: of the methods; each is built by its class, unless it has a way of its own below.
        variants, rankers, orderers: ways to build those that need a probe or a profile, and further
            forms.
    """
    of_kind = {kind: [n for n in names if method_info(n).kind == kind] for kind in get_args(Kind)}
    by_class = {
        name: MethodVariant(
            name, partial(_build_by_name, name), follows_script=method_info(name).needs_proxy
        )
        for name in of_kind["compression"]
    }
    for kept, given in (
        (VARIANTS, by_class | dict(variants)),
        (_OWN_RANKERS, rankers or {}),
        (_OWN_ORDERERS, orderers or {}),
    ):
        kept.clear()
        kept.update(given)
    ISOLATED_VARIANTS[:] = [name for name, variant in VARIANTS.items() if variant.isolated]
    SCRIPT_FOLLOWERS[:] = [name for name, variant in VARIANTS.items() if variant.follows_script]
    RANKERS[:] = [*VARIANTS, *dict.fromkeys([*of_kind["reranking"], *_OWN_RANKERS])]
    ORDERERS[:] = list(dict.fromkeys([*of_kind["ordering"], *_OWN_ORDERERS]))


@cache
def build_variant(variant: str) -> BuiltMethod:
    """A method and its models, built once for all laws."""
    return VARIANTS[variant].build()


use_methods(METHODS.own_names(), OWN_VARIANTS)


@cache
def build_ranker(name: str) -> Ranker:
    """A method that ranks passages, built once for all laws."""
    if name in VARIANTS:
        return build_variant(name).scorer
    return _OWN_RANKERS[name]() if name in _OWN_RANKERS else _build_by_class(name)[0]


@cache
def build_orderer(name: str) -> Orderer:
    """A method that orders passages, built once for all laws."""
    return _OWN_ORDERERS[name]() if name in _OWN_ORDERERS else _build_by_class(name)[0]
