"""`/v1/expand`: the neighbours of what was kept, over a socket and by the library."""

from __future__ import annotations

import pytest

import tamis
from tests.service.http.app_kit import BODY, DOCUMENTS, NEEDLE, pointing, served

TEXT = "Älter. 😀 Keys are here. Ada rotates them. The end."
SPAN = {"index": 0, "start": 9, "end": 23}


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def expanded(service, **fields):
    answer = service.post("/v1/expand", **fields)
    assert answer.status_code == 200, answer.text
    assert answer.json()["object"] == "expansion"
    return answer.json()["results"]


@pytest.mark.parametrize("neighbours", [0, 1, 2, 50])
def test_a_span_of_an_answer_grows_as_the_library_grows_it(service, neighbours):
    short = service.post("/v1/compress", **BODY).json()
    spans = [
        {"index": document["index"], **span}
        for document in short["results"]
        for span in document["relevant_spans"]
    ]
    found = expanded(service, documents=DOCUMENTS, spans=spans, neighbours=neighbours)
    here = tamis.compress(BODY["question"], DOCUMENTS, max_tokens=40, proxy=pointing())
    assert len(spans) == len(found) == len(here.kept) > 0
    for kept, one in zip(here.kept, found, strict=True):
        start, stop = here.expand(kept.passage, kept.start, kept.stop, neighbours)
        assert (one["index"], one["start"], one["end"]) == (kept.passage, start, stop)
        assert one["text"] == DOCUMENTS[kept.passage][start:stop]
    assert found[0]["text"] == (NEEDLE if neighbours == 0 else DOCUMENTS[0])


def test_each_span_has_a_result_of_its_own_in_order(service):
    spans = [{"index": 1, "start": 0, "end": 3}, {"index": 0, "start": 0, "end": 3}] * 2
    found = expanded(service, documents=DOCUMENTS, spans=spans, neighbours=0)
    assert [one["text"] for one in found] == ["Nothing is said here.", "The wall is blue."] * 2


@pytest.mark.parametrize("unit", ["codepoint", "utf8", "utf16"])
def test_offsets_come_and_go_in_the_unit_of_the_caller(service, unit):
    def out(text):
        return {"codepoint": len(text), "utf8": len(text.encode()),
                "utf16": len(text.encode("utf-16-le")) // 2}[unit]  # fmt: skip

    start, end = (out(TEXT[:i]) for i in (TEXT.index("Keys"), TEXT.index(" Ada")))
    span = {"index": 0, "start": start, "end": end}
    documents = [{"text": TEXT, "id": "a"}]
    (one,) = expanded(service, documents=documents, spans=[span], offset_unit=unit)
    where = TEXT.index(one["text"])
    assert one["text"].endswith("Ada rotates them.")
    assert (one["start"], one["end"]) == (out(TEXT[:where]), out(TEXT[: where + len(one["text"])]))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"spans": []}, "spans"),
        ({"spans": [{**SPAN, "index": 1}]}, "a span is of document 1; there are 1"),
        ({"spans": [{**SPAN, "end": 999}]}, "beyond the text"),
        ({"spans": [{**SPAN, "start": 30, "end": 4}]}, "before its start at 30"),
        ({"spans": [{**SPAN, "stop": 4}]}, "did you mean 'end'?"),
        ({"spans": [SPAN] * 101}, "101 spans were given and 100 is the most"),
        ({"neighbours": -1}, "neighbours"),
        ({"neighbors": 2}, "did you mean 'neighbours'?"),
        ({"documents": [""]}, "beyond the text"),
        ({"documents": ["a"] * 1001}, "1,000 is the most"),
        ({"language": "English, please"}, "language"),
    ],
)
def test_errors_say_what_is_wrong(service, fields, says):
    answer = service.post("/v1/expand", **{"documents": [TEXT], "spans": [SPAN], **fields})
    assert answer.status_code == 422
    assert says in answer.json()["error"]["message"]


def test_it_is_metered_and_described(service):
    expanded(service, documents=[TEXT], spans=[SPAN])
    page = service.http.get("/metrics").text
    assert 'tamis_requests_total{route="/v1/expand",status="200"}' in page
    assert "post" in service.http.get("/openapi.json").json()["paths"]["/v1/expand"]
