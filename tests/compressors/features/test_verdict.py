"""The verdict: its floors, its reason, and questions in another language than the documents."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.features.second_step import (
    FLOORS,
    RequestTexts,
    absent_words,
    content_words,
    judge,
    languages_apart,
)
from tamis.compressors.features.shipped_probes import shipped_probe
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.text.types import Passage
from tamis.text.units.segment import units_of

SHARP = "smollm2-135m-sharp"
LEASE = (
    "The tenancy starts on 1 March and runs for two years. The rent is 940 euros a month, due on "
    "the third working day."
)
MIETE = (
    "Das Mietverhältnis beginnt am 1. März und läuft zwei Jahre. Die Miete beträgt 940 Euro und "
    "ist am dritten Werktag fällig."
)
CODE = "x = 1\ny = 2\nfor i in range(3): print(i)"


def probe(floors):
    figures = {} if floors is None else {FLOORS: floors}
    card = ProbeCard("question_rows", "m", "r", "t", 1, 1, (), figures=figures)
    return LinearProbe({"answerable": torch.zeros(26)}, card)


def texts_of(question, text=LEASE, title=None):
    passages = [Passage(text, title=title)]
    units = units_of(passages, "en")
    return RequestTexts.of(question, passages, units, [9] * len(units))


@pytest.mark.parametrize(
    ("answerability", "verdict"),
    [(0.09, "unanswerable"), (0.1, "partly"), (0.39, "partly"), (0.4, "answerable")],
)
def test_the_floors_of_the_card_decide(answerability, verdict):
    card = probe({"partly": 0.1, "answerable": 0.4})
    question = "Do dogs live where the tenancy starts in March?"
    found = judge(card, answerability, texts_of(question), None)
    assert (found["verdict"], found["floor"]) == (verdict, pytest.approx(0.1))
    assert f"{answerability:.2f}" in found["reason"]
    assert ("in no document: 'dogs', 'live'" in found["reason"]) == (verdict != "answerable")


def test_nothing_is_unanswerable_where_the_passages_are_unlike_those_of_the_fit():
    card, texts = probe({"partly": 0.1, "answerable": 0.4}), texts_of("Do dogs live here?")
    found = judge(card, 0.05, texts, None, is_unlike=True)
    assert "verdict" not in found
    assert "unlike" in found["reason"]
    assert judge(card, 0.2, texts, None, is_unlike=True)["verdict"] == "partly"


@pytest.mark.parametrize(
    "question", ["When does the tenancy start?", "Are dogs allowed?", "How much is it?"]
)
def test_the_floor_is_the_same_whatever_words_the_question_has(question):
    card = probe({"partly": 0.1, "answerable": 0.4})
    for answerability, verdict in ((0.098, "unanswerable"), (0.102, "partly")):
        assert judge(card, answerability, texts_of(question), None)["verdict"] == verdict


@pytest.mark.parametrize(
    ("floors", "answerability", "languages", "reason"),
    [
        (None, 0.5, None, "no floor was calibrated"),
        ({"partly": 0.1, "answerable": 0.4}, None, None, "not fitted to tell"),
        ({"partly": 0.1, "answerable": 0.4}, 0.01, ("de", "en"), "is in 'en', not 'de'"),
    ],
)
def test_there_is_no_verdict_without_a_calibration_that_holds(
    floors, answerability, languages, reason
):
    found = judge(probe(floors), answerability, texts_of("?"), languages)
    assert "verdict" not in found
    assert reason in found["reason"]


def test_words_that_stand_in_a_title_or_in_another_form_are_not_absent():
    question = "When does the tenant of Alder Row pay rents, and what about pets?"
    texts = texts_of(question, title="Alder Row")
    assert absent_words(content_words(question), texts.lexicon) == ["tenant", "pets"]


@pytest.mark.parametrize(
    ("question", "absent"),
    [
        ("Wann muss die Kaution bezahlt werden?", ["kaution", "bezahlt"]),
        ("¿Cuánto cuesta la mudanza?", ["cuesta", "mudanza"]),
        ("Combien faut-il payer pour le garage ?", ["payer", "garage"]),
        ("Does several dogs still count, without a lease?", ["dogs", "count", "lease"]),
    ],
)
def test_words_that_any_question_has_are_not_absent(question, absent):
    assert absent_words(content_words(question), texts_of(question).lexicon) == absent


@pytest.mark.parametrize(
    ("question", "texts", "found"),
    [
        ("Wie hoch ist die Miete?", [LEASE], ("de", "en")),
        ("How high is the rent?", [MIETE], ("en", "de")),
        ("Quel est le loyer par mois ?", [MIETE], ("fr", "de")),
        ("租金是多少?", [LEASE], ("zh", "en")),
        ("Сколько стоит аренда?", [LEASE], ("ru", "en")),
        ("How high is the rent?", [LEASE], None),
        ("Wie hoch ist die Miete?", [MIETE], None),
        # a language is told document by document
        ("Wie hoch ist die Miete?", [MIETE, LEASE], ("de", "en")),
        ("How high is the rent?", [LEASE, MIETE], ("en", "de")),
        # names, keywords, code: nothing is plain
        ("What does 'die Miete' mean?", [LEASE], None),
        ("Mietvertrag?", [LEASE], None),
        ("rent amount", [MIETE], None),
        ("Wie heißt die Funktion?", [CODE], None),
        ("What is the rent?", ["| Jahr | Miete |\n|---|---|\n| 2020 | 940 |"], None),
        ("What is the rent?", [], None),
    ],
)
def test_languages_are_told_apart_where_both_are_plain(question, texts, found):
    assert languages_apart(SHARP, question, texts) == found


def test_a_model_of_many_or_of_unknown_languages_is_not_warned_about():
    asked = "Wie hoch ist die Miete?", [LEASE]
    assert languages_apart(SHARP, *asked)
    assert languages_apart("gemma3-270m", *asked) is None
    assert languages_apart("somebody's own", *asked) is None


def test_the_default_ships_its_floors():
    floors = shipped_probe("question_rows", SHARP).card.figures[FLOORS]
    assert 0 < floors["partly"] < floors["answerable"] < 1
    assert floors["false_refusals"] <= 0.03
