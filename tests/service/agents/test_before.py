"""Lines of a shell that become lines of `tamis run`: which, and that they do the same."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.before import BEFORE, before_answer, is_before, rewrite
from tamis.service.agents.shortening import MIN_TOKENS
from tests.service.cli.cli_kit import SCRIPT, process

RUN = "tamis run --"
CASES = int(os.environ.get("CASES", "60"))
PROGRAMS = st.sampled_from(["echo", "printf '%s\\n'", "ls -d", "cat", "true", "false", "test -e"])
WORDS = st.sampled_from(
    [
        *("'single $HOME'", '"double $HOME"', '"a \\"b\\" \\$c \\\\"', "a\\ b", "it\\'s", "\\\\"),
        *("*", "*.t?t", "~", "$HOME", "${HOME}", "$?", "$$x", "$(echo one two)", "'a;b|c&d'"),
        *("one.txt", "-n", "--", "x=y", "'#'", "a#b", "{a,b}", "z{a,b}", "!", "''", '""', "'\n'"),
        *("> out", "2>&1", ">> out", "2>/dev/null", "< one.txt", "&> all", "\\\n", "é…", "'\\'"),
        *(
            "`echo old`",
            "$((1+2))",
            "$'a\\nb'",
            "<(echo p)",
            "<<EOF",
            "&",
            "(",
            ")",
            '"$(echo "q")"',
        ),
    ]
)
LINKS = st.sampled_from([" && ", " || ", "; ", " | ", "\n", " ;", "&&", "|", " & "])


@st.composite
def lines(draw):
    command = st.tuples(PROGRAMS, st.lists(WORDS, max_size=3)).map(
        lambda c: " ".join((c[0], *c[1]))
    )
    parts = [draw(command)]
    for _ in range(draw(st.integers(0, 3))):
        parts += [draw(LINKS), draw(command)]
    return draw(st.sampled_from(["", "cd sub && ", "export A=b && ", "A=1 "])) + "".join(parts)


def outcome(folder, line):
    """What a real bash makes of a line: its outputs, exit code, files, and where it is left."""
    for name in ("out", "all"):
        (folder / name).unlink(missing_ok=True)
        (folder / "sub" / name).unlink(missing_ok=True)
    done = subprocess.run(
        ["bash", "-c", line + "\necho code $? in $PWD A is $A"],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]},
    )
    # bash numbers the lines of its messages, and `env` names what it is started by
    errors = {text.rpartition(b": ")[2] for text in done.stderr.splitlines()}
    if "|" in line:  # a reader that does not read ends its writer, at times before its message
        errors.clear()
    shown = [text for text in done.stdout.splitlines() if not text.startswith((b"_=", b"SHLVL="))]
    files = {file: file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}
    kept = {file: data for file, data in files.items() if b"SHLVL=" not in data}
    return shown, errors, kept


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("shell")
    (made / "sub").mkdir()
    for where in (made, made / "sub"):
        (where / "one.txt").write_text("first\nsecond\n")
    return made


@settings(deadline=None, max_examples=CASES, suppress_health_check=list(HealthCheck))
@given(line=lines())
@example(line="echo 'it'\\''s' \"$HOME\" && printf '%s\\n' a\\ b | cat")
@example(line="cd sub && cat one.txt | cat && ls -d *.t?t")
def test_a_line_that_is_rewritten_does_what_it_did(folder, line):
    """`env` runs the command as it is, so only the quoting and the split are judged."""
    # two commands of a pipe that write one file race for it
    assume("|" not in line or sum(map(line.count, ("> out", "> all"))) < 2)
    written = rewrite(line, "env --", "bash")
    if written is not None:
        assert outcome(folder, written) == outcome(folder, line)


def test_most_plain_lines_of_the_above_are_rewritten():
    """Or the test before would prove nothing."""
    plain = ["echo 'it'\\''s' \"$HOME\"", "cd sub && cat one.txt", "ls -d * && true | sort -r"]
    assert [rewrite(line, RUN, "bash") is not None for line in plain] == [True, True, False]


@pytest.mark.parametrize(
    ("line", "written"),
    [
        ("ls -la", "tamis run -- bash -c 'ls -la'"),
        ("cd /tmp && ls -R", "cd /tmp && tamis run -- bash -c 'ls -R'"),
        ("cd /tmp && export A=1 && ls -R", "cd /tmp && export A=1 && tamis run -- bash -c 'ls -R'"),
        ("A=1 ls 2>&1; echo $?", "tamis run -- bash -c 'A=1 ls 2>&1; echo $?'"),
        ("timeout 60 env B=2 ls", "tamis run -- bash -c 'timeout 60 env B=2 ls'"),
        ("./a.sh -v", "tamis run -- bash -c './a.sh -v'"),
        ("ls $HOME", "tamis run -- bash -c 'ls $HOME'"),
        ("grep -rn 'a b' .", "tamis run -- bash -c 'grep -rn '\"'\"'a b'\"'\"' .'"),
    ],
)
def test_what_prints_is_run_and_what_changes_the_shell_stays_in_it(line, written):
    assert rewrite(line, RUN, "bash") == written


@pytest.mark.parametrize(
    "line",
    [
        *(
            "ls | grep x",
            "ls -R | head -5",
            "cat a | jq .b",
            "sed -n 1,9p a",
            "head a",
            "tail -n 5 a",
        ),
        *("grep -c a b", "grep -l a *", "git grep -c a", "ls; cat a | wc -l"),
        *("vim a", "less a", "ssh host", "top", "python3", "python3 -i a.py", "bash", "man ls"),
        *("git commit", "git rebase -i HEAD~3", "git add -p", "docker run -it x sh", "tail -f log"),
        *("sleep 9 &", "ls & wait", "nohup ls", "cd /tmp", "export A=1", "A=1", "source x"),
        *("cd /tmp; ls", "cd /tmp || ls", "cd /tmp && ls; ls", "ls && cd /tmp", "set -e; ls"),
        *("cat <<EOF\nx\nEOF", "cat <<< x", "for i in a; do ls; done", "if true; then ls; fi"),
        *("(ls)", "{ ls; }", "f() { ls; }", "ls `pwd`", "ls 'unclosed", 'ls $(echo "a b")'),
        *("echo $'a'", "ls $UNSET_HERE", "no_such_program_here -x", "$HOME/x", "", "  ", "# ls"),
        *("tamis run -- ls", "ls | tamis pipe", "tamis run --retrieve 0123456789abcdef01234567"),
        *("npm run dev", "docker compose up", "python3 -m http.server", "watch ls", "ls --watch"),
        *("kubectl logs -f pod", "psql", "ls |", "| ls", "ls &&", "ls ;; ls", "ls \\"),
    ],
)
def test_what_is_left_alone(line):
    assert rewrite(line, RUN, "bash") is None


def event(agent, line, **arguments):
    """The event as the agent's own documents show it."""
    given = {"command": line, "description": "Look.", **arguments}
    shape = BEFORE[agent]
    if agent == "copilot-cli":
        return {"toolName": "bash", "toolArgs": json.dumps(given), "cwd": "/", "timestamp": 1}
    named = {"tool_name": shape.tools[0], "tool_input": given, "cwd": "/", "session_id": "1"}
    return {"hook_event_name": shape.event, **named}


@pytest.mark.parametrize("agent", BEFORE)
def test_each_agent_is_answered_in_its_own_shape_and_nothing_is_permitted(agent):
    before = event(agent, "ls -R")
    assert is_before(agent, before)
    answer = before_answer(agent, before, RUN, allows=agent == "cursor")
    shell = BEFORE[agent].shell or "bash"
    line, given = f"tamis run -- {shell} -c 'ls -R'", None
    hook = {"hookEventName": BEFORE[agent].event}
    given = {"command": line, "description": "Look."}
    assert (
        answer
        == {
            "claude-code": {"hookSpecificOutput": {**hook, "updatedInput": given}},
            "codex": {
                "hookSpecificOutput": {**hook, "permissionDecision": "allow", "updatedInput": given}
            },
            "cursor": {"permission": "allow", "updated_input": given},
            "gemini-cli": {"hookSpecificOutput": {**hook, "tool_input": given}},
            "opencode": {"command": line},
            "copilot-cli": {"modifiedArgs": given},
        }[agent]
    )


@pytest.fixture(autouse=True)
def shell(monkeypatch):
    monkeypatch.setenv("SHELL", "bash")


def test_cursor_gets_no_answer_unless_its_user_lets_the_hook_allow():
    assert before_answer("cursor", event("cursor", "ls -R"), RUN) is None


@pytest.mark.parametrize("key", ["run_in_background", "is_background"])
def test_what_an_agent_runs_in_the_background_is_left_alone(key):
    before = event("claude-code", "ls -R", **{key: True})
    assert before_answer("claude-code", before, RUN) is None


@pytest.mark.parametrize(
    ("agent", "file", "text"),
    [
        ("claude-code", ".claude/settings.json", '{"permissions": {"deny": ["Bash(ls:*)"]}}'),
        ("claude-code", ".claude/settings.local.json", '{"permissions":{"ask":["Bash(ls -R)"]}}'),
        ("codex", ".codex/rules/a.rules", 'prefix_rule(pattern = ["ls"], decision="forbidden")'),
        ("gemini-cli", ".gemini/settings.json", '{"tools":{"exclude":["run_shell_command(ls)"]}}'),
        ("gemini-cli", ".gemini/policies/a.toml", 'commandPrefix = "ls -R"'),
        ("opencode", "opencode.json", '{"permission": {"bash": {"*": "allow", "ls *": "ask"}}}'),
        ("cursor", ".cursor/cli.json", '{"permissions": {"deny": ["Shell(ls)"]}}'),
    ],
)
def test_programs_that_the_users_rules_name_are_left_alone(tmp_path, agent, file, text):
    """A rule on `ls` would not be found to match `tamis run`."""
    inner = tmp_path / "deep" / "er"
    inner.mkdir(parents=True)
    before = event(agent, "cd deep && ls -R") | {"cwd": str(inner)}
    assert before_answer(agent, before, RUN, allows=True) is not None
    (tmp_path / file).parent.mkdir(exist_ok=True, parents=True)
    (tmp_path / file).write_text(text)
    assert before_answer(agent, before, RUN, allows=True) is None


@pytest.mark.parametrize("agent", BEFORE)
def test_the_hook_as_a_process_and_its_settings(agent):
    given = json.dumps(event(agent, "ls -R")).encode()
    allow = ("--allow",) * (agent == "cursor")
    options = ("--ratio", 0.3, "--timeout", 0.4)
    done = process("hook", agent, *options, *allow, input=given)
    assert (done.returncode, done.stderr) == (0, b"")
    line = next(word for word in done.stdout.decode().split('"') if "-c" in word)
    assert " run --ratio 0.3 --timeout 0.4 -- " in line
    assert shlex.split(line)[-1] == "ls -R"
    left = process("hook", agent, *allow, input=json.dumps(event(agent, "vim x")).encode())
    assert left.stdout == (b"{}\n" if agent == "cursor" else b"")
    shown = process("hook", agent, *allow, "--before", "--print-settings").stdout.decode()
    assert agent in shown
    if agent == "opencode":
        assert '"tool.execute.before"' in shown
    else:
        assert list(json.loads(shown)["hooks"]) == [BEFORE[agent].event]
    bare = process("hook", "cursor", "--print-settings")
    assert (bare.returncode, bare.stdout) == (2, b"")
    assert b"--allow" in bare.stderr


@pytest.mark.parametrize("agent", BEFORE)
def test_a_small_output_behind_the_hook_is_the_command_s_own_to_the_byte(agent, tmp_path):
    (tmp_path / "tamis").write_text(f'#!/bin/sh\nexec {sys.executable} -c "{SCRIPT}" "$@"\n')
    (tmp_path / "tamis").chmod(0o755)
    small = b"one\r\n\x1b[31mtwo\x1b[0m \xff\tthree \n" * 14 + b"no end"
    assert 96 < estimating_tokenizer().count(small.decode("latin-1")) < MIN_TOKENS
    (tmp_path / "small").write_bytes(small)
    answer = before_answer(agent, event(agent, "cat small && false"), RUN, allows=True)
    line = next(value for value in values_of(answer) if isinstance(value, str) and RUN in value)
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        env=os.environ | {"PATH": path, "TAMIS_HOME": str(tmp_path / "home")},
    )
    assert (done.stdout, done.stderr, done.returncode) == (small, b"", 1)
    assert not (tmp_path / "home" / "outputs").exists()


def values_of(answer):
    """What stands in an answer, at any depth."""
    for value in answer.values() if isinstance(answer, dict) else ():
        yield value
        yield from values_of(value)
