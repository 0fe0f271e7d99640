"""What the command line reads, and as what."""

from __future__ import annotations

import io
import json
import os

import pytest

from tamis.probes.errors import BadInput
from tamis.service.cli.inputs import Reading, gather

DOCUMENTS = ["One.", {"id": "b", "title": "B", "text": "Two.\n", "metadata": {"page": 3}}]


def read(*paths, say: bytes = b"", **how):
    return gather([str(path) for path in paths], io.BytesIO(say), Reading(**how))


def test_a_file_is_one_passage_with_its_path_as_given_and_not_a_character_changed(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = "\ufeff <p>Eins.\r\n\r\nZwei\u2028\x00</p> \n"
    (tmp_path / "a.html").write_bytes(text.encode())
    (passage,) = read("./a.html").passages
    assert (passage.text, passage.id, passage.title) == (text, "./a.html", None)


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
    assert [p.text for p in read(say=b"Plain. ").passages] == ["Plain. "]
    found = read("-", say=json.dumps({"question": "Q?", "documents": DOCUMENTS}).encode())
    assert (len(found.passages), found.question(None)) == (2, "Q?")
    # quoted prose is no JSON document: its quotes belong to it
    assert [p.text for p in read(say=b'"Quoted."').passages] == ['"Quoted."']


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


def test_a_malformed_document_is_named_with_its_file_and_place(tmp_path):
    file = tmp_path / "in.json"
    for wrong in ({"txt": "No text."}, {"text": "x", "id": 7}, {"text": "x", "url": "u"}, 3):
        file.write_text(json.dumps({"documents": ["Fine.", wrong]}))
        with pytest.raises(BadInput, match=r"in\.json: passage 1"):
            read(file)


def test_what_holds_no_text_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "blank.txt").write_text(" \n\t")
    (tmp_path / "none.json").write_text('{"documents": []}')
    for path, why in (
        ("empty", "holds no text files"),
        ("blank.txt", "hold no text"),
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

    with pytest.raises(BadInput, match="nothing to compress"):
        gather([], Terminal(), Reading())
