"""Pages and notebooks: HTML as curl brings it, ipynb files, and what nbconvert makes of them."""

from __future__ import annotations

import html
import json
import random
from pathlib import Path

from lab.tests.tool_outputs.kinds.json import served
from lab.tests.tool_outputs.kit import Workshop, bash, label_values
from lab.tests.tool_outputs.words import actions, nouns, person, sentence

TOOLS = {"curl": "curl --version", "nbconvert": "jupyter nbconvert --version"}


def make(shop: Workshop) -> None:
    """Eight pages, six notebooks as JSON, five as Markdown."""
    with served(shop.root) as url:
        for i in range(8):
            _add_page(shop, url, i)
    for i in range(6):
        _add_notebook(shop, i)
    for i in range(5):
        _add_markdown(shop, i)


def _add_page(shop: Workshop, url: str, i: int) -> None:
    rng = shop.rng(f"page {i}")
    noun, price = f"{rng.choice(nouns(rng, 9))}-{i}", f"{rng.randint(20, 90)}.{rng.randint(10, 99)}"
    rows = [
        f'      <tr><td class="name">{n}-{rng.randint(10, 99)}</td><td>{person(rng)}</td>'
        f'<td class="price">EUR {rng.randint(2, 99)}.00</td></tr>'
        for n in nouns(rng, 50)
    ]
    rows.insert(
        rng.randrange(40),
        f'      <tr><td class="name">{noun}</td><td>{person(rng)}</td>'
        f'<td class="price">EUR {price}</td></tr>',
    )
    prose = [f"    <p>{html.escape(sentence(rng, 16).capitalize())}.</p>" for _ in range(40)]
    fact = (
        f"    <p>Orders from {noun.title()} are returned within {30 + i} days, free of charge.</p>"
    )
    prose.insert(rng.randrange(40), fact)
    links = [f'      <li><a href="/{n}">{n.title()}</a></li>' for n in nouns(rng, 24)]
    style = [f"    .{n} {{ margin: {rng.randint(1, 9)}px; color: #333; }}" for n in nouns(rng, 20)]
    text = "\n".join(
        [
            *("<!DOCTYPE html>", '<html lang="en">', "  <head>", f"    <title>{noun}</title>"),
            *(
                "    <style>",
                *style,
                "    </style>",
                "  </head>",
                "  <body>",
                "    <nav>",
                "    <ul>",
            ),
            *(*links, "    </ul>", "    </nav>", "    <h1>Articles</h1>", "    <table>", *rows),
            *("    </table>", "    <h2>Returns</h2>", *prose, "  </body>", "</html>", ""),
        ]
    )
    (shop.root / f"page{i}.html").write_text(text, "utf-8")
    text = shop.run(f"curl -s {url}/page{i}.html", shop.root)
    asks, gold = (
        (f"What does {noun} cost?", rf'"name">{noun}<'),
        (f"Within how many days are orders from {noun.title()} returned?", r"are returned within"),
    )[i % 2]
    shop.add(("fetch", {"url": f"https://shop.example.org/{noun}"}), asks, text, [gold])


def _cells(rng: random.Random, i: int) -> tuple[list[str], str, str]:
    """Sources of cells; the name of what fails, and the last words of its error."""
    noun = f"{rng.choice(nouns(rng, 9))}_{i}"
    cells = [f"rows = list(range({rng.randint(50, 90)}))\nlimit = {rng.randint(2, 9)}"]
    for name in actions(rng, 26):
        cells.append(
            f"def {name}(rows):\n    # {sentence(rng, 6)}\n    return [row * {rng.randint(2, 9)} "
            f"for row in rows]\n\n{name}(rows)[:{rng.randint(4, 18)}]"
        )
    cells.insert(rng.randint(8, 20), f"frame = {{'id': rows}}\nframe['{noun}']")
    return cells, noun, f"KeyError: '{noun}'"


def _run_notebook(shop: Workshop, name: str, i: int) -> tuple[Path, str, str]:
    """A notebook that was run: its folder, what fails, and how that ends."""
    rng = shop.rng(name)
    cells, noun, ends = _cells(rng, i)
    book = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{n}",
                "metadata": {},
                "execution_count": None,
                "outputs": [],
                "source": source,
            }
            for n, source in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    folder = shop.project(name, {"study.ipynb": json.dumps(book)})
    run = "jupyter nbconvert --to notebook --execute --allow-errors --inplace study.ipynb"
    shop.run(run, folder, {"IPYTHONDIR": str(folder), "NO_COLOR": "1"})
    return folder, noun, ends


def _add_notebook(shop: Workshop, i: int) -> None:
    folder, noun, _ = _run_notebook(shop, f"notebook{i}", i)
    book = json.loads(shop.run("cat study.ipynb", folder))
    for cell in book["cells"]:  # colours of a terminal are most of a traceback
        for output in cell["outputs"]:
            if "traceback" in output:
                output["traceback"] = [f"KeyError: '{noun}'"]
    text = json.dumps(book, indent=1) + "\n"
    gold = label_values(text, lambda v: v.get("output_type") == "error")
    asks = (f"Which error has the cell of {noun}?", "Does a cell fail?")[i % 2]
    path = f"/home/dev/notebook{i}/study.ipynb"
    shop.add(("read_file", {"path": path}), asks, text, gold, (), ({"rule": "json"},))


def _add_markdown(shop: Workshop, i: int) -> None:
    folder, noun, ends = _run_notebook(shop, f"markdown{i}", i)
    command = "jupyter nbconvert --to markdown --stdout study.ipynb"
    text = shop.run(f"{command} 2>/dev/null", folder)
    gold = [rf"{ends}$"]
    shop.add(bash(command), f"What happens to {noun}?", text, gold, gold)
