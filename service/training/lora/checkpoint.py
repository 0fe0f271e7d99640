"""The state of a training run on disk: a run that was stopped goes on with the same result."""

from __future__ import annotations

import json
from collections.abc import Mapping
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
) -> None:
    """Writes parameters, AdamW's moments and the step; whole or not at all.

    Args:
        fingerprint: of the run: all that must be the same for it to go on.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[name] = parameter.detach().contiguous()
        for key in _MOMENTS:
            if key in (state := optimizer.state.get(parameter, {})):
                tensors[f"{name}:{key}"] = state[key].contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(folder / FILE) as temporary:
        save_file(tensors, temporary, metadata={"step": json.dumps(step), "plan": fingerprint})


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
    step, written_by, tensors = _read(folder / FILE)
    if written_by != fingerprint:
        raise BadInput(
            f"{folder} holds a checkpoint of another run (other data, questions, recipe or "
            "proxy); name another folder with --out, or delete it"
        )
    try:
        for name, parameter in parameters.items():
            parameter.data.copy_(tensors[name])
            if f"{name}:{_MOMENTS[0]}" in tensors:  # else no step has moved it yet
                state = {key: tensors[f"{name}:{key}"] for key in _MOMENTS}
                optimizer.state[parameter] = state
    except (KeyError, RuntimeError) as error:
        raise BadModelFile(f"{folder / FILE} is not whole ({error}); delete it") from error
    return step


def _read(path: Path) -> tuple[int, str, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        return int(facts["step"]), str(facts["plan"]), tensors
    except Exception as error:  # safetensors raises its own exception for any torn file
        raise BadModelFile(
            f"{path} cannot be read as a checkpoint ({error}); delete it to begin anew"
        ) from error
