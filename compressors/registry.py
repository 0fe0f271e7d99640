"""The methods: a file each in `methods/`, whose last line is `Method = TheClass`.

Other packages add theirs as entry points of `tamis.methods`. Where a name is taken, a class or an
instance of a method is, too: it needs no name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tamis.compressors.method import Method, MethodInfo, MethodKind
from tamis.compressors.options import check_options_of
from tamis.probes.errors import BadInput, BrokenPlugin, ProxyMissing
from tamis.probes.folder_registry import FolderRegistry
from tamis.probes.plugins import INSTALL, LAB, METHODS_GROUP, warn_of_plugin

if TYPE_CHECKING:
    from tamis.probes.model.encoder import VectorSource
    from tamis.probes.model.proxy import Proxy

DEFAULT = "question_rows"
DEFAULT_PROXY = "smollm2-135m"
DEFAULT_ENCODER = "minilm-l6"
ENGLISH_RANK_ENCODER, SMALL_RANK_ENCODER = "e5-small-english", "e5-small"
RANK_ENCODERS = ("embeddinggemma-300m", ENGLISH_RANK_ENCODER, SMALL_RANK_ENCODER)
"""Encoders for rankings, the best for English first, the best for other languages last."""
CROSS_ENCODERS = (DEFAULT_ENCODER, "ms-marco-minilm-l12")
"""What `method="cross"` reads with: an encoder with adapters of tamis, or a published one."""
DEFAULT_MODELS = (DEFAULT_PROXY, DEFAULT_ENCODER, ENGLISH_RANK_ENCODER, SMALL_RANK_ENCODER)
"""What the default method reads with; without the encoders it keeps and ranks less well."""


LAB_METHODS = (
    *("attention_sorting", "attnrank", "corehead", "found_in_the_middle", "icr", "qrhead"),
    *("raw_attention", "systemone"),
)
"""Published methods that another distribution of the project has: it is named where one is asked
for and not installed."""


class MethodRegistry(FolderRegistry[Any, MethodInfo]):
    """The methods; messages name those that users choose from, by kind."""

    def offer(self) -> str:
        """The names without those of research."""
        kinds = get_args(MethodKind)
        return "; ".join(f"{', '.join(method_names(k, research=False))} ({k})" for k in kinds)


METHODS = MethodRegistry(
    "method",
    "tamis/compressors/methods",
    MethodInfo,
    METHODS_GROUP,
    elsewhere=dict.fromkeys(LAB_METHODS, INSTALL[LAB]),
)


def method_names(kind: MethodKind | None = "compression", research: bool = True) -> list[str]:
    """The methods of a kind, or all of them, by name; those that cannot be loaded are left out.

    Args:
        research: with those of papers, which are there for comparison.
    """
    return [name for name in METHODS.names() if _is_listed(name, kind, research)]


def _is_listed(name: str, kind: MethodKind | None, research: bool) -> bool:
    try:
        info = METHODS.info(name)
    except BrokenPlugin as error:
        warn_of_plugin(str(error))
        return False
    return kind in (None, info.kind) and (research or not info.research)


def install_hint(name: Any) -> str:
    """How to install a method that is known and not here, as a clause; empty for others."""
    if name not in LAB_METHODS or name in METHODS.names():
        return ""
    return f"; {name} is not installed: {INSTALL[LAB]}"


def method_name(method: Any) -> str:
    """What a method is called: its name, or that of its class."""
    if isinstance(method, str):
        return method
    return str(method.__name__ if isinstance(method, type) else type(method).__name__)


def method_class(method: Any) -> Any:
    """The class of a method that is given by name, as a class, or as an instance.

    Raises:
        UnknownMethod: with the nearest name there is.
        BrokenPlugin: it is another package's, and cannot be loaded.
    """
    if isinstance(method, type) and issubclass(method, Method):
        return method
    return type(method) if isinstance(method, Method) else METHODS.load(method)


def method_info(method: Any) -> MethodInfo:
    """What a method is, in a line, and where it comes from; most often without importing its file.

    Args:
        method: a name, a class, or an instance.

    Raises:
        UnknownMethod: with the nearest name there is.
        BrokenPlugin: it is another package's, and cannot be loaded.
    """
    if isinstance(method, str):
        return METHODS.info(method)
    found: MethodInfo = method_class(method).info
    return found


def layers_needed(name: str, proxy: str | Path = DEFAULT_PROXY, **options: Any) -> int | None:
    """How many layers of a proxy a method reads with these options; None for all."""
    layers: int | None = method_class(name).layers_needed(str(proxy), options)
    return layers


def uses_encoder(name: str, proxy: str | Path = DEFAULT_PROXY, **options: Any) -> bool:
    """Whether a method lets the sentence encoder read units, where it is installed."""
    found: bool = method_class(name).uses_encoder(str(proxy), options)
    return found


def ships_for(name: str, proxy: str | Path = DEFAULT_PROXY) -> bool:
    """Whether all that a method has to know of a proxy ships with tamis: its probe, its heads."""
    try:
        layers_needed(name, proxy)
    except BrokenPlugin as error:
        warn_of_plugin(str(error))
        return False
    except BadInput:
        return False
    return bool(method_class(name).ships_for(str(proxy)))


class InstalledModels:
    """The models that methods are built with: loaded ones as they are, others from this machine."""

    def __init__(
        self,
        proxy: Proxy | Any | str | Path,
        encoder: Any | str,
        root: Path | None,
        rank_encoders: Sequence[Any] | None = None,
    ) -> None:
        self.proxy, self.given_encoder, self.root = proxy, encoder, root
        self.given_rank_encoders = rank_encoders
        self.vector_source: VectorSource | None = None

    @property
    def proxy_name(self) -> str:
        """The proxy's name, folder or hub id."""
        return str(self.proxy if isinstance(self.proxy, str | Path) else self.proxy.card.name)

    def reader(self, layers: int | None) -> Any:
        """The proxy, loaded with as many layers as are read; a loaded one as it is."""
        return load_proxy(self.proxy, layers, self.root)

    def encoder(self) -> Any:
        """The sentence encoder, on the device of a loaded proxy."""
        if not isinstance(self.given_encoder, str):
            return self.given_encoder
        from tamis.probes.hub.zoo import locate
        from tamis.probes.model.encoder import Encoder

        return Encoder.from_folder(locate(self.given_encoder, self.root), self._device)

    def rank_encoders(self) -> tuple[Any, ...]:
        """The sentence encoders for rankings, each loaded at its first use, as `RANK_ENCODERS`."""
        if self.given_rank_encoders is not None:
            return tuple(self.given_rank_encoders)
        from tamis.probes.hub.zoo import locate
        from tamis.probes.model.encoder import LazyEncoder

        found = list[LazyEncoder]()
        for name in RANK_ENCODERS:
            with suppress(ProxyMissing):
                found.append(LazyEncoder(locate(name, self.root), self._device))
        return tuple(found)

    def cross_encoder(self, name: str) -> Any:
        """A cross-encoder, on the device of a loaded proxy."""
        from tamis.probes.hub.zoo import locate
        from tamis.probes.model.cross_encoder import CrossEncoder, adapters_file

        adapters = adapters_file(name) if name == DEFAULT_ENCODER else None
        return CrossEncoder.from_folder(locate(name, self.root), adapters, self._device)

    @property
    def _device(self) -> str:
        """The device of a loaded proxy, on which encoders run, too."""
        return str(getattr(self.proxy, "device", "auto"))


def build_method(
    name: str = DEFAULT,
    *,
    proxy: Proxy | Any | str | Path = DEFAULT_PROXY,
    encoder: Any | str = DEFAULT_ENCODER,
    rank_encoders: Sequence[Any] | None = None,
    root: Path | None = None,
    **options: Any,
) -> Any:
    """A method, ready for use: a `Scorer`, a `Ranker` or an `Orderer`, by its kind.

    Args:
        name: a file of `methods/`.
        proxy: a loaded proxy, or the name or folder of one that is on this machine.
        encoder: likewise, for the methods that embed.
        rank_encoders: loaded ones for rankings; None for those of `RANK_ENCODERS` that are on this
            machine.
        root: where models are; by default the user's cache.
        options: the method's own: the fields of its class that `option` made.

    Raises:
        UnknownMethod: no such method. ProxyMissing: its model is not on this machine.
        BadInput: an option that the method does not have.
    """
    check_options(name, options)
    return method_class(name).build(InstalledModels(proxy, encoder, root, rank_encoders), options)


def check_options(method: Any, options: Mapping[str, Any]) -> None:
    """Refuses what a method has no option for, before any model is loaded.

    Args:
        method: a name, a class, or an instance, which has all of its options already.

    Raises:
        UnknownMethod: no such method. BadInput: an option that the method does not have, or a value
            of another kind than the option takes.
    """
    if options and isinstance(method, Method):
        raise BadInput(
            f"{method_name(method)} was built already, and {', '.join(sorted(options))} would "
            "change nothing; give options to its class, or leave them out"
        )
    check_options_of(method_class(method), method_name(method), options)


def load_proxy(proxy: Any, layers: int | None, root: Path | None = None) -> Any:
    """A proxy by name or folder, with as many layers as are read; a loaded one as it is."""
    if not isinstance(proxy, str | Path):
        return proxy
    from tamis.probes.hub.zoo import load_proxy as load

    return load(proxy, layers=layers, root=root)
