"""Every way into tamis asks the one place for its proxy: library, adapters, batch, service."""

from __future__ import annotations

import json

import pytest

from tamis.probes.hub import model_store, zoo
from tamis.service.api import languages
from tamis.service.api.compress import compress
from tamis.service.api.rerank import rerank
from tamis.service.batch.job import BatchJob
from tamis.service.batch.run import choose_batch_proxy
from tamis.service.http.runtime.settings import Settings
from tamis.service.http.runtime.state import proxy_choice
from tamis.service.integrations.backend import CompressionPlan, LocalBackend
from tamis.service.integrations.fields import CompressionFields
from tamis.text.language import AUTO
from tests.probes import tiny
from tests.service.api.test_languages import CHINESE, ENGLISH, TABLE
from tests.service.cli.cli_kit import tamis

DEFAULT, OTHER = "smollm2-135m", "gemma3-270m"
NO_PROBE = {"probe": None}


def install(factory, **kinds):
    """A folder of models with tiny ones under names of the zoo."""
    root = factory.mktemp("home") / "models"
    for name, kind in kinds.items():
        folder = tiny.save(kind, root / name)
        model_store.seal(folder, {"name": name, "revision": zoo.ZOO[name].revision})
    return root


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    return install(tmp_path_factory, **{DEFAULT: "llama", OTHER: "gemma3"})


@pytest.fixture(scope="module")
def default_only(tmp_path_factory):
    return install(tmp_path_factory, **{DEFAULT: "llama"})


@pytest.fixture(autouse=True)
def table(monkeypatch):
    monkeypatch.setattr(languages, "load_measurements", lambda: TABLE)


@pytest.mark.parametrize(("text", "proxy"), [(CHINESE, OTHER), (ENGLISH, DEFAULT)])
def test_the_library_and_the_adapters_read_with_the_languages_proxy(models, text, proxy):
    texts = [text * 3, text * 2]
    result = compress("?", texts, ratio=0.5, root=models, **NO_PROBE)
    assert result.tokenizer == proxy
    assert result.warnings == ()
    given = LocalBackend(root=models)
    budget = languages_budget()
    short = given.compress("?", result.passages, CompressionPlan(budget=budget, options=NO_PROBE))
    assert [part.text for part in short.parts] == [
        text for text in result.text.split("\n\n") if text
    ]


def languages_budget():
    from tamis.compressors.rules import Budget

    return Budget(ratio=0.5)


def test_the_loss_is_reported_by_the_library_the_adapters_and_reranking(default_only):
    texts = [CHINESE * 3, CHINESE * 2]
    result = compress("?", texts, ratio=0.5, root=default_only, **NO_PROBE)
    assert result.tokenizer == DEFAULT
    (warning,) = result.warnings
    assert "tamis models pull gemma3-270m" in warning
    short = LocalBackend(root=default_only).compress(
        "?", result.passages, CompressionPlan(budget=languages_budget(), options=NO_PROBE)
    )
    assert warning in short.warnings
    assert warning in rerank("?", texts, root=default_only, **NO_PROBE).warnings


def test_what_fits_is_not_read_and_no_warning_is_given(default_only):
    result = compress("?", [CHINESE], max_tokens=10_000, root=default_only, **NO_PROBE)
    assert result.status == "passthrough"
    assert result.warnings == ()


def test_a_proxy_that_is_named_reads_whatever_the_language(models):
    result = compress("?", [CHINESE * 3], ratio=0.5, proxy=DEFAULT, root=models, **NO_PROBE)
    assert (result.tokenizer, result.warnings) == (DEFAULT, ())


def rows(path, texts):
    given = [{"id": str(i), "question": "?", "context": text} for i, text in enumerate(texts)]
    path.write_text("".join(json.dumps(row) + "\n" for row in given), "utf8")
    return str(path)


def job(root, **more):
    from tamis.compressors.rules import Budget

    return BatchJob(Budget(ratio=0.5), proxy=AUTO, root=str(root), **more)


def test_a_batch_reads_with_the_proxy_of_its_first_rows(models, default_only, tmp_path):
    chinese = rows(tmp_path / "zh.jsonl", [CHINESE] * 5)
    english = rows(tmp_path / "en.jsonl", [ENGLISH] * 5)
    assert choose_batch_proxy(job(models), [chinese]).proxy == OTHER
    assert choose_batch_proxy(job(models), [english]).proxy == languages.SHARP
    assert choose_batch_proxy(job(models, language="zh"), [english]).proxy == OTHER
    assert "tamis models pull" in choose_batch_proxy(job(default_only), [chinese]).warning


def test_a_batch_of_files_or_with_broken_rows_chooses_its_proxy_too(models, tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(CHINESE, "utf8")
    assert choose_batch_proxy(job(models, question="?"), [str(folder)]).proxy == OTHER
    broken = tmp_path / "broken.jsonl"
    broken.write_text(
        "no json\n" + json.dumps({"question": "?", "context": CHINESE}) + "\n", "utf8"
    )
    assert choose_batch_proxy(job(models), [str(broken)]).proxy == OTHER


def test_a_service_reads_with_the_proxy_of_its_language(models):
    home = models.parent
    assert proxy_choice(Settings(home=home)).proxy == languages.SHARP
    assert proxy_choice(Settings(home=home, language="zh")).proxy == OTHER
    assert proxy_choice(Settings(home=home, language="zh", proxy=DEFAULT)).proxy == DEFAULT


def test_a_quality_is_a_warning_in_every_door(default_only, tmp_path):
    """Nothing else reads for it, and nothing is fetched."""
    texts, gone = [ENGLISH * 3, ENGLISH * 2], "quality='best' has no effect"
    how = NO_PROBE | {"root": default_only}
    plain = compress("?", texts, ratio=0.5, **how)
    short = compress("?", texts, ratio=0.5, quality="best", **how)
    assert (short.text, short.scores) == (plain.text, plain.scores)
    assert [one for one in short.warnings if gone in one] == list(short.warnings[-1:])
    ranked = rerank("?", texts, quality="best", **how)
    assert ranked.results == rerank("?", texts, **how).results
    assert gone in ranked.warnings[-1]
    fields = CompressionFields(quality="best", max_tokens=20, root=default_only)
    plan = CompressionPlan(budget=languages_budget(), options=NO_PROBE)
    assert gone in fields.backend.compress("?", plain.passages, plan).warnings[-1]
    english = rows(tmp_path / "en.jsonl", [ENGLISH] * 5)
    batch = choose_batch_proxy(job(default_only), [english], quality="best")
    served = proxy_choice(Settings(home=default_only.parent, quality="best"))
    for choice in (batch, served):
        assert choice.proxy == "smollm2-135m-sharp"
        assert gone in choice.warning
    page, index = tmp_path / "page.md", tmp_path / "docs.index"
    page.write_text(ENGLISH * 3, "utf8")
    assert tamis("index", "build", page, "-o", index, "--no-model").exit_code == 0
    for words in (
        ("compress", page, "-q", "?", "--max-tokens", "90"),
        ("rerank", page, "-q", "?"),
        ("batch", "run", english, "-o", tmp_path / "out", "--max-tokens", "30"),
        ("ask-context", index, "-q", "keys", "--max-tokens", "180"),
        ("mcp", "--host", "0.0.0.0"),  # which is refused, after what is said
    ):
        home = () if words[0] == "mcp" else ("--home", default_only.parent)
        done = tamis(*words, "--method", "lexical", "--quality", "best", *home)
        assert gone in " ".join(done.stderr.split()), words


@pytest.mark.model
def test_the_fast_quality_reads_by_fewer_layers_in_every_door(proxy_folder, tmp_path):
    """What every door keeps is what the proxy of fourteen layers keeps when it is named."""
    root = tmp_path / "models"
    root.mkdir()
    (root / DEFAULT).symlink_to(proxy_folder)
    page, english = tmp_path / "page.md", rows(tmp_path / "en.jsonl", [ENGLISH] * 5)
    page.write_text(ENGLISH * 3, "utf8")
    texts = [ENGLISH * 3, ENGLISH * 2]
    how = {"max_tokens": 40, "root": root}
    fast, named = (
        compress("?", texts, **how, **one)
        for one in ({"quality": "fast"}, {"proxy": languages.FAST})
    )
    assert (fast.text, fast.scores) == (named.text, named.scores)
    assert fast.scores != compress("?", texts, **how).scores
    ranked = rerank("?", texts, quality="fast", root=root).results
    assert ranked == rerank("?", texts, proxy=languages.FAST, root=root).results
    fields = CompressionFields(quality="fast", max_tokens=40, root=root)
    plan = CompressionPlan(budget=languages_budget(), options={})
    assert not fields.backend.compress("?", fast.passages, plan).warnings
    for choice in (
        choose_batch_proxy(job(root), [english], quality="fast"),
        proxy_choice(Settings(home=tmp_path, quality="fast")),
    ):
        assert (choice.proxy, choice.warning) == (languages.FAST, None)
    shown = [
        json.loads(tamis("compress", page, "-q", "?", "--json", "--home", tmp_path, *words).stdout)
        for words in (("--quality", "fast"), ("--proxy", languages.FAST))
    ]
    assert shown[0]["text"] == shown[1]["text"]


@pytest.mark.model
def test_the_command_line_reports_the_loss(proxy_folder, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / DEFAULT).symlink_to(proxy_folder)
    page = tmp_path / "page.md"
    page.write_text(f"{CHINESE}机房的墙是白色的。春天会重新粉刷。" * 2, "utf8")
    words = ["compress", page, "-q", "密钥多久更换一次？", "--ratio", "0.4", "--home", tmp_path]
    done = tamis(*words, "--json")
    assert done.exit_code == 0
    (warning,) = json.loads(done.stdout)["warnings"]
    assert "tamis models pull gemma3-270m" in warning
    assert json.loads(tamis(*words, "--json", "--proxy", DEFAULT).stdout)["warnings"] == []
