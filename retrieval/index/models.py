"""The models of an index: those that encode chunks, and those that encode questions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tamis.retrieval.keys.recipe import KeyRecipe

if TYPE_CHECKING:
    from tamis.probes.attention.kv_layers import ExactKVLayers
    from tamis.probes.model.encoder import Encoder
    from tamis.probes.prompt import PassageTokens
    from tamis.retrieval.keys.encoder import KeyEncoder
    from tamis.retrieval.storage.kept_windows import KeptWindow
    from tamis.text.types import Passage


WindowObserver = Callable[[int, "PassageTokens", "ExactKVLayers"], None]
"""Called with the number of a text, a window of it, and its keys and values with the opening's."""


class ChunkKeeper(Protocol):
    """Reads chunks so that they can be asked again without being read."""

    @property
    def proxy(self) -> Any:
        """The model that reads them."""

    def keep_chunks(
        self, passages: Sequence[Passage], observe: WindowObserver | None = None
    ) -> Iterator[Sequence[KeptWindow]]:
        """The kept windows of each chunk under its title line, in order.

        Args:
            observe: sees each window exactly as it was read, in order.
        """


@dataclass(frozen=True, slots=True)
class ChunkModels:
    """The models that encode chunks; None for what the index does not have.

    Attributes:
        questions: training queries are made of them; if there are none, of general ones that ship
            with tamis.
    """

    keys: KeyEncoder | None = None
    vectors: Encoder | None = None
    questions: Sequence[str] = ()
    kv: ChunkKeeper | None = None

    @property
    def read_once(self) -> bool:
        """Whether keys are taken from the reading that is kept."""
        keys, kv = self.keys, self.kv
        return keys is not None and kv is not None and keys.proxy is kv.proxy


class QuestionModels:
    """The models that encode questions, loaded on first use, shared by all states of an index."""

    def __init__(self, proxy: Any, encoder: Any, root: Path | None, device: str = "auto") -> None:
        """Models that are given, or named.

        Args:
            device: where models are loaded to, unless a loaded proxy is given: then where that is.
        """
        self._proxy, self._encoder, self._root = proxy, encoder, root
        self._device = str(getattr(proxy, "device", device))
        self._key_encoder: KeyEncoder | None = None
        self._lock = threading.Lock()

    def key_encoder(self, recipe: KeyRecipe) -> KeyEncoder:
        """The encoder of attention keys and queries, by the recipe that the index was made with."""
        with self._lock:
            # the recipe changes when the index is rebuilt
            if self._key_encoder is None or self._key_encoder.recipe != recipe:
                from tamis.probes.hub.zoo import load_proxy
                from tamis.retrieval.keys.encoder import KeyEncoder

                proxy = recipe.model if self._proxy is None else self._proxy
                if isinstance(proxy, str | Path):
                    proxy = load_proxy(
                        proxy, layers=recipe.layers[-1] + 1, device=self._device, root=self._root
                    )
                self._key_encoder = KeyEncoder(proxy, recipe)
            return self._key_encoder

    def encoder(self, name: str) -> Any:
        """The encoder of sentence vectors; `name` is the one of the index's manifest."""
        with self._lock:
            if self._encoder is None or isinstance(self._encoder, str | Path):
                self._encoder = load_encoder(name, self._root, self._encoder, self._device)
            return self._encoder


def load_encoder(
    name: str, root: Path | None, given: str | Path | None = None, device: str = "auto"
) -> Encoder:
    """The encoder of an index's vectors, with the pooling that they were made with.

    Args:
        name: as the index's manifest has it: an encoder, or `encoder:pooling`.
        given: another name of the encoder, or its folder.
        device: as in `Encoder.from_folder`.
    """
    from tamis.probes.hub.zoo import locate
    from tamis.probes.model.encoder import Encoder

    encoder, _, pooling = name.partition(":")
    if given is not None and Path(given).is_dir():
        found = Encoder.from_folder(given, device)
    else:
        found = Encoder.from_folder(locate(str(given or encoder), root), device)
    return found.with_pooling(pooling) if pooling else found
