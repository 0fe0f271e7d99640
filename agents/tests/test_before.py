"""Lines of a shell that become lines of `tamis run`: which, and that they do the same."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from itertools import zip_longest

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from tamis.probes.tokens import estimating_tokenizer
from tamis.service.agents.shortening import MIN_TOKENS
from tamis_agents.before import BEFORE, before_answer, is_before, rewrite
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
def shell(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("SHELL", "bash")
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


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
        (
            "gemini-cli",
            ".gemini/policies/a.toml",
            '[[rule]]\ntoolName = "run_shell_command"\ncommandPrefix = "ls -R"\ndecision = "deny"',
        ),
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


CLAUDE, GEMINI = ".claude/settings.json", ".gemini/policies/a.toml"


def is_changed(agent, line, folder):
    before = event(agent, line) | {"cwd": str(folder)}
    return before_answer(agent, before, RUN, allows=True) is not None


def write(file, text):
    file.parent.mkdir(exist_ok=True, parents=True)
    file.write_text(text)


def permissions(**rules):
    return json.dumps({"permissions": rules})


@pytest.mark.parametrize(
    ("agent", "file", "text", "left", "changed"),
    [
        (
            *("claude-code", CLAUDE, permissions(deny=["Bash(env:*)"], ask=["Bash(timeout:*)"])),
            *(["env A=1 ls", "timeout 5 ls", "cd / && env ls", "nice e'n'v ls", "/bin/env ls"],),
            ["ls", "ls --environment", "du -h"],
        ),
        ("claude-code", CLAUDE, permissions(deny=["Bash(* --force)"]), ["ls", "ls --force"], []),
        ("claude-code", CLAUDE, permissions(deny=["Bash"]), ["ls"], []),
        ("claude-code", CLAUDE, permissions(deny="Bash(du)"), ["ls"], []),
        ("claude-code", CLAUDE, permissions(deny=["Bash(d*)"]), ["du", "ls | date"], ["ls"]),
        ("claude-code", CLAUDE, "{", ["ls"], []),
        (
            *("claude-code", CLAUDE, permissions(deny=["Read(./.env)", "Edit(keys/**)"])),
            *(["cat .env", "cat 'ke'ys/a", "ls > keys/b", "cat link", "cat *", "cd keys && ls"],),
            ["ls", "cat a.txt"],
        ),
        ("claude-code", CLAUDE, permissions(deny=["WebFetch", "mcp__x"], allow=["*"]), [], ["ls"]),
        ("claude-code", CLAUDE, permissions(allow=["Bash", "Bash(*)", "Read"]), [], ["ls", "du"]),
        ("gemini-cli", GEMINI, 'rule = [{commandPrefix = ["git push", "du"], decision = "deny"}]',
         ["du -h", "ls; du"], ["ls"]),
        ("gemini-cli", GEMINI, '[[rule]]\ncommandRegex = "^du .*"\ndecision="deny"', ["ls"], []),
        ("gemini-cli", GEMINI, '[[rule]]\nargsPattern = "du"\ndecision="ask_user"', ["ls"], []),
        ("gemini-cli", GEMINI, '[[rule]]\ntoolName = "*"\ndecision="deny"', ["ls"], []),
        ("gemini-cli", GEMINI, '[[rule]]\ntoolName = "*"\ndecision="allow"', [], ["ls"]),
        ("gemini-cli", GEMINI, '[[rule]]\ntoolName = ["glob"]\ndecision="deny"', [], ["ls"]),
        ("gemini-cli", GEMINI, "[[rule]", ["ls"], []),
        (
            *("gemini-cli", ".gemini/extensions/x/gemini-extension.json"),
            *('{"excludeTools": ["run_shell_command(du)"]} // of an extension', ["du"], ["ls"]),
        ),
        (
            *("codex", ".codex/rules/a.rules"),
            'prefix_rule(\n  pattern=[["du", "date"], "-h"],\n  decision="forbidden",\n)  # why',
            *(["du -h x", "date -h", "nice du -h"], ["ls"]),
        ),
        ("codex", ".codex/rules/a.rules", "for x in y:\n  prefix_rule(pattern=[x])", ["ls"], []),
        (
            *("codex", ".codex/rules/a.rules", 'prefix_rule(pattern=["sh"], decision="prompt")'),
            *(["ls"], []),
        ),
        (
            *("codex", ".codex/requirements.toml"),
            'rules.prefix_rules = [{pattern = [{any_of = ["du"]}], decision = "prompt"}]',
            *(["du"], ["ls"]),
        ),
        (
            *("opencode", "opencode.jsonc"),
            '{"agent": {"x": {"permission": {"bash": {"*": "allow", "du *": "ask",}}}}} // du',
            *(["du -h"], ["ls"]),
        ),
        ("opencode", "opencode.json", '{"permission": {"bash": "ask"}}', ["ls"], []),
        ("opencode", "opencode.json", '{"permission": {"edit": "deny"}}', [], ["ls"]),
        ("opencode", ".opencode/agent/x.md", "---\npermission:\n  bash: ask", ["ls"], []),
        ("cursor", ".cursor/cli.json", permissions(deny=["Shell(du)"]), ["du"], ["ls"]),
    ],
)  # fmt: skip
def test_what_a_rule_could_match_is_left_alone_and_nothing_else(
    tmp_path, agent, file, text, left, changed
):
    (tmp_path / "link").symlink_to(".env")
    write(tmp_path / file, text)
    assert {line: is_changed(agent, line, tmp_path) for line in left + changed} == (
        dict.fromkeys(left, False) | dict.fromkeys(changed, True)
    )


@pytest.mark.parametrize("agent", BEFORE)
def test_what_agents_ask_about_by_themselves_is_left_alone(tmp_path, agent):
    for line in ("rm -r x", "nice r\\m x", "sudo ls", "ls > .git/hooks/pre-commit", "ls>>.bashrc"):
        assert not is_changed(agent, line, tmp_path)
    assert is_changed(agent, "ls .github --sort x", tmp_path)
    assert is_changed(agent, "cat /etc/hosts", tmp_path) == (agent != "opencode")
    assert is_changed(agent, "cat ./a HEAD~3 a..b > /dev/null", tmp_path)


@pytest.mark.parametrize(
    ("agent", "variable", "below", "text"),
    [
        ("claude-code", "CLAUDE_CONFIG_DIR", "settings.json", permissions(deny=["Bash(ls)"])),
        ("claude-code", "CLAUDE_PROJECT_DIR", CLAUDE, permissions(deny=["Bash(ls)"])),
        ("codex", "CODEX_HOME", "rules/a.rules", 'prefix_rule(pattern=["ls"], decision="prompt")'),
        ("gemini-cli", "GEMINI_CLI_HOME", GEMINI, 'rule=[{commandPrefix="ls", decision="deny"}]'),
        ("gemini-cli", "GEMINI_CLI_SYSTEM_SETTINGS_PATH", "", '{"excludeTools": ["ShellTool"]}'),
        ("opencode", "OPENCODE_CONFIG", "", '{"permission": {"*": "ask"}}'),
        ("opencode", "XDG_CONFIG_HOME", "opencode/opencode.json", '{"permission": "deny"}'),
        ("cursor", "CURSOR_CONFIG_DIR", "cli-config.json", permissions(deny=["Shell(ls)"])),
    ],
)
def test_settings_where_a_variable_says_are_looked_at(
    tmp_path, monkeypatch, agent, variable, below, text
):
    write(tmp_path / "set" / (below or "file.json"), text)
    assert is_changed(agent, "ls", tmp_path)
    monkeypatch.setenv(variable, str(tmp_path / "set" / ("" if below else "file.json")))
    assert not is_changed(agent, "ls", tmp_path)


@pytest.mark.parametrize(
    ("agent", "folder"), [("claude-code", "/etc/claude-code"), ("gemini-cli", "/etc/gemini-cli")]
)
def test_settings_of_the_machine_are_looked_at(agent, folder):
    """Which a test cannot write, so that what is looked for is compared."""
    looked = {pattern for pattern in BEFORE[agent].rules if pattern.startswith(folder)}
    assert looked >= {
        *([f"{folder}/managed-settings.d/*.json"] if "claude" in agent else []),
        *([f"{folder}/policies/*.toml"] if "gemini" in agent else []),
    }


RULE_WORDS = st.sampled_from(
    ["ls", "du", "env", "nice", "date", "cat", "-h", "a b", "x*", "*", "d*"]
)
QUOTED = st.sampled_from(["ls", "du", "'du'", "d\\u", "env", '"d"ate', "date", "cat", "/bin/ls"])
ARGUMENTS = st.sampled_from(["-h", "x", "'a b'", "xy", "-n 5", "A=1", "du", "'ls x'"])
WRAPPERS = st.sampled_from(
    ["", "", "env ", "env A=1 ", "timeout 5 ", "nice -n 5 ", "time ", "xargs ", "A=1 ", "command "]
)
SIMPLE = st.tuples(WRAPPERS, QUOTED, st.lists(ARGUMENTS, max_size=2)).map(
    lambda parts: parts[0] + " ".join((parts[1], *parts[2]))
)
PATTERNS = st.lists(RULE_WORDS, min_size=1, max_size=2).map(" ".join)


def glob_matches(pattern, command):
    """Claude Code and OpenCode: a star is any text; `ls:*` and `ls *` are `ls`, too."""
    pattern = re.sub(r":\*$", " *", pattern)
    shape = re.escape(pattern).replace(r"\*", ".*")
    return re.fullmatch(shape.replace(r"\ .*", r"(?:\ .*)?"), command) is not None


AGENT_RULES = {
    # file, how the rules are written there, and which of them matches a command
    "claude-code": (
        CLAUDE,
        PATTERNS | PATTERNS.map("{}:*".format),
        lambda rules: permissions(deny=[f"Bash({rule})" for rule in rules]),
        glob_matches,
    ),
    "opencode": (
        "opencode.json",
        PATTERNS,
        lambda rules: json.dumps({"permission": {"bash": dict.fromkeys(rules, "deny")}}),
        glob_matches,
    ),
    "gemini-cli": (
        GEMINI,
        st.tuples(st.sampled_from(["commandPrefix", "commandRegex", "argsPattern"]), PATTERNS),
        lambda rules: "\n".join(
            f"[[rule]]\n{key} = {json.dumps([rule] if key == 'commandPrefix' else rule)}\n"
            'decision = "deny"'
            for key, rule in rules
        ),
        lambda rule, command: bool(
            command.startswith(rule[1])
            if rule[0] == "commandPrefix"
            else re.search(rule[1].replace("*", ".*"), command)
        ),
    ),
    "codex": (
        ".codex/rules/a.rules",
        st.lists(RULE_WORDS | st.lists(RULE_WORDS, min_size=1), min_size=1, max_size=2),
        lambda rules: "\n".join(
            f'prefix_rule(pattern={json.dumps(rule)}, decision="forbidden")' for rule in rules
        ),
        lambda rule, command: all(
            word in ([want] if isinstance(want, str) else want)
            for want, word in zip_longest(rule, shlex.split(command)[: len(rule)], fillvalue="")
        ),
    ),
}


@pytest.mark.parametrize("agent", AGENT_RULES)
@settings(deadline=None, max_examples=CASES * 3, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_new_line_is_refused_wherever_the_old_one_was(tmp_path, agent, data):
    """By an agent that takes any wrapper off, and any folder and quotes."""
    file, rule, written, matches = AGENT_RULES[agent]
    rules = data.draw(st.lists(rule, min_size=1, max_size=2))
    commands = data.draw(st.lists(SIMPLE, min_size=1, max_size=3))
    line = data.draw(st.sampled_from([" && ", "; ", " | ", " || "])).join(commands)
    write(tmp_path / file, written(rules))
    tails = [
        tail
        for command in commands
        for words in (command.split(" "), shlex.split(command))
        for at in range(len(words))
        for tail in (
            " ".join(words[at:]),
            " ".join((os.path.basename(words[at]), *words[at + 1 :])),
        )
    ]
    was_refused = any(matches(one, tail) for one in rules for tail in tails if balanced(tail))
    new = before_answer(agent, event(agent, line) | {"cwd": str(tmp_path)}, RUN)
    if was_refused and new is not None:
        line = next(v for v in values_of(new) if isinstance(v, str) and v.startswith(RUN))
        assert any(matches(one, line) for one in rules)


def balanced(text):
    try:
        return bool(shlex.split(text))
    except ValueError:
        return False


def test_who_puts_the_hook_in_is_told_of_a_rule_that_leaves_everything_alone(tmp_path):
    write(tmp_path / CLAUDE, permissions(deny=["Bash(* --force)"]))
    words = ("hook", "claude-code", "--before", "--print-settings")
    shown = process(*words, cwd=tmp_path).stderr.decode()
    assert f"{tmp_path / CLAUDE} has a rule that may match any command" in shown
    write(tmp_path / CLAUDE, permissions(deny=["Bash(git push)"]))
    assert "any command" not in process(*words, cwd=tmp_path).stderr.decode()


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
