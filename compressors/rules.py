"""How much is kept, and how units are chosen and shown: `Budget` and `Rules`, checked when made.

A rule is one entry: a field of `Rules` with its help and its bounds. The HTTP schema, the options
of the command line, the fields of the LangChain and LlamaIndex adapters and the requests of the
remote backend are made from `RULES`.
"""

from __future__ import annotations

# ruff: noqa: RUF009  rule() is dataclasses.field with a shorter name
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import Field, dataclass, field, fields
from string import Formatter
from typing import Any, Literal, Protocol, runtime_checkable

from tamis.compressors.inputs import is_number, is_whole
from tamis.compressors.registry import install_hint, method_names
from tamis.probes.errors import BadInput

Granularity = Literal["sentence", "block", "document", "token"]
Unanswerable = Literal["best_effort", "nothing", "pass_through"]
Surface = Literal["http", "adapters"]
RuleKind = Literal["flag", "count", "share", "probability", "text", "choice", "patterns"]
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
            hand are like those the method was calibrated on.

    Raises:
        BadInput: none is given, two of a kind, or a number out of range.
    """

    max_tokens: int | None = None
    ratio: float | None = None
    threshold: float | None = None
    coverage: float | None = None

    def __post_init__(self) -> None:
        check_budget(self)

    def tokens(self, tokens_in: int) -> int | None:
        """The most tokens that may be kept of `tokens_in`; None without a limit."""
        if self.max_tokens is not None:
            return self.max_tokens
        if self.ratio is None or self.ratio == 1:
            return None
        # 0.1 * 30 is 3.0000000000000004: whole tokens, so a hair's breadth is forgiven
        return math.floor(self.ratio * tokens_in + 1e-9)


def check_budget(budget: Budget) -> None:
    """Accepts a limit, a floor, or one of each, with numbers in range.

    Raises:
        BadInput: anything else; the message says what was given.
    """
    given = [name for name in BUDGETS if getattr(budget, name) is not None]
    if not given:
        raise BadInput(f"no budget is given; {ONE_OF_EACH}")
    check_together(given)
    for name in given:
        _check_number(name, getattr(budget, name))


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


def _check_number(name: str, value: Any) -> None:
    if name == "max_tokens" and not (is_whole(value) and value >= 1):
        raise BadInput(f"max_tokens is {value!r}; give a whole number of at least 1")
    if name == "ratio" and not (is_number(value) and 0 < value <= 1):
        raise BadInput(f"ratio is {value!r}; give the share to keep, above 0 and up to 1")
    if name == "threshold" and not (is_number(value) and 0 <= value <= 1):
        raise BadInput(f"threshold is {value!r}; give a probability from 0 to 1")
    if name == "coverage" and not (is_number(value) and 0 < value < 1):
        raise BadInput(
            f"coverage is {value!r}; give a probability above 0 and below 1, such as 0.9"
        )


def order_names() -> tuple[str, ...]:
    """What `Rules.order` may be: the plain orders, then the methods of ordering."""
    return (*PLAIN_ORDERS, *(n for n in method_names("ordering") if n not in PLAIN_ORDERS))


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """What is known of one rule, beside its name and default.

    Attributes:
        kind: what values it takes. optional: whether None is one of them.
        help: one line. panel: of the command line's help.
        least: of a count. most: of a count in a request.
        choices: of a choice, read when they are needed.
        adapter_choices: where adapters take fewer than all choices.
        flag: the option of the command line, where it is not the name.
        in_http, in_adapters: whether requests and adapters take it in this plain form.
        escapes: whether the command line reads `\\n` and `\\t` in it.
        selects: whether it decides which units are kept and in what order. Where the whole context
            is returned in place of an error, such a rule is at its default; the others, which say
            what a unit is and how text is written, are as the caller gave them.
    """

    kind: RuleKind
    help: str
    optional: bool = False
    panel: str = "Selection"
    least: int = 0
    most: int = 2**31
    choices: Callable[[], tuple[str, ...]] = tuple
    adapter_choices: tuple[str, ...] | None = None
    flag: str | None = None
    in_http: bool = True
    in_adapters: bool = True
    escapes: bool = False
    selects: bool = False

    def describe_values(self) -> str:
        """What to give, in words."""
        words = {
            "flag": "true or false",
            "count": f"a whole number of at least {self.least}",
            "share": "a share above 0 and up to 1",
            "probability": "a probability from 0 to 1",
            "text": "a text",
            "choice": f"one of {', '.join(self.choices())}",
            "patterns": "a tuple of regular expressions",
        }[self.kind]
        return f"{words}, or None" if self.optional else words

    def accepts(self, value: Any) -> bool:
        """Whether a value is of this kind and within its bounds."""
        if value is None:
            return self.optional
        match self.kind:
            case "flag":
                return isinstance(value, bool)
            case "count":
                return is_whole(value) and value >= self.least
            case "share":
                return is_number(value) and 0 < value <= 1
            case "probability":
                return is_number(value) and 0 <= value <= 1
            case "text":
                return isinstance(value, str)
            case "choice":
                # the plain orders first: to list the methods of ordering, files may be imported
                plain = self.adapter_choices or ()
                return isinstance(value, str) and (value in plain or value in self.choices())
        return isinstance(value, tuple | list) and all(
            isinstance(one, str | Pattern) for one in value
        )


def rule(default: Any, kind: RuleKind, text: str, **more: Any) -> Any:
    """A field of `Rules` with all that is known of it."""
    return field(default=default, metadata={"spec": RuleSpec(kind, text, **more)})


@dataclass(frozen=True, slots=True)
class Rules:
    """How units are chosen and shown, scores and budget aside.

    Attributes:
        protect: regular expressions, as text or compiled; a unit with a match is kept, whatever its
            score.
        context_window: also keep so many neighbours on both sides of a kept unit, if they fit.
        dedup: drop a unit whose words overlap a better one's by at least this Jaccard share; None
            for never.
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
        answerable_floor: below this answerability the context counts as holding no answer.
        unanswerable: what is returned then: the best there is all the same, nothing, or the
            context as it came, however long it is.
        granularity: what is kept or dropped as one: a sentence, a block (paragraph, list, table), a
            document, such as one of many examples of a task, or a word, where the method can score
            one.

    Raises:
        BadInput: a rule that cannot be followed, with what to give instead; no model has run.
    """

    protect: tuple[str | Pattern, ...] = rule(
        (),
        "patterns",
        "Always keep sentences that match one of these regular expressions.",
        in_http=False,
        selects=True,
    )
    context_window: int = rule(
        0, "count", "Also keep so many neighbours on both sides.", most=1000, selects=True
    )
    dedup: float | None = rule(
        0.95,
        "share",
        "Leave out what shares this much of its words with a better one.",
        optional=True,
        selects=True,
    )
    fill: bool = rule(
        False,
        "flag",
        "Fill the budget, with what is most likely of no use, too.",
        selects=True,
    )
    order: str = rule(
        "original",
        "choice",
        "Of the passages in the output: as given, best first, best at both ends, or by a "
        "method of ordering (see `tamis methods`).",
        panel="Output",
        choices=order_names,
        adapter_choices=PLAIN_ORDERS,
        selects=True,
    )
    separator: str = rule("\n\n", "text", "Between passages.", panel="Output", escapes=True)
    elision: str | None = rule(
        None,
        "text",
        "Shown where sentences were left out, such as '…'.",
        optional=True,
        panel="Output",
    )
    citations: str | None = rule(
        None,
        "text",
        "Shown before each passage, with {doc}, {id} and {unit}, such as '({doc})'.",
        optional=True,
        panel="Output",
        in_adapters=False,
    )
    titles: bool = rule(
        False,
        "flag",
        "Show each passage's title before it.",
        panel="Output",
        in_adapters=False,
    )
    top_n: int | None = rule(
        None,
        "count",
        "Keep text of the N best passages only.",
        optional=True,
        least=1,
        selects=True,
    )
    keep_tags: bool = rule(
        False,
        "flag",
        "Always keep what stands between `<keep>` and `</keep>`.",
        in_adapters=False,
    )
    answerable_floor: float = rule(
        0.0,
        "probability",
        "Answerability below which the context counts as holding no answer, such as 0.3; at 0 it "
        "never does.",
        selects=True,
    )
    unanswerable: Unanswerable = rule(
        "best_effort",
        "choice",
        "What to return when the context seems to hold no answer: give a floor for that.",
        choices=lambda: ("best_effort", "nothing", "pass_through"),
        flag="--if-unanswerable",
        selects=True,
    )
    granularity: Granularity = rule(
        "sentence",
        "choice",
        "What is kept or dropped as one: a sentence, a paragraph, list or table, a document, such "
        "as one of many examples of a task, or a word, where the method can score one.",
        choices=lambda: ("sentence", "block", "document", "token"),
    )

    def __post_init__(self) -> None:
        for one in RULES:
            spec, value = spec_of(one), getattr(self, one.name)
            if not spec.accepts(value):
                hint = install_hint(value) if one.name == "order" else ""
                raise BadInput(f"{one.name} is {value!r:.200}; give {spec.describe_values()}{hint}")
        for pattern in self.protect:
            compile_protect(pattern)
        parse_citation(self.citations or "")


RULES: tuple[Field[Any], ...] = fields(Rules)
"""Every rule; `spec_of` has what is known of each."""


def spec_of(one: Field[Any]) -> RuleSpec:
    """What is known of a rule."""
    spec: RuleSpec = one.metadata["spec"]
    return spec


def rule_names(where: Surface) -> list[str]:
    """The rules that requests, or adapters, take in their plain form."""
    return [
        one.name
        for one in RULES
        if (spec_of(one).in_http if where == "http" else spec_of(one).in_adapters)
    ]


def rules_from(given: object, where: Surface, **others: Any) -> Rules:
    """The rules that an object with such fields holds; `others` go before.

    Raises:
        BadInput: a rule that cannot be followed.
    """
    values = {name: getattr(given, name) for name in rule_names(where) if name not in others}
    return Rules(**values, **others)


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
