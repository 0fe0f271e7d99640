"""node, npm and eslint: test runs, traces in logs, installations that cannot be resolved."""

from __future__ import annotations

import json
import random

from lab.tests.tool_outputs.kit import Workshop, bash
from lab.tests.tool_outputs.words import actions, camel, nouns, sentence

TOOLS = {"node": "node --version", "npm": "npm --version", "eslint": "eslint --version"}


def make(shop: Workshop) -> None:
    """Six test runs, six logs with a trace, four lints, four installations."""
    for i in range(6):
        _add_tests(shop, i)
        _add_trace(shop, i)
    for i in range(4):
        _add_lint(shop, i)
        _add_install(shop, i)


def _add_tests(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"tests {i}")
    noun, (got, want) = f"{rng.choice(nouns(rng, 9))} {i}", rng.sample(range(100, 999), 2)
    suites = nouns(rng, 5)
    cases = {name: actions(rng, 12) for name in suites}
    files = {f"{name}.test.js": _suite(name, cases[name]) for name in suites}
    files[f"{suites[2]}.test.js"] += (
        f"test('{noun} adds up', () => {{\n  assert.strictEqual({got}, {want});\n}});\n"
    )
    folder = shop.project(f"tests{i}", files)
    text = shop.run("node --test --test-reporter=tap --test-concurrency=1", folder)
    ends = [rf"^ *\+? ?actual: {got}", rf"^ *expected: {want}"]
    failed, named = r"^# fail 1$", rf"^not ok \d+ - {noun} adds up"
    asks = f"Which values differ in '{noun} adds up'?"
    shop.add(bash("npm test"), asks, text, ends, [*ends, named, failed])


def _suite(name: str, cases: list[str]) -> str:
    tests = "".join(
        f"  test('{case.replace('_', ' ')}', () => {{\n    assert.ok(true);\n  }});\n"
        for case in cases
    )
    heads = "const test = require('node:test');\nconst assert = require('node:assert');\n"
    return f"{heads}test.describe('{name}', () => {{\n{tests}}});\n"


def _add_trace(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"trace {i}")
    noun, names = (
        f"{camel(rng.choice(nouns(rng, 9)), False)}{i}",
        [camel(n, False) for n in actions(rng, 3)],
    )
    words = [sentence(rng, 6) for _ in range(20)]
    ends, raised = (
        (f"TypeError: Cannot read properties of undefined (reading '{noun}')", f"row.rows.{noun}"),
        (f"RangeError: {noun} is out of range", f"throw new RangeError('{noun} is out of range')"),
    )[i % 2]
    script = (
        f"const words = {json.dumps(words)};\nlet seed = {rng.randint(1, 9999)};\n"
        "const next = n => (seed = (seed * 48271) % 2147483647) % n;\n"
        "const usual = n => console.log(`${new Date(1795680000000 + n * 1700).toISOString()} "
        "info worker=${next(8)} ${words[next(20)]} ms=${next(300)}`);\n"
        f"function {names[0]}(row) {{\n  {raised};\n}}\n"
        f"function {names[1]}(row) {{\n  return {names[0]}(row);\n}}\n"
        f"function {names[2]}(row) {{\n  return {names[1]}(row);\n}}\n"
        f"for (let n = 0; n < {140 + 20 * i}; n++) {{\n  usual(n);\n"
        f"  if (n === {rng.randint(30, 110)}) try {{\n    {names[2]}({{}});\n"
        "  } catch (error) {\n    console.log(`${new Date(1795680000000 + n * 1700).toISOString()} "
        "error request failed`);\n    console.log(error.stack);\n  }\n}\n"
    )
    folder = shop.project(f"trace{i}", {"worker.js": script})
    text = shop.run("node worker.js", folder)
    said = [rf"^{ends.replace('(', '.').replace(')', '.')}", r" error request failed$"]
    gold = [said[0], rf"at {names[0]} \("]
    asks = ("Why did a request fail, and in which function?", f"What is wrong with {noun}?", None)[
        i % 3
    ]
    shop.add(bash("node worker.js"), asks, text, gold if i % 3 == 0 else gold[:1], said)


def _add_lint(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"lint {i}")
    names, noun = nouns(rng, 8), f"{camel(rng.choice(nouns(rng, 9)), False)}{i}"
    files = {f"src/{name}.js": _untidy(rng, name) for name in names}
    files[f"src/{names[4]}.js"] += f"export const {noun} = missing{camel(noun)}(1);\n"
    files["package.json"] = '{"name": "shop", "type": "module"}'
    files["eslint.config.js"] = (
        'export default [{rules: {"no-unused-vars": "warn", "prefer-const": "warn", '
        '"no-undef": "error", "eqeqeq": "warn"}}];\n'
    )
    folder = shop.project(f"lint{i}", files)
    text = shop.run("eslint src", folder)
    ends = rf"error +'missing{camel(noun)}' is not defined"
    shop.add(bash("npx eslint src"), "Is an undefined name used?", text, [ends], [ends])


def _untidy(rng: random.Random, name: str) -> str:
    return "".join(
        f"export function {name}{camel(noun)}(rows) {{\n  let total = rows.length;\n"
        f"  const spare{camel(noun)} = {rng.randint(2, 99)};\n  if (total == 3) return 1;\n"
        "  return total;\n}\n"
        for noun in nouns(rng, 4)
    )


def _add_install(shop: Workshop, i: int) -> None:
    """Packages in folders, one of which wants another version of its peer."""
    rng = shop.rng(f"install {i}")
    names, noun = nouns(rng, 8), f"{rng.choice(nouns(rng, 9))}-{i}"
    files = {f"packages/{n}/package.json": _package(n, f"{rng.randint(1, 9)}.0.0") for n in names}
    files[f"packages/{noun}/package.json"] = _package(noun, "3.1.0", {names[0]: ">=40.0.0"})
    wanted = {name: f"file:packages/{name}" for name in [*names, noun]}
    files["package.json"] = json.dumps({"name": "shop", "version": "1.0.0", "dependencies": wanted})
    folder = shop.project(f"install{i}", files)
    flags = "--offline --no-audit --cache ./cache --registry https://npm.example.org"
    text = shop.run(f"npm install --loglevel=silly {flags}", folder)
    peer = rf'^npm warn peer {names[0]}@">=40\.0\.0" from {noun}@3\.1\.0'
    code = r"^npm error code ENOTCACHED"
    asks = f"Which version of {names[0]} does {noun} want?"
    shop.add(bash("npm install --loglevel=silly"), asks, text, [peer], [peer, code])


def _package(name: str, version: str, peers: dict[str, str] | None = None) -> str:
    fields = {"name": name, "version": version, "peerDependencies": peers or {}}
    return json.dumps(fields)
