"""Methods by name: found by their files, built with their options, refused with a way out."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import get_args

import pytest
import torch

from tamis.compressors import registry
from tamis.compressors.features import shipped_probes
from tamis.compressors.method import MethodInfo, Needs
from tamis.compressors.methods.fusion import UNIT_WEIGHTS, Fusion
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.registry import (
    build_method,
    layers_needed,
    method_class,
    method_info,
    method_names,
)
from tamis.probes import folder_registry
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch, ProxyMissing, UnknownMethod
from tamis.probes.folder_registry import written_info
from tamis.probes.probing.linear import LinearProbe, ProbeCard
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.methods import ScriptedEncoder, question_probe, sentinel_probe
from tests.scripted import ScriptedReader

PARSE = ast.parse
FOLDER = registry.METHODS.folder
PASSAGES = [Passage("Hay lies here. The pin is there. More hay.")]


def test_every_public_file_is_a_method_and_says_what_it_is():
    public = {path.stem for path in FOLDER.glob("*.py") if path.stem[0] != "_"}
    assert set(registry.METHODS.own_names()) == public
    assert set(method_names(None)) >= public > {"question_rows", "sentinel", "lexical"}
    assert set(method_names()) >= {"question_rows", "sentinel", "lexical"}
    for name in public:
        last = (FOLDER / f"{name}.py").read_text("utf-8").splitlines()[-1]
        assert last == f"Method = {method_class(name).__name__}"
        assert method_info(name).summary
        assert method_info(name).source
        assert method_info(name).needs in get_args(Needs)


@pytest.mark.parametrize("name", registry.METHODS.own_names())
def test_the_info_parsed_from_a_file_is_that_of_its_class(name: str):
    assert (
        written_info(FOLDER / f"{name}.py", MethodInfo)
        == method_class(name).info
        == method_info(name)
    )


def test_an_info_that_is_not_made_of_literals_is_not_parsed(tmp_path: Path):
    for code in (
        "info = MethodInfo(f'{1}', 'b')",
        "MethodInfo('a', 'b')\nMethodInfo('c', 'd')",
        "",
        "info = a.MethodInfo()",
    ):
        (tmp_path / "odd.py").write_text(code)
        assert written_info(tmp_path / "odd.py", MethodInfo) is None


def test_a_file_is_parsed_once_until_it_changes_and_a_new_one_is_found(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(registry.METHODS, "folder", tmp_path)
    parsed = []
    monkeypatch.setattr(
        folder_registry.ast,
        "parse",
        lambda text, *how, **more: parsed.append(text) or PARSE(text, *how, **more),
    )

    def written(summary: str, second: int) -> None:
        (tmp_path / "mine.py").write_text(f"info = MethodInfo({summary!r}, 'a paper')")
        os.utime(tmp_path / "mine.py", (second, second))

    assert registry.METHODS.own_names() == []
    written("first", 1)
    os.utime(tmp_path, (1, 1))
    assert registry.METHODS.own_names() == ["mine"]
    assert "mine" in method_names(None)
    parsed.clear()
    assert [method_info("mine").summary for _ in range(3)] == ["first"] * 3
    assert parsed == []
    written("second", 2)
    assert method_info("mine").summary == "second"
    assert len(parsed) == 1


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("sentinal", "did you mean 'sentinel'"),
        ("LEXICAL", "there are: "),
        ("_words", "there are: "),
    ],
)
def test_an_unknown_method_is_refused_with_the_nearest_there_is(typed: str, says: str):
    with pytest.raises(UnknownMethod, match=says):
        method_class(typed)


@pytest.mark.parametrize("typed", ["../zoo", "os", "", "question_rows.py", "lead;"])
def test_only_files_of_the_folder_are_methods(typed: str):
    with pytest.raises(UnknownMethod):
        build_method(typed)


@pytest.mark.parametrize("name", method_names())
def test_an_option_that_a_method_does_not_have_is_refused_and_named(name: str):
    with pytest.raises(BadInput, match=rf"{name} has no option \['colour'\]"):
        build_method(
            name, proxy=ScriptedReader.from_needles("x"), encoder=ScriptedEncoder(), colour=1
        )


def test_a_model_is_given_as_a_model_and_not_as_an_option():
    with pytest.raises(BadInput, match=r"no option \['reader'\]"):
        build_method(
            "question_rows",
            proxy=ScriptedReader.from_needles("x"),
            reader=ScriptedReader.from_needles("y"),
        )


def test_options_reach_the_method():
    reader = ScriptedReader.from_needles("pin")
    probe = question_probe(reader)
    made = build_method("question_rows", proxy=reader, probe=probe, isolated=True, window_tokens=7)
    assert (made.reader, made.probe, made.isolated, made.window_tokens) == (reader, probe, True, 7)
    assert build_method("sentinel", proxy=reader, probe=sentinel_probe(reader)).scores(
        "Where?", PASSAGES, units_of(PASSAGES)
    )


@pytest.mark.parametrize("name", ["lead", "lexical"])
def test_a_method_that_needs_no_model_loads_none(name: str, tmp_path: Path):
    assert build_method(name, proxy="nowhere", encoder="nowhere", root=tmp_path).scores("Q", [], [])


@pytest.mark.parametrize("name", ["question_rows", "sentinel", "embedding", "fusion"])
def test_a_model_that_is_not_here_is_not_fetched(name: str, tmp_path: Path):
    with pytest.raises(ProxyMissing):
        build_method(name, root=tmp_path)


def test_fusion_does_without_an_encoder_that_is_not_here(tmp_path: Path):
    reader = ScriptedReader.from_needles("pin")
    made = build_method("fusion", proxy=reader, root=tmp_path, weights={"lexical": 0.5})
    assert isinstance(made, Fusion)
    assert made.weights == {"attention": 1.0, "lexical": 0.5}
    assert build_method("fusion", proxy=reader, root=tmp_path, weights=None).weights == {
        name: UNIT_WEIGHTS[name] for name in ("attention", "lexical")
    }
    whole = build_method(
        "fusion", proxy=reader, encoder=ScriptedEncoder(), weights={"embedding": 2.0}
    )
    assert whole.weights == {**UNIT_WEIGHTS, "embedding": 2.0}


def test_fusion_with_a_weight_for_the_encoder_requires_it(tmp_path: Path):
    with pytest.raises(ProxyMissing):
        build_method(
            "fusion",
            proxy=ScriptedReader.from_needles("x"),
            root=tmp_path,
            weights={"embedding": 1.0},
        )


@pytest.fixture
def weights_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Shipped probes, in a folder of the test's own."""
    monkeypatch.setattr(shipped_probes, "WEIGHTS_FOLDER", tmp_path)
    shipped_probes.shipped_probe.cache_clear()
    yield tmp_path
    shipped_probes.shipped_probe.cache_clear()


def test_a_method_without_a_probe_for_a_model_needs_all_its_layers(weights_folder: Path):
    assert {name: layers_needed(name, "someone/else") for name in method_names()} == dict.fromkeys(
        method_names()
    )


def test_a_shipped_probe_is_found_by_model_gives_the_depth_and_is_used(weights_folder: Path):
    reader = ScriptedReader.from_needles("pin", name="org/bot")
    probe = question_probe(reader)
    probe.save(shipped_probes.weights_file("question_rows", "org/bot"))
    assert (weights_folder / "question_rows.org--bot.safetensors").is_file()
    assert layers_needed("question_rows", "org/bot") == layers_needed("fusion", "org/bot") == 4
    assert layers_needed("sentinel", "org/bot") is None
    made = build_method("question_rows", proxy=reader)
    assert isinstance(made, QuestionRows)
    assert made.scores("Where?", PASSAGES, units_of(PASSAGES)).calibrated
    assert build_method("question_rows", proxy=reader, probe=None).probe is None


def test_a_probe_can_be_given_as_a_file_and_is_checked(tmp_path: Path):
    reader = ScriptedReader.from_needles("pin")
    path = tmp_path / "mine.safetensors"
    question_probe(reader).save(path)
    for given in (path, str(path)):
        assert (
            build_method("question_rows", proxy=reader, probe=given).probe.card.model == "scripted"
        )
        assert layers_needed("question_rows", "whoever", probe=given) == reader.card.layers
    with pytest.raises(ProbeMismatch, match=r"scripted at scripted .* other at scripted"):
        build_method(
            "question_rows", proxy=ScriptedReader.from_needles("pin", name="other"), probe=path
        )


def test_no_probe_and_the_shipped_one_may_need_other_depths(weights_folder: Path):
    """Without a probe heads up to 75 % of depth are read: the probe's depth may be less."""
    question_probe(ScriptedReader.from_needles("pin", name="bot")).save(
        shipped_probes.weights_file("question_rows", "bot")
    )
    assert layers_needed("question_rows", "bot") == 4
    assert layers_needed("question_rows", "bot", probe=None) is None


def test_an_isolated_method_refuses_a_calibration_that_depends_on_other_passages():
    reader = ScriptedReader.from_needles("pin")
    good = question_probe(reader)
    for calibration in ([0.8, 0.1, 0.0, 0.2], [0.8, 0.0, -0.1, 0.2]):
        weights = {**good.weights, "alone_calibration": torch.tensor(calibration)}
        leaky = LinearProbe(weights, good.card)
        with pytest.raises(BadModelFile, match="both must be 0"):
            build_method("question_rows", proxy=reader, probe=leaky, isolated=True)
        assert build_method("question_rows", proxy=reader, probe=leaky).probe is leaky


def test_a_probe_of_another_depth_is_refused_before_anything_is_read():
    """The card speaks of twice the layers the reader has."""
    reader = ScriptedReader.from_needles("pin")
    card = ProbeCard("question_rows", "scripted", "scripted", "chatml", 8, 2, ("question_mean",))
    made = build_method("question_rows", proxy=reader, probe=LinearProbe({}, card))
    with pytest.raises(BadInput, match="layer 7 is wanted and scripted has 4"):
        made.scores("Where?", PASSAGES, units_of(PASSAGES))
    assert reader.prompts_read == 0
