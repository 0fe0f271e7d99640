"""What callers of the library give: other kinds of documents, rules as a dict, wrong keywords."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from tamis.compressors.options import option_names
from tamis.compressors.registry import method_class, method_info, method_name
from tamis.compressors.rules import RULES, Rules
from tamis.probes.errors import BadInput
from tamis.service.files.document_text import read_given
from tamis.text.types import Passage

_RULE_NAMES = tuple(rule.name for rule in RULES)
_SYNONYMS = {
    "max_tokens": ("budget", "token_budget", "target_token", "target_tokens", "max_length"),
    "ratio": ("rate", "target_ratio", "compression_ratio"),
    "top_n": ("top_k", "k"),
    "proxy": ("model", "model_name"),
    "question": ("query",),
    "documents": ("passages", "context", "contexts"),
}


def read_documents(given: Any) -> Any:
    """A list of documents with those of LangChain as passages, and pages of HTML as what they show.

    What is no list comes back as it is: it is refused where lists are checked.

    Raises:
        BadInput: it is one document and no list, or a document has a format that is not known.
    """
    if isinstance(given, str | bytes | Passage | Mapping | Set) or not isinstance(given, Iterable):
        return given
    if hasattr(given, "page_content"):  # pydantic's models can be iterated
        raise BadInput(f"a single {type(given).__name__} was given; give a list of them")
    return [_read_document(document, index) for index, document in enumerate(given)]


def _read_document(given: Any, index: int) -> Any:
    text = getattr(given, "page_content", None)
    if isinstance(text, str) and not isinstance(given, Mapping):
        return Passage(text, given.id, None, dict(given.metadata))
    return read_given(given, index)


def rules_of(given: Any) -> Rules:
    """The rules, also from a dict of some of them.

    Raises:
        BadInput: it is neither, or has a rule that is not known or cannot be followed.
    """
    if isinstance(given, Rules):
        return given
    if not isinstance(given, Mapping):
        raise BadInput(
            f"rules is {given!r:.80}; give tamis.Rules(order='edges'), or a dict of rules"
        )
    if unknown := sorted(str(name) for name in given if name not in _RULE_NAMES):
        raise BadInput(
            f"there is no rule {unknown[0]!r}{_hint(unknown[0], _RULE_NAMES)}; rules are "
            f"{', '.join(_RULE_NAMES)}"
        )
    protect = given.get("protect")
    whole = {**given, "protect": tuple(protect)} if isinstance(protect, list) else dict(given)
    return Rules(**whole)


def check_keywords(options: Mapping[str, Any], method: Any, function: Callable[..., Any]) -> None:
    """Refuses a keyword that neither the function nor the method knows, and says what was meant.

    Raises:
        BadInput: naming the keyword that is spelt most like it, or that it is a rule.
        UnknownMethod: no such method.
    """
    if not options:
        return
    own = [name for name in inspect.signature(function).parameters if name != "options"]
    accepted = sorted(option_names(method_class(method)))
    if method_info(method).needs_encoder:
        accepted.append("encoder")
    for name in options:
        if name in accepted:
            continue
        if name in _RULE_NAMES and "rules" in own:
            raise BadInput(f"{name} is a rule; give rules={{{name!r}: {options[name]!r:.40}}}")
        raise BadInput(
            f"{function.__name__} has no argument {name!r}{_hint(name, (*own, *accepted))}; the "
            f"options of the method {method_name(method)} are {', '.join(accepted) or 'none'}"
        )


def _hint(name: str, known: Iterable[str]) -> str:
    """What was probably meant, as a clause."""
    meant = suggest_name(name, known, _SYNONYMS)
    return f": did you mean {meant!r}?" if meant else ""


def suggest_name(
    name: str, known: Iterable[str], synonyms: Mapping[str, Sequence[str]]
) -> str | None:
    """The known name that was probably meant: a synonym, else the one spelt most like it.

    Args:
        synonyms: of known names, in lower case.
    """
    names = list(known)
    same = [one for one in names if name.lower() in synonyms.get(one, ())]
    return next(iter(same or difflib.get_close_matches(name, names, 1)), None)
