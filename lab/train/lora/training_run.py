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
from tamis.service.files.streams import read_json_lines
from tamis_lab.datasets.record_files import RecordFile, describe_file, name_distinctly
from tamis_lab.train.lora import checkpoint
from tamis_lab.train.lora.examples import (
    Draw,
    Example,
    build_example,
    draw_records,
    take_from_each_file,
)
from tamis_lab.train.lora.recipe import LoraRecipe
from tamis_lab.train.lora.student import Student
from tamis_lab.train.lora.validation import evaluate_student

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
        behind: the folder of a finished run that this one goes on with; None to begin anew.
        before: how many questions had been learnt from then.
    """

    proxy: Proxy
    recipe: LoraRecipe
    folder: Path
    draws: list[Draw]
    held_out: list[Example]
    trained_on: list[dict[str, Any]]
    validate_every: int = 250
    behind: Path | None = None
    before: int = 0
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
        return fingerprint_of(self.proxy, self.recipe, self.draws)

    def run(self, report: ReportTraining) -> list[dict[str, Any]]:
        """Trains from the last checkpoint to the end; returns the curve: a row per validation."""
        first_step = checkpoint.restore(
            self.folder, self.student.parameters(), self.optimizer, self.fingerprint
        )
        learnt = self.before + first_step * self.recipe.batch
        curve = self._load_curve(self.folder, learnt) if first_step else self._begin()
        if not curve:
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
                    (self.before, self.before + done),
                )
                losses, clock = [], time.perf_counter()
        return curve

    def _begin(self) -> list[dict[str, Any]]:
        """The curve so far: none, or of the run that this one goes on with, restored."""
        if self.behind is None:
            return []
        checkpoint.restore_finished(self.behind, self.student.parameters(), self.optimizer)
        return self._load_curve(self.behind, self.before)

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
            "questions": self.before + done,
            "loss": round(_mean(losses), 4) if losses else None,
            "held_out": evaluate_student(self.student, self.held_out, report),
            "seconds": round(seconds, 1),
        }
        curve.append(row)
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in curve)
        with atomic_path(self.folder / CURVE) as temporary:
            temporary.write_text(lines, encoding="utf-8")

    def _load_curve(self, folder: Path, questions: int) -> list[dict[str, Any]]:
        """The rows of earlier validations, up to a number of questions."""
        path = folder / CURVE
        if not path.is_file():
            return []
        try:
            return [row for _, row in read_json_lines(path) if row["questions"] <= questions]
        except (BadInput, LookupError, TypeError) as error:
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
    behind: Path | None = None,
) -> TrainingRun:
    """A run over labelled files.

    Args:
        questions: the most to learn from, of all files together; None for all drawn.
        validate_on: the most held-out questions of a validation, by turns from each file.
        validate_every: questions between two validations.
        behind: the folder of a finished run on the same files and seed: this one begins with its
            adapters, heads and moments, and with the question behind its last.

    Raises:
        BadInput: too few articles to hold some out, or nothing is left behind the finished run.
        BadModelFile: that run has no checkpoint that can be read.
    """
    files = name_distinctly(files)
    drawn, held_out = draw_records(files, recipe.seed)
    before = 0
    if behind is not None:
        before = checkpoint.finished_questions(
            behind, lambda first, stop: fingerprint_of(proxy, recipe, drawn[first:stop])
        )
        if before >= len(drawn):
            raise BadInput(
                f"all {len(drawn)} questions that --data draws are behind {behind}; to learn from "
                "others, give that folder as --proxy"
            )
    learnt = drawn[before:][:questions]
    tried = [
        build_example(draw, proxy.layout, recipe)
        for draw in take_from_each_file(held_out, validate_on)
    ]
    if not any(tried):
        raise BadInput(
            f"none of {len(tried)} held-out questions has both gold and other units within "
            f"{recipe.question_tokens} tokens; nothing can be judged"
        )
    seen = drawn[: before + len(learnt)]
    used = [describe_file(file, sum(d.source == file.name for d in seen)) for file in files]
    examples = [e for e in tried if e]
    return TrainingRun(
        proxy, recipe, folder, learnt, examples, used, validate_every, behind, before
    )


def fingerprint_of(proxy: Proxy, recipe: LoraRecipe, draws: Sequence[Draw]) -> str:
    """A run as text: the model, the recipe, and a hash of the questions in their order."""
    order = hashlib.sha256(
        json.dumps([[d.source, d.record.get("id"), d.epoch] for d in draws]).encode()
    ).hexdigest()
    return json.dumps([proxy.card.name, proxy.card.revision, asdict(recipe), order])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
