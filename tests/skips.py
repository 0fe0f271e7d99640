"""A skipped test proves nothing: `--allowed-skips FILE` fails the run unless the file names it.

The file holds one test id a line, as pytest prints it; lines that start with # are the reasons.
"""

from __future__ import annotations

from pathlib import Path

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--allowed-skips",
        metavar="FILE",
        help="fail when a test is skipped that this file does not name, one id a line",
    )


def pytest_configure(config: pytest.Config) -> None:
    if file := config.getoption("--allowed-skips"):
        config.pluginmanager.register(Skips(allowed(config.rootpath / file)), "skips-not-allowed")


def allowed(file: Path) -> frozenset[str]:
    """The ids a file names; a file that is missing is an error, not an empty list."""
    if not file.is_file():
        raise pytest.UsageError(f"--allowed-skips names {file}, and there is no such file")
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return frozenset(line for line in lines if line and not line.startswith("#"))


class Skips:
    """Collects the skips of a run that nobody allowed."""

    def __init__(self, allowed: frozenset[str]) -> None:
        self.allowed = allowed
        self.stray: list[str] = []

    def _hear(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        # an expected failure is reported as skipped, too; it did run
        if report.skipped and not hasattr(report, "wasxfail") and report.nodeid not in self.allowed:
            self.stray.append(report.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._hear(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._hear(report)

    # first, so that the closing line already knows the new exit status
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.stray and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.stray:
            terminalreporter.section("skipped, and not allowed to be", red=True)
            for nodeid in self.stray:
                terminalreporter.line(nodeid)
