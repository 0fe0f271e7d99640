"""What a splitter's overlap puts into two passages is shown once, and whole."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.rules import Budget, Rules
from tamis.compressors.selection.groups import Groups
from tamis.compressors.selection.packer import LEAST_CHARS, find_overlaps, find_shared
from tamis.compressors.selection.select import select
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.selection.select_kit import words

MINUTES = (
    "The board met on Monday in the old hall. Ruben cuts the branch on January 20th, so there is "
    "time. Lena writes the notes for users. The next meeting is in spring, on a day to be found."
)


def cut(text: str, size: int, overlap: int) -> list[str]:
    """Pieces as a splitter that respects words makes them: their ends are stripped."""
    pieces, start = [], 0
    while start < len(text):
        pieces.append(text[start : start + size].rsplit(" ", 1)[0].strip())
        start += max(1, len(pieces[-1]) - overlap)
        start = text.find(" ", start) + 1 or len(text)
        if text.endswith(pieces[-1]):
            break
    return pieces


def select_texts(texts, values, tokens, **rules):
    """The kept texts by passage, of units that are worth what is said of the words in them."""
    passages = [Passage(text) for text in texts]
    units = units_of(passages, "en")
    visible = [texts[u.passage][slice(*u.visible)] for u in units]
    worth = [
        max((v for word, v in values.items() if word in text), default=0.0) for text in visible
    ]
    budget, scores = Budget(max_tokens=tokens), [1.0] * len(texts)
    found = select(passages, units, worth, scores, budget, Rules(**rules), words(), calibrated=True)
    return [(units[u].passage, visible[u]) for u in found.units]


@pytest.mark.parametrize("flipped", [False, True])
def test_a_shared_sentence_is_shown_once_and_a_cut_one_is_left_for_the_whole(flipped: bool):
    texts = [
        "Lena asked. Windows is moved by hand. Ruben cuts the branch on January 20th, so all wait",
        "by hand. Ruben cuts the branch on January 20th, so all wait for him. Then comes spring.",
    ]
    first, second = (1, 0) if flipped else (0, 1)
    values = {"Ruben": 0.9, "hand": 0.8}
    kept = select_texts(texts[::-1] if flipped else texts, values, 19)
    assert sorted(kept) == sorted(
        [
            (first, "Windows is moved by hand."),
            (second, "Ruben cuts the branch on January 20th, so all wait for him."),
        ]
    )
    assert len(select_texts(texts, values, 100, dedup=None, fill=True)) == 6


def test_a_fragment_is_kept_where_the_whole_has_no_room():
    texts = [
        "Rain fell and nobody came to the square that day, but the branch is cut in January.",
        "but the branch is cut in January. Then comes spring.",
    ]
    values = {"January": 0.9}
    assert select_texts(texts, values, 9) == [(1, "but the branch is cut in January.")]
    assert select_texts(texts, values, 40) == [(0, texts[0])]


def test_the_half_of_a_sentence_that_neither_has_whole_brings_the_other():
    texts = [
        "Cats sleep. Good cause exists where the party is in arrears, or where it is insolvent, or",
        "or where it is insolvent, or where secrets are told to others. Dogs bark.",
    ]
    halves = ["Good cause exists where the party is in arrears, or where it is insolvent, or"]
    halves.append("or where it is insolvent, or where secrets are told to others.")
    for word in ("arrears", "secrets"):
        kept = select_texts(texts, {word: 0.9, "Cats": 0.5, "Dogs": 0.5}, 28)
        assert [text for _, text in kept] == halves


def test_what_a_heading_in_the_overlap_introduces_stays_below_it():
    texts = [
        "# Opening\n\nIt is shut on Monday.\n\n# Prices of tickets\n\nAdults pay nine euros.",
        "# Prices of tickets\n\nAdults pay nine euros. Children pay four euros.",
    ]
    kept = select_texts(texts, {"Adults": 0.9, "Children": 0.8, "Prices": 0.1}, 40)
    assert kept == [
        (1, "# Prices of tickets"),
        (1, "Adults pay nine euros."),
        (1, "Children pay four euros."),
    ]


def test_of_what_both_have_whole_the_firsts_stays_up_to_a_heading_and_from_it_on_the_seconds():
    prices = "Adults pay nine euros. Children pay four euros."
    for between, repeats in (
        ("", {"Adults pay nine euros.": 1, "Children pay four euros.": 1}),
        (
            "# Prices\n\n",
            {"# Prices": 0, "Adults pay nine euros.": 0, "Children pay four euros.": 0},
        ),
    ):
        shared = between + prices
        texts = [f"It is shut on Monday.\n\n{shared}", f"{shared} Dogs are free."]
        passages = [Passage(text) for text in texts]
        units = units_of(passages, "en")
        found = find_shared(passages, units, Groups(units, passages).stops).repeats
        told = {texts[units[u].passage][slice(*units[u].visible)]: units[u].passage for u in found}
        assert told == repeats


def test_a_phrase_is_no_overlap():
    texts = ["Shop A. Open 9 to 17 daily.", "Open 9 to 17 daily. Shop B."]
    assert len("Open 9 to 17 daily.") < LEAST_CHARS
    assert not list(find_overlaps(texts))


@given(
    st.lists(st.text("ab \n", min_size=0, max_size=60), max_size=3),
    st.text("ab \n", min_size=20, max_size=40),
)
def test_overlaps_are_the_longest_there_are(texts: list[str], shared: str):
    texts = [*(text + shared for text in texts), *(shared + text for text in texts)]
    found = {(o.first, o.second): o.stop - o.start for o in find_overlaps(texts)}
    for first, one in enumerate(texts):
        for second, other in enumerate(texts):
            ending, opening = one.rstrip(), other.lstrip()
            sizes = [
                n for n in range(len(ending) + 1) if opening.startswith(ending[len(ending) - n :])
            ]
            size = max(n for n in sizes)
            alike = [t.lstrip()[:LEAST_CHARS] for t in texts[:second]].count(opening[:LEAST_CHARS])
            if first != second and size >= LEAST_CHARS and alike < 4:
                assert found.pop((first, second)) == size
    assert not found


@given(st.integers(30, 120), st.integers(20, 60), st.randoms())
def test_a_repeat_lies_in_its_whole_and_no_whole_is_a_repeat(size, overlap, chance):
    texts = cut(MINUTES, size + overlap, overlap)
    chance.shuffle(texts)
    passages = [Passage(text) for text in texts]
    units = units_of(passages, "en")
    groups = Groups(units, passages)
    repeats = find_shared(passages, units, {u for u in range(len(units)) if u in groups}).repeats
    assert not set(repeats) & set(repeats.values())
    for u, whole in repeats.items():
        part, all_of_it = (texts[units[v].passage][slice(*units[v].visible)] for v in (u, whole))
        assert part in all_of_it
    left = [u for u in range(len(units)) if u not in repeats]
    said = " ".join(texts[units[u].passage][slice(*units[u].visible)] for u in left)
    assert all(
        word in said.split() for word in MINUTES.split() if any(word in t.split() for t in texts)
    )


def test_the_same_text_many_times_has_one_source_each():
    texts = [MINUTES] * 6
    passages = [Passage(text) for text in texts]
    units = units_of(passages, "en")
    repeats = find_shared(passages, units, ()).repeats
    assert len(set(repeats.values())) >= 4
    assert not set(repeats) & set(repeats.values())
    assert len(select_texts(texts, {"": 0.9}, 500)) == 4


def test_texts_that_only_seem_to_go_on_take_linear_time():
    texts = [f"{'a' * 30}{'b' * (n % 7 + 1)}{'a' * 4000}" for n in range(400)]
    clock = time.process_time()
    assert all(overlap.stop == 30 for overlap in find_overlaps(texts))
    assert time.process_time() - clock < 5
