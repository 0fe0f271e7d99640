"""How one line of a text reads: as prose or code, whole or broken, at its beginning and its end.

Lines come without trailing white space. A bare line also lacks the marks of a quotation before it
and the targets of its links. The words are English; other languages are told by counts alone.
"""

from __future__ import annotations

import re

FEW_WORDS, _MANY_WORDS = 4, 7
_OPENERS, _CLOSERS = "*_~[(\"'“‘«", "*_~])\"'”’»}`"
_STOPS = tuple(".!?…:;。！？：")
_QUOTE = re.compile(r"\s*(?:>\s?)*")
_LINK_TARGET = re.compile(r"\]\([^()\s]{1,300}(?:(?:\s\"[^\"\n]{1,200}\")?\)|$)")
_WORD = re.compile(r"(?<![^\s(\[\"'“‘*_`/-])(?:[^\W\d_]{2,}|[aA])(?![^\s)\]\"'”’*_`.,:;!?…/-])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(\[\"'“])(?:e\.g|i\.e|cf|vs|viz|resp|approx|incl|esp|[Ff]ig|Sec|No|Vol|Eq|pp"
    r"|Dr|Mr|Mrs|Ms|Prof|St|z\.\s?B|d\.\s?h|u\.\s?a|bzw)\.$"
)
# a line of prose in English has one of these; cells, titles and code rarely do
_FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with without into onto upon about between through during "
    "within against and or but nor than that which who whose whom where when while because if "
    "unless until whether as is are was were be been being has have had can could may might must "
    "shall should will would does did not its their your our his her my this these those each "
    "every any some such both either how it they we you he she there also only via per "
    "using".split()
)
# no sentence ends with one of these
_NEVER_LAST = frozenset(
    "a an the of to in on at by for from with into onto upon between during against and or but nor "
    "than that which who whose when where how because if unless until whether as is are was were "
    "be being have has had do does can could may might must shall should will would see both those "
    "its their your our his my every via per using e.g. i.e.".split()
)
# columns, a member of JSON, an operator, a comment or prompt
_CODE = re.compile(
    r"\S {3,}\S|^[\"'][^\"']{1,40}[\"']:|\s(?:[-+*/|&:]?=|==|!=|=>|->|&&|\|\||<-)\s"
    r"|^(?://|/\*|>>>|\.\.\.|#|\$ |\})|\{$"
)
_MAYBE_CODE = re.compile(r"[{}]|[;(\[=|\\]$|^[<$%@]|\w=[\w\"']|^[\w.]+\([^()]*\)$")
# a heading with its permanent link, as documentation systems print it
_TITLE_END = re.compile("[¶\ue000-\uf8ff]$|[\\w ]#$")
_INSIDE_SIGN = re.compile(r"[(/…&$[`\d]|[-.:]+\w|::")


def bare_line(line: str) -> str:
    """A line without the marks of a quotation before it, and without the targets of its links."""
    quote = _QUOTE.match(line)
    line = line[quote.end() :] if quote else line
    return _LINK_TARGET.sub("]", line) if "](" in line else line


def has_stop(line: str) -> bool:
    """Whether a line ends as a sentence, a lead-in, a clause of a law or a linked title does."""
    if ends_with_abbreviation(line):
        return False
    return line.rstrip(_CLOSERS)[-1:] in _STOPS or _TITLE_END.search(line) is not None


def ends_with_abbreviation(line: str) -> bool:
    """Whether a line ends with an abbreviation that something follows, such as `e.g.` or `Dr.`."""
    return line[-1:] == "." and _ABBREVIATION.search(line[-12:]) is not None


def ends_open(line: str) -> bool:
    """Whether a bare line ends with a word that ends no sentence, such as `the` or `and`."""
    word = line[-24:].rsplit(None, 1)[-1:]
    return bool(word) and word[0].lstrip(_OPENERS) in _NEVER_LAST


def begins_inside(line: str) -> bool:
    """Whether a bare line begins as the inside of a sentence does.

    In lower case, or with a comma or a stop; or with code, a link, a number or a bracket, and words
    or a stop after that.
    """
    word = line.lstrip(_OPENERS)
    if word[:1].islower() or line[:1] in (",", ";", ")", "."):
        return True
    is_sign = _INSIDE_SIGN.match(word) or _INSIDE_SIGN.match(line)
    return is_sign is not None and (has_function_word(line) or has_stop(line))


def begins_with_code(line: str) -> bool:
    """Whether a line begins with inline code."""
    return line.lstrip(_OPENERS)[:1] == "`"


def count_words(line: str) -> int:
    """How many words of natural language a bare line has."""
    return len(_WORD.findall(line))


def has_function_word(line: str) -> bool:
    """Whether a bare line has a word that holds English sentences together, and another."""
    words = _WORD.findall(line)
    return len(words) > 1 and any(word.lower() in _FUNCTION_WORDS for word in words)


def is_prose(line: str) -> bool:
    """Whether a bare line reads as prose: some words, one that holds sentences together."""
    count = count_words(line)
    if count < FEW_WORDS or is_code(line):
        return False
    return count >= _MANY_WORDS or has_function_word(line)


def is_code(line: str) -> bool:
    """Whether a bare line is code; one of few words that looks like it is, too."""
    if _CODE.search(line):
        return True
    few = count_words(line) < FEW_WORDS and not has_function_word(line)
    return few and _MAYBE_CODE.search(line) is not None


def is_title(line: str) -> bool:
    """Whether most longer words of a bare line begin with a capital."""
    words: list[str] = [word for word in _WORD.findall(line) if len(word) > FEW_WORDS]
    return 2 * sum(word[0].isupper() for word in words) > len(words)
