"""The peers that are compared, tamis among them; the adapter of each runs in its own process.

    peers.toml ─ select ─► Peer ─ process ─► cases in, kept text and times out ─► rows ─► figures

The packages of peers conflict with each other and with tamis, so each peer runs in an environment
with pinned versions.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tamis.probes.errors import BadInput, TamisError

PEERS_FOLDER = Path(__file__).parents[2] / "tests/peers"
"""In the sources of tamis; the installed package has no peers."""
LIST_NAME = "peers.toml"


class PeerFailed(TamisError):
    """A peer's process ended, timed out, or gave no valid answer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of the table.

    Attributes:
        name, label: for options, and for tables.
        adapter: the script that runs the peer.
        environment: the environment with its packages; empty for the one that tamis runs in.
        options: for the adapter. weights: whether it needs a folder of weights.
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
class PeerRegistry:
    """The peers listed in a folder.

    Attributes:
        peers: by name, in the order of the list.
        environments: their folder. make: the command that makes one, without its name.
        reference: the name of the peer that the others are compared with.
    """

    peers: Mapping[str, Peer]
    environments: Path
    make: str
    reference: str

    @classmethod
    def load(cls, folder: Path) -> PeerRegistry:
        """Reads `peers.toml`.

        Raises:
            BadInput: there is none, or it lacks a field.
        """
        path = folder / LIST_NAME
        if not path.is_file():
            raise BadInput(
                f"there is no {path}: adapters of peers are in the sources of tamis only; "
                "run this there, or give --adapters"
            )
        try:
            data = tomllib.loads(path.read_text("utf8"))
            peers = {name: _parse_peer(name, of, folder) for name, of in data["peers"].items()}
            return cls(
                peers, folder / data["environments"], str(data["make"]), str(data["reference"])
            )
        except (tomllib.TOMLDecodeError, LookupError, TypeError, AttributeError) as error:
            raise BadInput(f"{path} is no list of peers: {error!r}") from error

    def select(self, names: Sequence[str]) -> list[Peer]:
        """The peers with these names.

        Raises:
            BadInput: one is not listed.
        """
        if odd := [name for name in names if name not in self.peers]:
            raise BadInput(f"there is no peer {odd[0]!r}; there are: {', '.join(self.peers)}")
        return [self.peers[name] for name in names]

    def with_reference(self, name: str) -> PeerRegistry:
        """The same peers with another reference.

        Raises:
            BadInput: it is not listed.
        """
        self.select([name])
        return replace(self, reference=name)

    def python_path(self, peer: Peer) -> Path:
        """The interpreter that a peer runs in, whether or not it exists."""
        if not peer.environment:
            return Path(sys.executable)
        return (self.environments / peer.environment / "bin/python").absolute()

    def missing_requirement(self, peer: Peer, weights: Mapping[str, Path]) -> str | None:
        """What a peer lacks to run here, and how to get it; None if it can run."""
        if peer.weights and peer.name not in weights:
            return f"{peer.name} needs weights: --weights {peer.name}=FOLDER"
        if not self.python_path(peer).is_file():
            return f"{peer.name} has no environment here: {self.make} {peer.environment}"
        return None


def _parse_peer(name: str, data: Mapping[str, Any], folder: Path) -> Peer:
    return Peer(
        name,
        str(data.get("label", name)),
        folder / "adapters" / data["adapter"],
        str(data.get("environment", "")),
        dict(data.get("options", {})),
        bool(data.get("weights", False)),
        bool(data.get("ours", False)),
    )


def parse_weights(words: Sequence[str]) -> dict[str, Path]:
    """Folders of weights by peer, from words `PEER=FOLDER`.

    Raises:
        BadInput: a word has another form, or there is no such folder.
    """
    folders: dict[str, Path] = {}
    for word in words:
        name, sign, folder = word.partition("=")
        if not (sign and name):
            raise BadInput(f"weights are {word!r}; write PEER=FOLDER")
        if not Path(folder).is_dir():
            raise BadInput(f"there is no folder {folder} with weights for {name}")
        folders[name] = Path(folder).absolute()
    return folders
