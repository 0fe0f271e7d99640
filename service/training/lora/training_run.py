"""A training run: question after question, validated now and then on articles held out."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput, BadModelFile
from tamis.probes.model.proxy import Proxy
from tamis.service.datasets.record_files import RecordFile, describe_file
from tamis.service.training.lora import checkpoint
from tamis.service.training.lora.examples import (
    Draw,
    Example,
    build_example,
    draw_records,
    take_from_each_file,
)
from tamis.service.training.lora.recipe import LoraRecipe
from tamis.service.training.lora.student import Student
from tamis.service.training.lora.validation import evaluate_student

CURVE = "curve.jsonl"
_HEAD_EXAMPLES = 64
ReportTraining = Callable[[str, int, int, str], None]
"""Called with the name of the phase, the questions done, the questions in all, and a short note."""


@dataclass(slots=True)
class TrainingRun:
    """A run: what it learns from, what it is validated on, and how often.

    Attributes:
        folder: of curve and checkpoint.
        draws: what to learn from, in order.
        held_out: examples on articles that are not learnt from.
        trained_on: the files, as an adapter's card describes them.
        validate_every: questions between two validations, each with a checkpoint.
    """

    proxy: Proxy
    recipe: LoraRecipe
    folder: Path
    draws: list[Draw]
    held_out: list[Example]
    trained_on: list[dict[str, Any]]
    validate_every: int = 250
    student: Student = field(init=False)
    optimizer: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        self.student = Student(
            self.proxy, self.recipe, lambda: self._examples(self.draws[:_HEAD_EXAMPLES])
        )
        parts = self.student.parameters()
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
        """The optimizer's steps in the whole run."""
        return -(-len(self.draws) // self.recipe.batch)

    @property
    def fingerprint(self) -> str:
        """What must be the same for a run to go on from a checkpoint: model, recipe, questions."""
        order = hashlib.sha256(
            json.dumps([[d.source, d.record.get("id"), d.epoch] for d in self.draws]).encode()
        ).hexdigest()
        card = self.proxy.card
        return json.dumps([card.name, card.revision, asdict(self.recipe), order])

    def run(self, report: ReportTraining) -> list[dict[str, Any]]:
        """Trains from the last checkpoint to the end; returns the curve: a row per validation."""
        first_step = checkpoint.restore(
            self.folder, self.student.parameters(), self.optimizer, self.fingerprint
        )
        curve = self._load_curve(first_step)
        if not first_step:
            self._validate(curve, 0, [], 0.0, report)
        losses: list[float] = []
        clock = time.perf_counter()
        for step in range(first_step, self.steps):
            losses += self._step(step)
            done = min((step + 1) * self.recipe.batch, len(self.draws))
            report("learning", done, len(self.draws), f"loss {_mean(losses):.3f}")
            if self._is_validation_due(step * self.recipe.batch, done):
                seconds = time.perf_counter() - clock
                self._validate(curve, done, losses, seconds, report)
                checkpoint.save(
                    self.folder,
                    self.student.parameters(),
                    self.optimizer,
                    step + 1,
                    self.fingerprint,
                )
                losses, clock = [], time.perf_counter()
        return curve

    def _is_validation_due(self, before: int, done: int) -> bool:
        """Whether a multiple of `validate_every` lies between two counts, or the run is over."""
        every = self.validate_every
        return done // every > before // every or done == len(self.draws)

    def _step(self, step: int) -> list[float]:
        """One step of the optimizer over the next questions."""
        recipe, losses = self.recipe, []
        batch = self.draws[step * recipe.batch : (step + 1) * recipe.batch]
        for example in self._examples(batch):
            loss = self.student.loss(self.student.scores(example), example.gold)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(self.student.parameters().values(), recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = group["top"] * recipe.learning_rate_share(step, self.steps)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=False)
        return losses

    def _validate(
        self,
        curve: list[dict[str, Any]],
        done: int,
        losses: Sequence[float],
        seconds: float,
        report: ReportTraining,
    ) -> None:
        row = {
            "questions": done,
            "loss": round(_mean(losses), 4) if losses else None,
            "held_out": evaluate_student(self.student, self.held_out, report),
            "seconds": round(seconds, 1),
        }
        curve.append(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in curve)
        with atomic_path(self.folder / CURVE) as temporary:
            temporary.write_text(lines, encoding="utf-8")

    def _load_curve(self, step: int) -> list[dict[str, Any]]:
        """The rows of earlier validations, up to the checkpoint."""
        path = self.folder / CURVE
        if not step or not path.is_file():
            return []
        try:
            rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
            return [row for row in rows if row["questions"] <= step * self.recipe.batch]
        except (ValueError, LookupError, TypeError) as error:
            raise BadModelFile(f"{path} is no curve ({error}); delete it to go on") from error

    def _examples(self, draws: Iterable[Draw]) -> list[Example]:
        found = (build_example(draw, self.proxy.layout, self.recipe) for draw in draws)
        return [example for example in found if example is not None]


def build_training_run(
    proxy: Proxy,
    files: Sequence[RecordFile],
    recipe: LoraRecipe,
    folder: Path,
    questions: int | None = None,
    validate_on: int = 60,
    validate_every: int = 250,
) -> TrainingRun:
    """A run over labelled files.

    Args:
        questions: the most to learn from, of all files together; None for all drawn.
        validate_on: the most held-out questions of a validation, by turns from each file.
        validate_every: questions between two validations.

    Raises:
        BadInput: too few articles to hold some out.
    """
    learnt, held_out = draw_records(files, recipe.seed)
    learnt = learnt[:questions]
    tried = [
        build_example(draw, proxy.layout, recipe)
        for draw in take_from_each_file(held_out, validate_on)
    ]
    if not any(tried):
        raise BadInput(
            f"none of {len(tried)} held-out questions has both gold and other units within "
            f"{recipe.question_tokens} tokens; nothing can be judged"
        )
    used = [describe_file(file, sum(d.source == file.name for d in learnt)) for file in files]
    return TrainingRun(proxy, recipe, folder, learnt, [e for e in tried if e], used, validate_every)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
