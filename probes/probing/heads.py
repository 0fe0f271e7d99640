"""Profiles of attention heads: one score per head, how it was computed, and how stable it is.

    needle    mass on the needle       EHPC, arXiv 2501.12959, §3 (pilot experiment)
    copy      tokens copied            retrieval heads, Wu et al., arXiv 2404.15574, §2
    contrast  gold against distractors CoRe heads, arXiv 2510.02219, §3
    qr        calibrated mass on gold  QRHead, arXiv 2506.09944, §3
    probe     weights of a linear probe fitted on labelled sentences

`head_scores` computes them from signals; `tamis lab heads find` reads the signals.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from tamis.probes.atomic_file import atomic_path
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch

FORMAT = 1
SHIPPED_FOLDER = Path(__file__).parent / "profiles"


def shipped_file(name: str, model: str, folder: Path = SHIPPED_FOLDER) -> Path:
    """The path of a model's shipped profile, whether or not it exists."""
    return folder / f"{name}.{model.replace('/', '--')}.json"


def write_profile(path: Path, kind: str, facts: Mapping[str, Any]) -> None:
    """Writes a profile atomically.

    Raises:
        BadInput: the file cannot be written.
    """
    try:
        with atomic_path(path) as temporary:
            text = json.dumps({"format": FORMAT, "kind": kind, **facts}) + "\n"
            temporary.write_text(text, "utf8")
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"{path} cannot be written ({reason}); name another file") from error


def read_profile(path: Path, kind: str) -> dict[str, Any]:
    """The content of a profile, without kind and format.

    Raises:
        BadModelFile: no such file, not JSON, of another kind or format.
    """
    try:
        found = json.loads(path.read_text("utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read as a profile: {error}") from error
    if not isinstance(found, dict) or found.get("kind") != kind:
        raise BadModelFile(f"{path} is no {kind} profile; make one with tamis lab heads")
    if found.get("format") != FORMAT:
        raise BadModelFile(
            f"{path} has format {found.get('format')} and this tamis reads {FORMAT}; "
            "make it again with tamis lab heads"
        )
    return {name: value for name, value in found.items() if name not in ("format", "kind")}


HeadScoring = str
"""One of `HEAD_SCORINGS`, or the name of another way to find heads."""
HEAD_SCORINGS: tuple[HeadScoring, ...] = ("needle", "copy", "contrast", "qr", "probe")
Head = tuple[int, int]
"""Layer and query head, counted from 0."""


@dataclass(frozen=True, slots=True)
class HeadProfile:
    """One score for each head of one model, read with one template.

    Attributes:
        model, revision, template: of the proxy that was read; the profile is valid for no other.
        layers, heads: of the whole model.
        by: how heads were scored.
        scores: `[L][H]`, higher is better; 0 for layers that were not read.
        cases: the number of questions that scores are averaged over.
        stability: for each k, the mean Jaccard overlap of the best k heads with those of resampled
            cases.
        data: per data file its name, SHA-256 and number of cases.
        settings: everything else that the scores depend on.
    """

    model: str
    revision: str
    template: str
    layers: int
    heads: int
    by: HeadScoring
    scores: tuple[tuple[float, ...], ...]
    cases: int = 0
    stability: Mapping[str, float] = field(default_factory=dict)
    data: tuple[Mapping[str, Any], ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = {len(row) for row in self.scores}
        if len(self.scores) != self.layers or shape != {self.heads}:
            raise BadInput(
                f"scores are {len(self.scores)} rows of {sorted(shape)} and the model has "
                f"{self.layers} layers of {self.heads} heads; give one score a head"
            )
        if not all(math.isfinite(value) for row in self.scores for value in row):
            raise BadInput("a head's score is not finite; give a number each")

    def best(self, k: int) -> tuple[Head, ...]:
        """The k heads with the highest scores, best first; ties go to shallower layers.

        Raises:
            BadInput: the model has fewer than k heads, or k is below 1.
        """
        self._check_k(k, self.layers * self.heads)
        every = [(layer, head) for layer in range(self.layers) for head in range(self.heads)]
        return tuple(sorted(every, key=lambda at: (-self.scores[at[0]][at[1]], at))[:k])

    def best_layer(self) -> int:
        """The layer with the highest sum of scores: EHPC's evaluator layer."""
        sums = [math.fsum(row) for row in self.scores]
        return max(range(self.layers), key=lambda layer: (sums[layer], -layer))

    def best_heads_of_one_layer(self, k: int) -> tuple[Head, ...]:
        """The best k heads of the best layer, best first: EHPC's evaluator heads.

        Raises:
            BadInput: a layer has fewer than k heads, or k is below 1.
        """
        self._check_k(k, self.heads)
        layer = self.best_layer()
        row = self.scores[layer]
        return tuple((layer, h) for h in sorted(range(self.heads), key=lambda h: (-row[h], h))[:k])

    def stability_of(self, k: int) -> float:
        """The stability of the best k heads: that of the next size measured; 1 where none was."""
        sizes = sorted(map(int, self.stability))
        at = next((size for size in sizes if size >= k), max(sizes, default=0))
        return self.stability.get(str(at), 1.0)

    def check(self, card: ModelCard, template: str) -> None:
        """Checks that the profile is valid for a model and template.

        Raises:
            ProbeMismatch: it is not; the message names both and the command for a new profile.
        """
        mine = (self.model, self.revision, self.template)
        given = (card.name, card.revision, template)
        if mine != given:
            raise ProbeMismatch(
                f"the {self.by} profile is of {' / '.join(mine)} and the proxy is "
                f"{' / '.join(given)}; make one: tamis lab heads find --by {self.by} "
                f"--proxy {card.name} --data FILE --out FILE"
            )

    def save(self, path: Path | str) -> None:
        """Writes the profile as JSON.

        Raises:
            BadInput: the file cannot be written.
        """
        write_profile(Path(path), "heads", asdict(self))

    @classmethod
    def load(cls, path: Path | str) -> HeadProfile:
        """Reads a profile.

        Raises:
            BadModelFile: the file is missing or damaged.
        """
        facts = read_profile(Path(path), "heads")
        known = {f.name for f in fields(cls)}
        try:
            facts["scores"] = tuple(tuple(map(float, row)) for row in facts["scores"])
            facts["data"] = tuple(facts.get("data", ()))
            return cls(**{name: value for name, value in facts.items() if name in known})
        except (KeyError, TypeError, ValueError) as error:
            raise BadModelFile(f"{path} is no whole profile of heads: {error}") from error

    @classmethod
    def load_shipped(cls, by: HeadScoring, model: str) -> HeadProfile:
        """The profile that ships with tamis.

        Raises:
            BadInput: none ships for this scoring and model; the message names the command.
        """
        return _load_shipped(by, model)

    @staticmethod
    def is_shipped(by: HeadScoring, model: str) -> bool:
        """Whether a profile of this scoring and model ships with tamis."""
        return shipped_file(by, model).is_file()

    def _check_k(self, k: int, max_k: int) -> None:
        if not 1 <= k <= max_k:
            raise BadInput(f"{k} heads are wanted of {max_k}; give 1 to {max_k}")


@lru_cache(maxsize=32)
def _load_shipped(by: HeadScoring, model: str) -> HeadProfile:
    path = shipped_file(by, model)
    if not path.is_file():
        raise BadInput(
            f"no {by} profile of {model} ships with tamis; make one: "
            f"tamis lab heads find --by {by} --proxy {model} --data FILE --out FILE"
        )
    return HeadProfile.load(path)


def choose_profile(given: HeadProfile | Path | str, by: HeadScoring, model: str) -> HeadProfile:
    """The given profile, or the one at the given path, or for `auto` the one that ships.

    Raises:
        BadInput: none ships.
        BadModelFile: the file is missing or damaged.
    """
    if isinstance(given, HeadProfile):
        return given
    return HeadProfile.load_shipped(by, model) if given == "auto" else HeadProfile.load(given)
