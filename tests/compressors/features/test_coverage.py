"""Coverage, unanswerable contexts, keep tags, instructions, floors with limits."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from tamis.compressors.method import MethodInfo
from tamis.compressors.pipeline.compression import Compressor, Request
from tamis.compressors.rules import Budget, Rules
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, BudgetTooSmall
from tamis.probes.probing.linear import conformal_threshold
from tamis.text.inputs import parse_keep_tags, question_text
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.scripted import ScriptedReader

TEXT = "The sky is blue. The grass is green. The door is shut."


@pytest.fixture(scope="module")
def counter():
    """A byte is a token."""
    return ScriptedReader.from_needles("x").layout.tokenizer


class FixedScorer:
    """A method with fixed scores."""

    info = MethodInfo("a test's own", "")

    def __init__(self, values, answerability=None, threshold=None, verdict=None):
        self.values, self.answerability, self.threshold = values, answerability, threshold
        self.judged = {"verdict": verdict, "floor": 0.2} if verdict else {}

    def scores(self, question, passages, units):
        values, said = tuple(self.values), {"answerability": self.answerability, **self.judged}
        return Scores(values, (max(self.values),), True, **said)

    def coverage_threshold(self, coverage, cautious=False):
        return self.threshold


def kept(result):
    return [result.passages[k.passage].text[k.start : k.stop] for k in result.kept]


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_new_questions_keep_all_their_evidence_as_often_as_the_coverage_says(coverage):
    chance = torch.Generator().manual_seed(0)
    hits = []
    for _ in range(2000):
        scores = torch.rand(60, generator=chance)
        hits.append(float(scores[0] >= conformal_threshold(scores[1:], coverage)))
    mean = sum(hits) / len(hits)
    error = (coverage * (1 - coverage) / len(hits)) ** 0.5
    assert coverage - 3 * error <= mean <= coverage + 1 / 60 + 3 * error


def test_the_threshold_is_the_kth_lowest_score_counted_by_hand():
    lowest = torch.tensor([0.9, 0.1, 0.5, 0.3, 0.7, 0.2, 0.8, 0.4, 0.6])
    assert conformal_threshold(lowest, 0.9) == pytest.approx(0.1)  # k = 1 of (9 + 1)
    assert conformal_threshold(lowest, 0.7) == pytest.approx(0.3)
    assert conformal_threshold(lowest, 0.95) == 0.0  # too few questions to promise so much


def test_a_coverage_keeps_what_its_threshold_keeps_and_reports_it(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.5], threshold=0.5), "fixed", counter)
    result = compressor.compress("What?", [TEXT], Budget(coverage=0.9))
    assert kept(result) == ["The grass is green.", "The door is shut."]
    assert result.threshold == 0.5


def test_a_method_without_calibration_promises_nothing(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.5]), "fixed", counter)
    with pytest.raises(BadInput, match="no calibrated coverage"):
        compressor.compress("What?", [TEXT], Budget(coverage=0.9))


@pytest.mark.parametrize("coverage", [0, 1, 1.5, -1])
def test_a_coverage_out_of_range_is_refused(coverage):
    with pytest.raises(BadInput, match="coverage is"):
        Budget(coverage=coverage)


@pytest.mark.parametrize(
    ("policy", "status", "text"),
    [
        ("best_effort", "ok", "The grass is green."),
        ("nothing", "unanswerable", ""),
        ("pass_through", "unanswerable", TEXT),
    ],
)
def test_a_context_without_an_answer_is_treated_as_the_policy_says(
    counter,
    policy,
    status,
    text,
):
    compressor = Compressor(FixedScorer([0.2, 0.4, 0.3], answerability=0.1), "fixed", counter)
    rules = Rules(answerable_floor=0.3, unanswerable=policy)
    result = compressor.compress("What?", [TEXT], Budget(max_tokens=20), rules)
    assert (result.status, result.text, result.answerability) == (status, text, 0.1)
    assert result.tokens_out == counter.count(text)
    told = [line for line in result.warnings if "left out for room" not in line]
    assert bool(told) == (policy != "best_effort")


def test_a_floor_for_a_method_that_cannot_tell_is_said_to_do_nothing(counter):
    compressor = Compressor(FixedScorer([0.2, 0.4, 0.3]), "fixed", counter)
    rules, budget = Rules(answerable_floor=0.5), Budget(max_tokens=20)
    told = compressor.compress("What?", [TEXT], budget, rules).warnings
    assert "answerable_floor 0.5 does nothing: fixed cannot tell" in told
    told = compressor.compress("What?", [TEXT], budget).warnings
    assert not any("floor" in one for one in told)


@pytest.mark.parametrize(("answerability", "is_told"), [(0.29, True), (0.3, False)])
def test_a_floor_without_a_policy_says_that_the_context_is_below_it(
    counter, answerability, is_told
):
    scorer = FixedScorer([0.2, 0.9, 0.5], answerability=answerability)
    rules = Rules(answerable_floor=0.3)
    result = Compressor(scorer, "fixed", counter).compress(
        "What?", [TEXT], Budget(max_tokens=20), rules
    )
    assert (result.status, result.text) == ("ok", "The grass is green.")
    assert any("answerability is 0.29, below 0.3" in one for one in result.warnings) == is_told


def test_a_context_with_an_answer_is_compressed_whatever_the_policy(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.5], answerability=0.8), "fixed", counter)
    rules = Rules(answerable_floor=0.3, unanswerable="nothing")
    result = compressor.compress("What?", [TEXT], Budget(max_tokens=20), rules)
    assert (result.status, result.text) == ("ok", "The grass is green.")


def test_however_good_the_best_unit_answerability_decides(counter):
    rules = Rules(answerable_floor=0.3, unanswerable="nothing")
    for answerability, status in ((0.29, "unanswerable"), (0.3, "ok")):
        scorer = FixedScorer([0.2, 0.99, 0.1], answerability=answerability)
        compressor = Compressor(scorer, "fixed", counter)
        assert compressor.compress("What?", [TEXT], Budget(max_tokens=20), rules).status == status


def test_a_method_that_cannot_tell_is_refused_a_policy(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.5]), "fixed", counter)
    with pytest.raises(BadInput, match="cannot tell"):
        compressor.compress("What?", [TEXT], Budget(max_tokens=20), Rules(unanswerable="nothing"))


@pytest.mark.parametrize(
    ("budget", "rules", "status", "text"),
    [
        ({"coverage": 0.9}, {}, "ok", "The grass is green."),
        ({"coverage": 0.9, "max_tokens": 20}, {}, "ok", "The grass is green."),
        ({"coverage": 0.9}, {"unanswerable": "nothing"}, "unanswerable", ""),
        ({"coverage": 0.9}, {"unanswerable": "pass_through"}, "unanswerable", TEXT),
        ({"coverage": 0.9}, {"unanswerable": "best_effort"}, "ok", "The grass is green."),
        ({"coverage": 0.9}, {"answerable_floor": 0.0}, "ok", "The grass is green."),
        ({"max_tokens": 20}, {}, "ok", "The grass is green."),
        ({"max_tokens": 20}, {"unanswerable": "nothing"}, "unanswerable", ""),
    ],
)
def test_a_verdict_empties_nothing_unless_the_rules_say_so(counter, budget, rules, status, text):
    scorer = FixedScorer([0.2, 0.9, 0.1], 0.1, 0.5, "unanswerable")
    result = Compressor(scorer, "fixed", counter).compress(
        "What?", [TEXT], Budget(**budget), Rules(**rules)
    )
    assert (result.status, result.text, result.verdict) == (status, text, "unanswerable")
    acts = status != "ok" or ("coverage" in budget and not rules)
    assert any("seems to hold no answer" in one for one in result.warnings) == acts


@pytest.mark.parametrize("values", [[0.2, 0.4, 0.1], [0.001, 0.0, 0.0]])
def test_a_coverage_keeps_the_best_unit_whatever_it_is_worth(counter, values):
    compressor = Compressor(FixedScorer(values, threshold=0.5), "fixed", counter)
    result = compressor.compress("What?", [TEXT], Budget(coverage=0.9))
    assert max(range(3), key=values.__getitem__) in {kept.unit for kept in result.kept}


def test_a_coverage_keeps_no_heading_without_text_below_it(counter):
    text = "# Keys\n\nKeys rotate.\n\n# Lunch\n\nLunch is at noon.\n"
    compressor = Compressor(FixedScorer([0.9, 0.8, 0.9, 0.1], threshold=0.5), "fixed", counter)
    result = compressor.compress("What?", [text], Budget(coverage=0.9))
    assert result.text == "# Keys\n\nKeys rotate."


@pytest.mark.parametrize("verdict", ["answerable", "partly", None])
def test_a_coverage_does_not_abstain_on_any_other_verdict(counter, verdict):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.1], 0.1, 0.5, verdict), "fixed", counter)
    assert compressor.compress("What?", [TEXT], Budget(coverage=0.9)).status == "ok"


def test_a_coverage_says_that_it_keeps_more_than_half(counter):
    much, little = (
        Compressor(FixedScorer(values, threshold=0.5), "fixed", counter).compress(
            "What?", [TEXT], Budget(coverage=0.9)
        )
        for values in ([0.6, 0.9, 0.1], [0.2, 0.9, 0.1])
    )
    assert [one for one in much.warnings if "keeps 67% of the context: no less is" in one]
    assert little.warnings == ()
    everything = Compressor(FixedScorer([0.6, 0.9, 0.7], threshold=0.5), "fixed", counter)
    said = "coverage 0.9 keeps 100.0% of the context: that is hardly shorter"
    (warning,) = everything.compress("What?", [TEXT], Budget(coverage=0.9)).warnings
    assert warning.startswith(said)
    assert warning.endswith("give max_tokens or ratio for a limit")
    limit = Compressor(FixedScorer([0.6, 0.9, 0.1]), "fixed", counter)
    assert limit.compress("What?", [TEXT], Budget(max_tokens=40)).warnings == ()


def test_a_policy_that_no_floor_sets_off_says_so(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.1], 0.1), "fixed", counter)
    result = compressor.compress("?", [TEXT], Budget(max_tokens=20), Rules(unanswerable="nothing"))
    assert result.status == "ok"
    assert "does nothing" in result.warnings[0]


def test_a_result_is_shown_as_its_text_and_a_line_of_counts(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9], 0.1, verdict="partly"), "fixed", counter)
    result = compressor.compress("What?", ["Left out. 1 < 2 & so on."], Budget(max_tokens=16))
    text, line = str(result).splitlines()
    assert text == result.text == "1 < 2 & so on."
    assert line.startswith("[kept 1 of 2 sentences, 24 → 14 tokens (58.3%); partly: ")
    assert "<pre" in result._repr_html_()
    assert "1 &lt; 2 &amp; so on." in result._repr_html_()


def test_text_between_keep_tags_is_kept_and_stays_as_it_was(counter):
    text = "The sky is blue. <keep>The grass is green.</keep> The door is shut."
    compressor = Compressor(FixedScorer([0.9, *[0.1] * (len(units(text)) - 1)]), "fixed", counter)
    result = compressor.compress("What?", [text], Budget(max_tokens=60), Rules(keep_tags=True))
    assert "The grass is green." in result.text
    assert all(text[k.start : k.stop] in text for k in result.kept)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Blue. <keep>Green.</keep> Shut.", ["Blue.", "<keep>Green.</keep>", "Shut."]),
        ("<keep>Green.</keep>", ["<keep>Green.</keep>"]),
        ("<keep>Green. Blue.</keep>\n\n# Red", ["<keep>Green.", "Blue.</keep>", "# Red"]),
        ("The <keep>grass</keep> is green. Shut.", ["The <keep>grass</keep> is green.", "Shut."]),
    ],
)
def test_only_what_stands_between_the_tags_is_mandatory(text, parts, counter):
    compressor = Compressor(FixedScorer([0.1] * len(parts)), "fixed", counter)
    request = Request("What?", [text], Budget(max_tokens=99), Rules(keep_tags=True))
    found = compressor.prepare(request).units
    assert [text[slice(*unit.visible)] for unit in found] == parts
    assert all(one.stop == other.start for one, other in pairwise(found))


def units(text):
    return units_of((Passage(text),), "en")


@pytest.mark.parametrize(
    "text", ["a <keep> b", "a </keep> b", "<keep>a <keep>b</keep></keep>", "<keep>a</keep></keep>"]
)
def test_a_tag_without_its_partner_is_named_with_its_place(text):
    with pytest.raises(BadInput, match=r"passage 3: .*keep> at character \d+"):
        parse_keep_tags(Passage(text), 3)


def test_keep_tags_are_plain_text_unless_the_rules_read_them(counter):
    text = "The sky is blue. <keep>The grass is green. The door is shut."
    compressor = Compressor(FixedScorer([0.9] * len(units(text))), "fixed", counter)
    assert compressor.compress("What?", [text], Budget(max_tokens=20)).text == "The sky is blue."


def test_a_span_grows_to_whole_units_and_their_neighbours(counter):
    compressor = Compressor(FixedScorer([0.2, 0.9, 0.5]), "fixed", counter)
    result = compressor.compress("What?", [TEXT], Budget(max_tokens=20))
    (only,) = result.kept
    start, stop = result.expand(only.passage, only.start, only.stop)
    assert TEXT[start:stop] == TEXT
    with pytest.raises(BadInput, match="neighbours is -1; give 0 or more"):
        result.expand(0, only.start + 2, only.start + 3, neighbours=-1)
    start, stop = result.expand(0, only.start + 2, only.start + 3, neighbours=0)
    assert TEXT[start:stop] == "The grass is green."
    with pytest.raises(BadInput, match="touches no sentence of passage 4"):
        result.expand(4, 0, 3)


def test_instruction_and_history_come_before_the_question():
    assert (
        question_text("Who?", "Find names.", ["It is a ship.", ""])
        == "Find names.\nIt is a ship.\nWho?"
    )
    assert question_text(" Who? ") == " Who? "
    with pytest.raises(BadInput, match="history is a list"):
        question_text("Who?", history="It is a ship.")


def test_a_floor_and_a_limit_both_hold(counter):
    scorer = FixedScorer([0.9, 0.4, 0.1], threshold=0.3)
    compressor = Compressor(scorer, "fixed", counter)
    for floor in ({"threshold": 0.3}, {"coverage": 0.9}):
        free = compressor.compress("What?", [TEXT], Budget(**floor))
        for limit in ({"max_tokens": 40}, {"ratio": 0.8}, {"max_tokens": 1000}):
            result = compressor.compress("What?", [TEXT], Budget(**limit, **floor))
            assert (result.text, result.warnings) == (free.text, ()), (limit, floor)
            assert result.status == "ok"
        tight = compressor.compress("What?", [TEXT], Budget(max_tokens=20, **floor))
        assert kept(tight) == ["The sky is blue."]
        assert "1 of 2 sentences" in tight.warnings[0]
        nothing = compressor.compress("What?", [TEXT], Budget(max_tokens=20, threshold=0.95))
        assert nothing.text == ""
        with pytest.raises(BudgetTooSmall, match="shortest sentence has 16 tokens"):
            compressor.compress("What?", [TEXT], Budget(max_tokens=15, **floor))


@pytest.mark.parametrize(
    "given", [{"max_tokens": 9, "ratio": 0.5}, {"threshold": 0.1, "coverage": 0.9}]
)
def test_two_limits_or_two_floors_are_refused(given):
    with pytest.raises(BadInput, match=" and ".join(given)):
        Budget(**given)


@pytest.mark.parametrize("count", [1, 2, 9, 400])
def test_a_threshold_exists_for_every_coverage_and_falls_as_it_grows(count: int):
    lowest = torch.linspace(0.1, 0.9, count)
    asked = [1e-13, 1e-6, 0.1, 0.5, 0.9, 0.999, 1 - 1e-13]
    found = [conformal_threshold(lowest, coverage) for coverage in asked]
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(0.9 if count > 1 else 0.1)
    assert found[-1] == 0.0
