"""Which layers and rows the published methods read, and that their defaults are the papers'."""

from __future__ import annotations

import inspect

import pytest

from tamis.probes.prompt import TEMPLATES
from tamis_lab.bench.needle import MemoizedReader
from tamis_lab.methods import corehead, icr, qrhead
from tamis_lab.methods.attention_sorting import AttentionSorting
from tamis_lab.methods.documents import long_range_layers
from tamis_lab.methods.found_in_the_middle import FoundInTheMiddle
from tamis_lab.methods.raw_attention import RawAttention
from tests.compressors.methods.attention_kit import QUESTION
from tests.compressors.reading.test_what_is_read import (
    ALL_LAYERS,
    PASSAGES,
    Windowed,
    what_is_read,
    with_two_heads,
)
from tests.scripted import ScriptedReader


@pytest.mark.parametrize(
    ("make", "layers", "rows"),
    [
        (RawAttention, (3,), "last"),
        (icr.ICR, ALL_LAYERS, "question_mean"),
        (with_two_heads("qr", qrhead.QRHead), (1, 2), "question_mean"),
        (with_two_heads("contrast", corehead.CoReHead), (1, 2), "question_mean"),
    ],
)
def test_a_method_reads_its_own_layers_and_rows_and_no_others(make, layers, rows):
    assert what_is_read(make) == {(layers, (rows,))}


@pytest.mark.parametrize(
    ("kind", "published"),
    [
        (qrhead.QRHead, {"heads": 16, "reverse": True, "calibrate": True}),
        (corehead.CoReHead, {"heads": 8, "reverse": True, "calibrate": True}),
        (icr.ICR, {"reverse": True, "calibrate": True, "answer": False}),
        (RawAttention, {"sigma": 1.0}),
    ],
)
def test_the_defaults_of_options_are_the_published_ones(kind, published):
    given = inspect.signature(kind).parameters
    assert {name: given[name].default for name in published} == published


def test_a_model_that_needs_its_opening_token_gets_it_before_other_words_too():
    gemma = ScriptedReader(lambda q, text: [0.1] * len(text), template=TEMPLATES["gemma"])
    plain = ScriptedReader(lambda q, text: [0.1] * len(text), template=TEMPLATES["plain"])
    for reader, opening in ((gemma, "<bos>"), (plain, "")):
        together = icr.ICR(reader).ranker.reader.layout.template
        assert together.opening == f"{opening}Here are some paragraphs:\n\n"
        assert (together.name == "in_context") is (not opening)


@pytest.mark.parametrize("wrap", [lambda r: r, MemoizedReader])
def test_layers_with_a_window_shorter_than_the_prompt_are_left_out(wrap):
    reader = Windowed.from_needles("pin")
    reader.describe_values = []
    icr.ICR(wrap(reader), window_tokens=2000).rank(QUESTION, PASSAGES)
    AttentionSorting(wrap(reader)).order(QUESTION, PASSAGES, [0.0] * 2)
    FoundInTheMiddle(wrap(reader)).order(QUESTION, PASSAGES, [0.0] * 2)
    assert {layers for layers, _ in reader.describe_values} == {(1, 3)}
    reader.describe_values.clear()
    icr.ICR(wrap(reader), window_tokens=500).rank(QUESTION, PASSAGES)
    AttentionSorting(wrap(reader), window_tokens=500).order(QUESTION, PASSAGES, [0.0] * 2)
    FoundInTheMiddle(wrap(reader), window_tokens=500).order(QUESTION, PASSAGES, [0.0] * 2)
    assert {layers for layers, _ in reader.describe_values} == {ALL_LAYERS}


def test_where_all_layers_have_a_window_all_are_read():
    reader = Windowed.from_needles("pin")
    reader.layer_types = None
    assert long_range_layers(reader, 600) == ALL_LAYERS
