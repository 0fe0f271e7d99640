"""Word features and BM25, worked out by hand in small cases."""

from __future__ import annotations

import random
import time
from math import exp, log, log1p

import pytest
import torch

from tamis.compressors.features.words import (
    HOP_FEATURES,
    WORD_FEATURES,
    Lexicon,
    hop_features,
    stem,
    word_features,
)
from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.text.terms import words
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of

FP32 = 1e-5


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The cat's 2nd_hat, Straße!", ["the", "cat", "s", "2nd", "hat", "strasse"]),
        ("", []),
        ("... \x00 \ud800", []),
        ("日本語", ["日本", "本語"]),
        ("猫", ["猫"]),
        ("GPT4は速い", ["gpt4", "は速", "速い"]),
        ("中x文", ["中", "x", "文"]),
    ],
)
def test_words_are_runs_of_letters_and_digits_and_pairs_where_no_blanks_are(
    text: str, terms: list[str]
):
    assert words(text) == terms


@pytest.mark.parametrize(
    ("word", "stemmed"),
    [
        ("acted", "act"),
        ("acting", "act"),
        ("cities", "cit"),
        ("boxes", "box"),
        ("cats", "cat"),
        ("slowly", "slow"),
        ("sing", "sing"),
        ("red", "red"),
        ("as", "as"),
    ],
)
def test_a_stem_is_a_word_without_its_commonest_ending(word: str, stemmed: str):
    assert stem(word) == stemmed


def test_bm25_of_three_sentences():
    """N = 3, mean length 2; `cat` is in two, `dog` in one, `emu` in none."""
    passages = [Passage("Cat sat."), Passage("Cat cat dog."), Passage("Bird.")]
    found = Lexical().scores("cat dog emu?", passages, units_of(passages))
    cat, dog = log(1 + 1.5 / 2.5), log(1 + 2.5 / 1.5)
    short, long = 1.2 * (0.25 + 0.75 * 1), 1.2 * (0.25 + 0.75 * 1.5)
    due = [
        cat * 2.2 / (1 + short),
        cat * 2 * 2.2 / (2 + long) + dog * 2.2 / (1 + long),
        0.0,
    ]
    assert found.values == pytest.approx(due, rel=1e-12)
    assert found.passages == found.values
    assert not found.calibrated


def test_a_word_that_the_question_repeats_counts_twice():
    passages = [Passage("Cat sat."), Passage("Bird.")]
    once, twice = (Lexical().scores(q, passages, units_of(passages)) for q in ("cat", "cat cat"))
    assert twice.values[0] == pytest.approx(2 * once.values[0])


def test_a_passage_ranks_by_its_best_unit_and_an_empty_one_last():
    units = [Unit(0, 0, 1, (0, 1)), Unit(0, 1, 2, (1, 2)), Unit(2, 0, 1, (0, 1))]
    assert best_unit_scores([-1.0, -3.0, -2.0], units, 4) == (-1.0, -3.0, -2.0, -3.0)
    assert best_unit_scores([], [], 2) == (0.0, 0.0)


def test_lead_takes_every_first_unit_before_any_second():
    passages = [Passage("Cats sit. Dogs run. Emus hop."), Passage("Owls fly. Eels swim.")]
    found = Lead().scores("?", passages, units_of(passages))
    assert found.values == (1.0, 1 / 2, 1 / 3, 1.0, 1 / 2)
    assert found.passages == (1.0, 1 / 2)


BRIDGE = [
    Passage("Film X was directed by Jane Roe. It was shot in Oslo.", title="Film X"),
    Passage("She was born in Lima.", title="Jane Roe"),
    Passage("He was born in Rome. Jane Roe met Film X there.", title="Tom Poe"),
]
QUESTION = "Where was the director of Film X born?"
FIRST = [3.0, 0.0, -1.0, -2.0, -1.5]


def bridge() -> Lexicon:
    return Lexicon(QUESTION, BRIDGE, units_of(BRIDGE))


def hop_column(name: str) -> list[float]:
    found = hop_features(bridge(), torch.tensor(FIRST).double().numpy())
    assert found.shape == (5, len(HOP_FEATURES))
    return found[:, HOP_FEATURES.index(name)].tolist()


def test_a_title_that_the_best_unit_names_is_a_feature():
    """`Film X was directed by Jane Roe` names passage `Jane Roe` whole, `Tom Poe` not at all."""
    assert hop_column("title_named") == [0, 0, 1, 0, 0]


def test_naming_the_title_of_the_best_unit_is_a_feature():
    assert hop_column("names_title") == [0, 0, 0, 0, 1]


def test_being_in_the_passage_of_the_best_unit_is_a_feature():
    """The best is not linked to itself, but to the second best, which is in its passage here."""
    assert hop_column("same_passage") == [1, 1, 0, 0, 0]


def test_shared_words_are_weighed_by_how_rare_they_are():
    """Unit 2, under its title, shares `jane` and `roe` with the best; each is in 3 of 5 units."""
    rare = log(1 + (5 - 3 + 0.5) / (3 + 0.5))
    assert hop_column("words_shared")[2] == pytest.approx(log1p(2 * rare), rel=FP32)


def test_words_that_titles_share_are_weighed_by_how_rare_they_are():
    """Titles share nothing beyond the question here; `Film X` and `Film X` are one passage's."""
    assert hop_column("titles_shared_words") == [0, 0, 0, 0, 0]
    twins = [Passage("She sang.", title="Ann Lee"), Passage("He ran.", title="Tim Lee")]
    lexicon = Lexicon("Who?", twins, units_of(twins))
    found = hop_features(lexicon, torch.tensor([1.0, 0.0]).double().numpy())
    lee = log(1 + (2 - 2 + 0.5) / 2.5)
    column = HOP_FEATURES.index("titles_shared_words")
    assert found[:, column].tolist() == pytest.approx([log1p(lee)] * 2, rel=1e-5)


def test_scores_are_compared_with_the_best_the_passage_and_the_neighbours():
    assert hop_column("first_score") == FIRST
    assert hop_column("below_best") == [0, -3, -4, -5, -4.5]
    assert hop_column("passage_below_best") == [0, 0, -4, -4.5, -4.5]
    assert hop_column("previous_below_best") == [-8, 0, -8, -8, -5]
    assert hop_column("next_below_best") == [-3, -8, -8, -4.5, -8]
    assert hop_column("named_and_passage") == [0, 0, -4, 0, 0]
    total = sum(map(exp, FIRST))
    assert hop_column("first_share") == pytest.approx([exp(z) / total for z in FIRST], rel=1e-5)


def test_a_lexicon_weighs_a_word_by_how_few_units_have_it_under_their_title():
    """`oslo` is in 1 of 5, `jane` in 3, `moon` in none."""
    weigh = bridge().weight
    assert weigh(frozenset()) == 0
    assert weigh(frozenset({"oslo"})) == pytest.approx(log(1 + 4.5 / 1.5))
    assert weigh(frozenset({"jane"})) == pytest.approx(log(1 + 2.5 / 3.5))
    both = weigh(frozenset({"oslo", "moon"}))
    assert both == pytest.approx(log(1 + 4.5 / 1.5) + log(1 + 5.5 / 0.5))


def test_each_word_feature_is_what_its_name_says():
    units = units_of(BRIDGE)
    found = word_features(QUESTION, bridge(), [1, 2, 3, 4, 5])
    column = dict(zip(WORD_FEATURES, found.T.tolist(), strict=True))
    bm25 = torch.tensor(Lexical().scores(QUESTION, BRIDGE, units).values)
    weigh, question_stems = bridge().weight, bridge().question
    close = {"abs": 1e-5}
    assert column["bm25"] == pytest.approx(bm25.log1p().tolist(), **close)
    spread = (bm25 - bm25.mean()) / bm25.std(correction=0)
    assert column["bm25_z"] == pytest.approx(spread.tolist(), **close)
    best = [max(bm25[0], bm25[1])] * 2 + [bm25[2]] + [max(bm25[3], bm25[4])] * 2
    assert column["passage_bm25"] == pytest.approx([log1p(float(b)) for b in best], **close)
    assert column["log_tokens"] == pytest.approx([log1p(n) for n in range(1, 6)], **close)
    assert column["title_asked"] == [1, 1, 0, 0, 0]
    shares = [
        weigh(frozenset(shared)) / weigh(question_stems)
        for shared in (
            {"film", "x", "was"},
            {"was"},
            {"was", "born"},
            {"was", "born"},
            {"film", "x"},
        )
    ]
    assert column["question_covered"] == pytest.approx(shares, **close)
    shares[1] = weigh(frozenset({"film", "x", "was"})) / weigh(question_stems)
    assert column["question_covered_titled"] == pytest.approx(shares, **close)
    named = [
        Passage(f"{BRIDGE[u.passage].title} {text}") for u, text in zip(units, texts(), strict=True)
    ]
    whole = [Unit(p, 0, len(n.text), (0, len(n.text))) for p, n in enumerate(named)]
    titled = Lexical().scores(QUESTION, named, whole).values
    assert column["bm25_titled"] == pytest.approx([log1p(v) for v in titled], **close)


def test_sentences_of_a_question_are_compared_one_by_one():
    """A feature is the largest of theirs, so a body without a word in common changes none."""
    units, tokens = units_of(BRIDGE), [1, 2, 3, 4, 5]

    def features(question: str) -> torch.Tensor:
        lexicon = Lexicon(question, BRIDGE, units)
        return torch.from_numpy(word_features(question, lexicon, tokens))

    alone = features(QUESTION)
    torch.testing.assert_close(features(f"{QUESTION}\nZebras graze! Help?"), alone)
    torch.testing.assert_close(features(f"Zebras graze. {QUESTION}"), alone)
    other = "Who met Jane Roe?"
    both = features(f"{QUESTION} {other}")
    torch.testing.assert_close(both, torch.maximum(alone, features(other)))
    assert not torch.allclose(both, alone)


def texts() -> list[str]:
    return [BRIDGE[u.passage].text[slice(*u.visible)] for u in units_of(BRIDGE)]


def test_the_words_of_five_thousand_units_take_less_than_three_seconds():
    """Of processor time: what every unit is compared with must not grow with their number."""
    chance = random.Random(0)
    common = [f"w{int(chance.paretovariate(0.6))}" for _ in range(100_000)]
    passages = [
        Passage(" ".join(chance.choices(common, k=20)), title=f"Title {p} of {common[p]}")
        for p in range(5_000)
    ]
    units = [Unit(p, 0, len(q.text), (0, len(q.text))) for p, q in enumerate(passages)]
    question = " ".join(chance.choices(common, k=30))
    clock = time.process_time()
    lexicon = Lexicon(question, passages, units)
    word_features(question, lexicon, [20] * len(units))
    hop_features(lexicon, torch.rand(len(units)).double().numpy())
    assert time.process_time() - clock < 3
