"""The methods: a file each in `methods/`, whose last line is `Method = TheClass`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.method import MethodInfo, MethodKind
from tamis.compressors.options import check_values
from tamis.probes.errors import BadInput
from tamis.probes.folder_registry import FolderRegistry

if TYPE_CHECKING:
    from tamis.probes.model.encoder import VectorSource
    from tamis.probes.model.proxy import Proxy

DEFAULT = "question_rows"
DEFAULT_PROXY = "smollm2-135m"
DEFAULT_ENCODER = "minilm-l6"


METHODS: FolderRegistry[Any, MethodInfo] = FolderRegistry(
    "method", "compressors/methods", MethodInfo
)


def method_names(kind: MethodKind | None = "compression") -> list[str]:
    """The methods of a kind, or all of them, by their file names."""
    names = METHODS.names()
    return [name for name in names if kind is None or method_info(name).kind == kind]


def method_class(name: str) -> Any:
    """The class of a method, a subclass of `Method`.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    return METHODS.load(name)


def method_info(name: str) -> MethodInfo:
    """What a method is, in a line, and where it comes from; most often without importing its file.

    Raises:
        UnknownMethod: with the nearest name there is.
    """
    return METHODS.info(name)


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
    except BadInput:
        return False
    return bool(method_class(name).ships_for(str(proxy)))


class InstalledModels:
    """The models that methods are built with: loaded ones as they are, others from this machine."""

    def __init__(
        self, proxy: Proxy | Any | str | Path, encoder: Any | str, root: Path | None
    ) -> None:
        self.proxy, self.given_encoder, self.root = proxy, encoder, root
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

        device = str(getattr(self.proxy, "device", "auto"))
        return Encoder.from_folder(locate(self.given_encoder, self.root), device)


def build_method(
    name: str = DEFAULT,
    *,
    proxy: Proxy | Any | str | Path = DEFAULT_PROXY,
    encoder: Any | str = DEFAULT_ENCODER,
    root: Path | None = None,
    **options: Any,
) -> Any:
    """A method, ready for use: a `Scorer`, a `Ranker` or an `Orderer`, by its kind.

    Args:
        name: a file of `methods/`.
        proxy: a loaded proxy, or the name or folder of one that is on this machine.
        encoder: likewise, for the methods that embed.
        root: where models are; by default the user's cache.
        options: the method's own, as its class documents them.

    Raises:
        UnknownMethod: no such method. ProxyMissing: its model is not on this machine.
        BadInput: an option that the method does not have.
    """
    check_options(name, options)
    return method_class(name).build(InstalledModels(proxy, encoder, root), options)


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuses what a method has no option for, before any model is loaded.

    Raises:
        UnknownMethod: no such method. BadInput: an option that the method does not have, or a value
            of another kind than the option takes.
    """
    check_values(name, method_class(name), options)


def load_proxy(proxy: Any, layers: int | None, root: Path | None = None) -> Any:
    """A proxy by name or folder, with as many layers as are read; a loaded one as it is."""
    if not isinstance(proxy, str | Path):
        return proxy
    from tamis.probes.hub.zoo import load_proxy as load

    return load(proxy, layers=layers, root=root)
