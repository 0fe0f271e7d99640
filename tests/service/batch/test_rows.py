"""What goes into a batch and what comes out of it, row by row."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

import tamis
from tests.service.batch.kit import QUERY, read_rows, rows, write_lines
from tests.service.cli.cli_kit import tamis as tamis_command


def library(row, free, **changed):
    """The single call for a row."""
    return tamis.compress(
        row["question"],
        row["documents"],
        **{"max_tokens": 20, "method": "lexical", "tokenizer": free.models[1], **changed},
    )


def test_each_row_comes_out_as_it_went_in_with_what_the_single_call_keeps(free, tmp_path):
    given = rows(11)
    free.run_to_end(write_lines(tmp_path / "in.jsonl", given), "-o", tmp_path / "out")
    got = read_rows(tmp_path / "out")
    assert [row["status"] for row in got].count("ok") > 5
    for before, after in zip(given, got, strict=True):
        result = library(before, free)
        assert {name: after[name] for name in before} == before
        assert after["compressed"] == result.text
        assert (after["tokens_in"], after["tokens_out"]) == (result.tokens_in, result.tokens_out)
        assert (after["status"], after["error"]) == (result.status, None)
        assert after["scores"] == list(result.passage_scores)
        assert after["warnings"] == list(result.warnings)
        judged = ("answerability", "verdict", "reason")
        assert [after[name] for name in judged] == [getattr(result, name) for name in judged]
        assert after["reason"]
        for span, kept in zip(after["spans"], result.kept, strict=True):
            assert [span["document"], span["start"], span["end"]] == [
                kept.passage,
                kept.start,
                kept.stop,
            ]
            text = before["documents"][span["document"]]["text"]
            assert text[span["start"] : span["end"]] in after["compressed"]


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_a_row_has_the_warnings_of_its_result(free, tmp_path, form):
    """A sentence that had to stay and was left out for room is said where the row is read."""
    given = rows(5)
    source = write_lines(tmp_path / "in.jsonl", given)
    words = ("--protect", ".", "--format", form)
    free.run_to_end(source, "-o", tmp_path / "out", *words)
    if form == "parquet":
        parts = sorted((tmp_path / "out").glob("part-*"))
        got = [row for part in parts for row in pq.read_table(part).to_pylist()]
    else:
        got = read_rows(tmp_path / "out")
    expected = [list(library(row, free, rules={"protect": ["."]}).warnings) for row in given]
    assert [row["warnings"] for row in got] == expected
    assert any(expected)


def test_a_line_is_kept_character_by_character(free, tmp_path):
    """Numbers that Python would write otherwise, doubled keys, escapes: nothing is rewritten."""
    line = '{"x": 1.0e2,"x":1E400 , "s":"\\u00e9\\ud800","question":"a?", "context":"a b. c d." }'
    write_lines(tmp_path / "in.jsonl", [line, ""])
    free.run_to_end(tmp_path / "in.jsonl", "-o", tmp_path / "out")
    (part,) = (tmp_path / "out").glob("part-*")
    assert part.read_text("utf-8").startswith(line[:-1].rstrip() + ', "compressed": "a b. c d."')


def test_nan_and_infinity_become_null_and_the_rest_of_their_line_is_kept(free, tmp_path):
    line = r'{"x":[NaN, -Infinity,1.0e2],"x" : Infinity, "s":"NaN \\\"Infinity\u00e9\\", "%s":"%s"'
    given = line % ("question", "a?") + ', "context":"a b."}'
    write_lines(tmp_path / "in.jsonl", [given])
    free.run_to_end(tmp_path / "in.jsonl", "-o", tmp_path / "out")
    (part,) = (tmp_path / "out").glob("part-*")
    expected = (
        r'{"x":[null, null,1.0e2],"x" : null, "s":"NaN \\\"Infinity\u00e9\\", "question":"a?"'
    )
    assert part.read_text("utf-8").startswith(expected)
    got = json.loads(part.read_text("utf-8"), parse_constant=pytest.fail)
    assert got["s"] == json.loads(given)["s"]


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_every_format_in_and_out_holds_the_same(free, tmp_path, suffix):
    given = rows(9)
    plain = write_lines(tmp_path / "in.jsonl", given)
    free.run_to_end(plain, "-o", tmp_path / "plain")
    source = tmp_path / f"packed.{suffix}"
    if suffix == "jsonl.gz":
        source.write_bytes(gzip.compress(plain.read_bytes()))
    elif suffix == "jsonl.zst":
        source.write_bytes(zstandard.compress(plain.read_bytes()))
    elif suffix == "parquet":
        pq.write_table(pa.Table.from_pylist(given), source, row_group_size=5)
    else:
        source = plain
    free.run_to_end(source, "-o", tmp_path / "out", "--format", suffix)
    target = tmp_path / f"all.{suffix}"
    from tests.service.cli.cli_kit import tamis as command

    assert command("batch", "merge", tmp_path / "out", "-o", target).exit_code == 0
    if suffix == "parquet":
        table = pq.read_table(target)
        assert (
            table.schema.field("documents").type == pq.read_schema(source).field("documents").type
        )
        got = table.to_pylist()
    else:
        opened = {
            "jsonl.gz": gzip.decompress,
            "jsonl.zst": zstandard.ZstdDecompressor().stream_reader,
        }
        data = target.read_bytes()
        data = opened[suffix](data) if suffix in opened else data
        text = data if isinstance(data, bytes) else data.read()
        got = [json.loads(line) for line in text.splitlines()]
    assert got == read_rows(tmp_path / "plain")


def test_lines_become_parquet_without_losing_what_no_column_can_hold(free, tmp_path):
    """The first 200 rows say which columns there are; later rows may have other ideas."""
    plain = {"id": 1, "question": "a b?", "context": "a b. c d.", "n": 1}
    odd = {"id": "two", "question": "a b?", "context": "a b. c d.", "n": 1 << 70, "late": [1]}
    write_lines(tmp_path / "in.jsonl", [plain] * 250 + [odd, "{broken"])
    free.options = (*free.options[:-1], 100)
    free.run_to_end(tmp_path / "in.jsonl", "-o", tmp_path / "out", "--format", "parquet", status=1)
    got = [
        r
        for p in sorted((tmp_path / "out").glob("*.parquet"))
        for r in pq.read_table(p).to_pylist()
    ]
    assert (got[0]["id"], got[0]["n"], got[0]["raw"]) == (1, 1, None)
    assert got[250]["id"] is None
    assert json.loads(got[250]["raw"]) == {"id": "two", "n": 1 << 70, "late": [1]}
    assert (got[251]["raw"], got[251]["status"]) == ("{broken", "error")


def test_a_retry_does_not_repeat_the_warning_of_what_no_column_holds(free, tmp_path):
    plain = {"id": 1, "question": "a b?", "context": "a b. c d."}
    source = write_lines(tmp_path / "in.jsonl", [plain] * 201 + [plain | {"late": 1}, "{broken"])
    free.options = (*free.options[:-1], 300)
    words = (source, "-o", tmp_path / "out", "--format", "parquet")
    for more in ((), ("--retry-errors",), ("--retry-errors",)):
        free.run_to_end(*words, *more, status=1)
        (part,) = (tmp_path / "out").glob("*.parquet")
        (warning,) = pq.read_table(part).to_pylist()[201]["warnings"]
        assert "no column holds 'late'" in warning


def test_lists_of_texts_stay_lists_so_that_a_batch_can_be_batched_again(free, tmp_path):
    rows = [
        {"question": "a b?", "documents": ["a b.", "c d."]},
        {"question": "c?", "documents": []},
    ]
    source = write_lines(tmp_path / "in.jsonl", [*rows[:1] * 3, *rows[1:]])
    free.run_to_end(source, "-o", tmp_path / "out", "--format", "parquet")
    (part,) = (tmp_path / "out").glob("*.parquet")
    got = pq.read_table(part)
    assert got["documents"].to_pylist() == [["a b.", "c d."]] * 3 + [[]]
    again = ("--prefix", "again_", "--format", "jsonl")
    free.run_to_end(part, "-o", tmp_path / "again", *again)
    first = read_rows(tmp_path / "again")[0]
    assert first["again_compressed"] == first["compressed"]


def test_a_question_may_stand_under_its_old_name_but_not_two_of_them(free, tmp_path):
    row = {"documents": ["A b. C d."]}
    both = {**row, "question": "a?", "query": "b?"}
    given = [{**row, "query": "a?"}, {**row, "question": "a?", "query": "a?"}, both]
    source = write_lines(tmp_path / "in.jsonl", given)
    free.run_to_end(source, "-o", tmp_path / "out", status=1)
    first, second, third = read_rows(tmp_path / "out")
    assert first["compressed"] == second["compressed"] == "A b. C d."
    assert "has 'question' and 'query', and they differ" in third["error"]
    named = free.run_to_end(source, "-o", tmp_path / "named", "--question-field", "query")
    assert named.exit_code == 0


def test_text_of_a_binary_column_is_an_error_row_with_the_way_out(free, tmp_path):
    columns = {"question": [QUERY, QUERY], "context": [b"One. Two.", None]}
    table = pa.table({**columns, "documents": [None, ["Three. Four."]]})
    pq.write_table(table, tmp_path / "in.parquet")
    words = ("--format", "jsonl")
    free.run_to_end(tmp_path / "in.parquet", "-o", tmp_path / "out", *words, status=1)
    first, second = read_rows(tmp_path / "out")
    assert "(bytes: cast the column to a string)" in first["error"]
    assert second["status"] == "passthrough"


def test_names_of_fields_can_be_given_and_one_question_asked_of_all(free, tmp_path):
    given = [
        {"key": 7, "ctxs": [{"body": "Bread is. " * 30, "url": "u", "id": 5}], "status": "mine"},
        {"key": 8, "ctxs": ["Malo is. " * 30], "question": "not this", "status": "mine"},
    ]
    write_lines(tmp_path / "in.jsonl", given)
    named = ("--documents-field", "ctxs", "--text-field", "body", "-q", QUERY)
    refused = free.run(tmp_path / "in.jsonl", "-o", tmp_path / "out", *named)
    assert refused.exit_code == 2
    assert "['status']" in refused.stderr
    assert "--prefix" in refused.stderr
    free.run_to_end(tmp_path / "in.jsonl", "-o", tmp_path / "out", *named, "--prefix", "tamis_")
    one, two = read_rows(tmp_path / "out")
    assert (one["status"], one["tamis_status"], two["tamis_status"]) == ("mine", "ok", "ok")
    expected = tamis.compress(
        QUERY, ["Malo is. " * 30], max_tokens=20, method="lexical", tokenizer=free.models[1]
    )
    assert two["tamis_compressed"] == expected.text


def test_earlier_turns_and_an_instruction_are_read_with_the_question(free, tmp_path):
    late = "after years of quarrels about money, and nobody there was sorry to see it go."
    malo, brest = f"Malo closed in 1910 {late}", f"Brest closed in 1920 {late}"
    bread = f"Bread was cheap {late}"
    text = f"{malo} {brest} {bread}"
    asks = [["Tell me of Malo."], ["Tell me of Brest."], None]
    given = [
        {"question": "When did it close?", "documents": [text], "turns": turns} for turns in asks
    ]
    source = write_lines(tmp_path / "in.jsonl", given)
    out = tmp_path / "out"
    free.run_to_end(source, "-o", out, "--history-field", "turns")
    kept = [row["compressed"] for row in read_rows(out)]
    assert kept[:2] == [malo, brest]
    free.run_to_end(source, "-o", tmp_path / "two", "--instruction", "Bread, bread")
    assert [row["compressed"] for row in read_rows(tmp_path / "two")] == [bread] * 3
    other = free.run(source, "-o", tmp_path / "four", "--history-field", "turn")
    assert "there is no field 'turn' of earlier turns" in other.stderr
    wrong = write_lines(tmp_path / "wrong.jsonl", [{**given[0], "turns": "Malo"}])
    result = free.run(wrong, "-o", tmp_path / "three", "--history-field", "turns")
    assert result.exit_code == 2
    assert "line 1: 'turns' is \"Malo\"; give a list of earlier turns" in result.stderr


def test_fewer_parts_than_workers_are_reported(free, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", rows(3))
    assert (
        "1 parts for 2 workers"
        in free.run_to_end(source, "-o", tmp_path / "o", "--workers", 2).stderr
    )


def test_in_a_folder_a_text_file_is_a_row_and_files_of_rows_are_read_as_such(free, tmp_path):
    home = tmp_path / "in"
    (home / "deep").mkdir(parents=True)
    (home / "b.txt").write_text("Malo was closed. " * 20)
    (home / "deep" / "a.md").write_bytes(b"harbour. caf\xe9 " * 20)
    (home / ".hidden.txt").write_text("no")
    (home / "picture.png").write_bytes(b"\x89PNG")
    write_lines(home / "rows.jsonl", rows(2))
    free.run_to_end(home, "-o", tmp_path / "out", "-q", QUERY, status=1)
    got = read_rows(tmp_path / "out")
    assert [row["id"] for row in got[:3]] == ["r0", "r1", "b.txt"]
    assert got[2]["context"] == "Malo was closed. " * 20
    assert "a.md is not utf-8: byte 0xe9 at offset 12 cannot be read" in got[3]["error"]
    latin = free.run_to_end(home, "-o", tmp_path / "o2", "-q", QUERY, "--encoding", "latin-1")
    assert latin.exit_code == 0
    assert read_rows(tmp_path / "o2")[3]["context"].startswith("harbour. café ")


def test_parts_depend_on_the_input_alone_and_never_cross_a_file(free, tmp_path):
    a = write_lines(tmp_path / "a.jsonl", ["", *rows(6), "  "])
    b = write_lines(tmp_path / "b.jsonl", rows(3))
    free.run_to_end(a, b, "-o", tmp_path / "out")
    counts = [
        len(path.read_text().splitlines()) for path in sorted((tmp_path / "out").glob("part-*"))
    ]
    assert counts == [4, 2, 3]
    free.run_to_end(a, b, "-o", tmp_path / "two", "--workers", 2)
    assert [p.read_bytes() for p in sorted((tmp_path / "out").glob("part-*"))] == [
        p.read_bytes() for p in sorted((tmp_path / "two").glob("part-*"))
    ]


def test_a_remote_file_system_is_read_and_written(free, tmp_path):
    """fsspec's memory:// stands for every store that puts a file in one piece."""
    import fsspec

    fs = fsspec.filesystem("memory")
    plain = write_lines(tmp_path / "in.jsonl", rows(6))
    fs.pipe_file("/lake/in.jsonl", plain.read_bytes())
    free.run_to_end(plain, "-o", tmp_path / "out")
    free.run_to_end("memory://lake/in.jsonl", "-o", "memory://lake/out")
    remote = b"".join(fs.cat_file(p) for p in sorted(fs.glob("/lake/out/part-*.jsonl")))
    assert remote == b"".join(p.read_bytes() for p in sorted((tmp_path / "out").glob("part-*")))
    again = free.run_to_end("memory://lake/in.jsonl", "-o", "memory://lake/out")
    assert "2 of 2 parts are done already" in again.stderr


SAMPLES = Path(__file__).parents[1] / "files" / "samples"


def test_a_file_of_a_folder_that_is_no_row_is_named_and_fails_the_run(free, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    (source / "a.md").write_text("Keys are rotated every day.")
    (source / "blob.bin").write_bytes(bytes(range(256)))
    asked = ("--question", "How often are keys rotated?")
    for more, status in ((("--dry-run",), 0), (("--quiet",), 1), (("--quiet",), 1)):
        done = free.run_to_end(source, "-o", tmp_path / "out", *asked, *more, status=status)
        assert "passed over blob.bin (holds binary data" in done.stderr
    verified = tamis_command("batch", "verify", tmp_path / "out")
    assert verified.exit_code == 1
    assert verified.stdout == "1 rows in 1 parts: whole, 0 failed\n"
    assert verified.stderr.startswith("passed over blob.bin (holds binary data")
    assert [row["id"] for row in read_rows(tmp_path / "out")] == ["a.md"]


def test_pages_and_pdfs_of_a_folder_are_rows_whose_spans_point_into_their_context(free, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for name in ("keys.html", "keys.pdf", "keys.docx"):
        (source / name).write_bytes((SAMPLES / name).read_bytes())
    (source / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (source / "torn.pdf").write_bytes((SAMPLES / "keys.pdf").read_bytes()[:500])
    question = "After how many days is a signing key rotated?"
    done = free.run_to_end(source, "-o", tmp_path / "out", "--question", question, status=1)
    assert "passed over picture.png (is a picture; " in done.stderr
    *whole, torn = read_rows(tmp_path / "out")
    assert "torn.pdf cannot be read as PDF" in torn["error"]
    found = {row["id"]: row for row in whole}
    assert set(found) == {"keys.html", "keys.pdf", "keys.docx"}
    assert found["keys.html"]["context"] == found["keys.docx"]["context"]
    assert len(found["keys.pdf"]["page_starts"]) == 3
    for row in whole:
        parts = [row["context"][span["start"] : span["end"]] for span in row["spans"]]
        assert parts
        assert all(part.strip() in row["compressed"] for part in parts), row
        assert not any("<p>" in part for part in parts)
    raw = free.run_to_end(
        source / "keys.html", "-o", tmp_path / "raw", "-q", question, "--input-format", "text"
    )
    assert raw.exit_code == 0
    (row,) = read_rows(tmp_path / "raw")
    assert row["context"] == (SAMPLES / "keys.html").read_text("utf-8")


def test_a_document_of_a_row_that_says_it_is_html_is_an_error_row_with_the_way_out(free, tmp_path):
    row = {"question": "Who?", "documents": [{"text": "<p>Ann.</p>", "format": "html"}]}
    source = write_lines(tmp_path / "in.jsonl", [row, *rows(1)])
    free.run_to_end(source, "-o", tmp_path / "out", status=1)
    found, _ = read_rows(tmp_path / "out")
    assert "give pages as .html files, or what tamis.read_html made of them" in found["error"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_rows_come_out_without_their_documents_on_request(free, tmp_path, suffix):
    given = [{**row, "context": None, "more": 1} for row in rows(5)]
    source = write_lines(tmp_path / "in.jsonl", given)
    whole = free.run_to_end(source, "-o", tmp_path / "whole", "--format", suffix)
    kept = free.run_to_end(source, "-o", tmp_path / "kept", "--format", suffix, "--only-kept")
    assert (whole.exit_code, kept.exit_code) == (0, 0)
    if suffix == "jsonl":
        before, after = read_rows(tmp_path / "whole"), read_rows(tmp_path / "kept")
    else:
        before, after = (
            [
                row
                for part in sorted((tmp_path / name).glob("*.parquet"))
                for row in pq.read_table(part).to_pylist()
            ]
            for name in ("whole", "kept")
        )
    lost = {"documents", "context"}
    assert after == [{k: v for k, v in row.items() if k not in lost} for row in before]
    assert all(row["compressed"] and row["question"] for row in after)


def test_an_error_row_of_a_file_has_its_name_and_a_text_that_is_an_object_is_said_to_be_one(
    free, tmp_path
):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.txt").write_text("Malo was closed. " * 20)
    (tmp_path / "in/b.txt").write_bytes("Größe".encode("latin-1"))
    free.run(tmp_path / "in", "-o", tmp_path / "out", "-q", QUERY)
    assert [(row["id"], row["status"]) for row in read_rows(tmp_path / "out")] == [
        ("a.txt", "ok"),
        ("b.txt", "error"),
    ]
    given = [*rows(1), {"question": QUERY, "documents": [{"text": {"x": 1}}]}]
    free.run(write_lines(tmp_path / "in.jsonl", given), "-o", tmp_path / "two")
    _, got = read_rows(tmp_path / "two")
    assert "document 0: 'text' is {\"x\": 1}; give a text" in got["error"]


@pytest.mark.parametrize("packing", ["", ".gz"])
def test_a_json_text_of_many_lines_has_the_rows_of_its_array_or_is_one(free, tmp_path, packing):
    given = [{**row, "more": "größe", "n": [1.5, None]} for row in rows(9)]
    lines = write_lines(tmp_path / "lines.jsonl", [*given, 7])
    free.run_to_end(lines, "-o", tmp_path / "lines", status=1)
    folder, pack = tmp_path / "in", gzip.compress if packing else bytes
    folder.mkdir()
    texts = {
        "pretty": json.dumps([*given, 7], indent=2),
        "flat": json.dumps([*given, 7], ensure_ascii=False),
        "lines": lines.read_text("utf-8"),
    }
    for name, text in texts.items():
        source = folder / f"{name}.json{packing}"
        source.write_bytes(pack(text.encode()))
        free.run_to_end(source, "-o", tmp_path / name / "out", status=1)
        *got, bad = read_rows(tmp_path / name / "out")
        assert got == read_rows(tmp_path / "lines")[:-1]
        assert bad["error"] == f"{source}, row 10: the row is 7; give a JSON object"
    one = folder / f"one.json{packing}"
    one.write_bytes(pack(json.dumps(given[0], indent=2).encode()))
    free.run_to_end(folder, "-o", tmp_path / "out", status=1)
    assert len(read_rows(tmp_path / "out")) == 31


def test_a_packed_text_is_a_row_as_the_text_itself_is(free, tmp_path):
    folder, texts = tmp_path / "in", tmp_path / "texts"
    folder.mkdir()
    texts.mkdir()
    for name, pack in {"a.md.gz": gzip.compress, "b.md.xz": lzma.compress}.items():
        text = f"{name} was closed. ".encode() * 20
        (folder / name).write_bytes(pack(text))
        (texts / name[:4]).write_bytes(text)
    (folder / "blob.bin.gz").write_bytes(gzip.compress(bytes(range(256))))
    (folder / "torn.md.gz").write_bytes(gzip.compress(b"Torn.")[:-6])
    (folder / "packed").write_bytes(gzip.compress(b"Text."))
    done = free.run_to_end(folder, "-o", tmp_path / "out", "-q", QUERY, status=1)
    free.run_to_end(texts, "-o", tmp_path / "plain", "-q", QUERY)
    unnamed = [
        [{**row, "id": row["id"][:4]} for row in read_rows(tmp_path / out)]
        for out in ("out", "plain")
    ]
    assert unnamed[0] == unnamed[1]
    assert "blob.bin.gz (holds binary data" in done.stderr
    assert "torn.md.gz is damaged" in done.stderr
    assert "packed (is packed with gzip; unpack it, or have its name end in .gz)" in done.stderr
