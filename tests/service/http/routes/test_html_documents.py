"""Documents that are pages of HTML, over a real socket: what is read, and what spans point into."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.http.app_kit import Running, served

PAGE = (Path(__file__).parents[2] / "files/samples/keys.html").read_text("utf-8")
QUESTION = "After how many days is a signing key rotated?"
SAID = {"id": "k", "text": PAGE, "format": "html"}
_WIDTHS = {"codepoint": ("utf-32-le", 4), "utf8": ("utf-8", 1), "utf16": ("utf-16-le", 2)}


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def answer(service: Running, path: str, **fields) -> dict:
    found = service.post(path, **fields)
    assert found.status_code == 200, found.text
    return found.json()


@pytest.mark.parametrize("unit", ["codepoint", "utf8", "utf16"])
def test_spans_are_into_the_text_that_the_page_shows_and_the_answer_has_it(service, unit):
    found = answer(
        service,
        "/v1/compress",
        question=QUESTION,
        documents=["A short note on bread.", SAID],
        max_tokens=160,
        offset_unit=unit,
    )
    plain, page = found["results"]
    assert plain["extracted_text"] is None
    text = page["extracted_text"]
    assert text.startswith("# Keys\n\nEvery signing key")
    assert "tracker" not in text
    encoding, width = _WIDTHS[unit]
    data = text.encode(encoding)
    kept = [
        data[span["start"] * width : span["end"] * width].decode(encoding)
        for span in page["relevant_spans"]
    ]
    assert kept
    assert all(part in page["text"] for part in kept)
    grown = answer(
        service,
        "/v1/expand",
        documents=["A short note on bread.", SAID],
        spans=[{"index": 1, **{k: page["relevant_spans"][0][k] for k in ("start", "end")}}],
        neighbours=0,
        offset_unit=unit,
    )
    assert kept[0] in grown["results"][0]["text"]


def test_a_page_without_the_word_is_not_changed_and_pointed_out(service):
    found = answer(service, "/v1/compress", question=QUESTION, documents=[PAGE], max_tokens=5000)
    assert found["status"] == "passthrough"
    assert found["text"] == PAGE
    assert found["results"][0]["extracted_text"] is None
    assert any("HTML is read as text, tags and all" in warning for warning in found["warnings"])


def test_explain_and_batches_read_pages_too(service):
    request = {"question": QUESTION, "documents": [SAID], "max_tokens": 60}
    (item,) = answer(service, "/v1/compress/batch", inputs=[request])["data"]
    assert item["compression"]["results"][0]["extracted_text"].startswith("# Keys")
    explained = answer(service, "/v1/explain", **request)
    assert "<p>" not in str(explained)


def test_a_format_that_is_not_known_and_a_hostile_page_are_refused(service):
    refused = service.post(
        "/v1/compress", question=QUESTION, documents=[{**SAID, "format": "pdf"}], max_tokens=9
    )
    assert refused.status_code == 422
    assert "format" in refused.text
    deep = {"text": "<div>" * 5_000, "format": "html"}
    refused = service.post("/v1/compress", question=QUESTION, documents=[deep], max_tokens=9)
    assert (refused.status_code, "open at once" in refused.text) == (422, True)
