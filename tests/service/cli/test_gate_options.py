"""`--gate` and `--cascade` reach the method, and so do the settings of a service."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tamis.compressors.features import gate as gates
from tamis.compressors.methods import question_rows
from tamis.service.cli.app import build_app
from tamis.service.cli.options.typer_options import gate_options
from tamis.service.http.runtime.methods import ServedMethods
from tamis.service.http.runtime.settings import Settings
from tests.compressors.features.test_stages import gate_probe
from tests.laws.methods import question_probe
from tests.probes import tiny


def test_what_is_left_at_its_default_is_not_given_to_the_method():
    assert gate_options("auto", True) == {}
    assert gate_options("off", True) == {"gate": False}
    assert gate_options("on", True) == {"gate": True}
    assert gate_options("mine.safetensors", False) == {
        "gate": Path("mine.safetensors"),
        "cascade": False,
    }


@pytest.mark.parametrize("command", ["compress", "rerank"])
def test_a_method_without_a_gate_refuses_one(command, tmp_path):
    page = tmp_path / "page.txt"
    page.write_text("The bridge was opened in 1792. Boats pass below.", "utf-8")
    words = [command, str(page), "-q", "When?", "--method", "lexical", "--gate", "on"]
    words += ["--max-tokens", "9"] if command == "compress" else []
    done = CliRunner().invoke(build_app(), words)
    assert done.exit_code == 2
    assert "lexical has no option ['gate']" in done.output


def test_a_service_uses_the_gate_that_ships_for_its_proxy_unless_told_not_to(monkeypatch):
    reader = tiny.proxy()
    probe = question_probe(reader)
    for name in ("choose_probe", "shipped_probe"):
        monkeypatch.setattr(question_rows, name, lambda *_: probe)
    gate = gate_probe(reader, [1, 0.5, 10])
    monkeypatch.setattr(gates, "choose_probe", lambda *_: gate)
    for wanted in (True, False):
        served = ServedMethods(Settings(gate=wanted, cascade=False, proxy="tiny"), reader)
        method = served.scorer("question_rows")
        assert (method.gate is not None) is wanted
        assert method.cascade is False
    monkeypatch.setattr(gates, "choose_probe", lambda *_: None)
    served = ServedMethods(Settings(proxy="tiny"), reader)
    assert served.scorer("question_rows").gate is None
    assert served.scorer("lexical")
