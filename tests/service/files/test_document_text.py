"""Files as text: real pages, PDFs (printed by Chromium) and Word documents (written by pandoc)."""

from __future__ import annotations

import gzip
import io
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tamis.probes.errors import BadInput, MissingExtra
from tamis.service.files import document_text
from tamis.service.files.command_inputs import InputOptions, gather_inputs
from tamis.service.files.document_text import (
    InputFormat,
    left_out_note,
    page_at,
    raw_html_warning,
    read_document,
    read_given,
)

SAMPLES = Path(__file__).parent / "samples"
HTML, PDF, DOCX = ((SAMPLES / f"keys.{kind}").read_bytes() for kind in ("html", "pdf", "docx"))


def test_a_pdf_is_its_pages_in_order_without_running_heads_and_says_which_is_which():
    document = read_document(PDF, "keys.pdf")
    assert (document.format, document.title) == ("pdf", "Keys of the depot")
    assert "rotated after\nninety days" in document.text
    assert "The depot, page" not in document.text
    assert dict(document.left_out) == {"running heads and page numbers": 3}
    metadata = document.metadata()
    pages = [page_at(metadata, document.text.index(w)) for w in ("ninety", "--now", "spring")]
    assert pages == [1, 2, 3]
    assert [page_at(metadata, start) for start in document.page_starts] == [1, 2, 3]
    assert page_at(metadata, document.page_starts[1] - 1) == 1
    assert page_at({}, 5) is None


def test_a_word_document_has_its_headings_lists_code_and_tables():
    document = read_document(DOCX, "keys.docx")
    assert document.format == "docx"
    assert "```\ndepot revoke   signing\n  --now\n```\n" in document.text
    assert document.text == read_document(HTML, "keys.html").text


def test_many_threads_read_pdfs_at_once():
    with ThreadPoolExecutor(4) as pool:
        texts = set(pool.map(lambda _: read_document(PDF, "keys.pdf").text, range(16)))
    assert len(texts) == 1


@pytest.mark.parametrize(("module", "data"), [("pypdfium2", PDF), ("mammoth", DOCX)])
def test_without_the_extra_the_error_names_it(module, data, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r'pip install "tamis\[documents\]"'):
        read_document(data, "keys", "latin-1")


def test_what_files_are_is_told_by_suffix_and_by_how_they_begin():
    assert read_document(HTML, "-").format == "html"
    assert read_document(HTML, "page").format == "html"
    assert read_document(HTML, "page.HTM.gz").format == "html"
    assert read_document(HTML, "page.md").format == "text"
    assert read_document(HTML, "page.html", input_format=InputFormat.text).text == HTML.decode()
    assert read_document(b"<p>a", "a.txt", input_format=InputFormat.html).text == "a\n"
    assert read_document(b"a < b", "note").text == "a < b"


def test_a_page_may_name_its_own_encoding_unless_another_was_given():
    page = '<meta charset="iso-8859-1"><p>café “x”'.encode("cp1252")
    assert read_document(page, "old.html").text == "café “x”\n"
    with pytest.raises(BadInput, match="is not utf-8"):
        read_document(page.replace(b"iso-8859-1", b"klingon"), "old.html")
    with pytest.raises(BadInput, match="is not ascii"):
        read_document(page, "old.html", "ascii")


def zipped(*names: str) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        for name in names:
            archive.writestr(name, "x")
    return held.getvalue()


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize(
    ("data", "why"),
    [
        (PDF[:2000], r"cannot be read as PDF .*; bring a whole copy"),
        (DOCX[:2000], r"begins as a ZIP or DOCX and is damaged; bring a whole copy"),
        (zipped("word/document.xml"), r"cannot be read as DOCX .*; bring a whole copy"),
        (zipped("xl/workbook.xml"), r"kind Excel; save its sheets as \.csv"),
        (zipped("a.txt"), r"kind ZIP; unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), r"old Office; save it as \.docx or"),
        (b"\x89PNG\r\n\x1a\n" + bytes(90), r"is a picture; .*OCR"),
        (b"\x7fELF" + bytes(90), r"is a program; text, HTML, PDF and DOCX are read"),
        (bytes(range(32)) * 40, r"holds binary data; text, HTML"),
        (gzip.compress(b"x", mtime=0), r"packed with gzip; unpack it"),
    ],
    # the bytes of an archive hold the time, and every worker has to find the same names
    ids=[
        "pdf",
        "damaged docx",
        "docx",
        "excel",
        "zip",
        "office",
        "picture",
        "program",
        "binary",
        "gzip",
    ],
)
def test_binary_files_are_refused_with_the_way_out_whatever_the_encoding(data, why, encoding):
    with pytest.raises(BadInput, match=rf"^standard input .*{why}"):
        read_document(data, "-", encoding)


def test_a_page_that_is_nested_too_deep_is_refused_by_name():
    with pytest.raises(BadInput, match=r"^deep\.html: the page has 3,00\d elements that are open"):
        read_document(b"<div>" * 3000 + b"x", "deep.html")


def test_a_pdf_of_pictures_alone_and_one_with_a_password_say_so(monkeypatch):
    blank = (
        b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
        b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>"
    )
    with pytest.raises(BadInput, match="no text in its 1 pages: they were scanned; run it through"):
        read_document(blank, "scan.pdf")
    locked = blank.replace(
        b"trailer<<",
        b"4 0 obj<</Filter/Standard/V 1/R 2/P -4/O<" + b"00" * 32 + b">/U<" + b"11" * 32 + b">>>"
        b"endobj\ntrailer<</ID[<00><00>]/Encrypt 4 0 R",
    )
    with pytest.raises(BadInput, match=r"locked\.pdf needs a password; save a copy without one"):
        read_document(locked, "locked.pdf")


def test_utf_16_and_text_with_a_few_controls_are_text():
    for encoding in ("utf-16", "utf-16-le", "utf-32"):
        assert read_document("Plain words.".encode(encoding), "a.txt", encoding).format == "text"
    assert read_document(b"Plain \x00 words that go on and on.", "a.txt").format == "text"


def test_one_sentence_says_how_documents_were_read():
    assert left_out_note([read_document(b"text", "a.txt")]) is None
    note = left_out_note([read_document(HTML, "a.html"), read_document(PDF, "a.pdf")])
    assert note == (
        "1 HTML and 1 PDF documents were read as what they show, and spans are into that text; "
        "left out: scripts and styles (2), navigation (2), headers and footers (2), running heads "
        "and page numbers (3)"
    )


def test_a_document_that_says_it_is_html_is_read_so_and_keeps_its_fields():
    html = HTML.decode()
    read = read_given({"text": html, "format": "html", "id": "k", "metadata": {"a": 1}}, 0)
    assert read["text"].startswith("# Keys\n")
    assert (read["id"], read["title"]) == ("k", "Keys of the depot")
    assert read["metadata"] == {"a": 1, "format": "html"}
    assert read_given({"text": html, "format": "html", "title": "T"}, 0)["title"] == "T"
    assert read_given({"text": html, "format": "text"}, 0) == {"text": html}
    assert read_given(html, 0) == html
    with pytest.raises(BadInput, match=r"passage 3 has the format 'pdf'; give text or html"):
        read_given({"text": html, "format": "pdf"}, 3)


def test_whole_pages_that_are_given_as_text_are_pointed_out():
    assert raw_html_warning(["plain", "<p>a fragment</p>", "see <html>"]) is None
    warning = raw_html_warning(["plain", HTML.decode(), "\ufeff<?xml version='1.0'?>\n<html>"])
    assert warning is not None
    assert 'in document 1, 2; with "format": "html"' in warning


def test_a_folder_reads_all_formats_and_names_what_it_passed_over(tmp_path, monkeypatch):
    for name, data in (("a.html", HTML), ("b.pdf", PDF), ("c.docx", DOCX), ("d.pdf", PDF[:99])):
        (tmp_path / name).write_bytes(data)
    (tmp_path / "e.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (tmp_path / "f.html").write_text("<div>" * 3_000 + "too deep")
    (tmp_path / "g.txt").write_bytes(bytes(range(32)) * 40)
    found = gather_inputs([str(tmp_path)], None, InputOptions())
    assert [(Path(p.id or "").name, p.metadata["format"]) for p in found.passages] == [
        ("a.html", "html"),
        ("b.pdf", "pdf"),
        ("c.docx", "docx"),
    ]
    note = found.skipped_note()
    assert note is not None
    assert note.startswith("passed over 4 files: ")
    assert "f.html: the page" in note
    assert "d.pdf (cannot be read as PDF" in note
    assert "e.png (is a picture; only the text of a picture could be read" in note
    assert "g.txt (holds binary data" in note
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    fewer = gather_inputs([str(tmp_path)], None, InputOptions())
    assert len(fewer.passages) == 2
    assert 'pip install "tamis[documents]"' in str(fewer.skipped_note())
    with pytest.raises(MissingExtra, match="PDF needs a package"):
        gather_inputs([str(tmp_path / "b.pdf")], None, InputOptions())


def test_a_word_document_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(monkeypatch):
    monkeypatch.setattr(document_text, "MAX_UNPACKED_BYTES", 1 << 20)
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("word/document.xml", b"a" * (1 << 21))
    with pytest.raises(
        BadInput, match=r"unpacks to 2,097,152 bytes and at most 1,048,576 are read"
    ):
        read_document(held.getvalue(), "bomb.docx")
