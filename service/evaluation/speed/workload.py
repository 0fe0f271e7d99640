"""What is timed: passages of real text of so many tokens, and questions of so many.

Everything follows from the text, the sizes and a seed, so two machines time the same work.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.prompt import Layout
from tamis.probes.text import Passage

QUESTION_TOKENS = 20
EXAMPLES = Path(__file__).parents[3] / "examples"
_WORD = re.compile(r"[\w'’-]+")
_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Workload:
    """How the work is made; printed beside the times.

    Attributes:
        text: where it is from. text_tokens: how many the proxy's tokenizer counts in it.
        passage_tokens: of each passage but the last. question_tokens: of each question.
    """

    text: str
    text_tokens: int
    passage_tokens: int
    question_tokens: int = QUESTION_TOKENS
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Its fields by name."""
        return asdict(self)


class Text:
    """A text to draw passages and questions from.

    Raises:
        BadInput: it has fewer tokens than one passage or one question needs.
    """

    def __init__(
        self, text: str, name: str, layout: Layout, passage_tokens: int, seed: int = 0
    ) -> None:
        self.text, self.layout, self.seed = text, layout, seed
        self.offsets = layout.tokens.encode(text).offsets
        self.work = Workload(name, len(self.offsets), passage_tokens, seed=seed)
        least = max(passage_tokens, 2 * QUESTION_TOKENS)
        if len(self.offsets) < least:
            raise BadInput(
                f"{name} has {len(self.offsets)} tokens and one passage takes {least}; "
                "give a longer text, or a smaller --passage-tokens"
            )

    def passages(self, tokens: int) -> list[Passage]:
        """Passages of `passage_tokens`, `tokens` in all, in an order drawn with the seed.

        They are cut one after the other; once the text is used up, from a third of a passage later
        on, so that no two are the same while the text is not used up three times.
        """
        each = self.work.passage_tokens
        starts = self._starts(each)
        sizes = [each] * (tokens // each) + [tokens % each] * bool(tokens % each)
        texts = [self._cut(start, size) for start, size in zip(starts, sizes, strict=False)]
        order = random.Random(self.seed).sample(range(len(texts)), len(texts))
        return [Passage(texts[i], f"passage-{i}") for i in order]

    def question(self, number: int) -> str:
        """The n-th question, of `QUESTION_TOKENS` tokens: a phrase of the text is asked about.

        Raises:
            BadInput: no phrase of the text makes a question of that length.
        """
        chance = random.Random(f"{self.seed}/{number}")
        words = self.text.split()
        for _ in range(_TRIES):
            start = chance.randrange(len(words))
            for stop in range(start + 1, min(start + QUESTION_TOKENS, len(words))):
                if not _WORD.fullmatch(words[stop - 1]):
                    break
                asked = f'What is "{" ".join(words[start:stop])}"?'
                # tokens as they stand in a prompt, behind a blank
                count = self.layout.tokens.count(f" {asked}")
                if count == QUESTION_TOKENS:
                    return asked
                if count > QUESTION_TOKENS:
                    break
        raise BadInput(f"{self.work.text} gives no question of {QUESTION_TOKENS} tokens")

    def _starts(self, each: int) -> Iterator[int]:
        """Tokens that passages start with, for ever."""
        last = len(self.offsets) - each
        thirds = (range(each * third // 3, last + 1, each) for third in range(3))
        return cycle(list(chain.from_iterable(thirds)))

    def _cut(self, start: int, size: int) -> str:
        """About `size` tokens of the text from a token on, never more when it is read alone."""
        stop = min(start + size, len(self.offsets))
        while True:
            cut = self.text[self.offsets[start][0] : self.offsets[stop - 1][1]]
            if stop - start <= 1 or self.layout.tokens.count(cut) <= size:
                return cut
            stop -= 1


def examples() -> tuple[str, str]:
    """The documents that ship with the sources, and what they are called.

    Raises:
        BadInput: tamis was installed without them.
    """
    files = sorted(file for file in EXAMPLES.glob("*/*") if file.suffix in (".md", ".html"))
    if not files:
        raise BadInput("the example documents are in the repository only; give --text FILE")
    return "\n\n".join(file.read_text("utf8") for file in files), "examples/"
