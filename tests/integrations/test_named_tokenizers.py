"""Names of tokenizers, each from the package that carries it, against that package's own counts."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import bpe_openai
import dashscope
import litellm
import pytest
from llama_models.llama3.tokenizer import Tokenizer as Llama3Tokenizer
from tokenizers import Tokenizer

import tamis
from tamis.probes.errors import UnknownTokenizer
from tamis.probes.named_tokenizers import NAMES, available_names, named_tokenizer
from tests.service.http.app_kit import DOCUMENTS, QUESTION, served

ROOT = Path(__file__).parents[2]
TEXTS = [
    *(page.read_text("utf-8") for page in sorted((ROOT / "examples").glob("*/*.md"))[:12]),
    "I'll CAN'T we've 12345678 \r\n\r\n  x\t\n  y",
    "naïve Ünïcode 漢字かな 👩🏽‍🚀 שלום",
]


def test_every_name_is_here():
    assert available_names() == list(NAMES)


@pytest.mark.parametrize(("name", "encoding"), [("gpt-4o", "o200k_base"), ("gpt-4", "cl100k_base")])
def test_openai_s_names_count_as_bpe_openai_does(name: str, encoding: str):
    oracle = bpe_openai.get_encoding(encoding)
    for text in TEXTS:
        assert named_tokenizer(name).encode(text).ids == list(oracle.encode(text))


def test_llama_3_counts_as_meta_s_package_does():
    oracle = Llama3Tokenizer.get_instance()
    for text in TEXTS:
        ids = oracle.encode(text, bos=False, eos=False)
        assert named_tokenizer("llama-3.1").encode(text).ids == ids


def test_qwen_counts_as_alibaba_s_package_does():
    oracle = dashscope.get_tokenizer("qwen-turbo")
    for text in [*TEXTS, unicodedata.normalize("NFD", TEXTS[-1])]:
        assert named_tokenizer("qwen").count(text) == len(oracle.encode(text))
    with pytest.raises(UnknownTokenizer, match="NFC"):
        named_tokenizer("qwen").encode(unicodedata.normalize("NFD", "é"))


def test_claude_is_an_approximation_and_says_so():
    file = Path(litellm.__file__).parent / "litellm_core_utils/tokenizers/anthropic_tokenizer.json"
    oracle = Tokenizer.from_file(str(file))
    for text in TEXTS:
        ids = oracle.encode(text, add_special_tokens=False).ids
        assert named_tokenizer("claude").count(text) == len(ids)
    fields = {"max_tokens": 12, "method": "lexical", "tokenizer": "claude"}
    short = tamis.compress(QUESTION, DOCUMENTS, **fields)
    assert ["Claude 2" in warning for warning in short.warnings] == [True]
    with served(method="lexical") as service:
        answer = service.post(
            "/v1/compress", question=QUESTION, documents=DOCUMENTS, **fields
        ).json()
    assert answer["usage"]["estimated"]
    assert ["Claude 2" in warning for warning in answer["warnings"]] == [True]
