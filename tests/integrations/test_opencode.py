"""OpenCode itself loads the plugin of `tamis hook opencode`; only its model is a script."""

from __future__ import annotations

import json
import platform
import sys
from pathlib import Path

import pytest

from tests.integrations.coding_agent_models import model_server
from tests.integrations.test_coding_agents import check_result, home, run, settings
from tests.service.agents.recorded import LOG, QUESTION

__all__ = ["home"]
pytestmark = pytest.mark.timeout(900)
MACHINE = {"x86_64": "x64", "aarch64": "arm64"}[platform.machine()]
PROGRAM = Path(sys.prefix) / f"node_modules/opencode-linux-{MACHINE}/bin/opencode"
QUIET = ("AUTOUPDATE", "DEFAULT_PLUGINS", "LSP_DOWNLOAD", "MODELS_FETCH")


def results(home: Path, plugin: str) -> list[str]:
    """What the model read of the shell, with a plugin or, if it is empty, without one."""
    folder = home / ".config/opencode"
    (folder / "plugins").mkdir(parents=True, exist_ok=True)
    if plugin:
        (folder / "plugins/tamis.js").write_text(plugin)
    (home / "project/log.txt").write_text(LOG)
    with model_server("cat log.txt") as model:
        options = {"baseURL": f"{model.url}/v1", "apiKey": "sk-script"}
        provider = {"npm": "@ai-sdk/openai-compatible", "options": options}
        chosen = {"model": "script/m", "small_model": "script/m", "permission": {"bash": "allow"}}
        provided = {"provider": {"script": provider | {"models": {"m": {"tool_call": True}}}}}
        (folder / "opencode.json").write_text(json.dumps(chosen | provided))
        variables = {f"OPENCODE_DISABLE_{name}": "1" for name in QUIET}
        run(home, PROGRAM, "run", QUESTION, **variables)
        return model.results()


def test_opencode_reads_what_tamis_run_left_of_the_output(home):
    """Its first start with a plugin installs what plugins may import, which takes a while."""
    [whole] = results(home, "")
    assert whole.splitlines() == LOG.splitlines()
    [shown] = results(home, settings(home, "opencode"))
    check_result(shown, LOG)
    assert "tamis run --retrieve" in shown
