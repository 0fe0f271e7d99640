"""Builds and runs a Dockerfile in chroots, where no container engine is available.

    python3 -m tests.deploy.chroot build deploy/Dockerfile --target cpu --arg TORCH_INDEX=
    python3 -m tests.deploy.chroot run deploy/Dockerfile --target cpu

As in an engine, each stage is a layer over its parent, RUN is a shell as the stage's user, and
`--network=none` is a network without any interface but loopback. The image `debian:trixie-slim`
is made by debootstrap. `run` starts the image as deploy/compose.yml does (root read-only, no
capabilities, as its user) but without a network, and tests it with deploy/smoke.py. Needs root,
Linux, debootstrap and util-linux.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.deploy.dockerfile import (
    Stage,
    Step,
    context_files,
    files_digest,
    ignore_patterns,
    parse_assignments,
    parse_stages,
)
from tests.deploy.jail import (
    RunOptions,
    chroot_command,
    mount_layers,
    resolve_user,
    run_in_namespaces,
)

ROOT = Path(__file__).resolve().parents[2]
MIRROR = "http://deb.debian.org/debian"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEY = "tamis_key_of_the_smoke_test_0123456789abcdef"
# The service is started in the image, tested from outside, then terminated; it must exit with 0.
SERVE = r"""
"$@" & service=$!
python3 "$SMOKE" http://127.0.0.1:8080 --wait 180 && good=0 || good=$?
kill -TERM "$service" 2>/dev/null || true
wait "$service" && left=0 || left=$?
echo "smoke: exit $good; the service: exit $left"
[ "$good" = 0 ] && [ "$left" = 0 ]
"""
FACTS = r"""
echo "user: $(id -u)"
(: > /opt/tamis/written) 2>/dev/null && echo "root: writable" || echo "root: read-only"
grep CapEff /proc/self/status
echo "network:" $(tail -n +3 /proc/net/dev | cut -d: -f1)
/opt/tamis/venv/bin/python -c 'import sys, torch
print("python", sys.version.split()[0], "torch", torch.__version__)'
"""


@dataclass(frozen=True, slots=True)
class Layer:
    """A built stage: its folders from the top down, and the settings that stages on it inherit."""

    folders: list[Path]
    key: str
    options: RunOptions = field(default_factory=lambda: RunOptions(env={"PATH": PATH}))
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)


class Builder:
    """Builds stages of one Dockerfile, each once; a changed stage is built again."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.file, self.work = given.file, given.work
        self.args, self.extra = dict(given.arg), dict(given.env)
        self.rebuild = given.what == "build"  # `run` uses the layers as they were built
        self.stages = parse_stages(self.file)
        self.files = context_files(ROOT, ignore_patterns(self.file))
        self.built: dict[str, Layer] = {}

    def layer(self, name: str) -> Layer:
        """A stage or a Debian image, built with everything it depends on."""
        if name not in self.built:
            known = name in self.stages
            self.built[name] = self._stage(self.stages[name]) if known else self._debian(name)
        return self.built[name]

    def _debian(self, image: str) -> Layer:
        suite = image.removeprefix("debian:").removesuffix("-slim")
        home = self.work / f"debian-{suite}"
        if not (home / "etc/debian_version").exists():
            shutil.rmtree(home, ignore_errors=True)
            log(f"debootstrap {suite}")
            made = ["debootstrap", "--variant=minbase", suite, str(home), MIRROR]
            subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        return Layer([home], image)

    def _stage(self, stage: Stage) -> Layer:
        under = self.layer(stage.parent)
        home = self.work / "layers" / f"{self.file.name}-{stage.name}"
        top = replace(under, folders=[home / "upper", *under.folders], key=self._key(stage, under))
        built = (home / "key").exists()
        fresh = not built or (self.rebuild and (home / "key").read_text() != top.key)
        if fresh:
            shutil.rmtree(home, ignore_errors=True)
            (home / "upper").mkdir(parents=True)
        for step in stage.steps:
            top = self._with_settings(step, top)
            if fresh:
                self._execute(step, top, home / "upper")
        if fresh:
            (home / "key").write_text(top.key)
        return top

    def _key(self, stage: Stage, under: Layer) -> str:
        """A hash of everything a layer is built from."""
        names = [name for s in stage.steps for name in self._context_files(s)]
        parts = [
            under.key,
            *(self.layer(name).key for name in stage.copied_stages),
            files_digest(ROOT, names),
        ]
        parts += [repr((step, self.args)) for step in stage.steps]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _context_files(self, step: Step) -> list[str]:
        """The files of the context that a COPY takes."""
        if step.verb != "COPY" or step.flag("from"):
            return []
        source = step.rest.split()[0]
        return [n for n in self.files if source == "." or f"{n}/".startswith(f"{source}/")]

    def _with_settings(self, step: Step, top: Layer) -> Layer:
        """The layer with what a step changes for the steps after it."""
        options, rest = top.options, step.rest
        if step.verb in ("ENV", "ARG"):
            given = self.args if step.verb == "ARG" else {}
            env = {name: given.get(name, value) for name, value in parse_assignments(rest).items()}
            return replace(top, options=replace(options, env={**(options.env or {}), **env}))
        if step.verb == "USER":
            return replace(top, options=replace(options, user=rest))
        if step.verb == "WORKDIR":
            return replace(top, options=replace(options, folder=rest))
        if step.verb == "ENTRYPOINT":
            return replace(top, entry=json.loads(rest), command=[])
        return replace(top, command=json.loads(rest)) if step.verb == "CMD" else top

    def _execute(self, step: Step, top: Layer, upper: Path) -> None:
        """Executes a COPY or RUN step in the layer."""
        if step.verb not in ("COPY", "RUN"):
            return
        log(f"{upper.parent.name}: {step.verb} {step.rest}")
        began = time.monotonic()
        with mount_layers(top.folders[1:], upper) as root:
            (self._copy if step.verb == "COPY" else self._run)(step, top, root)
        log(f"  {time.monotonic() - began:.0f} s")

    def _copy(self, step: Step, top: Layer, root: Path) -> None:
        source, target = step.rest.split()
        destination = root / target.lstrip("/")
        destination.parent.mkdir(parents=True, exist_ok=True)
        if stage := step.flag("from"):
            with mount_layers(self.layer(stage).folders, None) as tree:
                subprocess.run(["cp", "-a", tree / source.lstrip("/"), destination], check=True)
        for name in self._context_files(step):
            inside = name if source == "." else name.removeprefix(source).lstrip("/")
            file = destination / inside if inside else destination
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, file, follow_symlinks=False)
        owner = resolve_user(step.flag("chown") or "0:0", root)
        if not step.flag("from"):
            subprocess.run(["chown", "-R", "-h", owner, destination], check=True)

    def _run(self, step: Step, top: Layer, root: Path) -> None:
        options = replace(
            top.options,
            user=resolve_user(top.options.user, root),
            online=step.flag("network") != "none",
            env={**(top.options.env or {}), **self.extra},
        )
        words = chroot_command(root, options, ["sh", "-ec", step.rest])
        if mount := step.flag("mount"):
            words = self._with_cache(parse_assignments(mount.replace(",", " ")), root, words)
        run_in_namespaces(root, options, words)

    def _with_cache(self, mount: dict[str, str], root: Path, words: list[str]) -> list[str]:
        """The command, with a cache folder of the host mounted in the root."""
        cache = self.work / "cache" / mount["id"]
        cache.mkdir(parents=True, exist_ok=True)
        owner = mount.get("uid", "0")
        subprocess.run(["chown", "-R", f"{owner}:{owner}", cache], check=True)
        target = root / mount["target"].lstrip("/")
        target.mkdir(parents=True, exist_ok=True)
        bound = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
        return ["sh", "-ec", bound, "bind", str(cache), str(target), *words]


def build(given: argparse.Namespace) -> Layer:
    """Builds a target; raises CalledProcessError if a step fails."""
    return Builder(given).layer(given.target)


def run(given: argparse.Namespace) -> None:
    """Runs a built target read-only, without capabilities, offline, against the smoke test."""
    top = build(given)
    env = {**(top.options.env or {}), **dict(given.env), "TAMIS_API_KEYS": f"smoke:{KEY}"}
    options = replace(top.options, env=env, online=False, drop_capabilities=True)
    os.environ |= {"SMOKE": str(ROOT / "deploy/smoke.py"), "TAMIS_API_KEY": KEY}
    with mount_layers(top.folders, None) as root:
        tmp = ["sh", "-ec", 'mount -t tmpfs tmpfs "$1"; shift; "$@"', "tmp", str(root / "tmp")]
        facts = chroot_command(root, options, ["sh", "-c", FACTS])
        run_in_namespaces(root, options, [*tmp, *facts])
        service = chroot_command(root, options, [*top.entry, *top.command])
        run_in_namespaces(root, options, [*tmp, "sh", "-c", SERVE, "serve", *service])


def log(text: str) -> None:
    """Prints one line, unbuffered."""
    print(f"chroot: {text[:120]}", flush=True)  # noqa: T201


def parse_pair(text: str) -> tuple[str, str]:
    """Parses `NAME=VALUE`."""
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["build", "run"])
    parser.add_argument("file", type=Path, help="the Dockerfile")
    parser.add_argument("--target", required=True, help="the stage")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/tamis-chroot"), help="layers")
    parser.add_argument(
        "--arg", type=parse_pair, action="append", default=[], help="an ARG, NAME=VALUE"
    )
    parser.add_argument(
        "--env",
        type=parse_pair,
        action="append",
        default=[],
        help="a variable of every RUN, NAME=VALUE",
    )
    given = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.stderr.write("chroot: needs root and debootstrap (apt install debootstrap)\n")
        return 2
    try:
        (build if given.what == "build" else run)(given)
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"chroot: the step failed with exit code {error.returncode}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
