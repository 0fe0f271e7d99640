"""Evidence at other places: its position, what does not change, and the spread of places."""

from __future__ import annotations

import json

import pytest

from lab.tests.bench.records import counting_folder, doc, record, write
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.bench.panel import Panel
from tamis_lab.bench.places import (
    PLACES,
    arrange_records,
    join_documents,
    movable_records,
    move_evidence,
    sweep_places,
)
from tamis_lab.bench.study import Study
from tamis_lab.datasets.records import gold_spans
from tamis_lab.datasets.score_sources import TimedSource
from tamis_lab.datasets.statistics import paired_bootstrap, spread_bootstrap
from tests.probes import tiny
from tests.service.cli.cli_kit import tamis

HAY = [doc(f"Hay lies in field number {i}.", f"More hay in field {i}.") for i in range(4)]
GOLD = doc("The red pin is in the barn.", "Hay, hay.", gold=[0], title="Pins")


def one(*docs, name="a"):
    spans = [[d, 4, 11] for d, of in enumerate(docs) if of["gold"]]
    return record(name, "Where is the red pin?", *docs, answer_spans=spans)


def texts_at(row):
    return ["".join(d["text"][a:b] for d in [row["docs"][i]]) for i, a, b in gold_spans(row)]


@pytest.mark.parametrize(("place", "at"), [("first", 0), ("middle", 2), ("last", 4)])
def test_evidence_moves_and_all_else_keeps_its_order(place, at):
    for start in range(5):
        docs = [*HAY[:start], GOLD, *HAY[start:]]
        found = move_evidence(one(*docs), place)
        assert found["docs"][at] is GOLD
        assert [d for d in found["docs"] if d is not GOLD] == HAY
        ((where, a, b),) = found["answer_spans"]
        assert found["docs"][where]["text"][a:b] == "red pin"


def test_two_documents_of_evidence_move_together_in_their_order():
    other = doc("A pin is red.", gold=[0])
    found = move_evidence(one(GOLD, HAY[0], other, HAY[1]), "middle")
    assert found["docs"] == [HAY[0], GOLD, other, HAY[1]]


def test_one_document_of_all_holds_the_same_gold_and_answers():
    row = one(HAY[0], GOLD, HAY[1])
    whole = join_documents(row)
    (document,) = whole["docs"]
    assert document["text"].count("\n\n") == 2
    assert "\n\nPins\nThe red pin" in document["text"]
    assert texts_at(whole) == texts_at(row) == ["The red pin is in the barn."]
    ((_, a, b),) = whole["answer_spans"]
    assert document["text"][a:b] == "red pin"
    assert len(document["sents"]) == sum(len(d["sents"]) for d in row["docs"])


def test_records_without_a_middle_are_left_out_and_none_is_refused():
    assert movable_records([one(GOLD, HAY[0]), one(GOLD, *HAY[:2])]) == [one(GOLD, *HAY[:2])]
    with pytest.raises(BadInput, match="no middle"):
        movable_records([one(GOLD)])


@pytest.mark.parametrize("joined", [False, True])
def test_a_method_that_keeps_the_beginning_has_a_spread_and_one_of_words_has_none(joined):
    rows = [one(*HAY[:2], GOLD, *HAY[2:], name=str(i)) for i in range(6)]
    panel = Panel(
        ["lead", "lexical"], {"lead": TimedSource(Lead()), "lexical": TimedSource(Lexical())}
    )
    study = Study()
    found = sweep_places(rows, panel, [0.3], TextTokenizer(tiny.tokenizer(), "t"), joined, study)
    assert study.measured == 18
    lead, words = found["lead"]["0.3"], found["lexical"]["0.3"]
    assert lead["gold_kept"]["first"] == 1
    assert lead["gold_kept"]["last"] == (0 if joined else lead["gold_kept"]["last"])
    assert words["gold_kept"] == dict.fromkeys(PLACES, 1.0)
    assert words["spread"] == {"value": 0, "low": 0, "high": 0}
    if joined:
        assert lead["spread"]["value"] == 1
        assert lead["differences"]["first - last"]["low"] == 1
    assert len(arrange_records(rows, joined)) == 18


def test_a_spread_is_the_largest_difference_and_its_interval_is_of_whole_records():
    """Shares 1, 1/2, 1/4 of 4 records."""
    nums, den = [[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]], [1, 1, 1, 1]
    value, low, high = spread_bootstrap(nums, den)
    assert value == 0.75
    assert 0 <= low <= value <= high <= 1
    two = spread_bootstrap(nums[::2], den)
    assert two == pytest.approx(paired_bootstrap(nums[0], nums[2], den))
    assert spread_bootstrap(nums[:1], den) == (0, 0, 0)
    with pytest.raises(BadInput, match="no condition"):
        spread_bootstrap([], den)
    with pytest.raises(BadInput, match="denominators"):
        spread_bootstrap(nums, [1, 0, 1, 1])


def test_the_command_prints_places_and_json(tmp_path):
    counting_folder(tmp_path / "proxy")
    rows = [one(*HAY[:2], GOLD, *HAY[2:], name=str(i)) for i in range(4)]
    file = write(tmp_path / "r.jsonl", rows)
    words = ("lab", "bench", "places", file, "--methods", "lead,lexical", "--budgets", "0.3")
    words += ("--proxy", tmp_path / "proxy", "--cache", tmp_path / "c", "--limit", "3")
    shown = tamis(*words, "--joined")
    assert shown.exit_code == 0, shown.output
    assert "3 questions, documents joined to one" in " ".join(shown.stdout.split())
    report = json.loads(tamis(*words, "--json").stdout)
    assert report["records"] == 3
    assert report["methods"]["lexical"]["0.3"]["gold_kept"]["last"] == 1


def test_a_file_without_a_middle_is_refused_in_one_line(tmp_path):
    counting_folder(tmp_path / "proxy")
    long = doc(*["The red pin is in the barn, as all of us know."] * 90, gold=[0])
    file = write(tmp_path / "r.jsonl", [one(long)])
    done = tamis("lab", "bench", "places", file, "--proxy", tmp_path / "proxy", "--cache", tmp_path)
    assert done.exit_code == 2
    assert "no middle" in done.stderr
