"""Who is compared: tamis and its peers, each behind an adapter that runs in a process of its own.

    peers.toml ─ chosen ─► Peer ─ child ─► cases in, kept text and times out ─► rows ─► figures

Packages of peers exclude each other and tamis, so each runs in an environment with pinned versions.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, TamisError

HOME = Path(__file__).parents[3] / "tests/peers"
"""In the sources of tamis; what is installed has no peers."""
LISTED = "peers.toml"


class PeerFailed(TamisError):
    """A peer's process ended, hung, or said what is no answer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table.

    Attributes:
        name, label: as it is chosen, and as it is shown.
        adapter: the script that speaks for it.
        environment: whose packages it needs; empty for those that tamis runs with.
        options: for the adapter. weights: whether it wants a folder of weights.
        ours: whether it is tamis.
    """

    name: str
    label: str
    adapter: Path
    environment: str
    options: Mapping[str, Any]
    weights: bool
    ours: bool


@dataclass(frozen=True, slots=True)
class Field:
    """All that is listed in a folder.

    Attributes:
        peers: by name, in the list's order.
        environments: the folder they stand in. make: the command that makes one, without its name.
        reference: the peer that others' times are divided by.
    """

    peers: Mapping[str, Peer]
    environments: Path
    make: str
    reference: str

    @classmethod
    def of(cls, folder: Path) -> Field:
        """Reads `peers.toml`. BadInput: there is none, or it lacks something."""
        path = folder / LISTED
        if not path.is_file():
            raise BadInput(
                f"there is no {path}: adapters of peers are in the sources of tamis only; "
                "run this there, or give --adapters"
            )
        try:
            said = tomllib.loads(path.read_text("utf8"))
            peers = {name: _peer(name, of, folder) for name, of in said["peers"].items()}
            return cls(
                peers, folder / said["environments"], str(said["make"]), str(said["reference"])
            )
        except (tomllib.TOMLDecodeError, LookupError, TypeError, AttributeError) as error:
            raise BadInput(f"{path} is no list of peers: {error!r}") from error

    def named(self, names: Sequence[str]) -> list[Peer]:
        """Peers by name. BadInput: one that is not listed."""
        if odd := [name for name in names if name not in self.peers]:
            raise BadInput(f"there is no peer {odd[0]!r}; there are: {', '.join(self.peers)}")
        return [self.peers[name] for name in names]

    def compared_with(self, name: str) -> Field:
        """The same with another reference. BadInput: it is not listed."""
        self.named([name])
        return replace(self, reference=name)

    def python(self, peer: Peer) -> Path:
        """The interpreter that a peer runs in, whether it is there or not."""
        if not peer.environment:
            return Path(sys.executable)
        return (self.environments / peer.environment / "bin/python").absolute()

    def missing(self, peer: Peer, weights: Mapping[str, Path]) -> str | None:
        """What keeps a peer from running here, with the way out; None if nothing does."""
        if peer.weights and peer.name not in weights:
            return f"{peer.name} needs weights: --weights {peer.name}=FOLDER"
        if not self.python(peer).is_file():
            return f"{peer.name} has no environment here: {self.make} {peer.environment}"
        return None


def _peer(name: str, said: Mapping[str, Any], folder: Path) -> Peer:
    return Peer(
        name,
        str(said.get("label", name)),
        folder / "adapters" / said["adapter"],
        str(said.get("environment", "")),
        dict(said.get("options", {})),
        bool(said.get("weights", False)),
        bool(said.get("ours", False)),
    )


def weights_of(given: Sequence[str]) -> dict[str, Path]:
    """`name=folder` each. BadInput: another spelling, or no such folder."""
    found: dict[str, Path] = {}
    for word in given:
        name, sign, folder = word.partition("=")
        if not (sign and name):
            raise BadInput(f"weights are {word!r}; write PEER=FOLDER")
        if not Path(folder).is_dir():
            raise BadInput(f"there is no folder {folder} with weights for {name}")
        found[name] = Path(folder).absolute()
    return found
