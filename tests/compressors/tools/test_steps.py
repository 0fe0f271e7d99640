"""Steps of a conversation that a later one made needless."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tamis.compressors.tools.steps import (
    has_failed,
    is_floor,
    rank_steps,
    superseded_steps,
)
from tamis.compressors.tools.types import ToolOutput
from tests.compressors.tools.tool_kit import read_output

FILE = "".join(f"line {i}: value_{i} = compute({i})\n" for i in range(60))
NUMBERED = "".join(f"{i + 7}\t{line}\n" for i, line in enumerate(FILE.splitlines()))
TRACE = "Traceback (most recent call last):\n  File \"a.py\", line 3, in run\nKeyError: 'pump'\n"
LAST = [ToolOutput("ok", "bash", '{"command": "true"}'), ToolOutput("ok", "date", "{}")]


def step(text: str, name: str | None = "read_file", /, **arguments: Any) -> ToolOutput:
    return ToolOutput(text, name, json.dumps(arguments))


def bash(text: str, command: str) -> ToolOutput:
    return step(text, "bash", command=command)


def reasons(*steps: ToolOutput) -> dict[int, str]:
    """Why which of the steps go, with two more behind them, which are the floor."""
    return {i: one.reason for i, one in superseded_steps([*steps, *LAST]).items()}


READ = step(FILE, path="src/a.py")
EDIT = step("ok", "edit_file", path="src/a.py", old_string="value_1", new_string="v")
WRITE = step("ok", "write_file", path="./src/a.py", content="new = 1\n")


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([READ, EDIT, step(FILE.replace("value_1", "v"), path="src/a.py")], "repeated"),
        (
            [step(FILE[:400], path="src/a.py", limit=9), step(NUMBERED, path="src/a.py")],
            "read again",
        ),
        ([READ, WRITE], "written anew"),
        (
            [step(FILE, "Read", file_path="a.py"), bash("", "cat > a.py <<'EOF'\nx\nEOF")],
            "written anew",
        ),
        ([bash(FILE, "cat a.py"), EDIT, step(FILE, "view", path="a.py")], "read again"),
        ([bash("1 failed", "pytest -q"), EDIT, bash("3 passed", "pytest -q")], "repeated"),
        ([bash(TRACE, "python a.py"), EDIT, bash("42", "python a.py")], "recovered"),
        ([bash(TRACE, "cd src && X=1 python -u a.py"), bash("42", "python a.py")], "recovered"),
        ([bash(TRACE, "npm run build 2>&1"), EDIT, bash("ok", "npm run build")], "recovered"),
        (
            [step('{"error": "no such day"}', "search", day="x"), step("[]", "search", day="1")],
            "recovered",
        ),
        ([step("7", "compute", x=1), step("7", "compute", x=1)], "repeated"),
        (
            [
                step(FILE, "str_replace_based_edit_tool", command="view", path="a.py"),
                step(
                    "ok",
                    "str_replace_based_edit_tool",
                    command="create",
                    path="a.py",
                    file_text="x",
                ),
            ],
            "written anew",
        ),
        ([bash(FILE, "cd /srv && git status"), bash("clean", "cd /srv && git status")], "repeated"),
        ([bash(FILE, "cd web && npm test"), EDIT, bash("ok", "cd web && npm test")], "repeated"),
        ([bash(FILE, "./jobs pop"), bash(FILE, "./jobs pop")], "repeated"),  # the same output
        (
            [bash(text, "X=1 .venv/bin/python -m pytest 2>&1 | tail") for text in (FILE, "ok")],
            "repeated",
        ),
        ([READ, step("ok", "mcp__fs__create_file", path="src/a.py", text="x")], "written anew"),
    ],
)
def test_what_a_later_step_made_needless_goes(steps, reason):
    assert reasons(*steps) == {0: reason}


@pytest.mark.parametrize(
    "steps",
    [
        [READ, EDIT],  # an edit says nothing of the other lines
        [READ, step(FILE[:99], path="src/a.py", limit=3)],  # a part is not the whole
        [READ, step(FILE, path="src/b.py")],
        [READ, step("Error: no such file", path="src/a.py")],  # the read failed
        [READ, step("denied", "write_file", path="src/a.py")],  # nothing was written whole
        [step(FILE, "grep", path="src/a.py", pattern="x"), READ],  # found lines, not the file's
        [READ, step("src/a.py:3: x", "grep", path="src/a.py", pattern="x")],
        [step("a", "next_page", cursor=1), step("b", "next_page", cursor=1)],
        [step("a", "BashOutput", bash_id="1"), step("b", "BashOutput", bash_id="1")],
        [step("a", "roll"), step("b", "roll")],
        [bash(TRACE, "python a.py"), bash("ok", "python b.py")],  # another program
        [bash(TRACE, "python a.py"), bash(TRACE.replace("pump", "tap"), "python c.py")],
        [bash(TRACE, "npm run build"), bash("ok", "npm run test")],
        [bash(TRACE, "python -m pytest tests/a.py -x"), bash("ok", "python -m pytest tests/b.py")],
        [bash(TRACE, "make test && make lint"), bash("ok", "make test")],
        [bash(TRACE, "docker compose up -d"), bash("ok", "docker compose logs")],
        [step(FILE, None), step(FILE, None)],  # nobody knows which calls made them
    ],
)
def test_what_is_not_sure_stays(steps):
    assert reasons(*steps) == {}


OTHER = "".join(f"option {i}: {i * 3}\n" for i in range(60))
UNCHANGED = (
    "File unchanged since last read. The content from the earlier Read tool_result in this "
    "conversation is still current — refer to that instead of re-reading."
)
REJECTED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was "
    "a file edit, the new_string was NOT written to the file)."
)
NOTICES = (
    *(UNCHANGED, REJECTED, "The user rejected this tool use.", "Request timed out after 30 s"),
    *("Command timed out after 2m 0.0s", "[Request interrupted by user for tool use]", ""),
    *("Command running in background with ID: bash_1", "<file too large; showing summary>"),
    *("[content identical to previous read, see above]", "bash: command not found"),
    *(FILE[:150] + "[output truncated]", "Error: 429 rate limited", "[… 812 tokens omitted: x]"),
)


@pytest.mark.parametrize("notice", NOTICES)
@pytest.mark.parametrize("is_error", [None, False])
def test_a_notice_about_the_call_itself_replaces_no_result(notice, is_error):
    for made in (
        step(FILE, "Read", file_path="/src/a.py"),
        step(FILE, "web_search", query="pumps"),
        step(FILE, "list_files", path="/src"),
        bash(FILE, "git diff"),
        bash(FILE, "pytest -q"),
        bash(FILE, "cat a.py"),
    ):
        later = replace(made, text=notice, is_error=is_error)
        assert reasons(made, later) == {}
        if notice:  # what comes behind it counts; an empty text may be what holds then
            assert reasons(made, later, made)[0] == "repeated"


@pytest.mark.parametrize(
    "notice",
    [
        *(REJECTED, "Operation cancelled", "Write was not permitted", "Could not write the file"),
        *("Blocked by a hook", "Dry run: 3 lines", "Error: disk full", "Waiting for approval"),
    ],
)
def test_a_write_that_was_not_made_replaces_no_read(notice):
    for read in (READ, step(FILE, "Read", path="src/a.py")):
        assert reasons(read, replace(WRITE, text=notice)) == {}
    assert reasons(bash(FILE, "cat a.py"), bash(notice, "cat > a.py <<EOF\nx\nEOF")) == {}


def test_a_long_result_that_ends_by_a_timeout_replaces_none():
    late = bash(OTHER + "Command timed out after 2m 0.0s", "pytest")
    assert reasons(bash(FILE, "pytest"), late) == {}
    cut = bash(OTHER + "[… 99 lines truncated …]\n" + OTHER, "pytest")
    assert reasons(bash(FILE, "pytest"), cut) == {}
    assert reasons(cut, replace(cut, text=cut.text + "x")) == {0: "repeated"}  # both were cut


def items(first: int) -> str:
    rows = [
        {"id": i, "body": f"text{i * 7}", "from": f"user{i * 3}"} for i in range(first, first + 9)
    ]
    return json.dumps(rows)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("fetch_results", {"cursor": "next"}), ("read_queue", {"n": 10})),
        *(("get_items", {"n": 9}), ("web_search", {"query": "pumps"})),
    ],
)
def test_a_tool_that_shows_something_else_replaces_nothing(name, arguments):
    for earlier, later in ((FILE, OTHER), (items(1), items(10))):
        assert reasons(step(earlier, name, **arguments), step(later, name, **arguments)) == {}


def test_a_tool_that_shows_most_of_it_again_replaces_it():
    for text, later in (
        ('{"id": 7, "state": "pending", "total": 3}', '{"id": 7, "state": "sent", "total": 3}'),
        (items(1), items(2)),
        (FILE, FILE + OTHER),
    ):
        made = step(text, "get_order", id=7)
        assert reasons(made, replace(made, text=later)) == {0: "repeated"}
    queue = step(FILE, "read_queue", n=10)
    assert reasons(queue, replace(queue, text=FILE + OTHER)) == {}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        *(("change_directory", {"path": "/x"}), ("set_dir", {"path": "/x"}), ("cd", {"to": "/x"})),
        *(
            ("switch_account", {"id": 2}),
            ("git_checkout", {"branch": "b"}),
            ("use_project", {"id": 3}),
        ),
        *(("browser_navigate", {"url": "b"}), ("bash", {"command": "cd sub"})),
    ],
)
def test_a_tool_that_changes_the_place_makes_the_same_call_another(name, arguments):
    there = step("ok", name, **arguments)
    for made in (step(FILE, "list_directory", path="."), bash(FILE, "ls -la")):
        assert reasons(made, there, replace(made, text=FILE + "x")) == {}
        assert reasons(there, made, replace(made, text=FILE + "x")) == {1: "repeated"}
    assert (
        reasons(
            step(FILE, "Read", path="a.py"), there, step("ok", "Write", path="a.py", content="x")
        )
        == {}
    )


@pytest.mark.parametrize(
    "command", ["stash", "commit -am x", "reset --hard", "pull", "merge b", "rebase b", "clean -fd"]
)
@pytest.mark.parametrize("seen", ["git diff", "pytest -q", "git status"])
def test_a_command_on_another_state_of_the_repository_is_another_command(command, seen):
    steps = [bash(FILE, seen), bash("ok", f"git {command}"), bash(OTHER, seen)]
    assert reasons(*steps) == {}
    assert reasons(bash(FILE, seen), bash("ok", "git add a.py"), bash(OTHER, seen)) == {
        0: "repeated"
    }
    chained = [bash(FILE, seen), bash(OTHER, f"git {command} && {seen}"), bash(OTHER + "x", seen)]
    assert reasons(*chained) == {}


def test_the_end_of_a_log_that_goes_on_is_not_shown_again():
    assert reasons(bash(FILE, "tail -60 app.log"), bash(OTHER, "tail -60 app.log")) == {}


@pytest.mark.parametrize(
    "command", ["cat settings.toml", "ls -la", "systemctl status app", "git status", "pytest -q"]
)
@pytest.mark.parametrize(
    ("before", "between"),
    [
        ("cd /srv/alpha", "cd /srv/beta"),
        ("ssh a", "ssh b"),
        ("ls", "cd /srv/beta && ls"),
        ("ls", "pushd /srv/beta; ls"),
        ("cd /srv/alpha", "cd .."),
        ("ls", "sudo -i"),
        ("su ada", "exit"),
        ("ls", "docker exec -it db bash"),
        ("ls", "kubectl config use-context b"),
        ("ls", "export STAGE=b"),
        ("ls", ". venv/bin/activate"),
        ("ls", "source b.env"),
        ("ls", "conda activate b"),
        ("ls", "nvm use 20"),
        ("ls", "git checkout b"),
        ("ls", "git -C . switch b"),
        ("ls", "if true; then cd /srv/beta; fi"),
    ],
)
def test_a_command_at_another_place_is_another_command(before, between, command):
    steps = [bash("", before), bash(FILE, command), bash("", between), bash(OTHER, command)]
    assert reasons(*steps) == {}
    failed = replace(bash(FILE, command), is_error=True)
    assert reasons(bash("", before), failed, bash("", between), bash(OTHER, command)) == {}
    there = [bash("", before), bash(FILE, command), bash(OTHER, command)]
    assert reasons(*there) == {1: "repeated"}


@pytest.mark.parametrize(
    "command",
    [
        *("./jobs pop", "cd .. && ls", "cat a.txt && ./jobs pop", "echo $(./jobs pop)"),
        *("echo `./jobs pop`", "find . -exec ./jobs pop {} +", "python pop.py", "git fetch"),
        *("ls; cd /srv", "ssh a uptime", "./jobs pop | tail -3", "diff a <(./jobs pop)"),
    ],
)
def test_a_command_that_may_show_something_else_each_time_stays(command):
    assert reasons(bash(FILE, command), bash(OTHER, command)) == {}


def test_a_file_in_one_folder_is_not_written_or_read_in_another():
    read, away = bash(FILE, "cat a.toml"), bash("", "cd /srv/beta")
    for later in (bash("", "cat > a.toml <<EOF\nx\nEOF"), bash(FILE + "x", "cat a.toml")):
        assert reasons(read, away, later) == {}
        assert list(reasons(read, later)) == [0]
    lost = bash("sh: cd: web: no such folder", "cd web && ls")
    made = [lost, bash(FILE, "ls"), bash("", "cd web && ls"), bash(OTHER, "ls")]
    assert reasons(*made) == {}


def test_of_a_shell_that_was_started_anew_nobody_knows_where_it_is():
    anew = step("restarted", "bash", restart=True)
    assert reasons(bash(FILE, "ls"), anew, bash(OTHER, "ls")) == {}
    assert reasons(bash(FILE, "ls"), step("?", None), bash(OTHER, "ls")) == {}


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("add_comment", {"text": "nit: rename"}),
        ("create_comment", {"text": "nit: rename"}),
        ("add_lines", {"content": "x = 1"}),
        ("write_lines", {"content": "x = 1"}),
        ("upload_file", {"text": "caption"}),
        ("apply_diff", {"content": "@@ -1 +1 @@\n-x\n+y"}),
        ("append_to_file", {"content": "x"}),
        ("insert_text", {"text": "x"}),
        ("patch_file", {"content": "x"}),
        ("update_file", {"content": "x"}),
        ("write_file", {"content": "x", "mode": "append"}),
        ("write_file", {"content": "x", "append": True}),
        ("write_file", {"content": "x", "start_line": 3}),
        ("editor", {"command": "insert", "text": "x"}),
    ],
)
def test_a_write_that_is_no_whole_write_replaces_no_read(name, arguments):
    assert reasons(READ, step("ok", name, path="src/a.py", **arguments)) == {}


@pytest.mark.parametrize(
    "name", ["write_file", "Write", "create_file", "save_file", "overwrite_file", "put_file"]
)
def test_a_whole_write_replaces_a_read(name):
    assert reasons(READ, step("ok", name, path="src/a.py", content="x")) == {0: "written anew"}
    whole = {"content": "x", "append": False, "mode": "w"}
    assert reasons(READ, step("ok", name, path="src/a.py", **whole)) == {0: "written anew"}


def test_plans_what_was_asked_back_and_the_last_steps_stay():
    plan = step("1. read\n2. fix", "TodoWrite", todos="x")
    back = step(FILE, "mcp__tamis__retrieve", id="ab")
    assert reasons(plan, plan, back, back) == {}
    assert is_floor(plan)
    assert superseded_steps([READ, READ, READ], keep_last=2) == {0: superseded_steps([READ] * 3)[0]}
    assert superseded_steps([READ, READ], keep_last=2) == {}


def test_of_an_error_stays_the_line_that_says_why_verbatim():
    text = read_output("pytest.txt")
    found = superseded_steps(
        [replace(bash(text, "pytest"), is_error=True), bash("3 passed", "pytest"), *LAST]
    )[0]
    cause, marker = found.shown(812, "hash=ab").splitlines()
    assert (cause + "\n") in text
    assert marker == "[… 812 tokens omitted: a later call succeeded; hash=ab]"


def test_what_stands_in_its_place_is_not_replaced_again():
    marked = READ
    for _ in range(2):
        found = superseded_steps([marked, READ, *LAST])
        marked = step(found[0].shown(500), path="src/a.py") if found else marked
    assert superseded_steps([marked, READ, *LAST]) == {}


def test_one_more_step_changes_no_reason_that_was_given():
    """But from one to another: what went stays gone, so a prompt's beginning can stay the same."""
    steps = [READ, bash(TRACE, "python a.py"), EDIT, READ, bash("42", "python a.py"), WRITE, READ]
    gone: set[int] = set()
    for n in range(len(steps) + 1):
        found = set(superseded_steps(steps[:n]))
        assert found >= gone
        gone = found
    assert gone == {0, 1, 3}


@pytest.mark.parametrize(
    ("text", "failed"),
    [
        ("bash: foo: command not found", True),
        ("a\nb\nExit code: 2", True),
        (TRACE, True),
        ('{"isError": true, "content": []}', True),
        ('{"success": false}', True),
        ('{"error": null, "rows": [1]}', False),
        ("3 passed", False),
        ("the error handler is in a.py", False),
        ("", False),
    ],
)
def test_a_failed_call_is_told_by_its_text_unless_its_protocol_says(text, failed):
    assert has_failed(ToolOutput(text)) is failed
    assert has_failed(ToolOutput(text, is_error=True))
    assert not has_failed(ToolOutput(text, is_error=False))


def test_older_steps_are_ranked_by_what_is_asked_now():
    steps = [bash("the pump of hall 7 leaks", "cat pumps"), bash("walls are blue", "cat walls")]
    first, second = rank_steps(steps, "Which pump leaks?")
    assert first > second
