"""Real pages of twenty manuals: sentences stay whole, and answers are found and counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.compressors.pipeline.compression import Compressor
from tamis.compressors.registry import build_method
from tamis_lab.bench.documents import (
    CHUNK_CHARS,
    CHUNKS,
    cut_chunks,
    document_cases,
    find_answer,
    load_pages,
    load_questions,
    method_figures,
    segmentation_figures,
)
from tests.compressors.selection.select_kit import words

MANUALS = Path(__file__).parents[4] / "examples/manuals"
FORMATS = ("get_text", "markdownify", "html2text", "trafilatura")
PAGES = load_pages(MANUALS)
QUESTIONS = load_questions(MANUALS)


def test_there_are_a_hundred_questions_on_twenty_manuals_in_four_formats() -> None:
    assert len(QUESTIONS) == 100
    assert len({page["package"] for page in PAGES}) == 20
    assert {page["format"] for page in PAGES} == set(FORMATS)


@pytest.mark.parametrize("form", FORMATS)
def test_hardly_a_unit_of_a_real_page_stops_in_mid_sentence(form: str) -> None:
    figures = segmentation_figures(page["text"] for page in PAGES if page["format"] == form)
    assert figures["units"] > 5_000
    assert figures["share"] <= 0.003


@pytest.mark.parametrize("form", FORMATS)
def test_every_answer_stands_on_its_page(form: str) -> None:
    texts = {(p["package"], p["path"]): p["text"] for p in PAGES if p["format"] == form}
    for row in QUESTIONS:
        assert find_answer(texts[row["package"], row["path"]], row["answer"]), row["id"]


def test_an_answer_is_found_by_its_words_whatever_the_markup() -> None:
    text = 'Call [`compile`](a.html "Compile it") *once* and\nkeep the result. Then go.'
    start, stop = find_answer(text, "Call `compile` once and keep the result.") or (0, 0)
    assert text[start:stop] == text[: text.index(". Then")]
    assert find_answer(text, "Call compile twice") is None


def test_chunks_are_the_whole_text_and_none_is_too_long() -> None:
    text = "".join(f"line {i} {'x' * (i % 90)}\n" for i in range(600)) + "y" * 9_000
    chunks = list(cut_chunks(text))
    assert "".join(chunks) == text
    assert max(map(len, chunks)) <= CHUNK_CHARS


def test_answers_that_are_kept_are_counted() -> None:
    cases = list(document_cases(PAGES, QUESTIONS[::20], "get_text"))
    assert all(len(case.passages) <= CHUNKS for case in cases)
    built = {name: Compressor(build_method(name), name, words()) for name in ("lexical", "lead")}
    done: list[int] = []
    figures = method_figures(cases, built, 300, done.append)
    assert done == [1, 2, 3, 4, 5]
    held = sum(case.answer is not None for case in cases)
    for row in figures.values():
        assert row["questions"] == 5
        assert 0 <= row["kept"] <= row["held"] == held
        assert 0 < row["tokens"] <= 300
        assert len(row["misses"]) == row["held"] - row["kept"]
        for miss in row["misses"]:
            assert len(miss["units"]) == len(miss["ranks"]) == len(miss["kept"]) > 0
            assert not all(miss["kept"])
    all_kept = method_figures(cases, built, 10**6, done.append)
    assert {row["kept"] for row in all_kept.values()} == {held}
