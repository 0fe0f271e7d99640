"""`--gate` and `--cascade` reach the method, and a service with a gate needs one that ships."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tamis.probes.errors import BadInput
from tamis.probes.scripted import ScriptedReader
from tamis.service.cli.app import app
from tamis.service.cli.options.method_options import gate_options
from tamis.service.http.runtime.methods import ServedMethods
from tamis.service.http.runtime.settings import Settings


def test_what_is_left_at_its_default_is_not_given_to_the_method():
    assert gate_options("off", True) == {}
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
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "lexical has no option ['gate']" in done.output


def test_a_service_with_a_gate_needs_one_that_ships():
    reader = ScriptedReader.from_needles("a")
    served = ServedMethods(Settings(gate=True, proxy="scripted"), reader)
    with pytest.raises(BadInput, match="gate is True, and there is none for scripted"):
        served.scorer("question_rows")
    assert served.scorer("lexical")
