"""Which heads of a proxy make the keys of an index, and what is taken off their states.

Imports no model library: an index is opened, and words are searched, without one.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadIndex

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class KeyRecipe:
    """Which heads are looked at, and what is taken off their states.

    Attributes:
        model, revision, template: the proxy it was fitted on.
        heads: (layer, query head), ascending.
        weights: what each head's scores are multiplied with before they are added.
        query_means: per head, `[H, d]`: the mean query of the questions it was fitted on.
        key_means: per head, `[H, d]`: the mean key of their passages.
        fitted_on: in words.
    """

    model: str
    revision: str
    template: str
    heads: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]
    query_means: tuple[tuple[float, ...], ...]
    key_means: tuple[tuple[float, ...], ...]
    fitted_on: str = ""

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers it looks at, ascending; the proxy is not read deeper than the last."""
        return tuple(sorted({layer for layer, _ in self.heads}))

    def as_json(self) -> dict[str, Any]:
        """What the manifest of an index keeps."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> KeyRecipe:
        """The recipe a manifest or a file holds.

        Raises:
            BadIndex: it holds none.
        """
        try:
            frozen = {name: _frozen(value) for name, value in body.items()}
            recipe = cls(**frozen)
            sizes = {len(recipe.heads), len(recipe.weights), len(recipe.query_means)}
            if len(sizes | {len(recipe.key_means)}) != 1 or not recipe.heads:
                raise ValueError("its lists differ in length")
        except (TypeError, ValueError) as error:
            raise BadIndex(f"this is no recipe for keys: {error}") from error
        return recipe


def shipped(model: str) -> KeyRecipe | None:
    """The recipe that comes with tamis for a model; None where there is none."""
    path = RECIPES / f"{model}.json"
    return KeyRecipe.from_json(json.loads(path.read_text("utf8"))) if path.is_file() else None


def _frozen(value: Any) -> Any:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value
