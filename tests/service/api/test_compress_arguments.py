"""What callers give by mistake: one clear error each, of the kinds that tamis raises."""

from __future__ import annotations

import json

import pytest

import tamis

QUESTION = "How are keys rotated?"
DOCS = ["Cheese ripens for a year.", "Keys are rotated every 90 days."]
LEXICAL = {"method": "lexical"}


@pytest.fixture(params=["compress", "rerank"])
def call(request):
    def ask(question=QUESTION, documents=DOCS, **more):
        budget = {"max_tokens": 8} if request.param == "compress" else {}
        return getattr(tamis, request.param)(question, documents, **budget, **more)

    return ask


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"question": 5, **LEXICAL}, "the question is of type int"),
        ({"question": [QUESTION], **LEXICAL}, "the question is of type list"),
        ({"documents": None, **LEXICAL}, "of type NoneType; give a list"),
        ({"documents": 5, **LEXICAL}, "of type int; give a list"),
        ({"documents": b"abc", **LEXICAL}, "of type bytes; give a list"),
        ({"documents": set(DOCS), **LEXICAL}, "of type set; give a list"),
        ({"documents": [tamis.Passage(5)], **LEXICAL}, "passage 0 has the text 5"),
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
def test_the_models_folder_may_be_given_as_text(call, proxy_folder):
    from tamis.probes.hub.zoo import models_root

    assert call(root=str(models_root()))


def test_a_model_that_is_not_there_is_an_error_of_its_own(call, tmp_path):
    with pytest.raises(tamis.ProxyMissing, match="tamis models pull"):
        call(root=tmp_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"languge": "de", **LEXICAL}, "no argument 'languge': did you mean 'language'"),
        ({"model": "x", **LEXICAL}, "no argument 'model': did you mean 'proxy'"),
        (
            {"colour": 1},
            "no argument 'colour'; the options of the method question_rows are .*probe",
        ),
    ],
)
def test_a_mistyped_keyword_is_named_with_what_was_meant(call, given, says):
    with pytest.raises(tamis.BadInput, match=says):
        call(**given)


def test_a_mistyped_budget_is_named_where_no_other_is_given():
    with pytest.raises(tamis.BadInput, match="did you mean 'max_tokens'"):
        tamis.compress("Who?", ["Ann."], max_token=9)
    with pytest.raises(tamis.BudgetTooSmall):
        tamis.compress("Who?", ["Ann sold the mill to Bo."], max_tokens=1, method="lexical")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_token": 9}, "compress has no argument 'max_token': did you mean 'max_tokens'"),
        ({"order": "edges"}, r"order is a rule; give rules=\{'order': 'edges'\}"),
        ({"rules": {"ordr": "edges"}}, "no rule 'ordr': did you mean 'order'"),
        ({"rules": {"dedup": 5}}, "dedup"),
        ({"rules": "edges"}, r"rules is 'edges'; give tamis\.Rules"),
        ({"tokenizer": 5}, "tokenizer is 5; give 'proxy', a tokenizer.json"),
        ({"tokenizer": lambda text: {"ids": []}}, "returns dict; give a function from a text"),
    ],
)
def test_compressing_says_what_it_takes_instead(given, says):
    with pytest.raises(tamis.BadInput, match=says):
        tamis.compress(QUESTION, DOCS, **{"max_tokens": 8, **LEXICAL, **given})


def test_rules_may_be_a_dict():
    rules = {"citations": "[{doc}] ", "protect": ["ripens"]}
    given = {"max_tokens": 12, "tokenizer": lambda text: len(text.split()), **LEXICAL}
    as_dict = tamis.compress(QUESTION, DOCS, rules=rules, **given)
    as_rules = tamis.compress(
        QUESTION, DOCS, rules=tamis.Rules(citations="[{doc}] ", protect=("ripens",)), **given
    )
    assert as_dict.text == as_rules.text
    assert as_dict.text.startswith("[1] ")


def test_a_budget_may_be_counted_by_a_function_or_any_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    plain = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()

    class WithEncode:  # as tiktoken's encodings
        name = "words"

        def encode(self, text: str) -> list[str]:
            raise ValueError("a special token")

        def encode_ordinary(self, text: str) -> list[str]:
            return text.split()

    class Fast:  # as the fast tokenizers of transformers: called, they return a mapping
        backend_tokenizer = plain
        name_or_path = "words"

        def __call__(self, text: str) -> dict[str, list[int]]:
            raise AssertionError(text)

    counters = (lambda text: len(text.split()), str.split, plain, WithEncode(), Fast())
    found = [
        tamis.compress(QUESTION, DOCS, max_tokens=6, tokenizer=counter, **LEXICAL)
        for counter in counters
    ]
    assert {(short.text, short.tokens_in, short.tokens_out) for short in found} == {
        ("Keys are rotated every 90 days.", 11, 6)
    }
    assert [short.tokenizer for short in found[1:]] == ["str.split", "Tokenizer", "words", "words"]


def test_documents_of_langchain_are_passages(call):
    documents = pytest.importorskip("langchain_core.documents")
    given = [documents.Document(text, id=f"d{i}", metadata={"n": i}) for i, text in enumerate(DOCS)]
    result = call(documents=given, **LEXICAL)
    if hasattr(result, "results"):
        assert result.results[0].index == 1
    else:
        assert [(p.id, p.metadata) for p in result.passages] == [("d0", {"n": 0}), ("d1", {"n": 1})]
    with pytest.raises(tamis.BadInput, match="a single Document was given; give a list"):
        call(documents=given[0], **LEXICAL)


PAGE = (
    "<!doctype html><title>Keys</title><nav>Home</nav><p>Keys are <b>rotated</b> every 90 days.</p>"
)


def test_a_page_is_read_as_what_it_shows_when_it_is_said_to_be_one():
    given = {"max_tokens": 7, "tokenizer": str.split, **LEXICAL}
    said = tamis.compress(QUESTION, [{"text": PAGE, "format": "html"}, DOCS[0]], **given)
    assert said.text == "Keys are rotated every 90 days."
    assert said.passages[0] == tamis.read_html(PAGE)
    assert (said.passages[0].title, said.warnings) == ("Keys", ())
    unsaid = tamis.compress(QUESTION, [PAGE, DOCS[0]], **given)
    assert unsaid.passages[0].text == PAGE
    assert "HTML is read as text, tags and all, in document 0" in unsaid.warnings[-1]
    (kept,) = said.kept
    assert said.passages[0].text[kept.start : kept.stop].strip() == said.text


def test_files_are_read_as_passages_that_the_library_takes(tmp_path):
    (tmp_path / "a.html").write_text(PAGE, "utf-8")
    (tmp_path / "b.txt").write_text(DOCS[0], "utf-8")
    passages = tamis.read_files(tmp_path)
    assert [(p.id, p.metadata) for p in passages] == [
        (str(tmp_path / "a.html"), {"format": "html"}),
        (str(tmp_path / "b.txt"), {}),
    ]
    assert tamis.read_files(tmp_path / "a.html", input_format="text")[0].text == PAGE
    with pytest.raises(tamis.BadInput, match="input_format is 'pdf'; give auto, text, html"):
        tamis.read_files(tmp_path, input_format="pdf")
    with pytest.raises(tamis.BadInput, match="name files or folders"):
        tamis.read_files()
    with pytest.raises(tamis.BadInput, match="page is of type bytes"):
        tamis.read_html(PAGE.encode())


def test_what_is_not_read_of_files_is_told(tmp_path):
    """As a command would say it: fields of a request, and files that are no text."""
    (tmp_path / "ask.json").write_text(
        json.dumps({"question": QUESTION, "documents": [DOCS[0]], "max_tokens": 9}), "utf-8"
    )
    (tmp_path / "b.bin").write_bytes(b"\0" * 64)
    with pytest.warns(UserWarning, match="b.bin") as told:
        passages = tamis.read_files(tmp_path)
    assert [passage.text for passage in passages] == [DOCS[0]]
    said = " ".join(str(one.message) for one in told)
    assert "not max_tokens" in said
    assert {one.filename for one in told} == {__file__}
