"""`tamis.rerank` and `tamis rerank`: what comes back, and how it ends."""

from __future__ import annotations

import asyncio
import io
import json
import re

import pytest
from rich.console import Console

import tamis as front
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.service.cli.commands.rerank import ranking_table
from tamis.service.cli.display.bars import ProgressReader
from tests.scripted import ScriptedReader
from tests.service.cli.cli_kit import tamis

QUESTION = "When was the old harbour of Malo closed?"
ANSWER = "The old harbour of Malo was closed in 1907."
DOCS = ["Bread was cheap then.", f"Ships came. {ANSWER} Nobody knew why.", "Ships are old."]


@pytest.fixture
def folder(tmp_path):
    home = tmp_path / "docs"
    home.mkdir()
    for name, text in zip("abc", DOCS, strict=True):
        (home / f"{name}.txt").write_text(text)
    return home


def test_one_call_ranks_and_the_package_exports_its_types():
    found = front.rerank(QUESTION, DOCS, method="lexical", top_n=2)
    assert isinstance(found, front.Reranked)
    assert [type(one) for one in found.results] == [front.Ranked] * 2
    assert found.results[0].index == 1
    later = asyncio.run(front.arerank(QUESTION, DOCS, method="lexical", top_n=2))
    assert later.results == found.results


def test_scores_of_a_first_stage_are_fused_and_both_sides_reported():
    found = front.rerank(QUESTION, DOCS, method="lexical", first_stage=[9, 0, 1], fuse=0.0)
    assert [one.index for one in found.results] == [0, 2, 1]
    alone = front.rerank(QUESTION, DOCS, method="lexical")
    own = {one.index: one.own for one in found.results}
    assert own == {one.index: one.own for one in alone.results}


def test_a_loaded_reader_is_taken_as_it_is():
    reader = ScriptedReader.from_needles("1907")
    found = front.rerank(QUESTION, DOCS, method="question_rows", proxy=reader, probe=None)
    assert found.windows == reader.prompts_read
    assert len(found.results) == 3
    assert found.results[0].index == 1


def test_what_ranks_nothing_or_is_not_there_is_refused():
    with pytest.raises(BadInput, match="ranks none"):
        front.rerank(QUESTION, DOCS, method="edges")
    with pytest.raises(UnknownMethod):
        front.rerank(QUESTION, DOCS, method="bm26")
    with pytest.raises(BadInput, match="no argument"):
        front.rerank(QUESTION, DOCS, method="lexical", colour=1)


def test_the_command_prints_a_table_with_the_best_sentence(folder):
    done = tamis("rerank", folder, "-q", QUESTION, "--method", "lexical", "--top-n", 2)
    assert done.exit_code == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert ANSWER in lines[1]
    assert "b.txt" in lines[1]
    assert "3 documents" in done.stderr
    quiet = tamis("rerank", folder, "-q", QUESTION, "--method", "lexical", "--top-n", 2, "--quiet")
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


def test_json_has_scores_of_both_sides_and_a_span_that_slices_the_document(folder):
    scores = folder.parent / "scores.json"
    scores.write_text("[3, 1, 2]")
    words = ("-q", QUESTION, "--method", "lexical", "--json")
    done = tamis("rerank", folder, *words, "--first-stage", scores, "--fuse", "rrf")
    got = json.loads(done.stdout)
    one = next(row for row in got["results"] if row["index"] == 1)
    assert (one["first_stage_score"], one["id"]) == (1, str(folder / "b.txt"))
    (span,) = one["relevant_spans"]
    assert DOCS[1][span["start"] : span["end"]] == ANSWER
    assert got["method"] == "lexical"


def test_scores_of_a_first_stage_may_begin_with_a_byte_order_mark(folder):
    scores = folder.parent / "scores.json"
    scores.write_text("[3, 1, 2]", "utf-8-sig")
    done = tamis(
        "rerank", folder, "-q", QUESTION, "--method", "lexical", "--first-stage", scores, "--json"
    )
    assert done.exit_code == 0, done.stderr


def test_documents_and_question_may_come_as_json_by_a_pipe():
    sent = json.dumps({"question": QUESTION, "documents": [{"text": text} for text in DOCS]})
    done = tamis("rerank", "--method", "lexical", "--json", "--first-stage", "order", stdin=sent)
    rows = json.loads(done.stdout)["results"]
    assert {row["id"]: row["first_stage_score"] for row in rows} == {"B": 0, "S": -2} or len(
        rows
    ) == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--fuse", "sum", "--first-stage", "order"), "--fuse is 'sum'"),
        (("--fuse", "rrf"), "there is no first_stage"),
        (("--first-stage", "no.json"), "neither 'order' nor a JSON file"),
        (("--top-n", 0), "top_n is 0"),
        (("--min-score", 2), "min_score is 2.0; give a probability"),
        (("--min-score", 0.5), "lexical gives none"),
        (("--method", "lexicl"), "did you mean 'lexical'"),
        (("--method", "edges"), "ranks none"),
        (("--first-stage", "{deep}"), "neither 'order' nor a JSON file"),
        (("--first-stage", "order", "--fuse", "2"), "fuse is 2.0"),
        (("--rank-probe", "p.safetensors", "--method", "lexical"), "lexical has no option"),
    ],
)
def test_mistakes_end_with_one_sentence_and_code_2(folder, words, says):
    (deep := folder.parent / "deep.json").write_text("[" * 100_000)
    given = [str(word).format(deep=deep) for word in words]
    given += [] if "--method" in words else ["--method", "lexical"]
    done = tamis("rerank", folder, "-q", QUESTION, *given)
    assert done.exit_code == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_watched_reader_reads_alike_and_counts_up_to_all():
    heard = []
    plain = ScriptedReader.from_needles("1907")
    watched = ProgressReader(
        ScriptedReader.from_needles("1907"), lambda done, total: heard.append((done, total))
    )
    same = [
        front.rerank(QUESTION, DOCS, proxy=reader, probe=None).results
        for reader in (plain, watched)
    ]
    assert same[0] == same[1]
    assert heard[-1] == (3, 3)


@pytest.mark.model
def test_the_default_proxy_finds_the_document_that_answers(proxy_folder):
    found = front.rerank(QUESTION, [*DOCS, "", DOCS[0]], method="question_rows")
    assert found.results[0].index == 1
    assert len(found.results) == 5
    own = {one.index: one.own for one in found.results}
    assert own[0] == own[4]


@pytest.mark.parametrize("width", [40, 80, 120, 140])
@pytest.mark.parametrize("first", [None, [3, 1, 2]])
def test_the_table_keeps_places_scores_and_names_apart_at_any_width(width, first):
    names = [f"a/long/way/down/to/the/folder/of/{name}.md" for name in ("one", "two", "three")]
    documents = [{"id": n, "text": text * 9} for n, text in zip(names, DOCS, strict=True)]
    found = front.rerank(QUESTION, documents, method="lexical", first_stage=first)
    console = Console(width=width, file=io.StringIO())
    console.print(ranking_table(found, width))
    shown = console.file.getvalue()
    assert all(len(line) <= width for line in shown.splitlines())
    assert re.findall(r"^(\d) ", shown, re.MULTILINE) == ["1", "2", "3"]
    assert "score" in shown
    assert f"{found.results[0].score:.4g}" in shown
    if first is None:
        assert all(name.rsplit("/", 1)[1] in shown for name in names)
        assert len(shown.splitlines()) == 4


def test_names_that_end_alike_are_shown_whole():
    ends = "the/very/same/long/path/below/them/README.md"
    documents = [
        {"id": f"{top}/{ends}", "text": text} for top, text in zip("xyz", DOCS, strict=True)
    ]
    found = front.rerank(QUESTION, documents, method="lexical")
    console = Console(width=80, file=io.StringIO())
    console.print(ranking_table(found, 80))
    assert all(f" {top}/the/" in console.file.getvalue() for top in "xyz")


def test_a_document_without_text_is_zero_in_json_and_a_dash_in_the_table(folder):
    (folder / "d.txt").write_text(" ")
    words = ("rerank", folder, "-q", QUESTION, "--method", "lexical")
    last = json.loads(tamis(*words, "--json").stdout, parse_constant=pytest.fail)["results"][-1]
    assert (last["id"], last["relevance_score"]) == (str(folder / "d.txt"), 0)
    assert last["own_score"] is None
    assert tamis(*words).stdout.splitlines()[-1].split()[:2] == ["4", "-"]
