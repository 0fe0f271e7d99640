"""Segmentation of what is no prose: code, tables, headings, lists, JSON, HTML."""

from __future__ import annotations

import json

import pytest

from tamis.text.units.segment import sentence_starts
from tests.text.segment_kit import kinds, visible_texts


def test_a_short_fence_is_one_piece_of_code() -> None:
    fence = "```python\nx = 1\n\n# not a heading\n- no item\n```"
    assert kinds(f"Look.\n{fence}\nDone.") == [
        ("sentence", "Look."),
        ("code", fence),
        ("sentence", "Done."),
    ]


def test_a_long_fence_is_cut_at_blank_lines_and_then_at_lines() -> None:
    small, big = "a = 1\n" * 50, "b = 22\n" * 300
    pieces = kinds(f"~~~\n{small}\n{big}~~~\n")
    assert [kind for kind, _ in pieces] == ["code"] * len(pieces)
    assert pieces[0][1] == f"~~~\n{small}".strip()
    assert {line for _, code in pieces[1:] for line in code.split("\n")} == {"b = 22", "~~~"}


def test_a_fence_cut_off_above_does_not_swallow_what_follows() -> None:
    assert kinds("x = 1\n```\n\n# Next\n") == [
        ("sentence", "x = 1"),
        ("code", "```"),
        ("heading", "# Next"),
    ]


def test_a_table_has_one_header_and_a_piece_for_each_row() -> None:
    assert kinds("Before:\n| a | b |\n|---|:-:|\n| 1 | 2. X |\n| 3 | 4 |\nAfter.") == [
        ("sentence", "Before:"),
        ("table_header", "| a | b |\n|---|:-:|"),
        ("table_row", "| 1 | 2. X |"),
        ("table_row", "| 3 | 4 |"),
        ("sentence", "After."),
    ]


def test_headings_are_pieces_of_their_own() -> None:
    text = "# One\nText.\n\nTwo\n===\n\n=====\nThree\n=====\n\nFour\n~~~~\n\nText."
    assert [piece for kind, piece in kinds(text) if kind == "heading"] == [
        "# One",
        "Two\n===",
        "=====\nThree\n=====",
        "Four\n~~~~",
    ]


def test_a_list_item_keeps_its_wrapped_lines_and_a_long_one_is_read_by_sentence() -> None:
    assert kinds("- One. Two\n  three.\n* Four\n2) Five") == [
        ("list_item", "- One. Two\n  three."),
        ("list_item", "* Four"),
        ("list_item", "2) Five"),
    ]
    sentence = "The quick brown fox jumps over the lazy dog and runs away."
    assert kinds("- " + " ".join([sentence] * 8)) == [
        ("list_item", f"- {sentence}"),
        *[("list_item", sentence)] * 7,
    ]


def test_a_number_at_the_start_of_a_wrapped_line_is_no_list_item() -> None:
    text = "All that is told in this book happened in the year of our Lord\n1789. Then it ended."
    assert {kind for kind, _ in kinds(text)} == {"sentence"}
    assert [s.count("\n") for s in visible_texts(text)] == [1, 0]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_cut_at_its_top_members_and_deeper_where_one_is_long(indent: int | None) -> None:
    data = {
        "a": {"x": [1, 2, 3], "y": "},{"},
        "b": {f"k{n}": "v" * 300 for n in range(6)},
        "c": None,
    }
    pieces = kinds(json.dumps(data, indent=indent))
    assert {kind for kind, _ in pieces} == {"json"}
    keys = [piece.lstrip("{ \n").split('"')[1] for _, piece in pieces]
    assert keys == ["a", "b", *(f"k{n}" for n in range(1, 6)), "c"]


def test_json_lines_are_one_piece_each() -> None:
    lines = ['{"a": 1}', '{"b": "x. Y"}']
    assert kinds("\n".join(lines)) == [("json", line) for line in lines]


def test_what_only_starts_like_json_is_read_as_text() -> None:
    assert kinds("[1] Smith said so. He lied.")[0] == ("sentence", "[1] Smith said so.")


def test_html_is_cut_at_block_tags_and_knows_rows_headers_headings_and_code() -> None:
    page = (
        "<html><body><h1>Title</h1><p>One <b>two</b>.</p><pre>a &lt; b\n\n<p>c</pre>"
        "<table><thead><tr><th>n</th></tr></thead><tbody><tr><td><p>1</p></td></tr>"
        "<tr><td>2</td></tr></tbody></table><ul><li>x<li>y</ul></body></html>"
    )
    assert kinds(page) == [
        ("heading", "<html><body><h1>Title</h1>"),
        ("html", "<p>One <b>two</b>.</p>"),
        ("code", "<pre>a &lt; b\n\n<p>c</pre>"),
        ("table_header", "<table><thead><tr><th>n</th></tr></thead>"),
        ("table_row", "<tbody><tr><td><p>1</p></td></tr>"),
        ("table_row", "<tr><td>2</td></tr></tbody></table>"),
        ("html", "<ul><li>x"),
        ("html", "<li>y</ul></body></html>"),
    ]


def test_prose_around_an_html_table_is_still_read_by_sentence() -> None:
    assert kinds("<table><tr><td>1</td></tr></table>\n\nOne is. Two is.")[1:] == [
        ("sentence", "One is."),
        ("sentence", "Two is."),
    ]


def test_source_code_without_fences_is_cut_between_definitions() -> None:
    parts = ["import os", "def f(x):\n    y = os.stat(x)\n\n    return y", "class A(B):\n    pass"]
    assert kinds("\n\n\n".join(parts)) == [("code", part) for part in parts]


def test_verse_that_ends_in_commas_is_not_code() -> None:
    verse = "Shall I compare thee to a day?\nThou art more lovely:\nRough winds do shake,\nAnd so;"
    assert {kind for kind, _ in kinds(verse)} == {"sentence"}


@pytest.mark.parametrize(
    "text",
    [
        "5.1.2. The tenant shall pay.",
        "5.1.2 Interest shall accrue at four percent; and\n\nIt does.",
        "5.1.2. The tenant and the landlord shall agree upon the\nrent.",
        "3.2.1 Every failed login\n3.2.2 Every reset of a password\n\nNothing else.",
        "1.1. Patent License. Subject to the terms of this License, each\nContributor grants.",
        "10.4.1. Distributing Source Code Form that is Incompatible With Secondary\nLicenses",
        "Termine:\n\n12.03.19 Treffen mit Anna\n\nDanach essen wir.",
        "Hosts:\n\n10.0.0.1 Gateway in building A\n\nThe rest is elsewhere.",
        "2.4 GHz\n\nIt is fast.",
        "1. Peel\n\nThen cook.",
        "Use 3.11.2 From\n\nnow on.",
        "5.1.2 Nothing stands below it",
    ],
)
def test_clauses_lists_dates_addresses_and_quantities_are_no_headings(text: str) -> None:
    assert "heading" not in {kind for kind, _ in kinds(text)}


SESSION = """>>> while True print(1)
  File "<stdin>", line 1
    while True print(1)
               ~~~~~^^^
SyntaxError: invalid syntax
>>> for x in y:
...     print(x)
...
TypeError: can only concatenate str (not "int") to str"""


@pytest.mark.parametrize("after", ["", "\nThe parser repeats it.", "\n\nNext."])
def test_a_session_is_code_until_a_blank_line_prose_or_a_heading(after: str) -> None:
    found = kinds(f"An error is printed as:\n{SESSION}{after}")
    assert found[:2] == [("sentence", "An error is printed as:"), ("code", SESSION)]
    assert [piece for _, piece in found[2:]] == ([after.strip()] if after else [])


def test_a_long_session_is_cut_before_statements() -> None:
    steps = [f">>> f({i})\n{'x' * 80}" for i in range(12)]
    found = kinds("\n".join(steps))
    assert {kind for kind, _ in found} == {"code"}
    assert len(found) == 3
    assert all(piece.startswith(">>> ") for _, piece in found)


@pytest.mark.parametrize("mark", ["> ", ">> ", "> > "])
def test_what_is_quoted_has_blocks_and_no_piece_is_empty(mark: str) -> None:
    blocks = [
        ("heading", "## Prices"),
        ("table_header", "| item | price |\n|---|---|"),
        ("table_row", "| desk | 120 |"),
        ("table_row", "| lamp | 40 |"),
        ("list_item", "- The desk is oak."),
        ("list_item", "- The lamp is dimmed."),
        (
            "sentence",
            "Call us before five if you want the desk to be\nbrought to you on the same day.",
        ),
    ]
    quoted = [(kind, mark + text.replace("\n", f"\n{mark}")) for kind, text in blocks]
    empty = f"\n{mark.rstrip()}\n"
    text = "\n".join(text for _, text in quoted[:4]) + empty
    text += "\n".join(text for _, text in quoted[4:6]) + empty + quoted[6][1]
    found = kinds("Ann wrote:\n\n" + text + "\n\nThey are sold.")
    assert [(kind, text.removesuffix(empty[:-1])) for kind, text in found] == [
        ("sentence", "Ann wrote:"),
        *quoted,
        ("sentence", "They are sold."),
    ]


def test_mail_that_is_quoted_three_times_is_prose() -> None:
    text = ">>> I have not seen it on the list.\n>>> Has anybody?"
    assert {kind for kind, _ in kinds(text)} == {"sentence"}


def test_mail_with_code_that_is_quoted_three_times_is_mail() -> None:
    text = (
        "Alice wrote:\n>>> for the record, the budget was approved.\n>>> Bob pays - in March.\n"
        ">>> if nobody objects, we sign.\n>> I object.\n> Then call f(x) later.\n"
    )
    assert "code" not in {kind for kind, _ in kinds(text)}
    assert "code" not in {kind for kind, _ in kinds(">> look:\n>>> f(x) = 1\n>> no\n")}


@pytest.mark.parametrize("prose", ["Die Funktion braucht keine Argumente.", "它不需要参数。"])
def test_a_session_ends_before_a_sentence_in_any_language(prose: str) -> None:
    assert kinds(f">>> os.getcwd()\n'/tmp'\n{prose}") == [
        ("code", ">>> os.getcwd()\n'/tmp'"),
        ("sentence", prose),
    ]


@pytest.mark.parametrize(
    "title",
    [
        "Installation\n~~~~~~~~~~~~~~~~~~~~~~~~~~~~",
        "安装说明\n~~~~~~~~",
        "1. Introduction\n~~~~~~~~~~~~~~~",
        "~~~~~~~\nUsage\n~~~~~~~",
    ],
)
def test_a_rule_of_tildes_is_no_fence(title: str) -> None:
    assert kinds(f"{title}\n\nInstall it. It works.\n\nUsage\n~~~~~~~~~\n\nCall it.") == [
        ("heading", title),
        ("sentence", "Install it."),
        ("sentence", "It works."),
        ("heading", "Usage\n~~~~~~~~~"),
        ("sentence", "Call it."),
    ]


def test_what_parts_scenes_or_points_at_code_opens_no_fence() -> None:
    warning = "t.c:5: warning: x\n    if (strlen(s) == -1)\n        ~~~~~~~~~ ^  ~~\n1 warning."
    for text in (
        "He left.\n\n~~~\n\nShe came.\n\n~~~\n\nIt rained.",
        f"{warning}\n\nHow to fix it. Use a cast.",
        "~~~ Alice ~~~\nHello there.\n\nGood day.",
        "a.ts(1,2): error\n\nconst x = y;\n      ~~~~~~\n\nThe name is wrong. Mend it.",
    ):
        assert "code" not in {kind for kind, _ in kinds(text)}, text
    assert kinds("Run:\n~~~ bash\nls\n~~~\nDone.")[1] == ("code", "~~~ bash\nls\n~~~")
    assert kinds("Run:\n~~~\nls\n~~~\nDone.")[1] == ("code", "~~~\nls\n~~~")


@pytest.mark.parametrize(
    "text",
    [
        "```\n" + " " * 401 + "\n```\nDone.",
        "See:\n\n.. code-block:: python\n" + "\n" * 400,
        "Intro.\n\n```python\n" + "\n" * 400,
        "<p>a</p><pre>" + "x" * 401 + "\n\n",
        "```" + "x" * 401 + "\n\n```",
    ],
)
def test_code_without_a_visible_line_is_read(text: str) -> None:
    shown = "".join(piece for _, piece in kinds(text))
    assert "".join(shown.split()) == "".join(text.split())


def test_a_byte_order_mark_hides_no_first_block() -> None:
    assert [kind for kind, _ in kinds("\ufeff# Keys\n\nText.")] == ["heading", "sentence"]
    assert [kind for kind, _ in kinds("\ufeff```\nx\n```\nText.")] == ["code", "sentence"]


def test_a_bold_sentence_ends_behind_its_signs() -> None:
    assert visible_texts("**New.** It is fast. Then _so._ Done.") == [
        "**New.**",
        "It is fast.",
        "Then _so._",
        "Done.",
    ]


def test_comments_right_below_each_other_are_prose_and_a_setting_is_a_line_of_its_own() -> None:
    text = (
        "# Whether to explain what is done. The default value is\n# 0.\n#\n# VERBOSE=0\n\n"
        "# Files are looked for in this order:\n#  1. those of the user\n#  2. those of all\n"
        "# The first one counts.\n"
    )
    assert kinds(text) == [
        ("sentence", "# Whether to explain what is done."),
        ("sentence", "The default value is\n# 0."),
        ("sentence", "#"),
        ("sentence", "# VERBOSE=0"),
        ("sentence", "# Files are looked for in this order:"),
        ("list_item", "#  1. those of the user"),
        ("list_item", "#  2. those of all"),
        ("sentence", "# The first one counts."),
    ]
    wrapped = (
        "# NOTE: Mail of users is no longer delivered to any of these\n#       files, as of now.\n"
        "#   Directory where mailboxes reside, or file name, relative to the\n"
        "#   home directory.  If you do define MAIL_DIR and MAIL_FILE,\n"
        "#   MAIL_DIR takes precedence.\n"
    )
    assert [text for _, text in kinds(wrapped)] == [
        "# NOTE: Mail of users is no longer delivered to any of these\n#       files, as of now.",
        "#   Directory where mailboxes reside, or file name, relative to the\n#   home directory.",
        "If you do define MAIL_DIR and MAIL_FILE,\n#   MAIL_DIR takes precedence.",
    ]
    headings = "# Handbook\n## Files\nThey are looked for in your home.\n"
    assert [kind for kind, _ in kinds(headings)] == ["heading", "heading", "sentence"]


@pytest.mark.parametrize("number", ["1.", "2)", "b.", "#."])
def test_the_number_of_a_long_item_is_no_sentence(number: str) -> None:
    first = f"{number} Set the size in reportly.conf and restart the service, but not the main one."
    item = f"{first} It needs more memory per export and a lot more time than before."
    assert list(sentence_starts(item, 0, len(item), "en")) == [0, len(first) + 1]


def test_a_name_with_a_dot_before_capitals_is_whole() -> None:
    line = "The call ended with httpx.HTTPStatusError and was not made again by anybody."
    assert list(sentence_starts(line, 0, len(line), "en")) == [0]


LABS = """\
TEST                     RESULT   FLAG   UNITS
CBC W/ DIFF
  WBC                    5.9             10^3/uL
  HGB                    10.9     L      g/dL

IRON STUDIES
  IRON, TOTAL            28       L      ug/dL

VITAMIN D, 25-OH         19       L      ng/mL

NOTE 1: Specimen hemolyzed.
"""
DISKS = """\
ops@web03:~$ df -h
Filesystem                         Size  Used Avail Use% Mounted on
udev                               7.8G     0  7.8G   0% /dev
/dev/mapper/ubuntu--vg-ubuntu--lv   98G   89G  4.1G  96% /
ops@web03:~$ free -m
               total        used        free
Mem:           15884       11032         611
Swap:           2047        2047           0
"""


def test_columns_below_each_other_are_a_table_with_names_of_rows_and_blank_lines_in_it() -> None:
    found = kinds(LABS)
    assert found[0] == ("table_header", LABS.splitlines()[0])
    rows = [line.strip() for line in LABS.splitlines()[1:-2] if line]
    assert [piece for kind, piece in found[1:-1]] == rows
    assert {kind for kind, _ in found[1:-1]} == {"table_row"}
    assert found[-1] == ("sentence", "NOTE 1: Specimen hemolyzed.")


def test_a_table_begins_below_the_command_that_printed_it() -> None:
    assert [kind for kind, _ in kinds(DISKS)] == [
        *("sentence", "table_header", "table_row", "table_row"),
        *("sentence", "table_header", "table_row", "table_row"),
    ]
    prose = (
        "B  Lay a tile next to one that is there. Pay what it costs.\nC  Build up to 3 sticks.\n"
    )
    assert "table_header" not in dict(kinds(prose + "D  Draw 2 cards from the stack.\n"))
    keys = "Bank:     Willamette Union\nRouting:  323075880\nAccount:  0040 118 227\n"
    assert "table_header" not in dict(kinds(keys))


def test_a_table_in_a_frame_has_a_header_and_rows_one_or_many_lines_high() -> None:
    drawn = (
        "+----+------+\n| T  | Wait |\n+----+------+\n| T1 | 1 s  |\n| T2 | 2 s  |\n+----+------+\n"
    )
    lines = drawn.splitlines()
    assert kinds(drawn) == [
        ("table_header", "\n".join(lines[:3])),
        ("table_row", lines[3]),
        ("table_row", "\n".join(lines[4:])),
    ]
    rule, double = "+----+-----+\n", "+====+=====+\n"
    rows = f"| 1  | two |\n|    | lines |\n{rule}| 3  | 4   |\n{rule}"
    high = f"{rule}| a  | b   |\n{double}{rows}"
    starts = [piece[:6] for kind, piece in kinds(high) if kind == "table_row"]
    assert starts == ["| 1  |", "| 3  |"]
    packet = "+-+-+-+-+\n|Ver|Type|\n+-+-+-+-+\n"
    assert {kind for kind, _ in kinds(packet)} == {"sentence"}


def test_titles_of_latex_mediawiki_asciidoc_and_commits_are_headings() -> None:
    for title in (
        "\\section{Results}\\label{sec:results}",
        "\\subsubsection*{Drift}",
        "== History ==",
        "=== Closure ===",
        "== Restoring files",
        "commit 7be20f4d1c8a (HEAD -> main)",
    ):
        assert kinds(f"{title}\nIt was closed in 2003.\n")[0] == ("heading", title)
    assert kinds("[[restore]]\n== Restoring\n. Sign in.\n. Open it.\n")[1:] == [
        ("heading", "== Restoring"),
        ("list_item", ". Sign in."),
        ("list_item", ". Open it."),
    ]
    assert "heading" not in dict(kinds("x == y\n== y\n"))


def test_numbers_and_times_of_subtitles_are_apart_from_what_is_said() -> None:
    cues = ("1\n00:00:01,200 --> 00:00:04,000", "2\n00:00:04,100 --> 00:00:07,900")
    text = f"{cues[0]}\nFor rust I use acid,\n\n{cues[1]}\nfifty grams.\n"
    parts = [cues[0], "For rust I use acid,", cues[1], "fifty grams."]
    assert [piece for _, piece in kinds(text)] == parts


def test_messages_of_an_exported_chat_are_entries_whoever_sent_them() -> None:
    lines = [
        "12/05/2024, 18:02 - Messages are encrypted.",
        "12/05/2024, 18:09 - +44 7700 900123: Do we need sheets?",
        "12/05/2024, 18:10 - Marta: Blankets are there",
    ]
    assert kinds("\n".join(lines)) == [("entry", line) for line in lines]
    said = "**@annika-b** commented on Jan 19 · edited\n\nIt works.\n\n"
    said += "**@tk** commented on Jan 21\n\nNo.\n"
    assert [kind for kind, _ in kinds(said)] == ["entry", "entry"]


MANUAL = """\
全自動洗濯機 かんたんガイド

■ 仕様
項目　　　　　　　NW-D120　　　　NW-D100
洗濯容量　　　　　12kg　　　　　　10kg
乾燥容量　　　　　6kg　　　　　　　5kg

■ コース
・標準：ふだんの衣類。約35分。
・毛布：4.2kgまで。

一、安全须知
1. 本产品仅限室内使用。
2. 儿童不得单独操作。

5.2 更换故障盘
（1）定位：查看指示灯。红色表示故障。
（2）下线：等待重建完成。

【注意】
熱湯をかけないでください。

特別損益
石巻工場の閉鎖を決定したため、減損損失を計上しました。
"""


def test_points_and_tables_of_east_asian_texts() -> None:
    found = kinds(MANUAL)
    assert [text for kind, text in found if kind == "list_item"] == [
        "■ 仕様",
        "■ コース",
        "・標準：ふだんの衣類。約35分。",
        "・毛布：4.2kgまで。",
        "1. 本产品仅限室内使用。",
        "2. 儿童不得单独操作。",
        "（1）定位：查看指示灯。红色表示故障。",
        "（2）下线：等待重建完成。",
    ]
    rows = MANUAL.splitlines()[3:6]
    assert found[2:5] == list(zip(("table_header", "table_row", "table_row"), rows, strict=True))


@pytest.mark.parametrize(
    "text",
    [
        "■ 排水できません\n■ 給水できません\n■ ドアが開いています",  # points, and no titles
        "1、苹果\n2、香蕉\n3、橘子",
        "① 電源を切る\n② 水を抜く",
        "● Relay module\n● Power supply",
    ],
)
def test_lines_with_signs_or_numbers_alike_are_points(text: str) -> None:
    assert kinds(text) == [("list_item", line) for line in text.splitlines()]


@pytest.mark.parametrize(
    "text",
    [
        "本社は移転します。\n詳細は後日お知らせします。",
        "2025年6月2日\n本社は七月に移転します。",
        "as the court held in its decision under paragraph\n(2) of the same section, and so on.",
    ],
)
def test_a_line_of_prose_is_no_east_asian_title(text: str) -> None:
    assert "heading" not in [kind for kind, _ in kinds(text)]


RULES = """\
（手当）
第9条 在宅勤務者が負担する自宅の水道光熱費及び通信費の
補助として、在宅勤務手当を1日につき250円支給する。ただ
し、月額4,000円を上限とする。
2 前項の手当は、翌月の給与で支払う。

제1장 총칙

□ 지원제외
○ 국세 체납 중인 자
○ 프랜차이즈 직영점

3. 지원내용
"""


def test_lines_of_east_asian_text_that_were_broken_at_the_margin_go_on() -> None:
    found = kinds(RULES)
    assert [text.replace("\n", "") for kind, text in found if kind == "sentence"][1:4] == [
        "第9条 在宅勤務者が負担する自宅の水道光熱費及び通信費の"
        "補助として、在宅勤務手当を1日につき250円支給する。",
        "ただし、月額4,000円を上限とする。",
        "2 前項の手当は、翌月の給与で支払う。",
    ]


@pytest.mark.parametrize(
    "chat",
    [
        ["10:12\tまゆみ\t日程は？", "10:14\tけんた\t16日で決まり", "10:17\tまゆみ\tはい"],
        ["[최미란] [오전 9:12] 얼마예요?", "[총무 박선영] [오전 9:15] 9만원이에요"],
    ],
)
def test_messages_of_east_asian_chats_are_entries(chat: list[str]) -> None:
    assert kinds("トーク\n\n" + "\n".join(chat))[1:] == [("entry", line) for line in chat]
