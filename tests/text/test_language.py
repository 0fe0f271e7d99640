"""Which language a text is in: enough to find its sentences and choose its proxy."""

from __future__ import annotations

import gzip
import json

import pytest

from tamis.probes.errors import BadInput
from tamis.text.language import (
    AUTO,
    MAX_SAMPLED_CHARS,
    MAX_SAMPLED_PASSAGES,
    guess_language,
    primary_subtag,
    resolve_language,
)

SAID = {
    "en": "The keys are rotated every ninety days, and the old ones are kept for a week.",
    "de": "Die Schlüssel werden alle neunzig Tage gewechselt, und die alten werden aufbewahrt.",
    "es": "Las claves se cambian cada noventa días y las viejas se guardan una semana.",
    "fr": "Les clés sont changées tous les trois mois et les anciennes sont gardées une semaine.",
    "pt": "As chaves são trocadas a cada noventa dias e não são guardadas por mais de uma semana.",
    "it": "Le chiavi sono cambiate ogni novanta giorni e le vecchie non sono tenute più di dieci.",
    "nl": "De sleutels worden om de negentig dagen vervangen en het oude paar wordt bewaard.",
    "sv": "Nycklarna byts var nittionde dag och de gamla sparas i en vecka, inte mer än det.",
    "pl": "Klucze są zmieniane co dziewięćdziesiąt dni, a stare nie są przechowywane przez rok.",
    "tr": "Anahtarlar her doksan günde bir değiştirilir ve eskileri bir hafta kadar saklanır.",
    "vi": "Các khóa được thay đổi sau mỗi chín mươi ngày và những khóa cũ được giữ trong một tuần.",
    "zh": "密钥每九十天更换一次，旧密钥保留一周。",
    "ja": "鍵は九十日ごとに交換され、古い鍵は一週間保管される。",
    "ko": "키는 구십 일마다 교체되며 이전 키는 일주일 동안 보관됩니다.",
    "ru": "Ключи меняются каждые девяносто дней, а старые хранятся неделю.",
    "uk": "Ключі змінюються кожні дев'яносто днів, а старі зберігаються тиждень.",
    "ar": "يتم تغيير المفاتيح كل تسعين يوما وتحفظ القديمة لمدة أسبوع.",
    "el": "Τα κλειδιά αλλάζουν κάθε ενενήντα ημέρες και τα παλιά φυλάσσονται.",
    "he": "המפתחות מוחלפים כל תשעים יום והישנים נשמרים שבוע.",
    "hi": "चाबियाँ हर नब्बे दिन में बदली जाती हैं और पुरानी एक सप्ताह रखी जाती हैं।",
    "th": "กุญแจจะถูกเปลี่ยนทุกเก้าสิบวัน และกุญแจเก่าจะถูกเก็บไว้หนึ่งสัปดาห์",
}


@pytest.mark.parametrize("code", SAID)
def test_a_sentence_tells_its_language(code):
    assert guess_language("", [SAID[code]]) == code
    assert guess_language(SAID[code], []) == code


def test_the_documents_outweigh_a_question_in_another_language():
    assert guess_language("How often are the keys rotated?", [SAID["zh"]] * 3) == "zh"
    assert guess_language("密钥多久更换一次？", [SAID["en"]] * 3) == "en"


@pytest.mark.parametrize("text", ["", "   ", "12 345 → 7", "🙂🙂", "x = {'a': [1, 2]}", "\ud800"])
def test_a_language_in_no_list_is_treated_as_english(text):
    assert guess_language(text, [text]) == "en"


@pytest.mark.parametrize("word", ["klingon", "english", "x", "1", "auto-de", "de-", ""])
def test_what_is_no_code_is_refused_with_examples(word):
    with pytest.raises(BadInput, match="two or three letters, such as en or zh-hant, or auto"):
        resolve_language(word, "", [SAID["en"]])


@pytest.mark.parametrize("code", ["tlh", "zh_Hans_CN", "de-AT-1996", "EN"])
def test_codes_that_nobody_measured_are_codes(code):
    assert resolve_language(code, "", [SAID["zh"]]) == code


def test_a_given_code_is_returned_unchanged():
    assert resolve_language("de", "", [SAID["zh"]]) == "de"
    assert resolve_language(AUTO, "", [SAID["zh"]]) == "zh"


def test_region_and_script_belong_to_the_family():
    assert [primary_subtag(code) for code in ("zh-hant", "pt_BR", "EN", "en")] == [
        "zh",
        "pt",
        "en",
        "en",
    ]


def test_the_examined_sample_is_bounded_and_spread_over_the_passages():
    long = SAID["en"] * (MAX_SAMPLED_CHARS // len(SAID["en"]) + 1)
    assert guess_language("", [long + SAID["zh"] * 5_000]) == "en"
    many = [SAID["zh"] if i % 8 == 0 else SAID["en"][:4] for i in range(8 * MAX_SAMPLED_PASSAGES)]
    assert guess_language("", many) == "zh"


@pytest.mark.data
def test_the_language_of_product_pages_is_guessed_correctly(data_folder):
    with gzip.open(data_folder / "product_docs" / "markdown.jsonl.gz", "rt", encoding="utf8") as f:
        rows = [json.loads(line) for line in f]
    right = sum(guess_language("", [row["text"]]) == primary_subtag(row["lang"]) for row in rows)
    assert right >= 0.9 * len(rows)


LOGS = {
    "imports": "import os\nfrom os import path\nos.environ\nfor x in os.listdir(d): run(os.sep)\n",
    "shell": "do echo building os image\ndone\nos release 22.04 do not reboot os\nmore os checks\n",
    "tests": "tests/com/test_os.py PASSED\ntests/com/test_do.py PASSED\ncom.shop.os FAILED\n",
    "deadlocks": "thread die called\nworker die signal\ndie hook ran\nretry und backoff\n",
}


@pytest.mark.parametrize("name", LOGS)
def test_logs_and_code_are_in_no_language_but_the_default(name):
    assert guess_language("", [LOGS[name] * 5]) == "en"


MORE = {
    "de": " Das ist nicht neu, und wer es nicht will, wird mit dem alten arbeiten.",
    "nl": " Dat is niet nieuw, en wie het niet wil, werkt met een van de oude.",
}


@pytest.mark.parametrize("code", SAID)
def test_prose_of_some_length_tells_its_language_among_numbers_and_names(code):
    text = f"{SAID[code]}{MORE.get(code, '')} 2026-01-01 10:00:00 GET /index.html 200\n" * 5
    assert guess_language("", [text]) == code
