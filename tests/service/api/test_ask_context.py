"""`tamis.ask_context`: from a question to a prompt whose every part can be found again."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tamis as front
from tamis.probes.errors import BadInput
from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.service.api.ask_context import ask_context
from tamis.service.cli.commands.ask_context import context_json
from tamis.text.types import CorpusDocument
from tests.service.cli.cli_kit import tamis, word_tokenizer

FILLER = "Nothing of note happened that year. People went about their work as before. "
HARBOUR = FILLER * 3 + "The old harbour of Malo was closed in 1907. " + FILLER
BREAD = "Bread was cheap then. A loaf cost two pennies. " + FILLER * 4
DOCUMENTS = [
    CorpusDocument("harbour", HARBOUR, "Malo"),
    CorpusDocument("bread", BREAD, None, {"lang": "en"}),
]
QUESTION = "When was the old harbour of Malo closed?"
BY_ID = {document.id: document for document in DOCUMENTS}


@pytest.fixture
def index(tmp_path):
    with create_index(tmp_path / "i", IndexSettings(chunk_chars=200)) as writer:
        writer.put(DOCUMENTS)
        writer.finish()
    return CorpusIndex.open(tmp_path / "i")


@pytest.fixture
def free(tmp_path):
    from tamis.probes.tokens import TextTokenizer

    return {"method": "lexical", "tokenizer": TextTokenizer.from_file(word_tokenizer(tmp_path))}


def test_the_prompt_fits_and_every_citation_is_a_slice_of_its_document(index, free):
    asked = ask_context(index, QUESTION, max_tokens=20, **free)
    assert "closed in 1907" in asked.text
    assert asked.tokens_out <= 20 < asked.tokens_in
    assert asked.citations[0].doc == "harbour"
    for citation in asked.citations:
        text = BY_ID[citation.doc].text[citation.start : citation.stop]
        assert citation.text == text
        assert text in asked.text
        assert f"[{citation.chunk}]" in asked.text
    assert {"search", "select", "total"} <= set(asked.timings_ms)


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.integers(20, 60), st.sampled_from([None, 1, 2]), st.integers(1, 4), st.data())
def test_of_a_record_all_pairs_are_kept_or_none(tmp_path, free, count, indent, pairs, data):
    """A value without its record would be taken for that of another one."""
    records = [
        {"name": f"user{i}", **{f"quota{p}": f"v{i}x{p}" for p in range(pairs)}}
        for i in range(count)
    ]
    text = json.dumps({"users": records}, indent=indent)
    with create_index(tmp_path / "r", IndexSettings(chunk_chars=300), overwrite=True) as writer:
        writer.put([CorpusDocument("users.json", text)])
        writer.finish()
    asked = data.draw(st.integers(0, count - 1))
    question = f"What is quota0 of user{asked}?"
    answer = ask_context(tmp_path / "r", question, max_tokens=25, **free).text
    for record in records:
        shown = [f'"{word}"' in answer for word in record.values()]
        assert all(shown) or not any(shown)
    assert f'"v{asked}x0"' in answer


def test_filters_and_the_number_of_chunks_are_kept(index, free):
    asked = ask_context(index, "year people work", where="lang=en", top_k=2, max_tokens=40, **free)
    assert {hit.doc for hit in asked.hits} == {"bread"}
    assert len(asked.hits) <= 2


def test_nothing_found_is_an_empty_prompt(index, free):
    asked = ask_context(index, "zebra", **free)
    assert (asked.text, asked.citations, asked.tokens_out) == ("", (), 0)


def test_a_budget_that_is_none_is_refused(index, free):
    with pytest.raises(BadInput, match="max_tokens is 0"):
        ask_context(index, QUESTION, max_tokens=0, **free)


def test_what_is_known_of_an_answer_is_in_its_json(index, free):
    found = context_json(QUESTION, ask_context(index, QUESTION, max_tokens=20, **free))
    judged = {name: found[name] for name in ("status", "answerability", "verdict", "reason")}
    assert judged == {
        "status": "ok",
        "answerability": None,
        "verdict": None,
        "reason": "lexical cannot tell",
    }
    nothing = context_json("zebra", ask_context(index, "zebra", **free))
    assert (nothing["status"], nothing["verdict"], nothing["warnings"]) == (None, None, [])


def test_the_package_exports_both():
    assert front.ask_context is ask_context
    assert front.open_index.__name__ == "open_index"


@pytest.mark.model
@pytest.mark.usefixtures("proxy_folder")
def test_from_a_corpus_to_a_prompt_with_the_default_proxy(tmp_path):
    rows, home, kept = (tmp_path / name for name in ("rows.jsonl", "i", "kept"))
    records = [{"id": d.id, "title": d.title, "text": d.text} for d in DOCUMENTS]
    rows.write_text("\n".join(map(json.dumps, records)))
    assert tamis("index", "build", rows, "-o", home, "--chunk-chars", 200).exit_code == 0
    words = ("ask-context", home, "-q", QUESTION, "--max-tokens", 60, "--cache", kept)
    done = tamis(*words, "--json")
    assert done.exit_code == 0, done.output
    asked = json.loads(done.stdout)
    assert "closed in 1907" in asked["text"]
    assert asked["usage"]["output_tokens"] <= 60
    assert asked["citations"][0]["document"] == "harbour"
    again = tamis(*words)
    assert again.stdout == asked["text"] + "\n"
    assert "tokens of" in again.stderr
    assert (asked["status"], asked["verdict"]) == ("ok", "answerable")
    assert again.stderr.splitlines()[-1] == f"answerable: {asked['reason']}"
