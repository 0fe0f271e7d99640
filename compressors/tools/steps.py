"""Steps of a conversation whose results a later step made needless; found by rules, with no model.

    read a.py ─► edit ─► read a.py          the first: read again
    read a.py ─► write a.py (whole)         the first: written anew
    pytest (failed) ─► edit ─► pytest       the first: recovered from; the line that says why stays
    status ─► … ─► status                   the first: the same call again

A result goes only where what it said can be read further down, in the state that holds then: an
edit alone replaces no read, and a command in another folder, on another host, by another user or in
another state of the repository is another one. A notice about the call itself (timed out, rejected,
unchanged, cut) is no result, and a search or a query has to show most of it again. What is not sure
stays. Plans, the last steps and what was asked back are the floor: they stay in any case, and the
rest may be ranked (`rank_steps`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection as Some
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tamis.compressors.features.bm25 import Collection
from tamis.compressors.tools.types import ToolOutput
from tamis.text.readers.outputs.parse import parse_tool_output
from tamis.text.readers.outputs.parts import Level
from tamis.text.terms import cached_words

Access = Literal["read", "write"]
Reason = Literal["repeated", "read again", "written anew", "recovered", "older"]
KEEP_LAST = 2
"""So many of the last steps stay as they are."""
LEAST_TOKENS = 100
"""A result that a later step made needless goes from so many on: a shorter one stays."""
_SAYS: dict[Reason, str] = {
    "repeated": "the same call was made again below",
    "read again": "it was read again below",
    "written anew": "it was written anew below",
    "recovered": "a later call succeeded",
    "older": "an older result",
}
_MARKED = re.compile(r"\[… \d+ tokens? omitted: ")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_WRITE_VERBS = frozenset(
    "add append apply archive assign cancel close commit copy create delete deploy disable drop "
    "edit enable insert install kill make merge mkdir move patch post publish push put remove "
    "overwrite rename replace reset restart rm save send set start stop submit touch uninstall "
    "update upload upsert write".split()
)
_READ_VERBS = frozenset(
    "browse cat check count describe diff download fetch find get glob grep head inspect list load "
    "look lookup ls open query read recall retrieve scan search select show stat tail view".split()
)
_ACCESS: dict[str, Access] = dict.fromkeys(_READ_VERBS, "read")
_ACCESS |= dict.fromkeys(_WRITE_VERBS, "write")
_PLANS = frozenset("plan plans todo todos memory task tasks".split())
_NEXT = frozenset(
    "consume continue dequeue event events more next page poll pop queue random receive scroll "
    "stream wait".split()
)
"""In the name of a tool or an argument: the same call shows something else each time."""
_GOES = frozenset(
    "activate cd change chdir checkout connect cwd enter goto login navigate set switch use".split()
)
"""Where the name of a tool begins: later calls may be about another place."""
_STATES = frozenset(
    "am checkout cherry clean commit merge pull rebase reset restore revert stash switch".split()
)
"""What puts a repository into another state."""
_WHOLE = frozenset("create file files fs new overwrite put save text to tool write".split())
"""A tool that writes whole files has no other words in its name."""
_PARTIAL = frozenset("a ab append insert offset position prepend range start".split())
"""In the name of an argument, or its value: a part of a file is written."""
_TARGETS = (
    *("file_path", "filepath", "path", "filename", "file", "target_file", "relative_path"),
    *("absolute_path", "notebook_path", "uri", "url"),
)
_CONTENTS = ("content", "contents", "file_text", "new_content", "text")
_SHELLS = ("command", "cmd", "script")
_ABSOLUTE = re.compile(r"\s*(?:[/~]|\w+:)")
_RANGES = frozenset(
    "begin end first from head last length limit line lines offset page range start tail to until "
    "view".split()
)
_ENDS = re.compile(r"(?:(?<!>)&(?!>)|[;|\n`]|[$<>]\(|\s-(?:exec|ok)(?:dir)?\s)+")
_RUNNERS = re.compile(
    r"\s*(?:(?:\w+=\S*|sudo|time|timeout\s+\S+|do|then|if|!|\{|npx|(?:npm|yarn|pnpm)(?:\s+run)?|uv\s+run|"
    r"\S*python3?\s+-m|(?:cargo|docker|git|go|kubectl|systemctl)(?:\s+-[Cn]\s+\S+|\s+--\S+)*)\s+)*(?:\S*bin/)?"
)
"""What may stand before the word that says what a command does."""
_MOVES = re.compile(
    r"(?:\.|attach|cd|checkout|chroot|conda|config|context|deactivate|eval|exec|exit|export|nvm|popd|"
    r"pushd|pyenv|run|source|ssh|su|switch|unset)(?!\S)|-\w*[isu]\b|\w+=|(?:ba|z)?sh(?:\s+-\w*)?$"
)
"""What changes the folder, the host, the user or the environment of later commands."""
_AGAIN = re.compile(r"(?:cd|\.|source|export|conda|nvm)\s+(?!-|\S*\.\.)")
"""Such a move changes nothing when it is made again."""
_SHOWS = _READ_VERBS - {"fetch"} | frozenset(
    "# blame branch build date df du echo env eslint file git id images jest jq lint log make mypy "
    "ps pwd pytest rg ruff sed sort status test tree tsc unittest uptime wc which whoami".split()
)
"""What these print holds then; of other programs nobody knows."""
_CHANGE_OF_FOLDER = re.compile(r"(?:\s*cd\s+[^\s;&|]+\s*&&)?\s*(?:\w+=\S*\s+)*")
_WHOLE_FILE = re.compile(r"\s*cat\s+([^\s;&|<>$`*?'\"-][^\s;&|<>$`*?'\"]*)\s*")
_HERE = re.compile(r"\s*cat\s*>\s*([^\s;&|<>$`*?'\"]+)\s*<<")
_FAULT = re.compile(
    r"\W*(?:error|fatal|exception|traceback \(most recent|command failed|failed to)\b|"
    r".{0,120}(?:command not found|no such file or directory|permission denied)|"
    r"\W*(?:exited with|exit|process exited with) (?:code|status):? *[1-9]",
    re.I,
)
_LAST = re.compile(
    r"[A-Za-z_][\w.]*(?:Error|Exception)\b(?::|$)|\W*exit(?:ed with)? (?:code|status):? *[1-9]|"
    r"make: \*\*\* ",
    re.I,
)
_CAUSE = re.compile(r"error|exception|fatal|fail|denied|not found|no such", re.I)
_CAUSE_CHARS = 300
_NOTICE = re.compile(
    r"\btimed? ?-?out\b|\bin (?:the )?background\b|\b(?:unchanged|identical|rejected|declined"
    r"|denied|refused|interrupted|cancell?ed|aborted|killed|blocked|unavailable)\b|\brate.limit"
    r"|\b(?:still current|see above|not found|no such)\b|\bn[o']t (?:been )?(?:changed|modified)\b"
    r"|\balready (?:been )?(?:read|shown|seen|in)\b",
    re.I,
)
"""In a short result or the last line of a long one: it speaks of the call, and shows nothing."""
_NOT_MADE = re.compile(
    r"\b(?:not|no|never|unable|dry|would|fail|wait|pending|approv|permi)|n't\b", re.I
)
_CUT = re.compile(r"\b(?:truncated|omitted|elided|too (?:large|long|big)|more lines)\b", re.I)
_NOTICE_CHARS = 300
_NUMBER = re.compile(r"^\s*\d+\s*[\t→:|]")
_PIECES = re.compile(r"[,{}]")
_SHARE_READ_AGAIN = 0.5
_LEAST_OF_A_FILE = 0.3
"""A file that got shorter than this, in characters or lines, may have been cut."""


@dataclass(frozen=True, slots=True)
class Superseded:
    """Why a result may go.

    Attributes:
        cause: the line of it that says what went wrong, which stays; empty where none does.
    """

    reason: Reason
    cause: str = ""

    def shown(self, tokens: int, handle: str = "") -> str:
        """What stands in place of the result; the same whatever comes later in the conversation.

        Args:
            tokens: of the result. handle: how it can be had again, such as `hash=3f…`.
        """
        unit = "token" if tokens == 1 else "tokens"
        ending = f"; {handle}" if handle else ""
        marker = f"[… {tokens} {unit} omitted: {_SAYS[self.reason]}{ending}]"
        return f"{self.cause}\n{marker}" if self.cause else marker


def superseded_steps(
    steps: Sequence[ToolOutput], keep_last: int = KEEP_LAST
) -> dict[int, Superseded]:
    """The steps whose results a later step made needless, by their indexes.

    Takes time linear in the length of all texts.

    Args:
        steps: the results of a conversation in their order, each with its own call; one of two that
            answer the same call has no `name`, and stays.
        keep_last: so many at the end stay.
    """
    later, found, place = dict[Any, int](), dict[int, Superseded](), _Place()
    calls = [_Call.of(step, place) for step in steps]
    for i in range(len(steps) - 1, -1, -1):
        call = calls[i]
        if call is None:
            continue
        if i < len(steps) - keep_last and not is_floor(steps[i]):
            reason = _reason(steps, calls, i, later)
            if reason is not None:
                found[i] = reason
        if not _is_notice(steps[i].text, call.access):
            later |= dict.fromkeys(call.keys(), i)
    return found


def is_floor(step: ToolOutput) -> bool:
    """Whether a result stays in any case: of a plan or a memory, or what was asked back."""
    words = {word.lower() for word in _WORD.findall(step.name or "")}
    return bool(words & _PLANS) or "retrieve" in words or bool(_MARKED.search(step.text))


def rank_steps(steps: Sequence[ToolOutput], question: str) -> list[float]:
    """How much each step has to do with what is asked now: BM25 of its call and its result.

    Args:
        question: the last turns: what the user wants, and what the last calls were about.
    """
    texts = [f"{step.call}\n{step.text}" for step in steps]
    return Collection(texts).score(list(cached_words(question)))


def name_access(name: str) -> Access | None:
    """Whether a tool reads or writes, by the first verb of its name; None where there is none."""
    words = _words_of(name.rpartition("__")[2])
    return next((_ACCESS[word] for word in words if word in _ACCESS), None)


def has_failed(step: ToolOutput) -> bool:
    """Whether a call failed: as its protocol says, else as its text begins or ends."""
    if step.is_error is not None:
        return step.is_error
    text = step.text
    if text.lstrip()[:1] == "{":
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = {}
        if isinstance(found, dict) and found:
            code = found.get("exit_code", found.get("returncode", 0))
            says = (bool(found.get("error")), found.get("isError") is True, code not in (0, None))
            return any(says) or found.get("success", found.get("ok", True)) is False
    lines = [line for line in (text[:2000], text[-2000:]) if line.strip()]
    if not lines:
        return False
    first = next(line for line in lines[0].splitlines() if line.strip())
    last = [line for line in lines[-1].splitlines() if line.strip()][-2:]
    return bool(_FAULT.match(first)) or any(_LAST.match(line) for line in last)


@dataclass(slots=True)
class _Place:
    """Where the steps so far have led.

    Attributes:
        moved: by which commands each place was reached. states: how often a repository was put
            into another state.
    """

    moved: list[list[str]] = field(default_factory=list)
    states: int = 0

    def prefix(self) -> str:
        """For what stands in this place; empty where the conversation began."""
        return f"{len(self.moved)} " if self.moved else ""


def _run(command: str, result: str, place: _Place) -> tuple[str, bool]:
    """The place where a command of a shell runs, and whether it shows what holds there."""
    parts = [one for part in _ENDS.split(command) if (one := _RUNNERS.sub("", part, 1).strip())]
    moves = list(filter(_MOVES.match, parts))
    first, rest = parts[: len(moves)], parts[len(moves) :]
    if moves and not (rest and place.moved[-1:] == [first] and all(map(_AGAIN.match, first))):
        place.moved.append(moves)
    place.states += any(re.split(r"[\s-]", part)[0] in _STATES for part in parts)
    at = place.prefix()
    place.moved += [[]] * ("cd: " in result)  # as shells say that there is no such folder
    shows = bool(rest) and all(part.split()[0] in _SHOWS for part in rest)
    return at, shows and not rest[0].startswith("tail ")  # a log has gone on


@dataclass(frozen=True, slots=True)
class _Call:
    """A call as the rules see it.

    Attributes:
        same: what is equal in the same call, and for a shell's command at the same place.
        target: what it is about; None where that is not known. whole: it reads or writes all of it.
        shows_state: the same call again shows what holds then, and no further part.
    """

    tool: str
    same: str
    target: str | None
    access: Access | None
    whole: bool
    shows_state: bool

    @classmethod
    def of(cls, step: ToolOutput, place: _Place) -> _Call | None:
        given = _read_arguments(step.arguments)
        if not step.name or given.get("restart"):
            place.moved.append([])  # nobody knows where to
            return None
        same = json.dumps(given, sort_keys=True, ensure_ascii=False)
        words = _words_of(step.name.rpartition("__")[2])
        access = name_access(step.name)
        shell = next((given[k] for k in _SHELLS if isinstance(given.get(k), str)), None)
        target = next((given[k] for k in _TARGETS if isinstance(given.get(k), str)), None)
        if target is None and shell is not None:
            at, shows = _run(shell, step.text, place)
            return cls._of_shell(step.name, f"{place.states} {at}{same}", shell, at, shows)
        if shell is not None and shell.isalpha():  # `view`, `create` of an editor's tool
            access, words = name_access(shell) or access, [shell.lower()]
        place.moved += [[]] * bool(_GOES & set(words[:2]))
        place.states += bool(_STATES & set(words))
        at = "" if target is not None and _ABSOLUTE.match(target) else place.prefix()
        state = access == "read" and bool(given) and not _NEXT & {*words, *map(str, given.values())}
        whole = target is not None and _is_whole(given, access, words)
        return cls(step.name, at + same, target and at + _path(target), access, whole, state)

    @classmethod
    def _of_shell(cls, tool: str, same: str, command: str, at: str, shows: bool) -> _Call:
        if read := _WHOLE_FILE.fullmatch(command):
            return cls(tool, same, at + _path(read[1]), "read", True, True)
        if written := _HERE.match(command):
            return cls(tool, same, at + _path(written[1]), "write", True, False)
        words = _CHANGE_OF_FOLDER.sub("", command, count=1).split()
        named = [word for word in words if not word.startswith("-") and word != "2>&1"]
        target = f"{at}$ {' '.join(named)}" if named else None
        return cls(tool, same, target, None, False, shows)

    def keys(self) -> list[Any]:
        """What later steps are looked for by."""
        keys: list[Any] = [("same", self.tool, self.same), ("next", self.tool)]
        if self.target is not None:
            keys.append(("target", self.tool, self.target))
            if self.whole:
                keys.append((self.access, self.target))
        return keys


def _reason(
    steps: Sequence[ToolOutput], calls: Sequence[_Call | None], i: int, later: dict[Any, int]
) -> Superseded | None:
    """Why the result of a step may go; None where it stays.

    Args:
        later: the next later step by each of its keys.
    """
    step, call = steps[i], calls[i]
    assert call is not None
    same = later.get(("same", call.tool, call.same))
    fails = has_failed(step)
    if fails:
        # where a tool names no target, its next call is the same one put right
        target = ("next", call.tool) if call.target is None else ("target", call.tool, call.target)
        after = [j for j in (same, later.get(target)) if j is not None]
        if any(not has_failed(steps[j]) for j in after):
            cause = _cause(step)
            return Superseded("recovered", cause) if cause else None
    if same is not None:
        if steps[same].text == step.text:
            return Superseded("repeated")
        if call.shows_state and (fails or not has_failed(steps[same])):
            if _is_in_its_stead(steps[same].text, step.text, call):
                return Superseded("repeated")
    if call.access != "read" or call.target is None or fails or not _is_of_a_file(step):
        return None
    written = later.get(("write", call.target))
    if written is not None and not has_failed(steps[written]):
        return Superseded("written anew")
    read = later.get(("read", call.target))
    if read is not None and _shows_again(steps[read].text, step.text):
        return Superseded("read again")
    return None


def _is_of_a_file(step: ToolOutput) -> bool:
    """Whether it shows a file, and not what was searched for in one."""
    return not set(_read_arguments(step.arguments)) & {"pattern", "query", "regex", "search"}


def _is_in_its_stead(later: str, earlier: str, call: _Call) -> bool:
    """Whether the same call shows what holds now of what it showed before."""
    if call.access is None or call.whole:  # a command, a file as it is now
        counts = (len, lambda text: text.count("\n")) if call.whole else ()
        is_short = any(count(later) < _LEAST_OF_A_FILE * count(earlier) for count in counts)
        return _has_all(later, earlier) and not is_short
    return _shows_again(later, earlier)


def _shows_again(later: str, earlier: str) -> bool:
    """Whether most of an earlier text is in a later one, whatever numbers its lines have."""
    pieces = _pieces(earlier) if _has_all(later, earlier) else set()
    return bool(pieces) and len(pieces & _pieces(later)) >= _SHARE_READ_AGAIN * len(pieces)


def _has_all(later: str, earlier: str) -> bool:
    """Whether a later text says anything, and was not cut unless the earlier one was."""
    return bool(later.strip()) and not (_CUT.search(later) and not _CUT.search(earlier))


def _is_notice(text: str, access: Access | None) -> bool:
    """Whether a result speaks of its call, so that nobody knows what was shown or written."""
    text = text.strip()
    said = text if len(text) <= _NOTICE_CHARS else text[-_NOTICE_CHARS:].rpartition("\n")[2]
    if access == "write" and _NOT_MADE.search(said):
        return True
    return bool(
        _NOTICE.search(said) or (said is text and (_CUT.search(said) or _FAULT.match(said)))
    )


def _pieces(text: str) -> set[str]:
    """Lines without their numbers, and what stands between commas: the members of JSON."""
    lines = (_NUMBER.sub("", line, count=1) for line in text.splitlines())
    pieces = (piece.strip() for line in lines for piece in _PIECES.split(line))
    return {piece for piece in pieces if len(piece) > 2}


def _cause(step: ToolOutput) -> str:
    """The line that says what went wrong, verbatim; empty where none of it is short."""
    parts = parse_tool_output(step.text, step.call).parts
    said = [step.text[p.start : p.stop] for p in parts if p.level is Level.MESSAGE][:1]
    lines = [line for text in said for line in text.splitlines()]
    every = [line for line in step.text.splitlines() if line.strip()]
    lines += [line for line in every if _CAUSE.search(line)] or every[:1]
    return next((line for line in lines if line.strip() and len(line) <= _CAUSE_CHARS), "")


def _read_arguments(arguments: str | None) -> dict[str, Any]:
    try:
        found = json.loads(arguments or "{}")
    except (ValueError, RecursionError):
        return {"": arguments}
    return found if isinstance(found, dict) else {"": found}


def _is_whole(given: dict[str, Any], access: Access | None, words: Some[str]) -> bool:
    """Whether a call reads all of its target, or writes all of it."""
    if access == "write":
        has_content = any(isinstance(given.get(name), str) for name in _CONTENTS)
        is_part = any(v and _PARTIAL & {*_words_of(k), str(v)} for k, v in given.items())
        return has_content and set(words) <= _WHOLE and not is_part
    others = [name for name in given if name not in (*_TARGETS, *_SHELLS)]
    if any(given.get(name) is not None for name in others if _RANGES & set(_words_of(name))):
        return False
    return not {"pattern", "query", "regex", "search"} & set(others)


def _words_of(name: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(name)]


def _path(text: str) -> str:
    return text.strip().removeprefix("file://").removeprefix("./")
