"""The peers that are compared, tamis among them; the adapter of each runs in its own process.

    peers.toml ─ select ─► Peer ─ process ─► cases in, kept text and times out ─► rows ─► figures

The packages of peers conflict with each other and with tamis, so each peer runs in an environment
with pinned versions.

A peer's process, which reads a JSON line for each case and writes one with the kept text.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from tamis.probes.errors import BadInput, TamisError

PEERS_FOLDER = Path(__file__).parents[1] / "tests/peers"
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


_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONIOENCODING": "utf8",
}
_READ_BYTES = 1 << 16
_TAIL_BYTES = 2000


class PeerProcess:
    """The process of one peer, started with its first case, and again after it has failed.

    Attributes:
        versions: of its packages, once it has started.
    """

    def __init__(
        self,
        python: Path,
        adapter: Path,
        settings: Mapping[str, Any],
        threads: int,
        log: Path,
        timeout_s: float,
    ) -> None:
        """`log` is the file for everything that the process prints beside its answers."""
        self.command = [str(python), str(adapter)]
        self.settings, self.threads, self.log = settings, threads, log
        self.timeout_s = timeout_s
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._answer_pipe, self._buffer = -1, b""

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts the process unless it runs, and waits until its models are loaded.

        Raises:
            PeerFailed: it does not start.
        """
        if self._process is not None:
            return
        # answers have their own pipe, because packages print to stdout
        self._answer_pipe, write_end = os.pipe()
        env = os.environ | _OFFLINE | dict.fromkeys(_THREADS, str(self.threads))
        self._buffer = b""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env | {"PEER_ANSWERS": str(write_end)},
                pass_fds=(write_end,),
            )
        os.close(write_end)
        self.versions = dict(self._exchange({"settings": dict(self.settings)}, "ready")["ready"])

    def run_case(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """The kept text of a case with its costs, or the peer's own `{"error": ...}`.

        Raises:
            PeerFailed: it ended, timed out, or gave no valid answer; the next case starts it again.
        """
        self.start()
        return self._exchange({"case": dict(case)}, "text")

    def close(self) -> None:
        """Kills the process if it runs."""
        if (process := self._process) is None:
            return
        self._process = None
        process.kill()
        process.communicate()
        os.close(self._answer_pipe)

    def _exchange(self, message: Mapping[str, Any], field: str) -> dict[str, Any]:
        try:
            answer = json.loads(self._exchange_line(json.dumps(message).encode() + b"\n"))
            if not (isinstance(answer, dict) and (field in answer or "error" in answer)):
                raise ValueError(f"no {field!r} in its answer")
            if field == "ready" and "error" in answer:
                raise ValueError(answer["error"])
        except (OSError, ValueError) as error:
            details = self._last_log_line()
            self.close()
            raise PeerFailed(f"{Path(self.command[1]).name} failed: {error}{details}") from error
        return answer

    def _exchange_line(self, message: bytes) -> bytes:
        """Sends a line, and waits for the line that answers it."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(message)
        process.stdin.flush()
        deadline = time.monotonic() + self.timeout_s
        while b"\n" not in self._buffer:
            remaining_s = max(0, deadline - time.monotonic())
            if not select.select([self._answer_pipe], [], [], remaining_s)[0]:
                raise OSError(f"no answer within {self.timeout_s:g} s")
            part = os.read(self._answer_pipe, _READ_BYTES)
            if not part:
                raise OSError(f"its process ended with code {process.wait()}")
            self._buffer += part
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line

    def _last_log_line(self) -> str:
        """The last line that the process printed beside its answers, for an error message."""
        lines = self.log.read_bytes()[-_TAIL_BYTES:].decode("utf8", "replace").strip().splitlines()
        return f" ({lines[-1].strip()}; see {self.log})" if lines else ""
