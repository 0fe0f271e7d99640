"""All documents in one prompt, every row of instruction and query, calibrated by an empty query.

The shared machinery of the published rerankers: ICR (arXiv 2410.02642, §3), QRHead (arXiv
2506.09944, §3) and CoRe heads (arXiv 2510.02219, §3). They differ in heads, labels and rows.

    head │ [3] … \\n\\n [2] … \\n\\n [1] … \\n\\n │ instruction, query, suffix
           documents, the first one given last    rows: all of these (CoRe: without the suffix)

A token's score is its attention, the mean over rows, summed over heads, minus the same for the
query "N/A"; the documents' keys are kept, so that the second query costs only itself (a service
keeps them only with a passage cache, and reads the documents twice without one). In each document
tokens at or below mean - 2·deviation are dropped, and the rest is summed.

Departures from all three: documents that do not fit into one prompt are read in several, in the
order given, none of which overlap (the papers slide a window or cut documents at 300 words); a
document longer than a prompt is read in pieces and ranks by its best; documents, instruction and
query are tokenised apart, as everywhere in tamis; the deviation is that of all tokens (N, not
N - 1), so that a document of one token has one. Where all layers are read, those with a sliding
window shorter than the prompt are left out (Gemma), as they see the last documents alone; chosen
heads are read wherever they are. A model that needs its opening token gets it before the words.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.reading.long_range import context_tokens, far_layers, opening_token
from tamis.compressors.reading.windows import Reader
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.probing.head_scores import masked_sum as masked_sum
from tamis.probes.prompt import Ask, Layout, Prompt, Read, Template, token_spans
from tamis.probes.signal import Signal, Want
from tamis.probes.text import Passage

EMPTY_QUERY = "N/A"
FIND = (
    "Please find information that are relevant to the following query in the paragraphs above.",
    "Please answer the following question based on the information in the paragraphs above.",
)
"""ICR's instructions: to find (IE), and to answer (QA)."""
_LEAST_TOKENS = 16
Head = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between the papers.

    Attributes:
        label: before each document, with its number. labelled: whether it counts as the document.
        suffix: whether the rows go on to the end of the prompt.
        reverse: whether the first document given comes last, next to the query.
        calibrate: whether the empty query is subtracted.
        answer: whether the instruction asks for an answer instead of information.
    """

    label: str = "[{}]"
    labelled: bool = True
    suffix: bool = True
    reverse: bool = True
    calibrate: bool = True
    answer: bool = False

    def template(self, chat: bool, opening: str = "") -> Template:
        """The words of the prompt, in a user's turn where the model knows turns.

        Args:
            opening: the token that the model's prompts must begin with.
        """
        name = "in_context_chat" if chat else "in_context_opened" if opening else "in_context"
        opening = "<|im_start|>user\n" if chat else opening
        closing = "<|im_end|>\n<|im_start|>assistant\n" if chat else "\n"
        return Template(
            name,
            f"{opening}Here are some paragraphs:\n\n",
            f"{FIND[self.answer]}\n\nQuery:",
            closing if self.suffix else "",
        )


@dataclass(frozen=True, slots=True)
class Page:
    """One prompt's documents as tokens: half-open spans in `ids`, and whose each is."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    documents: tuple[int, ...]


class InContext:
    """Reads documents together and ranks them by calibrated attention."""

    def __init__(
        self, reader: Reader, heads: Sequence[Head] | None, form: Form, window_tokens: int | None
    ) -> None:
        """A way to rank over one proxy.

        Args:
            heads: (layer, head) pairs that are summed; None for all there are.
            window_tokens: longest prompt; None for all that the proxy takes.

        Raises:
            BadInput: a window too short to hold anything.
        """
        own = reader.layout.template
        words = form.template(own.name == "chatml", opening_token(own))
        self.reader, self.form = reader.with_template(words), form
        self.heads = heads
        self.window_tokens = window_tokens
        if window_tokens is not None and window_tokens < _LEAST_TOKENS:
            raise BadInput(
                f"window_tokens is {window_tokens}; give at least {_LEAST_TOKENS}, or leave it out"
            )

    def rank(self, question: str, passages: Sequence[Passage]) -> Ranks:
        """Each document's masked sum of calibrated attention."""
        clock = time.perf_counter()
        asks = [replace(self.reader.layout.ask(q), rows=0) for q in self._queries(question)]
        pages = self._pages(passages, max(len(ask.ids) for ask in asks))
        tokenised = time.perf_counter()
        best = torch.full((len(passages),), -torch.inf)
        run = cached = 0
        for page in pages:
            signals = self._read(page, asks)
            whole = sum(len(page.ids) + len(ask.ids) for ask in asks)
            run += whole - sum(signal.cached for signal in signals)
            cached += signals[0].cached  # what it has just read was not kept from before
            for document, score in zip(page.documents, self._scored(page, signals), strict=True):
                best[document] = torch.maximum(best[document], score)
        read = time.perf_counter()
        # an empty document draws nothing, as the empty query does
        values = torch.where(best.isfinite(), best, torch.zeros(())).tolist()
        return Ranks(
            tuple(values),
            windows=len(pages),
            tokens_read=run,
            timings_ms={"tokenize": (tokenised - clock) * 1e3, "read": (read - tokenised) * 1e3},
            warnings=_told(len(pages), len(passages)),
            tokens_cached=cached,
        )

    def _queries(self, question: str) -> tuple[str, ...]:
        return (question, EMPTY_QUERY) if self.form.calibrate else (question,)

    def _pages(self, passages: Sequence[Passage], ask_tokens: int) -> list[Page]:
        layout = self.reader.layout
        room = self._longest() - len(layout.head) - ask_tokens
        if room < _LEAST_TOKENS:
            raise BadInput(
                f"query and instruction take {ask_tokens} tokens and leave {room} for documents; "
                "shorten the question, or raise window_tokens"
            )
        return list(pages(layout, passages, self.form, room))

    def _longest(self) -> int:
        """Tokens of the longest prompt."""
        longest = context_tokens(self.reader)
        return min(self.window_tokens or longest, longest)

    def _read(self, page: Page, asks: Sequence[Ask]) -> list[Signal]:
        """What the query draws of a page, and then what the empty one does."""
        wanted = {layer for layer, _ in self.heads or ()} or far_layers(
            self.reader, self._longest()
        )
        want = Want(tuple(sorted(wanted)), ("question_mean",))
        return read_questions(self.reader, Read(page.ids, 0, ()), asks, want)

    def _scored(self, page: Page, signals: Sequence[Signal]) -> list[Tensor]:
        """The score of each document on a page."""
        seen = [sum_heads(signal, self.heads) for signal in signals]
        scores = seen[0] - seen[1] if self.form.calibrate else seen[0]
        return [masked_sum(scores[a:b]) for a, b in page.spans]


def read_questions(reader: Any, read: Read, asks: Sequence[Ask], want: Want) -> list[Signal]:
    """One text asked several times: its keys are kept where the reader can keep them.

    Returns:
        A signal a question; the first says `cached` of what had been read before the call alone.
    """
    prompts = [Prompt(read, ask) for ask in asks]
    if len(prompts) == 1 or not hasattr(reader, "keep"):
        return list(reader.read(prompts, want))
    kept = list(reader.keep(prompts[:1], want))
    first, *others = reader.ask(prompts, kept * len(prompts), want)
    return [replace(first, cached=0), *others]


def sum_heads(signal: Signal, heads: Sequence[Head] | None) -> Tensor:
    """Attention to each token, the mean over rows, summed over heads: `[N]`."""
    weights = signal.weights.mean(2)  # [L, H, N]
    if heads is None:
        return weights.sum((0, 1))
    return torch.stack([weights[signal.layers.index(layer), head] for layer, head in heads]).sum(0)


def pages(layout: Layout, passages: Sequence[Passage], form: Form, room: int) -> Iterator[Page]:
    """Documents in prompts of at most `room` tokens, in order; empty ones are left out."""
    label_tokens = len(layout.tokens.encode(form.label.format(len(passages))))
    batch: list[_Piece] = []
    size = 0
    for piece in _pieces(layout, passages, room - label_tokens):
        tokens = label_tokens + len(piece.ids)
        if batch and size + tokens > room:
            yield _page(layout, batch, form)
            batch, size = [], 0
        batch.append(piece)
        size += tokens
    if batch:
        yield _page(layout, batch, form)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Some of a document's tokens, and how many of them are its own: the rest divides it."""

    document: int
    ids: tuple[int, ...]
    own: int


def _pieces(layout: Layout, passages: Sequence[Passage], room: int) -> Iterator[_Piece]:
    """Titles and texts as tokens, cut only where a document is longer than a prompt."""
    for d, passage in enumerate(passages):
        if not passage.text.strip():
            continue
        # a blank joins it to its label, so that its first word is tokenised as inside a line
        text = f" {passage.title}\n{passage.text}" if passage.title else f" {passage.text}"
        encoded = layout.tokens.encode(f"{text}\n\n")
        ((_, own),) = token_spans(encoded, [(0, len(text))])
        for first in range(0, len(encoded), room):
            last = min(first + room, len(encoded))
            if own > first:
                yield _Piece(d, tuple(encoded.ids[first:last]), min(own, last) - first)


def _page(layout: Layout, batch: Sequence[_Piece], form: Form) -> Page:
    """One prompt's documents, numbered as they are shown."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    shown = batch[::-1] if form.reverse else batch
    for number, piece in enumerate(shown, 1):
        label = layout.tokens.encode(form.label.format(number)).ids
        start = len(ids) + (0 if form.labelled else len(label))
        ids += (*label, *piece.ids)
        spans.append((start, len(ids) - len(piece.ids) + piece.own))
    return Page(tuple(ids), tuple(spans), tuple(piece.document for piece in shown))


def layers_of_heads(heads: Sequence[Head]) -> int:
    """How many layers of a model have to be loaded for these heads."""
    return 1 + max(layer for layer, _ in heads)


def _told(windows: int, documents: int) -> tuple[str, ...]:
    if windows < 2:
        return ()
    return (
        f"{documents} documents were read in {windows} prompts; "
        "documents of different prompts did not see each other",
    )
