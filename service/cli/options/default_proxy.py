"""The models of one run of a command: the default proxy is fetched if it is needed and missing.

Besides `tamis models pull` only this module fetches anything, after one line with its size and
origin.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tamis.compressors.registry import DEFAULT_PROXY
from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import zoo
from tamis.service.api.languages import FAST, SHARP
from tamis.service.cli.display.bars import download_bar
from tamis.service.cli.display.output import print_note
from tamis.service.cli.options.model_folder import describe_origin
from tamis.text.language import AUTO

if TYPE_CHECKING:
    from tamis.probes.kv_cache.cache import PassageCache
    from tamis.service.batch.job import BatchJob


def fetch_default_proxy(proxy: Any, root: Path | None, offline: bool) -> None:
    """Fetches the default proxy if it is the one and missing; no other model is ever fetched.

    Raises:
        ProxyMissing: it is not installed, and `offline`. DownloadFailed: it could not be fetched.
    """
    if proxy not in (DEFAULT_PROXY, SHARP, FAST):
        return
    try:
        zoo.locate(DEFAULT_PROXY, root)
    except ProxyMissing:
        if offline:
            raise
        print_note(describe_origin(DEFAULT_PROXY, None))
        with download_bar() as progress:
            zoo.pull(DEFAULT_PROXY, root, None, progress)


def job_with_proxy(job: BatchJob, inputs: list[str], out: str, quality: str) -> BatchJob:
    """The job with a proxy, chosen if it is `auto`; prints the choice's warning."""
    from tamis.service.batch.run import choose_batch_proxy

    if job.proxy != AUTO and quality == "standard":
        return job
    choice = choose_batch_proxy(job, inputs, out, quality)
    if choice.warning:
        print_note(f"tamis: {choice.warning}")
    return replace(job, proxy=choice.proxy)


KEPT_DISK_BYTES = 2 << 30
"""The folder that is kept unasked takes so much: some 140,000 tokens of the default proxy."""


def open_default_cache(
    folder: Path | None, no_cache: bool, home: Path | None
) -> PassageCache | None:
    """The cache in a folder or, bounded, in the user's own; None where it is not wanted.

    One that cannot be written is done without, unless it was named.

    Args:
        home: the cache folder of tamis; None for the user's own.

    Raises:
        BadInput: a folder, and no cache is wanted; or the folder cannot be written.
    """
    from tamis.probes.errors import BadInput
    from tamis.probes.hub.cache_dir import passages_folder
    from tamis.probes.kv_cache.cache import PassageCache

    if no_cache:
        if folder is not None:
            raise BadInput("--cache and --no-cache cannot both be followed; leave one out")
        return None
    if folder is not None:
        return open_cache(folder)
    try:
        return PassageCache(folder=passages_folder(home), max_disk_bytes=KEPT_DISK_BYTES)
    except BadInput:
        return None


def open_cache(folder: Path | None) -> PassageCache | None:
    """The passage cache in a folder; None without a folder.

    Raises:
        BadInput: the folder cannot be written.
    """
    if folder is None:
        return None
    from tamis.probes.kv_cache.cache import PassageCache

    return PassageCache(folder=folder)
