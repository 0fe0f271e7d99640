"""Weights, and their cards: JSON files beside them that say which model they are for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin, get_type_hints

import torch
from safetensors.torch import load
from torch import Tensor

from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadModelFile

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Card = TypeVar("Card", bound="DataclassInstance")


def read_card(path: Path, card: type[Card], version: int, what: str) -> Card:
    """Reads a card and checks that it has exactly the expected fields; lists become tuples.

    Args:
        card: its class, a dataclass; the types of its fields say what JSON may have there.
        version: the format number expected.
        what: what errors call the file, such as `a probe's card`.

    Raises:
        BadModelFile: no such file, not JSON, another format number, or a field that is missing,
            unknown or of another type.
    """
    try:
        facts = json.loads(path.read_text(encoding="utf8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadModelFile(f"{path} cannot be read as {what}: {error}") from error
    names = {each.name for each in fields(card)}
    if not isinstance(facts, dict) or set(facts) != names:
        odd = sorted(names ^ set(facts)) if isinstance(facts, dict) else type(facts).__name__
        raise BadModelFile(f"{path} is not {what}; missing or unknown: {odd}")
    if facts["format"] != version:
        raise BadModelFile(f"{path} has format {facts['format']}; this version reads {version}")
    kinds = {name: kind for name, kind in get_type_hints(card).items() if name != "format"}
    if odd := [name for name, kind in kinds.items() if not _has_type(facts[name], kind)]:
        raise BadModelFile(f"{path} is not {what}; of the wrong kind: {odd}")
    return card(**{k: tuple(v) if isinstance(v, list) else v for k, v in facts.items()})


def read_weights(path: Path, sha256: str, what: str = "") -> dict[str, Tensor]:
    """Reads a safetensors file that has the hash its card says.

    Args:
        sha256: of the whole file, in hexadecimal.
        what: what errors call the file, such as ` as adapters`.

    Raises:
        BadModelFile: the file is missing, damaged, of another card, or has NaN values.
    """
    try:
        data = path.read_bytes()
        tensors: dict[str, Tensor] = load(data)
    except Exception as error:  # safetensors raises its own exception for any torn file
        raise BadModelFile(f"{path} cannot be read{what}: {error}") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BadModelFile(f"{path} does not belong to its card: hashes differ")
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise BadModelFile(f"{path} holds values that are not finite")
    return tensors


def write_weights_and_card(
    weights_path: Path, data: bytes, card_path: Path, card: Mapping[str, Any]
) -> None:
    """Writes weights, then the card, each whole or not at all.

    Raises:
        OSError: a file cannot be written.
    """
    weights_path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(weights_path) as temporary:
        temporary.write_bytes(data)
    with atomic_path(card_path) as temporary:
        temporary.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", "utf8")


def _has_type(value: Any, annotation: Any) -> bool:
    """Whether a value of JSON is of exactly the type of a field: a bool is no int."""
    kind = get_origin(annotation) or annotation
    allowed = {tuple: (list,), Mapping: (dict,), float: (int, float)}
    return type(value) in allowed.get(kind, (kind,))
