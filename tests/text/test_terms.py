"""Index terms: words in any script, the same however their letters are encoded."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.text import terms
from tamis.text.terms import cached_words, stem, words


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("दिल्ली की राजधानी", ["दिल्ली", "की", "राजधानी"]),
        ("தமிழ் மொழி", ["தமிழ்", "மொழி"]),
        ("العَرَبِيَّة", ["العربية"]),
        ("שָׁלוֹם", ["שלום"]),
        ("молоко́ и хлеб", ["молоко", "и", "хлеб"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("İstanbul", ["istanbul"]),
        ("ภาษา", ["ภา", "าษ", "ษา"]),
        ("か\u3099く", ["がく"]),
        ("❤\ufe0f 5\ufe0f\u20e3 =\u0338", ["5"]),
    ],
)
def test_combining_marks_belong_to_their_letter(text, terms):
    assert words(text) == terms


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_one_word_has_one_term_however_it_is_encoded(form):
    text = "Crème brûlée naïve Ångström Việt Nam 한국어 ガラス"
    assert words(unicodedata.normalize(form, text)) == words(text)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Don't e-mail x_y C++ 3.14", ["don", "t", "e", "mail", "x", "y", "c", "3", "14"]),
        ("Straße über — „Wörter“ ﬁle", ["strasse", "über", "wörter", "file"]),
        ("¿Qué año? El niño", ["qué", "año", "el", "niño"]),
        ("索引keys分块", ["索引", "keys", "分块"]),
    ],
)
def test_words_without_marks_are_runs_of_letters_and_digits(text, terms):
    assert words(text) == terms


_LETTERS = st.text(
    st.characters(codec="utf-8") | st.sampled_from("eéE\u0301\u0307İ\u0591א ا\u064bоО\u0300かが語ภ")
)


@settings(max_examples=300)
@given(_LETTERS, _LETTERS)
def test_the_terms_of_a_titled_text_are_those_of_title_and_text(title, text):
    assert words(f"{title} {text}") == [*cached_words(title), *cached_words(text)]


def test_a_text_has_the_same_terms_the_second_time():
    text = "Crème brûlée, twice over: 日本語"
    assert cached_words(text) == cached_words(text) == tuple(words(text))


def test_a_long_word_is_not_remembered():
    before = terms._cached_stem.cache_info().currsize
    assert stem("ab" * 40 + "ing") == "ab" * 40
    assert terms._cached_stem.cache_info().currsize == before
