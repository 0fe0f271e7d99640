"""The labelled outputs that come with tamis: labels are there, and rules hold of every source."""

from __future__ import annotations

import json
import re

import pytest

from lab.tests.tool_outputs.kit import MOST_LABELLED
from tamis.probes.errors import BadInput
from tamis_lab.bench.tools import (
    OUTPUTS_FOLDER,
    count_violations,
    file_facts,
    find_kinds,
    load_outputs,
    lost_labels,
)

KINDS = find_kinds(OUTPUTS_FOLDER)
LEAST_OUTPUTS, MOST_BYTES = 200, 1_500_000
# after a space, a quote or a bracket, in an address of a file, behind a compiler's flag, or from
# where `..` leads to: what follows other characters goes on with a relative path
ABSOLUTE_PATH = re.compile(
    r"(?:(?<![\w.~+/-])|(?<=//)|(?<=\.\.)|(?<=-[A-Z]))/([^\s/\"'<>:]+)/([^\s/\"'<>:]*)"
)
REQUEST_LINE = re.compile(r'"[A-Z]+ /\S* HTTP/')
WRITTEN = frozenset({"operations"})
"""Kinds that no machine made: their paths are those of documentation."""
USUAL_FOLDERS = frozenset({"dev", "srv", "usr"})
"""What the makers name places after, `/home/dev` aside: the same on every machine."""


@pytest.fixture(scope="module", params=KINDS)
def outputs(request):
    return load_outputs(KINDS[request.param], request.param)


def test_there_are_two_hundred_outputs_in_a_file_a_kind_and_they_are_small():
    ids = [row.id for kind, path in KINDS.items() for row in load_outputs(path, kind)]
    assert len(ids) == len(set(ids)) >= LEAST_OUTPUTS
    assert sum(path.stat().st_size for path in KINDS.values()) <= MOST_BYTES


def test_every_file_names_its_seed_and_the_versions_of_its_tools():
    for kind, path in KINDS.items():
        facts = file_facts(path)
        assert facts["kind"] == kind
        assert isinstance(facts["seed"], int)
        assert all(isinstance(version, str) and version for version in facts["tools"].values())


def test_a_kind_is_made_by_a_file_of_its_name():
    from lab.tests.tool_outputs.__main__ import kinds

    assert sorted(KINDS) == kinds()


def test_every_label_is_found_in_its_source_and_gold_is_there_once(outputs):
    for row in outputs:
        assert row.gold, row.id
        assert lost_labels(row, row.text, (*row.gold, *row.errors)) == [], row.id
        for start, stop in row.gold:
            text = row.text[start:stop]
            without = row.text[:start] + row.text[stop:]
            assert lost_labels(row, without, [(start, stop)]) == [text], row.id


def test_every_source_obeys_its_own_rules(outputs):
    for row in outputs:
        assert row.rules, row.id
        counts = count_violations(row, row.text, lambda line: False)
        assert set(counts.values()) == {0}, (row.id, counts)


def test_rules_with_headers_have_headers_in_every_source(outputs):
    for row in outputs:
        lines = row.text.split("\n")
        for rule in row.rules:
            for header in rule.headers:
                assert any(header.search(line) for line in lines), (row.id, rule.name, header)


def test_labels_leave_room_at_a_fifth_of_the_tokens(outputs):
    for row in outputs:
        labelled = sum(stop - start for start, stop in {*row.gold, *row.errors})
        assert 0 < labelled <= MOST_LABELLED * len(row.text), row.id


def machine_paths(text: str) -> list[str]:
    """The absolute paths of a text that a machine of another layout would not have."""
    found = ABSOLUTE_PATH.finditer(REQUEST_LINE.sub("", text))
    return [m[0] for m in found if m[1] not in USUAL_FOLDERS and m.group(1, 2) != ("home", "dev")]


@pytest.mark.parametrize(
    "path",
    [
        *("/root/shop/a.py", "/home/ada/shop", "/Users/ada/shop", "/tmp/pytest-3/shop"),
        *("file:///root/shop", "-I/opt/shop/include", "../../root/shop", "('/srv2/shop/a.py')"),
        *("a.py:/root/shop", "PATH=/root/bin"),
    ],
)
def test_a_path_of_one_machine_is_seen(path):
    assert machine_paths(f"cannot open {path}: no such file\n")


@pytest.mark.parametrize(
    "words",
    [
        *("/home/dev/shop/a.py", "/usr/lib/python3/x.py", "src/shop/a.py", "a/b/root/c"),
        *("https://shop.example.org/a/b", '"GET /order/cursor HTTP/1.1" 304', "26/Nov/2026"),
    ],
)
def test_what_every_machine_has_is_no_path_of_one(words):
    assert machine_paths(f"{words}\n") == []


def test_every_output_has_a_call_and_no_path_of_the_machine_that_made_it(outputs):
    for row in outputs:
        assert row.output.name, row.id
        assert isinstance(json.loads(row.output.arguments), dict), row.id
        assert row.kind in WRITTEN or machine_paths(row.text) == [], row.id
        assert "\x1b" not in row.text, row.id


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "1", "text": "a\n", "gold": [[0, 9]]}, "is no span of its 2 code points"),
        ({"id": "1", "text": "a\n", "gold": [[1, 1]]}, "is no span"),
        ({"id": "1", "text": 5, "gold": []}, "are strings"),
        ({"id": "1", "text": "a", "question": 5, "gold": []}, "are strings"),
        ({"id": "1", "text": "a"}, "KeyError"),
        ({"id": "1", "text": "a", "gold": [[0, 1]], "rules": [{"rule": "odd"}]}, "no headers"),
        (
            {"id": "1", "text": "a", "gold": [], "rules": [{"rule": "x", "headers": ["("]}]},
            "is no labelled output",
        ),
        ([], "a row is a JSON object"),
    ],
)
def test_a_line_that_is_no_labelled_output_is_refused_by_file_and_line(tmp_path, row, message):
    path = tmp_path / "own.jsonl"
    good = {"id": "0", "text": "a\n", "gold": [[0, 1]]}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n", "utf-8")
    with pytest.raises(BadInput, match=message) as error:
        load_outputs(path, "own")
    assert "own.jsonl, line 2" in str(error.value)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(BadInput, match="has no labelled outputs"):
        find_kinds(tmp_path)
    (tmp_path / "odd.jsonl.xz").write_bytes(b"not packed")
    with pytest.raises(BadInput, match=r"odd\.jsonl\.xz is damaged"):
        load_outputs(find_kinds(tmp_path)["odd"], "odd")
    (tmp_path / "none.jsonl").write_text('{"kind": "none"}\n', "utf-8")
    with pytest.raises(BadInput, match="has no labelled output"):
        load_outputs(tmp_path / "none.jsonl", "none")
