"""Which layers and rows each method reads, and that its defaults are the published ones."""

from __future__ import annotations

import inspect

import pytest

from tamis.compressors.method import RankingMethod
from tamis.compressors.methods import ehpc, infiniretri, question_rows
from tamis.compressors.methods.sentinel import Sentinel, sentinel_template
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.prompt import TEMPLATES
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.compressors.methods.attention_kit import QUESTION
from tests.laws.methods import question_probe, sentinel_probe
from tests.scripted import ScriptedReader

ALL_LAYERS = (0, 1, 2, 3)
PASSAGES = [Passage("Straw here. The pin is here."), Passage("Straw there.")]


class WantRecorder(ScriptedReader):
    """Records the layers and rows of each reading."""

    wanted: list[tuple[tuple[int, ...], tuple[str, ...]]]

    def read(self, prompts, want):
        self.describe_values.append((want.layers, want.rows))
        return super().read(prompts, want)


def profile(reader: ScriptedReader, by: str, *best: tuple[int, int]) -> HeadProfile:
    """A profile whose best heads are these, the best first."""
    card = reader.card
    scores = tuple(
        tuple(float(len(best) - best.index(at)) if (at := (x, h)) in best else 0.0 for h in (0, 1))
        for x in range(card.layers)
    )
    return HeadProfile(card.name, card.revision, "chatml", card.layers, card.heads, by, scores)


def with_two_heads(by: str, kind):
    """Two heads of layers 1 and 2, of which only those are read."""
    return lambda r: kind(r, profile=profile(r, by, (2, 1), (1, 0)), heads=2)


@pytest.mark.parametrize(
    ("make", "layers", "rows"),
    [
        (lambda r: Sentinel(r, sentinel_probe(r)), ALL_LAYERS, "last"),
        (lambda r: infiniretri.InfiniRetri(r, heads=0), (3,), "question_mean"),
        (
            lambda r: ehpc.EHPC(r, profile(r, "needle", (2, 1), (2, 0))),
            (2,),
            "question",
        ),
        (lambda r: question_rows.QuestionRows(r, question_probe(r)), ALL_LAYERS, "sentence_means"),
        (lambda r: question_rows.QuestionRows(r, None), (0, 1, 2), "sentence_means"),
    ],
)
def test_a_method_reads_its_own_layers_and_rows_and_no_others(make, layers, rows):
    assert what_is_read(make) == {(layers, (rows,))}


def what_is_read(make) -> set[tuple[tuple[int, ...], tuple[str, ...]]]:
    """The layers and rows that a method asks for."""
    reader = WantRecorder.from_needles("pin")
    reader.describe_values = []
    method = make(reader)
    if isinstance(method, RankingMethod):
        method.rank(QUESTION, PASSAGES)
    else:
        method.scores(QUESTION, PASSAGES, units_of(PASSAGES))
    return set(reader.describe_values)


def test_infiniretri_with_chosen_heads_reads_their_layers():
    reader = WantRecorder.from_needles("pin")
    reader.describe_values = []
    known = profile(reader, "contrast", (2, 1), (1, 0))
    method = infiniretri.InfiniRetri(reader, heads=2, profile=known)
    method.scores(QUESTION, PASSAGES, units_of(PASSAGES))
    assert set(reader.describe_values) == {((1, 2), ("question_mean",))}


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        (infiniretri.InfiniRetri, {"top_k": 300, "phrase_tokens": 8, "window_tokens": 1024}),
        (ehpc.EHPC, {"observed_rows": 16, "pool_tokens": 32}),
        (Sentinel, {"chunk_tokens": 1024}),
    ],
)
def test_the_defaults_of_options_are_the_published_ones(kind, published):
    given = inspect.signature(kind).parameters
    assert {name: given[name].default for name in published} == published


class Windowed(WantRecorder):
    """A model whose layers 0 and 2 have a sliding window."""

    layer_types = ("sliding_attention", "full_attention") * 2
    sliding_window = 512

    @property
    def config(self):
        return self


def test_a_model_that_needs_its_opening_token_gets_it_before_other_words_too():
    gemma = ScriptedReader(lambda q, text: [0.1] * len(text), template=TEMPLATES["gemma"])
    plain = ScriptedReader(lambda q, text: [0.1] * len(text), template=TEMPLATES["plain"])
    for reader, opening in ((gemma, "<bos>"), (plain, "")):
        words = sentinel_template(reader.layout.template)
        assert words.opening == opening + TEMPLATES["sentinel"].opening
        assert (words.name == "sentinel") is (not opening)
