"""What holds for every command of the lab."""

from __future__ import annotations

from lab.tests.bench.records import people, write
from tamis.probes.hub.cache_dir import cache_home
from tests.service.cli.cli_kit import tamis


def test_every_command_keeps_to_the_folder_of_the_variable(tmp_path, monkeypatch):
    """Whatever reads with a model: not compress and serve alone, whose --home it is."""
    monkeypatch.delenv("TAMIS_HOME", raising=False)
    before = cache_home()
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "home"))
    data = write(tmp_path / "people.jsonl", people())
    for words in (
        ("lab", "bench", "run", data, "--out", tmp_path / "out.jsonl"),
        ("lab", "probe", "train", "--data", data, "--out", tmp_path / "p.safetensors"),
        ("lab", "heads", "find", "--by", "contrast", "--data", data),
    ):
        asked = tamis(*words)
        assert asked.exit_code != 0, words
        assert "models pull" in asked.output, asked.output
    monkeypatch.delenv("TAMIS_HOME")
    assert cache_home() == before
