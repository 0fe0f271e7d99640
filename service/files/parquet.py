"""Parquet files here and elsewhere; the package that reads them is an extra."""

from __future__ import annotations

from typing import Any

from tamis.probes.errors import BadInput
from tamis.probes.extras import import_extra
from tamis.service.files.remote import filesystem


def import_pyarrow() -> Any:
    """The package `pyarrow`, with its module for Parquet.

    Raises:
        MissingExtra: it is not installed, with the command that installs it.
    """
    return import_extra("pyarrow.parquet", "Parquet", "batch")


def open_parquet(url: str) -> Any:
    """An open Parquet file.

    Raises:
        BadInput: it is not a Parquet file. MissingExtra: pyarrow is not installed.
    """
    arrow = import_pyarrow()
    fs, path = filesystem(url)
    try:
        return arrow.parquet.ParquetFile(fs.open(path, "rb"), pre_buffer=False)
    except (arrow.ArrowException, OSError) as error:
        raise BadInput(f"{url} cannot be read as Parquet ({error}); bring a whole copy") from error
