"""What is read of a labelled record: the tokens that are called gold, needle and answer are."""

from __future__ import annotations

import inspect
from math import exp

import pytest
import torch

from tamis.probes.scripted import ScriptedReader
from tamis.probes.signal import Signal
from tamis.service.cli.probe import heads as cli_heads
from tamis.service.training.heads import profiles
from tamis.service.training.heads.cases import (
    build_head_case,
    read_calibrated_mass,
    read_copying,
    read_document_masses,
)
from tamis.service.training.heads.needle import build_needle_case, read_needle_mass
from tamis.service.training.heads.position_bias import attention_shares, first_sentences
from tests.service.cli.probe.test_heads import answered
from tests.service.evaluation.records import doc, record


@pytest.fixture
def reader() -> ScriptedReader:
    return ScriptedReader.pointing_at("Rome")


def said(case, span) -> str:
    """A token is a byte, so a span is text."""
    return bytes(case.ids[slice(*span)]).decode()


def test_spans_of_a_case_are_the_records_documents_gold_sentences_and_answer(reader):
    case = build_head_case(answered(7), reader, 1000)
    texts = [said(case, span) for span in case.documents]
    assert sorted(texts) == [
        "Ann7\nAnn7 sings. She lives in Rome7.",
        "Bob70\nBob70 digs peat. It rains.",
        "Bob71\nBob71 digs peat. It rains.",
    ]
    assert [texts[d][:4] for d in case.gold] == ["Ann7"]
    assert [said(case, span) for span in case.needles] == ["She lives in Rome7."]
    assert said(case, case.answer) == "Rome7"


def test_documents_come_in_another_order_for_another_record(reader):
    places = {build_head_case(answered(i), reader, 1000).gold for i in range(20)}
    assert places == {(0,), (1,), (2,)}


def test_gold_documents_are_never_left_out_and_others_only_where_they_do_not_fit(reader):
    assert len(build_head_case(answered(0), reader, 1).documents) == 1
    assert len(build_head_case(answered(0), reader, 75).documents) == 2


def test_the_gold_document_draws_most_where_the_reader_looks_at_its_answer(reader):
    case = build_head_case(answered(1), reader, 1000)
    masses = read_document_masses(case, reader)["masses"]
    assert masses.shape == (3, 4, 2)
    assert masses[:, -1, -1].argmax().item() == case.gold[0]


class Told(ScriptedReader):
    """Its first row sees the first byte of Rome, half as much if the question is empty; keeps what
    it was asked.
    """

    def read(self, prompts, want):
        for prompt in prompts:
            question = self._question(prompt.ask)
            self.asked.append((question, want.layers, want.rows))
            weights = torch.zeros(4, 2, len(prompt.ask.ids) - prompt.ask.rows, len(prompt.read.ids))
            weights[:, :, 0, bytes(prompt.read.ids).index(b"Rome")] = 0.3 + 0.3 * (
                question != "N/A"
            )
            yield Signal(weights, want.layers, want.rows)


@pytest.fixture
def told() -> Told:
    found = Told.pointing_at("Rome")
    found.asked = []
    return found


def rows(reader, question: str) -> int:
    ask = reader.layout.ask(question)
    return len(ask.ids) - ask.rows


EVERY = (0, 1, 2, 3)


def test_masses_are_the_mean_of_every_row_from_the_question_on_in_every_layer(told):
    case = build_head_case(answered(1), told, 1000)
    seen = read_document_masses(case, told)
    assert told.asked == [(case.question, EVERY, ("question",))]
    assert seen["gold"].tolist() == list(case.gold)
    due = torch.zeros(3, 4, 2)
    due[case.gold[0]] = 0.6 / rows(told, case.question)
    torch.testing.assert_close(seen["masses"], due)


def test_what_the_empty_question_draws_is_taken_off_what_the_question_does(told):
    case = build_head_case(answered(1), told, 1000)
    found = read_calibrated_mass(case, told)["qr"]
    whole = (EVERY, ("question",))
    assert told.asked == [(case.question, *whole), ("N/A", *whole)]
    due = 0.6 / rows(told, case.question) - 0.3 / rows(told, "N/A")
    assert due > 0
    assert found.flatten().tolist() == pytest.approx([due] * 8)


def test_contrast_divides_masses_by_its_temperature_and_needs_a_document_that_is_not_gold():
    masses = torch.tensor([0.02, 0.01, 0.0])[:, None, None]
    seen = {"masses": masses, "gold": torch.tensor([0])}
    assert inspect.signature(profiles.find_heads).parameters["temperature"].default == 0.01
    assert inspect.signature(cli_heads.find).parameters["temperature"].default == 0.01
    due = [1 / (1 + exp(-1 / t * 0.01) + exp(-1 / t * 0.02)) for t in (0.01, 0.1)]
    found = [profiles.head_scores(seen, "contrast", t).item() for t in (0.01, 0.1)]
    assert found == pytest.approx(due)
    assert profiles.head_scores({**seen, "gold": torch.tensor([0, 1, 2])}, "contrast", 0.01) is None


class Copying(ScriptedReader):
    """Looks from row i at the answer's token i, with all heads; keeps the prompt it was given."""

    def read(self, prompts, want):
        (self.prompt,) = prompts
        N, R = len(self.prompt.read.ids), len(self.prompt.ask.ids)
        start = bytes(self.prompt.read.ids[: self.long]).index(b"Rome")
        weights = torch.zeros(len(want.layers), self.card.heads, R, N)
        for row in range(R):
            weights[..., row, start + row] = 0.9
        yield Signal(weights, want.layers, want.rows)


def test_copying_is_read_with_one_row_a_token_of_the_answer():
    """The prompt runs as it was, question and all, and the answer behind it."""
    reader = Copying.pointing_at("Rome")
    case = build_head_case(answered(1), reader, 1000)
    reader.long = len(case.ids)
    copied = read_copying(case, reader)["copy"]
    ask, prompt = reader.layout.ask(case.question), reader.prompt
    assert (*prompt.read.ids, *prompt.ask.ids) == (*case.ids, *ask.ids, *b"Rome")
    assert prompt.ask.rows == 0
    assert torch.equal(copied, torch.ones(4, 2))


def test_a_record_without_answer_says_nothing_about_copying(reader):
    bare = {key: value for key, value in answered(1).items() if key != "answer_spans"}
    assert read_copying(build_head_case(bare, reader, 1000), reader) == {}


def test_a_needle_stands_whole_between_sentences_at_any_depth(reader):
    places = set()
    for i in range(40):
        case = build_needle_case(answered(i), reader, 1000)
        needle, text = said(case, case.needles[0]), bytes(case.ids).decode()
        value = said(case, case.answer)
        assert value.isdigit()
        assert value in needle
        assert needle.endswith(".")
        rest = text.replace(needle, "").replace("  ", " ").strip()
        hay = answered(i)["docs"]
        assert rest == " ".join(d["text"] for d in hay)
        places.add(text.index(needle))
    assert len(places) > 4


def test_the_needles_mass_is_read_by_the_last_row_in_every_layer():
    reader = ScriptedReader(lambda question, text: [float(c.isdigit()) for c in text])
    found = read_needle_mass(build_needle_case(answered(1), reader, 1000), reader)["needle"]
    assert found.shape == (4, 2)
    assert found[-1, -1] == found.max()
    asked = Listing.pointing_at("Rome")
    asked.asked = []
    read_needle_mass(build_needle_case(answered(1), asked, 1000), asked)
    assert asked.asked == [((0, 1, 2, 3), ("last",))]


def test_a_haystack_is_cut_at_whole_sentences(reader):
    case = build_needle_case(answered(1), reader, 30)
    rest = bytes(case.ids).decode().replace(said(case, case.needles[0]), "").strip()
    assert rest in ("Ann1 sings.", "Ann1 sings. She lives in Rome1.")


def test_documents_of_a_list_are_opened_at_whole_sentences(reader):
    long = doc("One two.", "Three four.", "Five six.")
    assert first_sentences(long, reader, 21) == "One two. Three four."
    assert first_sentences(long, reader, 1) == "One two."


class Listing(ScriptedReader):
    """Keeps what it was asked."""

    def read(self, prompts, want):
        self.asked.append((want.layers, want.rows))
        return super().read(prompts, want)


def test_places_are_drawn_by_the_record_and_read_by_every_row_of_every_layer():
    """A document draws its share where it stands, and stands elsewhere in another list."""
    reader = Listing.pointing_at("Ann")
    reader.asked = []
    best = {attention_shares(answered(i), reader, 3, 100)[:, -1].argmax().item() for i in range(12)}
    assert best == {0, 1, 2}
    assert set(reader.asked) == {(EVERY, ("question_mean",))}
    for i, (_, text) in enumerate(list(reader.seen)):
        place = attention_shares(answered(i), reader, 3, 100)[:, -1].argmax().item()
        assert text.split("\n\n")[place].startswith("Ann")


def test_shares_of_places_sum_to_one_and_need_enough_documents(reader):
    found = attention_shares(answered(3), reader, 3, 100)
    assert found.shape == (3, 4)
    assert found.sum(0).tolist() == pytest.approx([1.0] * 4)
    assert attention_shares(answered(3), reader, 4, 100) is None
    assert (
        attention_shares(record("r", "Who?", doc("A."), doc(""), doc("B.")), reader, 3, 100) is None
    )
