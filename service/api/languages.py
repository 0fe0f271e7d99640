"""Which proxy reads which language: by figures that were measured, shipped, and shown.

`languages.json` holds what `tamis bench languages` found. This is the one place where a proxy is
chosen: the library, the command line, the service, the adapters and the batch all ask here.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from tamis.compressors.registry import DEFAULT, DEFAULT_PROXY
from tamis.probes.errors import TamisError
from tamis.probes.hub import zoo
from tamis.probes.segmentation.language import AUTO, family, spoken

T = TypeVar("T")
FILE = Path(__file__).with_name("languages.json")
SHARP = f"{DEFAULT_PROXY}-sharp"
"""The default proxy, taught where to look (`tamis probe sharpen`): nothing more is fetched for it,
and it reads English, the language it was taught in."""
MEASURED_METHODS = ("question_rows", "fusion")
"""The methods the figures speak for: others stay with the default proxy."""
BUDGET = "0.2"
_ENGLISH = "en"


@dataclass(frozen=True, slots=True)
class ProxyChoice:
    """The proxy and language of one request, and what its caller should know."""

    proxy: Any
    language: str
    warning: str | None = None

    def noted(self, result: T) -> T:
        """A result with the warning beside its own; where nothing was read, none is due."""
        if self.warning is None or getattr(result, "status", None) == "passthrough":
            return result
        told: Any = result
        noted: T = replace(told, warnings=(*told.warnings, self.warning))
        return noted


@lru_cache(maxsize=1)
def load_measurements() -> dict[str, Any]:
    """The shipped figures, as `tamis bench languages --json` wrote them."""
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
) -> ProxyChoice:
    """The proxy that reads a request: the one that is set, or under `auto` the best that is here.

    Args:
        proxy: as callers give it; `auto` chooses by language.
        language: a code, or `auto`: then question and passages tell.
        passages: as callers give them; what has no text is passed over, to be refused later.
        root: the folder models are kept in.
        probe: of the method's options: one that is given decides, for it fits one model only;
            None is none, and the sharpened proxy is for those who have its probe.

    Returns:
        The choice. Where a better proxy is not installed its warning names the loss that was
        measured and the command that gets it; where nothing was measured it says so.
    """
    code = spoken(language, question if isinstance(question, str) else "", list(_texts(passages)))
    if proxy != AUTO:
        return ProxyChoice(proxy, code)
    if probe is not None and probe != AUTO:
        return ProxyChoice(_model_of_probe(probe), code)
    if method not in MEASURED_METHODS or family(code) == _ENGLISH:
        return ProxyChoice(DEFAULT_PROXY if probe is None else english_proxy(method), code)
    best = best_proxy(code)
    if best != DEFAULT_PROXY and not _is_installed(best, root):
        return ProxyChoice(DEFAULT_PROXY, code, _describe_loss(code, DEFAULT_PROXY, best))
    return ProxyChoice(best, code, None if family(code) in load_measurements()["languages"] else _describe_unmeasured(code))


def served_language_warning(proxy: str, method: str, language: str, question: str, texts: Any) -> str | None:
    """What a service that reads with one proxy says of a request in another's language."""
    code = spoken(language, question, list(_texts(texts)))
    # the sharpened proxy was not measured in other languages; its base was
    proxy = DEFAULT_PROXY if proxy == SHARP else proxy
    if method not in MEASURED_METHODS or proxy not in load_measurements()["proxies"]:
        return None
    best = DEFAULT_PROXY if family(code) == _ENGLISH else best_proxy(code)
    if best == proxy:
        return None
    return _describe_loss(code, proxy, best, f"start the service with --proxy {best}")


def english_proxy(method: str) -> str:
    """What reads English: the sharpened proxy, for the methods that have a probe for it."""
    if method not in MEASURED_METHODS:
        return DEFAULT_PROXY
    from tamis.compressors.features.shipped_probes import weights_file  # torch comes with it

    return SHARP if weights_file(DEFAULT, SHARP).is_file() else DEFAULT_PROXY


def best_proxy(language: str) -> str:
    """The proxy that kept the most in a language.

    Another than the default only where it was ahead of it at every budget that was measured. In a
    language that was not measured, the one that was chosen in most of the others.
    """
    code, found = family(language), load_measurements()["languages"]
    if code in found:
        ahead = [name for name in _other_proxies() if _is_ahead(found[code], name)]
        return max(ahead, key=lambda name: _gold_kept(found[code], name), default=DEFAULT_PROXY)
    votes = [best_proxy(other) for other in found if other != _ENGLISH]
    return statistics.mode(votes) if votes else DEFAULT_PROXY


def probe_option(options: Mapping[str, Any]) -> Any:
    """Of a method's options the probe that decides which model reads; `auto` where none is given.

    One for sentences goes before one that ranks documents.
    """
    return options.get("probe", options.get("rank_probe") or AUTO)


def _model_of_probe(probe: Any) -> str:
    """The model that a probe is for, if it is one that can be found by name."""
    from tamis.compressors.features.shipped_probes import load_probe

    try:
        found = load_probe(probe)
    except TamisError:
        found = None  # whoever uses it says what is wrong with it
    name = found.card.model if found is not None else DEFAULT_PROXY
    return name if name in zoo.ZOO else DEFAULT_PROXY


def _other_proxies() -> list[str]:
    return [name for name in load_measurements()["proxies"] if name != DEFAULT_PROXY]


def _is_ahead(found: Mapping[str, Any], proxy: str) -> bool:
    return all(at["methods"][proxy]["ahead_of_first"][0] > 0 for at in found["budgets"].values())


def _gold_kept(found: Mapping[str, Any], method: str, budget: str = BUDGET) -> float:
    kept: float = found["budgets"][budget]["methods"][method]["gold_kept"]
    return kept


def _texts(passages: Any) -> Iterator[str]:
    for given in passages if isinstance(passages, Sequence) and not _is_text(passages) else ():
        text = given if isinstance(given, str) else getattr(given, "text", None)
        text = given.get("text") if isinstance(given, Mapping) else text
        if isinstance(text, str):
            yield text


def _is_text(passages: Any) -> bool:
    return isinstance(passages, str | bytes)


def _is_installed(proxy: str, root: Path | None) -> bool:
    try:
        zoo.locate(proxy, root)
    except TamisError:
        return False
    return True


def _describe_loss(code: str, used: str, best: str, way_out: str | None = None) -> str:
    """What reading with another proxy than the best costs in a language, or in those measured."""
    way_out = way_out or f"`tamis models pull {best}`"
    found = load_measurements()["languages"]
    known = {family(code): found[family(code)]} if family(code) in found else _non_english_figures()
    kept, more = (statistics.fmean(_gold_kept(f, n) for f in known.values()) for n in (used, best))
    where = (
        f"in {code!r}"
        if family(code) in found
        else (f"{code!r} was not measured; in {', '.join(known)}")
    )
    return (
        f"{where} {used} keeps {kept:.0%} of the evidence at a fifth of the tokens and {best} "
        f"{more:.0%}; {way_out}"
    )


def _non_english_figures() -> dict[str, Any]:
    return {code: of for code, of in load_measurements()["languages"].items() if code != _ENGLISH}


def _describe_unmeasured(code: str) -> str:
    there = ", ".join(load_measurements()["languages"])
    return f"how much is kept in {code!r} was not measured; there are figures of {there}"
