"""gcc, cargo, go, tsc, javac under Maven, mypy: builds with a few errors among many lines."""

from __future__ import annotations

import random
import re
from pathlib import Path

from lab.tests.tool_outputs.kit import Workshop, bash
from lab.tests.tool_outputs.words import actions, camel, nouns

TOOLS = {
    "g++": "g++ --version",
    "make": "make --version",
    "cargo": "cargo --version",
    "go": "go version",
    "tsc": "tsc --version",
    "mypy": "mypy --version",
}


def make(shop: Workshop) -> None:
    """Eight of g++, eight of cargo, six of go, six of tsc, five of mypy."""
    for i in range(8):
        _add_gcc(shop, i)
        _add_cargo(shop, i)
    for i in range(6):
        _add_go(shop, i)
        _add_tsc(shop, i)
    for i in range(5):
        _add_mypy(shop, i)


def _add_gcc(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"gcc {i}")
    names = actions(rng, 14)
    files = {f"src/{name}.cc": _cc(rng, name) for name in names}
    broken, noun = names[4 + i % 6], f"{rng.choice(nouns(rng, 9))}_{i}"
    odd, ends, asks = (
        (
            f"int bad_{i}() {{ return {noun}; }}",
            rf"error: .{noun}. was not declared",
            f"What is {noun}?",
        ),
        (
            f"std::string bad_{i}() {{ return {700 + i}.5 * std::string(); }}",
            r"error: no match for",
            "Which operator is missing?",
        ),
        (
            f"struct {noun} {{ int a; }};\nint bad_{i}({noun} x) {{ return x.weight; }}",
            r"error: .* has no member named",
            f"What does {noun} lack?",
        ),
    )[i % 3]
    files[f"src/{broken}.cc"] += odd + "\n"
    rules = "\n".join(
        f"out/{n}.o: src/{n}.cc\n"
        "\tg++ -std=c++17 -O0 -Wall -Wextra -Wconversion -Iinclude -c $< -o $@"
        for n in names
    )
    files["Makefile"] = f"all: {' '.join(f'out/{n}.o' for n in names)}\n{rules}\n"
    folder = shop.project(f"gcc{i}", {**files, "out/.keep": "", "include/.keep": ""})
    text = shop.run("make -k", folder)
    place = rf"^src/{broken}\.cc:\d+:\d+: {ends}"
    stops = rf"^make: \*\*\* \[Makefile:\d+: out/{broken}\.o\] Error 1"
    shop.add(bash("make -k"), (asks, None)[i == 5], text, [place], [place, stops])


def _cc(rng: random.Random, name: str) -> str:
    parts = ["#include <string>\n#include <vector>\n"]
    for n, noun in enumerate(nouns(rng, 3)):
        parts.append(
            f"int {name}_{noun}(const std::vector<long>& rows, int unused_{noun}) {{\n"
            f"    int total_{n} = rows.size() * {rng.randint(2, 9)};\n"
            f"    for (int i = 0; i < rows.size(); ++i) total_{n} += rows[i];\n"
            f"    return total_{n};\n}}\n"
        )
    return "\n".join(parts)


def _add_cargo(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"cargo {i}")
    names, noun = actions(rng, 12), f"{rng.choice(nouns(rng, 9))}_{i}"
    files = {f"src/{name}.rs": _rs(rng, name, i) for name in names}
    main = "".join(f"mod {name};\n" for name in names)
    broken = names[5]
    if i % 2:
        wrong = rng.randint(20, 99)
        files[f"src/{broken}.rs"] += (
            f"#[test]\nfn {noun}_adds_up() {{\n    assert_eq!(count_{noun}(2), {wrong}, "
            f'"{noun} does not add up");\n}}\n'
            f"#[cfg(test)]\nfn count_{noun}(n: i64) -> i64 {{ n + 1 }}\n"
        )
        command, ends = (
            "cargo test",
            [rf"{noun} does not add up", r"^ +left: 3", rf"^ +right: {wrong}"],
        )
        ends += [rf"panicked at src/{broken}\.rs"]
        stops = [rf"^test {broken}::{noun}_adds_up \.\.\. FAILED", r"^test result: FAILED"]
        asks = f"Which values does {noun}_adds_up compare?"
    else:
        files[f"src/{broken}.rs"] += f'pub fn bad() -> i64 {{ let {noun}: &str = "x"; {noun} }}\n'
        command, ends = "cargo build", [r"^error\[E0308\]", rf"let {noun}: &str"]
        stops, asks = [r"^error: could not compile"], f"Why can {broken}.rs not be compiled?"
    files |= {
        "src/main.rs": main + "fn main() {}\n",
        "Cargo.toml": f'[package]\nname = "shop{i}"\nversion = "0.1.0"\nedition = "2021"\n',
    }
    folder = shop.project(f"cargo{i}", files)
    text = shop.run(f"{command} --offline", folder, {"RUST_BACKTRACE": "0"})
    shop.add(bash(command), (asks, None)[i == 6], text, ends, [*ends, *stops])


def _rs(rng: random.Random, name: str, i: int) -> str:
    tests = "".join(
        f"    #[test]\n    fn {name}_of_{noun}() {{ assert_eq!(super::half({2 * n}), {n}); }}\n"
        for n, noun in enumerate(nouns(rng, 12))
    )
    unused = "".join(
        f"fn {name}_{noun}(rows: &[i64]) -> i64 {{\n    let spare_{noun} = {rng.randint(2, 99)};\n"
        "    rows.iter().sum()\n}\n"
        for noun in nouns(rng, 2)
    )
    half = "pub fn half(x: i64) -> i64 { x / 2 }\n"
    return f"{half}{unused if i % 2 == 0 else ''}#[cfg(test)]\nmod of {{\n{tests}}}\n"


def _add_go(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"go {i}")
    packages, noun = nouns(rng, 6), f"{rng.choice(nouns(rng, 9))}{i}"
    files = {"go.mod": f"module example.org/shop{i}\n\ngo 1.22\n"}
    for package in packages:
        files |= _go(rng, package)
    name, (got, want) = camel(noun), rng.sample(range(20, 999), 2)
    odd = (
        f"\nfunc Test{name}Total(t *testing.T) {{\n\tif got := {got}; got != {want} {{\n"
        f'\t\tt.Errorf("{noun}: got %d, want %d", got, {want})\n\t}}\n}}\n',
        f"\nfunc Test{name}Total(t *testing.T) {{\n\tvar rows []int\n"
        f'\tt.Log("{noun} has", len(rows))\n\t_ = rows[{got}]\n}}\n',
    )[i % 2]
    files[f"{packages[2]}/{packages[2]}_test.go"] += odd
    folder = shop.project(f"go{i}", files)
    text = shop.run("go test -v ./...", folder, {"GOFLAGS": "-mod=mod", "GOPROXY": "off"}, 600)
    ends = rf"{noun}: got {got}, want {want}" if i % 2 == 0 else rf"index out of range \[{got}\]"
    found = [line for line in text.split("\n") if re.search(ends, line)]
    gold = f"^{re.escape(found[0])}$" if found else ends
    failed = [rf"^--- FAIL: Test{name}Total", rf"^FAIL\s+example\.org/shop{i}/{packages[2]}"]
    asks = f"Why does Test{name}Total fail?"
    shop.add(bash("go test -v ./..."), asks, text, [gold], [gold, *failed])


def _go(rng: random.Random, package: str) -> dict[str, str]:
    names = [camel(name) for name in actions(rng, 18)]
    code = "".join(f"func {name}(x int) int {{ return x + {n} }}\n" for n, name in enumerate(names))
    tests = "".join(
        f"\nfunc Test{name}(t *testing.T) {{\n"
        f"\tif {name}(1) != {n + 1} {{\n\t\tt.Fail()\n\t}}\n}}\n"
        for n, name in enumerate(names)
    )
    return {
        f"{package}/{package}.go": f"package {package}\n\n{code}",
        f"{package}/{package}_test.go": f'package {package}\n\nimport "testing"\n{tests}',
    }


def _add_tsc(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"tsc {i}")
    names, noun = actions(rng, 9), f"{camel(rng.choice(nouns(rng, 9)), False)}{i}"
    files = {f"src/{camel(name, False)}.ts": _ts(rng, camel(name, False)) for name in names}
    broken = f"src/{camel(names[3], False)}.ts"
    odd, ends = (
        (f"export const {noun}: number = 'many';\n", "TS2322"),
        (f"export const {noun} = missing{camel(noun)}(3);\n", "TS2304"),
    )[i % 2]
    files[broken] += odd
    options = {"strict": True, "noUnusedLocals": True, "noUnusedParameters": True, "noEmit": True}
    config = str({"compilerOptions": options, "include": ["src"]})
    files["tsconfig.json"] = config.replace("True", "true").replace("'", '"')
    folder = shop.project(f"tsc{i}", files)
    flags = ("", " --pretty")[i % 3 == 2]
    text = shop.run(f"tsc -p .{flags}", folder)
    place = rf"^{re.escape(broken)}[:(]\d+[,:]\d+\)?(:| -) error {ends}"
    asks = f"Why does {Path(broken).name} not compile, unused names aside?"
    shop.add(bash(f"npx tsc -p .{flags}"), asks, text, [place], [place])


def _ts(rng: random.Random, name: str) -> str:
    return "".join(
        f"export function {name}{camel(noun)}"
        f"(rows: number[], spare{camel(noun)}: string): number {{\n"
        f"  const unused{camel(noun)} = {rng.randint(2, 99)};\n  return rows.length;\n}}\n"
        for noun in nouns(rng, 4)
    )


def _add_mypy(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"mypy {i}")
    names, noun = nouns(rng, 10), f"{rng.choice(nouns(rng, 9))}_{i}"
    files = {f"shop/{name}.py": _untyped(rng, 9) for name in names}
    broken = f"shop/{names[6]}.py"
    files[broken] += f"def {noun}() -> int:\n    return '{noun}'\n"
    folder = shop.project(f"mypy{i}", files | {"shop/__init__.py": ""})
    text = shop.run("mypy --strict --cache-dir=/dev/null shop", folder)
    place = rf"^{broken}:\d+: error: Incompatible return value type"
    asks = f"Which function of {names[6]} returns another type than it says?"
    shop.add(bash("mypy --strict shop"), asks, text, [place], [place, r"^Found \d+ errors"])


def _untyped(rng: random.Random, count: int) -> str:
    return "".join(f"def {name}(row, limit):\n    return row\n\n\n" for name in actions(rng, count))
