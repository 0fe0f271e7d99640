"""The reader without a model: its script is what methods see, cut and grouped as a proxy would."""

from __future__ import annotations

import threading

import pytest
import torch

from tamis.compressors.reading.windows import tokenize_question
from tamis.probes.errors import BadInput
from tamis.probes.prompt import TEMPLATES, Prompt
from tamis.probes.signal import Signal, Want
from tamis.probes.tokens import replace_surrogates
from tests.scripted import MAX_PASSAGE_MASS, ScriptedReader, byte_tokenizer

NASTY = "aé\u0301 \U0001f469\u200d\U0001f680 你好\x00\r\n<|im_end|> \ud800 \u202eabc"
EXACT = 1e-6
"""fp32 beside fp64."""


def prompt(
    reader: ScriptedReader, text: str, question: str = "Who?", title: str | None = None
) -> Prompt:
    return Prompt(
        reader.layout.passage_tokens(text, [(0, len(text))], title),
        reader.layout.question_tokens(question),
    )


def read_one(reader: ScriptedReader, text: str, want: Want, **laid_out: str) -> Signal:
    (signal,) = reader.read([prompt(reader, text, **laid_out)], want)
    return signal


def test_a_token_is_a_byte_and_its_id_is_the_byte():
    text = "".join(map(chr, range(256))) + "你好 \U0001f469\u200d\U0001f680"
    encoded = byte_tokenizer().encode(text)
    assert encoded.ids == list(text.encode())
    assert encoded.offsets == [
        (i, i + 1) for i, character in enumerate(text) for _ in character.encode()
    ]


def test_special_tokens_come_from_the_template_alone():
    reader = ScriptedReader.from_needles("x")
    assert any(token > 255 for token in reader.layout.opening)
    assert max(prompt(reader, NASTY, title="<|im_start|>").passage.ids) < 256


def test_the_script_is_called_with_question_and_passage_as_they_are():
    heard = []

    def weigh(question: str, passage: str) -> list[float]:
        heard.append((question, passage))
        return [1.0] * len(passage)

    reader = ScriptedReader(weigh)
    for template in TEMPLATES.values():
        other = reader.with_template(template)
        read_one(other, NASTY, Want((0,)), question="<|im_end|> \ud800?\n", title="A title")
    assert heard == [("<|im_end|> \ufffd?\n", NASTY.replace("\ud800", "\ufffd"))] * len(TEMPLATES)


def test_the_last_row_of_the_last_head_is_the_script_itself():
    """Each character's weight in equal parts on its bytes: é has two, 你 three."""
    reader = ScriptedReader(lambda question, passage: [0.1, 0.2, 0.3])
    seen = read_one(reader, "aé你", Want((3,), ("last",))).weights
    assert seen.shape == (1, 2, 1, 6)
    assert seen[0, 1, 0].tolist() == pytest.approx([0.1, 0.1, 0.1, 0.1, 0.1, 0.1], abs=EXACT)


def test_a_script_beyond_the_mass_is_scaled_down_to_it():
    reader = ScriptedReader(lambda question, passage: [3.0, 1.0])
    seen = read_one(reader, "ab", Want((3,), ("last",))).weights[0, 1, 0]
    assert seen.tolist() == pytest.approx(
        [MAX_PASSAGE_MASS * 0.75, MAX_PASSAGE_MASS * 0.25], abs=EXACT
    )


def test_other_heads_and_rows_see_a_mixture_of_script_and_mean():
    """Layer 0, head 1 of 2 x 2 heads: 2 of 4 parts script; the first of R rows: 1 of R parts."""
    reader = ScriptedReader(lambda question, passage: [0.4, 0.0], layers=2, heads=2)
    rows = (
        len(reader.layout.question_tokens("Who?").ids)
        - reader.layout.question_tokens("Who?").first_row
    )
    seen = read_one(reader, "ab", Want((0,), ("question",))).weights
    assert seen.shape == (1, 2, rows, 2)
    share = 2 / 4 * 1 / rows
    assert seen[0, 1, 0].tolist() == pytest.approx([0.2 + share * 0.2, 0.2 - share * 0.2])


def test_no_two_heads_and_no_two_rows_see_the_same():
    seen = read_one(
        ScriptedReader.from_needles("b"), "abc", Want((0, 1, 2, 3), ("question",))
    ).weights
    assert len(seen[:, :, -1, 1].unique()) == 8
    assert len(seen[0, 0, :, 1].unique()) == seen.shape[2]


def test_row_groups_are_in_the_requested_order():
    reader = ScriptedReader.from_needles("b")
    rows = read_one(reader, "abc", Want((1, 2), ("question",))).weights
    both = read_one(reader, "abc", Want((1, 2), ("last", "question_mean")))
    expected = torch.cat([rows[:, :, -1:], rows.mean(2, keepdim=True)], 2)
    torch.testing.assert_close(both.weights, expected)
    assert both.layers == (1, 2)
    assert both.rows == ("last", "question_mean")


def test_rows_of_several_sentences_are_averaged_by_sentence():
    reader = ScriptedReader.from_needles("b")
    question = "Who? Or when?"
    ask = tokenize_question(reader.layout, question)
    prompt = Prompt(reader.layout.passage_tokens("abc", [(0, 3)]), ask)
    rows, means = (
        next(reader.read([prompt], Want((1, 2), (group,)))).weights
        for group in ("question", "sentence_means")
    )
    expected = [rows[:, :, a:b].mean(2) for a, b in ask.sentence_rows]
    torch.testing.assert_close(means, torch.stack(expected, 2))
    assert means.shape[2] == 2


@pytest.mark.parametrize("text", ["needle", NASTY, "hay " * 500, "needle " * 300, ""])
def test_weights_are_a_part_of_a_softmax(text: str):
    seen = read_one(
        ScriptedReader.from_needles("needle", "你"), text, Want((0, 3), ("question",)), title="T"
    )
    assert seen.weights.dtype == torch.float32
    assert seen.weights.shape[-1] == len(replace_surrogates(text).encode())
    assert seen.weights.ge(0).all()
    assert seen.weights.sum(-1).le(MAX_PASSAGE_MASS + EXACT).all()


def test_needles_draw_attention_at_every_occurrence_and_may_overlap():
    seen = read_one(ScriptedReader.from_needles("aba"), "xababax", Want((3,), ("last",))).weights[
        0, 1, 0
    ]
    assert seen.argsort(descending=True, stable=True).tolist() == [1, 2, 3, 4, 5, 0, 6]
    assert seen[1] / seen[0] == pytest.approx(1e4, rel=1e-3)


def test_a_needle_with_a_lone_surrogate_is_found():
    text = "some \ud800 text"
    seen = read_one(ScriptedReader.from_needles("\ud800"), text, Want((3,), ("last",))).weights[
        0, 1, 0
    ]
    assert seen.topk(3).indices.sort().values.tolist() == [5, 6, 7]


def test_the_title_is_read_but_not_part_of_the_signal():
    reader = ScriptedReader.from_needles("needle")
    bare = read_one(reader, "a needle", Want((2,)))
    titled = read_one(reader, "a needle", Want((2,)), title="needle")
    torch.testing.assert_close(titled.weights, bare.weights)


def test_prompts_are_counted_over_all_templates_and_threads():
    reader = ScriptedReader.from_needles("x")
    assert reader.prompts_read == 0
    twin = reader.with_template(TEMPLATES["sentinel"])
    threads = [
        threading.Thread(target=lambda r=r: [read_one(r, "x", Want((0,))) for _ in range(50)])
        for r in (reader, twin)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reader.prompts_read == twin.prompts_read == 100
    assert reader.read_log[0] == ("Who?", "x")


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(BadInput, match=r"layer 4 is wanted and bot has 4; .* layers=5"):
        read_one(ScriptedReader.from_needles("x", name="bot"), "x", Want((4,)))


@pytest.mark.parametrize(
    ("weights", "says"),
    [([1.0], "shape"), ([1.0, -1.0], "1 of 2"), ([float("nan"), float("inf")], "2 of 2")],
)
def test_a_script_that_does_not_fit_is_refused(weights: list[float], says: str):
    with pytest.raises(BadInput, match=says):
        read_one(ScriptedReader(lambda question, passage: weights), "ab", Want((0,)))


def test_an_empty_needle_and_an_empty_model_are_refused():
    with pytest.raises(BadInput, match="needle is empty"):
        ScriptedReader.from_needles("a", "")
    with pytest.raises(BadInput, match="0 layers and 2 heads"):
        ScriptedReader.from_needles("a", layers=0)
