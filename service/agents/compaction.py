"""Steps of an agent's conversation, brought under a number of tokens: for frameworks' hooks.

First go results that a later step made needless, for free; then the older ones that have least to
do with the last turns are shortened, and if that is not enough replaced by a marker.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from tamis.compressors.tools.steps import Superseded, is_floor, rank_steps, superseded_steps
from tamis.compressors.tools.types import RETRIEVE, ToolOutput
from tamis.probes.errors import BadInput
from tamis.service.agents.shortening import Shortening
from tamis.service.agents.store import OutputStore
from tamis.text.types import to_bytes

MIN_KEEP_STEPS = 2
_OLDER = Superseded("older")


@dataclass(frozen=True, slots=True)
class StepCompaction:
    """How the results of steps are brought under a number of tokens.

    Attributes:
        shortening: of those that are older; its store keeps what was left out.
        min_keep_steps: so many of the last steps that call tools stay whole.
        exclude_tools: names or patterns of tools whose results stay, as mcp__*.

    Raises:
        BadInput: the last step could go, which the model has not read yet; a text is given for
            the names; or the method cannot shorten.
    """

    shortening: Shortening
    min_keep_steps: int = MIN_KEEP_STEPS
    exclude_tools: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.shortening.check_method()
        if isinstance(self.exclude_tools, str):  # whose letters would be the names
            raise BadInput(
                f"exclude_tools is {self.exclude_tools!r:.80}; give a list of names or patterns"
            )
        if self.min_keep_steps < 1:
            raise BadInput(
                f"min_keep_steps is {self.min_keep_steps}; give 1 or more: the model has not read "
                "the last results"
            )

    def last_steps(
        self,
        steps: Sequence[ToolOutput],
        places: Sequence[int],
        called: Sequence[int],
        asked: Sequence[str],
    ) -> tuple[int, str]:
        """How many of the results are of the last steps, and the text of the last turns.

        Args:
            steps: the results in their order.
            places: of the message of each result in the conversation.
            called: places of the messages that call tools, in their order.
            asked: the user's last turn.
        """
        first_kept = ([-1, *called])[-self.min_keep_steps :][0]
        keep_last = sum(at > first_kept for at in places)
        calls = [step.arguments or "" for step in steps[len(steps) - keep_last :]]
        return keep_last, "\n".join([*asked, *calls])

    def compact(
        self,
        steps: Sequence[ToolOutput],
        keep_last: int,
        question: str,
        excess: int,
        count: Callable[[int, str], int],
    ) -> dict[int, str]:
        """The new texts of results, by their indexes.

        Args:
            steps: the results in their order, each with its call; one without a `name` stays.
            keep_last: so many of them are of the last steps.
            question: the last turns: of the user, and the last calls.
            excess: tokens that should be saved.
            count: the tokens of a result, with another text in its place.

        Raises:
            TamisError, OSError: as of `Shortening.apply`.
        """
        new, saved = dict[int, str](), 0
        free = [i for i in range(len(steps) - keep_last) if self._may_go(steps[i])]

        def replace(index: int, text: str | None) -> None:
            nonlocal saved
            before = count(index, new.get(index, steps[index].text))
            if text is not None and (gain := before - count(index, text)) > 0:
                new[index] = text
                saved += gain

        needless = superseded_steps(steps, keep_last)
        for i in free:
            if (why := needless.get(i)) is not None:
                replace(i, self._marker(steps[i], why, count(i, steps[i].text)))
        scores = rank_steps(steps, question)
        ranked = sorted((i for i in free if i not in new), key=lambda i: (scores[i], i))
        for i in ranked:
            if saved >= excess:
                return new
            [shorter] = self.shortening.apply([steps[i]], question)
            replace(i, shorter)
        for i in ranked:
            if saved >= excess:
                break
            replace(i, self._marker(steps[i], _OLDER, count(i, steps[i].text)))
        return new

    def _may_go(self, step: ToolOutput) -> bool:
        if step.name is None:
            return False
        is_excluded = any(fnmatchcase(step.name, one) for one in self.exclude_tools)
        return not is_excluded and not is_floor(step)

    def _marker(self, step: ToolOutput, why: Superseded, tokens: int) -> str | None:
        """What stands in place of a result; None where that could not be had again."""
        if self.shortening.no_store:
            return why.shown(tokens)
        key = OutputStore().put(to_bytes(step.text))
        return why.shown(tokens, f"{RETRIEVE} {key}") if key else None
