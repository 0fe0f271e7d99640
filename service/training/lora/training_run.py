"""The lessons: question after question, judged now and then on articles held out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.model.proxy import Proxy
from tamis.service.training.lora import checkpoint
from tamis.service.training.lora.examples import Draw, Example, drawn, shown, some_of_each
from tamis.service.training.lora.recipe import Recipe
from tamis.service.training.lora.student import Pupil
from tamis.service.training.lora.validation import judged
from tamis.service.training.probe.labelled_readings import Source, described

CURVE = "curve.jsonl"
_HEAD_EXAMPLES = 64
Report = Callable[[str, int, int, str], None]
"""Hears what is done, how much of it, of how much, and a word on how it goes."""


@dataclass(slots=True)
class Lessons:
    """A run: what is learnt from, what it is judged by, how often.

    Attributes:
        held: examples on articles held out.
        every: questions between two judgements, each with a checkpoint.
    """

    proxy: Proxy
    recipe: Recipe
    folder: Path
    draws: list[Draw]
    held: list[Example]
    facts: list[dict[str, Any]]
    every: int = 250
    pupil: Pupil = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.pupil = Pupil(
            self.proxy, self.recipe, lambda: self._examples(self.draws[:_HEAD_EXAMPLES])
        )
        parts = self.pupil.parameters()
        heads = [p for name, p in parts.items() if name.startswith("head.")]
        rest = [p for name, p in parts.items() if not name.startswith("head.")]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": rest, "lr": self.recipe.rate, "top": self.recipe.rate},
                {"params": heads, "lr": self.recipe.head_rate, "top": self.recipe.head_rate},
            ],
            weight_decay=0.0,
        )

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return -(-len(self.draws) // self.recipe.batch)

    @property
    def plan(self) -> str:
        """What a checkpoint must agree on."""
        order = hashlib.sha256(
            json.dumps([[d.source, d.record.get("id"), d.turn] for d in self.draws]).encode()
        ).hexdigest()
        card = self.proxy.card
        return json.dumps([card.name, card.revision, asdict(self.recipe), order])

    def run(self, report: Report) -> list[dict[str, Any]]:
        """Learns from where it stands to the end; returns the curve."""
        begun = checkpoint.restore(self.folder, self.pupil.parameters(), self.optimizer, self.plan)
        curve = self._curve(begun)
        if not begun:
            self._judge(curve, 0, [], 0.0, report)
        losses: list[float] = []
        clock = time.perf_counter()
        for step in range(begun, self.steps):
            losses += self._step(step)
            done = min((step + 1) * self.recipe.batch, len(self.draws))
            report("learning", done, len(self.draws), f"loss {_mean(losses):.3f}")
            before = step * self.recipe.batch
            if done // self.every > before // self.every or done == len(self.draws):
                seconds = time.perf_counter() - clock
                self._judge(curve, done, losses, seconds, report)
                checkpoint.write(
                    self.folder, self.pupil.parameters(), self.optimizer, step + 1, self.plan
                )
                losses, clock = [], time.perf_counter()
        return curve

    def _step(self, step: int) -> list[float]:
        """One step of the optimizer over the next questions."""
        recipe, losses = self.recipe, []
        batch = self.draws[step * recipe.batch : (step + 1) * recipe.batch]
        for example in self._examples(batch):
            loss = self.pupil.loss(self.pupil.scores(example), example.gold)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(self.pupil.parameters().values(), recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * recipe.pace(step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return losses

    def _judge(
        self,
        curve: list[dict[str, Any]],
        done: int,
        losses: Sequence[float],
        seconds: float,
        report: Report,
    ) -> None:
        row = {
            "questions": done,
            "loss": round(_mean(losses), 4) if losses else None,
            "held_out": judged(self.pupil, self.held, report),
            "seconds": round(seconds, 1),
        }
        curve.append(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in curve)
        (self.folder / CURVE).write_text(lines, encoding="utf-8")

    def _curve(self, step: int) -> list[dict[str, Any]]:
        """What was judged before, up to the checkpoint."""
        path = self.folder / CURVE
        if not step or not path.is_file():
            return []
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return [row for row in rows if row["questions"] <= step * self.recipe.batch]
        except (ValueError, LookupError, TypeError) as error:
            raise BadModelFile(f"{path} is no curve ({error}); delete it to go on") from error

    def _examples(self, draws: Iterable[Draw]) -> list[Example]:
        found = (shown(draw, self.proxy.layout, self.recipe) for draw in draws)
        return [example for example in found if example is not None]


def lessons(
    proxy: Proxy,
    sources: Sequence[Source],
    recipe: Recipe,
    folder: Path,
    questions: int | None = None,
    judge: int = 60,
    every: int = 250,
) -> Lessons:
    """A run over labelled files.

    Args:
        questions: the most to learn from, of all files together; None for all drawn.
        judge: the most held-out questions each judgement takes, from all files alike.

    Raises:
        BadInput: too few articles to hold some out.
    """
    learnt, held = drawn(sources, recipe.seed)
    learnt = learnt[:questions]
    tried = [shown(draw, proxy.layout, recipe) for draw in some_of_each(held, judge)]
    if not any(tried):
        raise BadInput(
            f"none of {len(tried)} held-out questions has both gold and other units within "
            f"{recipe.question_tokens} tokens; nothing can be judged"
        )
    used = [described(source, sum(d.source == source.name for d in learnt)) for source in sources]
    return Lessons(proxy, recipe, folder, learnt, [e for e in tried if e], used, every)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
