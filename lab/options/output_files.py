"""Files that a command of the lab writes at its end: images, probes and reports."""

from __future__ import annotations

import os
from pathlib import Path

from tamis.probes.errors import BadInput
from tamis_lab.options.figures import figure_class

IMAGE_SUFFIXES = (".png", ".svg", ".pdf", ".jpg", ".webp")


def check_targets(*paths: Path | None) -> None:
    """Checks that files can be written, before hours of work.

    Raises:
        BadInput: one of them cannot be written.
    """
    for path in paths:
        if path is None:
            continue
        why = ""
        if path.is_dir():
            why = "it is a folder"
        elif not path.parent.is_dir():
            why = f"there is no folder {path.parent}"
        elif not os.access(path if path.exists() else path.parent, os.W_OK):
            why = "permission denied"
        if why:
            raise BadInput(f"{path} cannot be written: {why}; name another file")


def check_images(*paths: Path | None) -> None:
    """Checks that images can be written, whose suffix decides their format.

    Raises:
        BadInput: one of them cannot be written, or has the suffix of no image format.
        MissingExtra: matplotlib is not installed.
    """
    check_targets(*paths)
    for path in filter(None, paths):
        figure_class()
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise BadInput(f"{path} ends in {path.suffix or 'nothing'}; draw a .png, .svg or .pdf")


def check_probe_target(path: Path) -> None:
    """Checks that a probe can be written, whose folder is created if it does not exist.

    Raises:
        BadInput: it cannot be written.
    """
    from tamis.probes.probing.linear import probe_files

    if not path.name:
        raise BadInput(f"{path} cannot be written: it is a folder; name a file")
    for file in probe_files(path):
        existing = next(folder for folder in (file.parent, *file.parent.parents) if folder.exists())
        check_targets(existing / file.name if existing != file.parent else file)
