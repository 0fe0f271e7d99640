"""The state of a training run on disk: a run that was stopped goes on with the same result."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput, BadModelFile

FILE = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    fingerprint: str,
    questions: tuple[int, int],
) -> None:
    """Writes parameters, AdamW's moments and the step; whole or not at all.

    Args:
        fingerprint: of the run: all that must be the same for it to go on.
        questions: the half-open range of those it has learnt from, among all that were drawn.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[name] = parameter.detach().contiguous()
        for key in _MOMENTS:
            if key in (state := optimizer.state.get(parameter, {})):
                tensors[f"{name}:{key}"] = state[key].contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / FILE) as temporary:
        facts = {"step": json.dumps(step), "plan": fingerprint, "questions": json.dumps(questions)}
        save_file(tensors, temporary, metadata=facts)


def restore(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    fingerprint: str,
) -> int:
    """Restores a run and returns the step to go on with; 0 where nothing was written.

    Raises:
        BadModelFile: the checkpoint cannot be read. BadInput: it is of another run.
    """
    if not (folder / FILE).is_file():
        return 0
    facts, tensors = _read(folder / FILE)
    if facts["plan"] != fingerprint:
        raise BadInput(
            f"{folder} holds a checkpoint of another run (other data, questions, recipe or "
            "proxy); name another folder with --out, or delete it"
        )
    _restore(folder, tensors, parameters, optimizer)
    return int(facts["step"])


def restore_finished(
    folder: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Restores parameters and AdamW's moments of a finished run, for another to begin with.

    Raises:
        BadModelFile: the checkpoint cannot be read, or is of other adapters.
    """
    _restore(folder, _read(folder / FILE)[1], parameters, optimizer)


def finished_questions(folder: Path, plan_of: Callable[[int, int], str]) -> int:
    """How many of the drawn questions a finished run has behind it, those before it included.

    Args:
        plan_of: the fingerprint that a run on a half-open range of the questions would have, as far
            as the next run depends on it.

    Raises:
        BadModelFile: there is no checkpoint, or it cannot be read. BadInput: it is of other data,
            or was stopped before its end.
    """
    facts, _ = _read(folder / FILE)
    first, stop = facts["questions"]
    if _kept_fields(facts["plan"]) != _kept_fields(plan_of(first, stop)):
        raise BadInput(
            f"{folder} is no finished run on these questions: give the same proxy, --data, --seed, "
            "layers and adapters, and let it come to its end first"
        )
    return int(stop)


def _kept_fields(fingerprint: str) -> list[Any]:
    """Of a run's fingerprint, what a run that goes on behind it must share: no rate, no batch."""
    name, revision, recipe, order = json.loads(fingerprint)
    free = ("rate", "head_rate", "batch", "warm", "clip")
    return [name, revision, {k: v for k, v in recipe.items() if k not in free}, order]


def _restore(
    folder: Path,
    tensors: Mapping[str, Tensor],
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> None:
    try:
        for name, parameter in parameters.items():
            parameter.data.copy_(tensors[name])
            if f"{name}:{_MOMENTS[0]}" in tensors:  # else no step has moved it yet
                state = {key: tensors[f"{name}:{key}"] for key in _MOMENTS}
                optimizer.state[parameter] = state
    except (KeyError, RuntimeError) as error:
        raise BadModelFile(f"{folder / FILE} is not whole ({error}); delete it") from error


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The step, the plan and the questions of a checkpoint, and its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        step, plan = int(facts["step"]), str(facts["plan"])
        # checkpoints of before have none: every run began with the first question
        default = json.dumps((0, step * json.loads(plan)[2]["batch"]))
        questions = json.loads(facts.get("questions", default))
        return {"step": step, "plan": plan, "questions": questions}, tensors
    except Exception as error:  # safetensors raises its own exception for any torn file
        raise BadModelFile(
            f"{path} cannot be read as a checkpoint ({error}); delete it to begin anew"
        ) from error
