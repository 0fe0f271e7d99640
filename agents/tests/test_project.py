"""The package of tamis-agents: everything on disk is in it, and tamis says how to install it."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis.probes.plugins import AGENTS, INSTALL
from tamis.service.cli.commands import COMMANDS
from tamis.service.cli.quick import find_quick_command
from tamis.service.http.app import open_gateway
from tamis.service.http.runtime.settings import Settings
from tests.import_graph import agents_files
from tests.plugin_kit import alone as alone
from tests.service.cli.cli_kit import tamis

FOLDER = Path(__file__).parents[1]
PROJECT = tomllib.loads((FOLDER / "pyproject.toml").read_text("utf-8"))
TAMIS = tomllib.loads((FOLDER.parent / "pyproject.toml").read_text("utf-8"))
POINTS = PROJECT["project"]["entry-points"]
NAMES = sorted(POINTS["tamis.commands"])


def test_every_package_on_disk_is_listed():
    on_disk = {path.parent for path in agents_files() if path.name == "__init__.py"}
    names = PROJECT["tool"]["setuptools"]["packages"]
    listed = {FOLDER / n.removeprefix("tamis_agents").strip(".").replace(".", "/") for n in names}
    assert listed == on_disk == {path.parent for path in agents_files()}


def test_it_has_the_version_of_tamis_and_needs_that_one():
    version = PROJECT["project"]["version"]
    assert version == TAMIS["project"]["version"]
    assert PROJECT["project"]["dependencies"] == [f"tamis=={version}"]


def test_no_extra_of_tamis_names_it():
    """It needs tamis; a circle of distributions helps nobody."""
    assert AGENTS == PROJECT["project"]["name"]
    assert AGENTS not in str(TAMIS["project"])


def test_tamis_names_all_its_commands_where_it_is_not_installed():
    assert NAMES == sorted(name for name, home in COMMANDS.items() if home == AGENTS)


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", NAMES)
def test_a_command_is_answered_with_the_line_that_installs_it(name: str):
    for words in ((name,), (name, "--help"), (name, "--", "true")):
        done = tamis(*words)
        assert done.exit_code == 2
        said = " ".join(done.stderr.replace("│", "").split())
        assert f"there is no command '{name}': it comes with {AGENTS}: {INSTALL[AGENTS]}" in said
    assert name not in tamis("--help").stdout.split()


@pytest.mark.usefixtures("alone")
def test_an_upstream_is_answered_with_the_line_that_installs_its_gateway():
    assert open_gateway(Settings()) is None
    with pytest.raises(BadInput, match=f"{INSTALL[AGENTS]}$"):
        open_gateway(Settings(upstream="http://localhost:9"))


def test_quick_commands_are_found_as_all_are():
    quick = {name: find_quick_command(name) for name in [*COMMANDS, "lab", "nothing"]}
    found = {name: module.__name__ for name, module in quick.items() if module is not None}
    assert set(found) == {"hook", "pipe", "run"}
    for name, module in found.items():
        assert POINTS["tamis.commands"][name] == f"{module}:run"
