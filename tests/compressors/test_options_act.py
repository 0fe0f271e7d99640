"""Options take effect: every option reaches the reading, and every title is read."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.method import OrderingMethod, RankingMethod
from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.signal import Signal
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.methods.attention_kit import QUESTION
from tests.laws.methods import head_profile, make_probe, question_probe, sentinel_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import ScriptedReader

DOCUMENTS = [
    Passage("Straw here. The pin is here. More straw lies there.", title="Barns"),
    Passage("Hay is dry. Hay is wet. Nobody knows.", title="Fields"),
]


class RecordingReader(ScriptedReader):
    """Records the words of each prompt: the passage with its title, and the question."""

    def read(self, prompts, want):
        self.read_texts += [bytes(prompt.passage.ids).decode() for prompt in prompts]
        self.question_texts += [
            bytes(x for x in p.question.ids if x < 256).decode() for p in prompts
        ]
        return super().read(prompts, want)


def recording_reader() -> RecordingReader:
    reader = RecordingReader.from_needles("pin")
    reader.read_texts, reader.question_texts = [], []
    return reader


def run(method):
    if isinstance(method, RankingMethod):
        return method.rank(QUESTION, DOCUMENTS)
    if isinstance(method, OrderingMethod):
        return method.order(QUESTION, DOCUMENTS, [0.0, 0.0])
    return method.scores(QUESTION, DOCUMENTS, units_of(DOCUMENTS))


WINDOWED = {
    "question_rows": lambda r, **o: QuestionRows(r, question_probe(r), **o),
    "ehpc": lambda r, **o: EHPC(r, head_profile(r), 1, **o),
    "infiniretri": lambda r, **o: InfiniRetri(r, top_k=1, phrase_tokens=1, heads=0, **o),
    "infiniretri alone": lambda r, **o: InfiniRetri(r, "independent", top_k=1, heads=0, **o),
    "sentinel": lambda r, window_tokens: Sentinel(r, sentinel_probe(r), chunk_tokens=window_tokens),
}


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_bounds_the_text_of_one_prompt(name):
    whole, cut = recording_reader(), recording_reader()
    run(WINDOWED[name](whole, window_tokens=1000))
    run(WINDOWED[name](cut, window_tokens=24))
    assert len(set(cut.read_texts)) > len(set(whole.read_texts))


@pytest.mark.parametrize(
    "make",
    [
        lambda r: EHPC(r, head_profile(r), 1),
        lambda r: EHPC(r, head_profile(r), 1, together=True),
        lambda r: InfiniRetri(r, heads=0),
        lambda r: QuestionRows(r, question_probe(r)),
        lambda r: Sentinel(r, sentinel_probe(r)),
    ],
)
def test_titles_are_read(make):
    reader = recording_reader()
    run(make(reader))
    for document in DOCUMENTS:
        assert any(document.title in text for text in reader.read_texts)


def test_passages_that_are_read_together_share_a_prompt():
    for together in (True, False):
        reader = recording_reader()
        run(EHPC(reader, head_profile(reader), 1, together=together))
        both = ["pin" in text and "Nobody" in text for text in reader.read_texts]
        assert any(both) == together


@pytest.mark.parametrize(
    "make",
    [
        lambda r: InfiniRetri(r, heads=0),
        lambda r: InfiniRetri(r, "independent", heads=0),
        lambda r: InfiniRetri(r, carry_tokens=100, heads=0),
    ],
)
def test_a_model_of_a_short_context_is_read_in_windows_that_fit(make):
    """Windows of 1,024 tokens and more by default; the model takes 1,024 with the question."""
    texts = [" ".join(f"Straw {i} {j} is dry." for j in range(20)) for i in range(12)]
    given = [*map(Passage, texts), Passage("The pin is here.")]
    method = make(tiny.proxy("llama"))
    found = method.scores(QUESTION, given, units_of(given))
    assert len(found.values) == len(units_of(given))
    assert found.windows > 3


def test_a_question_that_fills_the_context_is_refused():
    question = "Where is the pin? " * 200
    given = [Passage("Straw here."), Passage("The pin is here.")]
    proxy = tiny.proxy("llama")
    with pytest.raises(BadInput, match="takes 1024; shorten the question"):
        InfiniRetri(proxy, heads=0).scores(question, given, units_of(given))


def test_infiniretri_takes_the_mean_of_the_chosen_heads_and_of_no_others():
    """Layers 1 and 2 were read; the chosen heads are head 1 of layer 2 and head 0 of layer 1."""
    method = InfiniRetri(ScriptedReader.from_needles("pin"), phrase_tokens=1, heads=0)
    method.chosen = ((2, 1), (1, 0))
    weights = torch.tensor([[[1.0, 3.0], [90.0, 90.0]], [[90.0, 90.0], [2.0, 7.0]]])[:, :, None]
    signal = Signal(weights, (1, 2), ("question_mean",))
    assert method.token_scores(signal).tolist() == [1.5, 5.0]


def test_the_published_tokens_are_chosen_after_pooling():
    """A lone spike of .5 pools to .17, two neighbours of .4 to .27."""
    row = [0.0, 0.5, 0.0, 0.0, 0.0, 0.4, 0.4, 0.0]

    class Fixed(ScriptedReader):
        def read(self, prompts, want):
            for _ in prompts:
                yield Signal(torch.tensor(row).expand(1, 2, 3, -1), want.layers, want.rows)

    reader = Fixed.from_needles("x")
    for width, best in ((1, (1, 2)), (3, (5, 6))):
        method = EHPC(
            reader, head_profile(reader), observed_rows=1, pool_tokens=width, form="token"
        )
        assert method.tokens("Who?", "abcdefgh", 1) == [best]


def test_a_layer_of_even_heads_is_chosen_before_one_with_the_best_head():
    scores = ((0.0, 0.9, 0.0), (0.5, 0.4, 0.3))
    found = HeadProfile("m", "r", "chatml", 2, 3, "needle", scores)
    assert found.best_layer() == 1
    assert found.best_heads_of_one_layer(2) == ((1, 0), (1, 1))


def test_isolated_scores_have_a_coverage_calibration_of_their_own():
    reader = ScriptedReader.from_needles("pin")
    probe = question_probe(reader)
    weights = dict(probe.weights) | {
        "lowest": torch.linspace(0.1, 0.2, 40), "alone_lowest": torch.linspace(0.6, 0.9, 40),
    }  # fmt: skip
    probe = make_probe(reader, "question_rows", weights)
    whole, apart = (
        QuestionRows(reader, probe, isolated=i).coverage_threshold(0.9) for i in (False, True)
    )
    assert whole < 0.2
    assert apart > 0.6
