"""Tokenizing text, with the character span that each token covers.

Tamis uses two tokenizers that must not be mixed up: the *proxy's* determines what fits into the
proxy, the *budget's* determines how many tokens the caller pays for. Both are `TextTokenizer`s.

A third, `estimating_tokenizer`, counts tokens by rules and needs no file. Reading the 3.5 MB of
`tokenizer.json` takes longer than everything else that a short run without a model does, and a
budget in round numbers does not need it. Counts are within a tenth of those of `smollm2-135m` for
English text, code, logs, JSON and listings: lab/log/agents.md#2026-11-26-tokens-by-rules
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import cast

from tokenizers import Encoding, Regex, Tokenizer, models, pre_tokenizers

from tamis.probes.errors import UnknownTokenizer
from tamis.probes.interruption import check_interruption

_SURROGATE = re.compile("[\ud800-\udfff]")
_PART_CHARS = 1 << 16
_SHORT_CHARS = 1024
_FEW_CHARS = 4096
"""Texts that are shorter than this in total are encoded one after the other, which takes about a
millisecond: starting the tokenizer's threads takes as long while the cores are busy."""
_PORTION_TEXTS = 4096
"""So many texts are encoded at a time."""
_BYTE_LEVEL = re.compile(
    r"'(?:s|t|re|ve|m|ll|d)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
)
"""The pieces of ASCII that byte-level BPE encodes each by itself: those of GPT-2's tokenizer."""
_CUT = re.compile(r"(?<=[!-~])[ \t\n\r]")
"""No piece of any text begins before such a place and ends behind it."""
_ASCII_CHARS, _MIXED_CHARS = 1 << 15, 64
"""Texts are cut into parts of at least so many characters, of which some are of ASCII alone."""
_KNOWN_PIECES, _KNOWN_CHARS = 1 << 16, 64
"""Lengths of so many pieces are remembered, of up to so many characters each."""


def replace_surrogates(text: str) -> str:
    """The text with every lone surrogate replaced by U+FFFD; its length, so all offsets, stay.

    Only the tokenizer sees this copy. Text returned to callers is sliced from their own string.
    """
    if _SURROGATE.search(text) is None:
        return text
    # in parts: one substitution of many would hold the interpreter
    starts = range(0, len(text), _PART_CHARS)
    return "".join(_SURROGATE.sub("\ufffd", text[at : at + _PART_CHARS]) for at in starts)


@dataclass(frozen=True, slots=True)
class TokenizedText:
    """Token ids of one text and, per token, the half-open code-point span it covers."""

    ids: list[int]
    offsets: list[tuple[int, int]]

    def __len__(self) -> int:
        return len(self.ids)


class TextTokenizer:
    """A tokenizer without special tokens: `<|im_end|>` in a document is ordinary text.

    Attributes:
        approximates: what it only stands for; empty where its counts are the model's own.
    """

    approximates: str = ""

    def __init__(
        self,
        tokenizer: Tokenizer,
        name: str,
        owned: bool = False,
        pieces: re.Pattern[str] | None = None,
    ) -> None:
        """Wraps a copy of the tokenizer or, if `owned`, the tokenizer itself, which is modified.

        Args:
            pieces: matches what of ASCII text is encoded each by itself; found out for byte-level
                BPE. Of other tokenizers every text is encoded to count its tokens.
        """
        plain = tokenizer if owned else Tokenizer.from_str(tokenizer.to_str())
        plain.no_padding()
        plain.no_truncation()
        plain.encode_special_tokens = True
        self._plain = plain
        self._pieces = _BYTE_LEVEL if pieces is None and _is_byte_level(plain) else pieces
        self._known: dict[str, int] = {}
        self.name = name

    @classmethod
    def from_file(cls, path: str | Path, name: str | None = None) -> TextTokenizer:
        """Reads a `tokenizer.json`, or the one in a folder.

        Raises:
            UnknownTokenizer: there is no such file, or it is not a tokenizer.
        """
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            return cls(Tokenizer.from_file(str(file)), name or str(path), owned=True)
        except Exception as error:  # the Rust side raises a bare Exception for any bad file
            raise UnknownTokenizer(
                f"{file} cannot be read as a tokenizer ({error}); "
                "give a tokenizer.json, a folder that holds one, or 'proxy'"
            ) from error

    def encode(self, text: str) -> TokenizedText:
        """Ids and offsets of a text, without special tokens."""
        text = replace_surrogates(text)
        if len(text) < _SHORT_CHARS:
            return _tokenized_text(self._plain.encode(text, add_special_tokens=False))
        # unlike `encode`, this does not hold the interpreter
        return _tokenized_text(self._plain.encode_batch([text], add_special_tokens=False)[0])

    def encode_many(self, texts: Sequence[str]) -> list[TokenizedText]:
        """`encode` of each text; many texts are encoded on all cores without holding the GIL."""
        if _is_small_batch(texts):
            return [self.encode(text) for text in texts]
        return [_tokenized_text(e) for e in _encode_batches(self._plain.encode_batch, texts)]

    def token_text(self, token: int) -> str:
        """The text of one token; U+FFFD where it is no whole character."""
        return str(self._plain.decode([token], skip_special_tokens=False))

    def count(self, text: str) -> int:
        """The number of tokens of a text, without special tokens."""
        if self._pieces is not None:
            return self._count_by_pieces([text], self._pieces)[0]
        return self._length(text)

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """`count` of each text; what has to be encoded is, on all cores without holding the GIL."""
        if self._pieces is not None:
            return self._count_by_pieces(texts, self._pieces)
        return self._lengths(texts)

    def _length(self, text: str) -> int:
        """The length of the encoded text."""
        if len(text) < _SHORT_CHARS:
            return len(self._plain.encode(replace_surrogates(text), add_special_tokens=False))
        # without computing offsets: a quarter to a half faster
        return len(
            self._plain.encode_batch_fast([replace_surrogates(text)], add_special_tokens=False)[0]
        )

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        if _is_small_batch(texts):
            return [self._length(text) for text in texts]
        return [len(e) for e in _encode_batches(self._plain.encode_batch_fast, texts)]

    def _count_by_pieces(self, texts: Sequence[str], pattern: re.Pattern[str]) -> list[int]:
        """`count` of each text from the lengths of its pieces, of which most are known.

        It takes a quarter of the time that encoding does. What is not of ASCII is encoded.
        """
        counts, others = dict.fromkeys(texts, 0), list[tuple[str, str]]()
        for text in counts:
            check_interruption()
            if len(text) <= _ASCII_CHARS and text.isascii():
                counts[text] = self._count_pieces(pattern.findall(text))
                continue
            for part in _parts(text):
                if part.isascii():
                    counts[text] += self._count_pieces(pattern.findall(part))
                else:
                    others.append((text, part))
        lengths = self._lengths([part for _, part in others])
        for (text, _), length in zip(others, lengths, strict=True):
            counts[text] += length
        return [counts[text] for text in texts]

    def _count_pieces(self, pieces: list[str]) -> int:
        known = self._known  # of all threads: entries are added, and no thread walks over them
        try:
            return sum(map(known.__getitem__, pieces))
        except KeyError:
            new = [piece for piece in dict.fromkeys(pieces) if piece not in known]
        long = dict[str, int]()
        for piece, length in zip(new, self._lengths(new), strict=True):
            (known if len(piece) <= _KNOWN_CHARS else long)[piece] = length
        if len(known) > _KNOWN_PIECES:
            self._known = {}
        return sum(sum(map(of.get, pieces, repeat(0))) for of in (known, long) if of)


class FunctionTokenizer(TextTokenizer):
    """Counts with a function of the caller's, such as the `encode` of a `tiktoken` encoding.

    The function takes a text and returns its tokens, or their number. There are no offsets.
    """

    def __init__(self, function: Callable[[str], object], name: str | None = None) -> None:
        self._function = function
        self.name = str(name or getattr(function, "__qualname__", type(function).__name__))

    def encode(self, text: str) -> TokenizedText:
        """Not possible.

        Raises:
            UnknownTokenizer: always; a function of this kind tells no offsets.
        """
        raise UnknownTokenizer(f"{self.name} tells no offsets; give a tokenizer.json instead")

    def count(self, text: str) -> int:
        """The number of tokens of a text.

        Raises:
            UnknownTokenizer: the function returns neither tokens nor a number.
        """
        found = self._function(text)
        if isinstance(found, int) and not isinstance(found, bool) and found >= 0:
            return found
        if isinstance(found, Sequence) or hasattr(found, "shape"):
            return len(cast(Sequence[object], found))
        raise UnknownTokenizer(
            f"the tokenizer {self.name} returns {type(found).__name__}; give a function from a "
            "text to its tokens or their number, such as tiktoken's encode"
        )

    def count_many(self, texts: Sequence[str]) -> list[int]:
        """`count` of each text."""
        return [self.count(text) for text in texts]


def _is_byte_level(tokenizer: Tokenizer) -> bool:
    """Whether it cuts texts as `_BYTE_LEVEL` does, and encodes each piece by itself."""
    cutter = tokenizer.pre_tokenizer
    return (
        isinstance(cutter, pre_tokenizers.ByteLevel)
        and cutter.use_regex
        and not cutter.add_prefix_space
        and tokenizer.normalizer is None
        and isinstance(tokenizer.model, models.BPE)
        and not tokenizer.model.dropout
        and all(token.special for token in tokenizer.get_added_tokens_decoder().values())
    )


def _parts(text: str) -> Iterator[str]:
    """The text cut where no token lies; parts with other characters than ASCII's are joined."""
    is_ascii = text.isascii()
    least, at, held = _ASCII_CHARS if is_ascii else _MIXED_CHARS, 0, 0
    while at < len(text):
        found = _CUT.search(text, at + least) if len(text) - at > least else None
        stop = found.start() if found else len(text)
        if is_ascii or text[at:stop].isascii():
            if held < at:
                yield text[held:at]
            yield text[at:stop]
            held = stop
        at = stop
    if held < len(text):
        yield text[held:]


def _is_small_batch(texts: Sequence[str]) -> bool:
    return sum(map(len, texts)) < _FEW_CHARS


def _encode_batches(
    encode: Callable[..., list[Encoding]], texts: Sequence[str]
) -> Iterator[Encoding]:
    """The encodings of all texts, in portions.

    The results of a portion become Python objects in one go, for which the GIL is held: of half a
    million short lines, for half a second.
    """
    for start in range(0, len(texts), _PORTION_TEXTS):
        portion = [replace_surrogates(text) for text in texts[start : start + _PORTION_TEXTS]]
        yield from encode(portion, add_special_tokens=False)


def _tokenized_text(encoding: Encoding) -> TokenizedText:
    return TokenizedText(encoding.ids, encoding.offsets)


ESTIMATE = "estimate"
_PIECES = "|".join(
    [
        # a character each, in scripts without spaces between words
        r"[\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\p{Thai}]",
        # words with the space before them, in parts of up to eight letters; capitals in threes
        r" ?\p{Lu}?\p{Ll}{1,7}| ?\p{L}{1,3}",
        # digits one by one, punctuation in pairs, and what white space no word takes
        r"\p{N}| ?[^\s\p{L}\p{N}]{1,2}|\s+(?!\S)|\s+",
    ]
)
_ESTIMATED = re.compile(
    r" ?[A-Z]?[a-z]{1,7}| ?[A-Za-z]{1,3}|[0-9]| ?[^\sA-Za-z0-9]{1,2}|\s+(?!\S)|\s+", re.ASCII
)
"""The same for ASCII."""


def estimating_tokenizer() -> TextTokenizer:
    """A tokenizer named `estimate`, whose pieces are of the usual lengths of tokens."""
    tokenizer = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    return TextTokenizer(tokenizer, ESTIMATE, owned=True, pieces=_ESTIMATED)
