"""`Settings` from flags and environment variables: typed, bounded, misspelt names refused.

A flag overrides a variable, a variable overrides the default. A variable with tamis's prefix that
belongs to no knob stops the start: it would silently have no effect.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Any, get_origin

from pydantic import BeforeValidator, Field, ValidationError, create_model
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tamis.compressors.options import Option
from tamis.probes.errors import BadInput
from tamis.service.http.runtime.settings import (
    KNOBS,
    PREFIX,
    Settings,
    flag,
    unknown_variables,
    variable,
)


class _Variables(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="forbid", env_ignore_empty=True)


def load_settings(flags: Mapping[str, Any] | None = None) -> Settings:
    """The settings: flags first, then the environment, then the defaults.

    Args:
        flags: by the name of the knob; None means not given.

    Raises:
        BadInput: an unknown variable, with the nearest known name, or a value out of bounds.
    """
    for name, way_out in unknown_variables(os.environ):
        raise BadInput(f"{name} is no setting; {way_out}")
    given = {name: value for name, value in (flags or {}).items() if value not in (None, [], ())}
    try:
        read = _settings_model()(**given)
    except ValidationError as error:
        faults = [(str(e["loc"][0]), e) for e in error.errors()]
        shown = (f"{flag(n)} or {variable(n)} is {e['input']!r}: {e['msg']}" for n, e in faults)
        raise BadInput("; ".join(shown)) from error
    return Settings(**{knob.name: getattr(read, knob.name) for knob in KNOBS})


def _settings_model() -> type[BaseSettings]:
    """The knobs as a pydantic-settings model; lists are written with commas, not as JSON."""
    made: Any = {
        knob.name: (_field_type(knob), Field(knob.default, **knob.bounds)) for knob in KNOBS
    }
    model: type[BaseSettings] = create_model("Variables", __base__=_Variables, **made)
    return model


def _field_type(knob: Option) -> Any:
    if get_origin(knob.kind) is tuple:
        return Annotated[knob.kind, NoDecode, BeforeValidator(_split_commas)]
    return knob.kind | None if knob.optional else knob.kind


def _split_commas(value: Any) -> Any:
    """Splits at commas; a flag may also be given more than once."""
    given = [value] if isinstance(value, str) else value
    return [part.strip() for text in given for part in text.split(",") if part.strip()]
