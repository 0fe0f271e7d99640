"""Several methods over one case: each model runs once, also for blends of methods."""

from __future__ import annotations

import sys

import pytest

from tamis.compressors import methods, registry
from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.bench.panel import (
    BLENDS,
    Panel,
    blend_scores,
    build_panel,
    parse_method_spec,
    source_names,
)
from tamis_lab.datasets.score_sources import TimedScores, TimedSource
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

PASSAGES = [
    Passage("Ann lives in Rome. Bob left."),
    Passage("Rome is old. Ann is not.", title="Rome"),
]
UNITS = units_of(PASSAGES)
CASE = ("Where does Ann live?", PASSAGES, UNITS)


class CountingSource:
    """A source with fixed scores that counts the cases it scores."""

    def __init__(self, *values: float, ms: float = 1.0, cached: bool = False) -> None:
        self.scores = Scores(values, best_unit_scores(values, UNITS, len(PASSAGES)))
        self.ms, self.cached, self.cases = ms, cached, 0

    def score_case(self, *case):
        self.cases += 1
        return TimedScores(self.scores, self.ms, self.cached)


def test_a_panel_scores_with_each_source_once_however_many_blends_it_is_in():
    sources = {
        name: CountingSource(1, 2, 3, 4) for name in ("question_rows", "lexical", "embedding")
    }
    scored = Panel(["question_rows", "fusion", "bm25+minilm"], sources).score_case(*CASE)
    assert list(scored) == ["question_rows", "fusion", "bm25+minilm"]
    assert [source.cases for source in sources.values()] == [1, 1, 1]


def test_a_blend_scores_as_fusion_does():
    parts = {"lexical": Lexical(), "lead": Lead()}
    weights = {"lexical": 0.1, "lead": 2.0}
    expected = Fusion(parts, weights).scores(*CASE)
    scored = {name: TimedSource(part).score_case(*CASE) for name, part in parts.items()}
    got = blend_scores(scored, weights, PASSAGES, UNITS)
    assert got.scores.values == pytest.approx(expected.values)
    assert got.scores.passages == pytest.approx(expected.passages)


def test_a_blend_takes_as_long_as_its_parts_and_is_cached_if_one_is():
    fast = CountingSource(1, 2, 3, 4, ms=2.0)
    slow = CountingSource(1, 2, 3, 4, ms=5.0, cached=True)
    scored = {"fast": fast.score_case(), "slow": slow.score_case(), "other": slow.score_case()}
    got = blend_scores(scored, {"fast": 1.0, "slow": 1.0}, PASSAGES, UNITS)
    assert (got.ms, got.cached) == (7.0, True)


def test_sources_are_the_parts_of_blends_and_each_is_built_once():
    assert source_names(["fusion", "lexical", "bm25+minilm", "lead"]) == [
        *BLENDS["fusion"],
        "lead",
    ]


def test_a_method_that_is_not_there_is_named_before_any_model_is_loaded(tmp_path):
    with pytest.raises(UnknownMethod, match="did you mean 'lexical'"):
        build_panel(["question_rows", "lexicl"], "no-such-proxy", tmp_path)


def test_methods_that_read_nothing_are_built_without_any_model(tmp_path):
    models = build_panel(["lexical", "lead"], "no-such-proxy", tmp_path)
    assert models.proxies == ()
    assert models.panel.score_case(*CASE)["lead"].scores == Lead().scores(*CASE)


def test_a_name_may_have_options_and_is_in_the_table_as_it_was_written(tmp_path):
    assert parse_method_spec("infiniretri:form=independent:heads=16") == (
        "infiniretri",
        {"form": "independent", "heads": 16},
    )
    models = build_panel(["lexical", "lead"], "no-such-proxy", tmp_path)
    assert models.panel.names == ("lexical", "lead")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("icr", "method of reranking"),
        ("edges", "method of ordering"),
        ("infiniretri:heads", "infiniretri:option=value"),
        ("infiniretri:colour=red", "no option"),
    ],
)
def test_what_scores_no_sentences_or_has_no_such_option_is_refused(name, message):
    with pytest.raises(BadInput, match=message):
        source_names([name])


def test_one_method_with_other_options_is_another_source_with_its_own_files(tmp_path):
    folder = tiny.save("llama", tmp_path / "llama")
    names = ["raw_attention", "raw_attention:sigma=0", "infiniretri:heads=0"]
    names += ["infiniretri:heads=0:top_k=1"]
    for cached in (False, True):
        scored = build_panel(names, str(folder), tmp_path / "kept").panel.score_case(*CASE)
        assert list(scored) == names
        assert [one.cached for one in scored.values()] == [cached] * 4
    values = {one.scores.values for one in scored.values()}
    assert len(values) == 4


TWO_MODELS = """
from tamis.compressors.method import MethodInfo, ScoringMethod
from tamis.compressors.methods.lead import Lead


class Two(ScoringMethod):
    info = MethodInfo("reads with both", "a test", "proxy+encoder")
    reader: object
    encoder: object

    def scores(self, question, passages, units):
        return Lead().scores(question, passages, units)


Method = Two
"""


def test_a_method_that_needs_both_models_reads_with_the_given_proxy(tmp_path, monkeypatch):
    (tmp_path / "two_models_of_a_test.py").write_text(TWO_MODELS)
    proxy, encoder = tiny.save("llama", tmp_path / "llama"), object()
    monkeypatch.setattr(registry.METHODS, "folder", tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "DEFAULT_ENCODER", encoder)
    built = build_panel(["two_models_of_a_test"], str(proxy), tmp_path / "kept")
    assert [facts["name"] for facts in built.proxies] == ["llama"]
    method = built.panel.sources["two_models_of_a_test"].scorer
    assert method.reader.card.name == "llama"
    assert method.encoder is encoder
    assert built.panel.score_case(*CASE)["two_models_of_a_test"].scores == Lead().scores(*CASE)


EDITED = """
from tamis.compressors.method import MethodInfo, ScoringMethod, best_unit_scores
from tamis.compressors.types import Scores


class Edited(ScoringMethod):
    info = MethodInfo("reads", "a test", "proxy")
    reader: object

    def scores(self, question, passages, units):
        values = (WORTH,) * len(units)
        return Scores(values, best_unit_scores(values, units, len(passages)))


Method = Edited
"""


def test_an_edited_method_is_scored_anew(tmp_path, monkeypatch):
    file = tmp_path / "edited_by_a_test.py"
    monkeypatch.setattr(registry.METHODS, "folder", tmp_path)
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    proxy, scored = tiny.save("llama", tmp_path / "llama"), []
    for worth in ("1.0", "1.0", "2.0"):
        file.write_text(EDITED.replace("WORTH", worth))
        monkeypatch.delitem(sys.modules, f"{methods.__name__}.{file.stem}", raising=False)
        panel = build_panel([file.stem], str(proxy), tmp_path / "kept").panel
        scored.append(panel.score_case(*CASE)[file.stem])
    assert [one.cached for one in scored] == [False, True, False]
    assert scored[2].scores.values[0] == 2.0
