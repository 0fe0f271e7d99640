"""How much is kept, and how units are chosen and shown: `Budget` and `Rules`, checked when made.

Each field is an option (`compressors/options.py`), of which every door makes its own.
"""

from __future__ import annotations

# ruff: noqa: RUF009  option() is dataclasses.field with a shorter name
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any, Literal, Protocol, runtime_checkable

from tamis.compressors.options import Option, check_fields, no_hint, option, options_of
from tamis.compressors.registry import install_hint, method_names
from tamis.probes.errors import BadInput
from tamis.text.inputs import check_field_names

Granularity = Literal["sentence", "block", "document", "token"]
Unanswerable = Literal["auto", "best_effort", "nothing", "pass_through"]
Surface = Literal["http", "adapters"]
MAX_TOKENS = 500
"""What is kept where the command line, the service, a chain or an index is given no budget."""
WORTHLESS = 0.005
"""Units of a lower probability are not kept merely because the budget has room for them."""
PLAIN_ORDERS = ("original", "score", "edges")
"""Orders that rendering makes by itself, from passage scores alone; others are methods."""
CITATION_FIELDS = ("doc", "id", "unit")
NUMBERS, URLS = r"\d+", r"(?:https?|ftp)://\S|\bwww\.\S"
"""Presets of `Rules.protect`: a number in digits, a web address."""
LIMITS, FLOORS = ("max_tokens", "ratio"), ("threshold", "coverage")
BUDGETS = LIMITS + FLOORS
SELECTION, OUTPUT = "Selection", "Output"
"""Panels of the command line's help."""
ONE_OF_EACH = (
    "give one of max_tokens and ratio, one of threshold and coverage, or one of each: "
    "a limit and a floor"
)


@runtime_checkable
class Pattern(Protocol):
    """What `Rules.protect` needs of a compiled pattern: one of `re`, or one with a time limit."""

    @property
    def pattern(self) -> str:
        """The regular expression."""

    def search(self, text: str, /) -> object:
        """Something true where the text has a match, be it empty."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much may be kept: a limit, a floor, or one of each.

    With both, what the floor asks for is kept as far as the limit lets it, the best first; the
    result warns if that was not far enough.

    Attributes:
        max_tokens: at most so many tokens of output, counted on the joined text.
        ratio: at most this share of the input's tokens, rounded down; 1 is no limit, citations may
            make the output longer.
        threshold: every unit with at least this probability, however many tokens that is.
        coverage: as few units as keep all the evidence with this probability, as far as the data at
            hand are like those the method was calibrated on; of short texts often nearly all.

    Raises:
        BadInput: none is given, two of a kind, or a number out of range.
    """

    max_tokens: int | None = option(
        None,
        f"Keep at most N tokens; {MAX_TOKENS} if no budget is given.",
        ge=1,
        values="a whole number of at least 1",
    )
    ratio: float | None = option(
        None,
        "Keep at most this share of the tokens, such as 0.2.",
        gt=0,
        le=1,
        values="the share to keep, above 0 and up to 1",
    )
    threshold: float | None = option(
        None,
        "Keep every sentence of at least this probability.",
        ge=0,
        le=1,
        values="a probability from 0 to 1",
    )
    coverage: float | None = option(
        None,
        "Keep as few sentences as hold all the evidence with this probability, such as 0.9; of "
        "a short text often nearly all.",
        gt=0,
        lt=1,
        values="a probability above 0 and below 1, such as 0.9",
    )

    def __post_init__(self) -> None:
        given = [name for name in BUDGETS if getattr(self, name) is not None]
        if not given:
            raise BadInput(f"no budget is given; {ONE_OF_EACH}")
        check_together(given)
        check_fields(self)

    def tokens(self, tokens_in: int) -> int | None:
        """The most tokens that may be kept of `tokens_in`; None without a limit."""
        if self.max_tokens is not None:
            return self.max_tokens
        if self.ratio is None or self.ratio == 1:
            return None
        # 0.1 * 30 is 3.0000000000000004: whole tokens, so a hair's breadth is forgiven
        return math.floor(self.ratio * tokens_in + 1e-9)


def budget_of(
    max_tokens: int | None = None,
    ratio: float | None = None,
    threshold: float | None = None,
    coverage: float | None = None,
    display_name: Callable[[str], str] = str,
) -> Budget:
    """The budget that was given; `MAX_TOKENS` tokens if none was.

    Args:
        display_name: turns the name of a budget into what the user wrote, such as a CLI flag.

    Raises:
        BadInput: two budgets of a kind, or a number out of range.
    """
    values = zip(BUDGETS, (max_tokens, ratio, threshold, coverage), strict=True)
    given = [name for name, value in values if value is not None]
    check_together(given, display_name)
    return Budget(max_tokens if given else MAX_TOKENS, ratio, threshold, coverage)


def check_together(given: Sequence[str], display_name: Callable[[str], str] = str) -> None:
    """Accepts at most one limit and one floor.

    Args:
        given: names of the budgets that were given.
        display_name: turns such a name into what the user wrote, such as a CLI flag.

    Raises:
        BadInput: two limits or two floors; the message names both.
    """
    for kind in (LIMITS, FLOORS):
        if len(two := [name for name in given if name in kind]) > 1:
            names = " and ".join(map(display_name, two))
            raise BadInput(f"{names} cannot be met together; {ONE_OF_EACH}")


def order_names() -> tuple[str, ...]:
    """What `Rules.order` may be: the plain orders, then the methods of ordering."""
    return (*PLAIN_ORDERS, *(n for n in method_names("ordering") if n not in PLAIN_ORDERS))


@dataclass(frozen=True, slots=True)
class Rules:
    """How units are chosen and shown, scores and budget aside.

    Attributes:
        protect: regular expressions, as text or compiled; a unit with a match is kept, whatever its
            score.
        context_window: also keep so many neighbours on both sides of a kept unit, if they fit.
        dedup: drop a unit whose words overlap a better one's by at least this Jaccard share, or
            that overlapping passages share; None for never.
        fill: fill the budget, also with units whose probability is below `WORTHLESS`, and with
            headings that have no kept text below them.
        order: of the passages in the output: as given, best first, best at both ends, or as a
            method of ordering puts them.
        separator: between passages.
        elision: shown where text was left out inside a passage; None for nothing.
        citations: shown before each passage's text: `{doc}` is its 1-based place, `{id}` its id,
            `{unit}` the first kept unit's 1-based place; None for nothing.
        titles: show each passage's title on a line before its text.
        top_n: keep text of at most so many passages, the best by their best unit.
        keep_tags: always keep what stands between `<keep>` and `</keep>` in a passage.
        answerable_floor: below this answerability the context counts as holding no answer; None
            where the verdict is `unanswerable`, 0 for never.
        unanswerable: what is returned then: the best there is all the same, nothing, or the
            context as it came, however long it is. `auto` is nothing under a coverage, which
            promises evidence, and the best there is under any other budget.
        granularity: what is kept or dropped as one: a sentence, a block (paragraph, list, table), a
            document, such as one of many examples of a task, or a word, where the method can score
            one.
        read_metadata: fields of the passages' metadata that are read with them, such as `date` and
            `speaker`, on a line before the title; they are not shown.

    Raises:
        BadInput: a rule that cannot be followed, with what to give instead; no model has run.
    """

    protect: tuple[str | Pattern, ...] = option(
        (),
        "Always keep sentences that match one of these regular expressions.",
        SELECTION,
        metavar="REGEX",
        presets={
            "numbers": (NUMBERS, "Always keep sentences with a number in digits."),
            "urls": (URLS, "Always keep sentences with a web address."),
        },
        in_http=False,
        selects=True,
    )
    context_window: int = option(
        0, "Also keep so many neighbours on both sides.", SELECTION, ge=0, most=1000, selects=True
    )
    dedup: float | None = option(
        0.95,
        "Leave out what shares this much of its words with a better one.",
        SELECTION,
        gt=0,
        le=1,
        values="a share above 0 and up to 1, or None",
        selects=True,
    )
    fill: bool = option(
        False, "Fill the budget, with what is most likely of no use, too.", SELECTION, selects=True
    )
    order: str = option(
        "original",
        "Of the passages in the output: as given, best first, best at both ends, or by a "
        "method of ordering (see `tamis methods`).",
        OUTPUT,
        choices=order_names,
        plain_choices=PLAIN_ORDERS,
        selects=True,
    )
    separator: str = option("\n\n", "Between passages.", OUTPUT, metavar="TEXT", escapes=True)
    elision: str | None = option(
        None, "Shown where sentences were left out, such as '…'.", OUTPUT, metavar="TEXT"
    )
    citations: str | None = option(
        None,
        "Shown before each passage, with {doc}, {id} and {unit}, such as '({doc})'.",
        OUTPUT,
        metavar="TEXT",
        in_adapters=False,
    )
    titles: bool = option(False, "Show each passage's title before it.", OUTPUT, in_adapters=False)
    top_n: int | None = option(
        None, "Keep text of the N best passages only.", SELECTION, ge=1, selects=True
    )
    keep_tags: bool = option(
        False,
        "Always keep what stands between `<keep>` and `</keep>`.",
        SELECTION,
        in_adapters=False,
    )
    answerable_floor: float | None = option(
        None,
        "Answerability below which the context counts as holding no answer; that of the verdict "
        "if none is given, and 0 for never.",
        SELECTION,
        ge=0,
        le=1,
        values="a probability from 0 to 1",
        selects=True,
    )
    unanswerable: Unanswerable = option(
        "auto",
        "What to return when the context seems to hold no answer: auto and best_effort keep the "
        "best there is.",
        SELECTION,
        flag="--if-unanswerable",
        selects=True,
    )
    granularity: Granularity = option(
        "sentence",
        "What is kept or dropped as one: a sentence, a paragraph, list or table, a document, such "
        "as one of many examples of a task, or a word, where the method can score one.",
        SELECTION,
    )
    read_metadata: tuple[str, ...] = option(
        (),
        "Read these fields of a document's metadata with it, such as date and speaker.",
        SELECTION,
        metavar="NAME",
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "read_metadata", check_field_names(self.read_metadata))
        for one in RULES:
            one.check(getattr(self, one.name), install_hint if one.name == "order" else no_hint)
        for pattern in self.protect:
            compile_protect(pattern)
        parse_citation(self.citations or "")


RULES: tuple[Option, ...] = options_of(Rules)


def rules_in(where: Surface) -> tuple[Option, ...]:
    """The rules that requests, or adapters, take in their plain form."""
    if where == "http":
        return tuple(one for one in RULES if one.in_http)
    return tuple(
        replace(one, choices=lambda: PLAIN_ORDERS) if one.name == "order" else one
        for one in RULES
        if one.in_adapters
    )


def rules_from(given: object, where: Surface, **others: Any) -> Rules:
    """The rules that an object with such fields holds; `others` go before.

    Raises:
        BadInput: a rule that cannot be followed.
    """
    return Rules(**{one.name: getattr(given, one.name) for one in rules_in(where)} | others)


def compile_protect(pattern: str | Pattern) -> Pattern:
    """A protected pattern, ready to match; one that is compiled as it is.

    Raises:
        BadInput: it is no regular expression.
    """
    if not isinstance(pattern, str):
        return pattern
    try:
        return re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise BadInput(
            f"protect has {pattern!r}, which is no regular expression ({error}); "
            "escape characters that are meant literally with a backslash"
        ) from error


def parse_citation(citations: str) -> list[tuple[str, str]]:
    """A citation as literals, each with the field that follows it.

    Only parsed, never `str.format`ted: `{id.__class__}` would reach into the process.

    Raises:
        BadInput: braces that do not match, or another field.
    """
    way_out = "use {doc}, {id} and {unit}, without attributes or formats; write {{ for a brace"
    try:
        parts = list(Formatter().parse(citations))
    except ValueError as error:
        raise BadInput(f"citations is {citations!r} ({error}); {way_out}") from error
    for _, name, spec, conversion in parts:
        if name is not None and (name not in CITATION_FIELDS or spec or conversion):
            raise BadInput(f"citations is {citations!r} and {name!r} is no field; {way_out}")
    return [(literal, name or "") for literal, name, _, _ in parts]


DEFAULT_RULES = Rules()
