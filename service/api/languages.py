"""Chooses the proxy for a language by shipped measurements.

`languages.json` holds the figures of `tamis lab bench languages`. This is the one place where a
proxy is chosen, for the library, the command line, the service, the adapters and the batch.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from tamis.compressors.registry import DEFAULT_PROXY, METHODS, method_info, ships_for
from tamis.probes.errors import TamisError
from tamis.probes.hub import zoo
from tamis.text.language import AUTO, primary_subtag, resolve_language

T = TypeVar("T")
FILE = Path(__file__).with_name("languages.json")
SHARP = f"{DEFAULT_PROXY}-sharp"
"""The default proxy with LoRA adapters (`tamis lab probe lora`): nothing more is downloaded for
it, and it reads English, the language of its training."""
FAST = f"{DEFAULT_PROXY}-fast"
"""The default proxy with adapters by which its first fourteen layers do nearly what twenty do: for
`quality="fast"`, and in English, too."""
LARGE = "qwen2.5-coder-0.5b-sharp"
"""The second size, taught as the default was. It reads where it is named, and is fetched by `tamis
models pull` alone."""
STANDARD, QUICK = "standard", "fast"
"""The qualities: what reads English, `SHARP` or `FAST`."""
MEASURED_METHODS = ("question_rows", "fusion")
"""The methods that were measured in other languages; there the others use the default proxy."""
BUDGET = "0.2"
_ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class ProxyChoice:
    """The proxy and language of one request, and a warning for its caller."""

    proxy: Any
    language: str
    warning: str | None = None

    def add_warning(self, result: T) -> T:
        """A copy of the result with the warning added; unchanged where nothing was read."""
        if self.warning is None or getattr(result, "status", None) == "passthrough":
            return result
        original: Any = result
        warned: T = replace(original, warnings=(*original.warnings, self.warning))
        return warned


@lru_cache(maxsize=1)
def load_measurements() -> dict[str, Any]:
    """The shipped figures, as `tamis lab bench languages --json` wrote them."""
    found: dict[str, Any] = json.loads(FILE.read_text("utf8"))
    return found


def choose_proxy(
    proxy: Any,
    method: str,
    language: str,
    question: str,
    passages: Sequence[Any] = (),
    root: Path | None = None,
    probe: Any = AUTO,
    quality: Any = STANDARD,
) -> ProxyChoice:
    """The proxy that reads a request: the one given, or under `auto` the best one installed.

    Args:
        proxy: as callers give it; `auto` chooses by language.
        language: a code, or `auto`: it is detected from the question and the passages.
        passages: as callers give them; items without text are ignored here and refused later.
        root: the folder models are kept in.
        probe: the method's option. A given probe decides, for it fits one model only; None means
            no probe, which rules out the sharpened default: that needs its own probe.
        quality: `fast` has `FAST` read what the sharpened default would; where something else
            reads, and of any other quality, a warning says that it has no effect.

    Returns:
        The choice. Where a better proxy is not installed, its warning states the measured loss and
        the command that installs it; where the language was not measured, it says so.
    """
    if quality != STANDARD:
        choice = choose_proxy(proxy, method, language, question, passages, root, probe)
        chosen = proxy == AUTO and choice.proxy == SHARP
        if quality == QUICK and chosen and ships_for(method, FAST):
            return replace(choice, proxy=FAST)
        said = quality_warning(quality, choice.proxy)
        return replace(choice, warning="; ".join(filter(None, (said, choice.warning))))
    code = resolve_language(
        language, question if isinstance(question, str) else "", list(_texts(passages))
    )
    if proxy != AUTO:
        return ProxyChoice(proxy, code)
    if probe is not None and probe != AUTO:
        return ProxyChoice(_model_of_probe(probe), code)
    if primary_subtag(code) == _ENGLISH and probe is not None:
        return ProxyChoice(english_proxy(method), code)
    if primary_subtag(code) == _ENGLISH or method not in MEASURED_METHODS:
        return ProxyChoice(DEFAULT_PROXY, code)
    best = best_proxy(code)
    if best != DEFAULT_PROXY and not _is_installed(best, root):
        return ProxyChoice(DEFAULT_PROXY, code, _describe_loss(code, DEFAULT_PROXY, best))
    measured = load_measurements()["languages"]
    if primary_subtag(code) in measured:
        return ProxyChoice(best, code)
    warning = f"how much is kept in {code!r} was not measured; there are figures of "
    return ProxyChoice(best, code, warning + ", ".join(measured))


def served_language_warning(
    proxy: str, method: str, language: str, question: str, texts: Any
) -> str | None:
    """The warning of a service whose only proxy is not the best one for a request's language."""
    code = resolve_language(language, question, list(_texts(texts)))
    if proxy == LARGE and method in MEASURED_METHODS and primary_subtag(code) != _ENGLISH:
        return f"{proxy} was not measured in {code!r}; a service of another --proxy reads it"
    # the sharpened proxy was not measured in other languages; its base was
    proxy = DEFAULT_PROXY if proxy in (SHARP, FAST) else proxy
    if method not in MEASURED_METHODS or proxy not in load_measurements()["proxies"]:
        return None
    best = DEFAULT_PROXY if primary_subtag(code) == _ENGLISH else best_proxy(code)
    if best == proxy:
        return None
    return _describe_loss(code, proxy, best, f"start the service with --proxy {best}")


def english_proxy(method: str) -> str:
    """The proxy for English: the sharpened one, for methods whose probe or heads ship for it.

    A service of the default proxy serves the same methods, so a name is one method in every door.
    """
    if method not in METHODS.names() or not method_info(method).needs_proxy:
        return DEFAULT_PROXY  # of a class that was given in place of a name nothing is known
    return SHARP if ships_for(method, SHARP) else DEFAULT_PROXY


def best_proxy(language: str) -> str:
    """The proxy that kept the most evidence in a language.

    Another one than the default only where it was ahead of the default at every measured budget. In
    a language that was not measured, the proxy chosen in most of the others.
    """
    code, measured = primary_subtag(language), load_measurements()
    found = measured["languages"]
    if code in found:
        others = (name for name in measured["proxies"] if name != DEFAULT_PROXY)
        ahead = [name for name in others if _is_ahead(found[code], name)]
        return max(ahead, key=lambda name: _gold_kept(found[code], name), default=DEFAULT_PROXY)
    votes = [best_proxy(other) for other in found if other != _ENGLISH]
    return statistics.mode(votes) if votes else DEFAULT_PROXY


def probe_option(options: Mapping[str, Any]) -> Any:
    """The probe among a method's options that decides which model reads; `auto` without one.

    A probe for sentences takes precedence over one that ranks documents.
    """
    return options.get("probe", options.get("rank_probe") or AUTO)


def quality_warning(quality: Any, proxy: Any = None) -> str | None:
    """That a quality has no effect, and what has; None of the standard one.

    Args:
        proxy: what reads; None where that is not known yet.
    """
    if quality == STANDARD or (quality == QUICK and proxy is None):
        return None
    if quality == QUICK:
        return (
            f"quality='fast' has no effect: it has {FAST} read English by question_rows, and here "
            f"{proxy if isinstance(proxy, str) else 'the given proxy'} reads"
        )
    return (
        f"quality={quality!r:.80} has no effect: there are standard and fast; a larger model reads "
        f"where it is named as the proxy, such as {LARGE}, which in most domains keeps less of the "
        "evidence than the default, in 3.5 times the time"
    )


def _model_of_probe(probe: Any) -> str:
    """The model that a probe was fitted for, if the zoo has it; else the default proxy."""
    from tamis.compressors.features.shipped_probes import load_probe

    try:
        found = load_probe(probe)
    except TamisError:
        found = None  # the method that uses the probe raises its error
    name = found.card.model if found is not None else DEFAULT_PROXY
    return name if name in zoo.ZOO else DEFAULT_PROXY


def _is_ahead(found: Mapping[str, Any], proxy: str) -> bool:
    return all(at["methods"][proxy]["ahead_of_first"][0] > 0 for at in found["budgets"].values())


def _gold_kept(found: Mapping[str, Any], method: str) -> float:
    kept: float = found["budgets"][BUDGET]["methods"][method]["gold_kept"]
    return kept


def _texts(passages: Any) -> Iterator[str]:
    is_list = isinstance(passages, Sequence) and not isinstance(passages, str | bytes)
    for given in passages if is_list else ():
        text = given if isinstance(given, str) else getattr(given, "text", None)
        text = given.get("text") if isinstance(given, Mapping) else text
        if isinstance(text, str):
            yield text


def _is_installed(proxy: str, root: Path | None) -> bool:
    try:
        zoo.locate(proxy, root)
    except TamisError:
        return False
    return True


def _describe_loss(code: str, used: str, best: str, way_out: str | None = None) -> str:
    """Describes the loss of evidence with another proxy than the best, and the remedy."""
    way_out = way_out or f"`tamis models pull {best}`"
    found = load_measurements()["languages"]
    if (subtag := primary_subtag(code)) in found:
        known, where = {subtag: found[subtag]}, f"in {code!r}"
    else:
        known = {name: of for name, of in found.items() if name != _ENGLISH}
        where = f"{code!r} was not measured; in {', '.join(known)}"
    kept, more = (statistics.fmean(_gold_kept(f, n) for f in known.values()) for n in (used, best))
    return (
        f"{where} {used} keeps {kept:.0%} of the evidence at a fifth of the tokens and {best} "
        f"{more:.0%}; {way_out}"
    )
