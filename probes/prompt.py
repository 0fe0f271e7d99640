"""Builds prompts of a passage and a question, with the token span of every unit.

A prompt has three pieces. They are always tokenised separately, because tokenising the joined text
gives other ids at the seams, and a passage whose keys are cached would then score differently:

    [0, a)  opening: from the template; the same for every prompt, so its keys are computed once
    [a, b)  title line and passage: the only part that methods score
    [b, n)  question: the template's prefix, the question, the template's end; its rows are [q, n)

Special tokens come from the template alone. In titles, passages and questions they are plain text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from tokenizers import Tokenizer

from tamis.probes.lru import LruCache
from tamis.probes.tokens import TextTokenizer, TokenizedText

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")
RowSpans = tuple[tuple[int, int], ...]
"""Half-open spans of rows, counted from the question's first token."""
_CUT_BYTES = 32 << 20
"""Texts and tokens of passages that come again take so much: some 600,000 tokens of prose."""
MAX_TWINS = 16
"""Templates for which a layout or a reader is kept, so that none is made anew for every batch."""


@dataclass(frozen=True, slots=True)
class Template:
    """The text around passage and question; probes are valid for their own template only.

    Attributes:
        name: what cards of probes call it.
        opening: before the passage. Never empty: the first token of a prompt draws most of the
            attention, and must not be the caller's text.
        question_prefix: between passage and question.
        end: after the question.
    """

    name: str
    opening: str
    question_prefix: str
    end: str


TEMPLATES = {
    template.name: template
    for template in (
        Template(
            "chatml",
            "<|im_start|>user\nGiven the following information:\n",
            "\nQuestion:",
            "<|im_end|>\n<|im_start|>assistant\nAnswer:",
        ),
        Template("plain", "Given the following information:\n", "\nQuestion:", "\nAnswer:"),
        # Gemma needs its first token: perplexity 39 with it, 450 without
        Template("gemma", "<bos>Given the following information:\n", "\nQuestion:", "\nAnswer:"),
        # Sentinel's own words (arXiv 2505.23277, §3), no chat template
        Template(
            "sentinel",
            "Given the following information: ",
            "\nAnswer the following question based on the given information with one or few words:",
            "\nAnswer:",
        ),
    )
}


@dataclass(frozen=True, slots=True)
class PassageTokens:
    """The passage piece of a prompt as tokens: a title line and the passage.

    Attributes:
        ids: token ids of the title line and the passage.
        title_tokens: how many of them belong to the title line.
        unit_spans: per unit, its half-open span within the passage's own tokens.
    """

    ids: tuple[int, ...]
    title_tokens: int
    unit_spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """The question piece of a prompt as tokens; its query rows are `[first_row, len(ids))`.

    Attributes:
        sentences: the half-open span of tokens of each of the question's sentences that ask; empty
            where all rows count.
    """

    ids: tuple[int, ...]
    first_row: int
    sentences: tuple[tuple[int, int], ...] = ()

    @property
    def rows(self) -> int:
        """The number of query rows."""
        return len(self.ids) - self.first_row

    @property
    def sentence_rows(self) -> RowSpans:
        """The span of rows of each sentence; empty where all rows count together."""
        return tuple((a - self.first_row, b - self.first_row) for a, b in self.sentences)


@dataclass(frozen=True, slots=True)
class Paused:
    """A prompt whose first layers have run; `Prompt.paused` goes on with the layer behind them.

    Attributes:
        states: hidden states of the tokens that run, after the last of those layers: `[n, D]`.
        depth: how many layers have run.
        passage_kv: the keys and values of its passage in at least these layers, `KVLayers`, where
            they were cached; then the tokens that run are those of the question alone.
    """

    states: Tensor
    depth: int
    passage_kv: Sequence[Any] | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt for the proxy: a passage, and a question about it.

    Attributes:
        paused: where an earlier reading of it ended; only the layers behind that run.
    """

    passage: PassageTokens
    question: QuestionTokens
    paused: Paused | None = field(default=None, compare=False, repr=False)

    @property
    def first_layer(self) -> int:
        """The first layer that runs."""
        return 0 if self.paused is None else self.paused.depth

    def __len__(self) -> int:
        """Tokens that run when the passage is not cached, without the template's opening."""
        return len(self.passage.ids) + len(self.question.ids)


class Layout:
    """Turns passages and questions into prompts for one tokenizer and one template.

    Attributes:
        cuts: how passages were cut into windows, which no template changes; see
            `compressors.reading.windows.split_windows`.
    """

    def __init__(
        self, tokenizer: Tokenizer, template: Template, name: str = "proxy", owned: bool = False
    ) -> None:
        """Wraps a copy of the tokenizer or, if `owned`, the tokenizer itself, which is modified."""
        own = tokenizer if owned else Tokenizer.from_str(tokenizer.to_str())
        own.encode_special_tokens = False  # the template's are special, those in texts are not
        own.no_truncation()
        own.no_padding()
        self._encode_template(own, template)
        self.tokenizer = TextTokenizer(own, name, owned=True)
        self.cuts = LruCache[Any](_CUT_BYTES)

    def with_template(self, template: Template) -> Layout:
        """The same tokenizer with another template; the latest few are kept."""
        if template == self.template:
            return self

        def make() -> Layout:
            special = Tokenizer.from_str(self.tokenizer._plain.to_str())
            special.encode_special_tokens = False
            other = copy(self)
            other._encode_template(special, template)
            return other

        return self._others.get(template, make, lambda _: 1)

    def _encode_template(self, special: Tokenizer, template: Template) -> None:
        """Sets the template, encoded by a tokenizer that takes special tokens as such."""
        self.template = template
        self.opening, self._question_prefix, self._end = (
            tuple(special.encode(text, add_special_tokens=False).ids)
            for text in (template.opening, template.question_prefix, template.end)
        )
        self._others = LruCache[Layout](MAX_TWINS)  # its own: shared, both would wait for the gc

    def question_tokens(
        self, question: str, sentences: Sequence[tuple[int, int]] = ()
    ) -> QuestionTokens:
        """The question piece; its rows start at the question's own first token.

        A space precedes the question, so that its first word is tokenised as inside a line.

        Args:
            sentences: half-open code-point spans of the question, in order, whose rows count; none
                for all.
        """
        encoded, first_row = self.tokenizer.encode(f" {question}"), len(self._question_prefix)
        shifted = [(start + 1, stop + 1) for start, stop in sentences]
        spans = [(a, b) for a, b in token_spans(encoded, shifted) if a < b]
        return QuestionTokens(
            (*self._question_prefix, *encoded.ids, *self._end),
            first_row,
            tuple((first_row + a, first_row + b) for a, b in spans),
        )

    def passage_tokens(
        self, text: str, units: Sequence[tuple[int, int]], title: str | None = None
    ) -> PassageTokens:
        """The passage piece, with the token span of each unit.

        Args:
            text: the passage.
            units: half-open code-point spans, in order; they may leave gaps.
            title: put on a line of its own before the passage; never part of a unit.
        """
        line = self.tokenizer.encode(f"{title}\n").ids if title else []
        encoded = self.tokenizer.encode(text)
        return PassageTokens((*line, *encoded.ids), len(line), tuple(token_spans(encoded, units)))


def token_spans(encoded: TokenizedText, units: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each unit, the half-open span of tokens that share a character with it.

    A token that straddles two units belongs to both; an empty unit has none. Units come in order of
    their start and token offsets never decrease, so one pass finds them all.
    """
    offsets, spans = encoded.offsets, []
    first = 0
    for start, stop in units:
        while first < len(offsets) and offsets[first][1] <= start:
            first += 1
        last = first
        while start < stop and last < len(offsets) and offsets[last][0] < stop:
            last += 1
        spans.append((first, last))
    return spans


def token_batches(
    prompts: Sequence[T],
    batch_tokens: int,
    length: Callable[[T], int] = len,  # type: ignore[assignment]
) -> Iterator[list[T]]:
    """Consecutive prompts in batches of at most `batch_tokens`; a longer one is its own batch.

    Args:
        prompts: or texts, or what else has a length.
        length: the number of tokens of a prompt.
    """
    batch: list[T] = []
    total = 0
    for prompt in prompts:
        size = length(prompt)
        if batch and total + size > batch_tokens:
            yield batch
            batch, total = [], 0
        batch.append(prompt)
        total += size
    if batch:
        yield batch
