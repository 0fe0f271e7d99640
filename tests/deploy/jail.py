"""Runs commands in a layered root: overlayfs, namespaces, a user without capabilities."""

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
# An offline network still has loopback. /dev has the devices that a container has.
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
DROP_CAPABILITIES = ("--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a command is run: user, variables, folder, network, capabilities."""

    user: str = "0:0"
    env: Mapping[str, str] | None = None
    folder: str = "/"
    online: bool = True
    drop_capabilities: bool = False


def chroot_command(root: Path, options: RunOptions, words: Sequence[str]) -> list[str]:
    """The command that changes to the root and runs `words`; for use within the namespaces."""
    uid, _, gid = options.user.partition(":")
    set_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups"]
    set_user += DROP_CAPABILITIES if options.drop_capabilities else ()
    clean_env = ["env", "-i", *(f"{name}={value}" for name, value in (options.env or {}).items())]
    change_folder = ["sh", "-c", 'cd "$1"; shift; exec "$@"', "sh", options.folder, *words]
    return ["chroot", str(root), *set_user, *clean_env, *change_folder]


def run_in_namespaces(root: Path, options: RunOptions, words: Sequence[str]) -> None:
    """Runs a command of the host in new namespaces, with the root's mounts set up.

    Raises:
        CalledProcessError: the command fails.
    """
    namespaces = ["unshare", "--mount", "--pid", "--fork", *([] if options.online else ["--net"])]
    script = ["sh", "-c", ENTER, "enter", str(root), str(int(options.online)), *words]
    subprocess.run(
        [*namespaces, *script],
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "CERTIFICATES": CERTIFICATES},
    )


@contextmanager
def mount_layers(folders: Sequence[Path], upper: Path | None) -> Iterator[Path]:
    """Mounts layers as one tree, the first on top; writes go to `upper`, without it read-only."""
    mount_point = Path(tempfile.mkdtemp(prefix="tamis-root-"))
    below = ":".join(map(str, folders))
    if upper is None:
        # an overlay needs two folders; the second may be empty
        (mount_point / "empty").mkdir()
        options = f"lowerdir={mount_point / 'empty'}:{below}"
    else:
        shutil.rmtree(upper.parent / "work", ignore_errors=True)
        (upper.parent / "work").mkdir()
        # volatile: a layer that a crash interrupted is built again, so no write waits for the disk
        options = f"lowerdir={below},upperdir={upper},workdir={upper.parent / 'work'},volatile"
    (mount_point / "root").mkdir()
    subprocess.run(
        ["mount", "-t", "overlay", "overlay", "-o", options, mount_point / "root"], check=True
    )
    try:
        yield mount_point / "root"
    finally:
        subprocess.run(["umount", mount_point / "root"], check=True)
        shutil.rmtree(mount_point)


def resolve_user(user: str, root: Path) -> str:
    """`name`, `uid` or `uid:gid` as `uid:gid`, by the root's /etc/passwd."""
    name = user.partition(":")[0]
    if name.isdigit():
        return user if ":" in user else f"{user}:{user}"
    for line in (root / "etc/passwd").read_text("utf-8").splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return f"{fields[2]}:{fields[3]}"
    raise KeyError(f"there is no user {name} in {root}")
