"""The folder is the registry: a public file is a method, and its last line `Method = TheClass`."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.method import Info, Kind, Scorer
from tamis.compressors.options import fits_kind, option_kinds, told
from tamis.probes.errors import BadInput, ProxyMissing, UnknownMethod

if TYPE_CHECKING:
    from tamis.probes.model.proxy import Proxy
    from tamis.probes.probing.linear import LinearProbe

_FOLDER = Path(__file__).parent / "methods"
DEFAULT = "question_rows"
DEFAULT_PROXY = "smollm2-135m"
DEFAULT_ENCODER = "minilm-l6"


def names(kind: Kind | None = "compression") -> list[str]:
    """The methods of a kind, or all of them, by their file names."""
    found = _names(_FOLDER, _FOLDER.stat().st_mtime_ns)
    return [name for name in found if kind is None or info(name).kind == kind]


@lru_cache(maxsize=8)
def _names(folder: Path, changed_ns: int) -> tuple[str, ...]:
    """Of the folder as it was changed last: a service asks with every request."""
    return tuple(sorted(p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")))


def method_class(name: str) -> Any:
    """The class of a method.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    _check_name(name)
    return importlib.import_module(f"tamis.compressors.methods.{name}").Method


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise UnknownMethod(f"method is {name!r:.80}; give one of {', '.join(names(None))}")
    if name not in (there := names(None)):
        near = difflib.get_close_matches(name, there, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UnknownMethod(f"there is no method {name!r}; {hint}there are: {', '.join(there)}")


def info(name: str) -> Info:
    """What a method is, in a line, and where it comes from.

    Read from the method's source where it is written there in plain words: to import most methods
    takes seconds, for torch.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    _check_name(name)
    if (written := _written_info(_FOLDER / f"{name}.py")) is not None:
        return written
    found: Info = method_class(name).info
    return found


def _written_info(file: Path) -> Info | None:
    """`Info("...", ...)` of a file, if it is there once and made of literals."""
    return _parsed_info(file, file.stat().st_mtime_ns)


@lru_cache(maxsize=256)
def _parsed_info(file: Path, changed_ns: int) -> Info | None:
    """Of the file as it was changed last: to parse it takes milliseconds."""
    calls = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Info"
    ]
    if len(calls) != 1 or not all(isinstance(arg, ast.Constant) for arg in _arguments(calls[0])):
        return None
    given = {word.arg or "": ast.literal_eval(word.value) for word in calls[0].keywords}
    return Info(*map(ast.literal_eval, calls[0].args), **given)


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(word.value for word in call.keywords)]


def depth(
    name: str,
    proxy: str | Path = DEFAULT_PROXY,
    probe: LinearProbe | Path | str | None = "auto",
    **options: Any,
) -> int | None:
    """How many layers of a proxy a method needs with a probe and options; None for all."""
    if probe != "auto":
        from tamis.compressors.features.shipped_probes import opened

        found = opened(probe)
        return found.card.layers if found else None
    if name == "fusion":
        name = DEFAULT
    deep = getattr(method_class(name), "depth", None)
    if deep is None:
        return None
    known = inspect.signature(deep).parameters
    layers: int | None = deep(str(proxy), **{k: v for k, v in options.items() if k in known})
    return layers


def fits(name: str, proxy: str | Path = DEFAULT_PROXY) -> bool:
    """Whether all that a method has to know of a proxy ships with tamis: its probe, its heads."""
    try:
        depth(name, proxy)
    except BadInput:
        return False
    ships = getattr(method_class(name), "ships", None)
    return ships is None or bool(ships(str(proxy)))


def build(
    name: str = DEFAULT,
    *,
    proxy: Proxy | Any | str | Path = DEFAULT_PROXY,
    encoder: Any | str = DEFAULT_ENCODER,
    root: Path | None = None,
    **options: Any,
) -> Scorer:
    """A method, ready to score.

    Args:
        name: a method of this folder.
        proxy: a loaded proxy, or the name or folder of one that is on this machine.
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
    check_options(name, options)
    given: dict[str, Any] = {}
    if kind.info.needs == "proxy":
        layers = None
        if isinstance(proxy, str | Path):
            layers = depth(name, proxy, **{"probe": "auto", **options})
        given["reader"] = load_proxy(proxy, layers, root)
    elif kind.info.needs == "encoder":
        given["encoder"] = _encoder(encoder, root)
    method: Scorer = kind(**given, **options)
    return method


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses what a method has no option for, before any model is loaded.

    Raises:
        UnknownMethod: no such method. BadInput: an option that the method does not have, or a value
            of another kind than the option takes.
    """
    accepted = option_kinds(method_class(name))
    if unknown := sorted(set(options) - set(accepted)):
        raise BadInput(
            f"{name} has no option {unknown}; its options are {sorted(accepted) or 'none'}"
        )
    for option, value in options.items():
        if not fits_kind(value, accepted[option]):
            raise BadInput(
                f"{name}: {option} is {value!r:.80}; give {' or '.join(told(accepted[option]))}"
            )


def load_proxy(proxy: Any, layers: int | None, root: Path | None = None) -> Any:
    """A proxy by name or folder, with as many layers as are read; a loaded one as it is."""
    if not isinstance(proxy, str | Path):
        return proxy
    from tamis.probes.hub.zoo import load_proxy as load

    return load(proxy, layers=layers, root=root)


def _encoder(encoder: Any, root: Path | None) -> Any:
    if not isinstance(encoder, str):
        return encoder
    from tamis.probes.hub.zoo import locate
    from tamis.probes.model.encoder import Encoder

    return Encoder.from_folder(locate(encoder, root))


def _fusion(proxy: Any, encoder: Any, root: Path | None, options: dict[str, Any]) -> Scorer:
    """Attention and words always; the encoder only where it is already on this machine."""
    check_options("fusion", options)
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
