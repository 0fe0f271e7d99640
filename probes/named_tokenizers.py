"""Tokenizers by names that people know, such as `gpt-4o`, from packages that carry their files.

A vocabulary is looked for in packages that are installed, and is never fetched: see `VOCABULARIES`.
Where none has it, `o200k_base.tiktoken` and the like can be given as files. Files are checked
against the SHA-256 that their publisher or the package of the pinned version has.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import unicodedata
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from tamis.probes.errors import UnknownTokenizer
from tamis.probes.extras import needing
from tamis.probes.tokens import TextTokenizer, TokenizedText, replace_surrogates

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_OTHERS = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LOWER, _UPPER = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"
RANKS = ".tiktoken"
_CHUNK_CHARS = 100_000
"""Longer texts are cut before they are encoded: tiktoken's patterns recurse, and end the process on
a run of some hundred thousand characters."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """A vocabulary and where it is found.

    Attributes:
        models: names that it is known by.
        sha256: of its file, unpacked.
        origins: packages, and the file in each.
        install: what brings it.
        pattern: cuts a text into pieces before tokens are looked up; None: a `tokenizer.json`.
        is_nfc: whether texts are brought into Unicode's form NFC first.
        approximates: what it only stands for; empty where it is the models' own.
    """

    name: str
    models: tuple[str, ...]
    sha256: str
    origins: tuple[tuple[str, str], ...]
    install: str
    pattern: str | None = None
    is_nfc: bool = False
    approximates: str = ""

    def file(self) -> Path | None:
        """Its file in the first package that is installed and has it."""
        return next(filter(Path.is_file, self._candidates()), None)

    def _candidates(self) -> Iterator[Path]:
        for package, file in self.origins:
            spec = find_spec(package)  # of a top-level package: nothing is imported
            for folder in (spec and spec.submodule_search_locations) or ():
                yield Path(folder) / file


_EXTRA = 'pip install "tamis[tokenizers]"'
_LLAMA_INDEX = "core/_static/tiktoken_cache"
VOCABULARIES = (
    Vocabulary(
        "o200k_base",
        ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "o1", "o3", "o4-mini"),
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        (
            ("bpe_openai", "data/o200k_base.tiktoken.gz"),
            ("llama_index", f"{_LLAMA_INDEX}/fb374d419588a4632f3f557e76b4b70aebbca790"),
        ),
        _EXTRA,
        f"{_BEFORE}{_UPPER}*{_LOWER}+{_CONTRACTIONS}?|{_BEFORE}{_UPPER}+{_LOWER}*{_CONTRACTIONS}?"
        r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
    Vocabulary(
        "cl100k_base",
        (
            "gpt-4",
            "gpt-4-turbo",
            "gpt-3.5-turbo",
            "text-embedding-3-small",
            "text-embedding-3-large",
        ),
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        (
            ("bpe_openai", "data/cl100k_base.tiktoken.gz"),
            ("llama_index", f"{_LLAMA_INDEX}/9b5ad71b2ce5302211f9c61530b329a4922fc6a4"),
        ),
        _EXTRA,
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s",
    ),
    Vocabulary(
        "llama-3",
        ("llama-3.1", "llama-3.2", "llama-3.3"),
        "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55",
        (("llama_models", "llama3/tokenizer.model"),),
        "pip install llama-models",
        rf"{_CONTRACTIONS}|{_BEFORE}\p{{L}}+|\p{{N}}{{1,3}}{_OTHERS}",
    ),
    Vocabulary(
        "qwen",
        ("qwen2", "qwen2.5", "qwen3"),
        "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186",
        (("dashscope", "resources/qwen.tiktoken"),),
        "pip install dashscope",
        rf"{_CONTRACTIONS}|{_BEFORE}\p{{L}}+|\p{{N}}{_OTHERS}",
        is_nfc=True,
    ),
    Vocabulary(
        "claude",
        (),
        "c241737df24b4e7f7c9af4fdcee29a0ca903dcb288a8b753bc346a3092911767",
        (
            ("litellm", "litellm_core_utils/tokenizers/anthropic_tokenizer.json"),
            ("anthropic", "tokenizer.json"),
        ),
        "pip install litellm",
        approximates="no tokenizer of Claude 3 or newer is published; this is Claude 2's, and "
        "counts differ by some percent, so leave room in a budget that must not be exceeded",
    ),
)
NAMES: Mapping[str, Vocabulary] = {
    name: one for one in VOCABULARIES for name in (one.name, *one.models)
}


class RankTokenizer(TextTokenizer):
    """A tokenizer of tiktoken's kind: special tokens are ordinary text."""

    def __init__(self, encoding: Any, name: str, is_nfc: bool) -> None:
        self._encoding, self.name, self._is_nfc = encoding, name, is_nfc

    def encode(self, text: str) -> TokenizedText:
        """Ids and offsets; a token that is a part of a character has the whole character's.

        Raises:
            UnknownTokenizer: the text is brought into another form before it is encoded, so that
                there are no offsets in it.
        """
        if self._normalise(text) != text:
            raise UnknownTokenizer(
                f"{self.name} counts this text in Unicode's form NFC, and tells no offsets of it; "
                "give the text in that form"
            )
        ids = self._ids(text)
        data = replace_surrogates(text).encode()
        starts = np.cumsum([0, *map(len, self._encoding.decode_tokens_bytes(ids))])
        is_first = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80
        begun = np.concatenate([[0], np.cumsum(is_first)])  # characters that begin before a byte
        first, stop = begun[starts[:-1] + 1] - 1, begun[starts[1:]]
        return TokenizedText(ids, list(zip(first.tolist(), stop.tolist(), strict=True)))

    def encode_many(self, texts: Any) -> list[TokenizedText]:
        """`encode` of each text."""
        return [self.encode(text) for text in texts]

    def token_text(self, token: int) -> str:
        """The text of one token; U+FFFD where it is no whole character."""
        return str(self._encoding.decode([token]))

    def count(self, text: str) -> int:
        """The number of tokens of a text; the interpreter is not held while it is encoded."""
        return len(self._ids(self._normalise(text)))

    def count_many(self, texts: Any) -> list[int]:
        """`count` of each text."""
        return [self.count(text) for text in texts]

    def _normalise(self, text: str) -> str:
        return unicodedata.normalize("NFC", text) if self._is_nfc else text

    def _ids(self, text: str) -> list[int]:
        text = replace_surrogates(text)
        pieces = range(0, len(text), _CHUNK_CHARS)
        return [
            i for a in pieces for i in self._encoding.encode_ordinary(text[a : a + _CHUNK_CHARS])
        ]


def available_names() -> list[str]:
    """The names whose vocabulary a package on this machine has; nothing is read."""
    return [name for name, one in NAMES.items() if one.file() is not None]


def approximation_warning(tokenizer: TextTokenizer) -> str:
    """What to say where a budget is counted by a tokenizer that only stands for a model's."""
    return f"the tokenizer {tokenizer.name} is an approximation: {tokenizer.approximates}"


@cache
def named_tokenizer(name: str) -> TextTokenizer:
    """The tokenizer of one of `NAMES`, read once.

    Raises:
        UnknownTokenizer: no package on this machine has its vocabulary, or it has another one.
        MissingExtra: tiktoken, which reads it, is not installed.
    """
    vocabulary = NAMES[name]
    if (file := vocabulary.file()) is None:
        raise UnknownTokenizer(
            f"the vocabulary {vocabulary.name} of {name} is in no package on this machine; "
            f"{vocabulary.install}" + _or_a_file(vocabulary)
        )
    return _read(vocabulary, file, name)


def tokenizer_of_file(path: Path, name: str | None = None) -> TextTokenizer:
    """The tokenizer of a `tokenizer.json`, of a folder with one, or of a file of ranks.

    The name of a file of ranks, such as `o200k_base.tiktoken`, says how texts are cut.

    Raises:
        UnknownTokenizer: no tokenizer, or a file of ranks of another name or content than those
            that are known.
        MissingExtra: tiktoken, which reads ranks, is not installed.
    """
    if path.suffix != RANKS:
        return TextTokenizer.from_file(path, name)
    known = {one.name: one for one in VOCABULARIES if one.pattern}
    if (vocabulary := known.get(path.stem)) is None:
        raise UnknownTokenizer(
            f"{path} is no vocabulary that is known by its name; there are "
            f"{', '.join(f'{one}{RANKS}' for one in known)}"
        )
    return _read(vocabulary, path, name or vocabulary.name)


def _or_a_file(vocabulary: Vocabulary) -> str:
    return f", or give the file {vocabulary.name}{RANKS}" if vocabulary.pattern else ""


def _read(vocabulary: Vocabulary, file: Path, name: str) -> TextTokenizer:
    try:
        data = file.read_bytes()
        data = gzip.decompress(data) if file.suffix == ".gz" else data
    except (OSError, EOFError, zlib.error) as error:
        raise UnknownTokenizer(f"{file} cannot be read ({error})") from error
    if hashlib.sha256(data).hexdigest() != vocabulary.sha256:
        raise UnknownTokenizer(
            f"{file} is not the vocabulary {vocabulary.name} as published (its SHA-256 differs); "
            f"{vocabulary.install}{_or_a_file(vocabulary)}"
        )
    if vocabulary.pattern is not None:
        return RankTokenizer(
            _encoding(vocabulary.name, vocabulary.pattern, data), name, vocabulary.is_nfc
        )
    tokenizer = TextTokenizer.from_file(file, name)
    tokenizer.approximates = vocabulary.approximates
    return tokenizer


def _encoding(name: str, pattern: str, data: bytes) -> Any:
    with needing(f"tokenizer {name} needs tiktoken, which is not installed; {_EXTRA}"):
        from tiktoken import Encoding
    lines = (line.split() for line in data.splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    return Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})
