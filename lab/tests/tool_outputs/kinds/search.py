"""grep and ripgrep over source trees."""

from __future__ import annotations

from lab.tests.tool_outputs.kinds.git import module
from lab.tests.tool_outputs.kit import Workshop, bash, headers
from lab.tests.tool_outputs.words import nouns, sentence

TOOLS = {"grep": "grep --version", "rg": "rg --version"}
WHOLE = {"rule": "lines"}
MATCHES = headers("matches", r"^src/[^:]*$")


def make(shop: Workshop) -> None:
    """Nine searches by grep, nine by ripgrep."""
    for i in range(18):
        _add_search(shop, i)


def _add_search(shop: Workshop, i: int) -> None:
    rng = shop.rng(f"search {i}")
    names = nouns(rng, 22)
    files = {f"src/{n}/{m}.py": module(rng, 6) for n in names[:11] for m in names[11:13]}
    noun, home = f"{rng.choice(nouns(rng, 9))}_{i}", f"src/{names[2]}/{names[12]}.py"
    line, asks = (
        (
            f"total = {noun}.deprecated_total(limit)",
            f"Where is the deprecated total of {noun} used?",
        ),
        (f"total = 86400  # {noun} in seconds", f"Where are the seconds of {noun} set?"),
        (f"total = eval({noun})  # {sentence(rng, 3)}", "Is eval called anywhere?"),
    )[i % 3]
    at = files[home].index("    total = ")
    files[home] = f"{files[home][:at]}    {line}\n{files[home][at:]}"
    folder = shop.project(f"search{i}", files)
    command, rules = (
        ("grep -rn total src", (WHOLE,)),
        ("rg -n --sort path total src", (WHOLE,)),
        ("grep -rn -B1 'total =' src", (WHOLE,)),
        ("rg --heading -n --sort path total src", (WHOLE, MATCHES)),
        ("grep -rnE 'total|LIMIT_' src --include=*.py", (WHOLE,)),
        ("rg --heading -n --sort path -A1 total src", (WHOLE, MATCHES)),
    )[i % 6]
    text = shop.run(command, folder)
    words = line.replace("(", r"\(").replace(")", r"\)").replace(".", r"\.")
    gold = [rf"[:-]\s*{words}$"]
    if rules[1:]:
        gold.append(rf"^{home}$")
    call = bash(command) if i % 2 else ("Grep", {"pattern": "total", "path": "src"})
    shop.add(call, asks, text, gold, (), rules)
