"""EHPC: the paper's formula by hand, the effect of each part, and the empty question."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.methods.ehpc import EHPC, mean_last_rows, unit_features
from tamis.compressors.registry import ships_for
from tamis.probes.errors import ProbeMismatch
from tamis.probes.kv_cache.cache import CachedReader, PassageCache
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.signal import Signal
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.methods.attention_kit import QUESTION, signal_of
from tests.laws.methods import head_profile
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import ScriptedReader

HAY = "Straw here. More straw there. The pin is here. Straw again. And again."


def test_ehpc_takes_the_mean_of_the_last_rows_of_its_heads_alone():
    signal = signal_of(
        [[8.0, 0.0], [0.2, 0.0], [0.4, 0.2]], [[0.0, 0.0]] * 3, [[7.0, 7.0], [0.0, 0.1], [0.2, 0.3]]
    )
    assert mean_last_rows(signal, [(0, 0), (0, 2)], 2).flatten().tolist() == pytest.approx(
        [0.3, 0.1, 0.1, 0.2]
    )
    # fewer rows than the window are all of them
    assert mean_last_rows(signal, [(0, 1)], 16).tolist() == [[0.0, 0.0]]


def test_ehpc_pools_along_the_text_then_sums_heads_and_takes_a_units_best_token():
    signal = signal_of([[0.3, 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.3, 0.3]])
    found = unit_features(signal, [(0, 2), (2, 4)], [(0, 0), (0, 1)], rows=1, pool=3)
    # heads pooled over 3: [.15 .1 0 0] and [0 .1 .2 .3]
    assert found[:, 0].tolist() == pytest.approx([0.2, 0.3])
    assert found[:, 1].tolist() == pytest.approx([0.15, 0.3])
    unpooled = unit_features(signal, [(0, 2), (2, 4)], [(0, 0), (0, 1)], rows=1, pool=1)
    assert unpooled[:, 0].tolist() == pytest.approx([0.3, 0.3])


def scores(method, text=HAY) -> list[float]:
    given = [Passage(text)]
    return list(method.scores(QUESTION, given, units_of(given)).values)


def test_ehpc_scores_differ_with_rows_heads_and_pooling():
    reader = ScriptedReader.from_needles("pin")

    def ehpc(heads: int = 1, **options) -> list[float]:
        return scores(EHPC(reader, head_profile(reader), heads, **options))

    token_form = ehpc(form="token")
    for other in (
        ehpc(form="token", heads=2),
        ehpc(form="token", observed_rows=1),
        ehpc(form="token", pool_tokens=4),
        ehpc(),
    ):
        assert other != pytest.approx(token_form, rel=1e-3)
    # the sentence is its own window
    assert ehpc(pool_tokens=4) == ehpc()
    assert ehpc(calibrate=False) != pytest.approx(ehpc(), rel=1e-3)


class FixedReader(ScriptedReader):
    """Two heads have fixed attention for each question, row by row, whatever is read."""

    def __init__(self, **rows_by_question: list[list[float]]) -> None:
        super().__init__(lambda question, text: [0.0] * len(text), layers=1)
        self.by_question = {
            self.layout.question_tokens(q).ids: rows for q, rows in rows_by_question.items()
        }

    def read(self, prompts, want):
        for prompt in prompts:
            rows = torch.tensor(self.by_question[prompt.question.ids])
            yield Signal(torch.stack([rows, 2 * rows])[None], want.layers, want.rows)


NINES = [9.0] * 7


def fixed_reader() -> FixedReader:
    """ "Ab. Cd." as seven bytes; a first row of nines is no row to observe."""
    rows = [[0.3] * 3 + [0.0] + [0.1] * 3, [0.1] * 3 + [0.0] + [0.3] * 3]
    empty = [[0.2] * 3 + [0.0] + [0.1] * 3, [0.1] * 3 + [0.0] + [0.0] * 3]
    return FixedReader(**{"Who?": [NINES, *rows], "N/A": [NINES, *empty]})


def fixed_reader_scores(**options) -> list[float]:
    reader, given = fixed_reader(), [Passage("Ab. Cd.")]
    method = EHPC(reader, head_profile(reader), 2, observed_rows=2, **options)
    return list(method.scores("Who?", given, units_of(given)).values)


def test_ehpc_subtracts_the_attention_of_an_empty_questions_rows():
    """Means of the last two rows .2 and .2, of N/A .15 and .05; heads 1 + 2."""
    assert fixed_reader_scores() == pytest.approx([3 * (0.2 - 0.15), 3 * (0.2 - 0.05)])
    assert fixed_reader_scores(calibrate=False) == pytest.approx([3 * 0.2, 3 * 0.2])


def test_ehpc_as_published_reads_no_empty_question():
    """The token form reads no other question, whatever `calibrate` is, and subtracts nothing."""
    reader = FixedReader(**{"Who?": [NINES, [0.3] * 3 + [0.0] + [0.1] * 3]})
    given = [Passage("Ab. Cd.")]
    for calibrate in (True, False):
        method = EHPC(
            reader,
            head_profile(reader),
            heads=2,
            observed_rows=1,
            pool_tokens=1,
            form="token",
            calibrate=calibrate,
        )
        found = method.scores("Who?", given, units_of(given)).values
        assert found == pytest.approx([3 * 0.3, 3 * 0.1])


def test_a_place_that_every_question_attends_to_does_not_outrank_the_needle():
    """A window's opening draws more attention than the pin, whatever the question."""

    def weigh(question: str, text: str) -> list[float]:
        pin = text.find("The pin is here.")
        inside = range(pin, pin + 16) if question == QUESTION and pin >= 0 else range(0)
        return [0.02 if i < 11 else 0.01 if i in inside else 0.0 for i in range(len(text))]

    reader = ScriptedReader(weigh)
    plain, less = (
        scores(EHPC(reader, head_profile(reader), calibrate=calibrate))
        for calibrate in (False, True)
    )
    assert max(range(5), key=plain.__getitem__) == 0
    assert max(range(5), key=less.__getitem__) == 2


@pytest.mark.parametrize("cached", [False, True])
def test_an_empty_question_costs_itself_and_no_second_reading(cached):
    proxy = tiny.proxy()
    reader = CachedReader(proxy, PassageCache()) if cached else proxy
    given = [Passage(HAY), Passage("Another straw. And one.", title="T")]
    once, twice = (
        EHPC(reader, head_profile(reader), heads=2, calibrate=calibrate)
        for calibrate in (False, True)
    )
    plain = once.scores(QUESTION, given, units_of(given))
    if cached:
        reader.cache.clear()
    found = twice.scores(QUESTION, given, units_of(given))
    more = found.windows * len(proxy.layout.question_tokens("N/A").ids)
    assert found.tokens_read == plain.tokens_read + more
    assert found.tokens_cached == plain.tokens_cached == 0


def test_ehpc_runs_only_up_to_its_layer():
    reader = ScriptedReader.from_needles("pin", layers=6)
    scores_of = [[0.0, 0.0]] * 6
    scores_of[2] = [0.3, 0.4]
    card = reader.card
    profile = HeadProfile(
        card.name, card.revision, "chatml", 6, 2, "needle", tuple(map(tuple, scores_of))
    )
    method = EHPC(reader, profile, heads=2)
    assert (method.chosen, method.layers) == (((2, 1), (2, 0)), 3)
    assert EHPC.layers_needed(card.name, {"profile": profile}) == 3


def test_ehpc_chooses_the_tokens_of_the_needle_first():
    reader = ScriptedReader.from_needles("The pin is here")
    method = EHPC(reader, head_profile(reader), pool_tokens=1)
    spans = method.tokens(QUESTION, HAY, 15)
    assert "".join(HAY[a:b] for a, b in spans) == "The pin is here"
    assert len(method.tokens(QUESTION, "ab", 10)) == 2


def test_ehpc_refuses_a_profile_of_another_model():
    with pytest.raises(ProbeMismatch, match="needle"):
        EHPC(ScriptedReader.from_needles("pin", name="other"), head_profile(ScriptedReader(len)))


def wide_profile(reader: ScriptedReader, stability: dict[str, float]) -> HeadProfile:
    """The best layer is 1; the best single head is in layer 0."""
    card = reader.card
    rows = ((0.0, 0.9) + (0.0,) * 6, (0.5, 0.1, 0.4, 0.3) + (0.0,) * 4)
    return HeadProfile(
        card.name, card.revision, "chatml", 2, 8, "needle", rows, cases=9, stability=stability
    )


def wide_reader(name: str = "scripted") -> ScriptedReader:
    return ScriptedReader.from_needles("pin", layers=2, heads=8, name=name)


def test_a_quarter_of_a_layers_heads_is_chosen_or_as_many_as_are_wanted():
    reader = wide_reader()
    profile = wide_profile(reader, {})
    assert EHPC(reader, profile).chosen == ((1, 0), (1, 2))
    assert EHPC(reader, profile, heads=3).chosen == ((1, 0), (1, 2), (1, 3))
    anywhere = EHPC(reader, profile, any_layer=True)
    assert (anywhere.chosen, anywhere.read_layers) == (((0, 1), (1, 0)), (0, 1))
    assert anywhere.places == ((0, 1), (1, 0))
    # the layer of the best heads, not of the best layer
    assert EHPC.layers_needed("m", {"profile": profile, "any_layer": True, "heads": 1}) == 1
    assert EHPC.layers_needed("m", {"profile": profile}) == 2


def test_heads_that_change_with_the_needles_come_with_a_warning():
    reader, given = wide_reader(), [Passage(HAY)]
    warnings = {
        value: EHPC(reader, wide_profile(reader, {"4": value, "8": 1.0}))
        .scores(QUESTION, given, units_of(given))
        .warnings
        for value in (0.5, 0.79, 0.8, 1.0)
    }
    assert warnings[0.8] == warnings[1.0] == ()
    assert "only 50% stay" in warnings[0.5][0]
    assert warnings[0.79]


def test_a_model_whose_needle_heads_are_chance_is_not_served():
    assert ships_for("ehpc", "smollm2-135m")
    assert ships_for("ehpc", "gemma3-270m")
    assert ships_for("ehpc", "smollm2-135m-sharp")
    assert not ships_for("ehpc", "someone/else")
