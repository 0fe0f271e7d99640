"""A proxy's folder as transformers 4.46 reads it: the weights are the same file.

transformers 5 writes names that 4.46 does not know. Without the last two settings, 4.46 would clean
up the spaces of decoded text, and pass `token_type_ids`, which Llama refuses.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


def write_legacy_folder(folder, target):
    """Writes the folder `target`, again at every call, and returns it."""
    folder, target = Path(folder), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    _write(target / "config.json", _config(json.loads((folder / "config.json").read_text("utf8"))))
    _write(target / "tokenizer_config.json", _tokenizer(folder))
    for name in ("model.safetensors", "tokenizer.json"):
        part = target / f"{name}.{os.getpid()}"
        part.symlink_to((folder / name).resolve())
        os.replace(part, target / name)
    return str(target)


def _config(config):
    rope = config.pop("rope_parameters", None) or {}
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta", 10_000.0))
    scaled = {k: v for k, v in rope.items() if k != "rope_theta"}
    config["rope_scaling"] = None if scaled.get("rope_type", "default") == "default" else scaled
    config["torch_dtype"] = config.pop("dtype", "float32")
    return config


def _tokenizer(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text("utf8"))
    template = folder / "chat_template.jinja"
    if template.is_file():
        config["chat_template"] = template.read_text("utf8")
    return config | {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }


def _write(path, facts):
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(json.dumps(facts, indent=1), "utf8")
    os.replace(part, path)
