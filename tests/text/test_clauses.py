"""Clauses: text in scripts without full stops is not one unit a paragraph."""

from __future__ import annotations

import pytest

from tamis.text.units.segment import CLAUSE_CHARS, LONG_CJK_CHARS
from tests.text.segment_kit import visible_texts

THAI = (
    "กุญแจจะถูกเปลี่ยนทุกเก้าสิบวัน และกุญแจเก่าจะถูกเก็บไว้หนึ่งสัปดาห์ ผู้ดูแลระบบต้องแจ้งผู้ใช้ล่วงหน้าสามวัน "
    "ตั้งแต่ พ.ศ. 2560 เป็นต้นมา ดร. สมชาย เป็นผู้รับผิดชอบเรื่องนี้ และส่งรายงานทุกเดือน"
)
WORDS = {
    "th": "กุญแจจะถูกเปลี่ยน",
    "lo": "ກະແຈຈະຖືກປ່ຽນ",
    "km": "កូនសោនឹងត្រូវប្តូរ",
    "my": "သော့များကိုပြောင်းမည်",
}


@pytest.mark.parametrize("language", sorted(WORDS))
def test_a_paragraph_without_stops_is_cut_at_its_spaces(language: str) -> None:
    word = WORDS[language]
    found = visible_texts(" ".join([word] * 30), language)
    assert len(found) > 5
    for clause in found:
        assert set(clause.split(" ")) == {word}  # never inside a word
        assert len(clause) < CLAUSE_CHARS + 2 * len(word)
    for clause in found[:-1]:
        assert len(clause) >= CLAUSE_CHARS


def test_a_full_stop_after_a_thai_abbreviation_ends_nothing() -> None:
    found = visible_texts(THAI, "th")
    assert len(found) == 3
    assert any("พ.ศ. 2560" in clause for clause in found)
    assert any("ดร. สมชาย" in clause for clause in found)


@pytest.mark.parametrize("language", ["th", "en"])
def test_thai_is_cut_whatever_language_was_named(language: str) -> None:
    assert len(visible_texts(THAI, language)) == 3


def test_a_number_or_bracket_stays_with_the_word_before_it() -> None:
    text = " ".join(["กุญแจจะถูกเปลี่ยนทุกเก้าสิบวันกุญแจจะถูกเปลี่ยนทุกเก้าสิบวันครั้งที่ 12 (สิบสอง)"] * 5)
    for clause in visible_texts(text, "th"):
        assert not clause.startswith(("12", "("))


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ("密钥每九十天轮换一次，旧密钥保留一周，" * 20, "，"),
        ("鍵は九十日ごとに交換され 古い鍵は一週間残される " * 20, ""),
        ("鍵は九十日ごとに交換されて管理者に知らせが届くので" * 20, ""),
        ("密钥每九十天轮换一次" * 60, ""),
    ],
)
def test_long_chinese_and_japanese_without_stops_is_cut(text: str, stop: str) -> None:
    found = visible_texts(text, "zh")
    assert len(found) > 2
    assert all(len(clause) <= LONG_CJK_CHARS for clause in found)
    assert all(clause.endswith(stop) for clause in found)


def test_text_with_stops_is_left_alone() -> None:
    chinese = "密钥每九十天轮换一次。旧密钥保留一周，然后删除。" * 10
    assert set(visible_texts(chinese, "zh")) == {
        "密钥每九十天轮换一次。",
        "旧密钥保留一周，然后删除。",
    }
    english = "The word กุญแจ means key and stands here in a sentence that is longer than a clause."
    assert visible_texts(f"{english} {english}") == [english, english]
