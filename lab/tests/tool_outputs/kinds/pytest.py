"""pytest over packages with a few faults: failures, fixtures, collection errors, warnings."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from lab.tests.tool_outputs.kit import Workshop, bash
from lab.tests.tool_outputs.words import actions, camel, nouns

TOOLS = {"pytest": "python -m pytest --version"}
FLAGS = ("-v", "-v -ra", "-vv", "-v --durations=5", "-v --tb=short", "-v -rA --tb=short")


@dataclass(frozen=True)
class Fault:
    """A test that fails: the function, its code, the test's code, the words of its end."""

    name: str
    code: str
    test: str
    ends: str
    asks: str


def faults(rng: random.Random, names: list[str]) -> list[Fault]:
    """One fault a name, of another sort each."""
    kinds = (_wrong_number, _wrong_dict, _missing_key, _chained, _wrong_text, _wrong_type)
    start = rng.randrange(len(kinds))
    return [kinds[(start + i) % len(kinds)](rng, name) for i, name in enumerate(names)]


def _wrong_number(rng: random.Random, name: str) -> Fault:
    a, b = rng.randint(100, 900), rng.randint(3, 9)
    return Fault(
        name,
        f"def {name}(cents):\n    rate = {b}\n    return cents * rate // 10 + rate\n",
        f"def test_{name}_total():\n    assert {name}({a}) == {a * b // 10}\n",
        rf"^E .*assert {a * b // 10 + b} == {a * b // 10}",
        f"Why is the total of {name} wrong?",
    )


def _wrong_dict(rng: random.Random, name: str) -> Fault:
    key, other, n = *nouns(rng, 2), rng.randint(10, 99)
    return Fault(
        name,
        f"def {name}(row):\n    return {{'{key}': row, '{other}': {n}}}\n",
        f"def test_{name}_fields():\n    assert {name}(1) == {{'{key}': 1, '{other}': {n + 1}}}\n",
        rf"^E +(assert|AssertionError: assert) .*'{other}': {n}\b.*'{other}': {n + 1}",
        f"Which field does {name} fill with a wrong value?",
    )


def _missing_key(rng: random.Random, name: str) -> Fault:
    key = f"{rng.choice(nouns(rng, 5))}_{rng.randint(10, 99)}"
    return Fault(
        name,
        f"def {name}(row):\n    '''Reads a row.'''\n    return row['{key}'] + 1\n",
        f"def test_{name}_of_an_old_row():\n    assert {name}({{'id': 1}}) == 2\n",
        rf"^E +KeyError: '{key}'",
        f"What does {name} miss in old rows?",
    )


def _chained(rng: random.Random, name: str) -> Fault:
    port = rng.randint(4000, 9000)
    return Fault(
        name,
        "def _connect(port):\n    raise ConnectionRefusedError(f'port {port} refused')\n\n\n"
        f"def {name}():\n    try:\n        _connect({port})\n    except OSError as error:\n"
        f"        raise RuntimeError('{name}: no storage') from error\n",
        f"def test_{name}_stores():\n    {name}()\n",
        rf"^E +(ConnectionRefusedError: port {port} refused|RuntimeError: {name}: no storage)",
        f"test_{name}_stores fails; what is the cause underneath?",
    )


def _wrong_text(rng: random.Random, name: str) -> Fault:
    word = f"{rng.choice(nouns(rng, 3))}-{rng.randint(100, 999)}"
    return Fault(
        name,
        f"def {name}(text):\n    return text.replace('-', '_')\n",
        f"def test_{name}_keeps_dashes():\n    assert {name}('{word}') == '{word}'\n",
        rf"^E +.*assert '{word.replace('-', '_')}' == '{word}'",
        f"Does {name} change its text, and how?",
    )


def _wrong_type(rng: random.Random, name: str) -> Fault:
    unit = f"kg{rng.randint(10, 99)}"
    return Fault(
        name,
        f"def {name}(weight):\n    return weight / 2\n",
        f"def test_{name}_of_text():\n    assert {name}('{unit}') == 1\n",
        r"^E +TypeError: unsupported operand type\(s\) for /: 'str' and 'int'",
        f"What kind of value does {name} not take?",
    )


def package(
    rng: random.Random, modules: int, tests: int, broken: list[Fault]
) -> tuple[dict[str, str], list[str]]:
    """Files of a package and its tests, faults scattered among them; and the modules' names."""
    names = nouns(rng, modules)
    files, every = {}, actions(rng, tests * modules)
    for i, module in enumerate(names):
        own = every[i * tests : (i + 1) * tests]
        mine = [fault for j, fault in enumerate(broken) if j * 7 % modules == i]
        code = "".join(f"def {n}(x):\n    return x + {k}\n\n\n" for k, n in enumerate(own))
        cases = [f"def test_{n}():\n    assert {n}(1) == {k + 1}\n" for k, n in enumerate(own)]
        cases.append(
            "@pytest.mark.parametrize('x', [0, 1, -1, 10**9])\n"
            f"def test_{own[0]}_of(x):\n    assert {own[0]}(x) == x\n"
        )
        cases += [fault.test for fault in mine]
        rng.shuffle(cases)
        files[f"shop/{module}.py"] = code + "\n\n".join(fault.code for fault in mine)
        files[f"tests/test_{module}.py"] = (
            f"import pytest\n\nfrom shop.{module} import *\n\n\n" + "\n\n".join(cases)
        )
    return {**files, "shop/__init__.py": "", "conftest.py": ""}, names


def make(shop: Workshop) -> None:
    """Eighteen runs with failures, and eight of other sorts."""
    for i in range(18):
        rng = shop.rng(f"failures {i}")
        broken = faults(rng, [f"{name}_{i}" for name in actions(rng, 2 + i % 3)])
        files, _ = package(rng, 7 + i % 3, 18 + i % 5, broken)
        _add_run(shop, f"shop{i}", files, broken, FLAGS[i % len(FLAGS)], i)
    for i in range(4):
        _add_collection_error(shop, i)
        _add_fixture_error(shop, i)


def _run(shop: Workshop, name: str, files: dict[str, str], flags: str) -> tuple[str, str]:
    command = f"python -m pytest {flags}"
    folder = shop.project(name, files)
    return command, shop.run(f"{command} -p no:cacheprovider -p no:randomly", folder)


def _add_run(
    shop: Workshop, name: str, files: dict[str, str], broken: list[Fault], flags: str, i: int
) -> None:
    command, text = _run(shop, name, files, flags)
    tests = [re.search(r"def (\w+)", fault.test)[1] for fault in broken]
    summary = [rf"^FAILED .*::{test}\b" for test in tests]
    last = rf"^=+ .*\b{len(broken)} failed"
    errors = [*summary, *(fault.ends for fault in broken), last]
    if i % 6 == 5:
        shop.add(bash(command), None, text, [*summary, last], errors)
    elif i % 3 == 2:
        question = "Which tests fail, and with what?"
        shop.add(bash(command), question, text, errors[:-1], errors)
    else:
        shop.add(bash(command), broken[0].asks, text, [broken[0].ends, summary[0]], errors)


def _add_collection_error(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"collection {i}")
    files, modules = package(rng, 10, 24, [])
    lost = f"shop.{rng.choice(nouns(rng, 9))}_{i}"
    path = f"tests/test_{modules[3]}.py"
    files[path] = f"import {lost}\n" + files[path]
    command, text = _run(shop, f"collect{i}", files, "-v --continue-on-collection-errors")
    ends = rf"^E +ModuleNotFoundError: No module named '{lost}'"
    errors = [ends, rf"^ERROR {path}", r"^=+ .*1 error"]
    question = f"Why can {path} not be collected?"
    shop.add(bash(command), question, text, [ends, rf"^ERROR {path}"], errors)


def _add_fixture_error(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"fixture {i}")
    files, modules = package(rng, 9, 22, [])
    noun, place = nouns(rng, 2)
    files["conftest.py"] = (
        "import warnings\n\nimport pytest\n\n\n@pytest.fixture\n"
        f"def {noun}_db():\n    warnings.warn('{noun} uses an old driver', DeprecationWarning)\n"
        f"    raise FileNotFoundError('/srv/{place}/{noun}.sqlite is not there')\n"
    )
    path = f"tests/test_{modules[i]}.py"
    case = f"\n\ndef test_{camel(noun, False)}_is_stored({noun}_db):\n    assert {noun}_db\n"
    files[path] += case
    command, text = _run(shop, f"fixture{i}", files, "-v")
    ends = rf"^E +FileNotFoundError: /srv/{place}/{noun}\.sqlite"
    errors = [ends, rf"^ERROR {path}::", r"^=+ .*1 error"]
    question = f"The fixture {noun}_db fails: what is missing?"
    shop.add(bash(command), question, text, [ends, rf"^ERROR {path}::"], errors)
