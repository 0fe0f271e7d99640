"""A proxy that learns: its adapters, the linear heads over its attention, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from tamis.compressors.features.shipped_probes import shipped_probe
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods.question_rows import pool_question_rows
from tamis.probes.model.proxy import Proxy
from tamis.probes.signal import Want
from tamis_lab.train.fit import LabelledFeatures, fit_listwise
from tamis_lab.train.lora.examples import Example
from tamis_lab.train.lora.lowrank import LowRankLinear, attach
from tamis_lab.train.lora.recipe import LoraRecipe
from tamis_lab.train.lora.training import read_with_grad


class Student:
    """A proxy with adapters and two linear heads over one reading, as the default method has them.

    Attributes:
        adapters: by the name of their projection.
        heads: `first`, over attention and words, `[2·L·H + words]`; `alone`, over attention and a
            unit's length, `[2·L·H + 1]`.
    """

    def __init__(
        self, proxy: Proxy, recipe: LoraRecipe, first: Callable[[], Sequence[Example]]
    ) -> None:
        """Freezes the proxy's model, in place.

        Args:
            first: gives examples to fit the heads to, where no probe ships for the proxy.
        """
        self.proxy, self.recipe = proxy, recipe
        self.want = Want(tuple(range(recipe.depth)), ("sentence_means",))
        self.adapters: dict[str, LowRankLinear] = attach(
            proxy.model,
            recipe.adapted_layers,
            recipe.rank,
            recipe.scale,
            recipe.seed,
            recipe.projections,
        )
        start = _shipped_heads(proxy, recipe.depth) or self._fitted_heads(first())
        self.heads = {name: nn.Parameter(head.clone()) for name, head in start.items()}

    def parameters(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        found = {f"head.{name}": head for name, head in self.heads.items()}
        for name, adapter in self.adapters.items():
            found |= {f"{name}.a": adapter.a, f"{name}.b": adapter.b}
        return found

    def features(self, example: Example) -> dict[str, Tensor]:
        """The features that each head weighs, `[U, F]` by head."""
        signals = read_with_grad(self.proxy, example.prompts, self.want)
        pairs = zip(signals, example.prompts, strict=True)
        attention = torch.cat(
            [pool_question_rows(signal, prompt.passage.unit_spans) for signal, prompt in pairs]
        ).cpu()
        length = torch.tensor(example.tokens).float().log1p()[:, None]
        return {
            "first": torch.cat([attention, example.words], 1),
            "alone": torch.cat([attention, length], 1),
        }

    def scores(self, example: Example) -> dict[str, Tensor]:
        """The scores by each head, `[U]`."""
        return {name: x @ self.heads[name] for name, x in self.features(example).items()}

    def loss(self, scores: dict[str, Tensor], gold: Tensor) -> Tensor:
        """Mean over heads and gold units of -log softmax(score), as the probe is fitted."""
        return torch.stack([-z.log_softmax(0)[gold].mean() for z in scores.values()]).mean()

    def _fitted_heads(self, examples: Sequence[Example]) -> dict[str, Tensor]:
        with torch.no_grad():
            features = [self.features(example) for example in examples]
        questions = {
            name: [
                LabelledFeatures(x[name], e.gold) for x, e in zip(features, examples, strict=True)
            ]
            for name in ("first", "alone")
        }
        return {name: fit_listwise(rows, l2=0.1)[0] for name, rows in questions.items()}


def _shipped_heads(proxy: Proxy, depth: int) -> dict[str, Tensor] | None:
    probe = shipped_probe("question_rows", proxy.card.name)
    if probe is None or probe.card.layers != depth or probe.card.revision != proxy.card.revision:
        return None
    cells = 2 * depth * proxy.card.heads
    return {
        "first": probe.weight("first", (cells + len(WORD_FEATURES),)),
        "alone": probe.weight("alone", (cells + 1,)),
    }
