"""The faults of `make mutations`: made from the source, drawn the same each time."""

from __future__ import annotations

import ast

import pytest

from tests.mutations import COUNT, KINDS, NEAREST, ROOT, all_faults, drawn, equivalents, faults_of

SOURCE = '''\
"""A module of 3 lines."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import b
LIMIT: tuple[int, ...] = (9, 10)

@cache(maxsize=3)
def f(x: int = 1) -> int:
    # é: places are counted in bytes
    y = "é" + str(x - 1)
    z = [v for v in y if v != "a"]
    if not z and (x > 0 or y):
        x += 2
    return max(x, len(z)) if x is not None else 0.5 * x
'''


@pytest.fixture(scope="module")
def faults():
    return all_faults()


def test_faults_are_other_operators_bounds_constants_and_conditions():
    found = {(one.kind, one.before, one.after) for one in faults_of("a", "b.py", SOURCE)}
    assert found == {
        ("arithmetic", "x - 1", "(x + 1)"),
        ("arithmetic", "x += 2", "x -= 2"),
        ("arithmetic", "max", "min"),
        ("arithmetic", "0.5 * x", "(0.5 / x)"),
        ("comparison", "v != 'a'", "(v == 'a')"),
        ("comparison", "x > 0", "(x >= 0)"),
        ("comparison", "x is not None", "(x is None)"),
        ("condition", "v != 'a'", "True"),
        ("condition", "not z and (x > 0 or y)", "False"),
        ("condition", "not z and (x > 0 or y)", "(not z or (x > 0 or y))"),
        ("condition", "not z and (x > 0 or y)", "(not z)"),
        ("condition", "not z and (x > 0 or y)", "(x > 0 or y)"),
        ("condition", "x > 0 or y", "(x > 0 and y)"),
        ("condition", "x > 0 or y", "(x > 0)"),
        ("condition", "x > 0 or y", "y"),
        ("condition", "not z", "z"),
        ("condition", "x is not None", "False"),
        *(("constant", f"{n}", f"{m}") for n, m in ((9, 10), (10, 20), (1, 2), (0, 1), (2, 3))),
        ("constant", "0.5", "1.0"),
    }


def test_a_fault_changes_one_place_of_the_code_and_nothing_else(faults):
    some = drawn(faults, 0, COUNT)
    texts = {one.file: (ROOT / one.file).read_text("utf-8") for one in some}
    trees = {file: ast.dump(ast.parse(text)) for file, text in texts.items()}
    for one in some:
        text, wrong = texts[one.file], one.put_into(texts[one.file])
        assert ast.dump(ast.parse(wrong)) != trees[one.file], one.key
        kept = text.encode()[: one.start], text.encode()[one.stop :]
        assert wrong.encode() == kept[0] + one.after.encode() + kept[1]
        assert text[: len(kept[0].decode())].count("\n") == one.line - 1


def test_areas_and_kinds_take_turns_and_a_share_is_the_first_of_the_whole(faults):
    whole = drawn(faults, 0, COUNT)
    assert len({one.key for one in whole}) == COUNT
    assert drawn(reversed(faults), 0, COUNT) == whole
    assert drawn(faults, 0, COUNT // 10) == whole[: COUNT // 10]
    assert drawn(faults, 1, COUNT) != whole
    for name in (*NEAREST, *KINDS):
        each = COUNT / (len(NEAREST) if name in NEAREST else len(KINDS))
        assert abs(sum(name in (one.area, one.kind) for one in whole) - each) < 2
    first = whole[: len(NEAREST)]
    assert {one.area for one in first} == set(NEAREST)
    assert {one.kind for one in first} == set(KINDS)


def test_what_changes_in_one_file_draws_no_other_faults_in_the_rest(faults):
    file = "compressors/selection/packer.py"
    others = [one for one in faults if one.file != file]
    text = "LATER = 1 + 2\n" + (ROOT / file).read_text("utf-8")
    changed = [*others, *faults_of("packer", file, text)]
    one, two = (
        [fault.key for fault in drawn(some, 0, COUNT) if fault.file != file]
        for some in (faults, changed)
    )
    assert one == two


def test_every_fault_has_tests_and_every_one_that_is_none_is_there(faults):
    for files in NEAREST.values():
        for file, tests in files.items():
            assert (ROOT / file).is_file()
            assert tests
            assert all((ROOT / test).is_file() for test in tests)
    gone = equivalents().keys() - {one.key for one in faults}
    assert not gone, "take out of tests/mutations.toml what is no longer in the source"
    assert all(why for why in equivalents().values())
