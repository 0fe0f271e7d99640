"""A reader without a model: attention written by hand, for tests of methods and of what uses them.

    reader = Scripted.pointing_at("Jane Roe")      # every method that needs a proxy takes it
    reader.prompts_read                            # what a test asks: was the model called?

Nothing is loaded and nothing is drawn at random. The tokenizer is byte level: a token is a byte,
its id is the byte, and the special tokens of ChatML come behind.
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
"""Question and passage to one weight a character of the passage, none negative."""

MAX_PASSAGE_MASS = 0.9
"""The most attention a passage gets; the rest is drawn by the template, as in models."""

_BACKGROUND_WEIGHT = 1e-4
"""What `pointing_at` gives a character beside its needles; one inside gets 1."""


class ScriptedReader:
    """Reads like a proxy and sees what `weigh` says; the same at every call and in every thread.

    A character's weight is shared out over its tokens. Weights stay as they are if they sum to at
    most `MASS`, and are scaled down to it if not. Heads and rows differ, so that a test which takes
    the wrong one fails: with `k` of `L·H` heads and `r` of `R` rows before it, a row sees
    `x = (k + 1) / (L·H) · (r + 1) / R` parts of the script and `1 - x` parts of the script's mean
    over the passage. The last row of the last head is the script itself.

    Attributes:
        card: what a probe for this reader has to name.
        layout: prompts in the words of the template.
        seen: question and passage text of every prompt read, in the words of any template. Lone
            surrogates are U+FFFD in it, as a tokenizer sees them.
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
        """A reader that follows a script.

        Args:
            weigh: called once a prompt with the question and the text of the window.
            layers, heads: how deep and wide a model to play.
            name: of the model, on the card.
            template: the words around passage and question.

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
        """A reader that looks at every occurrence of some texts and hardly at anything else.

        A needle that is cut in two by the end of a window is not seen.

        Raises:
            BadInput: an empty needle.
        """
        if "" in needles:
            raise BadInput("a needle is empty and would be everywhere; give what to look at")
        sharp = [replace_surrogates(needle) for needle in needles]

        def weigh(question: str, passage: str) -> Sequence[float]:
            weights = np.full(len(passage), _BACKGROUND_WEIGHT)
            for start, stop in _occurrences(passage, sharp):
                weights[start:stop] = 1.0
            return weights.tolist()

        return cls(weigh, layers=layers, heads=heads, name=name)

    @property
    def prompts_read(self) -> int:
        """How many prompts were read so far, in the words of any template."""
        return len(self.read_log)

    def with_template(self, template: Template) -> ScriptedReader:
        """The same script, in other words; `seen` is shared."""
        twin = copy(self)
        twin.layout = self.layout.with_template(template)
        return twin

    def read(self, prompts: Sequence[Prompt], want: Want) -> Iterator[Signal]:
        """The signal of each prompt, in order: `[L, H, R, N]` over the passage's own tokens.

        Raises:
            BadInput: a layer that is not there, or a script that does not fit the text.
        """
        if want.depth > self.card.layers:
            raise BadInput(
                f"layer {want.depth - 1} is wanted and {self.card.name} has {self.card.layers}; "
                f"want layers below {self.card.layers}, or give layers={want.depth}"
            )
        for prompt in prompts:
            looks = self._script_weights(prompt)
            share = self._share(want, len(prompt.question.ids) - prompt.question.first_row)[..., None]
            weights = share * looks + (1 - share) * looks.mean()
            yield Signal(weights.float(), want.layers, want.rows)

    def _script_weights(self, prompt: Prompt) -> Tensor:
        """The script of one prompt, a number a token: `[N]`."""
        data = bytes(prompt.passage.ids[prompt.passage.title_tokens :])
        question, passage = self._question_text(prompt.question), data.decode()
        self.read_log.append((question, passage))
        weights = _check_weights(self.weigh(question, passage), passage)
        tokens = _spread_over_bytes(weights, data)
        return torch.from_numpy(tokens * min(1.0, MAX_PASSAGE_MASS / max(tokens.sum(), MAX_PASSAGE_MASS)))

    def _question_text(self, ask: QuestionTokens) -> str:
        """The question between the template's words; a blank joins it to them."""
        empty = self.layout.question_tokens("")
        end = len(empty.ids) - empty.first_row - 1
        return bytes(ask.ids[ask.first_row + 1 : len(ask.ids) - end]).decode()

    def _share(self, want: Want, rows: int) -> Tensor:
        """How closely each layer, head and row follows the script: `[L, H, R]`, up to 1."""
        layers, heads = self.card.layers, self.card.heads
        head = torch.arange(1, layers * heads + 1, dtype=torch.float64).view(layers, heads)
        row = torch.arange(1, rows + 1, dtype=torch.float64) / rows
        grouped = torch.cat([_group_row_shares(row, group) for group in want.rows])
        return head[list(want.layers), :, None] / (layers * heads) * grouped


def byte_tokenizer() -> Tokenizer:
    """Every byte is a token whose id is the byte; `<|im_start|>` and its like come behind."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    # bytes that print stand for themselves, the others in order for letters from U+0100 on
    printing = {ord(letter) for letter in letters if ord(letter) < 256}
    others = (byte for byte in range(256) if byte not in printing)
    vocabulary = {c: ord(c) if ord(c) < 256 else next(others) for c in letters}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    made.decoder = decoders.ByteLevel()
    special = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")
    made.add_special_tokens([AddedToken(text, special=True) for text in special])
    return made


def _group_row_shares(row: Tensor, group: RowGroup) -> Tensor:
    """A group of rows, as `Want.rows` names them."""
    if group == "question":
        return row
    return row.mean(0, keepdim=True) if group == "question_mean" else row[-1:]


def _occurrences(text: str, needles: Sequence[str]) -> Iterator[tuple[int, int]]:
    for needle in needles:
        start = text.find(needle)
        while start >= 0:
            yield start, start + len(needle)
            start = text.find(needle, start + 1)


def _check_weights(weights: Sequence[float], passage: str) -> NDArray[np.float64]:
    """The script as an array, if it is one number a character and none is negative."""
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
    """Each character's weight, in equal parts, on its bytes."""
    starts = (np.frombuffer(data, np.uint8) & 0xC0) != 0x80  # 10xxxxxx continues a character
    character = np.cumsum(starts) - 1
    sizes = np.bincount(character, minlength=len(weights))
    return np.asarray(weights[character] / sizes[character])
