"""The needle sweep: the position of the needle, what is read again, and the map."""

from __future__ import annotations

import json

import pytest

from lab.tests.bench.records import counting_folder
from tamis.compressors import registry
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis.text.types import Passage
from tamis_lab.bench import needle
from tamis_lab.bench.needle import (
    NEEDLE,
    PASSAGE_TOKENS,
    QUESTION,
    Haystack,
    MemoizedReader,
    insert_needle,
    sweep_needle,
)
from tamis_lab.bench.panel import BLENDS
from tests.laws.methods import ScriptedEncoder, head_profile
from tests.probes import tiny
from tests.scripted import ScriptedReader
from tests.service.cli.cli_kit import tamis

BOOK = " ".join(f"The {i}th day was as long as the one before it, and as dull." for i in range(400))


@pytest.fixture(scope="module")
def counter() -> TextTokenizer:
    return TextTokenizer(tiny.tokenizer(), "tiny")


@pytest.fixture(scope="module")
def haystack(counter) -> Haystack:
    return Haystack.from_text(BOOK, counter, 6000)


def test_a_haystack_is_the_texts_opening_in_passages_of_whole_sentences(haystack, counter):
    text = "".join(passage.text for passage in haystack.passages)
    assert BOOK.startswith(text)
    assert 6000 <= counter.count(text) < 6000 + 2 * PASSAGE_TOKENS
    assert all(passage.text.rstrip().endswith("dull.") for passage in haystack.passages)
    assert max(haystack.tokens) <= PASSAGE_TOKENS
    assert haystack.first_passages(1000) == haystack.passages[: len(haystack.first_passages(1000))]
    assert sum(haystack.tokens[: len(haystack.first_passages(1000))]) >= 1000
    with pytest.raises(BadInput, match="longer --text"):
        Haystack.from_text(BOOK, counter, 10**6)


@pytest.mark.parametrize("depth", [0.0, 0.13, 0.5, 0.99, 1.0])
def test_the_needle_is_whole_and_between_sentences_at_its_depth(haystack, depth):
    passages, index = insert_needle(haystack.passages, NEEDLE, depth)
    text, hay = "".join(p.text for p in passages), "".join(p.text for p in haystack.passages)
    assert passages[index].text.count(NEEDLE) == 1
    assert text.index(NEEDLE) / len(hay) == pytest.approx(depth, abs=0.02)
    assert text.replace(f"{NEEDLE} ", "") == hay
    before = text[: text.index(NEEDLE)].rstrip()
    assert not before or before.endswith("dull.")
    if depth == 1.0:
        assert text.endswith(f"{NEEDLE} ")


def needle_reader() -> ScriptedReader:
    """A reader that attends to the needle for its question, and to nothing otherwise."""
    found = ScriptedReader.from_needles(NEEDLE)
    return ScriptedReader(
        lambda question, text: (
            found.weigh(question, text) if question == QUESTION else [1e-4] * len(text)
        )
    )


def cells(scorer, reader, haystack, counter, sizes=(1500, 6000), depths=(0.0, 0.5, 1.0)):
    return list(sweep_needle(scorer, reader, haystack, sizes, depths, 100, counter))


METHODS = {
    "question_rows": lambda reader: QuestionRows(reader, None),
    "ehpc": lambda reader: EHPC(reader, head_profile(reader)),
}


@pytest.mark.parametrize("method", METHODS)
def test_the_haystack_is_read_once_and_then_only_the_needles_window(method, haystack, counter):
    reader = MemoizedReader(needle_reader())
    found = cells(METHODS[method](reader), reader, haystack, counter)
    assert [cell.rank for cell in found] == [1] * 6
    assert all(cell.kept for cell in found)
    assert [cell.length for cell in found] == [1500] * 3 + [6000] * 3
    first, again, _, long, *_, last = (cell.tokens_read for cell in found)
    assert again < first
    # signals of the short haystack are kept; the last cell has one new passage, and the needle
    assert last < long / 3
    assert reader.tokens_read == sum(cell.tokens_read for cell in found)


@pytest.mark.parametrize("method", METHODS)
def test_memoized_signals_score_as_fresh_ones(method, haystack, counter):
    reader = MemoizedReader(needle_reader())
    kept = METHODS[method](reader)
    cells(kept, reader, haystack, counter, (1500,))
    fresh = METHODS[method](needle_reader())
    from tamis.text.units.segment import units_of

    passages, _ = insert_needle(haystack.first_passages(1500), NEEDLE, 0.5)
    case = QUESTION, passages, units_of(passages)
    assert kept.scores(*case).values == fresh.scores(*case).values


def test_a_resumed_run_reads_only_prompts_that_are_not_stored(haystack, counter, tmp_path):
    first = ScriptedReader.from_needles(NEEDLE)
    before = cells(
        QuestionRows(MemoizedReader(first, tmp_path), None), None, haystack, counter, (1500,)
    )
    again = ScriptedReader.from_needles(NEEDLE)
    reader = MemoizedReader(again, tmp_path)
    after = cells(QuestionRows(reader, None), reader, haystack, counter, (1500,))
    assert first.prompts_read > again.prompts_read == 0
    assert [cell.rank for cell in after] == [cell.rank for cell in before]
    assert sum(cell.tokens_read for cell in after) == reader.tokens_read > 1500
    assert reader.ms_before > 0
    for file in tmp_path.rglob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:20])
    torn = ScriptedReader.from_needles(NEEDLE)
    cells(QuestionRows(MemoizedReader(torn, tmp_path), None), None, haystack, counter, (1500,))
    assert torn.prompts_read == first.prompts_read


def test_a_needle_without_attention_is_lost(haystack, counter):
    reader = MemoizedReader(ScriptedReader.from_needles("dull"))
    found = cells(QuestionRows(reader, None), reader, haystack, counter, (1500,), (0.5,))
    assert not found[0].kept
    assert found[0].rank > 1


def test_methods_without_a_model_read_nothing_and_sequential_ones_everything(haystack, counter):
    assert {c.tokens_read for c in cells(Lexical(), None, haystack, counter, (1500,))} == {0}
    reader = MemoizedReader(ScriptedReader.from_needles(NEEDLE))
    method = InfiniRetri(reader, carry_tokens=256, heads=0)
    found = cells(method, reader, haystack, counter, (1500,), (0.5, 0.9))
    assert min(cell.tokens_read for cell in found) > 1500


def run(folder, *words):
    book = folder / "book.txt"
    book.write_text(BOOK)
    return tamis("lab", "bench", "needle", "--text", book, "--proxy", folder / "proxy", *words)


def test_the_command_prints_a_rank_a_cell_and_draws_the_map(tmp_path):
    counting_folder(tmp_path / "proxy")
    words = ("--methods", "lexical,lead", "--tokens", "600,2000", "--depths", "0,1")
    done = run(tmp_path, *words, "--max-tokens", 120, "--plot", tmp_path / "map.png")
    assert done.exit_code == 0, done.output
    assert "lexical: kept in 4 of 4 cells" in done.stdout
    assert "lost" in done.stdout
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(run(tmp_path, *words, "--max-tokens", 120, "--json").stdout)["methods"]
    assert [cell["kept"] for cell in found["lead"]][-1] is False
    assert len(found["lexical"]) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--depths", "0,2"), "from 0 to 1"),
        (("--depths", "deep"), "give numbers with commas"),
        (("--tokens", "many"), "whole numbers"),
        (("--tokens", "9000000"), "longer --text"),
        (("--needle", "A key."), "belong together"),
        (("--needle", "", "-q", "Where?"), "is blank"),
        (("--needle", "A key.", "-q", " "), "is blank"),
        (("--methods", "lexicl"), "did you mean 'lexical'"),
        (("--methods", "edges"), "method of ordering"),
        (("--methods", "lexical:k"), "option=value"),
    ],
)
def test_what_cannot_be_swept_is_refused_in_one_line(tmp_path, words, message):
    counting_folder(tmp_path / "proxy")
    done = run(tmp_path, *words)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_blend_is_measured_as_one_method_with_its_parts(monkeypatch):
    reader = ScriptedReader.from_needles(NEEDLE)
    monkeypatch.setattr(registry, "load_proxy", lambda proxy, layers, root=None: reader)
    monkeypatch.setattr(registry.InstalledModels, "encoder", lambda self: ScriptedEncoder())
    scorer, memoized = needle.build_with_memory("fusion", "scripted", None)
    assert set(scorer.parts) == {"question_rows", "lexical", "embedding"}
    assert scorer.weights == BLENDS["fusion"]
    assert memoized.reader is reader
    scorer, memoized = needle.build_with_memory("bm25+minilm", "scripted", None)
    assert (scorer.weights, memoized) == (BLENDS["bm25+minilm"], None)


def test_the_command_names_a_blend_and_not_its_parts(tmp_path, monkeypatch):
    counting_folder(tmp_path / "proxy")
    monkeypatch.setitem(BLENDS, "words", {"lexical": 1.0, "lead": 0.1})
    done = run(tmp_path, "--methods", "words", "--tokens", "600", "--depths", "0,1")
    assert done.exit_code == 0, done.output
    assert "words: kept in" in done.stdout
    assert "lead:" not in done.stdout


def test_the_needle_is_inserted_before_or_after_a_single_unit():
    for depth, expected in ((0.0, f"{NEEDLE} Hay."), (1.0, f"Hay. {NEEDLE} ")):
        passages, index = insert_needle([Passage("Hay.")], NEEDLE, depth)
        assert (passages[index].text, index) == (expected, 0)
