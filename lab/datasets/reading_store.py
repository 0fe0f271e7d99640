"""Kept readings: what a model computed for one input, on disk, for every later run.

    ReadingStore      tensors and facts of anything
    CaseReadings      what a method read of a case, for every method and refit
    SignalReadings    signals of single prompts
    cached_reader     a proxy that keeps passages in memory

FOLDER/<digest of the key>/key.json                         the key in words
FOLDER/<digest of the key>/<digest of the identity>.safetensors
    tensors     of one entry
    metadata    `facts`, JSON; `checksum` of tensors, facts and the file's place

A file appears whole or not at all and never changes, so processes may share a folder: two that
write the same entry write the same content. A file that is torn, damaged or in another's place
counts as absent.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tamis.compressors.method import Scorer
from tamis.compressors.reading.windows import Reading, sentences_apart
from tamis.compressors.types import Scores
from tamis.probes.atomic_file import atomic_path
from tamis.probes.errors import BadInput
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.prompt import Prompt
from tamis.probes.signal import Signal, Want
from tamis.text.types import Passage, Unit
from tamis_lab.datasets.record_files import file_sha256

FORMAT = 1
"""Part of every key: raised whenever files are laid out in another way."""
CACHE_BYTES = 2 << 30
"""Of passages kept in memory: data sets ask many questions about the same ones."""


class CaseReader(Protocol):
    """Whatever reads cases with a model, and says what its readings depend on."""

    @property
    def reading_key(self) -> str:
        """All of its options, and its version, that `read` depends on, question aside."""
        ...

    @property
    def reader(self) -> Any:
        """The `Reader` that `read` runs."""
        ...

    def read(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Any:
        """Runs the model: a `Reading`."""
        ...


@runtime_checkable
class ReadingScorer(CaseReader, Scorer, Protocol):
    """A scorer in two halves, so that one reading serves many fits and methods of scoring."""

    def score_reading(
        self, reading: Any, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Scores:
        """Scores what was read; no model runs."""
        ...


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Everything that readings depend on, apart from the input of each.

    Attributes:
        kind: what is read, such as `signals`.
        model, revision: of the model that reads. dtype: what it computes in.
        template: of its prompts.
        options: all else that a reading depends on, in words.
        version: of what is read and how it is stored: raised whenever either changes.
    """

    kind: str
    model: str
    revision: str
    dtype: str = ""
    template: str = ""
    options: str = ""
    version: int = 1

    @classmethod
    def of_reader(cls, kind: str, reader: Any, options: str = "", version: int = 1) -> StoreKey:
        """The key of what a proxy reads, whether or not it keeps passages in memory."""
        card, template = reader.card, reader.layout.template.name
        proxy = getattr(reader, "proxy", reader)
        dtype = str(getattr(proxy, "arithmetic", getattr(proxy, "dtype", "")))
        dtype = dtype.removeprefix("torch.")
        return cls(kind, card.name, card.revision, dtype, template, options, version)


@dataclass(frozen=True, slots=True)
class Entry:
    """What is kept for one input: tensors on the CPU, and facts that JSON can hold."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]


class ReadingStore:
    """A folder of entries of one key, one small safetensors file each.

    An entry is found by its identity: whatever JSON can hold, all that its input consists of.
    """

    def __init__(self, folder: Path, key: StoreKey) -> None:
        """Makes the key's folder.

        Raises:
            BadInput: it cannot be made.
        """
        text = json.dumps({"format": FORMAT, **asdict(key)}, sort_keys=True)
        self.folder = folder / _digest(text)
        with _refuse_unwritable(folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            if not (note := self.folder / "key.json").exists():
                with atomic_path(note) as temporary:
                    temporary.write_text(text, "utf-8")

    def get(self, identity: object) -> Entry | None:
        """The entry of an identity; None if there is none, or its file is damaged."""
        path = self._path(identity)
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                tensors = {name: file.get_tensor(name) for name in file.keys()}
            if metadata["checksum"] != self._checksum(path, tensors, metadata["facts"]):
                return None
            return Entry(tensors, json.loads(metadata["facts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def put(
        self, identity: object, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
    ) -> Entry:
        """Keeps an entry, and returns it as a later run will find it.

        Raises:
            BadInput: it cannot be written.
        """
        path, text = self._path(identity), json.dumps(facts)
        entry = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        metadata = {"facts": text, "checksum": self._checksum(path, entry, text)}
        with _refuse_unwritable(self.folder), atomic_path(path) as temporary:
            save_file(entry, temporary, metadata=metadata)
        return Entry(entry, json.loads(text))

    def get_or_compute(self, identity: object, compute: Callable[[], Entry]) -> Entry:
        """The entry of an identity, or a new one, kept; either way as a later run will find it."""
        if (entry := self.get(identity)) is not None:
            return entry
        new = compute()
        return self.put(identity, new.tensors, new.facts)

    def _path(self, identity: object) -> Path:
        return self.folder / f"{_digest(json.dumps(identity, sort_keys=True))}.safetensors"

    def _checksum(self, path: Path, tensors: Mapping[str, Tensor], facts: str) -> str:
        digest = hashlib.sha256(f"{self.folder.name}/{path.stem}\0{facts}".encode())
        for name in sorted(tensors):
            tensor = tensors[name]
            digest.update(f"\0{name} {tensor.dtype} {list(tensor.shape)}\0".encode())
            digest.update(tensor.view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _digest(text: str) -> str:
    """128 bits as a name for a file: no two texts share it but by chance in 2^64 of them."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@contextmanager
def _refuse_unwritable(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or error
        raise BadInput(
            f"readings cannot be kept in {folder} ({why}); name another folder"
        ) from error


def store_key(method: CaseReader, kind: str = "features") -> StoreKey:
    """Everything that a method's readings depend on, apart from the case itself.

    Of a method that does not ship with tamis also its code, which its author may be editing.

    Args:
        kind: what is kept; readings of different kinds are kept apart.
    """
    made = type(method)
    code = "" if made.__module__.startswith("tamis.compressors.") else f" {code_sha256(made)}"
    options = f"{made.__name__} {method.reading_key}{code}"
    return StoreKey.of_reader(kind, method.reader, options)


def code_sha256(method: type) -> str:
    """The SHA-256 of the file of a method's class; empty for one that was typed in."""
    try:
        return file_sha256(Path(inspect.getfile(method)))
    except (TypeError, OSError):
        return ""


def case_identity(question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> list[Any]:
    """What tells a case from any other: question, titles and texts, and the units' spans.

    Of a question of several sentences also those that ask, on which the reading depends.
    """
    texts = [[passage.title, passage.text] for passage in passages]
    sentences = sentences_apart(question)
    asked = [question, sentences] if sentences else question
    return [asked, texts, [[unit.passage, *unit.visible] for unit in units]]


class CaseReadings:
    """Kept readings of cases. Features are rounded to fp16; `tokens_cached` is not kept."""

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self._store = ReadingStore(folder, key)

    def get(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading | None:
        """The kept reading of a case; None if there is none."""
        entry = self._store.get(case_identity(question, passages, units))
        return None if entry is None else _to_reading(entry)

    def put(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit], reading: Reading
    ) -> Reading:
        """Keeps a reading, and returns it as a later run will find it."""
        entry = _to_entry(reading)
        identity = case_identity(question, passages, units)
        return _to_reading(self._store.put(identity, entry.tensors, entry.facts))

    def get_or_read(
        self,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        read: Callable[[str, Sequence[Passage], Sequence[Unit]], Reading],
    ) -> Reading:
        """The kept reading of a case, or a new one, kept."""
        kept = self.get(question, passages, units)
        if kept is not None:
            return kept
        return self.put(question, passages, units, read(question, passages, units))


def _to_entry(reading: Reading) -> Entry:
    tensors = {
        "features": reading.features.half(),
        "tokens": torch.tensor(reading.tokens, dtype=torch.int32),
    }
    if reading.cosines is not None:
        tensors["cosines"] = reading.cosines
    if reading.depths is not None:
        tensors["depths"] = torch.tensor(reading.depths, dtype=torch.int32)
    facts = {
        "windows": reading.windows,
        "layers": reading.layers,
        "tokens_read": reading.tokens_read,
        "timings_ms": reading.timings_ms,
    }
    return Entry(tensors, facts)


def _to_reading(entry: Entry) -> Reading:
    depths = entry.tensors.get("depths")
    return Reading(
        entry.tensors["features"].float(),
        tuple(entry.tensors["tokens"].tolist()),
        **entry.facts,
        cosines=entry.tensors.get("cosines"),
        depths=None if depths is None else tuple(depths.tolist()),
    )


@dataclass(frozen=True, slots=True)
class TimedSignal:
    """A signal, rounded to bfloat16 (three digits), and the milliseconds that reading it took."""

    signal: Signal
    ms: float


class SignalReadings:
    """Kept signals of one reader's model, revision, dtype and template."""

    def __init__(self, folder: Path, reader: Any) -> None:
        self._store = ReadingStore(folder, StoreKey.of_reader("signals", reader))

    def get(self, prompt: Prompt, want: Want) -> TimedSignal | None:
        """The kept signal of a prompt; None if there is none."""
        entry = self._store.get(_signal_identity(prompt, want))
        return None if entry is None else _to_signal(entry, want)

    def put(self, prompt: Prompt, want: Want, signal: Signal, ms: float) -> TimedSignal:
        """Keeps a signal, and returns it as a later run will find it."""
        tensors = {"weights": signal.weights.bfloat16()}
        return _to_signal(
            self._store.put(_signal_identity(prompt, want), tensors, {"ms": ms}), want
        )


def _signal_identity(prompt: Prompt, want: Want) -> Sequence[Any]:
    read, ask = prompt.passage, prompt.question
    sentences = [ask.sentences] if "sentence_means" in want.rows else []
    asked = [ask.ids, ask.first_row, *sentences]
    return [read.ids, read.title_tokens, *asked, want.layers, want.rows]


def _to_signal(entry: Entry, want: Want) -> TimedSignal:
    return TimedSignal(
        Signal(entry.tensors["weights"].float(), want.layers, want.rows), entry.facts["ms"]
    )


def cached_reader(proxy: Proxy, sharers: int = 1) -> CachedReader:
    """The proxy with passages it has read kept in memory; a second question costs a fraction.

    Args:
        sharers: how many such readers share `CACHE_BYTES`.
    """
    return CachedReader(proxy, PassageCache(max_bytes=CACHE_BYTES // sharers))
