"""`tamis index`: a corpus is indexed and found; an impossible call is one sentence."""

from __future__ import annotations

import gzip
import json

import pyarrow
import pyarrow.parquet
import pytest

from tamis.retrieval.approximate import segment_search
from tests.service.cli.cli_kit import tamis

MARKDOWN = "# Keys\n\nKeys are rotated every ninety days.\n\n# Logs\n\nLogs are kept for a week.\n"
HTML = "<html><body><h1>Ports</h1><p class='x'>The default port is 8080.</p></body></html>"
ROWS = [
    {"docid": 7, "title": "Malo", "text": "The old harbour was closed in 1907.", "year": 1907},
    {"docid": 8, "text": "Bread was cheap.", "metadata": {"year": 1850}, "lang": "en"},
]


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    (folder / "keys.md").write_text(MARKDOWN)
    (folder / "sub/ports.html").write_text(HTML)
    (folder / ".hidden.md").write_text("hidden")
    with gzip.open(folder / "rows.jsonl.gz", "wt") as rows:
        rows.write("\n".join(map(json.dumps, ROWS)) + "\n\n")
    return folder


@pytest.fixture
def index(corpus, tmp_path):
    home = tmp_path / "docs.index"
    done = tamis("index", "build", corpus, "-o", home, "--no-model")
    assert done.exit_code == 0, done.output
    assert "4 documents added" in done.stderr
    return home


def search_hits(index, question, *words):
    done = tamis("index", "search", index, "-q", question, "--json", *words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)["hits"]


def refusal_message(*words):
    done = tamis(*words)
    assert done.exit_code == 2, done.output
    message = done.stderr.strip()
    assert message.startswith("tamis: ")
    assert message.count("\n") == 0
    return message


def test_documents_of_every_kind_are_found_with_their_position(index, corpus):
    (hit,) = search_hits(index, "how often are keys rotated")
    assert hit["document"] == "keys.md"
    assert hit["text"] == MARKDOWN[hit["start"] : hit["end"]]
    assert search_hits(index, "default port")[0]["document"] == "sub/ports.html"
    assert search_hits(index, "class html body") == []
    (hit,) = search_hits(index, "harbour")
    assert (hit["document"], hit["title"], hit["metadata"]) == ("7", "Malo", {"year": 1907})


def test_conditions_choose_among_documents(index):
    assert [
        h["document"] for h in search_hits(index, "harbour bread", "--where", "year>=1900")
    ] == ["7"]
    both = ("--where", "year<1900", "--where", "lang=en,de")
    assert [h["document"] for h in search_hits(index, "harbour bread", *both)] == ["8"]
    assert "is no condition" in refusal_message(
        "index", "search", index, "-q", "x", "--where", "year"
    )


def test_an_index_is_added_to_deleted_from_and_compacted(index, corpus, tmp_path):
    (corpus / "keys.md").write_text("Keys never change.")
    assert "1 replaced" in tamis("index", "add", index, corpus).stderr
    assert [h["text"] for h in search_hits(index, "keys")] == ["Keys never change."]
    assert "2 documents deleted, 2 left" in tamis("index", "delete", index, "7", "8").stderr
    assert search_hits(index, "harbour bread") == []
    assert tamis("index", "optimise", index).exit_code == 0
    stats = json.loads(tamis("index", "stats", index, "--json").stdout)
    assert (stats["documents"], stats["documents_deleted"], stats["segments"]) == (2, 0, 1)
    assert "no document '7'" in refusal_message("index", "delete", index, "7")


def test_a_search_without_hits_says_what_to_try(index):
    def advice(*more):
        return tamis("index", "search", index, "-q", "zeppelins", *more).stderr

    assert "loosen --where, or ask in other words" in advice("--where", "year>3000")
    assert "nothing was found; ask in other words" in advice()
    for document in ("keys.md", "sub/ports.html", "7", "8"):
        tamis("index", "delete", index, document)
    assert "the index is empty; add documents with tamis index add" in advice()


def test_damage_is_named(index):
    assert "every byte is as it was written" in tamis("index", "verify", index).stdout
    file = next(index.rglob("chunks.jsonl"))
    file.write_bytes(file.read_bytes().replace(b"ninety", b"eighty"))
    assert "chunks.jsonl" in refusal_message("index", "verify", index)
    assert "chunks.jsonl" in refusal_message("index", "search", index, "-q", "keys rotated")


def test_parquet_rows_are_documents(tmp_path):

    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist([{"id": "a", "text": "A quay."}]), tmp_path / "a.parquet"
    )
    assert (
        tamis(
            "index", "build", tmp_path / "a.parquet", "-o", tmp_path / "i", "--no-model"
        ).exit_code
        == 0
    )
    assert [h["document"] for h in search_hits(tmp_path / "i", "quay")] == ["a"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("[1]", "line 2: a row is a JSON object"),
        ("{", "line 2: not JSON"),
        ('{"id": 1, "words": "x"}', "there is no text in 'text'"),
        ('{"id": 1, "text": 5}', "there is no text in 'text'"),
    ],
)
def test_a_row_that_is_no_document_is_named_with_its_place(tmp_path, row, message):
    (tmp_path / "rows.jsonl").write_text(f'{{"id": 0, "text": "A quay."}}\n{row}\n')
    assert message in refusal_message(
        "index", "build", tmp_path / "rows.jsonl", "-o", tmp_path / "i", "--no-model"
    )


def test_fields_go_by_other_names(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"key": "k", "words": "A quay.", "name": "N", "n": 1}\n')
    named = ("--id-field", "key", "--text-field", "words", "--title-field", "name")
    done = tamis(
        "index", "build", tmp_path / "rows.jsonl", "-o", tmp_path / "i", "--no-model", *named
    )
    assert done.exit_code == 0, done.output
    (hit,) = search_hits(tmp_path / "i", "quay")
    assert (hit["document"], hit["title"], hit["metadata"]) == ("k", "N", {"n": 1})


def test_missing_files_and_indexes_are_named(tmp_path, index):
    assert "no file or folder" in refusal_message(
        "index", "build", tmp_path / "gone", "-o", tmp_path / "i"
    )
    assert "there is no index" in refusal_message("index", "search", tmp_path, "-q", "x")
    assert "--overwrite" in refusal_message(
        "index", "build", tmp_path / "docs", "-o", index, "--no-model"
    )
    assert "it has bm25" in refusal_message("index", "search", index, "-q", "x", "--by", "keys")
    assert "--no-model" in refusal_message(
        "index", "build", tmp_path / "docs", "-o", tmp_path / "i", "--proxy", tmp_path / "other"
    )


def test_a_search_of_words_loads_no_model_library(index):
    import subprocess
    import sys

    script = (
        "import sys\nfrom pathlib import Path\n"
        "from tamis.retrieval.index.store import CorpusIndex\n"
        f"assert CorpusIndex.open({str(index)!r}).search('keys')\n"
        "assert not {'torch', 'transformers'} & set(sys.modules), 'loaded'"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=600)


def test_optimise_and_search_say_what_an_index_of_words_has_not(index, corpus, tmp_path):
    assert "no keys" in refusal_message("index", "optimise", index, "--search", "graph")
    asked = ("index", "search", index, "-q", "keys", "--search")
    assert "choose from auto, exact, graph" in refusal_message(*asked, "annoy")
    assert "is a search of keys" in refusal_message(*asked, "graph")
    build = ("index", "build", corpus, "-o", tmp_path / "n", "--no-model", "--search")
    assert "choose from" in refusal_message(*build, "annoy")
    assert "no keys" in refusal_message(*build, "graph")
    done = tamis(*asked, "exact", "--json")
    assert json.loads(done.stdout)["keys_read"] == 0
    assert json.loads(tamis("index", "stats", index, "--json").stdout)["searches"] == {"exact": 1}


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_an_index_is_optimised_for_the_questions_of_a_file(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(segment_search, "AUTO_KEYS", 20)
    home, asked = tmp_path / "keys.index", tmp_path / "asked.txt"
    asked.write_text("How often are keys rotated?\n")
    words = ("index", "build", corpus, "-o", home, "--search", "exact")
    assert tamis(*words).exit_code == 0
    found = tamis("index", "search", home, "-q", "keys", "--search", "graph")
    assert "tamis index optimise" in found.stderr
    done = tamis("index", "optimise", home, "--questions", asked)
    assert done.exit_code == 0, done.output
    assert "(1 graph)" in done.stderr
    done = tamis("index", "search", home, "-q", "How often are keys rotated?", "--json")
    assert json.loads(done.stdout)["hits"][0]["document"] == "keys.md"
    assert json.loads(done.stdout)["keys_read"] > 0
    assert "holds no question" in refusal_message(
        "index", "optimise", home, "--questions", _empty(tmp_path)
    )


def _empty(folder):
    (folder / "none.txt").write_text("\n")
    return folder / "none.txt"
