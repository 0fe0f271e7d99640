"""What JSON says of failures, read from the front of a value's text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tamis.probes.segmentation.tool_output.parts import Level
from tamis.probes.segmentation.tool_output.rare_values import rows_with_rare_values

FRONT_CHARS = 2_000
_FAILURE = re.compile(
    r'"(?:error|errors|err|exception|error_?message|failure|stderr|traceback|ename|evalue'
    r'|failed_?reason|last_?error)"\s*:\s*(?!null|false|""|0\b|\[\s*\]|\{\s*\})'
    r'|"(?:level|severity|lvl|levelname|log\.level)"\s*:\s*"(?:error|fatal|critical|panic|emerg)'
    r'|"(?:status|state|result|conclusion|outcome|phase|health|reason)"\s*:\s*"(?:error|fail|fatal'
    r"|unhealthy|crash|timed?_?-?out|cancell?ed|OOMKilled|evicted|imagepull)"
    r'|"exit_?(?:code|status)"\s*:\s*-?[1-9]|"returncode"\s*:\s*-?[1-9]'
    r'|"status(?:_?code)?"\s*:\s*"?[45]\d\d\b',
    re.I,
)
_OUTCOME = re.compile(
    r'"(?:exit_?(?:code|status)|returncode|total|total_?count|count|has_?more|next_?(?:page|cursor))"\s*:',
    re.I,
)
_WARNING = re.compile(r'"(?:level|severity|lvl)"\s*:\s*"warn', re.I)


def json_level(text: str) -> Level:
    """How much a value matters, by its own text with its key; 2,000 characters of it are seen."""
    front = text[:FRONT_CHARS]
    if _FAILURE.search(front):
        return Level.MESSAGE
    if len(text) < 80 and _OUTCOME.match(front):
        return Level.OUTCOME
    return Level.WARNING if _WARNING.search(front) else Level.ORDINARY


def unusual_elements(values: Sequence[Any]) -> set[int]:
    """Which objects of an array have a value that hardly any other has, in a field of few values.

    Of 300 users, the one who is suspended.
    """
    fields: dict[str, dict[int, str]] = {}
    for i, value in enumerate(values):
        for key, item in _scalars(value).items():
            fields.setdefault(key, {})[i] = item
    rare = (rows_with_rare_values(of, len(values), len(of)) for of in fields.values())
    return set().union(*rare)


def _scalars(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        return {}
    return {
        key: str(item)[:80]
        for key, item in value.items()
        if isinstance(item, str | int | bool | type(None))
    }
