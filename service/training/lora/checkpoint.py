"""Where learning stands, on disk: a run that was stopped goes on as if it never had been."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tamis.probes.errors import BadInput, BadModelFile

FILE = "checkpoint.safetensors"
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def write(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    step: int,
    plan: str,
) -> None:
    """Parameters, AdamW's moments and the step; whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        tensors[name] = parameter.detach().contiguous()
        for key in _MOMENTS:
            if key in (state := optimizer.state.get(parameter, {})):
                tensors[f"{name}:{key}"] = state[key].contiguous()
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f"{FILE}.part"
    save_file(tensors, part, metadata={"step": json.dumps(step), "plan": plan})
    os.replace(part, folder / FILE)


def restore(
    folder: Path,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    plan: str,
) -> int:
    """Puts everything back and returns the step to go on with; 0 where nothing was written.

    Raises:
        BadModelFile: the checkpoint cannot be read. BadInput: it is of another run.
    """
    if not (folder / FILE).is_file():
        return 0
    step, found, tensors = _read(folder / FILE)
    if found != plan:
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
