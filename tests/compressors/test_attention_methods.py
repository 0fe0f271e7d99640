"""EHPC, InfiniRetri and raw attention: each paper's formula by hand, each part missed when gone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tamis.compressors._joining import cuts, fitting, put_together
from tamis.compressors._reading import Window, windows
from tamis.compressors._registry import depth
from tamis.compressors._smooth import box, gaussian
from tamis.compressors.evaluator_heads import EvaluatorHeads, observed, unit_features
from tamis.compressors.infini import Infini
from tamis.compressors.raw_attention import RawAttention, best_words
from tamis.probes.cache import CachedReader, PassageCache
from tamis.probes.capture import Want
from tamis.probes.errors import BadInput, ProbeMismatch
from tamis.probes.heads import HeadProfile
from tamis.probes.prompt import Prompt, Read
from tamis.probes.scripted import Scripted
from tamis.probes.segment import units_of
from tamis.probes.signal import Signal
from tamis.probes.text import Passage
from tests.laws.methods import head_profile
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself

ASKED = "Where is the pin?"
HAY = "Straw here. More straw there. The pin is here. Straw again. And again."


def seen(*rows, layers=1) -> Signal:
    """`rows[h][r]` are the weights of a row of the last layer; layers below see nothing."""
    weights = torch.tensor(rows).float()[None]
    below = torch.zeros(layers - 1, *weights.shape[1:])
    return Signal(torch.cat([below, weights]), tuple(range(layers)), ("question",))


def test_a_box_is_the_mean_of_what_is_there_or_of_zeros_beyond():
    scores = torch.tensor([3.0, 0.0, 6.0, 0.0])
    assert box(scores, 3).tolist() == pytest.approx([1.5, 3.0, 2.0, 3.0])
    assert box(scores, 3, padded=True).tolist() == pytest.approx([1.0, 3.0, 2.0, 2.0])
    # an even width reaches one further back: [i - 1, i + 1)
    assert box(scores, 2).tolist() == pytest.approx([3.0, 1.5, 3.0, 3.0])
    assert box(scores, 1).tolist() == scores.tolist()
    assert box(torch.zeros(0), 3).tolist() == []
    with pytest.raises(BadInput, match="width"):
        box(scores, 0)


def test_a_padded_box_is_torchs_convolution():
    scores = torch.rand(40, generator=torch.Generator().manual_seed(0))
    due = torch.nn.functional.conv1d(scores[None, None], torch.ones(1, 1, 8) / 8, padding=4)
    torch.testing.assert_close(box(scores, 8, padded=True), due[0, 0, :-1])


@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_the_gaussian_is_scipys(size):
    from scipy.ndimage import gaussian_filter1d

    scores = torch.rand(size, generator=torch.Generator().manual_seed(size)).double()
    for sigma in (0.0, 0.7, 1.0, 3.0):
        due = gaussian_filter1d(scores.numpy(), sigma) if sigma else scores.numpy()
        np.testing.assert_allclose(gaussian(scores, sigma).numpy(), due, atol=1e-12)
    with pytest.raises(BadInput, match="sigma"):
        gaussian(scores, -1.0)


def test_raw_attention_is_the_best_token_of_the_last_layers_last_row_over_heads():
    signal = seen(
        [[9.0, 9.0, 9.0, 9.0], [0.2, 0.0, 0.4, 0.0]],
        [[9.0, 9.0, 9.0, 9.0], [0.0, 0.4, 0.0, 0.2]],
        layers=2,
    )
    found = best_words(signal, [(0, 2), (2, 4), (1, 1)], sigma=0.0)
    assert found.flatten().tolist() == pytest.approx([0.2, 0.2, 0.0])


def test_raw_attention_is_smoothed_before_the_best_token_is_taken():
    """A lone spike sinks below two neighbours that stand together."""
    row = [0.0, 0.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.4, 0.4, 0.0, 0.0]
    sharp, soft = (best_words(seen([row]), [(0, 6), (6, 12)], s).flatten() for s in (0.0, 1.0))
    assert sharp[0] > sharp[1]
    assert soft[0] < soft[1]


def test_ehpc_takes_the_mean_of_the_last_rows_of_its_heads_alone():
    signal = seen(
        [[8.0, 0.0], [0.2, 0.0], [0.4, 0.2]], [[0.0, 0.0]] * 3, [[7.0, 7.0], [0.0, 0.1], [0.2, 0.3]]
    )
    assert observed(signal, [0, 2], 2).flatten().tolist() == pytest.approx([0.3, 0.1, 0.1, 0.2])
    # fewer rows than the window are all of them
    assert observed(signal, [1], 16).tolist() == [[0.0, 0.0]]


def test_ehpc_pools_along_the_text_then_sums_heads_and_takes_a_units_best_token():
    signal = seen([[0.3, 0.0, 0.0, 0.0]], [[0.0, 0.0, 0.3, 0.3]])
    found = unit_features(signal, [(0, 2), (2, 4)], [0, 1], rows=1, pool=3)
    # heads pooled over 3: [.15 .1 0 0] and [0 .1 .2 .3]
    assert found[:, 0].tolist() == pytest.approx([0.2, 0.3])
    assert found[:, 1].tolist() == pytest.approx([0.15, 0.3])
    unpooled = unit_features(signal, [(0, 2), (2, 4)], [0, 1], rows=1, pool=1)
    assert unpooled[:, 0].tolist() == pytest.approx([0.3, 0.3])


def scores(method, text=HAY) -> list[float]:
    given = [Passage(text)]
    return list(method.scores(ASKED, given, units_of(given)).values)


def test_ehpc_scores_differ_with_rows_heads_and_pooling():
    reader = Scripted.pointing_at("pin")

    def ehpc(heads: int = 1, **options) -> list[float]:
        return scores(EvaluatorHeads(reader, head_profile(reader), heads, **options))

    base = ehpc(form="token")
    for other in (
        ehpc(form="token", heads=2),
        ehpc(form="token", observed_rows=1),
        ehpc(form="token", pool_tokens=4),
        ehpc(),
    ):
        assert other != pytest.approx(base, rel=1e-3)
    # the sentence is its own window
    assert ehpc(pool_tokens=4) == ehpc()
    assert ehpc(calibrate=False) != pytest.approx(ehpc(), rel=1e-3)


class Fixed(Scripted):
    """Two heads see what is written here for a question, row by row, whatever is read."""

    def __init__(self, **seen: list[list[float]]) -> None:
        super().__init__(lambda question, text: [0.0] * len(text), layers=1)
        self.by_question = {self.layout.ask(q).ids: rows for q, rows in seen.items()}

    def read(self, prompts, want):
        for prompt in prompts:
            rows = torch.tensor(self.by_question[prompt.ask.ids])
            yield Signal(torch.stack([rows, 2 * rows])[None], want.layers, want.rows)


NINES = [9.0] * 7


def fixed() -> Fixed:
    """ "Ab. Cd." as seven bytes; a first row of nines is no row to observe."""
    asked = [[0.3] * 3 + [0.0] + [0.1] * 3, [0.1] * 3 + [0.0] + [0.3] * 3]
    empty = [[0.2] * 3 + [0.0] + [0.1] * 3, [0.1] * 3 + [0.0] + [0.0] * 3]
    return Fixed(**{"Who?": [NINES, *asked], "N/A": [NINES, *empty]})


def by_fixed(**options) -> list[float]:
    reader, given = fixed(), [Passage("Ab. Cd.")]
    method = EvaluatorHeads(reader, head_profile(reader), observed_rows=2, **options)
    return list(method.scores("Who?", given, units_of(given)).values)


def test_ehpc_takes_off_what_the_same_rows_of_an_empty_question_draw():
    """Means of the last two rows .2 and .2, of N/A .15 and .05; heads 1 + 2."""
    assert by_fixed() == pytest.approx([3 * (0.2 - 0.15), 3 * (0.2 - 0.05)])
    assert by_fixed(calibrate=False) == pytest.approx([3 * 0.2, 3 * 0.2])


def test_ehpc_as_published_knows_no_empty_question():
    """The token form asks nothing else, whatever `calibrate` says, and takes nothing off."""
    reader = Fixed(**{"Who?": [NINES, [0.3] * 3 + [0.0] + [0.1] * 3]})
    given = [Passage("Ab. Cd.")]
    for calibrate in (True, False):
        method = EvaluatorHeads(
            reader,
            head_profile(reader),
            observed_rows=1,
            pool_tokens=1,
            form="token",
            calibrate=calibrate,
        )
        found = method.scores("Who?", given, units_of(given)).values
        assert found == pytest.approx([3 * 0.3, 3 * 0.1])


def test_a_place_that_every_question_looks_at_does_not_outrank_the_needle():
    """A window's opening draws more than the pin does, asked or not."""

    def weigh(question: str, text: str) -> list[float]:
        pin = text.find("The pin is here.")
        inside = range(pin, pin + 16) if question == ASKED and pin >= 0 else range(0)
        return [0.02 if i < 11 else 0.01 if i in inside else 0.0 for i in range(len(text))]

    reader = Scripted(weigh)
    plain, less = (
        scores(EvaluatorHeads(reader, head_profile(reader), calibrate=calibrate))
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
        EvaluatorHeads(reader, head_profile(reader), heads=2, calibrate=calibrate)
        for calibrate in (False, True)
    )
    plain = once.scores(ASKED, given, units_of(given))
    if cached:
        reader.cache.clear()
    found = twice.scores(ASKED, given, units_of(given))
    more = found.windows * len(proxy.layout.ask("N/A").ids)
    assert found.tokens_read == plain.tokens_read + more
    assert found.tokens_cached == plain.tokens_cached == 0


def test_ehpc_runs_only_up_to_its_layer():
    reader = Scripted.pointing_at("pin", layers=6)
    scores_of = [[0.0, 0.0]] * 6
    scores_of[2] = [0.3, 0.4]
    card = reader.card
    profile = HeadProfile(
        card.name, card.revision, "chatml", 6, 2, "needle", tuple(map(tuple, scores_of))
    )
    method = EvaluatorHeads(reader, profile)
    assert (method.layer, method.chosen, method.layers) == (2, (1, 0), 3)
    assert EvaluatorHeads.depth(card.name, profile) == 3


def test_only_the_layers_that_the_options_ask_for_are_loaded():
    """The default proxy has 30; its needle and contrast heads lie at two thirds of its depth."""
    assert depth("raw_attention") is None
    assert depth("infini", heads=0) is None
    assert depth("infini", heads=1) <= depth("infini") < 30
    assert depth("infini", "someone/else") is depth("evaluator_heads", "someone/else") is None
    assert depth("evaluator_heads") < 30
    scores_of = tuple((float(layer == 1),) for layer in range(3))
    shallow = HeadProfile("m", "r", "chatml", 3, 1, "needle", scores_of)
    assert depth("evaluator_heads", profile=shallow) == 2


def test_ehpc_chooses_the_tokens_of_the_needle_first():
    reader = Scripted.pointing_at("The pin is here")
    method = EvaluatorHeads(reader, head_profile(reader), pool_tokens=1)
    spans = method.tokens(ASKED, HAY, 15)
    assert "".join(HAY[a:b] for a, b in spans) == "The pin is here"
    assert len(method.tokens(ASKED, "ab", 10)) == 2


def test_ehpc_refuses_a_profile_of_another_model():
    with pytest.raises(ProbeMismatch, match="needle"):
        EvaluatorHeads(Scripted.pointing_at("pin", name="other"), head_profile(Scripted(len)))


@pytest.mark.parametrize(
    "make",
    [
        lambda r: EvaluatorHeads(r, head_profile(r), form="word"),
        lambda r: EvaluatorHeads(r, head_profile(r), pool_tokens=0),
        lambda r: EvaluatorHeads(r, head_profile(r), heads=3),
        lambda r: RawAttention(r, sigma=-1),
        lambda r: RawAttention(r, window_tokens=0),
        lambda r: Infini(r, "backwards"),
        lambda r: Infini(r, top_k=0),
        lambda r: Infini(r, heads=-1),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(BadInput, match="give"):
        make(Scripted.pointing_at("pin"))


class Watching(Scripted):
    """Keeps the text of each prompt as it was read."""

    @property
    def texts(self) -> list[str]:
        return [text for _, text in self.seen]


def hay(*sentences: str) -> list[Passage]:
    return [Passage(" ".join(sentences))]


def chunked(reader, given, **options) -> tuple[float, ...]:
    return Infini(reader, phrase_tokens=1, **options).scores(ASKED, given, units_of(given)).values


def test_infini_carries_the_sentences_of_the_best_tokens_into_the_next_window():
    """Windows of two sentences; three tokens are carried, and they are the pin's."""
    reader = Watching.pointing_at("pin")
    given = hay("The pin, oak.", "Straw bad.", "Straw old.", "Straw dry.", "Straw wet.")
    values = chunked(reader, given, window_tokens=24, top_k=3)
    assert reader.texts == [
        "The pin, oak. Straw bad.",
        "The pin, oak. Straw old. Straw dry.",
        "The pin, oak. Straw wet.",
    ]
    assert values[0] > 1 > max(values[1:])


def test_infini_drops_a_carried_sentence_when_a_later_one_takes_its_place():
    def weigh(question: str, text: str) -> list[float]:
        return [1.0 if c == "#" else 0.5 if c == "+" else 0.0 for c in text]

    reader = Watching(weigh)
    given = hay("Straw is +++.", "Straw bad.", "Straw ##.", "Straw dry.", "Straw wet.")
    values = chunked(reader, given, window_tokens=23, top_k=1)
    assert reader.texts[-1] == " Straw ##. Straw dry. Straw wet."
    assert [value > 1 for value in values] == [False, False, True, False, False]


def test_infini_scores_are_the_last_layers_mean_of_heads_under_the_box():
    reader = Scripted.pointing_at("pin")
    given = hay("The pin, oak.", "Straw bad.")
    units = units_of(given)
    (window,) = windows(reader.layout, given, units)
    method = Infini(reader, phrase_tokens=4)
    prompt = Prompt(window.read, reader.layout.ask(ASKED))
    (signal,) = reader.read([prompt], Want((3,), ("question_mean",)))
    due = box(signal.weights[0, :, 0].mean(0), 4, padded=True)
    best = [due[slice(*span)].max().item() for span in window.read.spans]
    found = method.scores(ASKED, given, units).values
    assert [v % 1 for v in found] == pytest.approx(best)
    other = Infini(reader, phrase_tokens=1).scores(ASKED, given, units).values
    assert [v % 1 for v in other] != pytest.approx(best, rel=1e-2)


def test_infini_never_carries_more_than_it_may():
    reader = Watching.pointing_at("pin")
    given = hay(*(f"Pin pin pin {i:02d}." for i in range(30)))
    Infini(reader, window_tokens=40, carry_tokens=35).scores(ASKED, given, units_of(given))
    assert max(map(len, reader.texts)) <= 40 + 35
    assert len(reader.texts) == 15


def test_infini_alone_reads_every_window_once_and_the_survivors_together():
    reader = Watching.pointing_at("pin")
    given = hay("The pin, oak.", "Straw bad.", "Straw old.", "A pin too.")
    values = chunked(reader, given, form="independent", window_tokens=24, top_k=6)
    assert reader.texts == [
        "The pin, oak. Straw bad.",
        "Straw old. A pin too.",
        "The pin, oak. A pin too.",
    ]
    assert [value > 1 for value in values] == [True, False, False, True]


def test_joined_neighbours_share_the_token_that_straddles_them():
    """Ids 0 1 2 | 2 3: the token 2 belongs to both units."""
    window = Window(0, 5, 7, Read((0, 1, 2, 3), 0, ((0, 3), (2, 4))))
    first, second = cuts(window)
    assert put_together([first, second]) == Read((0, 1, 2, 3), 0, ((0, 3), (2, 4)))
    assert put_together([second]) == Read((2, 3), 0, ((0, 2),))


def test_what_is_put_together_keeps_the_text_before_a_unit_and_its_span():
    """A title of one token, then gap and unit: 9 | 1 1 | 7 | 2 2."""
    window = Window(0, 0, 2, Read((9, 1, 1, 7, 2, 2), 1, ((0, 2), (3, 5))))
    first, second = cuts(window)
    assert put_together([second]) == Read((7, 2, 2), 0, ((1, 3),))
    assert put_together([first, second]).ids == (1, 1, 7, 2, 2)
    assert [part.unit for part in fitting([second, first], 4)] == [1]
    assert [part.unit for part in fitting([second, first], 5)] == [0, 1]
