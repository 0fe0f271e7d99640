"""Documents to chunks: nothing lost, nothing twice, cut where the text is."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tamis.probes.errors import BadInput
from tamis.retrieval.storage.chunks import chunk_document, chunk_id, title_line
from tamis.text.types import CorpusDocument, Passage
from tamis.text.units.segment import segment, units_of

GUIDE = """# Keys

Keys are rotated every ninety days. A new key is made first.

## By hand

Run the command and wait. Then check the log, which says which key is in use and since when.

```
rotate --now
```

- One item.
- Another item.
"""


LETTERS = list('ab .\n#|-`<p>{}"1\u00e9\u4e2d\ud800\u200d\U0001f468')


@settings(max_examples=60, deadline=None)
@given(st.text(st.sampled_from(LETTERS), max_size=200), st.integers(1, 60))
def test_chunks_partition_the_text(text: str, most: int):
    chunks = list(chunk_document(CorpusDocument("d", text), most))
    joined = "".join(text[chunk.start : chunk.stop] for chunk in chunks)
    assert joined == (text if text.strip() else joined)
    assert all(a.stop == b.start for a, b in itertools.pairwise(chunks))
    for chunk in chunks:
        for start, stop in chunk.units:
            assert chunk.start + start < chunk.start + stop <= chunk.stop


RECORDS = [{"n": f"user{i}", "quota": i * 37 % 101} for i in range(40)]
STRUCTURED = {
    "json": json.dumps({"users": RECORDS}, indent=1),
    "json lines": "\n".join(map(json.dumps, RECORDS)),
    "table": "n,quota\n" + "".join(f"{r['n']},{r['quota']}\n" for r in RECORDS),
    "markdown": "| n | quota |\n|---|---|\n" + "".join(f"| {r['n']} | 7 |\n" for r in RECORDS),
    "code": "import re\n\n" + "".join(f"def {r['n']}(a):\n    return a\n\n" for r in RECORDS),
    "guide": GUIDE,
}


@pytest.mark.parametrize("form", STRUCTURED)
def test_a_chunk_is_read_as_the_units_of_its_document(form: str):
    text = STRUCTURED[form]
    whole = [(*piece.visible, piece.kind) for piece in segment(text)]
    for most in (60, 200, 600):
        found = []
        for chunk in chunk_document(CorpusDocument("d", text), most):
            own = text[chunk.start : chunk.stop]
            passage = Passage(own, pieces=chunk.pieces)
            units = units_of([passage])
            assert [units[0].start, *(unit.stop for unit in units)] == [
                *(unit.start for unit in units),
                len(own),
            ]
            found += [
                (*(chunk.start + place for place in unit.visible), unit.kind) for unit in units
            ]
        assert found == whole


def test_a_chunk_is_as_long_as_asked_or_a_single_unit():
    for most in (20, 80, 200):
        for chunk in chunk_document(CorpusDocument("d", GUIDE), most):
            assert chunk.units[-1][1] <= most or len(chunk.units) == 1


def test_a_chunk_knows_the_heading_it_stands_under():
    chunks = list(chunk_document(CorpusDocument("d", GUIDE), 80))
    assert chunks[0].heading is None
    under = [c for c in chunks if "rotate --now" in GUIDE[c.start : c.stop]]
    assert [c.heading for c in under] == ["By hand"]


def test_a_heading_begins_a_chunk():
    starts = [
        GUIDE[c.start :].split("\n")[0] for c in chunk_document(CorpusDocument("d", GUIDE), 200)
    ]
    assert "## By hand" in starts


def test_the_text_before_a_change_keeps_its_chunk_ids():
    before = [
        chunk_id("d", c.start, c.stop) for c in chunk_document(CorpusDocument("d", GUIDE), 80)
    ]
    after = [
        chunk_id("d", c.start, c.stop)
        for c in chunk_document(CorpusDocument("d", GUIDE + "More."), 80)
    ]
    assert before[:-1] == after[: len(before) - 1]


def test_titles_and_headings_make_one_line():
    assert title_line("Manual", "Keys") == "Manual › Keys"
    assert title_line(None, None) is None


@pytest.mark.parametrize("given", [{"id": ""}, {"id": 3}, {"text": None}])
def test_a_document_without_an_id_or_text_is_refused(given):
    with pytest.raises(BadInput):
        CorpusDocument(**{"id": "a", "text": "b", **given})
