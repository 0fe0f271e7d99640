"""Labelled questions from documentation: what is gold, what is taken out, what stands beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.datasets.heading_records import heading_records, load_pages
from tamis_lab.datasets.record_checks import check_labels
from tamis_lab.datasets.records import gold_spans

PAGE = """<html><head><title>Keys</title><style>p {{}}</style></head><body>
<nav><a href="/">Home</a></nav>
<h1>Keys of {name}</h1><p>What keys of {name} are for.</p>
<h2>1.2. Rotating the keys of {name}</h2>
<p>Rotate them when a member of the {name} team leaves the company.</p>
<ol><li>Stop the {name} service.</li><li>Run <code>rotate {name}</code>.</li>
<li>Restart it.</li></ol>
<h2>Revoking the keys of {name}</h2><p>Ask the {name} owner.</p><pre>revoke   {name}
  --now</pre>
<h2>Notes</h2><p>Nothing more on {name}.</p>
</body></html>"""
NAMES = ("alpha", "beta", "gamma", "delta", "omega", "sigma", "kappa")


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("manual")
    for name in NAMES:
        (folder / f"{name}.html").write_text(PAGE.format(name=name), "utf-8")
    return load_pages(folder)


def test_a_section_is_gold_and_its_heading_is_gone(pages) -> None:
    records = heading_records(pages, "manual", 100)
    assert len({record["question"] for record in records}) == len(records) >= 2 * len(NAMES)
    bodies = 0
    for record in records:
        heading, _, body = record["question"].partition("\n")
        bodies += bool(body)
        own = [doc for doc in record["docs"] if doc["gold"]]
        assert len(own) == 1
        assert len(record["docs"]) >= 3
        gold = [own[0]["text"][a:b] for _, a, b in gold_spans(record)]
        assert gold
        assert not any(heading in doc["text"] for doc in record["docs"])
        assert not body or not any(body in doc["text"] for doc in record["docs"])
        name = next(n for n in NAMES if n in heading)
        assert all(name in line or "Restart" in line or "--now" in line for line in gold), gold
    assert bodies


def test_spans_hold_and_the_same_pages_give_the_same_records(pages) -> None:
    records = heading_records(pages, "manual", 10)
    assert records == heading_records(pages, "manual", 10)
    assert records != heading_records(pages, "manual", 10, seed=1)
    check_labels(records, Path("manual.jsonl"))
    assert len(heading_records(pages, "manual", 3)) == 3


def test_generic_headings_are_asked_with_the_one_above_them(pages) -> None:
    questions = {r["question"].split("\n")[0] for r in heading_records(pages, "manual", 100)}
    assert "Notes" not in questions
    assert any(question.startswith("Rotating the keys of") for question in questions)


def test_a_folder_without_pages_is_refused(tmp_path) -> None:
    with pytest.raises(BadInput, match=r"holds no page; give a folder with \.html"):
        load_pages(tmp_path)
