"""Options of the published methods take effect, and every title is read."""

from __future__ import annotations

import pytest

from tamis.probes.errors import BadInput
from tamis.text.types import Passage
from tamis_lab.methods import in_context
from tamis_lab.methods.attention_sorting import AttentionSorting
from tamis_lab.methods.attnrank import AttnRank
from tamis_lab.methods.corehead import CoReHead
from tamis_lab.methods.found_in_the_middle import FoundInTheMiddle
from tamis_lab.methods.icr import ICR
from tamis_lab.methods.position_bias import PositionProfile
from tamis_lab.methods.qrhead import QRHead
from tamis_lab.methods.raw_attention import RawAttention
from tests.compressors.methods.attention_kit import QUESTION
from tests.compressors.test_options_act import DOCUMENTS, recording_reader, run
from tests.laws.methods import head_profile
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself


def with_profile(kind, by):
    return lambda r, **options: kind(r, profile=head_profile(r, by), heads=2, **options)


TOGETHER = {
    "icr": ICR,
    "qrhead": with_profile(QRHead, "qr"),
    "corehead": with_profile(CoReHead, "contrast"),
}


@pytest.mark.parametrize("name", TOGETHER)
def test_rerankers_in_one_prompt_apply_their_options(name):
    def rank(**options):
        reader = recording_reader()
        found = run(TOGETHER[name](reader, **options))
        return reader, found

    usual, found = rank()
    assert found.windows == 1
    assert usual.read_texts[0].index("Hay is dry") < usual.read_texts[0].index("The pin is here")
    assert sum("N/A" in text for text in usual.question_texts) == 1
    forward, _ = rank(reverse=False)
    assert forward.read_texts[0].index("Hay is dry") > forward.read_texts[0].index("The pin")
    raw, _ = rank(calibrate=False)
    assert not any("N/A" in text for text in raw.question_texts)
    longest = max(len(text) for text in usual.question_texts)
    _, small = rank(window_tokens=longest + 110)
    assert small.windows > 1


@pytest.mark.parametrize("name", ["icr", "qrhead"])
def test_the_instruction_to_answer_differs_from_the_one_to_find(name):
    for answer, words in enumerate(in_context.INSTRUCTIONS):
        reader = recording_reader()
        run(TOGETHER[name](reader, answer=bool(answer)))
        assert all(words in text for text in reader.question_texts)


@pytest.mark.parametrize("model", ["smollm2-135m", "gemma3-270m"])
def test_attnrank_has_the_profile_of_the_model_that_is_named(model):
    assert AttnRank(model=model).profile == PositionProfile.load_shipped(model)
    others = {PositionProfile.load_shipped(m).shares for m in ("smollm2-135m", "gemma3-270m")}
    assert len(others) == 2


WINDOWED = {
    "raw_attention": RawAttention,
    "attention_sorting": AttentionSorting,
    "found_in_the_middle": FoundInTheMiddle,
}


@pytest.mark.parametrize("name", WINDOWED)
def test_a_window_bounds_the_text_of_one_prompt(name):
    whole, cut = recording_reader(), recording_reader()
    run(WINDOWED[name](whole, window_tokens=1000))
    run(WINDOWED[name](cut, window_tokens=24))
    assert len(set(cut.read_texts)) > len(set(whole.read_texts))


@pytest.mark.parametrize("make", [RawAttention, AttentionSorting, *TOGETHER.values()])
def test_titles_are_read(make):
    reader = recording_reader()
    run(make(reader))
    for document in DOCUMENTS:
        assert any(document.title in text for text in reader.read_texts)


@pytest.mark.parametrize("make", [AttentionSorting, FoundInTheMiddle])
def test_a_model_of_a_short_context_is_read_in_windows_that_fit(make):
    """Windows of 1,024 tokens and more by default; the model takes 1,024 with the question."""
    texts = [" ".join(f"Straw {i} {j} is dry." for j in range(20)) for i in range(12)]
    given = [*map(Passage, texts), Passage("The pin is here.")]
    order = make(tiny.proxy("llama")).order(QUESTION, given, [0.0] * len(given))
    assert sorted(order) == list(range(len(given)))


def test_a_question_that_fills_the_context_is_refused():
    given = [Passage("Straw here."), Passage("The pin is here.")]
    with pytest.raises(BadInput, match="takes 1024; shorten the question"):
        AttentionSorting(tiny.proxy("llama")).order("Where is the pin? " * 200, given, [0.0, 0.0])
