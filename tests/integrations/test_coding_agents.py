"""Claude Code and Codex themselves call `tamis hook`; only their models are scripts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest

from tests.integrations.coding_agent_models import model_server
from tests.service.agents.recorded import ERROR, LOG, PASSED, QUESTION, SUMMARY

CONFIG = """
model = "gpt-5"
model_provider = "script"
approval_policy = "never"
sandbox_mode = "danger-full-access"
[features]
hooks = true
[model_providers.script]
name = "script"
base_url = "{url}/v1"
wire_api = "responses"
"""


def binary(package: str, name: str) -> Path:
    """The program in a package."""
    found = [file for file in files(package) or () if file.name == name]
    return max((Path(file.locate()) for file in found), key=lambda path: path.stat().st_size)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home, with a script `tamis` and what the shell is to print."""
    script = tmp_path / "tamis"
    script.write_text(f"#!{sys.executable}\nfrom tamis.service.cli.main import run\nrun()\n")
    script.chmod(0o755)
    (tmp_path / "log.txt").write_text(LOG)
    (tmp_path / "project").mkdir()
    return tmp_path


def settings(home: Path, agent: str) -> str:
    """What `--print-settings` prints."""
    words = [home / "tamis", "hook", agent, "--ratio", "0.2", "--print-settings"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=120)
    return done.stdout


def run(home: Path, *words: object, **variables: str) -> None:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=home / "project",
        env={"PATH": os.environ["PATH"], "HOME": str(home), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "done" in done.stdout


def check_result(text: str, log: str) -> None:
    """It is the log's, shorter, with what matters."""
    assert {ERROR, SUMMARY} <= set(text.splitlines())
    assert "omitted" in text
    assert len(text) < len(log) / 2


def run_claude_code(home: Path, command: str) -> str:
    """The result that the model read."""
    (home / "settings.json").write_text(settings(home, "claude-code"))
    with model_server(command) as model:
        run(
            home,
            *(binary("claude-agent-sdk", "claude"), "-p", QUESTION, "--allowedTools", "Bash"),
            *("--settings", home / "settings.json"),
            ANTHROPIC_BASE_URL=model.url,
            ANTHROPIC_API_KEY="sk-script",
            CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC="1",
            DISABLE_AUTOUPDATER="1",
            IS_SANDBOX="1",
        )
        return model.results()[-1]


def test_claude_code_reads_the_shorter_result(home):
    check_result(run_claude_code(home, f"cat {home / 'log.txt'}"), LOG)


def test_claude_code_reads_a_long_output_as_the_hook_shortened_it(home):
    """Over 30,000 characters, of which it would show 2 KB if the answer named its file."""
    long = LOG.replace(ERROR, "\n".join([*(f"step {i} PASSED" for i in range(5000)), ERROR]))
    (home / "log.txt").write_text(long)
    shown = run_claude_code(home, f"cat {home / 'log.txt'}")
    assert ERROR in shown.splitlines()
    assert "[the whole output: " in shown
    assert len(shown) < 20_000


def test_codex_reads_the_shorter_result(home):
    """Of a log that Codex does not cut by itself before its hooks see it."""
    log = "\n".join([*PASSED[:50], ERROR, *PASSED[50:100], SUMMARY])
    (home / "log.txt").write_text(log)
    with model_server(f"cat {home / 'log.txt'}") as model:
        (home / ".codex").mkdir()
        (home / ".codex/config.toml").write_text(CONFIG.format(url=model.url))
        (home / ".codex/hooks.json").write_text(settings(home, "codex"))
        run(
            home,
            *(binary("openai-codex-cli-bin", "codex"), "exec", "--skip-git-repo-check"),
            *("--dangerously-bypass-hook-trust", QUESTION),
        )
        check_result(model.results()[-1], log)


def test_the_settings_are_json_that_both_read(home):
    for agent in ("claude-code", "codex"):
        assert json.loads(settings(home, agent))["hooks"]["PostToolUse"][0]["matcher"] == "*"
