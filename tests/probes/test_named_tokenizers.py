"""Tokenizers by name: what tiktoken counts, offsets, and what is said where one is not here.

The vocabularies come with llama-index-core here; tests/integrations has the other packages.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis
from tamis.probes import named_tokenizers
from tamis.probes.errors import UnknownTokenizer
from tamis.probes.named_tokenizers import NAMES, available_names, named_tokenizer, tokenizer_of_file
from tests.service.http.app_kit import DOCUMENTS, QUESTION, served

ROOT = Path(__file__).parents[3]
CACHE = Path(importlib.util.find_spec("llama_index").submodule_search_locations[0])
TEXTS = [
    *(page.read_text("utf-8") for page in sorted((ROOT / "examples").glob("*/*.md"))[:12]),
    "I'll CAN'T we've 12345678 \r\n\r\n  x\t\n  ",
    "naïve Ünïcode 漢字かな 👩🏽‍🚀 שלום <|endoftext|>",
    "",
    "\n",
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """tiktoken itself finds the same vocabularies, and fetches none."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(CACHE / "core/_static/tiktoken_cache"))


@pytest.mark.parametrize(("name", "encoding"), [("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")])
def test_ids_are_those_of_tiktoken(name: str, encoding: str):
    oracle, ours = tiktoken.get_encoding(encoding), named_tokenizer(name)
    for text in TEXTS:
        assert ours.encode(text).ids == oracle.encode_ordinary(text)
        assert ours.count(text) == len(oracle.encode_ordinary(text))
    assert ours.name == name


@given(st.text(max_size=60))
@settings(deadline=None)
def test_offsets_cover_the_text_and_each_token_s_bytes_lie_in_its_span(text: str):
    ours = named_tokenizer("gpt-4o")
    found = ours.encode(text)
    assert len(found.ids) == ours.count(text)
    covered = 0
    for (start, stop), token in zip(found.offsets, found.ids, strict=True):
        assert start <= covered <= stop
        covered = stop
        if "\ufffd" not in (shown := ours.token_text(token)):
            assert text[start:stop] == shown
    assert covered == len(text)


@pytest.mark.parametrize("character", ["a", " ", "\n", "1", "漢", "'s"])
def test_a_long_run_of_one_character_is_counted_in_time_that_grows_with_it(character: str):
    ours, seconds = named_tokenizer("gpt-4o"), []
    for times in (50_000, 400_000):
        start = time.process_time()
        assert ours.count(character * times) > 0
        seconds.append(time.process_time() - start)
    assert seconds[1] < max(30 * seconds[0], 2.0)


def test_every_name_that_is_offered_counts_and_a_file_of_ranks_is_read_by_its_name(tmp_path: Path):
    assert {"gpt-4o", "gpt-4", "o200k_base", "cl100k_base"} <= set(available_names())
    copy = tmp_path / "cl100k_base.tiktoken"
    copy.write_bytes(NAMES["gpt-4"].file().read_bytes())
    assert tokenizer_of_file(copy).count("Rooms are blue.") == named_tokenizer("gpt-4").count(
        "Rooms are blue."
    )


def test_a_file_that_is_not_the_published_one_is_refused(tmp_path: Path):
    cut = tmp_path / "cl100k_base.tiktoken"
    cut.write_bytes(NAMES["gpt-4"].file().read_bytes()[:-20])
    with pytest.raises(UnknownTokenizer, match="SHA-256"):
        tokenizer_of_file(cut)
    other = cut.rename(tmp_path / "mine.tiktoken")
    with pytest.raises(UnknownTokenizer, match=r"o200k_base\.tiktoken"):
        tokenizer_of_file(other)


def test_a_name_whose_vocabulary_is_not_here_says_what_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(named_tokenizers, "find_spec", lambda _: None)
    named_tokenizer.cache_clear()
    assert available_names() == []
    for name, remedy in (
        ("gpt-4o", r"tamis\[tokenizers\].*o200k_base.tiktoken"),
        ("llama-3", "llama-models"),
        ("qwen3", "dashscope"),
        ("claude", "litellm"),
    ):
        with pytest.raises(UnknownTokenizer, match=remedy):
            named_tokenizer(name)
    with pytest.raises(UnknownTokenizer, match="gpt-4o"):
        tamis.compress(QUESTION, DOCUMENTS, max_tokens=9, method="lexical", tokenizer="gpt-40")


def test_a_budget_is_counted_by_a_name_in_the_library_and_over_http():
    oracle = tiktoken.get_encoding("o200k_base")
    short = tamis.compress(QUESTION, DOCUMENTS, max_tokens=9, method="lexical", tokenizer="gpt-4o")
    assert short.tokens_out == len(oracle.encode_ordinary(short.text)) <= 9
    assert (short.tokenizer, short.warnings) == ("gpt-4o", ())
    with served(method="lexical") as service:
        assert "gpt-4o" in service.http.get("/info").json()["tokenizers"]
        body = {"query": QUESTION, "documents": DOCUMENTS, "max_tokens": 9, "tokenizer": "gpt-4o"}
        answer = service.post("/v1/compress", **body).json()
        shown = service.post("/tokenize", inputs="Rooms 漢", tokenizer="gpt-4o").json()
        unknown = service.post("/v1/compress", **{**body, "tokenizer": "gpt-40"})
    assert answer["text"] == short.text
    assert answer["usage"]["output_tokens"] == short.tokens_out
    assert (answer["usage"]["tokenizer"], answer["usage"]["estimated"]) == ("gpt-4o", False)
    assert [token["id"] for token in shown[0]] == oracle.encode_ordinary("Rooms 漢")
    assert unknown.status_code == 422
    assert "gpt-4o" in unknown.json()["error"]["message"]


def test_an_approximation_is_named_as_one(tmp_path: Path):
    ours = tokenizer_of_file(_words(tmp_path))
    ours.approximates = "it is another model's"
    short = tamis.compress(QUESTION, DOCUMENTS, max_tokens=9, method="lexical", tokenizer=ours)
    assert [w for w in short.warnings if "is an approximation: it is another model's" in w]


def _words(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    return folder / "tokenizer.json"
