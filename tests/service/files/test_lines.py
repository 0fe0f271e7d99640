"""JSON Lines, packed or not: which rows a file has, and how a bad line is named."""

from __future__ import annotations

import gzip
import lzma

import pytest
import zstandard

from tamis.probes.errors import BadInput
from tamis.service.files.streams import read_json_lines

PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress, ".xz": lzma.compress}
packed = pytest.mark.parametrize("packing", PACK)


@packed
def test_rows_have_the_numbers_of_their_lines_whatever_they_are_packed_with(tmp_path, packing):
    path = tmp_path / f"rows.jsonl{packing}"
    text = '\ufeff{"a": "\u2028"}\r\n\n   \n{"b": [1]}'
    path.write_bytes(PACK[packing](text.encode()))
    assert list(read_json_lines(path)) == [(1, {"a": "\u2028"}), (4, {"b": [1]})]


@packed
@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a row is a JSON object, got an array"),
        (b'"\xff"', "not utf-8"),
    ],
)
def test_a_line_that_is_no_object_is_named_after_those_before_it(tmp_path, packing, line, why):
    path = tmp_path / f"rows.jsonl{packing}"
    path.write_bytes(PACK[packing](b"{}\n\n" + line + b"\n"))
    found = read_json_lines(path)
    assert next(found) == (1, {})
    with pytest.raises(BadInput, match=f"rows.jsonl{packing}, line 3.*{why}"):
        next(found)


@pytest.mark.parametrize("packing", [".gz", ".zst", ".xz"])
def test_a_packed_file_that_was_cut_is_damaged(tmp_path, packing):
    path = tmp_path / f"rows.jsonl{packing}"
    path.write_bytes(PACK[packing](b'{"a": 1}\n' * 500)[:-5])
    with pytest.raises(BadInput, match=f"rows.jsonl{packing} is damaged"):
        list(read_json_lines(path))
