"""Damaged, odd or oddly named input: processed, or refused in one sentence without a traceback."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import uuid

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tamis.compressors.rules import Budget
from tamis.probes.errors import BadInput
from tamis.service.batch.job import BatchJob
from tamis.service.batch.rows import parse_row, request_of
from tamis.service.files import streams
from tests.service.batch.kit import QUERY, assert_refused, part_bytes, read_rows, rows, write_lines
from tests.service.cli.cli_kit import tamis

AUTO = ("--proxy", "auto")


def noise(count=400):
    """Lines that compress badly, so that a truncated file has lost many of them."""
    draw = random.Random(0)
    return "".join(
        json.dumps({"question": "a?", "context": f"a {draw.getrandbits(2000):x}. b."}) + "\n"
        for _ in range(count)
    ).encode()


DAMAGES = {
    "cut": lambda packed: packed[: len(packed) // 2],
    "foreign": lambda packed: b"not packed at all, though its name says so\n" * 20,
    "flipped": lambda packed: packed[:5000] + b"\xff" * 64 + packed[5064:],
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_a_damaged_packed_file_is_refused_wherever_it_is_first_read(free, tmp_path, suffix, damage):
    summed = zstandard.ZstdCompressor(write_checksum=True).compress
    pack = gzip.compress if suffix == ".gz" else summed
    source = tmp_path / f"in.jsonl{suffix}"
    source.write_bytes(DAMAGES[damage](pack(noise())))
    message = f"{source} is damaged ("
    out = tmp_path / "out"
    assert_refused(free.run(source, "-o", out), message, out)
    assert_refused(free.run(source, "-o", out, "--proxy", "smollm2-135m"), message, out)
    result = tamis("index", "build", source, "-o", tmp_path / "index", "--no-model")
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


def test_all_frames_and_members_of_packed_files_are_read(tmp_path):
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    parts = [noise(30), b"", noise(3), b"x" * 5_000_000]
    zst = tmp_path / "in.zst"
    zst.write_bytes(skipped + b"".join(map(zstandard.compress, parts)) + skipped)
    gz = tmp_path / "in.gz"
    gz.write_bytes(b"".join(map(gzip.compress, parts)))
    for path in (zst, gz):
        with streams.open_unpacked(str(path)) as stream:
            assert stream.read() == b"".join(parts)
    whole = zst.read_bytes()
    for cut in range(1, 40):
        zst.write_bytes(whole[len(skipped) : -cut - len(skipped)])
        with streams.open_unpacked(str(zst)) as stream, pytest.raises(BadInput, match="is damaged"):
            stream.read()


def test_a_file_is_unpacked_whatever_the_case_of_its_name(free, tmp_path):
    plain = write_lines(tmp_path / "in.jsonl", rows(6))
    free.run_to_end(plain, "-o", tmp_path / "plain")
    for name, pack in (("A.JSONL.GZ", gzip.compress), ("B.Jsonl.Zst", zstandard.compress)):
        (tmp_path / name).write_bytes(pack(plain.read_bytes()))
        free.run_to_end(tmp_path / name, "-o", tmp_path / f"out-{name}")
        assert part_bytes(tmp_path / f"out-{name}") == part_bytes(tmp_path / "plain")


def broken_text(*values: bytes) -> pa.Array:
    """A column of strings that Arrow has not validated."""
    ends = [sum(map(len, values[:i])) for i in range(len(values) + 1)]
    offsets = pa.py_buffer(b"".join(end.to_bytes(4, "little") for end in ends))
    return pa.Array.from_buffers(
        pa.string(), len(values), [None, offsets, pa.py_buffer(b"".join(values))]
    )


def odd_columns() -> dict[str, pa.Array]:
    """Two rows of values that JSON or Python cannot represent."""
    nanos = pa.array([1, 2**61 + 1], pa.int64())
    return {
        "at": nanos.cast(pa.timestamp("ns")),
        "for": nanos.cast(pa.duration("ns")),
        "when": pa.array([1, 3], pa.int64()).cast(pa.time64("ns")),
        "zone": pa.array([1, 2], pa.timestamp("us", "Mars/Base")),
        "text": broken_text(b"a\xffb", b"fine"),
        "uuid": pa.array([uuid.UUID(int=i).bytes for i in (1, 2)], pa.binary(16)).cast(pa.uuid()),
        "float": pa.array([float("nan"), float("-inf")]),
        "inner": pa.array(
            [{"x": [1], "y": float("inf")}, None],
            pa.struct([("x", pa.list_(pa.timestamp("ns"))), ("y", pa.float64())]),
        ),
        "map": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.timestamp("ns"))),
    }


def odd_table() -> pa.Table:
    context = pa.array(["Malo is. " * 30, "Bread is. " * 30])
    return pa.table({"question": pa.array([QUERY] * 2), "context": context, **odd_columns()})


def test_columns_that_nobody_asks_for_need_not_be_readable(free, tmp_path):
    pq.write_table(odd_table(), source := tmp_path / "in.parquet")
    given = source.read_bytes()
    free.run_to_end(source, "-o", tmp_path / "out")
    (part,) = (tmp_path / "out").glob("*.parquet")
    got = pq.read_table(part)
    assert got.select(odd_table().column_names).equals(odd_table()) or _same(got, odd_table())
    assert got["status"].to_pylist() == ["ok", "ok"]
    assert tamis("batch", "verify", tmp_path / "out").exit_code == 0
    target = tmp_path / "all.parquet"
    assert tamis("batch", "merge", tmp_path / "out", "-o", target).exit_code == 0
    assert pq.read_table(target).num_rows == 2
    own = next((tmp_path / "out").glob("*.parquet"))
    refused = tamis("batch", "merge", tmp_path / "out", "-o", tmp_path / "out/../out" / own.name)
    assert refused.exit_code == 2
    assert "is a part or an input of what is merged" in " ".join(refused.stderr.split())
    refused = tamis("batch", "merge", tmp_path / "out", "-o", source)
    assert refused.exit_code == 2
    assert source.read_bytes() == given
    assert tamis("batch", "verify", tmp_path / "out").exit_code == 0


def _same(one: pa.Table, other: pa.Table) -> bool:
    """As `equals`, for which NaN is not NaN."""
    names = [name for name in other.column_names if name not in ("float", "inner")]
    return one.select(names).equals(other.select(names))


def test_every_cell_has_a_form_in_json(free, tmp_path):
    pq.write_table(odd_table(), source := tmp_path / "in.parquet")
    free.run_to_end(source, "-o", tmp_path / "out", "--format", "jsonl")
    (part,) = (tmp_path / "out").glob("part-*")
    one, two = (json.loads(line, parse_constant=pytest.fail) for line in part.open())
    assert one["at"] == "1970-01-01T00:00:00.000000001"
    assert (one["for"], one["when"]) == ("1 ns", "00:00:00.000000001")
    assert (one["text"], two["text"]) == ("a\\xffb", "fine")
    assert one["uuid"] == str(uuid.UUID(int=1))
    assert (one["float"], two["float"], two["inner"]) == (None, None, None)
    assert one["inner"] == {"x": ["1970-01-01T00:00:00.000000001"], "y": None}
    assert one["map"] == [["k", "1970-01-01T00:00:00.000000001"]]
    assert [row["status"] for row in (one, two)] == ["ok", "ok"]


def test_an_index_takes_odd_columns_as_metadata_and_refuses_broken_text_by_its_row(tmp_path):
    odd = {name: column for name, column in odd_columns().items() if name != "text"}
    pq.write_table(pa.table({"body": ["Malo.", "Bread."], **odd}), tmp_path / "in.parquet")
    words = ("index", "build", tmp_path / "in.parquet", "--no-model")
    done = tamis(*words, "-o", tmp_path / "index")
    assert done.exit_code == 0, (done.exception, done.stderr)
    bodies = broken_text(b"Malo.", b"Bread \xff.")
    pq.write_table(pa.table({"body": bodies}), tmp_path / "in.parquet")
    result = tamis(*words, "-o", tmp_path / "two")
    assert result.exit_code == 2, result.exception
    assert "in.parquet, row 2: 'body' holds text that is not UTF-8" in result.stderr


def test_a_used_cell_that_is_not_valid_text_fails_its_row_alone(free, tmp_path):
    contexts = broken_text(b"Malo is. \xfe" * 20, b"Malo is. " * 30)
    pq.write_table(
        pa.table({"question": [QUERY] * 2, "context": contexts}), tmp_path / "in.parquet"
    )
    free.options = (*free.options, "--proxy", "auto")
    for form in ("parquet", "jsonl"):
        out = tmp_path / form
        done = free.run_to_end(tmp_path / "in.parquet", "-o", out, "--format", form, status=1)
        assert "row 1: 'context' holds text that is not UTF-8 (byte 0xfe at 9 of" in done.stderr
        assert "1 rows cannot be used" in done.stderr
        again = free.run(tmp_path / "in.parquet", "-o", out, "--format", form, "--retry-errors")
        assert again.exit_code == 1


def test_a_damaged_page_is_reported_with_its_file_and_row_group(free, tmp_path):
    given = pa.Table.from_pylist(rows(12))
    source = tmp_path / "in.parquet"
    pq.write_table(given, source, row_group_size=4, compression="zstd")
    column = pq.ParquetFile(source).metadata.row_group(1).column(1)
    data = bytearray(source.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + column.total_compressed_size] = b"\xff" * column.total_compressed_size
    source.write_bytes(data)
    assert_refused(free.run(source, "-o", tmp_path / "none", *AUTO), str(source), tmp_path / "none")
    stopped = free.run(source, "-o", tmp_path / "out", "--proxy", "smollm2-135m")
    assert stopped.exit_code == 2, stopped.exception
    assert f"{source} is damaged in row group 1 of 3, from 0 (" in stopped.stderr
    assert sorted(part_bytes(tmp_path / "out")) == ["part-000000.parquet"]


def test_a_file_without_a_row_group_is_read_beside_others(free, tmp_path):
    whole = pa.Table.from_pylist(rows(3))
    pq.write_table(whole, tmp_path / "b.parquet")
    with pq.ParquetWriter(tmp_path / "a.parquet", whole.schema):
        pass
    assert pq.ParquetFile(tmp_path / "a.parquet").metadata.num_row_groups == 0
    free.run_to_end(tmp_path / "a.parquet", tmp_path / "b.parquet", "-o", tmp_path / "out", *AUTO)
    (part,) = (tmp_path / "out").glob("*.parquet")
    assert pq.read_table(part).num_rows == 3


def test_a_field_whose_name_is_no_text_goes_to_raw(free, tmp_path):
    line = '{"question": "a b?", "context": "a b. c d.", "\\ud800x": 1, "n": 2}'
    write_lines(tmp_path / "in.jsonl", [line])
    free.run_to_end(tmp_path / "in.jsonl", "-o", tmp_path / "out", "--format", "parquet")
    (part,) = (tmp_path / "out").glob("*.parquet")
    (got,) = pq.read_table(part).to_pylist()
    assert (got["n"], json.loads(got["raw"])) == (2, {"\ud800x": 1})


def test_a_value_that_its_column_cannot_hold_goes_to_raw_and_the_row_says_so(free, tmp_path):
    lines = [{"id": n, "question": "a b?", "context": "a b. c d."} for n in (1, 2, 3, 4, "a")]
    write_lines(tmp_path / "in.jsonl", [json.dumps(line) for line in lines])
    free.run_to_end(tmp_path / "in.jsonl", "-o", tmp_path / "out", "--format", "parquet")
    first, last = (
        pq.read_table(p).to_pylist() for p in sorted((tmp_path / "out").glob("*.parquet"))
    )
    assert ([row["id"] for row in first], last[0]["id"]) == ([1, 2, 3, 4], None)
    assert json.loads(last[0]["raw"]) == {"id": "a"}
    assert "no column holds 'id' of this row; see 'raw'" in last[0]["warnings"]
    assert not any("'raw'" in one for row in first for one in row["warnings"] or ())


@pytest.mark.parametrize(
    ("data", "encoding", "message"),
    [
        ('{"question": "a?"}\n'.encode("utf-16"), "utf-8", "convert the file to UTF-8"),
        ('{"question": "a?"}\n'.encode("utf-16")[:-1], "utf-16", "convert the file to UTF-8"),
        (b"caf\xe9", "utf-8", "name the encoding with --encoding"),
        (b'[{"question": "a?"},', "utf-8", "a JSON array has to be one object a line"),
        (b'{"question": "a?", "context": null}', "utf-8", "'context' is null; give a text"),
    ],
)
def test_a_line_that_cannot_be_read_says_what_to_do(data, encoding, message):
    job = BatchJob(Budget(max_tokens=5), method="lead", encoding=encoding)
    with pytest.raises(BadInput, match=re.escape(message)):
        request_of(parse_row(1, data, job), job)


def test_files_whose_names_are_no_text_are_read_and_named(free, tmp_path):
    home = tmp_path / "in"
    home.mkdir()
    name = os.fsdecode(b"bad\xff.txt")
    (home / name).write_text("Malo was closed. " * 20)
    (home / os.fsdecode(b"worse\xfe.txt")).write_bytes(b"caf\xe9")
    asked = ("-q", QUERY)
    for form, suffix in (("jsonl", "jsonl"), ("parquet", "parquet")):
        free.run_to_end(home, "-o", tmp_path / form, *asked, "--format", form, status=1)
        assert [path.suffix for path in (tmp_path / form).glob("part-*")] == [f".{suffix}"]
    one, two = read_rows(tmp_path / "jsonl")
    assert (one["id"], one["status"], two["status"]) == (name, "ok", "error")
    (part,) = (tmp_path / "parquet").glob("*.parquet")
    assert json.loads(pq.read_table(part)["raw"].to_pylist()[0])["id"] == name
    message = tamis("batch", "verify", tmp_path / "jsonl")
    assert message.exit_code == 1, message.exception
    assert "byte 0xe9 at offset 3 cannot be read" in message.stdout
    assert "worse\\udcfe.txt" in message.stdout
    rows_file = tmp_path / os.fsdecode(b"rows\xff.jsonl")
    write_lines(rows_file, rows(2))
    free.run_to_end(rows_file, "-o", tmp_path / "rows")
    assert len(read_rows(tmp_path / "rows")) == 2
