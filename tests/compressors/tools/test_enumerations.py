"""Lists that look complete are: shown whole, or replaced by a marker that counts them."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tamis.text.readers.outputs.json_parts import NAME_CHARS, json_tree
from tamis.text.readers.outputs.line_table import SHORT_LIST
from tests.compressors.tools.tool_kit import COUNTER, at_ratio, shorten

NAMES = st.text("abcdef-_/.", min_size=1, max_size=12)
VALUES = st.recursive(
    st.lists(NAMES | st.integers(0, 99), min_size=2, max_size=40) | st.text(max_size=60),
    lambda inner: (
        st.dictionaries(NAMES, inner, min_size=1, max_size=4)
        | st.lists(inner, min_size=1, max_size=4)
    ),
    max_leaves=12,
)
RATIOS = st.sampled_from([0.1, 0.2, 0.4, 0.7])


def enumerations(node):
    """The spans within the brackets of arrays of short scalars."""
    if node.kind == "[" and node.children:
        if all(
            child.kind not in "[{" and child.stop - child.start <= NAME_CHARS
            for child in node.children
        ):
            yield node.children[0].start, node.children[-1].stop
    for child in node.children:
        yield from enumerations(child)


@settings(
    deadline=None,
    max_examples=80,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),
)
@given(st.dictionaries(NAMES, VALUES, min_size=2, max_size=6), RATIOS)
def test_no_array_of_names_is_shown_by_halves(value, ratio):
    text = json.dumps(value, indent=2)
    short = at_ratio(text, ratio)
    for first, last in enumerations(json_tree(text, 0, len(text))):
        inside = [(max(a, first), min(b, last)) for a, b in short.kept if a < last and b > first]
        shown = "".join(text[a:b] for a, b in inside)
        assert not shown.strip(" ,\n") or shown == text[first:last]


def test_an_array_is_replaced_by_its_count():
    roles = [f"role-{i}" for i in range(40)]
    events = [{"id": i, "note": f"event {i} of the long night shift"} for i in range(40)]
    text = json.dumps({"users": [{"name": "ada", "roles": roles}], "events": events}, indent=1)
    short = shorten(text, 500, "What was event 17?")
    assert "role-" not in short.text
    assert "event 17 of" in short.text
    whole = shorten(text, COUNTER.count(text) - 100, "Which roles has ada?")
    assert json.loads(whole.text)["users"][0]["roles"] == roles


STATUS = """On branch main
Changes not staged for commit:
  (use "git add <file>..." to update what will be committed)
{changes}
Untracked files:
  (use "git add <file>..." to include in what will be committed)
{untracked}
no changes added to commit (use "git add" and/or "git commit -a")
"""


@pytest.mark.parametrize("ratio", [0.2, 0.4, 0.6])
def test_sections_of_git_status_are_whole_or_counted(ratio):
    changes = [f"\tmodified:   src/{name}.py" for name in ("one", "two", "three", "four")]
    untracked = [f"\tnotes/{i}.txt" for i in range(20)]
    text = STATUS.format(changes="\n".join(changes), untracked="\n".join(untracked))
    lines = at_ratio(text, ratio).text.splitlines()
    for section in (changes, untracked):
        shown = [line for line in section if line in lines]
        assert shown in ([], section)
        if not shown:
            assert re.search(rf"\b({len(section)}|24) entries", "\n".join(lines))


def test_a_section_that_is_left_out_is_counted():
    untracked = [f"\tnotes/{i}.txt" for i in range(20)]
    text = STATUS.format(changes="\tmodified:   src/one.py", untracked="\n".join(untracked))
    short = shorten(text, COUNTER.count(text) // 2)
    [gap] = [one for one in short.omissions if one.content]
    assert gap.content == "20 entries"
    assert set(untracked) <= set(text[gap.start : gap.stop].splitlines())


@pytest.mark.parametrize("ratio", [0.1, 0.3, 0.5])
def test_small_folders_of_a_listing_are_whole_or_left_out(ratio):
    folders = {f"./src/part{n}": [f"file_{n}_{i}.py" for i in range(9)] for n in range(30)}
    folders["./src/part7"][3] = "harbour.py"
    text = "\n".join(f"{name}:\n" + "\n".join(files) + "\n" for name, files in folders.items())
    assert all(sum(map(len, files)) < SHORT_LIST for files in folders.values())
    lines = at_ratio(text, ratio, "Where is harbour.py?").text.splitlines()
    for files in folders.values():
        shown = [file for file in files if file in lines]
        assert shown in ([], files)
    assert "harbour.py" in lines
