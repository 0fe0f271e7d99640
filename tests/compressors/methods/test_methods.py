"""The formulas of the methods that read or mix, worked out by hand on small cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import Tensor

from tamis.compressors.features.second_step import (
    ENCODER,
    RequestTexts,
    add_cosines,
    second_step_features,
)
from tamis.compressors.features.shipped_probes import shipped_probe
from tamis.compressors.features.words import WORD_FEATURES, hop_features, word_features
from tamis.compressors.methods.embedding import Embedding
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows, pool_question_rows
from tamis.compressors.methods.sentinel import Sentinel, pool_context_shares
from tamis.compressors.reading.joining import join_passages
from tamis.compressors.reading.windows import question_sentences, read_windows
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput
from tamis.probes.probing.gated import PARTS, gated_scores
from tamis.probes.probing.linear import Calibration
from tamis.probes.prompt import TEMPLATES
from tamis.probes.signal import Signal, Want
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tests.compressors.features.test_words import BRIDGE, QUESTION, bridge
from tests.laws.methods import ScriptedEncoder, make_probe, question_probe
from tests.scripted import ScriptedReader

FP32 = 1e-6


def hand_signal() -> Signal:
    """One layer, two heads, one row, four tokens."""
    weights = torch.tensor([[[[0.1, 0.3, 0.2, 0.0]], [[0.0, 0.0, 0.4, 0.2]]]])
    return Signal(weights, (0,), ("question_mean",))


def test_question_rows_pools_log_mean_then_log_maximum_head_by_head():
    found = pool_question_rows(hand_signal(), [(0, 2), (2, 4), (1, 1)]).exp()
    tiny = 1e-9
    due = [[0.2, tiny, 0.3, tiny], [0.1, 0.3, 0.2, 0.4], [tiny] * 4]
    torch.testing.assert_close(found, torch.tensor(due), atol=1e-8, rtol=1e-5)


def test_question_rows_does_not_rescale_inside_the_window():
    halved = Signal(hand_signal().weights / 2, (0,), ("question_mean",))
    found = pool_question_rows(hand_signal(), [(0, 2)]) - pool_question_rows(halved, [(0, 2)])
    assert found[0, [0, 2]].tolist() == pytest.approx([log(2)] * 2)


def test_question_rows_reads_all_question_rows_and_not_the_last_alone():
    passages = [Passage("Hay. The pin.")]
    units, reader = units_of(passages), ScriptedReader.from_needles("pin")
    reading = QuestionRows(reader, None).read("Where is it?", passages, units).features
    mean, last = (
        read_windows(
            reader, "Where is it?", passages, units, Want((0, 1, 2), (rows,)), pool_question_rows
        ).features
        for rows in ("question_mean", "last")
    )
    torch.testing.assert_close(reading, mean)
    assert not torch.allclose(reading, last, atol=0.1)


TITLE_AND_BODY = "Where is the pin?\nWe moved house. Any help is welcome!"


def test_of_a_title_and_its_body_each_head_counts_the_sentence_that_looks_most():
    passages = [Passage("Hay. The pin."), Passage("More hay.")]
    units, reader = units_of(passages), ScriptedReader.from_needles("pin")
    sentences = question_sentences(TITLE_AND_BODY)
    spans = reader.layout.question_tokens(TITLE_AND_BODY, sentences).sentence_rows
    assert len(spans) == 3

    def slow(signal: Signal, units: Sequence[tuple[int, int]]) -> Tensor:
        each = [signal.weights[:, :, a:b].mean(2, keepdim=True) for a, b in spans]
        pooled = [
            pool_question_rows(Signal(rows, signal.layers, ("question_mean",)), units)
            for rows in each
        ]
        return torch.stack(pooled).amax(0)

    want = Want((0, 1, 2), ("question",))
    due = read_windows(reader, TITLE_AND_BODY, passages, units, want, slow).features
    found = QuestionRows(reader, None).read(TITLE_AND_BODY, passages, units).features
    torch.testing.assert_close(found, due)
    mean = read_windows(
        reader, TITLE_AND_BODY, passages, units, Want((0, 1, 2)), pool_question_rows
    )
    assert not torch.allclose(found, mean.features, atol=0.1)


def test_an_isolated_score_is_the_calibrated_sum_of_heads_and_length():
    passages = [Passage("Hay. The pin."), Passage("More hay.")]
    units, reader = units_of(passages), ScriptedReader.from_needles("pin")
    probe = question_probe(reader)
    method = QuestionRows(reader, probe, isolated=True)
    found, reading = (
        method.scores("Where?", passages, units),
        method.read("Where?", passages, units),
    )
    lengths = torch.tensor(reading.tokens).float().log1p()
    *heads, length = probe.weights["alone"].tolist()
    z = reading.features @ torch.tensor(heads) + lengths * length
    a, _, _, d = probe.weights["alone_calibration"].tolist()
    assert found.values == pytest.approx(torch.sigmoid(a * z + d).tolist(), abs=FP32)
    assert found.calibrated


def test_a_score_is_the_second_step_of_links_over_the_first_calibrated():
    units, reader = units_of(BRIDGE), ScriptedReader.from_needles("Lima")
    probe = question_probe(reader, by_links=True)
    method = QuestionRows(reader, probe)
    found, reading = method.scores(QUESTION, BRIDGE, units), method.read(QUESTION, BRIDGE, units)
    of_words = torch.from_numpy(word_features(QUESTION, bridge(), reading.tokens))
    z = torch.cat([reading.features, of_words], 1) @ probe.weights["first"]
    second = torch.from_numpy(hop_features(bridge(), z.double().numpy())) @ probe.weights["hop"]
    due = Calibration(*probe.weights["calibration"].tolist())(second)
    assert found.values == pytest.approx(due.tolist(), abs=FP32)
    assert found.passages == (max(found.values[:2]), found.values[2], max(found.values[3:]))


@pytest.mark.parametrize("with_encoder", [False, True])
def test_a_score_is_the_gated_second_step_over_the_first_calibrated(with_encoder):
    units, reader = units_of(BRIDGE), ScriptedReader.from_needles("Lima")
    probe, encoder = question_probe(reader), ScriptedEncoder() if with_encoder else None
    method = QuestionRows(reader, probe, encoder=encoder)
    found, reading = method.scores(QUESTION, BRIDGE, units), method.read(QUESTION, BRIDGE, units)
    assert (reading.cosines is not None) == with_encoder
    of_words = torch.from_numpy(word_features(QUESTION, bridge(), reading.tokens))
    first, single = (
        torch.cat([reading.features, of_words], 1) @ probe.weights[name]
        for name in ("first", "single")
    )
    texts = RequestTexts.of(QUESTION, BRIDGE, units, reading.tokens)
    features = second_step_features(texts, first, single, of_words)
    if with_encoder:
        features = add_cosines(features, texts, gated_scores(probe, features), reading.cosines)
    prefix = ENCODER if with_encoder else ""
    due = Calibration(*probe.weights[f"{prefix}calibration"].tolist())(
        gated_scores(probe, features, prefix)
    )
    assert found.values == pytest.approx(due.tolist(), abs=FP32)


def test_the_encoder_is_used_where_it_is_there_unless_told_otherwise():
    units, reader, encoder = (
        units_of(BRIDGE),
        ScriptedReader.from_needles("Lima"),
        ScriptedEncoder(),
    )
    probe = question_probe(reader)

    def values(**options):
        return QuestionRows(reader, probe, **options).scores(QUESTION, BRIDGE, units).values

    without = values()
    assert values(encoder=encoder) != without
    read = len(encoder.read_log)
    assert read == len(units) + 1
    assert values(encoder=encoder, use_encoder=False) == without
    assert values(encoder=encoder, isolated=True) == values(isolated=True)
    assert len(encoder.read_log) == read
    for options in ({}, {"encoder": encoder, "isolated": True}):
        with pytest.raises(BadInput, match="use_encoder is true, and there is none"):
            values(use_encoder=True, **options)
    old = question_probe(reader, by_links=True)
    with pytest.raises(BadInput, match="fitted without one"):
        QuestionRows(reader, old, encoder=encoder, use_encoder=True)
    assert QuestionRows(reader, old, encoder=encoder).scores(QUESTION, BRIDGE, units).values


def test_a_unit_does_not_score_less_because_it_is_short():
    """Of the second step's features of a unit, none changes with how many tokens it has."""
    units = units_of(BRIDGE)
    first, words = torch.arange(len(units)).float(), torch.rand(len(units), len(WORD_FEATURES))
    found = []
    for tokens in ([9] * len(units), [1, *[9] * (len(units) - 1)]):
        texts = RequestTexts.of(QUESTION, BRIDGE, units, tokens)
        without = second_step_features(texts, first, first, words)
        found.append(add_cosines(without, texts, first, first))
    assert torch.equal(found[0].own, found[1].own)
    for name in PARTS:
        assert torch.equal(found[0].parts[name], found[1].parts[name])
    probe = shipped_probe("question_rows", "smollm2-135m-sharp")
    for name in ("first", "single"):
        assert probe.weights[name][-len(WORD_FEATURES) + WORD_FEATURES.index("log_tokens")] == 0
    assert probe.weights["alone"][-1] == 0


def test_words_and_titles_are_features_unless_isolated():
    """Nothing is pointed at: what tells the units apart is their words alone."""
    passages = [Passage("Pins are made here."), Passage("Nine men dig peat.")]
    units, reader = units_of(passages), ScriptedReader(lambda question, text: [1e-3] * len(text))
    weights = dict(question_probe(reader).weights)
    weights["first"] = torch.cat([torch.zeros(16), torch.ones(len(WORD_FEATURES))])
    weights["alone"] = torch.cat([torch.ones(16) / 16, torch.zeros(1)])
    probe = make_probe(reader, "question_rows", weights)
    together, alone = (
        QuestionRows(reader, probe, isolated).scores("Where are pins made?", passages, units).values
        for isolated in (False, True)
    )
    assert together[0] > together[1] + 0.1
    assert alone[0] == pytest.approx(alone[1], abs=FP32)


PAGE = Passage("Ab. Cd.")
SCRIPT = [0.1, 0.1, 0.1, 0.0, 0.2, 0.2, 0.1]


def sentinel(layers: int = 1, heads: int = 2) -> Sentinel:
    reader = ScriptedReader(lambda question, text: SCRIPT[: len(text)], layers=layers, heads=heads)
    weights = {"head": torch.arange(1.0, layers * heads + 1), "bias": [-0.5]}
    return Sentinel(reader, make_probe(reader, "sentinel", weights, "sentinel"))


def shares() -> list[list[float]]:
    """Head 0 sees half script and half mean in the last row, head 1 the script; both sum to .8."""
    flat = sum(SCRIPT) / 7
    reading = [[(s + flat) / 2 for s in SCRIPT], SCRIPT]
    return [[sum(row[start:stop]) / 3 / 0.8 for row in reading] for start, stop in ((0, 3), (4, 7))]


def test_sentinel_is_the_mean_share_of_the_last_row_rescaled_in_the_context():
    found = sentinel().read("Q?", [PAGE], units_of([PAGE])).features
    torch.testing.assert_close(found, torch.tensor(shares()))


def test_sentinel_with_other_rows_or_without_rescaling_is_another_feature():
    units, reader = units_of([PAGE]), sentinel().reader

    def features(rows: str, pool: object) -> Tensor:
        return read_windows(reader, "Q?", [PAGE], units, Want((0,), (rows,)), pool).features

    def raw(signal: Signal, spans: Sequence[tuple[int, int]]) -> Tensor:
        return signal.pool(spans, "mean").flatten(1)

    due = torch.tensor(shares())
    torch.testing.assert_close(features("last", pool_context_shares), due)
    assert not torch.allclose(features("question_mean", pool_context_shares), due, atol=1e-3)
    assert not torch.allclose(features("last", raw), due, atol=1e-3)


def test_sentinel_scores_by_a_logistic_regression_over_heads():
    found = sentinel().scores("Q?", [PAGE], units_of([PAGE]))
    due = [1 / (1 + exp(-(row[0] + 2 * row[1] - 0.5))) for row in shares()]
    assert found.values == pytest.approx(due, abs=FP32)
    assert not found.calibrated


def test_sentinel_reads_every_layer_in_its_own_words():
    method = sentinel(layers=3, heads=2)
    assert method.reader.layout.template == TEMPLATES["sentinel"]
    assert method.read("Q?", [PAGE], units_of([PAGE])).features.shape == (2, 6)


def test_sentinel_joins_documents_by_a_blank_line_under_their_titles():
    passages = [Passage("Ab. Cd.", title="T"), Passage("Ef. "), Passage("Gh.", title="U")]
    units = units_of(passages)
    whole, moved = join_passages(passages, units)
    assert whole.text == "T\nAb. Cd.\n\nEf. \n\nU\nGh."
    for unit, new in zip(units, moved, strict=True):
        assert whole.text[slice(*new.visible)] == passages[unit.passage].text[slice(*unit.visible)]
        assert new.stop - new.start == unit.stop - unit.start


def test_sentinel_reads_the_context_in_one_prompt_and_long_ones_in_chunks():
    """Four sentences of 100 bytes and blanks between them: two fit into 250 tokens."""
    passages = [Passage(f"{'word ' * 19}end{p}.") for p in range(4)]
    reader = ScriptedReader.from_needles("end2")
    probe = make_probe(reader, "sentinel", {"head": torch.ones(8), "bias": [0.0]}, "sentinel")
    for chunk, prompts in ((1024, 1), (250, 2)):
        reading = Sentinel(reader, probe, chunk).read("Q?", passages, units_of(passages))
        assert reading.windows == prompts
        assert reading.features.sum(1).argmax() == 2


def test_sentinel_reads_the_title_of_every_document_the_first_included():
    passages = [Passage("Ab. Cd.", title="First"), Passage("Ef.", title="Second")]
    method = sentinel(layers=4, heads=2)
    method.reader = ScriptedReader.from_needles("Ab")
    method.read("Q?", passages, units_of(passages))
    assert method.reader.read_log == [("Q?", "First\nAb. Cd.\n\nSecond\nEf.")]


def test_sentinel_without_a_probe_is_refused_with_the_way_to_one():
    ways = r"no probe for nobody.* tamis models pull .*tamis lab probe train --method sentinel"
    with pytest.raises(BadInput, match=ways):
        Sentinel(ScriptedReader.from_needles("x", name="nobody"))


@pytest.mark.parametrize(("auc", "warned"), [(0.72, True), (0.98, False), (None, False)])
def test_sentinel_warns_of_a_probe_that_finds_little_with_the_way_to_a_better_one(auc, warned):
    reader = ScriptedReader.from_needles("end")
    probe = make_probe(reader, "sentinel", {"head": torch.ones(8), "bias": [0.0]}, "sentinel")
    figures = {} if auc is None else {"held_out_auc": auc}
    probe = replace(probe, card=replace(probe.card, figures=figures))
    passages = [Passage("word end.")]
    scores = Sentinel(reader, probe).scores("Q?", passages, units_of(passages))
    assert (["tamis models pull" in one for one in scores.warnings] == [True]) is warned


class FixedScorer:
    """A method whose scores are known."""

    info = Lexical.info

    def __init__(self, *values: float, calibrated: bool = False) -> None:
        self.given = Scores(values, values, calibrated, 2, 30, {"read": 1.0})

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        return self.given


THREE = [Passage("Cats sit."), Passage("Dogs run."), Passage("Emus hop.")]


def test_fusion_sums_weighted_z_scores():
    """1 2 6: mean 3, variance (4 + 1 + 9) / 3; 0 3 0: mean 1, variance 2."""
    parts = {"one": FixedScorer(1.0, 2.0, 6.0), "other": FixedScorer(0.0, 3.0, 0.0)}
    found = Fusion(parts, {"one": 2.0}).scores("?", THREE, units_of(THREE))
    one, other = (14 / 3) ** 0.5, 2**0.5
    due = [2 * -2 / one - 1 / other, 2 * -1 / one + 2 / other, 2 * 3 / one - 1 / other]
    assert found.values == pytest.approx(due)
    assert found.passages == found.values
    assert (found.windows, found.tokens_read, found.timings_ms) == (4, 60, {"read": 2.0})
    assert not found.calibrated


def test_fusion_takes_probabilities_as_log_odds():
    p = [1 / (1 + exp(-z)) for z in (1.0, 2.0, 6.0)]
    opened = Fusion({"p": FixedScorer(*p, calibrated=True)}).scores("?", THREE, units_of(THREE))
    plain = Fusion({"z": FixedScorer(1.0, 2.0, 6.0)}).scores("?", THREE, units_of(THREE))
    assert opened.values == pytest.approx(plain.values)


def test_fusion_with_certain_probabilities_stays_finite():
    sure = FixedScorer(0.0, 1.0, 0.5, calibrated=True)
    found = Fusion({"sure": sure}).scores("?", THREE, units_of(THREE)).values
    assert sorted(found) == [found[0], found[2], found[1]]
    assert all(abs(value) < 10 for value in found)


def test_a_part_with_equal_scores_adds_nothing():
    parts = {"even": FixedScorer(5.0, 5.0, 5.0), "other": FixedScorer(1.0, 2.0, 3.0)}
    both = Fusion(parts).scores("?", THREE, units_of(THREE))
    other = Fusion({"other": parts["other"]}).scores("?", THREE, units_of(THREE))
    assert both.values == pytest.approx(other.values)


def test_fusion_refuses_weights_for_unknown_parts_and_weights_that_are_no_numbers():
    with pytest.raises(BadInput, match=r"\['two'\]; the parts are \['one'\]"):
        Fusion({"one": FixedScorer()}, {"two": 1.0})
    with pytest.raises(BadInput, match="not finite"):
        Fusion({"one": FixedScorer()}, {"one": float("nan")})


def test_embedding_is_the_cosine_with_the_question():
    encoder = ScriptedEncoder()
    passages = [Passage("Red fox. Blue whale.")]
    found = Embedding(encoder).scores("red fox", passages, units_of(passages))
    question, *vectors = encoder.encode(["red fox", "Red fox.", "Blue whale."])
    assert found.values == pytest.approx([float(question @ v) for v in vectors], abs=FP32)
    assert found.values[0] == pytest.approx(1.0)
    assert found.passages == found.values[:1]


@pytest.mark.model
def test_where_a_passage_stands_does_not_move_a_score(proxy_folder):
    """Evidence first, in the middle or last: passages are read alone, so order cannot matter."""
    from tamis.compressors.registry import build_method

    method = build_method("question_rows", proxy=proxy_folder)
    passages = [Passage(text) for text in (*_HAY, _GOLD)]
    straight = method.scores(_ASKED, passages, units_of(passages, "en"))
    for order in ((2, 0, 1), (0, 2, 1), (1, 2, 0)):
        moved = [passages[i] for i in order]
        found = method.scores(_ASKED, moved, units_of(moved, "en"))
        for place, i in enumerate(order):
            assert found.passages[place] == pytest.approx(straight.passages[i], abs=1e-5)
        assert found.answerability == pytest.approx(straight.answerability, abs=1e-5)


_ASKED = "When was the bridge of Aune opened?"
_GOLD = "The bridge of Aune is old. It was opened in 1792 by the duke. Boats pass below."
_HAY = (
    "Cheese is made in the hills. It ripens for a year in caves.",
    "The duke hunted in the woods of Aune. He kept forty dogs.",
)
