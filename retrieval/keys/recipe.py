"""Recipes: which heads of a proxy give an index its keys, and the means subtracted from them.

This module imports no model library: without one an index can be opened and searched by words.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadIndex

RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True, slots=True)
class KeyRecipe:
    """The heads that keys and queries are taken from, and the means that are subtracted.

    Attributes:
        model, revision, template: the proxy that the recipe was fitted on.
        heads: (layer, query head), ascending.
        weights: factors of the heads' scores in their sum.
        query_means: `[H, d]`, the mean query of the questions that the recipe was fitted on.
        key_means: `[H, d]`, the mean key of their passages.
        fitted_on: a description of these questions and passages.
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
        """The layers of the heads, ascending; the proxy is not read deeper than the last."""
        return tuple(sorted({layer for layer, _ in self.heads}))

    def as_json(self) -> dict[str, Any]:
        """The recipe as a mapping, for the manifest of an index or a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: dict[str, Any]) -> KeyRecipe:
        """The recipe in a manifest or a file.

        Raises:
            BadIndex: the mapping is not a recipe.
        """
        try:
            recipe = cls(**{name: _to_tuples(value) for name, value in body.items()})
            _check_recipe(recipe)
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise BadIndex(
                f"this is no recipe for keys: {error}; make one with `tamis lab fit-recipe`"
            ) from error
        return recipe


def shipped_recipe(model: str) -> KeyRecipe | None:
    """The recipe that ships with tamis for a model; None where there is none."""
    path = RECIPES / f"{model}.json"
    return KeyRecipe.from_json(json.loads(path.read_text("utf8"))) if path.is_file() else None


def _check_recipe(recipe: KeyRecipe) -> None:
    """ValueError or TypeError: a part is missing, or of a wrong type or size."""
    for name in ("model", "revision", "template", "fitted_on"):
        if not isinstance(getattr(recipe, name), str):
            raise ValueError(f"its {name} is no text")
    lists = (recipe.heads, recipe.weights, recipe.query_means, recipe.key_means)
    if len({len(of) for of in lists}) != 1 or not recipe.heads:
        raise ValueError("its lists are empty or differ in length")
    for head in recipe.heads:
        if len(head) != 2 or not all(type(number) is int and number >= 0 for number in head):
            raise ValueError(f"a head is its layer and its number, got {list(head)}")
    means = (*recipe.query_means, *recipe.key_means)
    if len({len(mean) for mean in means}) != 1 or not means[0]:
        raise ValueError("its means differ in length")
    if not all(math.isfinite(value) for row in (recipe.weights, *means) for value in row):
        raise ValueError("a number of it is not finite")


def _to_tuples(value: Any) -> Any:
    return tuple(map(_to_tuples, value)) if isinstance(value, list | tuple) else value
