"""Parts of a reading: a cut is what a shallower model would give, and loss is counted by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from lab.tests.bench.records import write
from lab.tests.train.lora.examples import example_records
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.text.units.segment import units_of
from tamis_lab.bench import depth
from tamis_lab.bench.depth import VERDICT_QUESTIONS, cut_figures, pool_tallies, verdict
from tamis_lab.bench.evidence import BudgetOutcome, EvidenceTally
from tamis_lab.bench.speed import count_linear_weights
from tamis_lab.datasets.reading_store import CaseReadings, store_key
from tamis_lab.datasets.record_files import RecordFile
from tamis_lab.datasets.records import passages_of
from tamis_lab.datasets.statistics import paired_bootstrap
from tamis_lab.train.probe.fitting import train_probe
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401
from tests.service.cli.cli_kit import tamis

ALL = tiny.LAYERS * tiny.HEADS


def ignore_progress(name: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("depth")


@pytest.fixture(scope="module")
def source(folder):
    return RecordFile(write(folder / "examples.jsonl", example_records()))


@pytest.fixture(scope="module")
def study(source, folder):
    """A tiny proxy, how it is read in full, cases to fit on, and the card of their probe."""
    proxy = tiny.proxy()
    method = depth.full_reading_method(proxy, tiny.LAYERS)
    return (
        proxy,
        method,
        *depth.read_training_cases(method, proxy, [source], folder / "readings", ignore_progress),
    )


def test_cases_to_fit_on_are_those_of_probe_train(study):
    """A fifth of the articles stays out, as it does there."""
    _, _, cases, card = study
    assert {case.fold for case in cases} == {1, 2, 3, 4}
    assert card.trained_on[0]["questions"] == len(example_records()) > len(cases)


def test_the_first_columns_of_a_reading_are_the_reading_of_fewer_layers():
    proxy, row = tiny.proxy(), example_records()[0]
    passages = passages_of(row)
    case = (row["question"], passages, units_of(passages))
    full = depth.full_reading_method(proxy, tiny.LAYERS).read(*case).features
    for cut in depth.exit_cuts([1, 2, 3], tiny.HEADS):
        columns = depth.cut_columns(cut, ALL)[: 2 * len(cut.heads)]
        shallow = depth.full_reading_method(proxy, cut.depth).read(*case).features
        torch.testing.assert_close(full[:, columns], shallow)


@pytest.mark.parametrize("layers", [2, tiny.LAYERS])
def test_a_cut_has_the_probe_that_training_at_its_depth_would_give(study, source, folder, layers):
    """`probe train` with fewer layers reads anew; the cut reads nothing."""
    proxy, _, cases, card = study
    (cut,) = depth.exit_cuts([layers], tiny.HEADS)
    found = depth.fit_cut(cut, cases, card).probe.weights
    trained, _ = train_probe(proxy, [source], folder / "readings", layers, ignore_progress)
    for name in ("first", "alone", "levels", "calibration"):
        torch.testing.assert_close(found[name], trained.weights[name])


def test_the_full_cut_scores_as_the_default_method_does(study, source, folder):
    proxy, method, cases, card = study
    trained, _ = train_probe(proxy, [source], folder / "readings", tiny.LAYERS, ignore_progress)
    full = depth.fit_cut(*depth.exit_cuts([tiny.LAYERS], tiny.HEADS), cases, card)
    readings = CaseReadings(folder / "readings", store_key(method))
    for row in example_records("new")[:4]:
        passages = passages_of(row)
        case = (row["question"], passages, units_of(passages))
        scores = (
            depth.CutPanel(method, readings, [full]).score_case(*case)[f"exit {tiny.LAYERS}"].scores
        )
        expected = QuestionRows(proxy, trained).score_reading(
            readings.get_or_read(*case, method.read), *case
        )
        assert scores.values == pytest.approx(expected.values, abs=1e-5)
        assert scores.passages == pytest.approx(expected.passages, abs=1e-5)


def test_the_strongest_heads_are_kept_and_run_to_the_deepest_of_them():
    sizes = torch.tensor([0.5, 3.0, 0.1, 2.0, 0.1, 1.0])
    some, one = depth.strongest_head_cuts([1, 3, 3], sizes, heads=2)
    assert (some.name, some.heads, some.depth) == ("3 heads", (1, 3, 5), 3)
    assert (one.name, one.heads, one.depth) == ("1 heads", (1,), 1)


def test_a_cut_leaves_the_mean_and_the_maximum_of_its_heads_and_all_words():
    cut = depth.HeadCut("heads", (1, 4), 3)
    words = range(12, 12 + len(WORD_FEATURES))
    assert depth.cut_columns(cut, 6).tolist() == [1, 4, 7, 10, *words]


def test_a_head_is_as_large_as_what_it_moves_by_mean_and_maximum(study):
    """Columns of spread 1, but one of 10; weights 3 and 4 are a norm of 5."""
    _, _, cases, card = study
    (cut,) = depth.exit_cuts([tiny.LAYERS], tiny.HEADS)
    full = depth.fit_cut(cut, cases, card)
    full.probe.weights["first"].zero_()
    full.probe.weights["first"][[0, ALL]] = torch.tensor([3.0, 4.0])
    full.probe.weights["first"][1] = 1.0
    full.probe.weights["first"][-1] = 99.0
    column = torch.tensor([-1.0, 1.0, -1.0, 1.0]) / (4 / 3) ** 0.5
    first = column[:, None].repeat(1, 2 * ALL + len(WORD_FEATURES))
    first[:, 1] *= 10
    sizes = depth.head_sizes(full, [replace(cases[0], first=first)])
    assert sizes.shape == (ALL,)
    assert sizes[:3].tolist() == pytest.approx([5, 10, 0])


def cut_tally(*cells, gold):
    """A tally of `full` and one cut, at a budget of 0.1."""
    names = ("exit 4", "exit 2")
    tally = EvidenceTally(0, gold=list(gold), tokens_in=[9] * len(gold))
    tally.outcomes = {n: {0.1: BudgetOutcome(list(c))} for n, c in zip(names, cells, strict=True)}
    return tally


def rows_of(tallies):
    return cut_figures(tallies, depth.exit_cuts([4, 2], heads=2), {4: 700, 2: 300})


def test_loss_is_of_all_gold_pooled_and_of_each_set():
    one = cut_tally([2, 2], [2, 1], gold=[2, 2])
    two = cut_tally([1, 0, 1], [0, 0, 1], gold=[1, 1, 1])
    full, cut = rows_of({"one": one, "two": two})
    assert pool_tallies({"one": one, "two": two}).gold == [2, 2, 1, 1, 1]
    found = cut["budgets"]["0.1"]
    expected = paired_bootstrap([2, 2, 1, 0, 1], [2, 1, 0, 0, 1], [2, 2, 1, 1, 1])
    assert (found["lost"], found["low"], found["high"]) == expected
    assert found["gold_kept"] == pytest.approx(4 / 7)
    assert cut["sets"]["one"]["0.1"]["lost"] == pytest.approx(1 / 4)
    assert cut["sets"]["two"]["0.1"]["gold_kept"] == pytest.approx(1 / 3)
    assert cut["saved"] == pytest.approx(4 / 7)
    assert (full["saved"], full["within"], cut["within"]) == (0, True, False)


def test_a_cut_is_within_only_if_the_upper_end_is():
    """9 of 1,000 lost is .009, but may be more than .01; none lost is none."""
    gold = [1] * 1000
    some = cut_tally(gold, [0] * 9 + [1] * 991, gold=gold)
    _, risky = rows_of({"a": some})
    assert risky["budgets"]["0.1"]["lost"] < 0.01 < risky["budgets"]["0.1"]["high"]
    assert not risky["within"]
    _, safe = rows_of({"a": cut_tally(gold, gold, gold=gold)})
    assert safe["within"]


def row(kind, layers, heads, within):
    name = f"exit {layers}" if kind == "exit" else f"{heads} heads"
    return {"cut": name, "kind": kind, "layers": layers, "heads": heads, "saved": 0.25} | {
        "within": within
    }


def test_the_verdict_is_the_shallowest_exit_and_the_fewest_heads_within():
    full = row("exit", 20, 180, True)
    rows = [full, row("exit", 16, 144, True), row("exit", 12, 108, False)]
    rows += [row("heads", 20, 60, True), row("heads", 19, 30, True), row("heads", 9, 8, False)]
    message = verdict(rows, VERDICT_QUESTIONS)
    assert message == (
        "Within 0.01 of exit 20 over 1,500 questions: exit 16 (25% of the arithmetic saved); "
        "30 heads, 19 layers deep (25% of the arithmetic saved)."
    )
    assert verdict([full, rows[2], rows[5]], 9).endswith(
        "no shallower exit; no smaller number of heads. A verdict takes 1,500 questions."
    )


def test_arithmetic_is_of_the_layers_that_run_and_the_last_ones_projections():
    model = tiny.proxy()
    steps = [count_linear_weights(model, layers) for layers in range(1, tiny.LAYERS + 1)]
    whole = set(torch.tensor(steps).diff().tolist())
    attention = 64 * 64 + 2 * 64 * (64 // tiny.HEADS * tiny.KV_HEADS)
    assert steps[0] == attention
    assert whole == {attention + 64 * 64 + 3 * 64 * 96}


def test_the_command_reads_once_prints_draws_and_writes_json(folder, tmp_path):
    pytest.importorskip("matplotlib")
    tiny.save("llama", tmp_path / "llama")
    fit_on, judged = tmp_path / "fit.jsonl", tmp_path / "judged.jsonl"
    write(fit_on, example_records())
    write(judged, example_records("new"))
    words = ("lab", "bench", "depth", "--data", fit_on, "--judge", f"{judged}:9", "--exits", "4,2")
    words += ("--heads", "3", "--proxy", tmp_path / "llama", "--cache", tmp_path / "readings")
    done = tamis(*words, "--plot", tmp_path / "d.png")
    assert done.exit_code == 0, done.output
    assert "Within 0.01 of exit 4 over 9 questions" in done.stdout
    assert (tmp_path / "d.png").read_bytes().startswith(b"\x89PNG")
    files = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "readings").rglob("*.safetensors")
    }
    report = json.loads(tamis(*words, "--json").stdout)
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "readings").rglob("*.safetensors")}
    assert now == files
    assert [cut["cut"] for cut in report["cuts"]] == ["exit 4", "exit 2", "3 heads"]
    assert report["sets"]["judged"]["questions"] == report["questions"] == 9
    assert set(report["cuts"][0]["budgets"]) == {"0.1", "0.2"}
    assert report["trained_on"][0]["name"] == "fit"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--exits", "4,much"), "exits has 'much'"),
        (("--heads", "0"), "heads has '0'"),
        (("--exits", "9"), "exits has 9 and llama has 4 layers"),
        (("--exits", "2", "--heads", "8"), "heads has 8 and 2 layers have 8"),
        (("--judge", "{folder}/examples.jsonl"), "two files of one name"),
        (("--plot", "{folder}/d.nope"), "draw a .png"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(folder, source, tmp_path, words, message):
    tiny.save("llama", tmp_path / "llama")
    given = ("lab", "bench", "depth", "--data", source.path, "--judge", source.path)
    given += ("--proxy", tmp_path / "llama", "--cache", tmp_path)
    done = tamis(*given, *(word.replace("{folder}", str(folder)) for word in words))
    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
