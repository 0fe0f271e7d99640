"""unittest, ruff and pip: test runs, lints with context, and requirements that cannot be met."""

from __future__ import annotations

import random

from lab.tests.tool_outputs.kit import Workshop, bash
from lab.tests.tool_outputs.words import actions, camel, nouns, sentence

TOOLS = {
    "unittest": "python --version",
    "ruff": "ruff --version",
    "python": "python --version",
}


def make(shop: Workshop) -> None:
    """Eight runs of unittest, five of ruff, five programs that end in a traceback."""
    for i in range(8):
        _add_unittest(shop, i)
    for i in range(5):
        _add_ruff(shop, i)
        _add_crash(shop, i)


def _add_unittest(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"unittest {i}")
    modules, noun = nouns(rng, 6), f"{rng.choice(nouns(rng, 9))}_{i}"
    files = {f"test_{m}.py": _cases(m, actions(rng, 22)) for m in modules}
    got, want = rng.sample(range(100, 999), 2)
    odd, ends = (
        (f"self.assertEqual({got}, {want}, '{noun} differs')", f"AssertionError: {got} != {want}"),
        (
            f"raise LookupError('no {noun} in the archive')",
            f"LookupError: no {noun} in the archive",
        ),
    )[i % 2]
    files[f"test_{modules[2]}.py"] += f"\n    def test_{noun}_is_kept(self):\n        {odd}\n"
    folder = shop.project(f"unittest{i}", files)
    text = shop.run("python -m unittest discover -v", folder)
    word = ("FAIL", "ERROR")[i % 2]
    last = (r"^FAILED \(failures=1\)", r"^FAILED \(errors=1\)")[i % 2]
    errors = [f"^{ends}", rf"^{word}: test_{noun}_is_kept", last]
    asks = (f"What goes wrong in test_{noun}_is_kept?", "Do all tests pass?", None)[i % 3]
    gold = [errors[0]] if i % 3 == 0 else errors[1:] if i % 3 == 1 else errors
    shop.add(bash("python -m unittest discover -v"), asks, text, gold, errors)


def _cases(module: str, names: list[str]) -> str:
    cases = "\n".join(
        f"    def test_{name}(self):\n        self.assertTrue({n} >= 0)\n"
        for n, name in enumerate(names)
    )
    return f"import unittest\n\n\nclass {camel(module)}Tests(unittest.TestCase):\n{cases}"


def _add_ruff(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"ruff {i}")
    names, noun = nouns(rng, 9), f"{rng.choice(nouns(rng, 9))}_{i}"
    files = {f"src/{name}.py": _untidy(rng) for name in names}
    files[f"src/{names[5]}.py"] += f"\n\ndef {noun}(rows):\n    return missing_{noun}(rows)\n"
    folder = shop.project(f"ruff{i}", files)
    flags = ("", " --output-format concise")[i % 2]
    text = shop.run(f"ruff check --no-cache --isolated{flags} src", folder)
    gold = [rf"Undefined name `missing_{noun}`"]
    gold += [] if i % 2 else [rf"^ +--> src/{names[5]}\.py:29|return missing_{noun}\(rows\)"]
    errors = [gold[0], r"^Found \d+ errors"]
    shop.add(bash(f"ruff check{flags} src"), "Which name is not defined?", text, gold, errors)


def _untidy(rng: random.Random) -> str:
    imports = "".join(f"import {name}\n" for name in ("os", "re", "sys", "json"))
    return imports + "".join(
        f"\n\ndef {name}(rows):\n    spare = {rng.randint(2, 99)}\n    return f'rows'\n"
        for name in actions(rng, 3)
    )


def _add_crash(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"crash {i}")
    names, noun = actions(rng, 4), f"{rng.choice(nouns(rng, 9))}_{i}"
    words = [sentence(rng, 7) for _ in range(30)]
    code = (
        f"import random, sys\nrng = random.Random({i})\nWORDS = {words!r}\n\n"
        f"def {names[0]}(row):\n    return row['{noun}']\n\n"
        f"def {names[1]}(row):\n    return {names[0]}(row) * 2\n\n"
        f"def {names[2]}(row):\n    try:\n        return {names[1]}(row)\n"
        f"    except KeyError as error:\n"
        f"        raise ValueError('row {600 + i} is incomplete') from error\n\n"
        f"for n in range({160 + 20 * i}):\n"
        "    print(f'step {n:4}:', rng.choice(WORDS), flush=True)\n"
        f"{names[2]}({{'id': {600 + i}}})\n"
    )
    folder = shop.project(f"crash{i}", {"import_rows.py": code})
    text = shop.run("python import_rows.py", folder)
    said = [rf"^ValueError: row {600 + i} is incomplete", rf"^KeyError: '{noun}'"]
    frame = rf"line \d+, in {names[0]}$"
    asks = ("Why did the import end?", f"Where is {noun} read, and what is wrong with it?")[i % 2]
    gold = [*said, frame] if i % 2 else said
    shop.add(bash("python import_rows.py"), asks, text, gold, said)
