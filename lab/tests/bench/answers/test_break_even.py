"""When compression pays: the sum by hand, the break-even point, and the document's table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tamis.probes.errors import BadInput
from tamis_lab.bench.break_even import Deployment, costs_and_savings, table
from tests.service.cli.cli_kit import tamis

DOC = Path(__file__).parents[3] / "docs/break_even.md"
HERE = Deployment(
    ms_per_1k=400, machine_per_hour=0.09, keep=0.2, price_per_million=0.5, next_ms_per_1k=100
)


def test_the_sum_is_that_done_by_hand():
    """5,000 tokens: 2 s of a machine at .09 an hour; 4,000 tokens fewer at .5 a million."""
    found = costs_and_savings(5000, HERE)
    assert found.cost == pytest.approx(2 / 3600 * 0.09)
    assert found.saved == pytest.approx(4000 * 0.5 / 1e6)
    assert (found.ms_spent, found.ms_saved) == pytest.approx((2000, 400))
    assert found.cheaper
    assert not found.faster


@pytest.mark.parametrize("fixed_ms", [0, 300])
@pytest.mark.parametrize("tokens", [100, 5000, 10**6])
def test_just_beside_the_break_even_point_the_verdict_changes(tokens, fixed_ms):
    at = costs_and_savings(tokens, Deployment(400, 0.09, 0.2, 0.5, 100, fixed_ms))
    for factor, pays in ((1.001, True), (0.999, False)):
        deployment = Deployment(
            400, 0.09, 0.2, at.price_from * factor, at.next_ms_from * factor, fixed_ms
        )
        verdict = costs_and_savings(tokens, deployment)
        assert (verdict.cheaper, verdict.faster) == (pays, pays)


def test_the_length_does_not_matter_without_a_fixed_cost_and_does_with_one():
    lines = {round(costs_and_savings(n, HERE).next_ms_from, 9) for n in (10, 1000, 10**6)}
    assert lines == {500.0}
    fixed = Deployment(400, 0.09, 0.2, 0.5, 100, fixed_ms=50)
    assert (
        costs_and_savings(10, fixed).next_ms_from
        > costs_and_savings(1000, fixed).next_ms_from
        > 500
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"keep": 1.0}, "keep is 1.0"),
        ({"keep": -0.1}, "keep is -0.1"),
        ({"ms_per_1k": float("nan")}, "ms_per_1k is nan"),
        ({"price_per_million": -1}, "price_per_million is -1"),
        ({"next_ms_per_1k": float("inf")}, "next_ms_per_1k is inf"),
    ],
)
def test_figures_that_cannot_be_are_refused(wrong, message):
    given = {
        "ms_per_1k": 1,
        "machine_per_hour": 1,
        "keep": 0.1,
        "price_per_million": 1,
        "next_ms_per_1k": 1,
    }
    with pytest.raises(BadInput, match=message):
        Deployment(**(given | wrong))
    with pytest.raises(BadInput, match="tokens is 0"):
        costs_and_savings(0, HERE)


def test_the_documents_table_is_what_the_function_gives():
    shown = DOC.read_text("utf8").split("break_even.table -->\n")[1].split("<!-- end -->")[0]
    assert shown == table({"first reading": 395, "passages kept": 55}, (0.1, 0.2, 0.5), 0.05)


def test_the_command_prints_both_verdicts_and_refuses_in_one_line():
    words = ("lab", "bench", "break-even", "--price", "0.5", "--next-ms-per-1k", "600")
    done = tamis(*words)
    assert done.exit_code == 0, done.output
    assert "Money: pays" in done.stdout
    assert "comes sooner: 1,580 ms" in done.stdout
    report = json.loads(tamis(*words, "--json").stdout)
    assert report["faster"] is True
    assert report["next_ms_from"] == pytest.approx(395 / 0.8)
    wrong = tamis(*words, "--keep", "1")
    assert wrong.exit_code == 2
    assert "keep is 1.0" in wrong.stderr
