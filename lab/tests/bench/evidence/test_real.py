"""Real documents: an answer is whole with all that it needs, and folds part the repositories."""

from __future__ import annotations

import json

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.bench.real import FOLDS, folds_of, load_questions
from tests.service.cli.cli_kit import tamis

FILLING = [f"Room {i} is painted in spring, and its floor is waxed in autumn." for i in range(40)]


def document(name, *lines, **question):
    asked = {"answerable": True, "must": [], "gold": [[1, 1]]} | question
    source = {"repo": f"someone/{name}"}
    text = "\n".join([*lines, *FILLING])
    return {"id": name, "source": source, "kind": "page", "text": text, "questions": [asked]}


KEYS = document(
    *("keys", "Keys are rotated every 90 days.", "", "Doors are locked at nine."),
    **{"q": "How often are keys rotated?", "must": [["90 days", "three months"]]},
)
HALF = document(
    *("half", "Keys are rotated every 90 days.", *FILLING, "Nobody is told of it."),
    **{"q": "How often are keys rotated?", "must": ["90 days", "Nobody"]},
)
OPEN = document("open", "A page.", q="Who pays?", answerable=False, gold=[])


@pytest.fixture
def documents(tmp_path):
    path = tmp_path / "documents.jsonl"
    path.write_text("\n".join(map(json.dumps, [KEYS, HALF, OPEN])))
    return path


def test_an_answer_is_whole_when_all_that_it_needs_is_kept_and_rows_are_measured_once(
    documents, tmp_path
):
    words = ("lab", "bench", "real", documents, "--methods", "lexical,lead", "--json")
    words += ("--results", tmp_path / "rows.jsonl")
    first, again = (json.loads(tamis(*words).stdout) for _ in range(2))
    assert first["methods"] == again["methods"]
    found = first["methods"]["lexical"]
    budget = found["budgets"]["2"]
    assert (budget["whole"], budget["part"], budget["questions"]) == (1, 1, 2)
    assert budget["share"] == 0.5
    assert "auroc" not in found  # it gives no probability
    assert first["methods"]["lead"]["budgets"]["2"]["best_free"] == "lexical"
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len(rows) == len(first["rows"]) == 2 * (2 * 2 + 1)
    assert all(row["tokens"] <= 100 for row in rows)


def test_a_repository_is_in_one_fold_and_folds_are_of_a_size():
    names = [f"r{i}" for i in range(12) for _ in range(i % 3 + 1)]
    folds = folds_of(names)
    sizes = [sum(folds[name] == fold for name in names) for fold in range(1, FOLDS + 1)]
    assert folds == folds_of(names[::-1])
    assert max(sizes) - min(sizes) <= 3


def test_a_fold_has_its_documents_alone(documents):
    found = [one.key for fold in (1, 2, 3) for one in load_questions(documents, fold)]
    assert sorted(found) == ["half/0", "keys/0", "open/0"]
    with pytest.raises(BadInput, match="no question in fold 5"):
        load_questions(documents, 5)


def test_a_row_that_is_no_document_is_refused_with_what_a_row_needs(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n')
    with pytest.raises(BadInput, match="a row without 'source'; a row is a document with"):
        load_questions(tmp_path / "rows.jsonl")


def test_a_method_takes_options_after_its_name(documents):
    """So a probe that one has fitted is judged beside the one that ships."""
    specs = "question_rows,question_rows:isolated=true"
    out = json.loads(tamis("lab", "bench", "real", documents, "--methods", specs, "--json").stdout)
    assert list(out["methods"]) == specs.split(",")
    judged = {row["method"] for row in out["rows"] if row["answerability"] is not None}
    assert judged == {"question_rows"}, "passages that are read apart leave no probability"
    refused = tamis("lab", "bench", "real", documents, "--methods", "lexical:nonsense=1")
    assert refused.exit_code == 2
    assert "nonsense" in refused.stderr
