"""lab/docs/readings.md: the file it shows is a reading as it stands; no other file is touched."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from lab.tests.bench.records import people, write
from lab.tests.methods.window_attention import kit
from tamis.probes.errors import BadInput, UnknownMethod
from tamis_lab.bench.readings import CaseReader, compare_readings
from tamis_lab.methods import readings, registry
from tests.example_checks import ROOT, check_lint_and_format, check_types
from tests.fences import blocks
from tests.service.cli.cli_kit import tamis

PAGE = ROOT / "lab/docs/readings.md"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The page's code in a folder of its own, beside raw attention."""
    (code,) = blocks(PAGE.read_text("utf8"), "python")
    file = tmp_path / "last_row.py"
    file.write_text(code, "utf8")
    return file


@pytest.fixture
def register_example(example: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder in place of the one with the readings that ship, raw attention beside it."""
    (example.parent / "raw.py").write_text(
        (registry.READINGS.folder / "raw.py").read_text("utf8"), "utf8"
    )
    monkeypatch.setattr(registry.READINGS, "folder", example.parent)
    monkeypatch.setattr(readings, "__path__", [*readings.__path__, str(example.parent)])


@pytest.mark.usefixtures("register_example")
def test_it_is_found_by_its_file_and_reads():
    assert registry.READINGS.names() == ["last_row", "raw"]
    made = kit.proxy()
    reading = registry.READINGS.load("last_row")(made)
    window = kit.window(reading)
    full = kit.full_attention(made, kit.ids_of(made, kit.QUESTION)).weights
    due = full[:, :, -1, window.shape.passage]
    torch.testing.assert_close(reading.token_weights(window, 0), due, atol=2e-5, rtol=1e-4)
    assert reading.pool(window, kit.SPANS).shape == (2, 2 * kit.LAYERS * kit.HEADS)


@pytest.mark.usefixtures("register_example")
def test_the_command_line_lists_it_with_its_paper():
    rows = json.loads(tamis("lab", "kinds", "--kind", "reading", "--json").stdout)
    assert [row["name"] for row in rows] == ["last_row", "raw"]
    assert rows[0]["source"] == registry.READINGS.load("last_row").info.source


@pytest.mark.usefixtures("register_example")
def test_the_benchmark_compares_it(tmp_path: Path):
    from tamis_lab.datasets.record_files import RecordFile

    file = RecordFile(write(tmp_path / "people.jsonl", people()), 8)
    found = compare_readings(
        kit.proxy(),
        ["last_row"],
        [file],
        None,
        (0.2,),
        layers=2,
        folder=tmp_path / "kept",
        timed=0,
        seed=0,
        report=lambda *_: None,
    )
    row = found["sets"]["people"]["rows"]["last_row"]
    assert set(row) == {"plain", "heads", "probe", "added"}
    assert all(0 <= column["kept"]["0.2"] <= 1 for column in row.values())


def test_a_name_or_an_option_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(UnknownMethod, match="did you mean 'rollout'"):
        registry.READINGS.load("rolout")
    with pytest.raises(BadInput, match="its options are"):
        CaseReader(kit.proxy(), ["raw:colour=red"], 2, tmp_path)


def test_it_passes_lint_and_format(example: Path):
    check_lint_and_format(example)


def test_it_passes_the_strict_type_check(example: Path):
    check_types(example)


def test_its_class_is_a_few_lines(example: Path):
    body = re.split(r"\nclass .*", example.read_text("utf8"))[1].partition("Reading =")[0]
    assert len([line for line in body.splitlines() if line.strip()]) <= 8
