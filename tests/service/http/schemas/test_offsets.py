"""Every span of every dialect slices the caller's own string to the text that is shown."""

from __future__ import annotations

import json
import os
import random
from itertools import pairwise

import pytest

from tamis.probes.errors import BadInput
from tamis.service.http.schemas.base import OffsetConverter
from tamis.service.http.schemas.compress import CompressRequest
from tests.service.http.app_kit import pointing, served

DOCUMENTS = int(os.environ.get("DOCUMENTS", "1500"))
_ALPHABET = (
    'abc ABC.!?\n\t-#*|{}[]":,0123456789'
    "éßñ åäö—… «»„“”"
    "日本語。、！？中文한국어"
    "العربية עברית हिन्दी। ไทย"
    "\u00a0\u200b\u200d\ufeff\u0301\u0308\u2028\u0000\u000b"
    "😀👨‍👩‍👧🇩🇪𝔘𐍈"
)


def document(seed: int) -> str:
    """Words, marks and scripts at random; now and then a lone surrogate."""
    chance = random.Random(seed)
    text = "".join(chance.choices(_ALPHABET, k=chance.randint(0, 120)))
    if chance.random() < 0.1:
        place = chance.randint(0, len(text))
        text = text[:place] + chr(chance.randint(0xD800, 0xDFFF)) + text[place:]
    return text


def sliced(text: str, start: int, end: int, unit: str) -> str:
    """As a caller in that language slices."""
    if unit == "codepoint":
        return text[start:end]
    coding = {"utf8": "utf-8", "utf16": "utf-16-le"}[unit]
    size = 2 if unit == "utf16" else 1
    data = text.encode(coding, "surrogatepass")[start * size : end * size]
    return data.decode(coding, "surrogatepass")


def joined_pairs(text: str) -> bool:
    """Whether two lone surrogates stand side by side: UTF-16 would make one character of them."""
    return any("\ud800" <= a <= "\udbff" and "\udc00" <= b <= "\udfff" for a, b in pairwise(text))


@pytest.mark.parametrize("unit", ["utf8", "utf16"])
def test_offsets_go_out_and_come_back(unit):
    for seed in range(DOCUMENTS):
        text = document(seed)
        if joined_pairs(text):
            continue
        converter = OffsetConverter(text, unit)
        for index in {0, len(text) // 3, len(text) // 2, len(text)}:
            offset = converter.from_codepoints(index)
            assert sliced(text, 0, offset, unit) == text[:index]
            assert converter.to_codepoints(offset) == index


@pytest.mark.parametrize(
    ("unit", "offset"), [("utf8", 1), ("utf8", 2), ("utf16", 1), ("codepoint", 9)]
)
def test_an_offset_inside_a_character_or_beyond_the_text_is_refused(unit, offset):
    with pytest.raises(BadInput):
        OffsetConverter("😀", unit).to_codepoints(offset)


def test_spans_to_keep_are_read_in_the_callers_unit():
    text = "日本。 é keep me. no."
    place = text.index("keep")
    for unit in ("codepoint", "utf8", "utf16"):
        converter = OffsetConverter(text, unit)
        span = [converter.from_codepoints(place), converter.from_codepoints(place + 4)]
        request = CompressRequest.model_validate(
            {"question": "q", "documents": [{"text": text, "keep": [span]}], "offset_unit": unit}
        )
        assert request.passages()[0].keep == ((place, place + 4),)


def test_documents_in_every_unit():
    """In each unit of offsets, what a span slices is what is shown of the document."""
    made = [document(seed) for seed in range(DOCUMENTS)]
    seen = 0
    with served(pointing(), max_body_bytes=1 << 24) as service:
        for n, first in enumerate(range(0, DOCUMENTS, 500)):
            part = made[first : first + 500]
            unit = ("codepoint", "utf8", "utf16")[n % 3]
            body = {
                "question": "abc?",
                "documents": part,
                "ratio": 0.5,
                "offset_unit": unit,
                "model": "lexical",
            }
            answer = service.raw(
                "/v1/explain", json.dumps({**body, "return": {"units": "all"}}).encode()
            )
            assert answer.status_code == 200, answer.text[:300]
            for text, result in zip(part, json.loads(answer.content)["results"], strict=True):
                seen += _check(text, result, unit)
    assert seen > 2 * DOCUMENTS


def _check(text: str, result: dict, unit: str) -> int:
    if joined_pairs(text):
        return 0
    shown = [sliced(text, s["start"], s["end"], unit) for s in result["relevant_spans"]]
    rest = result["text"]
    for part in shown:  # the kept text is the spans in order, with the white space between
        place = rest.find(part)
        assert place >= 0
        assert not rest[:place].strip()
        rest = rest[place + len(part) :]
    assert not rest.strip()
    units = [sliced(text, u["start"], u["end"], unit) for u in result["units"]]
    assert all(u == u.strip() and u for u in units)
    covered = "".join(units)
    assert sorted(c for c in covered if not c.isspace()) == sorted(
        c for c in text if not c.isspace()
    )
    return len(units)
