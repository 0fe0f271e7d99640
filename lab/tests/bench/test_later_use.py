"""`lab bench later-use` on small runs of the sets' own shapes; tokens are words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tamis.compressors.methods.lexical import Lexical
from tamis.probes.errors import BadInput
from tamis.probes.tokens import TextTokenizer
from tamis_lab.app import app
from tamis_lab.bench.later_use import (
    LinesFirst,
    MiddleCut,
    Trajectory,
    Turn,
    find_uses,
    gold_first,
    has_value,
    later_use_figures,
    lines_of_result,
    read_runs,
    results_of,
    tally_run,
    tally_runs,
    used_values,
)
from tamis_lab.bench.tools import ToolCompressor
from tests.service.cli.cli_kit import word_tokenizer

FLIGHTS = [
    {"flight_number": f"HAT{n}", "origin": "OSL", "prices": {"economy": 2 * n}}
    for n in range(101, 141)
]
LOG = "\n".join([*(f"step {n:02} went as it should" for n in range(60)), "wrote out/run_7/log.txt"])


def call(text: str, name: str = "bash") -> Turn:
    return Turn("call", text, name)


def result(text: str, of: Turn) -> Turn:
    return Turn("result", text, of.name, of.text)


SEARCH = call('{"origin": "OSL"}', "search_flights")
BOOK = call('{"flight": "HAT120", "price": 240, "origin": "OSL"}', "book")
MAKE, READ = call("make all"), call("cat out/run_7/log.txt")
TURNS = (
    Turn("said", "Book a flight from OSL, then build it.", is_user=True),
    *(SEARCH, result(json.dumps(FLIGHTS), SEARCH)),
    *(BOOK, result("Error: no seats", BOOK)),
    *(MAKE, result(LOG, MAKE), READ, result("fine", READ)),
    Turn("thought", "HAT139 has seats."),
)
RUN = Trajectory("one", "own", "judged", "task", TURNS)


@pytest.fixture
def counter(tmp_path):
    return TextTokenizer.from_file(word_tokenizer(tmp_path))


def test_what_is_new_and_used_by_a_call_or_the_final_answer_is_found_where_it_stood_first():
    found = [(use.value, use.result, use.turn) for use in find_uses(TURNS)]
    # OSL was said before; the price is a number of the result, and the path one of the log
    assert found == [
        *(("HAT120", 2, 3), ("240", 2, 3)),
        *(("out/run_7/log.txt", 6, 7), ("HAT139", 2, 9)),
    ]


def test_of_a_path_that_stands_nowhere_the_ending_counts_that_does():
    see, edit = call("ls"), call("edit /srv/shop/src/app.py")
    turns = (see, result("README src/app.py", see), edit)
    assert [(use.value, use.result) for use in find_uses(turns)] == [("src/app.py", 1)]


def test_identifiers_paths_numbers_and_quoted_strings_are_values_and_words_are_not():
    text = "open src/a.py at 1475 and 12, see TimeDelta or 'no such key' of card_77, please"
    found = set(used_values(text))
    assert found == {"src/a.py", "1475", "TimeDelta", "no such key", "card_77"}
    assert set(used_values('{"a": ["Ada", {"b": 3}], "n": 250.5}')) == {"Ada", "250.5"}


@pytest.mark.parametrize(
    ("text", "value", "there"),
    [
        ("costs 240.", "240", True),
        ("costs 240.5", "240", False),
        ("costs 1240", "240", False),
        ("id #W17, so", "#W17", True),
        ("id #W178", "#W17", False),
    ],
)
def test_a_value_is_no_part_of_a_longer_one(text, value, there):
    assert has_value(text, value) is there


def test_lines_of_json_are_its_scalars_with_their_keys():
    text = ' {"a": [1, {"b": "x"}], "c": null}\n'
    assert [text[a:b] for a, b in lines_of_result(text)] == ["1", '"b": "x"', '"c": null']
    assert [LOG[a:b] for a, b in lines_of_result(LOG)] == LOG.splitlines(keepends=True)


def test_gold_lines_are_kept_or_lost_and_calls_that_need_a_lost_one_are_refetched(counter):
    flights, log = results_of(RUN, counter)
    assert flights.labelled.question == TURNS[0].text
    assert set(flights.gold) == {
        frozenset({'"flight_number": "HAT120"'}),
        frozenset({'"economy": 240'}),
        frozenset({'"flight_number": "HAT139"'}),
    }
    assert log.gold == (frozenset({"wrote out/run_7/log.txt"}),)
    whole = tally_run(RUN, [flights, log], {2: flights.labelled.text, 6: LOG})
    assert (whole["gold"], whole["kept"], whole["calls"], whole["refetched"]) == (4, 4, 3, 0)
    part = tally_run(RUN, [flights, log], {2: '[{"flight_number":"HAT120"}]', 6: "step 01"})
    # the booking lacks its price, and the reading its path
    assert (part["kept"], part["values_kept"], part["whole"], part["refetched"]) == (1, 1, 0, 2)


def test_what_another_message_says_needs_no_second_call(counter):
    said = Turn("thought", "It is in out/run_7/log.txt.")
    run = Trajectory("two", "own", "judged", "task", (MAKE, result(LOG, MAKE), said, READ))
    (log,) = results_of(run, counter)
    assert tally_run(run, [log], {1: ""}) | {"misses": None} == {
        **dict.fromkeys(("gold", "values", "results", "calls"), 1),
        **dict.fromkeys(("kept", "values_kept", "whole", "errors", "errors_lost", "refetched"), 0),
        "misses": None,
    }


def test_gold_first_keeps_all_and_nothing_goes_above_the_limit(counter):
    compressors = {
        "tamis": ToolCompressor(Lexical(), counter),
        "best": LinesFirst(gold_first, counter),
        "cut": MiddleCut(counter),
    }
    rows = tally_runs([RUN], compressors, [0.3, 1.0], counter)
    figures = later_use_figures(rows)["own"]
    assert figures["0.3"]["best"]["gold_kept"]["value"] == 1
    assert figures["0.3"]["best"]["refetch_rate"]["value"] == 0
    for of in figures["0.3"].values():
        assert of["tokens_out"] <= 0.3 * of["tokens_in"] + 1
    assert figures["1"]["tamis"]["gold_kept"]["value"] == 1


def write(folder: Path) -> tuple[Path, Path]:
    """Checkouts of both sets with a run each, and few shots without calls."""
    tau, swe = folder / "tau", folder / "swe"
    (tau / "historical_trajectories").mkdir(parents=True)
    (tau / "few_shot_data").mkdir()
    swe.mkdir()
    function = {"name": SEARCH.name, "arguments": SEARCH.text}
    messages = [
        {"role": "user", "content": TURNS[0].text},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1", "function": function}]},
        {"role": "tool", "tool_call_id": "1", "content": json.dumps(FLIGHTS)},
        {"role": "assistant", "content": "I suggest HAT139."},
    ]
    row = {"task_id": 3, "trial": 0, "traj": messages}
    (tau / "historical_trajectories/gpt-4o-airline.json").write_text(json.dumps([row]))
    user = {"name": "Ada", "orders": [f"#W{n}" for n in range(100, 150)]}
    order = {"order_id": "#W107", "items": [{"item_id": str(n)} for n in range(5000, 5040)]}
    changed = order | {"exchanged": ["5007"]}
    shown = "\n".join(
        (
            *("user: Hello.", "assistant: None", f"tool: {json.dumps(user)}", "assistant: None"),
            *(f"tool: {json.dumps(order)}", "assistant: Sure?", "user: Yes", "assistant: None"),
            *(f"tool: {json.dumps(changed)}", "assistant: Done."),
        )
    )
    for domain in ("Airline", "Retail"):
        file = tau / f"few_shot_data/Mock{domain}DomainEnv-few_shot.jsonl"
        file.write_text(json.dumps({"messages_display": shown}) + "\n")
    history = [
        {"role": "system", "content": "You work in a shell."},
        {"role": "user", "content": "Build it."},
        {"role": "assistant", "content": "", "thought": "I see.", "action": MAKE.text},
        {"role": "user", "content": LOG},
        {"role": "assistant", "content": "", "thought": "Now.", "action": READ.text},
        {"role": "user", "content": "fine"},
    ]
    (swe / "task-1.traj").write_text(json.dumps({"history": history}))
    return tau, swe


def test_runs_of_all_three_shapes_have_calls_results_and_what_was_used(tmp_path):
    airline, _, retail, shell = read_runs(*write(tmp_path))
    assert (airline.half, retail.half, shell.half) == ("fitted", "judged", "judged")
    assert [(use.value, use.result) for use in airline.uses] == [("HAT139", 2)]
    # the calls of few shots are read off their results
    assert [(use.value, use.result, use.turn) for use in retail.uses] == [
        ("#W107", 2, 3),
        ("#W107", 2, 7),
        ("5007", 4, 7),
    ]
    assert shell.question(4) == "Build it."
    assert [(use.value, use.result) for use in shell.uses] == [("out/run_7/log.txt", 4)]


def test_the_command_prints_a_row_a_set_and_compressor(tmp_path):
    tau, swe = write(tmp_path)
    words = ["bench", "later-use", "--tau-bench", str(tau), "--swe-agent", str(swe), "--json"]
    more = ["--half", "judged", "--ratio", ".5", "--against", "best,truncated"]
    done = CliRunner().invoke(app, [*words, *more, "--results", str(tmp_path / "rows.jsonl")])
    assert done.exit_code == 0, done.output
    sets = json.loads(done.stdout[done.stdout.index("{") :])["sets"]
    assert list(sets) == ["tau-bench retail", "SWE-agent"]
    assert list(sets["SWE-agent"]["0.5"]) == ["tamis lexical", "best", "truncated"]
    assert sets["tau-bench retail"]["0.5"]["best"]["gold_kept"]["value"] == 1
    shown = CliRunner().invoke(app, ["bench", "later-use", "--swe-agent", str(swe), *more])
    assert "errors lost" in shown.output


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((None, None), "no trajectories"),
        (("tau", "none"), "cannot be read"),
        ((None, "swe"), ".traj"),
    ],
)
def test_what_is_missing_is_said(tmp_path, given, says):
    folders = [None if name is None else tmp_path / name for name in given]
    with pytest.raises(BadInput, match=says):
        read_runs(*folders)
