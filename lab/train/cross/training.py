"""Trains a cross-encoder step by step; a run that was stopped goes on from its checkpoint."""

from __future__ import annotations

import hashlib
import json
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn.functional import kl_div

from tamis.compressors.features.bm25 import whole_texts
from tamis.probes.atomic_file import atomic_path
from tamis.probes.card_file import write_weights_and_card
from tamis.probes.model.cross_encoder import CrossEncoderCard
from tamis.text.lines import ENGLISH_FUNCTION_WORDS
from tamis.text.types import Passage
from tamis_lab.datasets.qrels import JudgedQuery
from tamis_lab.datasets.ranking_metrics import exponential_gains, ndcg
from tamis_lab.train.cross.lists import Pool, Report
from tamis_lab.train.cross.student import PASSAGE_TOKENS, QUESTION_TOKENS, SCALE, CrossStudent
from tamis_lab.train.lora import checkpoint

CURVE = "curve.json"
Validate = Callable[[CrossStudent], float]


@dataclass(frozen=True, slots=True)
class CrossRecipe:
    """What a run depends on beside its data.

    Attributes:
        rank: of the adapters. rate: the highest learning rate, of adapters; a third of it for
            biases and norms, `head_rate` for the weights of the score.
        batch: questions a step. passages: of each question's, how many a step sees.
        steps: of the optimizer. warm: steps until the rate is at its highest; it falls to 0.
        grade: what a passage of the highest grade has above what the teachers say of it.
        temperature: of the divergence within a list. clip: the largest norm of a step's gradient.
        seed: of the order of questions, of their forms, and of the passages that a step sees.
    """

    rank: int = 48
    rate: float = 4e-4
    head_rate: float = 1e-3
    batch: int = 16
    passages: int = 8
    steps: int = 1000
    warm: int = 40
    grade: float = 1.0
    temperature: float = 0.5
    clip: float = 1.0
    seed: int = 0


def train(
    student: CrossStudent,
    pool: Pool,
    chosen: Sequence[Sequence[int]],
    targets: Tensor,
    recipe: CrossRecipe,
    folder: Path,
    validate: Validate,
    every: int,
    report: Report,
) -> list[dict[str, Any]]:
    """Trains to the end, with a checkpoint and a judgement every so many steps.

    The loss is the squared error to the target, and the divergence within each question's passages
    (pointwise regression on teachers' scores is enough for students of 17M weights; the second term
    lets judgements stand apart).

    Args:
        targets: `[Q, P]`, of the teachers, with the grades.
        validate: a figure of the student on lists that nothing is learnt from.

    Returns:
        A row for each judgement: steps, loss, figure.
    """
    parameters = dict(student.named_parameters())
    optimizer = torch.optim.AdamW(_groups(parameters, recipe), betas=(0.9, 0.98))
    facts = [len(pool.titled), len(chosen), float(targets.sum()), asdict(recipe)]
    plan = json.dumps(["cross", "", {"batch": recipe.batch}, facts])
    begun = checkpoint.restore(folder, parameters, optimizer, plan)
    if not begun:
        first = random.Random(recipe.seed).sample(range(len(chosen)), min(64, len(chosen)))
        student.begin_with(*_example(student, pool, chosen, targets, first, recipe, 0))
    folder.mkdir(parents=True, exist_ok=True)
    curve = _curve_until(folder, begun)
    losses = list[float]()
    for step in range(begun, recipe.steps):
        asked = _order(len(chosen), step, recipe)
        pairs, wanted = _example(student, pool, chosen, targets, asked, recipe, step + 1)
        loss = _loss(student.score(pairs).view(len(asked), -1), wanted.view(len(asked), -1), recipe)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters.values(), recipe.clip)
        share = min(1.0, (step + 1) / recipe.warm) * (1 - step / recipe.steps)
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * share
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        losses.append(float(loss.detach()))
        report("learning", step + 1, recipe.steps)
        if (step + 1) % every == 0 or step + 1 == recipe.steps:
            mean = round(sum(losses) / len(losses), 4)
            curve.append({"steps": step + 1, "loss": mean, "ndcg": round(validate(student), 4)})
            done = (0, (step + 1) * recipe.batch)
            with atomic_path(folder / CURVE) as temporary:
                temporary.write_text(json.dumps(curve), "utf-8")
            checkpoint.save(folder, parameters, optimizer, step + 1, plan, done)
            losses = []
    return curve


def _curve_until(folder: Path, steps: int) -> list[dict[str, Any]]:
    """The judgements of a run so far."""
    if not steps:
        return []
    curve: list[dict[str, Any]] = json.loads((folder / CURVE).read_text("utf-8"))
    return [row for row in curve if row["steps"] <= steps]


def mean_ndcg(
    student: CrossStudent, lists: Sequence[tuple[JudgedQuery, Mapping[str, Passage]]]
) -> float:
    """The mean nDCG@10 of the student's order of each query's candidates."""
    found = []
    for query, documents in lists:
        ids = [docid for docid, _ in query.candidates if docid in documents]
        question, texts = student.encode(query.text, QUESTION_TOKENS), []
        for text in whole_texts([documents[docid] for docid in ids]):
            texts.append(student.encode(text, PASSAGE_TOKENS))
        with torch.no_grad():
            scores = student.score([(question, text) for text in texts]).tolist()
        order = sorted(range(len(ids)), key=lambda i: -scores[i])
        found.append(ndcg([ids[i] for i in order], exponential_gains(query.qrels), 10))
    return statistics.fmean(found)


def export(
    student: CrossStudent,
    file: Path,
    base: str,
    recipe: CrossRecipe,
    trained_on: Sequence[Mapping[str, Any]],
    figures: Mapping[str, Any],
) -> None:
    """Writes what `CrossEncoder.from_folder` reads, in fp16, and its card.

    Raises:
        OSError: a file cannot be written.
    """
    tensors = {name: tensor.half() for name, tensor in student.tensors().items()}
    data = save(tensors)
    card = CrossEncoderCard(base, SCALE, tuple(trained_on), asdict(recipe), figures)
    card = replace(card, weights_sha256=hashlib.sha256(data).hexdigest())
    write_weights_and_card(file, data, file.with_suffix(".json"), asdict(card))


def _groups(parameters: Mapping[str, Tensor], recipe: CrossRecipe) -> list[dict[str, Any]]:
    def group(rate: float, decay: float, is_of: Callable[[str], bool]) -> dict[str, Any]:
        chosen = [tensor for name, tensor in parameters.items() if is_of(name)]
        return {"params": chosen, "lr": rate, "top": rate, "weight_decay": decay}

    def is_adapter(name: str) -> bool:
        return name.endswith((".a", ".b"))

    def is_head(name: str) -> bool:
        return "head-" in name

    return [
        group(recipe.rate, 0.01, is_adapter),
        group(recipe.head_rate, 0.0, is_head),
        group(recipe.rate / 3, 0.0, lambda name: not (is_adapter(name) or is_head(name))),
    ]


def _order(questions: int, step: int, recipe: CrossRecipe) -> list[int]:
    """The questions of a step: all in random order, then in another one."""
    a_round = max(1, questions // recipe.batch)
    draw = random.Random(f"{recipe.seed}:{step // a_round}")
    start = step % a_round * recipe.batch
    return draw.sample(range(questions), questions)[start : start + recipe.batch]


def _example(
    student: CrossStudent,
    pool: Pool,
    chosen: Sequence[Sequence[int]],
    targets: Tensor,
    asked: Sequence[int],
    recipe: CrossRecipe,
    step: int,
) -> tuple[list[tuple[list[int], list[int]]], Tensor]:
    """Pairs of word pieces, a question's one after another, and their targets."""
    draw = random.Random(f"{recipe.seed}:pairs:{step}")
    pairs, wanted = list[tuple[list[int], list[int]]](), list[Tensor]()
    for number in asked:
        row = chosen[number]
        rest = draw.sample(range(3, len(row)), min(recipe.passages, len(row)) - 3)
        text = _as_typed(pool.questions[number].text, draw.random())
        question = student.encode(text, QUESTION_TOKENS)
        for place in (0, 1, 2, *rest):
            pairs.append((question, student.encode(pool.titled[row[place]], PASSAGE_TOKENS)))
            wanted.append(targets[number, place])
    return pairs, torch.stack(wanted)


def _as_typed(question: str, share: float) -> str:
    """The question as it is, a fifth of the time in lower case, and a fifth as keywords."""
    lower = question.lower().rstrip("?")
    if share < 0.2:
        return lower
    keywords = [word for word in lower.split() if word not in ENGLISH_FUNCTION_WORDS]
    return " ".join(keywords) if share < 0.4 and len(keywords) > 1 else question


def _loss(found: Tensor, wanted: Tensor, recipe: CrossRecipe) -> Tensor:
    divergence = kl_div(
        (found / recipe.temperature).log_softmax(-1),
        (wanted / recipe.temperature).softmax(-1),
        reduction="none",
    )
    return ((found - wanted) ** 2).mean() + divergence.sum(-1).mean()
