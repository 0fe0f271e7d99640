"""Rules as pydantic fields: what requests and adapters take, made from `RULES`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from tamis.compressors.rules import RULES, Rules, RuleSpec, Surface, rule_names, spec_of


def rule_fields(where: Surface, text: Any = str) -> dict[str, Any]:
    """Field definitions for `pydantic.create_model`: annotation, default and help of each rule.

    Args:
        text: the annotation of rules that are texts; a service bounds their length.
    """
    names = set(rule_names(where))
    return {
        one.name: (
            _annotation(spec_of(one), where, text),
            Field(one.default, description=spec_of(one).help),
        )
        for one in RULES
        if one.name in names
    }


def request_fields(rules: Rules) -> dict[str, Any]:
    """Rules as the fields of `POST /v1/compress`; those at their default are left out."""
    plain = {name: getattr(rules, name) for name in rule_names("http")}
    defaults = {one.name: one.default for one in RULES}
    sent = {name: value for name, value in plain.items() if value != defaults[name]}
    return sent | ({"protect": {"regex": list(rules.protect)}} if rules.protect else {})


def _annotation(spec: RuleSpec, where: Surface, text: Any) -> Any:
    plain: Any = {
        "flag": bool,
        "count": Annotated[int, Field(ge=spec.least, le=spec.most)],
        "share": Annotated[float, Field(gt=0, le=1)],
        "probability": Annotated[float, Field(ge=0, le=1)],
        "text": text,
        "patterns": tuple[str, ...],
    }.get(spec.kind)
    if spec.kind == "choice":
        few = spec.adapter_choices if where == "adapters" else None
        plain = Literal[few or spec.choices()]
    return plain | None if spec.optional else plain
