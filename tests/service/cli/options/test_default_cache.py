"""What is kept of read passages where no cache was asked for."""

from __future__ import annotations

import pytest

from tamis.probes.errors import BadInput
from tamis.service.cli.options.default_proxy import KEPT_DISK_BYTES, open_default_cache


def test_passages_are_kept_in_the_cache_folder_within_bounds(tmp_path):
    cache = open_default_cache(None, False, tmp_path)
    assert cache is not None
    assert cache.files.folder == tmp_path / "passages"
    assert cache.files.max_bytes == KEPT_DISK_BYTES


def test_a_folder_that_is_named_is_used_instead(tmp_path):
    cache = open_default_cache(tmp_path / "mine", False, tmp_path)
    assert cache is not None
    assert cache.files.folder == tmp_path / "mine"


def test_nothing_is_kept_without_a_cache_and_both_wishes_are_refused(tmp_path):
    assert open_default_cache(None, True, tmp_path) is None
    assert not (tmp_path / "passages").exists()
    with pytest.raises(BadInput, match="--no-cache"):
        open_default_cache(tmp_path, True, None)


def test_a_cache_folder_that_cannot_be_written_is_done_without_unless_it_was_named(tmp_path):
    (tmp_path / "passages").write_text("a file stands in the way")
    assert open_default_cache(None, False, tmp_path) is None
    with pytest.raises(BadInput):
        open_default_cache(tmp_path / "passages", False, tmp_path)
