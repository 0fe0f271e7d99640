"""Models by hub id, from the local Hugging Face cache unless a download is requested."""

from __future__ import annotations

import json
from pathlib import Path

from tamis.probes.errors import BadInput, DownloadFailed, ProxyMissing

FETCHED_PATTERNS = ("*.safetensors", "*.json")


def snapshot(model: str, *, online: bool) -> Path:
    """The folder of a hub model; its name is the commit's hash.

    Only safetensors and JSON files are ever fetched: no pickles, no code.

    Args:
        model: such as `Qwen/Qwen2.5-0.5B-Instruct`.
        online: whether missing files may be downloaded.

    Raises:
        BadInput: `model` is not a valid hub id.
        ProxyMissing: it is not, or not completely, in the local cache, and `online` is False.
        DownloadFailed: the hub could not be reached, or it refused.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(
            snapshot_download(
                model, local_files_only=not online, allow_patterns=list(FETCHED_PATTERNS)
            )
        )
    except HFValidationError as error:
        raise BadInput(
            f"{model!r} is no folder, no model of tamis's and no hub id ({error})"
        ) from error
    except (
        Exception
    ) as error:  # the hub's client lets its own errors, its HTTP library's and the system's through
        if not online and isinstance(error, LocalEntryNotFoundError):
            raise ProxyMissing(
                f"{model} is not on this machine; get it with `tamis models pull {model}`"
            ) from error
        raise DownloadFailed(
            f"{model} could not be fetched from the hub ({_first_line(error)}); "
            "check the id and the network, or give a folder that holds the model"
        ) from error
    if missing := _first_missing_file(folder):
        reason = f"{model} is not whole on this machine ({missing} is missing)"
        raise ProxyMissing(f"{reason}; get it with `tamis models pull {model}`")
    return folder


def _first_missing_file(folder: Path) -> str | None:
    """The first required file that is missing, as after an interrupted download; else None."""
    index = folder / "model.safetensors.index.json"
    shards: list[str] = []
    if index.is_file():
        shards = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    needed = ["config.json", "tokenizer.json", *shards]
    absent = [name for name in needed if not (folder / name).is_file()]
    if not absent and not any(folder.glob("*.safetensors")):
        absent = ["model.safetensors"]
    return absent[0] if absent else None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
