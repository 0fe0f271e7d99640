"""The models that read questions for an index; loaded late, so that opening one is quick."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.retrieval.keys.recipe import KeyRecipe

if TYPE_CHECKING:
    from tamis.retrieval.keys.encoder import KeyEncoder


class QuestionModels:
    """The models that read questions, loaded when first asked, shared by all states of an index."""

    def __init__(self, proxy: Any, encoder: Any, root: Path | None) -> None:
        self._proxy, self._encoder, self._root = proxy, encoder, root
        self._key_reader: KeyEncoder | None = None
        self._lock = threading.Lock()

    def key_encoder(self, recipe: KeyRecipe) -> KeyEncoder:
        """What reads questions as the index's chunks were read."""
        with self._lock:
            if self._key_reader is None or self._key_reader.recipe != recipe:  # built anew
                from tamis.probes.hub.zoo import load_proxy
                from tamis.retrieval.keys.encoder import KeyEncoder

                proxy = recipe.model if self._proxy is None else self._proxy
                if isinstance(proxy, str | Path):
                    proxy = load_proxy(proxy, layers=recipe.layers[-1] + 1, root=self._root)
                self._key_reader = KeyEncoder(proxy, recipe)
            return self._key_reader

    def encoder(self, name: str) -> Any:
        """The encoder of the index's sentence vectors."""
        with self._lock:
            if self._encoder is None or isinstance(self._encoder, str | Path):
                from tamis.probes.hub.zoo import locate
                from tamis.probes.model.encoder import Encoder

                given = self._encoder or name
                folder = given if Path(given).is_dir() else locate(str(given), self._root)
                self._encoder = Encoder.from_folder(folder)
            return self._encoder
