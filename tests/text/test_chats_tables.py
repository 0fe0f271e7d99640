"""Chats, logs and tables of values: the line is the unit, and says who speaks or what it means."""

from __future__ import annotations

import pytest

from tamis.text.readers.markdown import begins_entry
from tamis.text.units.segment import segment
from tests.text.segment_kit import kinds, visible_texts

ENTRIES = {
    "bracketed": [
        "[09:06] Anna: thanks. who rotates the key? it expires",
        "[09:07] Ben: Me. I do.",
    ],
    "behind": ["Anna (09:06): Hi. You there?", "Ben Lee (09:07): Yes. Here."],
    "nick and time": ["anna_k 09:06: hi. you there?", "ben 09:07: yes. here.", "dora 09:07 - me"],
    "dash": ["09:06 - Anna: Hi. You there?", "09:07 - Ben: Yes. Here."],
    "dated": ["2024-01-05 09:06 Anna: Hi. You?", "2024-01-05 09:07 Ben: Yes. Here."],
    "exported": [
        "05/01/2024, 9:06 pm - Anna: Hi. You?\nand more",
        "05/01/2024, 9:07 pm - Ben: No.",
    ],
    "roles": ["USER: Hello. How do I pay?", "ASSISTANT: By card. Go to Billing."],
    "nicks": ["<anna> hi. You there?", "<@ben> Yes. Here."],
    "names": ["Anna: Hi. You?", "Ben: Yes. Here.", "Anna: Good. Bye."],
    "stacked": ["Anna\n9:06 AM\nHi. You there?", "Ben Lee\n9:07 AM\nYes. Here."],
    "log": [
        "2024-05-01 10:00:00,123 INFO Started. Listening on port 80.",
        "2024-05-01 10:00:01,004 ERROR Failed. Retrying.\n  File x.py\nValueError: bad. Again.",
    ],
    "syslog": [
        "May  1 10:00:00 host sshd[12]: Accepted. Opened.",
        "May 11 10:00:02 host sshd[12]: Closed. Bye.",
    ],
    "access": [
        '127.0.0.1 - - [05/Jan/2024:10:00:00 +0000] "GET /a. HTTP/1.1" 200',
        '10.0.0.12 - x [05/Jan/2024:10:00:01 +0000] "GET /b. HTTP/1.1" 404',
    ],
    "levels": ["[INFO] Started. Listening.", "[ERROR] Failed. Retrying."],
}


@pytest.mark.parametrize("entries", ENTRIES.values(), ids=ENTRIES.keys())
@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_an_entry_is_one_piece_with_who_or_when(entries: list[str], between: str) -> None:
    assert kinds(between.join(entries)) == [("entry", entry) for entry in entries]


def test_a_long_entry_is_read_by_sentence_and_the_first_has_the_speaker() -> None:
    said = "This is a sentence of a certain length. " * 12
    pieces = visible_texts(f"[09:06] Anna: {said}\n[09:07] Ben: Short. Is it?")
    assert pieces[0] == "[09:06] Anna: This is a sentence of a certain length."
    assert {*pieces[1:-1]} == {"This is a sentence of a certain length."}
    assert pieces[-1] == "[09:07] Ben: Short. Is it?"


def test_code_in_a_chat_is_code_and_the_chat_goes_on() -> None:
    fence = "```py\nx = 1\n```"
    assert kinds(f"USER: Fix this. Please.\n{fence}\nASSISTANT: Done. Bye.") == [
        ("entry", "USER: Fix this. Please."),
        ("code", fence),
        ("entry", "ASSISTANT: Done. Bye."),
    ]


@pytest.mark.parametrize(
    "prose",
    [
        "[09:06] Anna: only one line of it. Nobody answers.",
        "1:12 And God said: let. So.\n1:13 And God saw: good. So.",
        "12:27 And the boys grew: one. So.\n12:29 And Jacob sod pottage: red. So.",
        "He met the\nuser: a man. He was old.\nThen it ended. Yes.",
        "BACKGROUND: We did. It was.\nMETHODS: One. Two.\nRESULTS: Yes. No.",
        "It is so: he came.\nBut then: he left.\nIt is so: he came. Yes.\nAnd more. Of it.\nEnd.",
    ],
)
def test_a_colon_or_a_time_alone_makes_no_chat(prose: str) -> None:
    assert {kind for kind, _ in kinds(prose)} == {"sentence"}


@pytest.mark.parametrize("sign", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_table_of_values_has_a_header_and_rows(sign: str, end: str) -> None:
    rows = ["name,age,city", "anna,30,bern. Yes", "ben,41,rome", "carl,22,oslo"]
    rows = [row.replace(",", sign) for row in rows]
    assert kinds(end.join(rows)) == [
        ("table_header", rows[0]),
        *(("table_row", row) for row in rows[1:]),
    ]


def test_a_value_in_quotes_may_hold_commas_and_lines() -> None:
    rows = ["name,age,said", 'anna,30,"Yes, it.\n\nIs so. Truly"', "ben,41,no"]
    assert [text for _, text in kinds("\n".join(rows))] == rows


def test_numbers_above_numbers_are_rows_without_a_header() -> None:
    assert {kind for kind, _ in kinds("1,2,3\n4,5,6\n7,8,9")} == {"table_row"}


def test_lines_with_as_many_commas_are_no_table() -> None:
    verse = "One, two, three\nfour, five, six\nseven, eight, nine"
    assert {kind for kind, _ in kinds(verse)} == {"sentence"}


def test_a_clause_ends_where_the_next_number_begins() -> None:
    text = "(a) pay the Price; and\n(b) inspect.\n(iv) wait. Then go.\n12.5 Nothing limits it."
    assert kinds(text) == [
        ("list_item", "(a) pay the Price; and"),
        ("list_item", "(b) inspect."),
        ("list_item", "(iv) wait. Then go."),
        ("sentence", "12.5 Nothing limits it."),
    ]
    assert visible_texts("- It grew by\n12.5 GHz a year.") == ["- It grew by\n12.5 GHz a year."]


IRC = """18:02 -!- marga [m@gw.example.org] has joined #tools
18:04 < marga> the server gives me 403. did anything change?
18:06 <@wiebke> yes. send an address
--- Log closed Tue Nov 03 19:10:44 2026
"""
TRACKER = """Comments

Dele Amadi - 2026-08-18 09:40
Does it happen at the device itself? Please look.

Kinga Wrona - 2026-08-18 09:58
No.

Kinga Wrona (Gdansk)  11:02 AM

It works now.
"""


def test_an_irc_log_has_an_entry_for_each_line_and_joins_are_entries_too() -> None:
    lines = IRC.strip().split("\n")
    assert kinds(IRC) == [*(("entry", line) for line in lines[:3]), ("sentence", lines[3])]


def test_a_line_with_a_name_and_a_time_begins_an_entry_with_what_was_said() -> None:
    assert kinds(TRACKER)[1:] == [
        (
            "entry",
            "Dele Amadi - 2026-08-18 09:40\nDoes it happen at the device itself? Please look.",
        ),
        ("entry", "Kinga Wrona - 2026-08-18 09:58\nNo."),
        ("entry", "Kinga Wrona (Gdansk)  11:02 AM\n\nIt works now."),
    ]
    assert {kind for kind, _ in kinds("Anna Weber, 3 May 2026\n\nDear Tom,\n\nhello.")} == {
        "sentence"
    }


def test_columns_that_are_aligned_by_spaces_are_a_table() -> None:
    header = "Description           Qty    Amount\n-----------------------------------"
    rows = ["Dinner, per person     85  2,890.00", "Coffee                  1    180.00"]
    total = "Total                      3,070.00"
    text = "\n".join(["Invoice", "", header, *rows, "-" * 35, total, "", "Pay by May."])
    assert kinds(text) == [
        ("sentence", "Invoice"),
        ("table_header", header),
        *(("table_row", row) for row in [*rows, "-" * 35, total]),
        ("sentence", "Pay by May."),
    ]
    bare = "NAME      READY   AGE\nweb-1     1/1     4d\nweb-2     1/1     2d"
    assert [kind for kind, _ in kinds(f"The pods:\n\n{bare}\n\nAll is well.")] == [
        "sentence",
        "table_header",
        "table_row",
        "table_row",
        "sentence",
    ]
    assert "table_header" not in dict(kinds("One   two   three.\nFour five.\n\nSix."))


def test_a_rule_may_cross_the_bars() -> None:
    header = "plan | price | seats \n-----+-------+-------"
    rows = ["Free |     0 |     1", "Team |    12 |    10"]
    assert kinds("\n".join([f" {header}", *(f" {row}" for row in rows)])) == [
        ("table_header", header),
        *(("table_row", row) for row in rows),
    ]
    assert "table_header" not in dict(kinds("a | b\n---+---+---\nc | d"))


@pytest.mark.parametrize(
    "text",
    [
        "cat a | grep 1 | wc -l\ncat b | grep 2 | wc -l\ncat c | grep 3 | wc -l",
        "10:00:01 | INFO | up in 3 s\n10:00:02 | INFO | sent 4\n10:00:03 | INFO | sent 5",
        "Home | Shop | Cart\nHelp | Terms",
        "A value of a | b | c is\na mask of 3 flags, none | some | all 7.\nThat is all.",
    ],
    ids=["commands", "log", "menu", "prose"],
)
def test_lines_with_bars_that_head_no_rows_are_no_table(text: str) -> None:
    assert "table_header" not in {kind for kind, _ in kinds(text)}


def test_rows_with_figures_need_no_header() -> None:
    rows = [
        "03 Jun  Direct debit   NORTHGRID    -86.40   1,117.78",
        "05 Jun  Card           FRESHWAY     -54.03   1,063.75",
        "07 Jun  Transfer in    KOWALSKI     425.00   1,488.75",
    ]
    found = segment(
        "Opening balance    1,204.18\n\n" + "\n".join(rows) + "\n\nYour overdraft is 500."
    )
    assert [piece.kind for piece in found] == ["sentence", *["table_row"] * 3, "sentence"]
    assert "table_row" not in {piece.kind for piece in segment("\n".join(rows[:2]))}


def test_a_trace_of_calls_does_not_part_the_entries_of_a_log() -> None:
    calls = "".join(f"    at org.acme.App{i}.run(App.java:{i})\n" for i in range(20))
    log = f"2024-05-02 09:14:07,311 ERROR Failed\n{calls}2024-05-02 09:14:09,002 INFO Sent\n"
    assert {piece.kind for piece in segment(log)} == {"entry"}
    assert "entry" not in {piece.kind for piece in segment(log.replace("    at", "at"))}


def test_a_speaker_may_have_an_office_in_brackets() -> None:
    text = (
        "Hon. Anna Berg (Minister of Works, Lib.): The bridge is open.\n"
        "Mr. Bo Dahl (Skane): Since when?\n"
        "Hon. Anna Berg (Minister of Works, Lib.): Since May.\n"
    )
    assert kinds(text) == [("entry", line) for line in text.splitlines()]
    assert begins_entry(text, "Mr. Bo Dahl: Since when?")


EVENTS = """$ kubectl get events
LAST SEEN   TYPE      REASON        OBJECT         MESSAGE
33m         Warning   FailedMount   pod/ledger-0   MountVolume.SetUp failed for volume "certs"
12m         Normal    Killing       pod/cart-1     Stopping container cart
"""


def test_a_table_may_begin_right_below_the_command_that_printed_it() -> None:
    found = [kind for kind, _ in kinds(EVENTS)]
    assert found == ["sentence", "table_header", "table_row", "table_row"]


def test_each_amount_of_a_bill_is_a_line_of_its_own() -> None:
    bill = "Subtotal            $ 1,845.50\nless your excess    $   250.00\n"
    assert visible_texts(bill) == bill.splitlines()
    wrapped = (
        "The fee is 20 dollars for each of the first\nten days and 30 for all others, up to 90\n"
    )
    assert len(visible_texts(wrapped)) == 1


def test_a_simple_table_of_restructured_text_has_its_rules_in_its_header() -> None:
    rule = "=========  ====  ======"
    head = f"{rule}\nRole       list  delete\n{rule}"
    rows = ["developer  yes   no", "dba        yes   yes", rule]
    text = "Roles are these.\n\n" + "\n".join([head, *rows]) + "\n\nEnd of the page.\n"
    assert kinds(text) == [
        ("sentence", "Roles are these."),
        ("table_header", head),
        *(("table_row", row) for row in rows),
        ("sentence", "End of the page."),
    ]


@pytest.mark.parametrize("subject", ["Your tariff from 1 April 2025", "Tarif zum 1. April 2025"])
def test_the_place_and_subject_of_a_letter_are_no_entries(subject: str) -> None:
    text = f"Lindental, 18 February 2025\n\n{subject}\n\nDear Mrs Sommer,\n\nWe raise it.\n"
    assert {kind for kind, _ in kinds(text)} == {"sentence"}


PUMPS = (
    "Pumps\n"
    "                    AL 250     AL 400     AL 750 V\n"
    "Rated power P2 (W)  250        400        750\n"
    "Supply              230 V~     230 V~     400 V 3~\n"
    "Max. flow (l/min)   140        210        265\n"
)


def test_names_of_columns_may_hold_digits_but_not_below_another_row() -> None:
    found = kinds(PUMPS)
    assert [kind for kind, _ in found] == ["sentence", "table_header"] + 3 * ["table_row"]
    assert found[4][1] == "Max. flow (l/min)   140        210        265"
    lines = "lo         UNKNOWN   127.0.0.1\nens6       DOWN\ndocker0    UP        172.17.0.1\n"
    assert "table_header" not in [
        kind for kind, _ in kinds(f"{lines}wg0        UP        10.0.0.2\n")
    ]


@pytest.mark.parametrize(
    "header",
    [
        "(in thousands)                     2024       2023",
        "                           30 June 2024   30 June 2023",
        "                               31.12.2024  31.12.2023\n"
        "                                     TEUR        TEUR",
        "                                  2024         2023\n"
        "                           (unaudited)",
    ],
)
def test_years_and_days_head_the_columns_of_a_statement(header: str) -> None:
    rows = [
        "Cash and equivalents              12,410        9,880",
        "Cost of sales                     (8,015)      (7,440)",
        "Profit for the year                4,120        4,660",
    ]
    assert kinds("\n".join(["Balance sheet", header, *rows])) == [
        ("sentence", "Balance sheet"),
        ("table_header", header.lstrip()),
        *[("table_row", row) for row in rows],
    ]


def test_a_year_in_prose_or_in_a_row_heads_nothing() -> None:
    prose = "It was sold in 2010   and again  in 2015.\n   Nobody knows why.\nThis is all.\n"
    rows = "Sales   1,204   1,150\nFounded    1998   1998\nPeople      12      14\n"
    assert "table_header" not in [kind for kind, _ in kinds(prose) + kinds(rows)]


@pytest.mark.parametrize("below", ["", "\n\nPaid on 28 March."])
def test_three_names_above_one_row_of_values_are_a_table(below: str) -> None:
    names = "Gross pay      Income tax     Net pay"
    values = "3,200.00       612.40         2,427.60"
    assert kinds(f"Payslip\n\n{names}\n{values}{below}")[1:3] == [
        ("table_header", names),
        ("table_row", values),
    ]
    for lines in (f"{names}\n{values}\nwhich is all", f"{names}\nsee   the    back page"):
        assert "table_row" not in [kind for kind, _ in kinds(lines)]


def test_lines_that_could_be_a_list_or_wrapped_prose_are_no_pairs() -> None:
    names = "Anna Berg\nBen Lee\nCarla Diaz\nDan Roth\nEva Lang\nFinn Moe\n"
    prose = (
        "The pump was sold\nin 2019 and again\nin a town nearby\nfor 300 euros in\n"
        "all to a man who\nlived in house 7\n"
    )
    found = kinds(names) + kinds(prose)
    assert "table_row" not in [kind for kind, _ in found]


def test_cells_with_wide_gaps_are_not_parted_and_such_rows_are_not_joined() -> None:
    rows = [
        "Pitch for a van, 2 pers.     19,00 €         27,50 €",
        "Child below 3                free            free",
        "Dog                          2,00 €          3,00 €",
    ]
    assert visible_texts("Prices of a night\n" + "\n".join(rows) + "\n", "fr")[-3:] == rows


@pytest.mark.parametrize("fill", ["", ";;;"])
def test_lines_of_one_value_may_stand_above_the_header_of_a_file_of_values(fill: str) -> None:
    title, made = f"Festival Budget 2025{fill}", f'"Exported 02.05.2025 by f.grill"{fill}'
    table = ["Pos;Item;Plan 2025;Remark", "1;Stage;70.000,00;open", "2;Tent;18.000,00;"]
    assert kinds("\n".join([title, made, "", *table])) == [
        ("sentence", title),
        ("sentence", made),
        ("table_header", table[0]),
        ("table_row", table[1]),
        ("table_row", table[2]),
    ]
