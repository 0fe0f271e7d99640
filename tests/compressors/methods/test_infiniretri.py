"""InfiniRetri: which units are carried from window to window, and how units are joined."""

from __future__ import annotations

import pytest

from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.question_rows import induction_heads
from tamis.compressors.reading.joining import join_units, units_as_tokens, units_that_fit
from tamis.compressors.reading.windows import Window, split_windows
from tamis.compressors.registry import ships_for
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.prompt import PassageTokens, Prompt
from tamis.probes.signal import Want, box_filter
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.methods.attention_kit import QUESTION
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import ScriptedReader


class RecordingReader(ScriptedReader):
    """Records the text of each prompt."""

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.read_log]


def passage_of(*sentences: str) -> list[Passage]:
    return [Passage(" ".join(sentences))]


def scores_of(reader, given, **options) -> tuple[float, ...]:
    return (
        InfiniRetri(reader, phrase_tokens=1, heads=0, **options)
        .scores(QUESTION, given, units_of(given))
        .values
    )


def test_infiniretri_carries_the_sentences_of_the_best_tokens_into_the_next_window():
    """Windows of two sentences; three tokens are carried, and they are the pin's."""
    reader = RecordingReader.from_needles("pin")
    given = passage_of("The pin, oak.", "Straw bad.", "Straw old.", "Straw dry.", "Straw wet.")
    values = scores_of(reader, given, window_tokens=24, top_k=3)
    assert reader.texts == [
        "The pin, oak. Straw bad.",
        "The pin, oak. Straw old. Straw dry.",
        "The pin, oak. Straw wet.",
    ]
    assert values[0] > 1 > max(values[1:])


def test_infiniretri_drops_a_carried_sentence_when_a_later_one_takes_its_place():
    def weigh(question: str, text: str) -> list[float]:
        return [1.0 if c == "#" else 0.5 if c == "+" else 0.0 for c in text]

    reader = RecordingReader(weigh)
    given = passage_of("Straw is +++.", "Straw bad.", "Straw ##.", "Straw dry.", "Straw wet.")
    values = scores_of(reader, given, window_tokens=23, top_k=1)
    assert reader.texts[-1] == " Straw ##. Straw dry. Straw wet."
    assert [value > 1 for value in values] == [False, False, True, False, False]


def test_infiniretri_scores_are_the_last_layers_mean_of_heads_under_the_box():
    reader = ScriptedReader.from_needles("pin")
    given = passage_of("The pin, oak.", "Straw bad.")
    units = units_of(given)
    (window,) = split_windows(reader.layout, given, units)
    method = InfiniRetri(reader, phrase_tokens=4, heads=0)
    prompt = Prompt(window.tokens, reader.layout.question_tokens(QUESTION))
    (signal,) = reader.read([prompt], Want((3,), ("question_mean",)))
    due = box_filter(signal.weights[0, :, 0].mean(0), 4, padded=True)
    best = [due[slice(*span)].max().item() for span in window.tokens.unit_spans]
    found = method.scores(QUESTION, given, units).values
    assert [v % 1 for v in found] == pytest.approx(best)
    other = InfiniRetri(reader, phrase_tokens=1, heads=0).scores(QUESTION, given, units).values
    assert [v % 1 for v in other] != pytest.approx(best, rel=1e-2)


def test_infiniretri_never_carries_more_than_it_may():
    reader = RecordingReader.from_needles("pin")
    given = passage_of(*(f"Pin pin pin {i:02d}." for i in range(30)))
    method = InfiniRetri(reader, window_tokens=40, carry_tokens=35, heads=0)
    method.scores(QUESTION, given, units_of(given))
    assert max(map(len, reader.texts)) <= 40 + 35
    assert len(reader.texts) == 15


def test_infiniretri_alone_reads_every_window_once_and_the_survivors_together():
    reader = RecordingReader.from_needles("pin")
    given = passage_of("The pin, oak.", "Straw bad.", "Straw old.", "A pin too.")
    values = scores_of(reader, given, form="independent", window_tokens=24, top_k=6)
    assert reader.texts == [
        "The pin, oak. Straw bad.",
        "Straw old. A pin too.",
        "The pin, oak. A pin too.",
    ]
    assert [value > 1 for value in values] == [True, False, False, True]


def test_joined_neighbours_share_the_token_that_straddles_them():
    """Ids 0 1 2 | 2 3: the token 2 belongs to both units."""
    window = Window(0, 5, 7, PassageTokens((0, 1, 2, 3), 0, ((0, 3), (2, 4))))
    first, second = units_as_tokens(window)
    assert join_units([first, second]) == PassageTokens((0, 1, 2, 3), 0, ((0, 3), (2, 4)))
    assert join_units([second]) == PassageTokens((2, 3), 0, ((0, 2),))


def test_what_is_put_together_keeps_the_text_before_a_unit_and_its_span():
    """A title of one token, then gap and unit: 9 | 1 1 | 7 | 2 2."""
    window = Window(0, 0, 2, PassageTokens((9, 1, 1, 7, 2, 2), 1, ((0, 2), (3, 5))))
    first, second = units_as_tokens(window)
    assert join_units([second]) == PassageTokens((7, 2, 2), 0, ((1, 3),))
    assert join_units([first, second]).ids == (1, 1, 7, 2, 2)
    assert [part.unit for part in units_that_fit([second, first], 4)] == [1]
    assert [part.unit for part in units_that_fit([second, first], 5)] == [0, 1]


def test_where_no_contrast_profile_ships_induction_heads_are_read_and_never_the_last_layer():
    model = "qwen2.5-coder-0.5b-sharp"
    assert not HeadProfile.is_shipped("contrast", model)
    heads = induction_heads(HeadProfile.load_shipped("induction", model))
    assert InfiniRetri.layers_needed(model, {}) == 1 + max(heads)[0] < 24
    assert ships_for("infiniretri", model)
    assert InfiniRetri.layers_needed(model, {"heads": 0}) is None


def test_a_model_without_any_profile_is_an_error_that_names_both_ways_out():
    reader = ScriptedReader.from_needles("pin", name="someone/else")
    with pytest.raises(BadInput, match=r"--by induction --proxy someone/else .* heads=0"):
        InfiniRetri(reader)
    assert not ships_for("infiniretri", "someone/else")
    assert InfiniRetri(reader, heads=0).chosen is None


def test_a_profile_of_ones_own_names_the_heads():
    reader = ScriptedReader.from_needles("pin", layers=4)
    card = reader.card
    scores = tuple(tuple(float(layer == 1) for _ in range(card.heads)) for layer in range(4))
    profile = HeadProfile(card.name, card.revision, "chatml", 4, card.heads, "contrast", scores)
    method = InfiniRetri(reader, heads=2, profile=profile)
    assert (method.chosen, method.layers) == (((1, 0), (1, 1)), 2)
    assert InfiniRetri.layers_needed("m", {"heads": 2, "profile": profile}) == 2
