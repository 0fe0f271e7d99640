"""`tamis index build`: which files and rows become which documents, and what is refused."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import shutil
import tarfile

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.storage.postings import index_terms
from tamis.service.files import corpus
from tamis.service.files.command_inputs import InputOptions, gather_inputs
from tamis.service.files.corpus import find_corpus_files
from tests.service.cli.cli_kit import tamis
from tests.service.cli.commands.test_index import refusal_message, search_hits

ESTIMATED = ("--tokenizer", "estimate")


@pytest.fixture
def home(tmp_path):
    return tmp_path / "i"


def build(home, *words, exit_code=0):
    done = tamis("index", "build", *words, "-o", home, "--no-model")
    assert done.exit_code == exit_code, done.output
    return done.stderr


def ids(home):
    return {record["id"] for record in CorpusIndex.open(home).documents()}


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
    (folder / "bad.jsonl").write_text('{"text": "Fine."}\n{')
    (folder / "gone.md").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.log")
    for number in range(9):
        (folder / f"data{number}").write_bytes(bytes(range(99)))
    unread = {file.name for file in folder.iterdir()} - {"readme.md", "bad.jsonl"}
    stderr = build(home, folder, exit_code=1)
    told = [line for line in stderr.splitlines() if line.startswith("passed over ")]
    places = {line.partition(" (")[0].rpartition("/")[2] for line in told}
    assert places == unread | {"bad.jsonl, line 2"}
    assert all(line.endswith(")") for line in told)
    assert "2 documents added" in stderr
    assert tamis("index", "sync", home, folder, "--quiet").exit_code == 1
    assert "broken.pdf" in refusal_message("index", "add", home, folder / "broken.pdf")
    (folder / "readme.md").unlink()
    (folder / "bad.jsonl").unlink()
    message = refusal_message("index", "build", folder, "-o", tmp_path / "other", "--no-model")
    assert "nothing could be read; passed over 14 files" in message


def test_a_row_that_cannot_be_read_stops_no_row_behind_it(twins, home):
    lines = ['{"text": "One."}', '{"text": null}', "{", "[1]", '{"text": "Five."}']
    (twins[0] / "rows.jsonl").write_text("\n".join(lines))
    message = build(home, twins[0], exit_code=1)
    assert ids(home) == {"readme.md", "rows.jsonl:1", "rows.jsonl:5"}
    assert [n for n in range(1, 6) if f"rows.jsonl, line {n} (" in message] == [2, 3, 4]


def test_of_much_that_is_passed_over_the_first_is_named_and_the_rest_counted(twins, home, tmp_path):
    (twins[0] / "rows.jsonl").write_text('{"text": "One."}\n' + "{\n" * 1000)
    for number in range(5):
        (twins[0] / f"x{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    *told, rest = build(home, twins[0], exit_code=1).splitlines()[-21:]
    assert [line.partition(" (")[0] for line in told] == [
        f"passed over {twins[0]}/rows.jsonl, line {n}" for n in range(2, 22)
    ]
    assert rest == "passed over 985 more"
    found = find_corpus_files([str(twins[0])])
    notes = corpus.ReadingNotes()
    assert len(list(corpus.read_documents(found, corpus.CorpusFields(), "utf-8", notes))) == 2
    assert (len(notes.passed_over), notes.passed_over.count, len(notes.unread)) == (20, 1005, 6)
    (twins[0] / "rows.jsonl").write_text("{\n" * 1000)
    (twins[0] / "readme.md").unlink()
    message = refusal_message("index", "build", twins[0], "-o", tmp_path / "j", "--no-model")
    assert "passed over 1,005 files" in message
    assert message.strip().endswith(" and 1,000 more")


def test_a_repeated_id_is_reported(tmp_path, home):
    message = build(
        home, rows(tmp_path / "r.jsonl", *({"id": i % 2, "text": f"Row {i}."} for i in range(5)))
    )
    assert "2 documents added" in message
    assert "3 documents had an id that came again; the later counts: 0, 1\n" in message
    for command in ("add", "sync"):
        again = tamis("index", command, home, tmp_path / "r.jsonl").stderr
        assert "0 documents added, 0 replaced, 2 unchanged" in again


def test_a_file_has_one_id_however_it_is_added(tmp_path, home, monkeypatch):
    docs, alone = tmp_path / "docs", tmp_path / "docs/sub/alone.md"
    alone.parent.mkdir(parents=True)
    for name in ("a.md", "sub/b.md", "sub/rows.jsonl"):
        (docs / name).write_text('{"text": "Keys."}')
    build(home, docs)
    known = {"a.md", "sub/b.md", "sub/rows.jsonl:1"}
    assert ids(home) == known
    monkeypatch.chdir(docs / "sub")
    for path in ("b.md", docs / "sub/rows.jsonl", ".", "../../docs", docs / "sub"):
        assert "0 documents added" in tamis("index", "add", home, path).stderr
    alone.write_text("New.")
    assert "1 documents added" in tamis("index", "add", home, "alone.md").stderr
    assert "0 documents added" in tamis("index", "sync", home, docs).stderr
    assert ids(home) == known | {"sub/alone.md"}
    build(tmp_path / "j", "b.md")
    assert "3 documents added" in tamis("index", "add", tmp_path / "j", docs, "alone.md").stderr
    assert ids(tmp_path / "j") == {"b.md", "a.md", "sub/rows.jsonl:1", "sub/alone.md"}


FILES = st.dictionaries(
    st.sampled_from(["a.md", "b.log", "sub/c.py", "sub/d.csv", "rows.jsonl"]),
    st.lists(st.integers(0, 4), min_size=1, max_size=3, unique=True),
    min_size=1,
)


@settings(max_examples=15, deadline=None)
@given(states=st.lists(FILES, min_size=2, max_size=4), whole=st.booleans())
def test_a_synchronised_index_holds_what_its_folder_holds(states, whole, tmp_path_factory):
    """Whatever was there before; and what is of other files stays."""
    root = tmp_path_factory.mktemp("sync")
    home, docs = root / "i", root / "docs"
    docs.mkdir()
    (root / "other.md").write_text("Other.")
    build(home, root / "other.md")
    for files in states:
        shutil.rmtree(docs)
        (docs / "sub").mkdir(parents=True)
        sub = [] if whole or not {"sub/c.py", "sub/d.csv"} & {*files} else [docs / "sub"]
        wanted = {}
        for name, held in files.items():
            if name == "rows.jsonl":
                rows(docs / name, *({"id": f"r{n}", "text": f"Row {n}."} for n in held))
                wanted |= {f"r{n}": f"Row {n}." for n in held}
            else:
                wanted[name] = f"Text {held}."
                (docs / name).write_text(wanted[name])
        done = tamis("index", "sync", home, docs, *sub)
        assert done.exit_code == 0, done.output
        assert "1 documents stay" in done.stderr
        found = {hit.doc: hit.text for hit in CorpusIndex.open(home).all_chunks()}
        assert found == {str(root / "other.md"): "Other.", **wanted}
        again = tamis("index", "sync", home, docs).stderr
        assert f" 0 documents added, 0 replaced, {len(wanted)} unchanged; 0 chunks" in again


def test_what_cannot_be_read_any_more_stays_in_the_index(twins, home):
    folder = twins[0]
    (folder / "rows.jsonl").write_text('{"text": "One."}\n{"text": "Two."}\n')
    build(home, folder)
    (folder / "readme.md").write_bytes("Größe".encode("latin-1"))
    (folder / "rows.jsonl").write_text('{"text": "Changed."}\n{')
    done = tamis("index", "sync", home, folder)
    assert (done.exit_code, done.stderr.count("passed over")) == (1, 2)
    assert ids(home) == {"readme.md", "rows.jsonl:1", "rows.jsonl:2"}


def test_an_empty_or_missing_folder_empties_no_index(twins, home, tmp_path):
    build(home, twins[0])
    (twins[0] / "readme.md").unlink()
    assert "holds no file" in refusal_message("index", "sync", home, twins[0])
    twins[0].rmdir()
    assert "no file or folder" in refusal_message("index", "sync", home, twins[0])
    assert ids(home) == {"readme.md"}


def test_a_folder_that_moved_is_followed(twins, home, tmp_path):
    (twins[0] / "old.md").write_text("Old.")
    build(home, twins[0])
    moved = twins[0].rename(tmp_path / "moved")
    assert "0 documents added, 2 replaced" in tamis("index", "sync", home, moved).stderr
    (moved / "old.md").unlink()
    assert "1 removed" in tamis("index", "sync", home, moved).stderr
    assert ids(home) == {"readme.md"}


def test_an_index_takes_every_file_that_compress_takes(tmp_path, home):
    """And skips the same."""
    docs = tmp_path / "docs"
    docs.mkdir()
    held = {
        **dict.fromkeys(("a.py", "b.yaml", "c.csv", "d.log", "Makefile", "e.toml", "f.md"), b"Aa."),
        "g.json": b'{"port": 8080}',
        "h.json": b'[{"text": "One."}, "Two."]',
        "i.jsonl": b'{"level": "error"}\n{"level": "info"}\n',
        "j.ndjson": b'{"text": "One."}\n{"text": "Two."}\n',
        "k.html": b"<p>Shown.</p>",
        "l.log.gz": gzip.compress(b"Packed."),
        "m.txt.xz": lzma.compress(b"Packed."),
        "n.png": b"\x89PNG\r\n\x1a\n",
        "o.dat": bytes(range(32)) * 9,
        "p.txt": "Größe".encode("latin-1"),
        "q.gz": gzip.compress(b"Cut short.")[:-9],
    }
    for name, data in held.items():
        (docs / name).write_bytes(data)
    with tarfile.open(docs / "r.tgz.gz", "w:gz") as archive:
        archive.add(docs / "a.py")
    found = gather_inputs([str(docs)], None, InputOptions())
    stderr = build(home, docs, exit_code=1)
    chunks = CorpusIndex.open(home).all_chunks()
    assert sorted(hit.text for hit in chunks) == sorted(one.text for one in found.passages)
    for file in found.skipped:
        assert f"passed over {file} (" in stderr
    assert stderr.count("passed over") == len(found.skipped) == 5
    assert f"{docs}/i.jsonl is one text" in stderr


def test_an_index_is_emptied_on_request_alone(twins, home, tmp_path):
    """A folder is empty where the disk that belongs there is not mounted."""
    given = rows(tmp_path / "rows.jsonl", {"text": "One."})
    build(home, twins[0], given)
    (twins[0] / "readme.md").unlink()
    folder = ("index", "sync", home, twins[0])
    assert "if it was emptied give tamis index sync --allow-empty" in refusal_message(*folder)
    assert len(ids(home)) == 2
    assert "1 removed" in tamis(*folder, "--allow-empty").stderr
    left = {f"{given}:1"}
    assert ids(home) == left
    given.write_text("")
    file = ("index", "sync", home, given)
    assert "hold none of the index's 1 documents any more" in refusal_message(*file)
    assert ids(home) == left
    for told in ("0 replaced, 1 removed", "0 replaced, 0 unchanged"):
        done = tamis(*file, "--allow-empty")
        assert (done.exit_code, ids(home)) == (0, set())
        assert told in done.stderr
    assert tamis(*file).exit_code == 0


@pytest.fixture
def linked_folder(tmp_path):
    """A folder with links to a folder outside, to a hidden one, to one in it, and to itself."""
    docs, other = tmp_path / "docs", tmp_path / "other"
    for folder in (docs / "new", docs / ".old", other):
        folder.mkdir(parents=True)
        (folder / f"{folder.name.strip('.')}.md").write_text(f"Words of {folder.name}.")
    for name, target in {"latest": "new", "self": ".", "old": ".old", "far": other}.items():
        (docs / name).symlink_to(target)
    return docs


def test_a_link_to_a_folder_is_not_followed_and_is_named_where_something_is_left_out(
    linked_folder, home, tmp_path
):
    asked = ("-q", "Which words?", "--method", "lexical", "--max-tokens", 99)
    calls = [
        (("index", "build", linked_folder, "-o", home, "--no-model"), 1),
        (("batch", "run", linked_folder, "-o", tmp_path / "out", *asked, *ESTIMATED), 1),
        (("compress", linked_folder, *asked, *ESTIMATED), 0),
    ]
    for words, status in calls:
        done = tamis(*words)
        assert done.exit_code == status, done.output
        left_out = ("far", "old")
        for name in left_out:
            assert f"{name} (is a link to a folder; name it, too, and its files are" in done.stderr
        assert done.stderr.count("is a link to a folder") == len(left_out)
    assert ids(home) == {"new/new.md"}
    tamis("index", "add", home, linked_folder / "far")
    assert ids(home) == {"new/new.md", "other.md"}
    done = tamis("index", "sync", home, linked_folder)
    assert "0 documents added, 0 replaced, 1 unchanged" in done.stderr
    assert len(ids(home)) == 2


SETTINGS = [
    *("bind_address", "port", "workers", "keepalive_seconds", "requests_per_minute", "max_jobs"),
    *("download_mb", "header_kb", "attachment_mb", "log_mb", "cache_gb", "rows_per_page", "region"),
    *("retention_days", "compression", "smtp_host", "smtp_port", "retry_minutes", "mfa_required"),
    *("session_minutes", "password_length", "lockout_attempts", "token_hours", "backup_hour"),
    *("pool_size", "statement_timeout_ms", "rotate_daily", "keep_files", "log_level", "max_size"),
]


@pytest.mark.parametrize("camel", [False, True])
def test_a_setting_is_found_by_the_words_of_its_name(tmp_path, home, camel):
    """Among others, in files of their own, by words alone."""
    docs = tmp_path / "docs"
    docs.mkdir()
    for number, name in enumerate([*SETTINGS, "upload_mb"]):
        first, *others = name.split("_")
        shown = first + "".join(map(str.title, others)) if camel else name
        (docs / f"{number}.json").write_text(json.dumps({shown: 250}))
    build(home, docs)
    found = [hit["document"] for hit in search_hits(home, "How many megabytes may be uploaded?")]
    assert found[0] == f"{len(SETTINGS)}.json"


def test_only_names_in_camel_case_have_their_parts_beside_them():
    found = index_terms("uploadMb maxHTTPSize2 JavaScript iPhone PostgreSQL upload_mb", "en")
    assert found[:6] == ["uploadmb", "maxhttpsize2", "javascript", "iphone", "postgresql", "upload"]
    assert found[6:] == ["mb", "upload", "mb"]


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
