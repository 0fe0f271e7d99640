"""Records as prompts for scoring heads: gold, needle and answer are the tokens they should be."""

from __future__ import annotations

import inspect
from math import exp

import pytest
import torch

from lab.tests.bench.records import doc, record
from lab.tests.train.commands.test_heads import answered_record
from tamis.probes.signal import Signal
from tamis_lab.train.commands import heads as cli_heads
from tamis_lab.train.heads import profiles
from tamis_lab.train.heads.cases import (
    build_head_case,
    read_calibrated_mass,
    read_copying,
    read_document_masses,
)
from tamis_lab.train.heads.needle import build_needle_case, read_needle_mass
from tamis_lab.train.heads.position_bias import attention_shares, first_sentences
from tests.scripted import ScriptedReader


@pytest.fixture
def reader() -> ScriptedReader:
    return ScriptedReader.from_needles("Rome")


def span_text(case, span) -> str:
    """A token is a byte, so a span is text."""
    return bytes(case.ids[slice(*span)]).decode()


def test_spans_of_a_case_are_the_records_documents_gold_sentences_and_answer(reader):
    case = build_head_case(answered_record(7), reader, 1000)
    texts = [span_text(case, span) for span in case.documents]
    assert sorted(texts) == [
        "Ann7\nAnn7 sings. She lives in Rome7.",
        "Bob70\nBob70 digs peat. It rains.",
        "Bob71\nBob71 digs peat. It rains.",
    ]
    assert [texts[d][:4] for d in case.gold] == ["Ann7"]
    assert [span_text(case, span) for span in case.needles] == ["She lives in Rome7."]
    assert span_text(case, case.answer) == "Rome7"


def test_documents_come_in_another_order_for_another_record(reader):
    places = {build_head_case(answered_record(i), reader, 1000).gold for i in range(20)}
    assert places == {(0,), (1,), (2,)}


def test_gold_documents_are_never_left_out_and_others_only_where_they_do_not_fit(reader):
    assert len(build_head_case(answered_record(0), reader, 1).documents) == 1
    assert len(build_head_case(answered_record(0), reader, 75).documents) == 2


def test_the_gold_document_draws_most_where_the_reader_looks_at_its_answer(reader):
    case = build_head_case(answered_record(1), reader, 1000)
    masses = read_document_masses(case, reader)["masses"]
    assert masses.shape == (3, 4, 2)
    assert masses[:, -1, -1].argmax().item() == case.gold[0]


class RecordingReader(ScriptedReader):
    """Its first row attends to the first byte of Rome, half as much if the question is empty; keeps
    the questions that it was given.
    """

    def read(self, prompts, want):
        for prompt in prompts:
            question = self._question_text(prompt.question)
            self.asked.append((question, want.layers, want.rows))
            rows = len(prompt.question.ids) - prompt.question.first_row
            weights = torch.zeros(4, 2, rows, len(prompt.passage.ids))
            weights[:, :, 0, bytes(prompt.passage.ids).index(b"Rome")] = 0.3 + 0.3 * (
                question != "N/A"
            )
            yield Signal(weights, want.layers, want.rows)


@pytest.fixture
def recording() -> RecordingReader:
    found = RecordingReader.from_needles("Rome")
    found.asked = []
    return found


def rows(reader, question: str) -> int:
    ask = reader.layout.question_tokens(question)
    return len(ask.ids) - ask.first_row


EVERY = (0, 1, 2, 3)


def test_masses_are_the_mean_of_every_row_from_the_question_on_in_every_layer(recording):
    case = build_head_case(answered_record(1), recording, 1000)
    reading = read_document_masses(case, recording)
    assert recording.asked == [(case.question, EVERY, ("question",))]
    assert reading["gold"].tolist() == list(case.gold)
    due = torch.zeros(3, 4, 2)
    due[case.gold[0]] = 0.6 / rows(recording, case.question)
    torch.testing.assert_close(reading["masses"], due)


def test_what_the_empty_question_draws_is_taken_off_what_the_question_does(recording):
    case = build_head_case(answered_record(1), recording, 1000)
    found = read_calibrated_mass(case, recording)["qr"]
    whole = (EVERY, ("question",))
    assert recording.asked == [(case.question, *whole), ("N/A", *whole)]
    due = 0.6 / rows(recording, case.question) - 0.3 / rows(recording, "N/A")
    assert due > 0
    assert found.flatten().tolist() == pytest.approx([due] * 8)


def test_contrast_divides_masses_by_its_temperature_and_needs_a_document_that_is_not_gold():
    masses = torch.tensor([0.02, 0.01, 0.0])[:, None, None]
    reading = {"masses": masses, "gold": torch.tensor([0])}
    assert inspect.signature(profiles.find_heads).parameters["temperature"].default == 0.01
    assert inspect.signature(cli_heads.find).parameters["temperature"].default == 0.01
    due = [1 / (1 + exp(-1 / t * 0.01) + exp(-1 / t * 0.02)) for t in (0.01, 0.1)]
    found = [profiles.head_scores(reading, "contrast", t).item() for t in (0.01, 0.1)]
    assert found == pytest.approx(due)
    assert (
        profiles.head_scores({**reading, "gold": torch.tensor([0, 1, 2])}, "contrast", 0.01) is None
    )


class CopyingReader(ScriptedReader):
    """Attends from row i to the answer's token i, with all heads; keeps the prompt it was given."""

    def read(self, prompts, want):
        (self.prompt,) = prompts
        N, R = len(self.prompt.passage.ids), len(self.prompt.question.ids)
        start = bytes(self.prompt.passage.ids[: self.long]).index(b"Rome")
        weights = torch.zeros(len(want.layers), self.card.heads, R, N)
        for row in range(R):
            weights[..., row, start + row] = 0.9
        yield Signal(weights, want.layers, want.rows)


def test_copying_is_read_with_one_row_a_token_of_the_answer():
    """The prompt runs as it was, question and all, and the answer behind it."""
    reader = CopyingReader.from_needles("Rome")
    case = build_head_case(answered_record(1), reader, 1000)
    reader.long = len(case.ids)
    copied = read_copying(case, reader)["copy"]
    ask, prompt = reader.layout.question_tokens(case.question), reader.prompt
    assert (*prompt.passage.ids, *prompt.question.ids) == (*case.ids, *ask.ids, *b"Rome")
    assert prompt.question.first_row == 0
    assert torch.equal(copied, torch.ones(4, 2))


def test_a_record_without_answer_says_nothing_about_copying(reader):
    bare = {key: value for key, value in answered_record(1).items() if key != "answer_spans"}
    assert read_copying(build_head_case(bare, reader, 1000), reader) == {}


def test_a_needle_stands_whole_between_sentences_at_any_depth(reader):
    places = set()
    for i in range(40):
        case = build_needle_case(answered_record(i), reader, 1000)
        needle, text = span_text(case, case.needles[0]), bytes(case.ids).decode()
        value = span_text(case, case.answer)
        assert value.isdigit()
        assert value in needle
        assert needle.endswith(".")
        rest = text.replace(needle, "").replace("  ", " ").strip()
        hay = answered_record(i)["docs"]
        assert rest == " ".join(d["text"] for d in hay)
        places.add(text.index(needle))
    assert len(places) > 4


def test_the_needles_mass_is_read_by_the_last_row_in_every_layer():
    reader = ScriptedReader(lambda question, text: [float(c.isdigit()) for c in text])
    found = read_needle_mass(build_needle_case(answered_record(1), reader, 1000), reader)["needle"]
    assert found.shape == (4, 2)
    assert found[-1, -1] == found.max()
    asked = ListRecordingReader.from_needles("Rome")
    asked.asked = []
    read_needle_mass(build_needle_case(answered_record(1), asked, 1000), asked)
    assert asked.asked == [((0, 1, 2, 3), ("last",))]


def test_a_haystack_is_cut_at_whole_sentences(reader):
    case = build_needle_case(answered_record(1), reader, 30)
    rest = bytes(case.ids).decode().replace(span_text(case, case.needles[0]), "").strip()
    assert rest in ("Ann1 sings.", "Ann1 sings. She lives in Rome1.")


def test_documents_of_a_list_are_opened_at_whole_sentences(reader):
    long = doc("One two.", "Three four.", "Five six.")
    assert first_sentences(long, reader, 21) == "One two. Three four."
    assert first_sentences(long, reader, 1) == "One two."


class ListRecordingReader(ScriptedReader):
    """Keeps what was wanted of it."""

    def read(self, prompts, want):
        self.asked.append((want.layers, want.rows))
        return super().read(prompts, want)


def test_places_are_drawn_by_the_record_and_read_by_every_row_of_every_layer():
    """A document draws its share where it stands, and stands elsewhere in another list."""
    reader = ListRecordingReader.from_needles("Ann")
    reader.asked = []
    best = {
        attention_shares(answered_record(i), reader, 3, 100)[:, -1].argmax().item()
        for i in range(12)
    }
    assert best == {0, 1, 2}
    assert set(reader.asked) == {(EVERY, ("question_mean",))}
    for i, (_, text) in enumerate(list(reader.read_log)):
        place = attention_shares(answered_record(i), reader, 3, 100)[:, -1].argmax().item()
        assert text.split("\n\n")[place].startswith("Ann")


def test_shares_of_places_sum_to_one_and_need_enough_documents(reader):
    found = attention_shares(answered_record(3), reader, 3, 100)
    assert found.shape == (3, 4)
    assert found.sum(0).tolist() == pytest.approx([1.0] * 4)
    assert attention_shares(answered_record(3), reader, 4, 100) is None
    assert (
        attention_shares(record("r", "Who?", doc("A."), doc(""), doc("B.")), reader, 3, 100) is None
    )
