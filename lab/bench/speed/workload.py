"""The work that is timed: passages and questions of given sizes, drawn from a real text.

Text, sizes and seed determine everything, so that two machines time the same work.
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
_QUESTION_TRIES = 10_000


@dataclass(frozen=True, slots=True)
class Workload:
    """The parameters of the work, printed beside the times.

    Attributes:
        text: name of the source. text_tokens: its length by the proxy's tokenizer.
        passage_tokens: of each passage except the last. question_tokens: of each question.
    """

    text: str
    text_tokens: int
    passage_tokens: int
    question_tokens: int = QUESTION_TOKENS
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


class WorkloadText:
    """A text from which passages and questions are drawn.

    Raises:
        BadInput: it has fewer tokens than one passage or one question needs.
    """

    def __init__(
        self, text: str, name: str, layout: Layout, passage_tokens: int, seed: int = 0
    ) -> None:
        self.text, self.layout, self.seed = text, layout, seed
        self.offsets = layout.tokenizer.encode(text).offsets
        self.workload = Workload(name, len(self.offsets), passage_tokens, seed=seed)
        least = max(passage_tokens, 2 * QUESTION_TOKENS)
        if len(self.offsets) < least:
            raise BadInput(
                f"{name} has {len(self.offsets)} tokens and one passage takes {least}; "
                "give a longer text, or a smaller --passage-tokens"
            )

    def passages(self, tokens: int) -> list[Passage]:
        """Passages of `passage_tokens`, `tokens` in total, in an order that the seed determines.

        They are cut consecutively; at the end of the text, cutting starts again a third of a
        passage after its beginning, so that no two are equal before the text is used three times.
        """
        each = self.workload.passage_tokens
        starts = self._starts(each)
        sizes = [each] * (tokens // each) + [tokens % each] * bool(tokens % each)
        texts = [self._cut(start, size) for start, size in zip(starts, sizes, strict=False)]
        order = random.Random(self.seed).sample(range(len(texts)), len(texts))
        return [Passage(texts[i], f"passage-{i}") for i in order]

    def question(self, number: int) -> str:
        """The n-th question, of `QUESTION_TOKENS` tokens, about a phrase of the text.

        Raises:
            BadInput: no phrase of the text gives a question of that length.
        """
        generator = random.Random(f"{self.seed}/{number}")
        words = self.text.split()
        for _ in range(_QUESTION_TRIES):
            start = generator.randrange(len(words))
            for stop in range(start + 1, min(start + QUESTION_TOKENS, len(words))):
                if not _WORD.fullmatch(words[stop - 1]):
                    break
                question = f'What is "{" ".join(words[start:stop])}"?'
                # counted as in a prompt, after a space
                count = self.layout.tokenizer.count(f" {question}")
                if count == QUESTION_TOKENS:
                    return question
                if count > QUESTION_TOKENS:
                    break
        raise BadInput(f"{self.workload.text} gives no question of {QUESTION_TOKENS} tokens")

    def _starts(self, each: int) -> Iterator[int]:
        """Indices of the tokens that passages start at, without end."""
        last = len(self.offsets) - each
        thirds = (range(each * third // 3, last + 1, each) for third in range(3))
        return cycle(list(chain.from_iterable(thirds)))

    def _cut(self, start: int, size: int) -> str:
        """The text from a token on, of at most `size` tokens when it is tokenized alone."""
        stop = min(start + size, len(self.offsets))
        while True:
            cut = self.text[self.offsets[start][0] : self.offsets[stop - 1][1]]
            if stop - start <= 1 or self.layout.tokenizer.count(cut) <= size:
                return cut
            stop -= 1


def example_text() -> tuple[str, str]:
    """The text of the documents in the repository's `examples/`, and its name.

    Raises:
        BadInput: this installation of tamis does not have them.
    """
    files = sorted(file for file in EXAMPLES.glob("*/*") if file.suffix in (".md", ".html"))
    if not files:
        raise BadInput("the example documents are in the repository only; give --text FILE")
    return "\n\n".join(file.read_text("utf8") for file in files), "examples/"
