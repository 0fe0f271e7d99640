"""Tool results shortened, in this process or by a running service."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tamis.compressors.options import check_fields, option
from tamis.compressors.rules import Budget
from tamis.compressors.tools.types import (
    MOST_TOKENS,
    RETRIEVE,
    CompressedToolOutput,
    Marker,
    ToolOutput,
)
from tamis.probes.errors import BadInput
from tamis.service.agents.store import OutputStore
from tamis.text.types import to_bytes

if TYPE_CHECKING:
    from tamis.compressors.tools.prepare import PreparedToolOutputs
    from tamis.probes.tokens import TextTokenizer

METHOD = "lexical"
"""What pipes and hooks score with: no model is loaded, which would take seconds for every call."""
RATIO = 0.4
MIN_TOKENS = 250
MAX_BYTES = 1 << 23
"""A longer output passes as it is: that shortening it is worth the time, nobody has shown."""
ID_TOKENS = 24
"""What the id of an output takes of its budget: it stands in the first marker."""
_MARKER = re.compile(r"\[… [^\[\]\n]*omitted, \d+ tokens?\]")
_LEAST_WITH_ID = 4 * ID_TOKENS
"""The id comes on top of a smaller limit."""
_LANGUAGE = "en"  # what tools print is in no language, and detection would take it for Portuguese


@dataclass(frozen=True, slots=True)
class Shortening:
    """How far tool results are shortened, and by whom.

    Attributes:
        max_tokens: of all results of a call together; beside a ratio, of those that are shortened.
        ratio: of those that are shortened; without either, `RATIO`.
        min_tokens: a smaller result stays as it is.
        method: how lines are scored. proxy: the model of a method that reads with one.
        tokenizer: counts the budget.
        lossless: nothing is left out; only what can be written shorter is, see `tools.lossless`.
        no_store: no copy is kept for `tamis run --retrieve`, and markers name no id.
        url: of a running service that does the work; it has its own proxy and tokenizer.
        api_key: of that service. timeout_s: for its answer.

    Raises:
        BadInput: a number out of range, or a budget where nothing is to be left out.
    """

    max_tokens: int | None = option(None, "Keep at most N tokens of what a call returned.")
    ratio: float | None = option(
        None,
        f"Keep at most this share of the tokens. Without a budget it is {RATIO}, and commands keep "
        f"at most {MOST_TOKENS:,}.",
    )
    min_tokens: int = option(
        MIN_TOKENS, "Leave what has fewer tokens as it is.", ge=0, values="0 or more"
    )
    method: str | None = option(
        None,
        "How lines are scored: see `tamis methods`. Without it lexical, which loads no model; with "
        "--url the service's default.",
    )
    proxy: str = option("auto", "The model of a method that reads with one.")
    tokenizer: str = option(
        "estimate",
        "Counts the budget: `estimate` (by rules, within a tenth, loads nothing), `proxy`, or a "
        "tokenizer.json.",
    )
    lossless: bool = option(
        False, "Leave nothing out: only write shorter what can be, in ways that can be undone."
    )
    no_store: bool = option(False, "Keep no copy on this disk for `tamis run --retrieve`.")
    url: str | None = option(
        None,
        "Of a running `tamis serve`, whose model is warm, such as http://localhost:8080.",
        "Service",
    )
    api_key: str | None = option(
        None,
        "Of that service; better in the variable, where no list of processes shows it.",
        "Service",
        variable="TAMIS_API_KEY",
    )
    timeout_s: float = option(
        30.0,
        "Seconds to wait for that service.",
        "Service",
        flag="--timeout",
        gt=0,
        lt=math.inf,
        values="a number of seconds above 0",
    )

    def __post_init__(self) -> None:
        _ = self.share
        if self.max_tokens is not None:
            Budget(self.max_tokens)
        check_fields(self)
        if self.lossless and (self.max_tokens is not None or self.ratio is not None):
            raise BadInput(
                "lossless leaves nothing out, so it cannot keep to a budget; give one of them"
            )

    def check_method(self) -> None:
        """Refuses a method that cannot shorten in this process; a service has its own.

        Raises:
            BadInput: it scores no sentences. UnknownMethod: there is none of that name.
        """
        if self.method is not None and self.url is None:
            from tamis.compressors.method import check_scores
            from tamis.compressors.registry import method_info

            check_scores(method_info(self.method), self.method)

    @property
    def share(self) -> Budget | None:
        """The share to keep; `RATIO` without any budget, None where only `max_tokens` was given."""
        if self.ratio is None and self.max_tokens is not None:
            return None
        return Budget(ratio=RATIO if self.ratio is None else self.ratio)

    def apply(
        self,
        outputs: Sequence[ToolOutput],
        question: str | None = None,
        warn: Callable[[str], object] = lambda warning: None,
    ) -> list[str]:
        """The texts of the outputs, shortened where they are large enough.

        One of which nothing but markers would be left stays whole.

        Args:
            question: what the user wants to know, if anything; the call that made an output is part
                of its question in any case.
            warn: gets each warning, once.

        Raises:
            TamisError: and its kinds: an unknown method, a missing model, a service that refuses.
            OSError: the service cannot be reached.
        """
        shorter = [output.text for output in outputs]
        # what was asked back, and what has been shortened, is never shortened again
        left = [i for i, output in enumerate(outputs) if not output.is_settled]
        given = [outputs[i] for i in left]
        found = self._shorten(given, question, warn) if left else ()
        for i, text in zip(left, found, strict=True):
            shorter[i] = self._with_id(text, outputs[i].text)
        return shorter

    def _shorten(
        self, outputs: Sequence[ToolOutput], question: str | None, warn: Callable[[str], object]
    ) -> list[str]:
        from tamis.compressors.tools.lossless import without_colours
        from tamis.compressors.tools.types import shows_source

        if self.lossless:
            return [found.text for found in self.compress(outputs, question)]
        if self.url is not None:
            from tamis.probes.tokens import estimating_tokenizer
            from tamis.service.agents.remote import RemoteService

            most, ratio = self.max_tokens, self.share and self.share.ratio
            if most is not None and ratio is not None:  # of which the service takes one
                counts = estimating_tokenizer().count_many([output.text for output in outputs])
                kept = sum(token_limits(counts, self))
                is_cap = kept < sum(token_limits(counts, replace(self, max_tokens=None)))
                most, ratio = (kept, None) if is_cap else (None, ratio)
            return RemoteService(self.url, self.api_key, self.timeout_s).shorten(
                outputs,
                question,
                method=self.method,
                max_tokens=most,
                ratio=ratio,
                language=_LANGUAGE,
                config={"min_tokens_to_compress": self.min_tokens},
                warn=warn,
            )
        plain = [replace(output, text=without_colours(output.text)) for output in outputs]
        shortened = self.compress(plain, question, spare=0 if self.no_store else ID_TOKENS)
        for warning in dict.fromkeys(w for found in shortened for w in found.warnings):
            warn(warning)
        # a text of which nothing but markers would be left stays: of a single long line
        return [
            found.text if shows_source(found, one.text) and found.text != one.text else output.text
            for found, one, output in zip(shortened, plain, outputs, strict=True)
        ]

    def _with_id(self, text: str, source: str) -> str:
        """A shortened text whose first marker names the id by which the source can be had again.

        The source where that is no longer.
        """
        if text == source or self.no_store or self.lossless:
            return text
        # a marker that the source has is a line like others
        marker = next((m for m in _MARKER.finditer(text) if m.group() not in source), None)
        if marker is None:
            return text
        try:
            data = source.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:  # halves of characters, which JSON can hold
            data = to_bytes(source)
        key = OutputStore().put(data)
        if key is None:
            return text
        at = marker.end() - 1
        colours = "; colours removed" if "\x1b" in source and "\x1b" not in text else ""
        shown = f"{text[:at]}{colours}; {RETRIEVE} {key}{text[at:]}"
        return shown if len(shown) < len(source) else source

    def compress(
        self,
        outputs: Sequence[ToolOutput],
        question: str | None = None,
        marker: Marker | None = None,
        spare: int = 0,
    ) -> list[CompressedToolOutput]:
        """`apply` in this process, with spans and counts; texts that stay are whole.

        Args:
            marker: makes the text of an omission; by default its lines and tokens.
            spare: tokens of each limit that are left free.
        """
        from tamis.compressors.tools.lossless import write_whole
        from tamis.compressors.tools.markers import default_marker
        from tamis.compressors.tools.prepare import prepare_tool_outputs

        counter = self._counter()
        prepared = prepare_tool_outputs(outputs, question, counter)
        if self.lossless:
            unread = [0.0] * len(prepared.units)
            found = prepared.select(unread, prepared.tokens_in, marker or default_marker)
            return [
                write_whole(one, counter) if one.tokens_in >= self.min_tokens else one
                for one in found
            ]
        limits = token_limits(prepared.tokens_in, self)
        limits = [
            limit if limit >= tokens or limit < _LEAST_WITH_ID else limit - spare
            for limit, tokens in zip(limits, prepared.tokens_in, strict=True)
        ]
        if list(prepared.tokens_in) == limits:
            values = [0.0] * len(prepared.units)
        else:
            values = self._scores(prepared)
        found = prepared.select(values, limits, marker or default_marker)
        return [
            _whole(one, output.text) if one.tokens_out >= one.tokens_in else one
            for one, output in zip(found, outputs, strict=True)
        ]

    def _counter(self) -> TextTokenizer:
        from tamis.probes.tokens import ESTIMATE, estimating_tokenizer

        if self.tokenizer == ESTIMATE:  # the other tokenizers are found by what also loads models
            return estimating_tokenizer()
        from tamis.compressors.registry import DEFAULT_PROXY
        from tamis.service.api.compress import counter_of
        from tamis.text.language import AUTO

        return counter_of(self.tokenizer, DEFAULT_PROXY if self.proxy == AUTO else self.proxy)

    def _scores(self, prepared: PreparedToolOutputs) -> list[float]:
        from tamis.compressors.method import check_scores
        from tamis.compressors.registry import build_method, method_info

        name = self.method or METHOD
        info = method_info(name)
        check_scores(info, name)
        if info.needs == "nothing":
            return prepared.score(build_method(name))
        from tamis.service.api.languages import choose_proxy
        from tamis.service.api.lazy_method import LazyMethod

        question, passages = prepared.question, prepared.passages
        chosen = choose_proxy(self.proxy, name, _LANGUAGE, question, passages)
        return prepared.score(LazyMethod(name, chosen.proxy))


def token_limits(tokens: Sequence[int], how: Shortening) -> list[int]:
    """A limit for each output: small ones their own length, the others a part of the budget.

    A `ratio` is of the large ones, and so is `max_tokens` beside it. Alone `max_tokens` is of all
    together; what small ones take of it is taken from the large ones, each of which is left at
    least a token.
    """
    from tamis.compressors.tools.types import share_budget

    large = [i for i, n in enumerate(tokens) if n >= max(how.min_tokens, 1)]
    large_tokens = [tokens[i] for i in large]
    most = sum(large_tokens)
    if how.max_tokens is not None:
        most = min(most, how.max_tokens - (0 if how.share else sum(tokens) - most))
    share = how.share.tokens(sum(large_tokens)) if how.share else None
    most = most if share is None else min(most, share)
    limits = list(tokens)
    for i, limit in zip(large, share_budget(large_tokens, max(most, len(large))), strict=True):
        limits[i] = limit
    return limits


def _whole(found: CompressedToolOutput, text: str) -> CompressedToolOutput:
    kept = ((0, len(text)),) if text else ()
    tokens = found.tokens_in
    return CompressedToolOutput(text, kept, (), found.format, tokens, tokens, found.warnings)
