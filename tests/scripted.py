"""A reader without a model: its attention is a function, for tests of methods and callers.

    reader = ScriptedReader.from_needles("Jane Roe")   # accepted wherever a proxy is
    reader.prompts_read                                # how often the "model" was called

Nothing is loaded and nothing is random. The tokenizer is byte level: a token is a byte, its id is
the byte's value, and the special tokens of ChatML follow from id 256 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput
from tamis.probes.prompt import TEMPLATES, Layout, Prompt, QuestionTokens, Template
from tamis.probes.signal import RowGroup, Signal, Want
from tamis.probes.tokens import replace_surrogates

WeightFunction = Callable[[str, str], Sequence[float]]
"""From question and passage, one non-negative weight per character of the passage."""

MAX_PASSAGE_MASS = 0.9
"""The largest share of attention that a passage gets; the template draws the rest."""

_BACKGROUND_WEIGHT = 1e-4
"""The weight of a character outside every needle of `from_needles`; inside it is 1."""


class ScriptedReader:
    """Reads like a proxy with the attention that `weigh` returns; deterministic and thread-safe.

    A character's weight is divided evenly among its tokens. Weights that sum to more than
    `MAX_PASSAGE_MASS` are scaled down to it. Heads and rows differ, so that a test which uses the
    wrong one fails: the row at index `r` of `R` in the head at index `k` of all `L·H` mixes
    `x = (k + 1) / (L·H) · (r + 1) / R` parts of the script with `1 - x` parts of the script's mean
    over the passage. The last row of the last head is the script itself.

    Attributes:
        card: identifies this reader in cards of probes.
        layout: builds its prompts.
        read_log: question and passage of every prompt read, whatever the template. Lone surrogates
            are U+FFFD, as a tokenizer sees them.
    """

    def __init__(
        self,
        weigh: WeightFunction,
        *,
        layers: int = 4,
        heads: int = 2,
        name: str = "scripted",
        template: Template = TEMPLATES["chatml"],
    ) -> None:
        """A reader whose attention follows a script.

        Args:
            weigh: called once per prompt with the question and the passage text of the prompt.
            layers, heads: the size of the simulated model.
            name: the model name on the card.
            template: the text around passage and question.

        Raises:
            BadInput: a model without layers or heads.
        """
        if layers < 1 or heads < 1:
            raise BadInput(f"a model of {layers} layers and {heads} heads; give at least 1 of both")
        self.weigh = weigh
        self.card = ModelCard(name, "scripted", layers, heads)
        self.layout = Layout(byte_tokenizer(), template, name)
        self.read_log: list[tuple[str, str]] = []

    @classmethod
    def from_needles(
        cls, *needles: str, layers: int = 4, heads: int = 2, name: str = "scripted"
    ) -> ScriptedReader:
        """A reader that attends to every occurrence of some texts and hardly to anything else.

        A needle that is split between two windows is not found.

        Raises:
            BadInput: an empty needle.
        """
        if "" in needles:
            raise BadInput("a needle is empty and would be everywhere; give what to look at")
        clean_needles = [replace_surrogates(needle) for needle in needles]

        def weigh(question: str, passage: str) -> Sequence[float]:
            weights = np.full(len(passage), _BACKGROUND_WEIGHT)
            for start, stop in _occurrences(passage, clean_needles):
                weights[start:stop] = 1.0
            return weights.tolist()

        return cls(weigh, layers=layers, heads=heads, name=name)

    @property
    def prompts_read(self) -> int:
        """How many prompts were read so far, with any template."""
        return len(self.read_log)

    def with_template(self, template: Template) -> ScriptedReader:
        """The same script with another template; `read_log` is shared."""
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order: `[L, H, R, N]` over the passage's own tokens.

        Raises:
            BadInput: a layer the model does not have, or a script that does not fit the text.
        """
        if want.depth > self.card.layers:
            raise BadInput(
                f"layer {want.depth - 1} is wanted and {self.card.name} has {self.card.layers}; "
                f"want layers below {self.card.layers}, or give layers={want.depth}"
            )
        for prompt in prompts:
            script = self._script_weights(prompt)
            share = self._share(want, prompt.question)[..., None]
            weights = share * script + (1 - share) * script.mean()
            yield Signal(weights.float(), want.layers, want.rows)

    def _script_weights(self, prompt: Prompt) -> Tensor:
        """The script's weight of each passage token of a prompt: `[N]`."""
        data = bytes(prompt.passage.ids[prompt.passage.title_tokens :])
        question, passage = self._question_text(prompt.question), data.decode()
        self.read_log.append((question, passage))
        weights = _check_weights(self.weigh(question, passage), passage)
        tokens = _spread_over_bytes(weights, data)
        scale = min(1.0, MAX_PASSAGE_MASS / max(tokens.sum(), MAX_PASSAGE_MASS))
        return torch.from_numpy(tokens * scale)

    def _question_text(self, tokens: QuestionTokens) -> str:
        """The question itself, without the template's prefix, the space after it, and the end."""
        empty = self.layout.question_tokens("")
        end = len(empty.ids) - empty.first_row - 1
        return bytes(tokens.ids[tokens.first_row + 1 : len(tokens.ids) - end]).decode()

    def _share(self, want: Want, question: QuestionTokens) -> Tensor:
        """How closely each layer, head and row follows the script: `[L, H, R]`, up to 1."""
        layers, heads = self.card.layers, self.card.heads
        head = torch.arange(1, layers * heads + 1, dtype=torch.float64).view(layers, heads)
        row = torch.arange(1, question.rows + 1, dtype=torch.float64) / question.rows
        grouped = torch.cat([_group_row_shares(row, group, question) for group in want.rows])
        return head[list(want.layers), :, None] / (layers * heads) * grouped


def byte_tokenizer() -> Tokenizer:
    """A tokenizer with one token per byte, whose id is the byte, and ChatML's special tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # printable bytes map to themselves, the others in order to letters from U+0100 on
    printing = {ord(letter) for letter in letters if ord(letter) < 256}
    others = (byte for byte in range(256) if byte not in printing)
    vocabulary = {c: ord(c) if ord(c) < 256 else next(others) for c in letters}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in special])
    return tokenizer


def _group_row_shares(row: Tensor, group: RowGroup, question: QuestionTokens) -> Tensor:
    """The shares `[R]` of a row group, as `Want.rows` names it."""
    if group == "question":
        return row
    if group == "sentence_means" and question.sentences:
        return torch.stack([row[a:b].mean() for a, b in question.sentence_rows])
    return row[-1:] if group == "last" else row.mean(0, keepdim=True)


def _occurrences(text: str, needles: Sequence[str]) -> Iterator[tuple[int, int]]:
    for needle in needles:
        start = text.find(needle)
        while start >= 0:
            yield start, start + len(needle)
            start = text.find(needle, start + 1)


def _check_weights(weights: Sequence[float], passage: str) -> NDArray[np.float64]:
    """The script as an array.

    Raises:
        BadInput: it is not one number per character, or a number is negative or not finite.
    """
    given = np.asarray(weights, dtype=np.float64)
    if given.shape != (len(passage),):
        raise BadInput(
            f"the script has shape {given.shape} for {len(passage)} characters; "
            "give one number each"
        )
    if wrong := int((~np.isfinite(given) | (given < 0)).sum()):
        raise BadInput(
            f"{wrong} of {len(passage)} weights are negative or not finite; give 0 or more"
        )
    return given


def _spread_over_bytes(weights: NDArray[np.float64], data: bytes) -> NDArray[np.float64]:
    """Each character's weight, divided evenly among its bytes."""
    starts = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80  # 10xxxxxx continues a character
    character = np.cumsum(starts) - 1
    sizes = np.bincount(character, minlength=len(weights))
    return np.asarray(weights[character] / sizes[character])
