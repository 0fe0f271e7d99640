"""A layered root to run a command in: overlayfs, namespaces, a user without powers."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# The network has a loopback even where it has nothing else. Of /dev there is what a container has.
ENTER = r"""
set -eu
root=$1 online=$2; shift 2
[ "$online" = 1 ] || ip link set lo up
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for name in null zero full random urandom; do
  : > "$root/dev/$name"; mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir -m 1777 "$root/dev/shm"
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/pts"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
[ "$online" = 0 ] || mount --bind /etc/resolv.conf "$root/etc/resolv.conf"
[ ! -e "$root$CERTIFICATES" ] || mount --bind "$CERTIFICATES" "$root$CERTIFICATES"
"$@"
"""
POWERLESS = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")


@dataclass(frozen=True, slots=True)
class Way:
    """How a command is run: as whom, with which variables, where, and with what network."""

    user: str = "0:0"
    env: Mapping[str, str] | None = None
    folder: str = "/"
    online: bool = True
    powerless: bool = False


def command(root: Path, way: Way, words: Sequence[str]) -> list[str]:
    """What enters the root and runs the words there, once the namespaces are there."""
    uid, _, gid = way.user.partition(":")
    become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    become += POWERLESS if way.powerless else ()
    clean = ["env", "-i", *(f"{name}={value}" for name, value in (way.env or {}).items())]
    there = ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", way.folder, *words]
    return ["chroot", str(root), *become, *clean, *there]


def entered(root: Path, way: Way, words: Sequence[str]) -> None:
    """Runs words on the machine itself, in namespaces in which the root is furnished.

    Raises:
        CalledProcessError: they fail.
    """
    apart = ["unshare", "--mount", "--pid", "--fork", *([] if way.online else ["--net"])]
    script = ["sh", "-c", ENTER, "enter", str(root), str(int(way.online)), *words]
    subprocess.run(
        [*apart, *script],
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "CERTIFICATES": CERTIFICATES},
    )


@contextmanager
def mounted(folders: Sequence[Path], upper: Path | None) -> Iterator[Path]:
    """Layers as one tree, the first on top; what is written goes to `upper`, without it nowhere."""
    spot = Path(tempfile.mkdtemp(prefix="tamis-root-"))
    below = ":".join(map(str, folders))
    if upper is None:
        # one folder alone is no overlay; an empty one makes two
        (spot / "empty").mkdir()
        options = f"lowerdir={spot / 'empty'}:{below}"
    else:
        shutil.rmtree(upper.parent / "work", ignore_errors=True)
        (upper.parent / "work").mkdir()
        # volatile: a layer that a crash cut short is built again, so nothing waits for the disk
        options = f"lowerdir={below},upperdir={upper},workdir={upper.parent / 'work'},volatile"
    (spot / "root").mkdir()
    subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, spot / "root"], check=True)
    try:
        yield spot / "root"
    finally:
        subprocess.run(["umount", spot / "root"], check=True)
        shutil.rmtree(spot)


def ids(user: str, root: Path) -> str:
    """`name`, `uid` or `uid:gid` as `uid:gid`, by the root's own list of users."""
    name = user.partition(":")[0]
    if name.isdigit():
        return user if ":" in user else f"{user}:{user}"
    for line in (root / "etc/passwd").read_text("utf-8").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return f"{fields[2]}:{fields[3]}"
    raise KeyError(f"there is no user {name} in {root}")
