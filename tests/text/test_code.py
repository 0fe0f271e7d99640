"""Where code is cut: whole when short, else between definitions, paragraphs, statements, lines."""

from __future__ import annotations

import json

import pytest

from tamis.text.readers.code import CODE_CHARS, code_marks, piece_starts
from tamis.text.units.segment import segment
from tests.text.segment_kit import kinds, visible_texts

METHODS = [
    f"    @cached\n    # {name}th\n    def {name}(self, x):\n        y = f(x)\n\n        return y"
    for name in ("four", "six", "seven", "nine", "ten")
]
HEAD = '    """Counts what it is given."""\n\n    limit = 10'
CLASS = "\n\n".join([f"class Counter:\n{HEAD}", *METHODS])


def fence(code: str, info: str = "python") -> str:
    return f"```{info}\n{code}\n```"


def test_a_class_is_cut_between_its_methods_each_with_its_decorators_and_comment() -> None:
    assert len(CLASS) > CODE_CHARS
    pieces = visible_texts(fence(CLASS))
    assert pieces[0] == f"```python\nclass Counter:\n{HEAD}"
    assert pieces[1:] == [*(m.lstrip() for m in METHODS[:-1]), f"{METHODS[-1].lstrip()}\n```"]


def test_bare_code_is_cut_as_fenced_code_is() -> None:
    bare = f"import os\nfrom sys import path\n\n\n{CLASS}\n"
    assert visible_texts(bare)[1:] == [
        f"class Counter:\n{HEAD}",
        *(m.lstrip() for m in METHODS),
    ]


def test_code_in_pre_is_cut_and_its_tags_stay_with_it() -> None:
    steps = [f"$ tamis step {n}\ndone with {'x' * 60}" for n in range(8)]
    page = "<p>Look.</p><pre>\n{}\n</pre><p>End.</p>"
    assert kinds(page.format("\n\n".join(steps))) == [
        ("html", "<p>Look.</p>"),
        ("code", f"<pre>\n{steps[0]}"),
        *(("code", step) for step in steps[1:-1]),
        ("code", f"{steps[-1]}\n</pre>"),
        ("html", "<p>End.</p>"),
    ]
    assert len(kinds(page.format("\n\n".join(steps[:3])))) == 3


def test_a_long_definition_keeps_its_first_line_with_the_first_statement_of_its_body() -> None:
    body = "\n\n".join(f"    a{n} = f({n})\n    b{n} = g(a{n})" for n in range(30))
    head = "def total(\n    items: list[int],\n    rate: float,\n) -> float:"
    pieces = visible_texts(fence(f"{head}\n{body}"))
    assert pieces[0].startswith(f"```python\n{head}\n    a0 = f(0)\n    b0")
    assert all(piece.startswith("a") for piece in pieces[1:])  # none parts a paragraph
    assert all(CODE_CHARS / 2 < len(piece) < CODE_CHARS + 10 for piece in pieces)  # the fence


def test_definitions_without_a_blank_line_between_them_are_separate() -> None:
    functions = [f"fn f{n}(x: u8) -> u8 {{\n    let y = x + {n};\n    y * y\n}}" for n in range(9)]
    pieces = visible_texts(fence("\n".join(functions), "rust"))
    assert len("\n".join(functions)) > CODE_CHARS
    assert len(pieces) == len(functions)
    assert pieces[1] == functions[1]


def test_else_and_closing_brackets_stay_with_what_they_end() -> None:
    part = "if (a) {\n  b(1);\n} else {\n  c(2);\n}"
    pieces = visible_texts(fence("\n".join([part] * 30), "js"))
    assert all(piece.startswith(("if", "```js\nif")) for piece in pieces)
    assert all(piece.endswith(("}", "}\n```")) for piece in pieces)


def test_a_text_in_triple_quotes_is_not_taken_for_statements() -> None:
    text = "\n".join(f"    line {n} of the text" for n in range(6))
    code = "\n".join(f'    a{n} = """\n{text}\n    """\n    b{n} = 1' for n in range(4))
    pieces = visible_texts(fence(f"def f():\n{code}"))
    assert len(pieces) > 1
    assert {piece.count('"""') % 2 for piece in pieces} == {0}


def test_fences_are_never_alone() -> None:
    for size in range(380, 420):
        code = "x = 1\n" * (size // 6) + "y" * (size % 6)
        assert {"```python", "```"} & {*visible_texts(fence(code))} == set()


def test_code_that_cannot_be_parted_is_cut_at_lines() -> None:
    rows = [f'  "word number {n}",' for n in range(60)]
    pieces = visible_texts(fence("\n".join(["words = [", *rows, "]"])))
    assert max(map(len, pieces)) <= CODE_CHARS + len("```python\n")
    lines = {line.strip() for piece in pieces for line in piece.split("\n")}
    assert lines >= {row.strip() for row in rows}


@pytest.mark.parametrize("bare", [True, False])
def test_members_of_json_are_cut_deeper_where_they_are_long(bare: bool) -> None:
    data = {"a": 1, "b": {f"k{n}": {"text": "v" * 250, "n": n} for n in range(4)}, "c": None}
    text = json.dumps(data, indent=2)
    pieces = [
        piece for piece in visible_texts(text if bare else fence(text, "json")) if '"text"' in piece
    ]
    assert max(map(len, pieces)) <= CODE_CHARS
    assert ["b" if '"b"' in piece else piece.split('"')[1] for piece in pieces] == [
        *("b", "k1", "k2", "k3")
    ]


def test_code_of_restructuredtext_is_code_up_to_the_line_that_is_not_indented() -> None:
    code = ".. code-block:: python\n   :linenos:\n\n   x = 1\n\n   y = f(x). z"
    assert kinds(f"Look.\n\n{code}\n\nDone.") == [
        ("sentence", "Look."),
        ("code", code),
        ("sentence", "Done."),
    ]


def test_tables_of_sql_are_code_and_a_comment_is_with_its_statement() -> None:
    columns = "".join(f"    column_{i} text NOT NULL DEFAULT 'none',\n" for i in range(12))
    text = (
        f"CREATE TABLE loans (\n{columns}    due_on date\n);\n\n"
        "-- a copy is out once\nCREATE UNIQUE INDEX one ON loans (barcode);\n"
    )
    found = segment(text)
    assert {piece.kind for piece in found} == {"code"}
    assert len(found) > 2
    assert text[slice(*found[-1].visible)].startswith("-- a copy is out once\nCREATE")
    assert {
        piece.kind for piece in segment("Please select and insert\nthe book,\nwhere it was.")
    } == {"sentence"}


def test_an_excerpt_of_prose_with_indented_code_is_no_source_file() -> None:
    text = (
        "# The same as a socket.\n\nTo use it everywhere:\n\n    import socket\n    import socks\n"
        "    from socks import handler\n\nIt is compatible with two types of proxies:\n\n"
        "1. SOCKS 4.\n2. SOCKS 5.\n\nA proxy is a server\nthat relays what passes through.\n"
    )
    assert code_marks(text) == []
    margin = text.replace("    import socket", "import socket")
    assert code_marks(margin) != []


def test_parts_of_nested_code_are_those_of_the_same_code_at_the_margin() -> None:
    flat = (
        'if (response.ok) {\n  emit("progress", index);\n  return;\n}\n'
        'if (response.status === 403) {\n  setState("failed");\n  throw new Error(`part`);\n}\n'
        "return sendPart(index);\n"
    )
    nested = "".join(f"    {line}" for line in flat.splitlines(keepends=True))
    parts = piece_starts(flat, 0, len(flat), 90)
    deeper = piece_starts(nested, 4, len(nested), 90 + 4 * 4)  # four lines have the blanks, too
    assert [flat[:at].count("\n") for at in parts] == [nested[:at].count("\n") for at in deeper]
    assert flat[parts[1] :].startswith("if (response.status === 403)")
