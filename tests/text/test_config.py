"""Settings as plain text are cut at sections and keys; prose with colons is not."""

from __future__ import annotations

import pytest

from tamis.text.readers.code import CODE_CHARS
from tests.text.segment_kit import kinds, visible_texts

YAML = [
    "# where it listens. Read at start.\nserver:\n  host: 0.0.0.0\n  port: 80",
    "logging:\n  level: info\n  handlers:\n    - file\n    - console",
    "steps:\n- run: make. Then test.\n  with: x\n- run: ship",
    "note: |\n  Any text. With\n  two sentences.",
]
INI = [
    "timeout = 3",
    "[server]\nhost = 0.0.0.0\n# all of them. Really.\nport = 80",
    "; who asks\n[client]\nname = A. B",
]
TOML = [
    '[project]\nname = "tamis"\nurls = { home = "https://a.b" }',
    '[[tool.x]]\nkeys = [\n  "a",\n]',
]
ENV = ["# the database\nDB_URL=postgres://a.b/c", "export KEY=abc", "DEBUG=1. Yes."]
FLAT = ["name: tamis", "version: 1.0", "description: Compresses. And ranks", "licence: MIT"]


@pytest.mark.parametrize("parts", [YAML, INI, TOML, ENV, FLAT])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_section_or_a_key_with_what_it_holds_is_one_piece(parts: list[str], end: str) -> None:
    text = "\n".join(parts).replace("\n", end)
    assert kinds(text) == [("code", part.replace("\n", end)) for part in parts]


def test_a_long_key_is_cut_at_the_next_level_and_is_a_piece_before_its_children() -> None:
    services = [
        f"{name}:\n    image: {name}\n    text: {'word ' * 30}end"
        for name in ("web", "db", "queue")
    ]
    text = "services:\n  " + "\n  ".join(services) + "\nversion: 3"
    assert len(text) > CODE_CHARS
    assert visible_texts(text) == ["services:", *services, "version: 3"]


def test_a_long_section_keeps_its_name_with_its_first_key() -> None:
    keys = [f"key{n} = {'v' * 60}" for n in range(12)]
    pieces = visible_texts("[long]\n" + "\n".join(keys) + "\n[short]\na = 1\nb = 2")
    assert pieces[0].startswith("[long]\nkey0 = ")
    assert pieces[-1] == "[short]\na = 1\nb = 2"
    assert max(map(len, pieces)) <= CODE_CHARS


@pytest.mark.parametrize(
    "prose",
    [
        "Note: this is one. See it.\nWarning: it is hot. Very.\nTip: take care. Do.",
        "BACKGROUND: We did. It was.\n\nMETHODS: One. Two.\n\nRESULTS: Yes. No.",
        "Pros:\n- cheap. Very.\n- fast\n\nCons:\n- slow\n\nVerdict:\n- fine",
        "From: Anna\nTo: Ben\nSubject: Hello\n\nDear Ben. How are you?",
        "apple: A fruit. It is red.\nbanana: It is yellow.\npear: It is green.",
        "There are two rules: be kind.\n  And one more: be brief.\nThat is all: go.",
    ],
)
def test_prose_with_colons_is_prose(prose: str) -> None:
    assert "code" not in {kind for kind, _ in kinds(prose)}
    assert any(piece.count(". ") == 0 for piece in visible_texts(prose))


CRON = """# Jobs of the file server.
SHELL=/bin/bash

# nightly copy, kept for two weeks
15   1  *   *   *    snap create tank/home --keep 14
# quotas
*/20 *  *   *   *    quota-watch --warn 90

@reboot              sleep 60 && mount-archive
"""
DOCKER = """# syntax=docker/dockerfile:1.7
FROM python:3.12-slim
# the fonts are drawn with Pango
RUN apt-get update \\
    && apt-get install -y libpango-1.0-0
USER nobody
# one minute for a report
CMD ["serve", "--port", "8087"]
"""
BLOCKS = """variable "retention_days" {
  description = "Days until originals move."
  default     = 90
}

output "originals_arn" {
  value = aws_s3_bucket.originals.arn
}
"""


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (CRON, ["# Jobs", "# nightly", "# quotas", "@reboot"]),
        (DOCKER, ["# syntax", "# the fonts", "USER", "# one minute"]),
        (BLOCKS, ["variable", "output"]),
    ],
)
def test_a_statement_with_the_comment_above_it_is_one_piece(text: str, parts: list[str]) -> None:
    assert {kind for kind, _ in kinds(text)} == {"code"}
    begins = [one[: len(part)] for one, part in zip(visible_texts(text), parts, strict=True)]
    assert begins == parts


@pytest.mark.parametrize(
    "notes",
    [
        "# Trip\nWe leave at nine = early.\n# Costs\nEach of us pays half of the petrol.\n",
        "# 1.2\n- Added /login\n\n# 1.1\n- Fixed --quiet\n",
        "# Setup\nmake install\n\n## Start\n./run --all\n\n# Stop\nkill -9 1\n",
        "# Setup\n\n```sh\n./run --all\n```\n\n# Stop\n\nkill -9 1\n",
    ],
)
def test_headings_above_notes_are_no_comments(notes: str) -> None:
    assert "heading" in dict(kinds(notes))


DESCRIBED = """Name:         web-1
Labels:       app=web
              tier=front
Init Containers:
  migrate:
    Last State:  Terminated
      Reason:    Completed
    Limits:
      memory:  64Mi
QoS Class:    Burstable
"""
EVENTS = """Events:
  Type     Reason   Age   Message
  ----     ------   ----  -------
  Warning  Failed   54m   no image
NAME    TARGETS   REPLICAS   AGE
web     84%/70%   12         211d
promo   22%/60%   2          97d
"""


def test_nested_keys_among_other_lines_are_cut_as_configuration_is() -> None:
    found = kinds(f"$ kubectl describe pod web-1\n{DESCRIBED}{EVENTS}")
    assert found[0] == ("sentence", "$ kubectl describe pod web-1")
    keys = [text for kind, text in found if kind == "code"]
    assert keys[1] == "Labels:       app=web\n              tier=front"
    assert keys[2].startswith("Init Containers:\n  migrate:")
    assert keys[-1] == "QoS Class:    Burstable"
    tables = [(kind, text.split()[0]) for kind, text in found if kind.startswith("table")]
    assert tables == [
        ("table_header", "Type"),
        ("table_row", "Warning"),
        ("table_header", "NAME"),
        ("table_row", "web"),
        ("table_row", "promo"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "Args:\n  name: Of the user.\n  age: In years.\nReturns:\n  row: As found.\n  n: It.\n",
        "Anna: How are you?\n  I am.\nBen: Fine.\n  Really.\nAnna: Good.\n  Bye.\nBen: Bye.\n",
        "To: Ben\nFrom: Anna\nDate: Monday\n\nWe meet at nine.\n",
    ],
)
def test_what_people_write_below_names_is_no_configuration(text: str) -> None:
    assert "code" not in dict(kinds(f"It is so.\n\n{text}"))
