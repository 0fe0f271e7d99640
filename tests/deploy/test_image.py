"""What ships as an image and as a chart: the files agree with the code and with each other."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from tamis.service.http.runtime.settings import KNOBS, variable
from tamis.service.http.runtime.telemetry import GAUGES, Metrics
from tests.deploy import dockerfile

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/tamis"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VARIABLES = {variable(knob.name) for knob in KNOBS}


def load_script(name: str) -> ModuleType:
    """A script of deploy/, which is no package."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", DEPLOY / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


STAGES = dockerfile.parse_stages(DEPLOY / "Dockerfile")


def above(name: str) -> list:
    """The steps of a stage and of all it stands on, from the ground up."""
    if name not in STAGES:
        return []
    return [*above(STAGES[name].parent), *STAGES[name].steps]


def test_every_step_of_the_image_is_one_of_the_script():
    script = (DEPLOY / "build.sh").read_text("utf-8")
    known = set(re.findall(r"^([a-z]+)\) #", script, re.MULTILINE))
    run = [s.rest.split() for stage in STAGES.values() for s in stage.steps if s.verb == "RUN"]
    assert {words[0] for words in run} == {"sh"}
    assert {words[1] for words in run} == {"/build.sh"}
    assert {words[2] for words in run} == known


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_both_targets_run_as_nobody_and_start_without_a_network(target):
    steps = above(target)
    env = {
        k: v
        for s in steps
        if s.verb == "ENV"
        for k, v in dockerfile.parse_assignments(s.rest).items()
    }
    assert [s.rest for s in steps if s.verb == "USER"] == ["10001:10001"]
    assert env["HF_HUB_OFFLINE"] == "1"
    assert {name for name in env if name.startswith("TAMIS_")} <= VARIABLES
    model = next(s for s in steps if s.verb == "COPY" and s.flag("from") == "model")
    assert model.rest.split()[1] == env["TAMIS_HOME"]
    assert [s.rest for s in steps if s.verb in ("ENTRYPOINT", "CMD")] == ['["tamis"]', '["serve"]']
    (health,) = [s.rest for s in steps if s.verb == "HEALTHCHECK"]
    assert "/readyz" in health


def test_the_context_is_what_the_wheels_are_built_of_and_nothing_else():
    files = dockerfile.context_files(ROOT, dockerfile.ignore_patterns(DEPLOY / "Dockerfile"))
    folders = {name.split("/")[0] for name in files}
    package_folders = {
        f.split("/")[0] for f in PROJECT["tool"]["setuptools"]["package-dir"].values()
    }
    assert folders == {
        *(*package_folders, "agents", "deploy"),
        *("pyproject.toml", "README.md", "LICENSE"),
    }
    assert [name for name in files if "__pycache__" in name or "/tests/" in name] == []
    wanted = {
        s.rest.split()[0] for stage in STAGES.values() for s in stage.steps if s.verb == "COPY"
    }
    assert {name for name in wanted if name.startswith("deploy/")} <= set(files)


@pytest.mark.parametrize(
    ("patterns", "path", "out"),
    [
        (["*", "!a"], "a/b.py", False),
        (["*", "!a", "**/b"], "a/c/b/d.py", True),
        (["*", "!a/b"], "a/c", True),
        ([".venv"], ".venv/bin/python", True),
        ([".venv"], "x/.venv", False),
        (["*.egg-info"], "t.egg-info/PKG", True),
        ([], "a", False),
    ],
)
def test_the_last_pattern_that_matches_decides(patterns, path, out):
    assert dockerfile.is_ignored(path, patterns) is out


def test_a_line_that_is_not_understood_is_refused_by_name(tmp_path):
    """A step that was passed over in silence would be proved without having been run."""
    file = tmp_path / "Dockerfile"
    file.write_text("FROM debian:trixie AS a\nRUN true\nONBUILD RUN false\n")
    with pytest.raises(dockerfile.UnknownInstruction, match="ONBUILD"):
        dockerfile.parse_stages(file)


def test_a_run_with_continuations_flags_and_comments_is_one_step(tmp_path):
    file = tmp_path / "Dockerfile"
    file.write_text(
        "FROM debian:trixie AS a\n# no\nRUN --network=none --mount=type=cache,id=p a \\\n  && b\n"
    )
    (step,) = dockerfile.parse_stages(file)["a"].steps
    assert step.flag("network") == "none"
    assert step.flag("mount") == "type=cache,id=p"
    assert step.rest.split() == ["a", "&&", "b"]


def test_compose_starts_a_locked_service_and_a_prometheus_that_finds_it():
    document = yaml.safe_load((DEPLOY / "compose.yml").read_text("utf-8"))
    tamis, prometheus = document["services"]["tamis"], document["services"]["prometheus"]
    assert set(tamis["environment"]) <= VARIABLES
    for service in (tamis, prometheus):
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert tamis["environment"]["TAMIS_KEYS_FILE"] == f"/run/secrets/{tamis['secrets'][0]}"
    scraped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text("utf-8"))
    assert scraped["scrape_configs"][0]["static_configs"][0]["targets"] == ["tamis:8080"]
    drain = next(k.default for k in KNOBS if k.name == "drain_timeout_s")
    grace = float(tamis["stop_grace_period"].removesuffix("s"))
    assert grace > drain + float(tamis["environment"]["TAMIS_DRAIN_DELAY_S"])


def test_alerts_speak_of_meters_that_there_are():
    metrics = Metrics()
    for name in GAUGES:
        metrics.add_gauge(name, float)
    there = {s.name for family in metrics.registry.collect() for s in family.samples}
    there |= {f"{f.name}_total" for f in metrics.registry.collect() if f.type == "counter"}
    there |= {f"{f.name}_bucket" for f in metrics.registry.collect() if f.type == "histogram"}
    document = yaml.safe_load((DEPLOY / "prometheus/alerts.yml").read_text("utf-8"))
    rules = [rule for group in document["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        assert set(re.findall(r"tamis_\w+", rule["expr"])) <= there, rule["alert"]


def test_the_chart_is_of_this_version_and_its_variables_are_knobs():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text("utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    assert chart["version"] == chart["appVersion"] == PROJECT["project"]["version"]
    assert set(values["env"]) <= VARIABLES
    text = "".join(f.read_text("utf-8") for f in sorted((CHART / "templates").rglob("*.yaml")))
    assert set(re.findall(r"TAMIS_[A-Z_]+", text)) - {"TAMIS_API_KEY", "TAMIS_PORT"} <= VARIABLES
    assert set(re.findall(r"path: (/\w+), port", text)) == {"/readyz", "/livez"}


def test_every_value_of_the_chart_is_used_and_every_use_has_a_value():
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    parts = [f.read_text("utf-8") for f in sorted((CHART / "templates").rglob("*.*"))]
    used = set(re.findall(r"\.Values\.(\w+(?:\.\w+)?)", "".join(parts)))
    leaves = {f"{k}.{n}" for k, v in values.items() if isinstance(v, dict) for n in v}
    top = set(values)
    assert {name for name in used if "." in name and not name.startswith("env.")} <= leaves
    assert {name.split(".")[0] for name in used} == top


def test_the_autoscaler_reads_a_meter_that_there_is_and_that_the_adapter_offers():
    text = (CHART / "templates/scaling.yaml").read_text("utf-8")
    (meter,) = re.findall(r"metric: \{name: (\w+)\}", text)
    assert meter.removeprefix("tamis_") in GAUGES
    rules = yaml.safe_load((DEPLOY / "prometheus/adapter.yml").read_text("utf-8"))["rules"]
    (rule,) = rules["custom"]
    assert rule["seriesQuery"].startswith(f"{meter}{{")
    assert rule["name"] == {"matches": f"^{meter}$", "as": meter}
    assert set(rule["resources"]["overrides"]) == {"namespace", "pod"}
    limits = {k.name: k.default for k in KNOBS}
    assert 0 < 8192 < limits["queue_tokens"]  # the value that values.yaml proposes


def test_an_autoscaler_goes_by_cpu_or_by_the_queue_or_is_refused():
    text = (CHART / "templates/scaling.yaml").read_text("utf-8")
    either = "not (or .Values.autoscaling.cpuPercent .Values.autoscaling.queueTokens)"
    assert text.index(either) < text.index("HorizontalPodAutoscaler")
    for value in ("cpuPercent", "queueTokens"):
        assert f"{{{{- if .Values.autoscaling.{value} }}}}" in text


def test_the_scripts_are_sound():
    for script in sorted(DEPLOY.glob("*.sh")):
        assert subprocess.run(["sh", "-n", script], check=False).returncode == 0, script
