"""What callers give by mistake: one clear error each, of the kinds that tamis raises."""

from __future__ import annotations

import pytest

import tamis

QUESTION = "How are keys rotated?"
DOCS = ["Cheese ripens for a year.", "Keys are rotated every 90 days."]
LEXICAL = {"method": "lexical"}


@pytest.fixture(params=["compress", "rerank"])
def call(request):
    def ask(question=QUESTION, passages=DOCS, **more):
        budget = {"max_tokens": 8} if request.param == "compress" else {}
        return getattr(tamis, request.param)(question, passages, **budget, **more)

    return ask


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"question": 5, **LEXICAL}, "the question is of type int"),
        ({"question": [QUESTION], **LEXICAL}, "the question is of type list"),
        ({"passages": None, **LEXICAL}, "of type NoneType; give a list"),
        ({"passages": 5, **LEXICAL}, "of type int; give a list"),
        ({"passages": b"abc", **LEXICAL}, "of type bytes; give a list"),
        ({"passages": set(DOCS), **LEXICAL}, "of type set; give a list"),
        ({"passages": [tamis.Passage(5)], **LEXICAL}, "passage 0 has the text 5"),
        ({"method": None}, "method is None; give one of .*question_rows"),
        ({"method": ["lexical"]}, r"method is \['lexical'\]"),
        ({"proxy": 5}, "proxy is 5; give a name"),
        ({"proxy": None}, "proxy is None; give a name"),
        ({"cache": "kept"}, r"cache is 'kept'; give tamis\.PassageCache\(folder="),
        ({"probe": 5}, "probe is 5"),
        ({"rank_probe": 5}, "rank_probe is 5"),
        ({"root": 5}, "root is 5; give the path"),
        ({"language": 5, **LEXICAL}, "language is 5"),
    ],
)
def test_it_is_named_with_what_to_give_instead(call, given, says):
    with pytest.raises(tamis.BadInput, match=says):
        call(**given)


@pytest.mark.model
def test_no_layer_to_stop_after_is_no_default(call, proxy_folder):
    with pytest.raises(tamis.TamisError, match=r"exit_layer is 0, and probes .* ship for"):
        call(exit_layer=0)


@pytest.mark.model
def test_the_models_folder_may_be_given_as_text(call, proxy_folder):
    from tamis.probes.hub.zoo import models_root

    assert call(root=str(models_root()))


def test_a_model_that_is_not_there_is_an_error_of_its_own(call, tmp_path):
    with pytest.raises(tamis.ProxyMissing, match="tamis models pull"):
        call(root=tmp_path)
