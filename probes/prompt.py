"""Lays out passage and question, and knows where every character went.

A prompt has three pieces, tokenised separately, when a passage is read for the first time and when
it is asked again alike (joined, some ids differ, and a kept passage would silently score
differently):

    [0, a)  head: the template's opening; the same for every prompt, so its keys are kept once
    [a, b)  title line and passage: the only part a method scores
    [b, n)  ask: the template's words, the question, the end. The question's rows are [q, n)

Special tokens come from the template alone. In titles, passages and questions they are text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tokenizers import Tokenizer

from tamis.probes.tokens import TextTokenizer, TokenizedText

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Template:
    """The words around passage and question; a probe is valid only for the ones it was fitted with.

    Attributes:
        name: what a probe's card says.
        head: before the passage. Never empty: the first token of a prompt draws most attention, and
            must not be the caller's text.
        ask: between passage and question.
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
        # Gemma reads nothing well without its first token: perplexity 39 with it, 450 without
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
    """The readable part of one prompt: a title line and a passage, as tokens.

    Attributes:
        ids: token ids of the title line and the passage.
        start: how many of them belong to the title line.
        spans: per unit, its half-open token span within the passage's own tokens.
    """

    ids: tuple[int, ...]
    title_tokens: int
    unit_spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class QuestionTokens:
    """The question piece of a prompt, as tokens; rows are `[rows, len(ids))`."""

    ids: tuple[int, ...]
    first_row: int


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt for the proxy: what is read, and what is asked of it."""

    passage: PassageTokens
    question: QuestionTokens

    def __len__(self) -> int:
        """Tokens that a cold reading runs, the kept head aside."""
        return len(self.passage.ids) + len(self.question.ids)


class Layout:
    """Turns passages and questions into prompts for one tokenizer and one template."""

    def __init__(self, tokenizer: Tokenizer, template: Template, name: str = "proxy") -> None:
        self.template, self._raw_tokenizer = template, tokenizer
        self.tokenizer = TextTokenizer(tokenizer, name)
        trusted = tokenizer
        if tokenizer.encode_special_tokens or tokenizer.truncation or tokenizer.padding:
            trusted = Tokenizer.from_str(tokenizer.to_str())
            trusted.encode_special_tokens = False
            trusted.no_truncation()
            trusted.no_padding()
        self.opening = tuple(trusted.encode(template.opening, add_special_tokens=False).ids)
        self._question_prefix = tuple(trusted.encode(template.question_prefix, add_special_tokens=False).ids)
        self._end = tuple(trusted.encode(template.end, add_special_tokens=False).ids)

    def with_template(self, template: Template) -> Layout:
        """The same tokenizer, in other words."""
        return Layout(self._raw_tokenizer, template, self.tokenizer.name)

    def question_tokens(self, question: str) -> QuestionTokens:
        """The question piece; its rows start at the question's own first token.

        A blank joins it to the template's words, so its first word is tokenised as inside a line.
        """
        ids = self.tokenizer.encode(f" {question}").ids
        return QuestionTokens((*self._question_prefix, *ids, *self._end), len(self._question_prefix))

    def passage_tokens(self, text: str, units: Sequence[tuple[int, int]], title: str | None = None) -> PassageTokens:
        """The passage piece.

        Args:
            text: the passage.
            units: half-open code-point spans, in order; they may leave gaps.
            title: read on a line of its own before the passage; never part of a unit.
        """
        line = self.tokenizer.encode(f"{title}\n").ids if title else []
        encoded = self.tokenizer.encode(text)
        return PassageTokens((*line, *encoded.ids), len(line), tuple(token_spans(encoded, units)))


def token_spans(encoded: TokenizedText, units: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """For each unit, the half-open span of tokens that share a character with it.

    A token that straddles two units belongs to both; an empty unit has none. Units come in order of
    their start; offsets of tokens never decrease, so one walk finds them all.
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
        length: the tokens of a prompt; `len` where that is its size.
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
