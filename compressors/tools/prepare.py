"""One compression of tool outputs in two stages: `prepare` needs no model, `select` no text.

outputs ─ parse ─► parts, their kinds ─► units ─ any scorer ─► values ─ select ─► text, markers
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, islice, pairwise

from tamis.compressors.method import Scorer
from tamis.compressors.tools.lossless import write_within
from tamis.compressors.tools.novelty import novelty
from tamis.compressors.tools.packing import FAILURE_WORD, Packer, cut_failures
from tamis.compressors.tools.types import CompressedToolOutput, Marker, ToolOutput
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.text.readers.outputs.json_parts import SMALL_CHARS
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import LAST_PROTECTED, Level, ParsedOutput, Part
from tamis.text.types import Passage, Unit

LARGE_TOKENS, LARGE_SHARE = 200, 0.1
"""A protected part of more tokens than both goes behind the others: it would keep them out."""
_MOST_CUTS = 3
_NEAR = ((1, 0.5), (2, 0.25))
_FROM_HEADER = 0.4


LAST_SHARE, LAST_FROM, TAIL_SHARE, LONG = 0.4, 600, 0.25, 10
"""The last failures and the end get a share of a limit, as far as it is above so many tokens."""
NOVELTY = 0.4
"""What a unit of log odds that a part is used later weighs against the best score of a part."""


def order_parts(
    parsed: ParsedOutput,
    values: Sequence[float],
    tokens: Sequence[int],
    news: Sequence[float] | None = None,
) -> tuple[list[int], int]:
    """Indexes of the parts in the order in which they are taken, and how many are protected.

    Args:
        values: a score a part; those of frames are ignored. tokens: of each part.
        news: how much speaks for each part to be used later, in log odds.
    """
    rows = [i for i, part in enumerate(parsed.parts) if not part.is_frame]
    protected = [i for i in rows if parsed.parts[i].level <= LAST_PROTECTED]
    large = max(LARGE_TOKENS, LARGE_SHARE * sum(tokens))
    protected.sort(key=lambda i: (tokens[i] > large, *_urgency(parsed.parts, values, i)))
    # what went wrong stays at any limit, before how it ended
    first = next((i for i in protected if parsed.parts[i].level == Level.MESSAGE), None)
    protected = [*([] if first is None else [first]), *(i for i in protected if i != first)]
    rest = [i for i in rows if parsed.parts[i].level > LAST_PROTECTED]
    wanted = _spread(parsed.parts, _relative(values))
    if news is not None:
        wanted = [value + NOVELTY * new for value, new in zip(wanted, news, strict=True)]
    size = max(1, len(parsed.parts) - 1)
    rest.sort(key=lambda i: (-wanted[i] - _salience(parsed.parts[i], i / size), i))
    return protected + rest, len(protected)


def _spread(parts: Sequence[Part], values: Sequence[float]) -> list[float]:
    """Values with a share of those of the header and of the lines beside, under the same header.

    What answers is often the line after the one that has the words of the question.
    """
    groups = [part.needs for part in parts]
    spread = list(values)
    for i, part in enumerate(parts):
        near = [
            weight * values[j]
            for step, weight in _NEAR
            for j in (i - step, i + step)
            if 0 <= j < len(parts) and (groups[j] == groups[i] or j in part.needs)
        ]
        header = values[part.needs[-1]] if part.needs else 0.0
        spread[i] += max((*near, _FROM_HEADER * header), default=0.0)
    return spread


def _urgency(parts: Sequence[Part], values: Sequence[float], i: int) -> tuple[int, int, float, int]:
    """By level and turn; of several failures the one that is asked for first."""
    asked = max(values[j] for j in (i, *parts[i].needs))
    return parts[i].level, parts[i].turn, -asked, i


def _relative(values: Sequence[float]) -> list[float]:
    """Values between 0, the least, and 1, the greatest."""
    if not values or max(values) <= min(values):
        return [0.0] * len(values)
    low, high = min(values), max(values)
    return [(value - low) / (high - low) for value in values]


def _salience(part: Part, place: float) -> float:
    """What a part is worth whatever is asked: by its level, and more at both ends.

    Args:
        place: from 0, the first part, to 1, the last.
    """
    return 0.1 * abs(2 * place - 1) - 0.1 * int(part.level)


SALIENCE_QUESTION = "What failed, where and why, and what is the result?"
"""What a scorer is asked where there is neither a question nor a call."""


@dataclass(frozen=True, slots=True)
class PreparedToolOutputs:
    """Outputs that were parsed; no model has run.

    Attributes:
        question: the calls with the question, never empty. With several outputs each has its own
            in `questions`; `score` asks them one by one.
        questions: for each output its call with the question; empty where there is neither.
        passages: one an output, its call as the title. units: what is scored, in order.
        tokens_in: of each output.
    """

    question: str
    questions: tuple[str, ...]
    passages: tuple[Passage, ...]
    units: tuple[Unit, ...]
    tokens_in: tuple[int, ...]
    _parsed: tuple[ParsedOutput, ...]
    _packers: tuple[Packer, ...]

    def score(self, scorer: Scorer) -> list[float]:
        """A value a unit: every output is asked its own question, or none has a say without one."""
        values: list[float] = []
        for index, passage in enumerate(self.passages):
            units = [u for u in self.units if u.passage == index]
            if not self.questions[index] or not units:
                values += [0.0] * len(units)
                continue
            alone = [Unit(0, u.start, u.stop, u.visible, u.kind) for u in units]
            values += scorer.scores(self.questions[index], [passage], alone).values
        return values

    def select(
        self, values: Sequence[float], token_limits: Sequence[int], marker: Marker
    ) -> tuple[CompressedToolOutput, ...]:
        """The parts of each output that stay within its limit; one that fits is returned whole.

        One that fits with its repeated lines counted is written so, below a header that says it.

        Args:
            values: one a unit, higher is better, of any scorer.
            token_limits: one an output: the most tokens of its text, markers included.
            marker: makes the text of an omission.

        Raises:
            BadInput: not one value a unit or not one limit an output.
        """
        if len(values) != len(self.units) or len(token_limits) != len(self.passages):
            raise BadInput(
                f"{len(values)} values for {len(self.units)} units, {len(token_limits)} limits for "
                f"{len(self.passages)} outputs; give one a unit and one an output"
            )
        by_output: list[list[float]] = [[] for _ in self.passages]
        for unit, value in zip(self.units, values, strict=True):
            by_output[unit.passage].append(value)
        return tuple(
            self._select_one(i, by_output[i], limit, marker) for i, limit in enumerate(token_limits)
        )

    def _select_one(
        self, index: int, values: Sequence[float], limit: int, marker: Marker
    ) -> CompressedToolOutput:
        text, parsed = self.passages[index].text, self._parsed[index]
        packer = self._packers[index]
        if (tokens := self.tokens_in[index]) <= limit:
            return packer.whole(tokens)
        if all(part.place == "line" for part in parsed.parts):  # JSON stays JSON
            # nothing has to be left out where repeats that are counted make room
            written, count = write_within(text, packer.counter, tokens, limit)
            if count <= limit:
                whole = ((0, len(text)),)
                return CompressedToolOutput(written, whole, (), parsed.format, tokens, count)
        by_part = _values_by_part(text, parsed.parts, values)
        # fitted on such; of a large one what answers is looked for
        is_small = parsed.format == "json" and len(text) <= SMALL_CHARS
        news = novelty(text, parsed.parts, self.questions[index]) if is_small else None
        asked = _spread(parsed.parts, _relative(by_part))
        room, marker_tokens = limit, packer.marker_tokens(marker)
        last = _room_of_last(parsed.parts, packer.tokens, limit, marker_tokens)
        for _ in range(_MOST_CUTS):
            cut, counts, origins = cut_failures(
                text, parsed, packer.tokens, room - last, marker_tokens, packer.counter
            )
            order, protected = order_parts(
                cut, [by_part[i] for i in origins], counts, news and [news[i] for i in origins]
            )
            if last:
                order, protected = _with_last(
                    text, cut.parts, counts, order, protected, limit - last, last, marker_tokens
                )
            idle = {i for i in order[protected:] if _is_idle(text, cut.parts, i, asked[origins[i]])}
            packed = Packer(text, cut, counts, packer.counter)
            found = packed.pack(order, protected, limit, marker, tokens, idle)
            if found.tokens_out <= limit:
                break
            room -= found.tokens_out - limit  # markers had more than is usual
        return found


def _room_of_last(
    parts: Sequence[Part], tokens: Sequence[int], limit: int, marker_tokens: int
) -> int:
    """Tokens of a limit that the end and the last failures get: `LAST_SHARE` where the protected
    parts do not fit into the others, or the text is `LONG` times the limit; grows with the limit.
    """
    room = min(int(LAST_SHARE * min(limit, sum(tokens) / LONG)), limit - LAST_FROM)
    if room <= 0 or any(part.place != "line" for part in parts):
        return 0
    own = [i for i, part in enumerate(parts) if part.level <= LAST_PROTECTED]
    gaps = 1 + sum(b > a + 1 for a, b in pairwise([-1, *own]))
    protected = sum(tokens[i] for i in own) + 2 * marker_tokens * gaps
    return room if protected > limit - room or sum(tokens) > LONG * limit else 0


def _with_last(
    text: str,
    parts: Sequence[Part],
    tokens: Sequence[int],
    order: Sequence[int],
    protected: int,
    free: int,
    room: int,
    marker_tokens: int,
) -> tuple[list[int], int]:
    """The order with the last words of failure, each with the lines around it, and the end behind
    the first protected parts: what ended a job is said last.

    Args:
        free: tokens of the first protected parts. room: of what follows them.
    """
    ahead = dict[int, None]()
    for i in order[:protected]:
        free -= tokens[i] + marker_tokens * (i - 1 not in ahead)
        if ahead and free < 0:
            break
        ahead[i] = None
    tail = int(TAIL_SHARE * room)
    for i in range(len(parts) - 1, -1, -1):
        near = [i] if (tail := tail - tokens[i]) >= 0 else []
        if FAILURE_WORD.search(text, parts[i].start, parts[i].stop):
            near = [i, *range(i + 1, min(len(parts), i + 7)), *range(max(0, i - 2), i)]
        for j in near:
            if j not in ahead and not parts[j].is_frame and room >= 0:
                room -= tokens[j]
                ahead[j] = None
    front = [*ahead, *(i for i in order[:protected] if i not in ahead)]
    return [*front, *(i for i in order[protected:] if i not in ahead)], len(front)


def _is_idle(text: str, parts: Sequence[Part], i: int, asked: float) -> bool:
    """Whether a line says nothing: nobody asks for it, and it is blank or beside no failure."""
    if asked or parts[i].place != "line":
        return False
    beside = parts[max(0, i - 1) : i + 2]
    is_blank = text[parts[i].start : parts[i].stop].isspace()
    return is_blank or all(part.level > LAST_PROTECTED for part in beside)


def prepare_tool_outputs(
    outputs: Sequence[ToolOutput],
    question: str | None,
    counter: TextTokenizer,
    tokens: Sequence[int] | None = None,
) -> PreparedToolOutputs:
    """Parses what tools printed.

    Args:
        question: the last thing that the user said, if anything.
        counter: counts the budget.
        tokens: of each output, where they were counted before.
    """
    parsed = tuple(parse_tool_output(output.text, output.call) for output in outputs)
    texts = [
        _texts_of_parts(output.text, found) for output, found in zip(outputs, parsed, strict=True)
    ]
    # in one call, so that a long text is counted beside its lines
    whole = [output.text for output in outputs] if tokens is None else []
    counts = iter(counter.count_many([*whole, *chain.from_iterable(texts)]))
    tokens_in = tuple(islice(counts, len(whole))) if tokens is None else tuple(tokens)
    packers = tuple(
        Packer(output.text, found, list(islice(counts, len(found.parts))), counter)
        for output, found in zip(outputs, parsed, strict=True)
    )
    questions = tuple(_question(question, [output]) for output in outputs)
    return PreparedToolOutputs(
        _question(question, outputs) or SALIENCE_QUESTION,
        questions,
        tuple(Passage(output.text, title=output.call or None) for output in outputs),
        tuple(unit for i, found in enumerate(parsed) for unit in _units(i, outputs[i].text, found)),
        tokens_in,
        parsed,
        packers,
    )


def _texts_of_parts(text: str, parsed: ParsedOutput) -> list[str]:
    """Each part with what separates it from the next."""
    edges = [*(part.start for part in parsed.parts[1:]), len(text)]
    return [text[p.start : stop] for p, stop in zip(parsed.parts, edges, strict=False)]


def _question(question: str | None, outputs: Sequence[ToolOutput]) -> str:
    calls = dict.fromkeys(output.call for output in outputs)
    return "\n".join(text for text in (*calls, question or "") if text.strip())


def _units(index: int, text: str, parsed: ParsedOutput) -> list[Unit]:
    """What is scored: the parts that show something, frames aside."""
    units = []
    for part in parsed.parts:
        shown = text[part.start : part.stop]
        if part.is_frame or not (body := shown.strip()):
            continue
        first = part.start + len(shown) - len(shown.lstrip())
        units.append(Unit(index, part.start, part.stop, (first, first + len(body)), "entry"))
    return units


def _values_by_part(text: str, parts: Sequence[Part], values: Sequence[float]) -> list[float]:
    """A value a part: that of its unit, or the least where it is none."""
    least, left = min(values, default=0.0), iter(values)
    return [
        least if part.is_frame or not text[part.start : part.stop].strip() else next(left)
        for part in parts
    ]
