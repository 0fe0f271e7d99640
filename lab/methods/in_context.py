"""Ranks documents in one prompt by all rows of instruction and query, minus an empty query's.

Shared by the published rerankers: ICR (arXiv 2410.02642, §3), QRHead (arXiv
2506.09944, §3) and CoRe heads (arXiv 2510.02219, §3). They differ in heads, labels and rows.

    head │ [3] … \\n\\n [2] … \\n\\n [1] … \\n\\n │ instruction, query, suffix
           documents, the first one given last    rows: all of these (CoRe: without the suffix)

A token's score is its attention, the mean over rows, summed over heads, minus the same for the
query "N/A"; the documents' keys are kept, so that the second query costs only itself (a service
keeps them only with a passage cache, and reads the documents twice without one). In each document
tokens at or below mean - 2·deviation are dropped, and the rest is summed.

Departures from all three: documents that do not fit into one prompt are read in several, in the
order given, without overlap (the papers slide a window or cut documents at 300 words); a
document longer than a prompt is read in pieces and ranks by its best; documents, instruction and
query are tokenised apart, as everywhere in tamis; the deviation is that of all tokens (N, not
N - 1), so that a document of one token has one. Where all layers are read, those with a sliding
window shorter than the prompt are left out (Gemma), as they attend to the last documents alone;
chosen heads are read in any layer. A model that needs its opening token gets it first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from tamis.compressors.method import RankingMethod
from tamis.compressors.options import option
from tamis.compressors.reading.windows import EMPTY_QUERY, Reader, context_tokens, opening_token
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import Head, HeadProfile, HeadScoring, choose_profile
from tamis.probes.prompt import Layout, PassageTokens, Prompt, QuestionTokens, Template, token_spans
from tamis.probes.signal import Signal, Want
from tamis.text.types import Passage, Unit
from tamis_lab.methods.documents import long_range_layers
from tamis_lab.methods.head_scores import masked_sum

INSTRUCTIONS = (
    "Please find information that are relevant to the following query in the paragraphs above.",
    "Please answer the following question based on the information in the paragraphs above.",
)
"""ICR's instructions: to find information (IE), and to answer (QA)."""
_MIN_TOKENS = 16


@dataclass(frozen=True, slots=True)
class PromptForm:
    """How a prompt is laid out and read; what differs between the papers.

    Attributes:
        label: shown before each document, with its number in place of `{}`.
        score_label: whether attention to the label counts as attention to its document.
        suffix: whether the rows go on to the end of the prompt.
        reverse: whether the first document of the input comes last, next to the query.
        calibrate: whether the empty query is subtracted.
        answer: whether the instruction is to answer, instead of to find information.
    """

    label: str = "[{}]"
    score_label: bool = True
    suffix: bool = True
    reverse: bool = True
    calibrate: bool = True
    answer: bool = False

    def template(self, chat: bool, opening: str = "") -> Template:
        """The prompt's template, as a user's turn where the model has a chat template.

        Args:
            opening: the token that the model's prompts must begin with.
        """
        name = "in_context_chat" if chat else "in_context_opened" if opening else "in_context"
        opening = "<|im_start|>user\n" if chat else opening
        closing = "<|im_end|>\n<|im_start|>assistant\n" if chat else "\n"
        return Template(
            name,
            f"{opening}Here are some paragraphs:\n\n",
            f"{INSTRUCTIONS[self.answer]}\n\nQuery:",
            closing if self.suffix else "",
        )


@dataclass(frozen=True, slots=True)
class DocumentBatch:
    """The documents of one prompt as tokens.

    Attributes:
        spans: half-open, in `ids`. documents: the index of each span's document.
    """

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    documents: tuple[int, ...]


class InContextRanker:
    """Reads documents in one prompt and ranks them by calibrated attention."""

    def __init__(
        self,
        reader: Reader,
        heads: Sequence[Head] | None,
        form: PromptForm,
        window_tokens: int | None,
    ) -> None:
        """A ranker over one proxy.

        Args:
            heads: (layer, head) pairs that are summed; None for all.
            window_tokens: longest prompt; None for the proxy's context.

        Raises:
            BadInput: a window too short to hold anything.
        """
        own = reader.layout.template
        words = form.template(own.name == "chatml", opening_token(own))
        self.reader, self.form = reader.with_template(words), form
        self.heads = heads
        self.window_tokens = window_tokens
        if window_tokens is not None and window_tokens < _MIN_TOKENS:
            raise BadInput(
                f"window_tokens is {window_tokens}; give at least {_MIN_TOKENS}, or leave it out"
            )

    def rank(self, question: str, passages: Sequence[Passage]) -> Ranks:
        """Each document's masked sum of calibrated attention."""
        clock = time.perf_counter()
        questions = [
            replace(self.reader.layout.question_tokens(q), first_row=0)
            for q in self._queries(question)
        ]
        batches = self._batches(passages, max(len(tokens.ids) for tokens in questions))
        tokenised = time.perf_counter()
        best = torch.full((len(passages),), -torch.inf)
        tokens_read = tokens_cached = 0
        for batch in batches:
            signals = self._read(batch, questions)
            prompt_tokens = sum(len(batch.ids) + len(tokens.ids) for tokens in questions)
            tokens_read += prompt_tokens - sum(signal.cached_tokens for signal in signals)
            # what was read for the first query just now did not come from an earlier request
            tokens_cached += signals[0].cached_tokens
            scores = self._document_scores(batch, signals)
            for document, score in zip(batch.documents, scores, strict=True):
                best[document] = torch.maximum(best[document], score)
        read = time.perf_counter()
        # an empty document gets no attention for either query
        values = torch.where(best.isfinite(), best, torch.zeros(())).tolist()
        return Ranks(
            tuple(values),
            windows=len(batches),
            tokens_read=tokens_read,
            timings_ms={"tokenize": (tokenised - clock) * 1e3, "read": (read - tokenised) * 1e3},
            warnings=_split_warning(len(batches), len(passages)),
            tokens_cached=tokens_cached,
        )

    def _queries(self, question: str) -> tuple[str, ...]:
        return (question, EMPTY_QUERY) if self.form.calibrate else (question,)

    def _batches(self, passages: Sequence[Passage], query_tokens: int) -> list[DocumentBatch]:
        layout = self.reader.layout
        room = self._max_prompt_tokens() - len(layout.opening) - query_tokens
        if room < _MIN_TOKENS:
            raise BadInput(
                f"query and instruction take {query_tokens} tokens and leave {room} for documents; "
                "shorten the question, or raise window_tokens"
            )
        return list(document_batches(layout, passages, self.form, room))

    def _max_prompt_tokens(self) -> int:
        longest = context_tokens(self.reader)
        return min(self.window_tokens or longest, longest)

    def _read(self, batch: DocumentBatch, questions: Sequence[QuestionTokens]) -> list[Signal]:
        """The attention of the query to a batch, then that of the empty query."""
        wanted = {layer for layer, _ in self.heads or ()} or long_range_layers(
            self.reader, self._max_prompt_tokens()
        )
        want = Want(tuple(sorted(wanted)), ("question_mean",))
        return read_questions(self.reader, PassageTokens(batch.ids, 0, ()), questions, want)

    def _document_scores(self, batch: DocumentBatch, signals: Sequence[Signal]) -> list[Tensor]:
        """The score of each document of a batch."""
        sums = [sum_heads(signal, self.heads) for signal in signals]
        scores = sums[0] - sums[1] if self.form.calibrate else sums[0]
        return [masked_sum(scores[a:b]) for a, b in batch.spans]


def read_questions(
    reader: Any, passage: PassageTokens, questions: Sequence[QuestionTokens], want: Want
) -> list[Signal]:
    """Reads one text with several questions; its keys and values are kept if the reader can.

    Returns:
        A signal for each question; `cached_tokens` of the first counts only what was cached before
        the call.
    """
    prompts = [Prompt(passage, question) for question in questions]
    if len(prompts) == 1 or not hasattr(reader, "compute_kv"):
        return list(reader.read(prompts, want))
    kept = list(reader.compute_kv(prompts[:1], want))
    first, *others = reader.read_cached(prompts, kept * len(prompts), want)
    return [replace(first, cached_tokens=0), *others]


def sum_heads(signal: Signal, heads: Sequence[Head] | None) -> Tensor:
    """The attention to each token, averaged over rows and summed over heads: `[N]`."""
    weights = signal.weights.mean(2)  # [L, H, N]
    if heads is None:
        return weights.sum((0, 1))
    return torch.stack([weights[signal.layers.index(layer), head] for layer, head in heads]).sum(0)


def document_batches(
    layout: Layout, passages: Sequence[Passage], form: PromptForm, room: int
) -> Iterator[DocumentBatch]:
    """Groups documents into prompts of at most `room` tokens, in order; leaves empty ones out."""
    label_tokens = len(layout.tokenizer.encode(form.label.format(len(passages))))
    pieces: list[_DocumentPiece] = []
    size = 0
    for piece in _document_pieces(layout, passages, room - label_tokens):
        tokens = label_tokens + len(piece.ids)
        if pieces and size + tokens > room:
            yield _make_batch(layout, pieces, form)
            pieces, size = [], 0
        pieces.append(piece)
        size += tokens
    if pieces:
        yield _make_batch(layout, pieces, form)


@dataclass(frozen=True, slots=True)
class _DocumentPiece:
    """Some of a document's tokens; the first `own` are its text, the rest is the separator."""

    document: int
    ids: tuple[int, ...]
    own: int


def _document_pieces(
    layout: Layout, passages: Sequence[Passage], room: int
) -> Iterator[_DocumentPiece]:
    """Titles and texts as tokens, split only where a document is longer than a prompt."""
    for d, passage in enumerate(passages):
        if not passage.text.strip():
            continue
        # a blank joins it to its label, so that its first word is tokenised as inside a line
        text = f" {passage.title}\n{passage.text}" if passage.title else f" {passage.text}"
        encoded = layout.tokenizer.encode(f"{text}\n\n")
        ((_, own),) = token_spans(encoded, [(0, len(text))])
        for first in range(0, len(encoded), room):
            last = min(first + room, len(encoded))
            if own > first:
                yield _DocumentPiece(d, tuple(encoded.ids[first:last]), min(own, last) - first)


def _make_batch(
    layout: Layout, pieces: Sequence[_DocumentPiece], form: PromptForm
) -> DocumentBatch:
    """The documents of one prompt, numbered in the order of the prompt."""
    ids: list[int] = []
    spans: list[tuple[int, int]] = []
    shown = pieces[::-1] if form.reverse else pieces
    for number, piece in enumerate(shown, 1):
        label = layout.tokenizer.encode(form.label.format(number)).ids
        start = len(ids) + (0 if form.score_label else len(label))
        ids += (*label, *piece.ids)
        spans.append((start, len(ids) - len(piece.ids) + piece.own))
    return DocumentBatch(tuple(ids), tuple(spans), tuple(piece.document for piece in shown))


class InContextMethod(RankingMethod):
    """A method that ranks documents in one prompt, by every head or by a few."""

    reader: Reader
    window_tokens: int | None = option(
        None, "Tokens of the longest prompt; None for the proxy's context."
    )
    reverse: bool = option(True, "The first document of the input comes last, next to the query.")
    calibrate: bool = option(True, "Subtract the empty query; False is the papers' ablation.")

    def setup(self) -> None:
        """Makes the ranker.

        Raises:
            ProbeMismatch: the profile is of another model, revision or template.
            BadInput: a window too short to hold anything, or no profile ships for this proxy, or
                it has fewer heads.
        """
        form = replace(self.prompt_form(), reverse=self.reverse, calibrate=self.calibrate)
        self.ranker = InContextRanker(self.reader, self.best_heads(), form, self.window_tokens)

    def prompt_form(self) -> PromptForm:
        """How the prompt is laid out."""
        raise NotImplementedError

    def best_heads(self) -> tuple[Head, ...] | None:
        """The heads that are summed; None for all."""
        return None

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit] = ()) -> Ranks:
        """Each document's masked sum of calibrated attention; higher is better."""
        return self.ranker.rank(question, passages)


class HeadRankingMethod(InContextMethod):
    """A method that ranks as `icr` does, by the attention of a few heads alone."""

    head_scoring: ClassVar[HeadScoring]
    """How the heads of the profile that ships were scored."""
    profile: HeadProfile | Path | str = option(
        "auto", "A profile of this proxy's heads, or its file; auto is the one that ships."
    )
    heads: int = option(16, "How many of the best heads.")

    def best_heads(self) -> tuple[Head, ...]:
        """The best heads of a profile, which has to be of the reader's model and template."""
        found = choose_profile(self.profile, self.head_scoring, self.reader.card.name)
        found.check(self.reader.card, self.reader.layout.template.name)
        return found.best(self.heads)

    @classmethod
    def layers_needed(cls, model: str, options: Mapping[str, Any]) -> int | None:
        """Up to the deepest of the heads."""
        profile = choose_profile(options.get("profile", cls.profile), cls.head_scoring, model)
        return layers_of_heads(profile.best(options.get("heads", cls.heads)))


def layers_of_heads(heads: Sequence[Head]) -> int:
    """How many layers of a model have to be loaded for these heads."""
    return 1 + max(layer for layer, _ in heads)


def _split_warning(windows: int, documents: int) -> tuple[str, ...]:
    if windows < 2:
        return ()
    return (
        f"{documents} documents were read in {windows} prompts; "
        "documents of different prompts did not see each other",
    )
