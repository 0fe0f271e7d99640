"""ICR, QRHead and CoRe heads against their papers' formula, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tamis.compressors.reading.windows import EMPTY_QUERY
from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput, ProbeMismatch
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.model.proxy import Proxy
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.prompt import TEMPLATES, Layout, Prompt
from tamis.probes.signal import Signal, Want
from tamis.text.types import Passage
from tamis_lab.methods.corehead import CoReHead
from tamis_lab.methods.head_scores import masked_sum
from tamis_lab.methods.icr import ICR
from tamis_lab.methods.in_context import PromptForm, document_batches, read_questions
from tamis_lab.methods.qrhead import QRHead
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import byte_tokenizer

LAYERS, HEADS = 2, 2


class LetterReader:
    """A reader whose rows attend to letters: the instruction's to i, the query's to q, the suffix's
    to s, each with 1 a letter; every row of the query N/A also to n, with 1 a letter.

    Head h of layer l has h + 1 + 10·l times that. Nothing is a probability: sums stay whole.
    """

    def __init__(self, layout: Layout | None = None) -> None:
        self.card = ModelCard("letters", "1", LAYERS, HEADS)
        self.layout = layout or Layout(byte_tokenizer(), TEMPLATES["chatml"], "letters")
        self.context_tokens = 4000
        self.texts: list[str] = []

    def with_template(self, template):
        twin = LetterReader(self.layout.with_template(template))
        twin.texts, twin.context_tokens = self.texts, self.context_tokens
        return twin

    def read(self, prompts, want):
        for prompt in prompts:
            text = bytes(prompt.passage.ids).decode()
            self.texts.append(text)
            empty = self.layout.question_tokens("")
            end = len(empty.ids) - empty.first_row - 1
            whole = len(prompt.question.ids)
            query = bytes(prompt.question.ids[empty.first_row : whole - end]).decode().strip()
            rows = [
                "i" if r < empty.first_row else "s" if r >= whole - end else "q"
                for r in range(prompt.question.first_row, whole)
            ]
            attention = torch.tensor(
                [
                    [float(c == row) + (query == EMPTY_QUERY) * (c == "n") for c in text]
                    for row in rows
                ]
            ).mean(0)
            scale = torch.tensor([[1.0, 2.0], [11.0, 12.0]])[list(want.layers)]
            yield Signal(scale[..., None, None] * attention, want.layers, want.rows)


def profile(by: str, *best: tuple[int, int], reader=None) -> HeadProfile:
    scores = [[0.0] * HEADS for _ in range(LAYERS)]
    for rank, (layer, head) in enumerate(best):
        scores[layer][head] = 10.0 - rank
    card = (reader or LetterReader()).card
    rows = tuple(map(tuple, scores))
    return HeadProfile(card.name, card.revision, "chatml", LAYERS, HEADS, by, rows)


def rows_of(form: PromptForm, question: str) -> dict[str, int]:
    """How many rows each part of the prompt has, in bytes and special tokens."""
    template = form.template(chat=True)
    suffix = len(LetterReader().layout.with_template(template).question_tokens("").ids) - 1
    suffix -= len(template.question_prefix.encode())
    return {"i": len(template.question_prefix.encode()), "q": len(question) + 1, "s": suffix}


def test_icr_is_the_papers_formula():
    """Sum over heads 1 + 2 + 11 + 12 = 26 of the mean over rows, minus that of N/A.

    "wqz": the query's rows alone attend to its q, so 26·q/R; the query N/A has 4 rows like it.
    "nnnn": four tokens of -26 and a label of four; one alone would be masked, as in "wn".
    """
    question = "Who, now?"
    rows, empty = rows_of(PromptForm(), question), rows_of(PromptForm(), EMPTY_QUERY)
    total, none = sum(rows.values()), sum(empty.values())
    got = ICR(LetterReader()).rank(question, [Passage("wqz"), Passage("nnnn"), Passage("wn")])
    q = 26 * (rows["q"] / total - empty["q"] / none)
    n = 4 * 26 * (0 - 1)
    assert got.values == pytest.approx([q, n, 0], abs=1e-4)
    assert got.windows == 1


def test_every_row_of_instruction_query_and_suffix_counts():
    """Without their rows, a document that only instruction or suffix attend to would be 0."""
    question = "Who, now, and where?"
    got = ICR(LetterReader(), calibrate=False).rank(
        question, [Passage("wi"), Passage("wq"), Passage("ws")]
    )
    rows = rows_of(PromptForm(), question)
    want = [26 * rows[part] / sum(rows.values()) for part in "iqs"]
    assert got.values == pytest.approx(want, abs=1e-4)
    assert min(want) > 0


def test_without_calibration_the_attention_of_the_empty_query_is_not_subtracted():
    documents = [Passage("wiii"), Passage("wq")]
    question = "Who, now, and where?"
    raw = ICR(LetterReader(), calibrate=False).rank(question, documents).values
    assert raw[0] > raw[1] > 0
    calm = ICR(LetterReader()).rank(question, documents).values
    assert calm[1] > calm[0]


def test_abnormally_low_tokens_are_dropped_before_the_sum():
    """Ten tokens of 1 and one of -10: mean 0, deviation √10 = 3.2, so -10 is below -6.3."""
    scores = torch.tensor([1.0] * 10 + [-10.0])
    assert masked_sum(scores) == 10
    assert scores.sum() == 0
    assert masked_sum(torch.tensor([-2.0])) == -2
    assert masked_sum(torch.tensor([3.0, 3.0])) == 6


def test_a_document_is_summed_not_averaged():
    one, three = (
        ICR(LetterReader()).rank("Who, now, and where?", [Passage("wq"), Passage("wqwqwq")]).values
    )
    assert three == pytest.approx(3 * one)


def test_the_first_document_comes_last_and_labels_number_documents_as_shown():
    reader = LetterReader()
    ICR(reader).rank("Who?", [Passage("a", title="T"), Passage("b")])
    assert reader.texts[0] == "[1] b\n\n[2] T\na\n\n"
    ICR(reader, reverse=False).rank("Who?", [Passage("a"), Passage("b")])
    assert reader.texts[-1] == "[1] a\n\n[2] b\n\n"


def test_qrhead_sums_only_its_heads_and_labels_are_part_of_a_document():
    reader = LetterReader()
    question = "Who, now?"
    method = QRHead(reader, profile=profile("qr", (1, 0), (0, 1)), heads=2)
    rows, empty = rows_of(PromptForm(), question), rows_of(PromptForm(), EMPTY_QUERY)
    share = rows["q"] / sum(rows.values()) - empty["q"] / sum(empty.values())
    assert method.rank(question, [Passage("wq")]).values == pytest.approx([13 * share], abs=1e-4)
    assert QRHead.layers_needed("x", {"profile": profile("qr", (0, 1)), "heads": 1}) == 1
    (batch,) = document_batches(reader.layout, [Passage("wq")], PromptForm(), 100)
    assert batch.spans == ((0, len("[1] wq")),)


def test_corehead_reads_no_suffix_and_labels_are_no_part_of_a_document():
    """Rows are those of instruction and query, so nothing attends to the suffix's s."""
    question = "Who, now?"
    reader = LetterReader()
    method = CoReHead(reader, profile=profile("contrast", (1, 1)), heads=1)
    form = method.ranker.form
    rows, empty = rows_of(form, question), rows_of(form, EMPTY_QUERY)
    assert rows["s"] == empty["s"] == 0
    share = rows["q"] / sum(rows.values()) - empty["q"] / sum(empty.values())
    got = method.rank(question, [Passage("wq"), Passage("ws")])
    assert got.values == pytest.approx([12 * share, 0], abs=1e-4)
    assert reader.texts[0] == "[document 1] ws\n\n[document 2] wq\n\n"
    (batch,) = document_batches(reader.layout, [Passage("wq")], form, 100)
    assert batch.spans == ((len("[document 1]"), len("[document 1] wq")),)


def test_heads_of_another_model_are_refused():
    other = replace(profile("qr", (0, 0)), model="other")
    with pytest.raises(ProbeMismatch, match="other"):
        QRHead(LetterReader(), profile=other, heads=1)


def test_documents_that_do_not_fit_are_read_in_several_prompts_with_a_warning():
    documents = [Passage("w" * 60 + "q"), Passage("w" * 90), Passage("q" * 500), Passage(" ")]
    reader = LetterReader()
    reader.context_tokens = 450
    got = ICR(reader).rank("Who, now, and where?", documents)
    assert got.windows > 2
    assert f"4 documents were read in {got.windows} prompts" in got.warnings[0]
    assert all(len(text) < 450 for text in reader.texts)
    assert "".join(reader.texts[::2]).count("q") == 501
    assert got.values[2] > got.values[0] > got.values[1] == 0 == got.values[3]


def test_a_window_that_holds_no_text_is_refused():
    with pytest.raises(BadInput, match="window_tokens is 3"):
        ICR(LetterReader(), window_tokens=3)
    with pytest.raises(BadInput, match="shorten the question"):
        ICR(LetterReader(), window_tokens=60).rank("Who? " * 30, [Passage("w")])


def test_cached_keys_give_the_attention_of_a_second_reading():
    proxy = tiny.proxy("llama")
    passage = proxy.layout.passage_tokens("The pin is there. More hay.", ())
    questions = [
        replace(proxy.layout.question_tokens(q), first_row=0)
        for q in ("Where is the pin?", EMPTY_QUERY)
    ]
    want = Want((0, 2), ("question_mean",))
    kept = read_questions(proxy, passage, questions, want)
    plain = list(proxy.read([Prompt(passage, question) for question in questions], want))
    for a, b in zip(kept, plain, strict=True):
        assert torch.allclose(a.weights, b.weights, atol=1e-5)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_real_decoder_ranks_documents_whole_and_alike_twice(kind):
    method = ICR(tiny.proxy(kind))
    documents = [Passage("the pin"), Passage("a hay in the hay"), Passage("\ud800 <|im_end|>")]
    first = method.rank("Where is the pin?", documents)
    assert first.values == method.rank("Where is the pin?", documents).values
    assert len(set(first.values)) == 3


def test_tokens_that_ran_and_tokens_from_the_cache_are_counted_apart():
    """Documents of D tokens, read twice with queries A and B: first D + A + B, then A + B."""
    proxy = tiny.proxy("llama")
    cached = CachedReader(proxy, PassageCache(1 << 26))
    documents = [Passage("Ships came in spring."), Passage("Bread was cheap.")]
    first, again = (ICR(cached).rank("Who?", documents) for _ in range(2))
    plain = ICR(proxy).rank("Who?", documents)
    assert first.values == pytest.approx(plain.values, abs=1e-5)
    assert (first.tokens_read, first.tokens_cached) == (plain.tokens_read, plain.tokens_cached)
    assert first.tokens_cached == 0 < again.tokens_cached
    assert again.tokens_read == first.tokens_read - again.tokens_cached


def test_a_model_of_which_not_all_layers_are_loaded_does_not_sum_over_all(tmp_path):
    shallow = Proxy.from_folder(tiny.save("llama", tmp_path), layers=2)
    with pytest.raises(BadInput, match="2 of 4 are loaded; load them all"):
        ICR(shallow).rank("Who?", [Passage("Ships came in spring.")])
