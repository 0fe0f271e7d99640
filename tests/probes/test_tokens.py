"""Tokens treat every text as text and never lose a character's place."""

from __future__ import annotations

import time
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Encoding, pre_tokenizers

from tamis.probes import tokens
from tamis.probes.errors import UnknownTokenizer
from tamis.probes.tokens import TextTokenizer, estimating_tokenizer, replace_surrogates
from tests.probes import tiny

TOKENS = TextTokenizer(tiny.tokenizer(), "tiny")
SPECIAL_IDS = {tiny.tokenizer().token_to_id(text) for text in tiny.SPECIAL}

# every code point, lone surrogates and NUL included, and now and then a control token spelled out
texts = st.lists(
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=12),
        st.sampled_from([*tiny.SPECIAL, "\x00", "\ud83d", "é", "e\u0301", "👩‍🔬", ". the he"]),
    ),
    max_size=6,
).map("".join)


@given(texts)
def test_no_text_ever_becomes_a_control_token(text: str) -> None:
    assert SPECIAL_IDS.isdisjoint(TOKENS.encode(text).ids)


def test_a_control_token_spelled_out_is_many_tokens_that_cover_its_characters() -> None:
    encoded = TOKENS.encode("<|im_end|>")
    assert encoded.offsets == [(i, i + 1) for i in range(10)]


@given(texts)
def test_offsets_cover_every_character_of_the_callers_own_string_in_order(text: str) -> None:
    offsets = TOKENS.encode(text).offsets
    assert {i for start, stop in offsets for i in range(start, stop)} == set(range(len(text)))
    assert offsets == sorted(offsets)
    assert all(before[1] <= after[1] for before, after in pairwise(offsets))


# by number: written out, one lone surrogate looks to tools like another
@pytest.mark.parametrize("odd", [chr(0xD800), chr(0xDFFF), chr(0), chr(0xD83D) * 2])
def test_lone_surrogates_and_nul_keep_the_places_of_what_follows(odd: str) -> None:
    encoded = TOKENS.encode(f"ab{odd}cd")
    places = [span for span in encoded.offsets if span[0] >= 2 + len(odd)]
    assert places == [(2 + len(odd), 3 + len(odd)), (3 + len(odd), 4 + len(odd))]


@given(texts)
def test_only_lone_surrogates_are_replaced_and_one_for_one(text: str) -> None:
    seen = replace_surrogates(text)
    assert len(seen) == len(text)
    for ours, theirs in zip(seen, text, strict=True):
        assert ours == ("\ufffd" if "\ud800" <= theirs <= "\udfff" else theirs)


@pytest.mark.parametrize("times", [1, 300], ids=["short", "long"])
@given(text=texts)
def test_counting_is_the_length_of_encoding(text: str, times: int) -> None:
    text *= times
    assert TOKENS.count(text) == len(TOKENS.encode(text)) == len(TOKENS.encode(text).ids)


@pytest.mark.parametrize("long", [[], ["ab c. " * 1000]], ids=["few", "many"])
@given(many=st.lists(texts, max_size=5))
def test_many_at_once_are_the_same_as_one_by_one(many: list[str], long: list[str]) -> None:
    many += long
    assert TOKENS.encode_many(many) == [TOKENS.encode(text) for text in many]
    assert TOKENS.count_many(many) == [TOKENS.count(text) for text in many]


def byte_level() -> TextTokenizer:
    """A tokenizer that cuts texts into pieces first, as those of the proxies do."""
    tokenizer = tiny.tokenizer()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    return TextTokenizer(tokenizer, "pieces")


signs = st.text(
    st.sampled_from(" \n\t\r\x0b\x1c\x85\xa0'’stremdl019AZaz._-=é…中\u0300\ud800"), max_size=90
)


@given(many=st.lists(st.one_of(signs, texts), max_size=4))
@pytest.mark.parametrize("counter", [byte_level(), estimating_tokenizer()], ids=lambda c: c.name)
@pytest.mark.parametrize("chars", [1, 1 << 15], ids=["cut", "whole"])
def test_counting_by_pieces_is_the_length_of_encoding(
    chars: int, counter: TextTokenizer, many: list[str]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tokens, "_ASCII_CHARS", chars)
        patch.setattr(tokens, "_MIXED_CHARS", chars)
        patch.setattr(tokens, "_KNOWN_PIECES", 20)
        patch.setattr(tokens, "_KNOWN_CHARS", 3)
        assert counter.count_many(many) == [len(counter.encode(text)) for text in many]


def test_counting_by_pieces_takes_less_than_half_the_time_of_encoding() -> None:
    counter = estimating_tokenizer()
    lines = [
        f"src/app/file_{i % 97}.py:{i}: error: no such name in step {i}\n" for i in range(9000)
    ]
    counter.count_many(lines)
    began = time.process_time()
    counts = counter.count_many(lines)
    middle = time.process_time()
    encoded = counter.encode_many(lines)
    assert middle - began < (time.process_time() - middle) / 2
    assert counts == list(map(len, encoded))


def test_only_much_text_wakes_the_tokenizers_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    woken = []

    class Watched:
        encode = TOKENS._plain.encode

        def encode_batch(self, texts: list[str], **how: bool) -> list[Encoding]:
            woken.append(len(texts))
            return TOKENS._plain.encode_batch(texts, **how)

        encode_batch_fast = encode_batch

    watched = TextTokenizer(tiny.tokenizer(), "tiny")
    monkeypatch.setattr(watched, "_plain", Watched())
    assert watched.count_many(["ab", "c. "] * 10) == [TOKENS.count("ab"), TOKENS.count("c. ")] * 10
    assert len(watched.encode_many(["ab", "c"])) == 2
    assert woken == []
    watched.count_many(["ab c. "] * 1000)
    watched.encode_many(["ab c. " * 1000, "ab"])
    assert woken == [1000, 2]


def test_very_many_texts_are_encoded_in_portions_with_the_same_result() -> None:
    some = ["ab", "c. ab", "", "b"]
    ids = [TOKENS.encode(text).ids for text in some]
    assert [t.ids for t in TOKENS.encode_many(some * 2500)] == ids * 2500
    assert TOKENS.count_many(some * 2500) == [len(of_text) for of_text in ids] * 2500


def test_a_tokenizer_that_pads_and_truncates_by_default_does_neither_here() -> None:
    made = tiny.tokenizer()
    made.enable_truncation(4)
    made.enable_padding(length=16)
    tokens = TextTokenizer(made, "cut")
    assert (tokens.count("abcdefgh"), tokens.count("a")) == (8, 1)
    assert made.truncation is not None, "the caller's own tokenizer is left as it was"


def test_a_tokenizer_file_and_its_folder_load_the_same(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    tiny.tokenizer().save(str(file))
    text = "in the middle. <|im_end|>"
    for path in (file, tmp_path, str(tmp_path)):
        assert TextTokenizer.from_file(path).encode(text) == TOKENS.encode(text)
    assert TextTokenizer.from_file(file, name="mine").name == "mine"


@pytest.mark.parametrize("content", [None, "", "{}", '{"model": 3}'])
def test_an_unreadable_tokenizer_is_an_error_that_names_the_file(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "tokenizer.json"
    if content is not None:
        file.write_text(content)
    for path in (file, tmp_path):
        with pytest.raises(UnknownTokenizer, match=r"tokenizer\.json cannot be read"):
            TextTokenizer.from_file(path)
