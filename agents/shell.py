"""What a command line does, as far as it decides whether what it prints is to be shortened.

Read conservatively: what is not understood counts as something to leave alone.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from os.path import basename

_WORD = r"""(?:\\[^\n]|'[^']*'|\$\([^()'"`\n]*\)|\$(?![('"])|[^\s;&|<>()'"\\`$\#{}!]
    |"(?:\\.|\$\([^()'"`]*\)|[^"\\`$]|\$(?!\())*"|(?<=[^\s;&|])[\#{}!])+"""
_TOKEN = re.compile(
    rf"""(?P<blank>[ \t]+|\\\n)
    |(?P<operator>&&|\|\||\||;|\n|\Z)
    |(?P<redirection>(?:\d*(?:>>?|<)|&>>?)(?:&\d+-?|[ \t]*{_WORD}))
    |(?P<word>{_WORD})""",
    re.X | re.S,
)
_COMPOUND = frozenset(
    "if then else elif fi for while until do done case esac select function time coproc [[ { }"
    " !".split()
)
_STATE = frozenset(
    "cd pushd popd export unset set shopt source . alias unalias eval exec trap umask ulimit"
    " declare typeset local readonly read hash return exit break continue wait jobs fg bg disown"
    " let nvm conda pyenv deactivate".split()
)
"""Words that change the shell itself, which a process of its own cannot do for it."""
_BUILTINS = frozenset("echo printf test [ true false : pwd type command".split())
_NARROWS = frozenset(
    "grep egrep fgrep zgrep rg ag ack jq yq gron wc head tail sed awk gawk cut sort uniq less more"
    " fzf tee xargs column tr nl tamis".split()
)
"""Behind a pipe."""
_NARROW_FIRST = frozenset("head tail wc jq yq awk gawk sed cut".split())
_SEARCHES = frozenset("grep egrep fgrep rg ag ack".split())
_FEW = re.compile(
    r"-[a-zA-Z]*[clLqm]\d*|--(?:count|files-with(?:out)?-match(?:es)?|quiet|silent|max-count(?:=.*)?)"
)
_INTERACTIVE = frozenset(
    "vi vim nvim view nano emacs pico ed ex micro less more most man info top htop btop atop iotop"
    " ssh telnet ftp sftp mosh tmux screen byobu script fzf dialog whiptail gdb lldb pdb ipython"
    " irb pry ghci ncdu mc ranger lazygit tig k9s watch passwd su login visudo crontab expect entr"
    " nodemon vite nohup setsid serve http-server live-server uvicorn gunicorn hypercorn"
    " jupyter".split()
)
_CLIENTS = frozenset("psql mysql sqlite3 mongosh redis-cli".split())
"""Which talk to their user unless they are told what to ask."""
_SHELLS = frozenset("sh bash zsh dash ksh ash fish".split())
_REPL = frozenset("python python2 python3 pypy pypy3 node deno bun lua ruby php R julia".split())
_TOLD = re.compile(r"[^-].*|-\w*[cemVv]|--(?:version|help|eval|print|test)")
_LASTING = re.compile(
    r"(?:tail|journalctl)(?: \S+)* (?:-\w*[fF]\w*|--follow\S*)(?!\S)"
    r"|(?:docker|podman|kubectl|heroku)(?: (?!logs? )\S+)* logs?(?: \S+)* (?:-f|--follow\S*)(?!\S)"
    r"|(?:docker|podman|kubectl|heroku)(?: (?!(?:run|exec|start) )\S+)* (?:run|exec|start)(?: \S+)*"
    r" (?:-[it]+|--tty|--interactive)(?!\S)"
    r"|(?:docker|podman|kubectl|heroku)(?: \S+)*"
    r" (?:-w|--watch|port-forward|proxy|attach|login)(?!\S)"
    r"|(?:npm|pnpm|yarn|bun)(?: run)? (?:start|dev|serve|watch|preview|init|login|create)(?!\S)"
    r"|(?:flask|rails|ng|next|nuxt|astro|hugo|jekyll|mkdocs|dotnet|php)(?: \S+)*"
    r" (?:run|serve|server|s|dev|watch|-S)(?!\S)"
    r"|docker(?:-| )compose(?: (?!up(?!\S))\S+)* up(?!.* (?:-d|--detach))"
    r"|\S+ (?:\S+ )*(?:runserver|--watch\S*|--interactive|--pdb|--ui)(?!\S)"
    r"|\S+(?: -\S+)* -m (?:http\.server|pdb|flask|uvicorn|IPython)(?!\S)"
    r"|git (?:rebase|add|checkout|reset|stash|clean|commit)(?: \S+)*"
    r" (?:-[ipe]|--patch|--interactive|--edit)(?!\S)"
    r"|git commit(?!.* (?:-\w*[mFC]|--message|--file|--no-edit|--fixup|--dry-run))"
    r"|(?:gh|gcloud|aws|az) (?:auth )?(?:login|configure)(?!\S)"
)
_WRAPPERS = frozenset("env sudo doas nice ionice time timeout stdbuf command caffeinate".split())
_WITH_VALUE = frozenset("-u -n -k -s -o -e -i -p -c".split())
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=")


@dataclass(frozen=True, slots=True)
class Command:
    """A simple command of a line.

    Attributes:
        words: as the shell would see them, quotes taken off; assignments and wrappers left out.
        start: where it begins in the line, with its wrappers and redirections.
        after: the operator behind it, or an empty text.
        changes_shell: whether it is there for the shell itself: `cd`, `export`, an assignment.
    """

    words: tuple[str, ...]
    start: int
    after: str
    changes_shell: bool

    @property
    def program(self) -> str:
        """The name of what runs, without its folder."""
        return basename(self.words[0]) if self.words else ""


def read_line(line: str) -> list[Command] | None:
    """The simple commands of a line; None where it has more: blocks, heredocs, background."""
    commands: list[Command] = []
    held: list[re.Match[str]] = []
    at = 0
    while found := _TOKEN.match(line, at):
        at = found.end()
        if found.lastgroup != "operator":
            held += [found] * (found.lastgroup != "blank")
            continue
        words = [one.group() for one in held if one.lastgroup == "word"]
        if not words and (held or found.group() not in ("", "\n")):
            return None
        if words:
            plain = _plain_words(words)
            if plain is None:
                return None
            changes = not plain or plain[0] in _STATE
            commands.append(Command(plain, held[0].start(), found.group(), changes))
        held = []
        if at == len(line):  # else the end would match once more
            is_whole = bool(commands) and commands[-1].after in ("", ";", "\n")
            return commands if is_whole else None
    return None


def _plain_words(words: Sequence[str]) -> tuple[str, ...] | None:
    """The words of a command without quotes, assignments and wrappers such as `timeout 60`."""
    if words[0] in _COMPOUND:
        return None
    try:
        plain = [" ".join(shlex.split(word)) for word in words]
    except ValueError:
        return None
    while plain and (_ASSIGNMENT.match(plain[0]) or basename(plain[0]) in _WRAPPERS):
        wrapper, plain = basename(plain[0]), plain[1:]
        while wrapper in _WRAPPERS and plain and plain[0].startswith("-"):
            plain = plain[2 if plain[0] in _WITH_VALUE else 1 :]
        plain = plain[1 if wrapper == "timeout" else 0 :]
    return tuple(plain)


def narrows(words: Sequence[str]) -> bool:
    """Whether a command chooses lines itself: `| grep`, `| head`, `jq`, `sed -n`, `rg -m 5`."""
    commands = _commands(words)
    is_piped = any(
        before.after == "|" and command.program in _NARROWS
        for before, command in pairwise(commands)
    )
    return is_piped or any(_chooses(command) for command in commands)


def _chooses(command: Command) -> bool:
    options = command.words[1:]
    if command.program in _SEARCHES or (command.program == "git" and "grep" in options):
        return any(map(_FEW.fullmatch, options))
    return command.program in _NARROW_FIRST


def lasts(words: Sequence[str]) -> bool:
    """Whether a command talks to its user, or goes on until it is ended, as a server does."""
    return any(map(_lasts, _commands(words)))


def _commands(words: Sequence[str]) -> Sequence[Command]:
    """What a command runs: the simple commands of a shell's line, or itself."""
    line = inner_line(words)
    if line is not None:
        return read_line(line) or ()
    plain = _plain_words([shlex.quote(word) for word in words])
    return [Command(plain or tuple(words), 0, "", False)]


def inner_line(words: Sequence[str]) -> str | None:
    """The line that a shell is started with, as `bash -lc LINE`; None for other commands."""
    if len(words) < 3 or basename(words[0]) not in _SHELLS:
        return None
    if not re.fullmatch(r"-[a-z]*c", words[1]):
        return None
    return words[2]


def _lasts(command: Command) -> bool:
    options, program = command.words[1:], command.program
    if program in _CLIENTS:
        return len(options) < 2
    if program in _SHELLS or program in _REPL:
        is_told = any(map(_TOLD.fullmatch, options))
        if not is_told or "-i" in options:
            return True
    return program in _INTERACTIVE or bool(_LASTING.match(" ".join((program, *options))))


def part_to_run(line: str) -> int | None:
    """Where the part of a line begins that another process can run in the shell's stead.

    What stands before it changes the shell (`cd src &&`) and stays there. None where all of the
    line is to be left as it is: it is not understood, changes the shell elsewhere, runs something
    in the background, talks to its user, has chosen lines already, or is tamis.
    """
    commands = read_line(line)
    if commands is None:
        return None
    first = 0
    while first < len(commands) and commands[first].changes_shell:
        if commands[first].after != "&&":
            return None
        first += 1
    rest = commands[first:]
    if not rest or any(command.changes_shell for command in rest):
        return None
    if first and any(command.after not in ("&&", "|", "") for command in rest):
        return None
    if any("tamis" in map(basename, one.words) or not _is_known(one) for one in rest):
        return None
    words = ("sh", "-c", line[rest[0].start :])
    return None if narrows(words) or lasts(words) else rest[0].start


def _is_known(command: Command) -> bool:
    """Whether it is a program or a builtin, and not a function or alias of the shell's."""
    word = command.words[0]
    is_program = "/" in word or shutil.which(word) is not None
    return word in _BUILTINS or ("$" not in word and is_program)
