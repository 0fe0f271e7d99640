"""`tamis doctor`: checks the installation, and says how to repair it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import typer
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from tamis.compressors.options import Option
from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import TamisError
from tamis.probes.hub import sharpened, zoo
from tamis.probes.named_tokenizers import VOCABULARIES
from tamis.service.cli.display.output import dump_json, make_console
from tamis.service.cli.options.model_folder import HomeFolder, models_folder
from tamis.service.cli.options.typer_options import takes_options
from tamis.service.http.runtime.settings import unknown_variables

State = Literal["ok", "warn", "fail"]
STYLES: dict[State, str] = {"ok": "green", "warn": "yellow", "fail": "bold red"}
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "scikit-learn")
PYTHON = (3, 11)
DEVICES = {
    "cuda": "a GPU that torch can use",
    "mps": "Apple's GPU",
    "cpu": "no GPU that torch can use; enough for the default proxy",
}
NEEDLE = "The key is painted blue."
SHOWN = ("python", "torch", "device", "threads", "cache", DEFAULT_PROXY, "languages", "reading")
_SMOKE_MS = 1000
PULL = f"tamis models pull {DEFAULT_PROXY}"
FIRST_COMMAND = 'tamis compress FOLDER -q "Your question?" --max-tokens 500'
EPILOG = """
Exit status: 0 the default model is here and reads, whatever is warned of; 1 something fails, and
the line below it says how to mend it; 2 the call cannot be carried out.

**Examples**

`tamis doctor`

`tamis doctor --verbose` also packages, models, vocabularies, probes, and what is kept by language

`tamis doctor --json` for a support request
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check: its state, what was observed, and a remedy if there is one."""

    name: str
    state: State
    seen: str
    way_out: str = ""

    @property
    def is_shown(self) -> bool:
        """Whether it is printed without `--verbose`: what is not well, and a line on each area."""
        return self.state != "ok" or self.name in SHOWN


@takes_options(
    json=Option("Print a JSON object."), verbose=Option("Print every check.", short="-v")
)
def doctor(json: bool = False, verbose: bool = False, home: HomeFolder = None) -> None:
    """Check the installation, device, models and their probes, and measure reading speed."""
    found = list(findings(models_folder(home)))
    failed = any(finding.state == "fail" for finding in found)
    if json:
        checks = [asdict(finding) for finding in found]
        typer.echo(dump_json({"ok": not failed, "verdict": verdict(found), "checks": checks}))
    else:
        _print_findings([one for one in found if verbose or one.is_shown])
        typer.echo(verdict(found))
    if failed:
        raise typer.Exit(1)


def verdict(found: Sequence[Finding]) -> str:
    """One line: whether tamis can be used, and the next command."""
    failed = [finding for finding in found if finding.state == "fail"]
    if failed:
        checks = "1 check fails" if len(failed) == 1 else f"{len(failed)} checks fail"
        mend = next((finding.way_out for finding in failed if finding.way_out), "see above")
        return f"not ready, {checks} ({', '.join(f.name for f in failed)}); next: {mend}"
    warned = [finding.name for finding in found if finding.state == "warn"]
    missing = next((finding for finding in found if finding.name == "reading"), None)
    if missing is not None and missing.state == "warn":
        return f"not ready, the default model is not here; next: {PULL}"
    but = f", though {', '.join(warned)} could be better" if warned else ""
    return f"ready{but}; next: {FIRST_COMMAND}"


def findings(models: Path) -> Iterator[Finding]:
    """The results of all checks, cheap ones first; a check that raises becomes a finding."""
    checks: tuple[tuple[str, Callable[[Path], Iterator[Finding]]], ...] = (
        ("python", _check_python),
        ("packages", _check_packages),
        ("device", _check_device),
        ("variables", _check_variables),
        ("cache", _check_cache),
        ("models", _check_models),
        ("tokenizers", _check_tokenizers),
        ("probes", _check_probes),
        ("languages", _check_languages),
        ("reading", _check_reading),
    )
    for name, check in checks:
        try:
            yield from check(models)
        except Exception as error:  # a broken torch may raise anything
            seen = f"{type(error).__name__}: {error}".splitlines()[0]
            yield Finding(name, "fail", seen, "install tamis anew in a fresh environment")


def _check_python(models: Path) -> Iterator[Finding]:
    here = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < PYTHON
    way_out = "install tamis with Python {}.{} or newer".format(*PYTHON) if old else ""
    yield Finding("python", "fail" if old else "ok", f"{here}, tamis {version('tamis')}", way_out)


def _check_packages(models: Path) -> Iterator[Finding]:
    from packaging.requirements import Requirement

    wanted = {want.name: want for want in map(Requirement, requires("tamis") or ())}
    for name in PACKAGES:
        want = wanted[name]
        try:
            here = version(name)
        except PackageNotFoundError:
            yield Finding(name, "fail", "not installed", f'pip install "{want}"')
            continue
        fits = want.specifier.contains(here, prereleases=True)
        way_out = "" if fits else f'pip install "{want}"'
        yield Finding(name, "ok" if fits else "fail", here, way_out)


def _check_device(models: Path) -> Iterator[Finding]:
    import torch

    from tamis.probes.model.loading import choose_device, choose_dtype

    device = choose_device("auto")
    dtype = str(choose_dtype("auto", device)).removeprefix("torch.")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    yield Finding("device", "ok", f"{name}: {DEVICES[device.type]}")
    yield Finding("dtype", "ok", f"{dtype}: {_dtype_reason(dtype, device.type)}")
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0  # of the last minute
    yield _check_threads(torch.get_num_threads(), _usable_cores(), load)


def _check_threads(threads: int, cores: int, load: float) -> Finding:
    """Threads on one core wait for each other: beside other work, two were 25 times slower."""
    seen = f"{threads} threads on {cores} cores, load {load:.1f}"
    if threads == 1 or threads + load <= cores + 1:
        return Finding("threads", "ok", seen)
    free = max(1, cores - round(load))
    return Finding("threads", "warn", seen, f"other work is running; try OMP_NUM_THREADS={free}")


def _dtype_reason(dtype: str, device: str) -> str:
    if dtype == "float32":
        return "this processor does not multiply bfloat16 in hardware"
    if dtype == "bfloat16":
        return f"this {device} multiplies it in hardware"
    return f"this {device} does not multiply bfloat16"


def _usable_cores() -> int:
    """The cores that this process may use: a container often has fewer than the machine."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _check_variables(_: Path) -> Iterator[Finding]:
    """Misspelt variables, which only `tamis serve` refuses."""
    unknown = dict(unknown_variables(os.environ))
    for name, way_out in unknown.items():
        yield Finding("variables", "warn", f"{name} is no setting and has no effect", way_out)
    if not unknown:
        yield Finding("variables", "ok", "none with tamis's prefix is unknown")


def _check_cache(models: Path) -> Iterator[Finding]:
    existing = next(folder for folder in (models, *models.parents) if folder.exists())
    free, needed = shutil.disk_usage(existing).free, zoo.ZOO[DEFAULT_PROXY].disk_bytes
    if not os.access(existing, os.W_OK):
        yield Finding("cache", "warn", f"{models} cannot be written", "choose one with TAMIS_HOME")
    elif free < needed:
        seen = f"{models}, {decimal(free)} free; an installation needs {decimal(needed)}"
        yield Finding("cache", "warn", seen, "make room, or choose another folder with TAMIS_HOME")
    else:
        yield Finding("cache", "ok", f"{models}, {decimal(free)} free")


def _check_models(models: Path) -> Iterator[Finding]:
    here = {one.entry.name: one for one in zoo.installed_models(models)}
    for name, entry in zoo.ZOO.items():
        one, pull = here.get(name), f"tamis models pull {name}"
        if one is None and name == DEFAULT_PROXY:
            yield Finding(name, "fail", "not installed", f"{pull} ({decimal(entry.size_bytes)})")
        elif one is None:
            yield Finding(name, "ok", f"not installed: {entry.summary}", pull)
        elif one.fault:
            yield Finding(name, "fail", one.fault, pull)
        elif fault := _adapters_fault(entry):
            yield Finding(name, "fail", fault, "install tamis anew")
        else:
            size = f"{decimal(one.size_bytes)}, every file has its size"
            yield Finding(
                name, "ok", f"{entry.kind}, {size}", f"tamis models info {name} --verify hashes"
            )


def _check_tokenizers(_: Path) -> Iterator[Finding]:
    for one in VOCABULARIES:
        name, file = f"tokenizer {one.models[0] if one.models else one.name}", one.file()
        if file is None:
            yield Finding(name, "ok", f"vocabulary {one.name} not installed", one.install)
        else:
            yield Finding(name, "ok", f"vocabulary {one.name}, {file}")


def _adapters_fault(entry: zoo.ZooEntry) -> str:
    """What is wrong with the adapters that ship for a model; empty if nothing is."""
    try:
        if entry.base:
            sharpened.check_adapters(entry.name, entry.adapters_sha256)
    except TamisError as error:
        return str(error)
    return ""


def _check_probes(models: Path) -> Iterator[Finding]:
    from tamis.compressors.features.shipped_probes import WEIGHTS_FOLDER
    from tamis.probes.model.cross_encoder import SHIPPED, load_adapters
    from tamis.probes.probing.linear import LinearProbe

    files = sorted(WEIGHTS_FOLDER.glob("*.safetensors"))
    for file in files:
        card = LinearProbe.load(file).card
        entry, name = zoo.ZOO.get(card.model), f"probe of {card.method}, {card.model}"
        if entry is None or entry.revision == card.revision:
            seen = f"fits, reads {card.layers} layers"
            yield Finding(name, "ok", seen)
        else:
            seen = f"is for {card.model} {card.revision}; tamis pins {entry.revision}"
            yield Finding(name, "fail", seen, "install tamis anew")
    for file in sorted(SHIPPED.glob("*.safetensors")):
        adapters, _ = load_adapters(file)
        yield Finding(f"cross-encoder, {adapters.base}", "ok", "its adapters are whole")
    if not any(file.name.startswith(f"question_rows.{DEFAULT_PROXY}.") for file in files):
        seen = f"none ships for {DEFAULT_PROXY}: heads are averaged, scores are no probabilities"
        yield Finding("probes", "warn", seen, "tamis lab probe train --help")


def _check_languages(models: Path) -> Iterator[Finding]:
    """The evidence that each proxy keeps by language, and where one that is missing keeps more."""
    from tamis.service.api.languages import load_measurements

    here = {one.entry.name for one in zoo.installed_models(models) if one.fault is None}
    for name in load_measurements()["proxies"]:
        if name in here:
            yield Finding(f"languages of {name}", "ok", "\n".join(proxy_lines(name)))
        elif better := _languages_to_gain(name):
            seen = f"{name} keeps more in {', '.join(better)}, and is not installed"
            yield Finding(f"languages of {name}", "ok", seen, f"tamis models pull {name}")
    seen = f"measured in {', '.join(load_measurements()['languages'])}; no other language was"
    yield Finding(
        "languages", "ok", seen, "measure yours with tamis lab bench languages --data DIR"
    )


def proxy_lines(proxy: str) -> list[str]:
    """A proxy's figures, one line per language: evidence kept, lead over the best free method."""
    from tamis.service.api.languages import BUDGET, load_measurements

    lines = []
    for code, language in load_measurements()["languages"].items():
        figures = language["budgets"].get(BUDGET, {"methods": {}})
        if own := figures["methods"].get(proxy):
            ahead = [100 * value for value in own["ahead_of_free"]]
            lines.append(
                f"{code} {own['gold_kept']:.1%} at {float(BUDGET):.0%}, {ahead[0]:+.1f} "
                f"[{ahead[1]:+.1f}, {ahead[2]:+.1f}] against {figures['best_free']}"
            )
    return lines


def _languages_to_gain(proxy: str) -> list[str]:
    from tamis.service.api.languages import best_proxy, load_measurements

    return [
        code
        for code in load_measurements()["languages"]
        if best_proxy(code) == proxy != DEFAULT_PROXY
    ]


def _check_reading(models: Path) -> Iterator[Finding]:
    """Reads for a second with the default proxy, which must find a hidden sentence."""
    try:
        zoo.locate(DEFAULT_PROXY, models)
    except TamisError as error:
        yield Finding("reading", "warn", "not tried", str(error))
        return
    from tamis.compressors.registry import build_method
    from tamis.text.types import Passage
    from tamis.text.units.segment import units_of

    text = " ".join([*(f"Shelf {n} holds nothing of note." for n in range(40)), NEEDLE])
    passages = [Passage(text)]
    units, scorer = units_of(passages), build_method("question_rows", root=models)
    tokens, ms = 0, 0.0
    while ms < _SMOKE_MS:
        scores = scorer.scores("Which colour is the key?", passages, units)
        tokens, ms = tokens + scores.tokens_read, ms + scores.timings_ms["read"]
    unit = units[max(range(len(units)), key=scores.values.__getitem__)]
    rate = f"{tokens / ms * 1e3:,.0f} tokens a second"
    if text[slice(*unit.visible)] == NEEDLE:
        yield Finding("reading", "ok", f"{rate}, and the answer was found")
    else:
        seen = f"{rate}, and the answer was not found"
        yield Finding("reading", "fail", seen, f"tamis models info {DEFAULT_PROXY} --verify")


def _print_findings(found: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in found:
        seen = Text(finding.seen)
        if finding.way_out:
            seen.append(f"\n→ {finding.way_out}", "dim" if finding.state == "ok" else "bold")
        table.add_row(Text(finding.state, STYLES[finding.state]), Text(finding.name), seen)
    make_console().print(table)
