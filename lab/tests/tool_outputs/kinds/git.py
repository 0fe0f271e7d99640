"""git: diffs, logs with patches, status, blame and statistics of histories that are made here."""

from __future__ import annotations

import random

from lab.tests.tool_outputs.kit import Workshop, bash, headers
from lab.tests.tool_outputs.words import FIRST, LAST, actions, nouns, sentence

TOOLS = {"git": "git --version"}
HUNKS = headers("hunks", r"^diff --git ", r"^@@ ")
COMMITS = headers("hunks", r"^commit [0-9a-f]{7,}", r"^diff --git ", r"^@@ ")
WHOLE = {"rule": "lines"}


def module(rng: random.Random, functions: int) -> str:
    """A module with constants and functions."""
    parts = [f"LIMIT_{n.upper()} = {rng.randint(2, 99)}\n" for n in nouns(rng, 4)]
    for name in actions(rng, functions):
        parts.append(
            f"def {name}(row, limit={rng.randint(5, 95)}):\n"
            f"    # {sentence(rng, 7)}\n"
            f"    total = row.count * {rng.randint(2, 60)}\n"
            "    if total > limit:\n        return None\n"
            f"    return total - {rng.randint(1, 900)}\n"
        )
    return "\n\n".join(parts)


def edited(rng: random.Random, text: str, edits: int) -> str:
    """The text with some lines changed."""
    lines = text.split("\n")
    numbered = [i for i, line in enumerate(lines) if "total = " in line or "return total" in line]
    for i in rng.sample(numbered, min(edits, len(numbered))):
        lines[i] = lines[i].rsplit(" ", 1)[0] + f" {rng.randint(1000, 9999)}"
    return "\n".join(lines)


class History:
    """A repository whose commits are made one by one, by made-up authors."""

    def __init__(self, shop: Workshop, name: str, modules: int, functions: int) -> None:
        self.shop, self.rng = shop, shop.rng(name)
        self.paths = [f"src/{noun}.py" for noun in nouns(self.rng, modules)]
        files = {path: module(self.rng, functions) for path in self.paths}
        self.folder = shop.project(name, files)
        self.clock = 1_790_000_000
        self.git("init -q -b main . && git config commit.gpgsign false")
        self.commit("First version")

    def git(self, words: str) -> str:
        """What a git command prints."""
        who = f"{self.rng.choice(FIRST)} {self.rng.choice(LAST)}"
        self.clock += self.rng.randint(2_000, 90_000)
        date = f"{self.clock} +0000"
        env = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_PAGER": "cat"}
        for role in ("AUTHOR", "COMMITTER"):
            mail = who.lower().replace(" ", ".") + "@example.org"
            env |= {f"GIT_{role}_NAME": who, f"GIT_{role}_EMAIL": mail, f"GIT_{role}_DATE": date}
        return self.shop.run(f"git {words}", self.folder, env)

    def commit(self, message: str, *more: str) -> None:
        """Commits everything; `more` are further paragraphs of the message."""
        words = " ".join(f"-m '{part}'" for part in (message, *more))
        self.git(f"add -A && git commit -q {words}")

    def edit(self, path: str, edits: int) -> None:
        """Changes some lines of a file."""
        file = self.folder / path
        file.write_text(edited(self.rng, file.read_text("utf-8"), edits), "utf-8")

    def plant(self, path: str, old: str, new: str) -> str:
        """Changes the first line that has `old`; returns the line as it is now."""
        file = self.folder / path
        lines = file.read_text("utf-8").split("\n")
        at = next(i for i, line in enumerate(lines) if old in line)
        lines[at] = new
        file.write_text("\n".join(lines), "utf-8")
        return new


def make(shop: Workshop) -> None:
    """Diffs, logs, status and blame."""
    for i in range(12):
        _add_diff(shop, i)
    for i in range(9):
        _add_patches(shop, i)
    for i in range(4):
        _add_messages(shop, i)
        _add_status(shop, i)
        _add_blame(shop, i)


def _add_diff(shop: Workshop, i: int) -> None:
    history = History(shop, f"diff{i}", 9, 10)
    rng = history.rng
    for path in history.paths:
        history.edit(path, rng.randint(2, 8))
    at = history.paths[i % 9]
    noun = f"{rng.choice(nouns(rng, 5))}_{i}"
    asks, line = (
        (
            f"Was the timeout of {noun} changed?",
            f"TIMEOUT_{noun.upper()} = {rng.randint(100, 999)}",
        ),
        (f"Where is {noun} logged now?", f'log.warning("{noun} is late by %s", limit)'),
        (
            "Does this change turn off a check of certificates?",
            f"{noun}.verify_certificates = False",
        ),
    )[i % 3]
    history.plant(at, "LIMIT_", line)
    command = ("git diff", "git diff HEAD", "git diff --stat -p")[i % 3]
    text = history.git(command.removeprefix("git "))
    gold = [rf"^\+{line.split('(')[0].split(' = ')[0]}"]
    if i % 4 == 3:
        gold.append(rf"^diff --git a/{at}")
        asks += " In which file?"
    shop.add(bash(command), asks, text, gold, (), (WHOLE, HUNKS))


def _add_patches(shop: Workshop, i: int) -> None:
    history = History(shop, f"log{i}", 6, 8)
    rng = history.rng
    planted = rng.randint(2, 6)
    noun = f"{rng.choice(nouns(rng, 5))}_{i}"
    line = f"RETRIES_{noun.upper()} = {rng.randint(10, 99)}"
    subject = f"{noun}: try again when the carrier does not answer"
    for turn in range(9):
        for path in rng.sample(history.paths, 2):
            history.edit(path, rng.randint(2, 5))
        if turn == planted:
            history.plant(history.paths[i % 6], "LIMIT_", line)
        history.commit(subject if turn == planted else sentence(rng, 6).capitalize())
    command = ("git log -p", "git log -p --no-merges -8", "git log -p --reverse")[i % 3]
    text = history.git(command.removeprefix("git "))
    asks = (
        f"When was RETRIES_{noun.upper()} introduced?",
        f"What did the commit about {noun} add?",
    )
    gold = [rf"^\+RETRIES_{noun.upper()}", rf"^    {noun}: try again"]
    shop.add(bash(command), asks[i % 2], text, gold, (), (WHOLE, COMMITS))


def _add_messages(shop: Workshop, i: int) -> None:
    history = History(shop, f"messages{i}", 4, 5)
    rng = history.rng
    noun, number = f"{rng.choice(nouns(rng, 5))}_{i}", rng.randint(200, 999)
    for turn in range(34):
        history.edit(rng.choice(history.paths), 2)
        more = [sentence(rng, 12)] if turn % 3 else []
        history.commit(
            *(
                (f"Revert the cache of {noun}", f"It broke issue #{number}")
                if turn == 11 + i
                else (sentence(rng, 6).capitalize(), *more)
            )
        )
    command = ("git log", "git log --stat")[i % 2]
    text = history.git(command.removeprefix("git "))
    rules = (WHOLE, headers("hunks", r"^commit [0-9a-f]{7,}"))
    gold = [rf"^    Revert the cache of {noun}", rf"^    It broke issue #{number}"]
    shop.add(bash(command), f"Why was the cache of {noun} reverted?", text, gold, (), rules)


def _add_status(shop: Workshop, i: int) -> None:
    history = History(shop, f"status{i}", 30, 3)
    rng = history.rng
    for path in history.paths[:24]:
        history.edit(path, 2)
    noun = f"{rng.choice(nouns(rng, 5))}_{i}"
    for name in (*actions(rng, 150), f"{noun}_credentials"):
        (history.folder / f"{name}.json").write_text("{}", "utf-8")
    (history.folder / history.paths[25]).unlink()
    text = history.git("status")
    asks, gold = (
        (f"Is the file with the credentials of {noun} tracked?", [rf"{noun}_credentials\.json"]),
        ("Which file was deleted?", [r"deleted: +src/"]),
    )[i % 2]
    states = headers("entries", r"^(Changes|Untracked) .*:$")
    shop.add(bash("git status"), asks, text, gold, (), (WHOLE, states))


def _add_blame(shop: Workshop, i: int) -> None:
    history = History(shop, f"blame{i}", 1, 30)
    rng, (path,) = history.rng, history.paths
    for turn in range(12):
        history.edit(path, 4)
        if turn == 6:
            history.plant(path, "LIMIT_", f"MAX_OPEN_{'ABCD'[i]} = {rng.randint(10, 99)}")
        history.commit(sentence(rng, 5))
    command = f"git blame {path}"
    text = history.git(command.removeprefix("git "))
    asks = f"Who set MAX_OPEN_{'ABCD'[i]}, and when?"
    shop.add(bash(command), asks, text, [rf"MAX_OPEN_{'ABCD'[i]} = "])
