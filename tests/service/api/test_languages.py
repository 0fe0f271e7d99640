"""A proxy by language: measured, chosen in one place, and never without saying what it costs."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from tamis.compressors.features.shipped_probes import shipped_probe, weights_file
from tamis.compressors.registry import method_info, method_names
from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import zoo
from tamis.service.api import languages
from tamis.service.api.languages import FILE, best_proxy, choose_proxy, served_language_warning
from tamis.service.cli.commands.doctor import proxy_lines
from tamis.service.http.runtime.methods import served_method_names
from tamis.service.http.runtime.settings import Settings
from tamis.text.language import AUTO

GERMAN = "Die Schlüssel werden alle neunzig Tage gewechselt, und die alten werden aufbewahrt."
CHINESE = "密钥每九十天更换一次，旧密钥保留一周。"
ENGLISH = "The keys are rotated every ninety days, and the old ones are kept for a week."


def cell(kept, ahead=None, free=(0.1, 0.0, 0.2)):
    found = {"gold_kept": kept, "ahead_of_free": list(free), "misses_of_free": 0.5}
    return found | ({"ahead_of_first": list(ahead)} if ahead else {})


def language(first, other, ahead):
    methods = {
        "smollm2-135m": cell(first),
        "gemma3-270m": cell(other, ahead),
        "lexical": {"gold_kept": 0.5},
    }
    return {"records": 9, "budgets": {"0.2": {"best_free": "lexical", "methods": methods}}}


TABLE = {
    "set": "made up",
    "tokens_of": "gemma3-270m",
    "proxies": {"smollm2-135m": "a", "gemma3-270m": "b"},
    "languages": {
        "en": language(0.9, 0.95, (0.05, 0.01, 0.09)),
        "de": language(0.8, 0.79, (-0.01, -0.04, 0.02)),
        "es": language(0.7, 0.85, (0.15, 0.10, 0.20)),
        "zh": language(0.6, 0.9, (0.30, 0.25, 0.35)),
    },
}


@pytest.fixture
def table(monkeypatch):
    monkeypatch.setattr(languages, "load_measurements", lambda: TABLE)


@pytest.fixture
def here(monkeypatch):
    """The zoo's models that are on this machine."""
    there = {"smollm2-135m", "gemma3-270m"}

    def locate(name, root=None):
        if name not in there:
            raise ProxyMissing(f"{name} is not installed")
        return Path(name)

    monkeypatch.setattr(zoo, "locate", locate)
    return there


def test_the_best_is_the_one_that_is_ahead_at_every_budget(table):
    assert best_proxy("es") == best_proxy("zh") == best_proxy("zh-hant") == "gemma3-270m"
    assert best_proxy("de") == "smollm2-135m"


def test_a_language_that_was_not_measured_follows_most_of_the_others(table):
    assert best_proxy("fr") == "gemma3-270m"


def test_one_that_is_behind_at_any_budget_is_not_chosen(table, monkeypatch):
    found = language(0.6, 0.9, (0.30, 0.25, 0.35))
    worse = language(0.6, 0.5, (-0.10, -0.15, -0.05))["budgets"]["0.2"]
    found["budgets"]["0.1"] = worse
    monkeypatch.setattr(
        languages, "load_measurements", lambda: {**TABLE, "languages": {"zh": found}}
    )
    assert best_proxy("zh") == "smollm2-135m"


@pytest.mark.parametrize(
    ("texts", "proxy"),
    [([CHINESE], "gemma3-270m"), ([GERMAN], "smollm2-135m"), ([ENGLISH], "smollm2-135m-sharp")],
)
def test_auto_detects_the_language_of_text_in_any_shape(table, here, texts, proxy):
    from tamis.text.types import Passage

    shapes = [texts, [{"text": t} for t in texts], [Passage(t) for t in texts]]
    for passages in shapes:
        assert choose_proxy(AUTO, "question_rows", AUTO, "?", passages).proxy == proxy


def test_a_named_language_goes_before_the_text_and_a_named_proxy_before_both(table, here):
    assert choose_proxy(AUTO, "question_rows", "zh", "?", [ENGLISH]).proxy == "gemma3-270m"
    assert (
        choose_proxy("smollm2-135m", "question_rows", "zh", "?", [CHINESE]).proxy == "smollm2-135m"
    )
    assert choose_proxy("smollm2-135m", "question_rows", "zh", "?", [CHINESE]).warning is None


def test_english_is_read_by_the_sharpened_default_though_another_was_ahead(table, here):
    assert choose_proxy(AUTO, "question_rows", "en-GB", "?", []).proxy == "smollm2-135m-sharp"


def test_a_name_is_one_method_in_every_door(table, here):
    """What a service of the default proxy serves is read by the same proxy without a service."""
    served = served_method_names(Settings(proxy="smollm2-135m-sharp"))
    proxied = [
        name
        for name in (*method_names("compression"), *method_names("reranking"))
        if method_info(name).needs_proxy
    ]
    found = {name: choose_proxy(AUTO, name, "en", "?", []).proxy for name in proxied}
    assert found == {
        name: "smollm2-135m-sharp" if name in served else "smollm2-135m" for name in proxied
    }
    assert [name for name in proxied if name not in served] == ["sentinel"], (
        "it has no probe for it"
    )


def test_a_probe_that_is_given_decides_for_it_fits_one_model(table, here):
    for model in ("smollm2-135m", "smollm2-135m-sharp"):
        probe = weights_file("question_rows", model)
        given = choose_proxy(AUTO, "question_rows", "zh", "?", [CHINESE], None, probe)
        assert given.proxy == model
    assert choose_proxy(AUTO, "question_rows", "en", "?", [], None, None).proxy == "smollm2-135m"


@pytest.mark.parametrize("text", [ENGLISH, CHINESE])
@pytest.mark.parametrize("proxy", [AUTO, "smollm2-135m"])
def test_a_quality_has_no_effect_and_says_so(table, here, text, proxy):
    plain = choose_proxy(proxy, "question_rows", AUTO, "?", [text])
    asked = choose_proxy(proxy, "question_rows", AUTO, "?", [text], quality="best")
    assert (asked.proxy, asked.language) == (plain.proxy, plain.language)
    assert plain.warning is None
    assert "quality='best' has no effect" in asked.warning
    assert languages.LARGE in asked.warning, "the way out"


def test_a_quality_does_not_hide_the_loss_in_a_language(table, here):
    here.remove("gemma3-270m")
    plain = choose_proxy(AUTO, "question_rows", AUTO, "?", [CHINESE]).warning
    asked = choose_proxy(AUTO, "question_rows", AUTO, "?", [CHINESE], quality="best").warning
    assert asked.endswith(f"; {plain}")
    assert "has no effect" in asked


def test_the_second_size_ships_with_what_it_reads_by():
    assert zoo.ZOO[languages.LARGE].kind == "proxy"
    assert weights_file("question_rows", languages.LARGE).is_file()


def test_a_method_that_was_not_measured_stays_with_the_default(table, here):
    assert choose_proxy(AUTO, "ehpc", "zh", "?", [CHINESE]).proxy == "smollm2-135m"


def test_where_the_better_one_is_missing_the_loss_and_the_command_are_named(table, here):
    here.remove("gemma3-270m")
    choice = choose_proxy(AUTO, "question_rows", AUTO, "?", [CHINESE])
    assert choice.proxy == "smollm2-135m"
    assert "'zh' smollm2-135m keeps 60%" in choice.warning
    assert "gemma3-270m 90%" in choice.warning
    assert "tamis models pull gemma3-270m" in choice.warning
    warning = choose_proxy(AUTO, "question_rows", "fr", "?", []).warning
    assert "'fr' was not measured" in warning
    assert "tamis models pull gemma3-270m" in warning


def test_a_language_without_figures_is_read_with_a_warning(table, here):
    assert "'fr' was not measured" in choose_proxy(AUTO, "question_rows", "fr", "?", []).warning
    assert choose_proxy(AUTO, "question_rows", "zh", "?", []).warning is None
    assert choose_proxy(AUTO, "question_rows", "en", "?", []).warning is None


def test_a_service_over_one_proxy_says_what_anothers_language_costs(table):
    warning = served_language_warning("smollm2-135m", "question_rows", AUTO, "?", [CHINESE])
    assert "--proxy gemma3-270m" in warning
    assert served_language_warning("smollm2-135m", "question_rows", AUTO, "?", [ENGLISH]) is None
    assert served_language_warning("gemma3-270m", "question_rows", AUTO, "?", [CHINESE]) is None
    large = served_language_warning(languages.LARGE, "question_rows", AUTO, "?", [CHINESE])
    assert "not measured in 'zh'" in large
    assert served_language_warning(languages.LARGE, "question_rows", AUTO, "?", [ENGLISH]) is None
    assert served_language_warning("tiny", "question_rows", AUTO, "?", [CHINESE]) is None
    assert served_language_warning("smollm2-135m", "lexical", AUTO, "?", [CHINESE]) is None


def test_what_is_no_list_of_texts_is_left_for_the_request_to_refuse(table, here):
    for odd in ("one string", [1, None, {"title": "x"}], None):
        assert choose_proxy(AUTO, "question_rows", AUTO, "?", odd).language == "en"


def test_the_shipped_figures_are_whole_and_of_the_pinned_models():
    report = json.loads(FILE.read_text("utf8"))
    assert {"en", "es", "de", "zh"} <= set(report["languages"])
    assert report["date"]
    for name, revision in report["proxies"].items():
        assert zoo.ZOO[name].revision == revision
    for found in report["languages"].values():
        assert found["records"] >= 100
        for at in found["budgets"].values():
            assert all(0 <= of["gold_kept"] <= 1 for of in at["methods"].values())
            low, high = at["methods"]["gemma3-270m"]["ahead_of_free"][1:]
            assert low <= high


def test_the_doctor_prints_the_shipped_figures():
    report = json.loads(FILE.read_text("utf8"))
    for name in report["proxies"]:
        kept = report["languages"]["zh"]["budgets"]["0.2"]["methods"][name]["gold_kept"]
        assert f"zh {kept:.1%} at 20%" in "\n".join(proxy_lines(name))


def test_fast_reads_english_by_fewer_layers_and_says_where_something_else_reads(table, here):
    ask = partial(choose_proxy, AUTO, "question_rows", AUTO, "?", quality="fast")
    english = ask([ENGLISH])
    assert (english.proxy, english.warning) == (languages.FAST, None)
    assert shipped_probe("question_rows", languages.FAST).card.layers == 14
    chinese = ask([CHINESE])
    assert chinese.proxy == choose_proxy(AUTO, "question_rows", AUTO, "?", [CHINESE]).proxy
    assert f"{chinese.proxy} reads" in chinese.warning
    for proxy, method in (("smollm2-135m", "question_rows"), (AUTO, "infiniretri")):
        other = choose_proxy(proxy, method, AUTO, "?", [ENGLISH], quality="fast")
        assert other.proxy == choose_proxy(proxy, method, AUTO, "?", [ENGLISH]).proxy
        assert "quality='fast' has no effect" in other.warning
