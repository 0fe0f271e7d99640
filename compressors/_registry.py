"""The folder is the registry: one public file is one method, and its last line is `Method = TheClass`."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tamis.compressors._method import Info, Scorer
from tamis.probes.errors import BadInput, ProxyMissing, UnknownMethod
from tamis.probes.proxy import Proxy

DEFAULT = "question_rows"
DEFAULT_PROXY = "smollm2-135m"
DEFAULT_ENCODER = "minilm-l6"


def names() -> list[str]:
    """Every method, by its file name."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def method_class(name: str) -> Any:
    """The class of a method.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    if name not in names():
        near = difflib.get_close_matches(name, names(), 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no method {name!r}; {hint}there are: {', '.join(names())}")
    return importlib.import_module(f"tamis.compressors.{name}").Method


def info(name: str) -> Info:
    """What a method is, in a line, and where it comes from."""
    found: Info = method_class(name).info
    return found


def depth(name: str, proxy: str = DEFAULT_PROXY) -> int | None:
    """How many layers of a proxy a method needs; None for all."""
    if name == "fusion":
        name = DEFAULT
    deep = getattr(method_class(name), "depth", None)
    layers: int | None = deep(proxy) if deep else None
    return layers


def build(
    name: str = DEFAULT,
    *,
    proxy: Proxy | Any | str = DEFAULT_PROXY,
    encoder: Any | str = DEFAULT_ENCODER,
    root: Path | None = None,
    **options: Any,
) -> Scorer:
    """A method, ready to score.

    Args:
        name: a method of this folder.
        proxy: a loaded proxy, or the name of one that is on this machine.
        encoder: likewise, for the methods that embed.
        root: where models are; by default the user's cache.
        options: the method's own, as its class documents them.

    Raises:
        UnknownMethod: no such method. ProxyMissing: its model is not on this machine.
        BadInput: an option that the method does not have.
    """
    kind = method_class(name)
    if name == "fusion":
        return _fusion(proxy, encoder, root, options)
    given: dict[str, Any] = {}
    if kind.info.needs == "proxy":
        given["reader"] = load_proxy(proxy, depth(name, proxy) if isinstance(proxy, str) else None, root)
    elif kind.info.needs == "encoder":
        given["encoder"] = _encoder(encoder, root)
    _check_options(name, kind, options)
    method: Scorer = kind(**given, **options)
    return method


def _check_options(name: str, kind: Any, options: Mapping[str, Any]) -> None:
    accepted = set(inspect.signature(kind).parameters) - {"reader", "encoder", "parts"}
    if unknown := sorted(set(options) - accepted):
        raise BadInput(f"{name} has no option {unknown}; its options are {sorted(accepted) or 'none'}")


def load_proxy(proxy: Any, layers: int | None, root: Path | None = None) -> Any:
    """A proxy by name, with as many layers as are read; a loaded one as it is."""
    if not isinstance(proxy, str):
        return proxy
    from tamis.probes.zoo import load_proxy as load

    return load(proxy, layers=layers, root=root)


def _encoder(encoder: Any, root: Path | None) -> Any:
    if not isinstance(encoder, str):
        return encoder
    from tamis.probes.encoder import Encoder
    from tamis.probes.zoo import locate

    return Encoder.from_folder(locate(encoder, root))


def _fusion(proxy: Any, encoder: Any, root: Path | None, options: dict[str, Any]) -> Scorer:
    """Attention and words always; the encoder only where it is already on this machine."""
    _check_options("fusion", method_class("fusion"), options)
    parts: dict[str, Scorer] = {
        "attention": build(DEFAULT, proxy=proxy, root=root),
        "lexical": build("lexical"),
    }
    try:
        parts["embedding"] = build("embedding", encoder=encoder, root=root)
    except ProxyMissing:
        if "embedding" in (options.get("weights") or {}):
            raise
    fusion: Scorer = method_class("fusion")(parts, **options)
    return fusion
