"""`tamis index build`: which files and rows become which documents, and what is refused."""

from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from tamis.probes.errors import BadInput
from tamis.service.files import corpus
from tamis.service.files.corpus import find_corpus_files
from tests.service.cli.cli_kit import tamis
from tests.service.cli.commands.test_index import refusal_message, search_hits


@pytest.fixture
def home(tmp_path):
    return tmp_path / "i"


def build(home, *words):
    done = tamis("index", "build", *words, "-o", home, "--no-model")
    assert done.exit_code == 0, done.output
    return done.stderr


def rows(path, *given):
    path.write_text("".join(f"{json.dumps(row)}\n" for row in given))
    return path


@pytest.fixture
def twins(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "readme.md").write_text(f"Text of {name}.")
    return tmp_path / "a", tmp_path / "b"


def test_files_of_one_name_are_told_apart_or_refused(twins, home, tmp_path):
    message = refusal_message("index", "build", *twins, "-o", home, "--no-model")
    assert f"{twins[0]}/readme.md and {twins[1]}/readme.md would both be" in message
    assert "2 documents added" in build(home, *(folder / "readme.md" for folder in twins))
    assert (
        len(find_corpus_files([str(twins[0]), str(twins[0])])) == 1
    )  # the same file is no other one


def test_a_packed_text_that_unpacks_beyond_a_bound_is_refused_before_it_is_unpacked(
    tmp_path, home, monkeypatch
):
    monkeypatch.setattr(corpus, "MAX_LINE_BYTES", 1 << 20)
    bomb, text = tmp_path / "bomb.txt.gz", tmp_path / "text.txt.gz"
    bomb.write_bytes(gzip.compress(b"Keys. " * 10_000_000))
    text.write_bytes(gzip.compress(b"Keys are rotated. " * 1000))
    message = refusal_message("index", "build", bomb, "-o", home, "--no-model")
    assert "bomb.txt.gz unpacks to over 1 MiB; split it" in message
    assert "1 documents added" in build(tmp_path / "other", text)


def test_a_file_that_cannot_be_read_stops_no_build_of_its_folder(twins, home, tmp_path):
    folder = twins[0]
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 cut short")
    (folder / "latin.txt").write_bytes("Größe".encode("latin-1"))
    (folder / "picture.png").write_bytes(b"\x89PNG")
    stderr = build(home, folder)
    assert "passed over 3 files: " in stderr
    for name in ("broken.pdf", "latin.txt", "picture.png"):
        assert f"{folder / name} (" in stderr
    assert "1 documents added" in stderr
    assert "broken.pdf" in refusal_message("index", "add", home, folder / "broken.pdf")
    (folder / "readme.md").unlink()
    message = refusal_message("index", "build", folder, "-o", tmp_path / "other", "--no-model")
    assert "nothing could be read; passed over 2 files" in message


def test_a_repeated_id_is_reported(tmp_path, home):
    message = build(
        home, rows(tmp_path / "r.jsonl", *({"id": i % 2, "text": "x"} for i in range(5)))
    )
    assert "2 documents added" in message
    assert "3 documents had an id that came again; the later counts" in message


def test_a_file_of_a_folder_that_is_added_by_its_path_is_told_to_stand_beside_it(twins, home):
    """Its id is its path as given; a file that is new to the index, or replaced, has no twin."""
    build(home, twins[0])
    told = tamis("index", "add", home, twins[0] / "readme.md").stderr
    assert f"{twins[0]}/readme.md was added and readme.md stays" in " ".join(told.split())
    assert "stays" not in tamis("index", "add", home, twins[0], twins[0] / "readme.md").stderr
    (twins[0] / "new.md").write_text("New.")
    assert "stays" not in tamis("index", "add", home, twins[0] / "new.md").stderr


def test_an_index_is_no_corpus(tmp_path, home, monkeypatch):
    (tmp_path / "keys.md").write_text("Keys are rotated.")
    monkeypatch.chdir(tmp_path)
    build("idx", ".")
    assert "0 documents added" in tamis("index", "add", "idx", ".").stderr
    assert "1 documents added" in build("idx", ".", "--overwrite")
    segment = tmp_path / "idx/segments/000001/docs.jsonl"
    assert "lies in the index" in refusal_message(
        "index", "build", segment, "-o", home, "--no-model"
    )
    assert "lies in the index" in refusal_message("index", "build", "idx", "-o", home, "--no-model")
    assert "empty name" in refusal_message("index", "build", "", "-o", home, "--no-model")
    assert not home.exists()


def test_an_index_is_replaced_only_by_a_corpus_that_can_be_read(twins, home, tmp_path):
    build(home, twins[0])
    bad = rows(tmp_path / "bad.jsonl", {"id": 1, "text": "fine"}, {"words": "x"})
    assert "line 2" in refusal_message(
        "index", "build", bad, "-o", home, "--no-model", "--overwrite"
    )
    assert search_hits(home, "text")[0]["document"] == "readme.md"
    assert "--overwrite" in tamis("index", "stats", home).stderr
    build(home, rows(bad, {"id": 7, "text": "fine"}), "--overwrite")
    assert [hit["document"] for hit in search_hits(home, "fine text")] == ["7"]


def test_a_build_of_another_corpus_does_not_go_on(home, tmp_path):
    bad = rows(tmp_path / "bad.jsonl", *({"id": i, "text": "apple"} for i in range(3000)), [1])
    refusal_message("index", "build", bad, "-o", home, "--no-model")
    good = rows(tmp_path / "good.jsonl", {"id": "new", "text": "banana"})
    assert "another corpus" in refusal_message("index", "build", good, "-o", home, "--no-model")
    rows(bad, {"id": 5, "text": "apple"})
    build(home, bad)
    assert json.loads(tamis("index", "stats", home, "--json").stdout)["documents"] == 1


@pytest.mark.parametrize(
    ("row", "title", "metadata"),
    [
        ({"id": "a", "title": 1984}, "1984", {}),
        ({"id": "a", "metadata": '{"lang": "en"}', "n": 1}, None, {"lang": "en", "n": 1}),
        ({"id": "a", "metadata": "plain"}, None, {"metadata": "plain"}),
        ({"id": "a", "metadata": ["x", "y"]}, None, {"metadata": ["x", "y"]}),
        ({"id": None, "_id": "a", "title": None}, None, {}),
        ({"id": "a", "title": ["one"]}, None, {"title": ["one"]}),
        ({"id": "a", "year": float("nan")}, None, {"year": None}),
    ],
)
def test_nothing_of_a_row_is_lost(tmp_path, home, row, title, metadata):
    build(home, rows(tmp_path / "r.jsonl", {"text": "A quay.", **row}))
    (hit,) = search_hits(home, "quay")
    assert (hit["document"], hit["title"], hit["metadata"]) == ("a", title, metadata)


def test_json_for_programs_has_no_numbers_that_json_has_not(tmp_path, home):
    build(home, rows(tmp_path / "r.jsonl", {"id": "a", "text": "A quay.", "n": float("inf")}))
    done = tamis("index", "search", home, "-q", "quay", "--json")
    assert "Infinity" not in done.stdout
    assert json.loads(done.stdout)["hits"][0]["metadata"] == {"n": None}


def test_bytes_of_parquet_are_base64(tmp_path, home):
    table = pyarrow.table({"id": ["a"], "text": ["A quay."], "b": [b"\xff\x00"], "title": [7]})
    pyarrow.parquet.write_table(table, tmp_path / "r.parquet")
    build(home, tmp_path / "r.parquet")
    (hit,) = search_hits(home, "quay")
    assert (hit["metadata"], hit["title"]) == ({"b": "/wA="}, "7")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "a", "text": None}, "line 1: the text in 'text' is null"),
        ({"id": "", "text": "x"}, "line 1: a document's id is ''"),
    ],
)
def test_a_row_is_refused_for_what_is_wrong_with_it(tmp_path, home, row, message):
    file = rows(tmp_path / "r.jsonl", row)
    assert message in refusal_message("index", "build", file, "-o", home, "--no-model")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path, home):
    text = "\ufeff# Bill\n\nA paragraph of some length.\n\nAnother one here.\n"
    (tmp_path / "bill.md").write_text(text, "utf8")
    build(home, tmp_path / "bill.md", "--chunk-chars", "20")
    assert [hit["heading"] for hit in search_hits(home, "another")] == ["Bill"]


def test_verify_names_every_damaged_file(twins, home):
    build(home, twins[0])
    (home / "segments/000001/chunks.jsonl").write_text("x")
    (home / "segments/000001/lengths.npy").unlink()
    message = refusal_message("index", "verify", home)
    assert "damaged in 2 files" in message
    assert "chunks.jsonl: it has 1 bytes" in message
    assert "lengths.npy: No such file" in message


@pytest.mark.parametrize("by", ["", ",", " , "])
def test_legs_that_name_nothing_are_refused(twins, home, by):
    build(home, twins[0])
    assert "searched by nothing" in refusal_message(
        "index", "search", home, "-q", "text", "--by", by
    )
    assert "searched by nothing" in refusal_message("ask-context", home, "-q", "text", "--by", by)


@pytest.mark.parametrize(
    "body",
    ["[1]", "{", "{}", '{"model": 1}', "[" * 100_000],
)
def test_a_broken_recipe_is_refused(twins, home, tmp_path, body):
    (tmp_path / "recipe.json").write_text(body)
    message = refusal_message(
        "index", "build", twins[0], "-o", home, "--recipe", tmp_path / "recipe.json"
    )
    assert "cannot be read as a recipe" in message


def test_a_recipe_of_odd_parts_is_refused(tmp_path):
    from tamis.retrieval.keys.recipe import RECIPES
    from tamis.service.api.index import index_settings

    whole = json.loads((RECIPES / "smollm2-135m.json").read_text())
    for name, value in (
        ("heads", [[1], [2]]), ("heads", [["a", 1], [2, 3]]), ("heads", []), ("heads", 5),
        ("weights", ["x", 1]), ("weights", [float("nan"), 1]), ("key_means", [[1], [1, 2]]),
        ("model", None), ("extra", 1),
    ):  # fmt: skip
        (tmp_path / "r.json").write_text(json.dumps({**whole, name: value}))
        with pytest.raises(BadInput, match="recipe"):
            index_settings(recipe=tmp_path / "r.json")


def test_the_proxy_of_sentences_is_not_the_proxy_of_the_index(twins, home, monkeypatch):
    from tamis.retrieval.index.store import CorpusIndex

    build(home, twins[0])

    def refuse_open(index, *, proxy=None, root=None):
        raise BadInput(f"opened with {proxy}")

    monkeypatch.setattr(CorpusIndex, "open", refuse_open)
    message = refusal_message("ask-context", home, "-q", "text", "--proxy", twins[1])
    assert "opened with None" in message
