"""The tokenizer that reads no file counts as the proxy's does, within a tenth."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.probes.hub import zoo
from tamis.probes.tokens import TextTokenizer, estimating_tokenizer

ROOT = Path(__file__).parents[2]
ESTIMATE = estimating_tokenizer()
TEXTS = {
    "prose": "README.md",
    "reference": "docs/service.md",
    "code": "service/http/app.py",
    "json": "service/api/languages.json",
    "page": "service/http/web/index.html",
    "settings": "pyproject.toml",
    "text of others": "examples/postgresql-docs",
}


def written(name: str) -> str:
    path = ROOT / name
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return "\n".join(file.read_text("utf-8") for file in files)[:50_000]


@pytest.mark.model
@pytest.mark.parametrize("name", TEXTS.values(), ids=TEXTS)
def test_files_have_as_many_tokens_as_the_proxy_counts(name: str, proxy_folder: Path) -> None:
    reference = TextTokenizer.from_file(proxy_folder)
    assert ESTIMATE.count(written(name)) == pytest.approx(reference.count(written(name)), rel=0.1)


@pytest.mark.model
@pytest.mark.parametrize(
    "command", [("ls", "-lR", "service"), ("grep", "-rn", "import", "service", "probes")]
)
def test_what_tools_print_has_as_many_tokens_as_the_proxy_counts(
    command: tuple[str, ...], proxy_folder: Path
) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    text = done.stdout[:50_000]
    reference = TextTokenizer.from_file(proxy_folder)
    assert ESTIMATE.count(text) == pytest.approx(reference.count(text), rel=0.1)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(st.characters(exclude_categories=()), max_size=60))
def test_every_character_is_in_exactly_one_token(text: str) -> None:
    spans = ESTIMATE.encode(text).offsets
    assert "".join(text[start:stop] for start, stop in spans) == text
    assert ESTIMATE.count(text) == len(spans)


def test_it_reads_no_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("builtins.open", refuse)
    monkeypatch.setattr(zoo, "model_folder", refuse)
    assert estimating_tokenizer().count("one two") == 2
