"""A peer's process: a JSON line with a case goes in, a JSON line with what it keeps comes out."""

from __future__ import annotations

import json
import os
import select
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from tamis.service.evaluation.peers.peers import PeerFailed

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONIOENCODING": "utf8",
}
_READ_BYTES = 1 << 16
_TAIL_BYTES = 2000


class Child:
    """One peer, started when it is first asked, and again after it was lost.

    Attributes:
        versions: of the packages it runs with, once it is up.
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
        """`log` takes all that the process says beside its answers."""
        self.command = [str(python), str(adapter)]
        self.settings, self.threads, self.log = settings, threads, log
        self.timeout_s = timeout_s
        self.versions: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._answers, self._heard = -1, b""

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def ready(self) -> None:
        """Starts it unless it runs, and waits until its models are loaded.

        Raises:
            PeerFailed: it does not come up.
        """
        if self._process is not None:
            return
        # a pipe of its own: packages print to stdout as they please
        self._answers, theirs = os.pipe()
        env = os.environ | _OFFLINE | dict.fromkeys(_THREADS, str(self.threads))
        self._heard = b""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=env | {"PEER_ANSWERS": str(theirs)},
                pass_fds=(theirs,),
            )
        os.close(theirs)
        self.versions = dict(self._asked({"settings": dict(self.settings)}, "ready")["ready"])

    def ask(self, case: Mapping[str, Any]) -> dict[str, Any]:
        """What it keeps of a case and what that took, or `{"error": ...}` as it says it.

        Raises:
            PeerFailed: it ended, hung, or answered something else; it is started again next time.
        """
        self.ready()
        return self._asked({"case": dict(case)}, "text")

    def close(self) -> None:
        """Ends the process, if it runs."""
        if (process := self._process) is None:
            return
        self._process = None
        process.kill()
        process.communicate()
        os.close(self._answers)

    def _asked(self, message: Mapping[str, Any], wanted: str) -> dict[str, Any]:
        try:
            answer = json.loads(self._line(json.dumps(message).encode() + b"\n"))
            if not (isinstance(answer, dict) and (wanted in answer or "error" in answer)):
                raise ValueError(f"no {wanted!r} in its answer")
            if wanted == "ready" and "error" in answer:
                raise ValueError(answer["error"])
        except (OSError, ValueError) as error:
            said = self._tail()
            self.close()
            raise PeerFailed(f"{Path(self.command[1]).name} failed: {error}{said}") from error
        return answer

    def _line(self, message: bytes) -> bytes:
        """Sends a line, and waits for one."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.write(message)
        process.stdin.flush()
        end = time.monotonic() + self.timeout_s
        while b"\n" not in self._heard:
            if not select.select([self._answers], [], [], max(0, end - time.monotonic()))[0]:
                raise OSError(f"no answer within {self.timeout_s:g} s")
            part = os.read(self._answers, _READ_BYTES)
            if not part:
                raise OSError(f"its process ended with code {process.wait()}")
            self._heard += part
        line, self._heard = self._heard.split(b"\n", 1)
        return line

    def _tail(self) -> str:
        """The last line that the process wrote beside its answers."""
        lines = self.log.read_bytes()[-_TAIL_BYTES:].decode("utf8", "replace").strip().splitlines()
        return f" ({lines[-1].strip()}; see {self.log})" if lines else ""
