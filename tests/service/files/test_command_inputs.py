"""Which inputs a command reads, and as what."""

from __future__ import annotations

import gzip
import io
import json
import os

import pytest

from tamis.probes.errors import BadInput
from tamis.service.files.command_inputs import InputOptions, gather_inputs

DOCUMENTS = ["One.", {"id": "b", "title": "B", "text": "Two.\n", "metadata": {"page": 3}}]


def read(*paths, stdin: bytes = b"", **how):
    return gather_inputs([str(path) for path in paths], io.BytesIO(stdin), InputOptions(**how))


def test_a_file_is_one_passage_with_its_path_as_given_and_not_a_character_changed(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = "\ufeff <p>Eins.\r\n\r\nZwei\u2028\x00</p> \n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    (passage,) = read("./a.txt").passages
    assert (passage.text, passage.id, passage.title) == (text, "./a.txt", None)


def test_a_folder_is_read_sorted_and_deep_without_what_is_hidden_or_no_text(tmp_path):
    for name in ("b.md", "a/z.txt", "a/LICENSE", ".hidden.md", ".git/config.txt", "c.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("Words.")
    (tmp_path / "picture").write_bytes(b"\x89PNG\0\0")
    (tmp_path / "model.bin").write_bytes(b"\xff\xfe")
    found = read(tmp_path)
    assert [os.path.relpath(p.id, tmp_path) for p in found.passages] == [
        "b.md",
        "c.py",
        "a/LICENSE",
        "a/z.txt",
    ]
    assert {path.name for path in found.skipped} == {"picture", "model.bin"}


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("in.json", json.dumps({"query": "Q?", "documents": DOCUMENTS})),
        ("in.json", json.dumps({"question": "Q?", "passages": DOCUMENTS})),
        ("in.json", json.dumps(DOCUMENTS)),
        ("in.jsonl", "\n".join(map(json.dumps, DOCUMENTS)) + "\n\n"),
    ],
)
def test_json_that_holds_documents_is_read_as_passages(tmp_path, name, held):
    (tmp_path / name).write_text(held)
    found = read(tmp_path / name)
    one, two = found.passages
    assert (one.text, one.id, one.title) == ("One.", None, None)
    assert (two.text, two.id, two.title, two.metadata) == ("Two.\n", "b", "B", {"page": 3})
    assert found.questions == (["Q?"] if "Q?" in held else [])


@pytest.mark.parametrize("field", ["context", "documents", "passages"])
def test_one_text_beside_a_question_is_a_document_as_in_a_row_of_a_batch(tmp_path, field):
    (tmp_path / "in.json").write_text(json.dumps({"id": "1", "question": "Q?", field: "One."}))
    found = read(tmp_path / "in.json")
    assert ([passage.text for passage in found.passages], found.questions) == (["One."], ["Q?"])
    assert found.notes() == []


def test_fields_of_a_request_that_are_not_read_are_named(tmp_path):
    request = {"question": "Q?", "documents": DOCUMENTS, "max_tokens": 8, "foo": 1, "user": None}
    (tmp_path / "in.json").write_text(json.dumps(request))
    (note,) = read(tmp_path / "in.json").notes()
    assert "are read, and not max_tokens, foo; give options on the command line" in note


def test_a_question_that_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "in.json").write_text(json.dumps({"question": 5, "documents": DOCUMENTS}))
    with pytest.raises(BadInput, match=r"in\.json: the question is a number; give a text"):
        read(tmp_path / "in.json")


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("in.json", '{"name": "tamis", "version": 1}'),
        ("in.json", "[1, 2]"),
        ("in.json", "{not json"),
        ("in.json", "[" * 100_000),
        ("in.jsonl", '{"event": "start"}\n{"event": "stop"}'),
        ("in.md", json.dumps(DOCUMENTS)),
    ],
)
def test_any_other_json_is_text(tmp_path, name, held):
    (tmp_path / name).write_text(held)
    assert [passage.text for passage in read(tmp_path / name).passages] == [held]


def test_a_line_of_json_lines_may_hold_a_line_separator(tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a\u2028b"}\n"c"\n', "utf-8")
    assert [p.text for p in read(tmp_path / "in.jsonl").passages] == ["a\u2028b", "c"]


def test_standard_input_is_read_without_paths_or_as_a_dash_as_text_or_json():
    assert [p.text for p in read(stdin=b"Plain. ").passages] == ["Plain. "]
    found = read("-", stdin=json.dumps({"question": "Q?", "documents": DOCUMENTS}).encode())
    assert (len(found.passages), found.question(None)) == (2, "Q?")
    # quoted prose is no JSON document: its quotes belong to it
    assert [p.text for p in read(stdin=b'"Quoted."').passages] == ['"Quoted."']


def test_the_question_of_the_command_line_goes_before_those_of_the_inputs(tmp_path):
    for name in "ab":
        record = {"question": f"{name}?", "documents": ["Text."]}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    found = read(tmp_path)
    assert found.question("mine?") == "mine?"
    with pytest.raises(BadInput, match="2 different questions"):
        found.question(None)


def test_what_is_not_in_the_encoding_is_named_with_its_offset_and_latin_1_reads_it(tmp_path):
    file = tmp_path / "old.txt"
    file.write_bytes("Prix: 3 €. Déjà".encode()[:10] + b"caf\xe9.")
    with pytest.raises(BadInput, match=r"old\.txt is not utf-8: byte 0x.. at offset \d+") as caught:
        read(file)
    assert "--encoding latin-1" in str(caught.value)
    file.write_bytes(b"caf\xe9.")
    assert read(file, encoding="latin-1").passages[0].text == "café."
    with pytest.raises(BadInput, match="offset 3"):
        read(file)
    with pytest.raises(BadInput, match="no encoding 'klingon'"):
        read(file, encoding="klingon")


@pytest.mark.parametrize("codec", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_utf_16_is_named_and_not_read_as_letters_with_nul_between_them(tmp_path, codec, encoding):
    file, text = tmp_path / "wide.txt", "Keys are rotated every 90 days. Räume sind blau."
    file.write_text(text, codec)
    with pytest.raises(BadInput, match=rf"wide\.txt is {codec} and not {encoding}; name its enc"):
        read(file, encoding=encoding)
    assert read(file, encoding=codec).passages[0].text == text


@pytest.mark.parametrize(
    "held", ["a\0b", "Many a word\0b stands here. " * 9, "\0" * 40 + "x", "a. b. c. " * 9]
)
def test_a_text_with_some_nul_in_it_is_text(tmp_path, held):
    (tmp_path / "in.txt").write_text(held)
    assert read(tmp_path / "in.txt").passages[0].text == held


def test_a_malformed_document_is_named_with_its_file_and_place(tmp_path):
    file = tmp_path / "in.json"
    for wrong in ({"txt": "No text."}, {"text": "x", "id": 7}, {"text": "x", "url": "u"}, 3):
        file.write_text(json.dumps({"documents": ["Fine.", wrong]}))
        with pytest.raises(BadInput, match=r"in\.json: passage 1"):
            read(file)


def test_several_requests_are_not_one_text(tmp_path):
    row = {"question": "Who?", "documents": ["Ann.", "Bob."]}
    file = tmp_path / "many.jsonl"
    file.write_text(json.dumps(row) + "\n")
    assert len(read(file).passages) == 2
    file.write_text(f"{json.dumps(row)}\n{json.dumps(row)}\n")
    with pytest.raises(BadInput, match=r"holds 2 requests.*tamis batch run"):
        read(file)


def test_what_holds_no_text_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text(" \n\t")
    (tmp_path / "none.json").write_text('{"documents": []}')
    for path, why in (
        ("empty", "holds no text files"),
        ("blank.txt", "the document given holds no text"),
        ("none.json", "0 documents"),
        ("missing.txt", "no file or folder"),
    ):
        with pytest.raises(BadInput, match=why):
            read(tmp_path / path)


def test_no_more_is_read_than_allowed(tmp_path):
    (tmp_path / "a.txt").write_text("a" * 60)
    (tmp_path / "b.txt").write_text("b" * 60)
    assert len(read(tmp_path, max_bytes=120).passages) == 2
    with pytest.raises(BadInput, match="more than 119 bytes"):
        read(tmp_path, max_bytes=119)


def test_a_terminal_is_not_waited_for():
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(BadInput, match="nothing to read"):
        gather_inputs([], Terminal(), InputOptions())


FINE = '{"text": "One."}'
TORN = '{"text": "Two."'


@pytest.mark.parametrize(
    ("name", "held", "line"),
    [
        ("in.jsonl", f"{FINE}\n\n{TORN}\n{FINE}\n", 3),
        ("in.jsonl", f'{{"event": 1}}\n{TORN}', 2),
        ("in.jsonl", "Prose.\n", 1),
        ("in.json", f"[{FINE},\n{TORN},\n{FINE}]", 3),
        ("in.json", '["One.",\n"Two"', 2),
        ("in.json", '{"question": "Q?",\n"documents": ["One."\n', 3),
        ("in.json", '{"max_tokens": 5,\n"documents": ["One.",]}', 2),
        ("-", f"{FINE}\n{TORN}\n", 2),
        ("-", '{"query": "Q?"\n"documents": ["One."]}', 2),
    ],
)
def test_broken_json_that_was_meant_as_documents_is_refused_with_its_line(
    tmp_path, monkeypatch, name, held, line
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(held)
    called = "standard input" if name == "-" else name
    with pytest.raises(BadInput, match=rf"{called}, line {line}: no JSON .*\.txt"):
        read(name, stdin=held.encode())


@pytest.mark.parametrize(
    "held", ['{"name": "tamis",}', '// settings\n{"query": 1}', '{"a": [{"text": 1},]}']
)
def test_broken_json_of_any_other_kind_is_text(tmp_path, held):
    (tmp_path / "in.json").write_text(held)
    assert [passage.text for passage in read(tmp_path / "in.json").passages] == [held]


@pytest.mark.parametrize("other", ['{"txt": "Two."}', "null"])
def test_an_element_that_is_no_document_among_documents_is_refused(tmp_path, other):
    (tmp_path / "in.json").write_text(f"[{FINE}, {other}]")
    with pytest.raises(BadInput, match=r"in\.json, element 2: neither .* as 1 of 2 elements are"):
        read(tmp_path / "in.json")


def test_a_line_that_is_no_document_among_documents_is_refused(tmp_path):
    (tmp_path / "in.jsonl").write_text(f'{FINE}\n{{"txt": "Two."}}\n"Three."\n')
    with pytest.raises(BadInput, match=r"in\.jsonl, line 2: neither .* as 2 of 3 lines are"):
        read(tmp_path / "in.jsonl")


def test_a_gzipped_file_is_read_as_what_is_in_it(tmp_path):
    (tmp_path / "a.TXT.gz").write_bytes(gzip.compress("Déjà.\r\n".encode()) * 2)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'"One."\n{"text": "Two."}'))
    (tmp_path / "c.bin.gz").write_bytes(gzip.compress(b"\0"))
    found = read(tmp_path)
    assert [p.text for p in found.passages] == ["Déjà.\r\n" * 2, "One.", "Two."]
    assert found.passages[0].id == str(tmp_path / "a.TXT.gz")
    assert [path.name for path in found.skipped] == ["c.bin.gz"]


def test_what_is_packed_counts_unpacked_and_no_more_is_unpacked_than_allowed(tmp_path):
    file = tmp_path / "bomb.txt.gz"
    file.write_bytes(gzip.compress(b"a" * 100_000))
    assert len(read(file, max_bytes=100_000).passages[0].text) == 100_000
    with pytest.raises(BadInput, match="more than 99,999 bytes"):
        read(file, max_bytes=99_999)


def test_damaged_or_unnamed_gzip_is_refused_as_such(tmp_path):
    whole = gzip.compress(b"Some words." * 100)
    for data in (whole[:-9], b"Plain words.", whole[:20] + b"\xff" + whole[21:]):
        (tmp_path / "a.txt.gz").write_bytes(data)
        with pytest.raises(BadInput, match=r"a\.txt\.gz is damaged"):
            read(tmp_path / "a.txt.gz")
    for encoding in ("utf-8", "latin-1"):
        with pytest.raises(BadInput, match="standard input is packed with gzip; unpack it"):
            read(stdin=whole, encoding=encoding)


@pytest.mark.parametrize("encoding", ["punycode", "undefined", "nope", "base64", "a\0b"])
def test_an_encoding_that_reads_no_text_is_refused(encoding):
    with pytest.raises(BadInput, match=r"encoding.*(utf-8|latin-1)"):
        read(stdin=b"Plain words, \xff.", encoding=encoding)


def test_a_closed_standard_input_is_an_error_only_if_it_is_wanted(tmp_path):
    (tmp_path / "a.txt").write_text("Words.")
    assert (
        gather_inputs([str(tmp_path / "a.txt")], None, InputOptions()).passages[0].text == "Words."
    )
    for paths, why in (([], "nothing to read"), (["-"], "standard input is closed")):
        with pytest.raises(BadInput, match=why):
            gather_inputs(paths, None, InputOptions())


def test_a_file_that_is_named_as_json_and_is_none_is_read_as_text_with_a_note(tmp_path):
    (tmp_path / "torn.json").write_text('{"name": "x",\n "about": "Keys are')
    (tmp_path / "whole.json").write_text('{"name": "x"}')
    (tmp_path / "torn.txt").write_text('{"name": ')
    found = read(tmp_path)
    assert len(found.passages) == 3
    [note] = found.notes()
    assert "torn.json, line 2: no JSON (" in note
    assert note.endswith("it is read as text")


@pytest.mark.parametrize("name", ["contents", "content", "body"])
def test_a_text_may_have_the_name_that_an_index_reads(tmp_path, name):
    lines = "".join(json.dumps({name: text, "id": text}) + "\n" for text in ("One.", "Two."))
    (tmp_path / "in.jsonl").write_text(lines)
    found = read(tmp_path / "in.jsonl").passages
    assert [(p.text, p.id) for p in found] == [("One.", "One."), ("Two.", "Two.")]
    logged = json.dumps({name: "One.", "level": "info"}) + "\n"
    (tmp_path / "log.jsonl").write_text(logged * 2)
    assert [p.text for p in read(tmp_path / "log.jsonl").passages] == [logged * 2]


def test_no_input_is_written_over(tmp_path):
    (tmp_path / "a.md").write_text("Words.")
    (tmp_path / "link.md").symlink_to(tmp_path / "a.md")
    for paths in ((tmp_path / "a.md",), (tmp_path,)):
        with pytest.raises(BadInput, match="is read and would be written over"):
            read(*paths, outputs=(None, tmp_path / "link.md"))
    assert read(tmp_path / "a.md", outputs=(tmp_path / "b.md",)).passages
